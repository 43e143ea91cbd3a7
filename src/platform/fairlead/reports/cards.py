"""Cards of small pictures, and ribbons of shades: many columns of data on one page."""

from collections.abc import Sequence

from fairlead.reports.model import BarChart, Boxes, Card, Histogram, Ribbon, Shares
from fairlead.reports.scale import axis_over
from fairlead.reports.svg import NUM_COLOURS, escape, histogram_heights, legend
from fairlead.reports.words import format_cell, format_number, kind_of

WIDTH, HEIGHT = 300, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 8, 8, 6, 20
_WIDE_LEFT = 44
_BAR_LEFT = 104
_MAX_BARS = 7


def card(block: Card, items: int) -> str:
    """The whole card; at most `items` labels in a picture."""
    badges = "".join(f'<span class="badge b-{badge.kind}">{escape(badge.text, 60)}</span>' for badge in block.badges)
    facts = "".join(f"<span><i>{escape(name, 40)}</i> {_fact(value)}</span>" for name, value in block.facts)
    panels = "".join(
        f"<div><strong>{escape(words, 60)}</strong>{drawn}</div>"
        for words, panel in block.panels
        if (drawn := _panel(panel, items))
    )
    note = f'<p class="note">{escape(block.note, 600)}</p>' if block.note else ""
    grid = f'<div class="bands">{panels}</div>' if panels else ""
    return f'<article class="card"><h3>{escape(block.title, 200)} {badges}</h3><p>{facts}</p>{grid}{note}</article>\n'


def _fact(value: object) -> str:
    words = escape(format_cell(value, 80), None)  # type: ignore[arg-type]
    kind = kind_of(value)  # type: ignore[arg-type]
    return f'<span class="badge b-{kind}">{words}</span>' if kind else words


def _panel(panel: Histogram | BarChart | Boxes | Shares, items: int) -> str:
    match panel:
        case Histogram():
            return _histogram(panel)
        case BarChart():
            return _bars(panel)
        case Boxes():
            return _boxes(panel, items)
        case Shares():
            return _shares(panel, items)


def _svg(body: str, summary: str, height: float = HEIGHT) -> str:
    box = f"0 0 {WIDTH} {height:g}"
    return f'<svg class="band" viewBox="{box}" role="img" aria-label="{escape(summary, 600)}">{body}</svg>'


def _histogram(block: Histogram) -> str:
    heights, _ = histogram_heights(block)
    edges = [float(edge) for edge in block.edges]
    if not any(any(values) for values in heights.values()) or len(edges) < 2:
        return ""
    x = axis_over(edges, _LEFT, WIDTH - _RIGHT)
    y = axis_over([h for values in heights.values() for h in values], HEIGHT - _BOTTOM, _TOP, include=0.0)
    single = len(heights) == 1
    parts = [f'<path class="axis" d="M{x.start:g} {y.start:g}H{x.end:g}"/>']
    for index, values in enumerate(heights.values()):
        path = f"M{x.place(edges[0]):.0f} {y.start:g}"
        for left, right, value in zip(edges, edges[1:], values, strict=False):
            path += f"L{x.place(left):.1f} {y.place(value):.1f}H{x.place(right):.1f}"
        kind = f"area solid s{index}" if single else f"line s{index % NUM_COLOURS}"
        parts.append(f'<path class="{kind}" d="{path}V{y.start:g}{"Z" if single else ""}"/>')
    for place, align in ((0, ""), (len(edges) - 1, " end")):
        at = x.place(edges[place])
        parts.append(f'<text class="tick{align}" x="{at:.1f}" y="{HEIGHT - 5}">{short_number(edges[place])}</text>')
    summary = f"histogram from {format_number(edges[0])} to {format_number(edges[-1])}"
    return _svg("".join(parts), summary) + legend(list(heights))


def _bars(block: BarChart) -> str:
    items = block.grouped()[:_MAX_BARS]
    names = list(dict.fromkeys(name for _, group in items for name in group))
    values = [value for _, group in items for value in group.values() if value is not None]
    if not values:
        return ""
    x = axis_over(values, _BAR_LEFT, WIDTH - 40, include=0.0)
    thick = 13 if len(names) == 1 else max(4, 15 // len(names))
    row = thick * len(names) + 6
    parts = []
    for index, (label, group) in enumerate(items):
        top = 3 + index * row
        middle = top + thick * len(names) / 2 + 4
        parts.append(
            f'<text class="tick end" x="{_BAR_LEFT - 6}" y="{middle:.1f}">{escape(label, 15)}'
            f"<title>{escape(label)}</title></text>"
        )
        for number, name in enumerate(names):
            value = group.get(name) or 0.0
            width = max(x.place(value) - x.place(0.0), 0.5)
            parts.append(
                f'<rect class="bar s{number % NUM_COLOURS}" x="{_BAR_LEFT}" y="{top + number * thick:g}" '
                f'width="{width:.1f}" height="{thick - 1:g}"/>'
            )
        first = group.get(names[0]) or 0.0
        end = max((x.place(value or 0.0) for value in group.values()), default=x.start)
        parts.append(f'<text class="tick" x="{end + 4:.1f}" y="{middle:.1f}">{_percent(first)}</text>')
    more = len(block.items) - len(items)
    note = f'<p class="note">and {more:,} more</p>' if more > 0 else ""
    summary = "; ".join(f"{label} {_percent(group.get(names[0]) or 0.0)}" for label, group in items)
    return _svg("".join(parts), summary, 6 + row * len(items)) + legend(names) + note


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.095 else f"{share:.1%}"


def _boxes(block: Boxes, items: int) -> str:
    shown = [*block.items[:items]]
    values = [value for _, five in shown if five is not None for value in five]
    if not values:
        return ""
    y = axis_over(values, HEIGHT - _BOTTOM, _TOP, padding=0.04)
    step = (WIDTH - _WIDE_LEFT - _RIGHT) / len(shown)
    parts = [_level(y.place(tick), short_number(tick)) for tick in y.ticks(4)]
    for index, (_, five) in enumerate(shown):
        if five is None:
            continue
        low, first, median, third, high = (y.place(value) for value in five)
        middle, half = _WIDE_LEFT + step * (index + 0.5), min(step * 0.34, 9)
        parts.append(
            f'<path class="whisker k-info" d="M{middle:.1f} {low:.1f}V{high:.1f}"/>'
            f'<rect class="box" x="{middle - half:.1f}" y="{third:.1f}" width="{2 * half:.1f}" '
            f'height="{max(first - third, 0.8):.1f}"/>'
            f'<path class="median" d="M{middle - half:.1f} {median:.1f}h{2 * half:.1f}"/>'
        )
    parts += _along([label for label, _ in shown], step)
    medians = [f"{label} {format_number(five[2])}" for label, five in shown if five is not None]
    return _svg("".join(parts), f"medians: {'; '.join(medians)}")


def short_number(value: float) -> str:
    """At most some six characters: 12k, 3.4M, 1e+12."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size <= abs(value) < 1e12:
            return f"{value / (1e3 if unit == 'k' else size):.3g}{unit}"
    return f"{value:.4g}"


def _level(at: float, words: str) -> str:
    return (
        f'<path class="grid" d="M{_WIDE_LEFT} {at:.1f}H{WIDTH - _RIGHT}"/>'
        f'<text class="tick end" x="{_WIDE_LEFT - 5}" y="{at + 4:.1f}">{words}</text>'
    )


def _along(labels: Sequence[str], step: float) -> list[str]:
    """Labels below the picture, as many as fit beside each other."""
    width = max((len(label) for label in labels), default=1) * 6.4 + 6
    every = max(1, -(-int(width) // max(int(step), 1)))
    shown = [(_WIDE_LEFT + step * (index + 0.5), label) for index, label in enumerate(labels) if index % every == 0]
    return [f'<text class="tick mid" x="{at:.1f}" y="{HEIGHT - 5}">{escape(label, 12)}</text>' for at, label in shown]


def _shares(block: Shares, items: int) -> str:
    rows = [*block.rows[:items]]
    if not rows or not block.names:
        return ""
    step = (WIDTH - _WIDE_LEFT - _RIGHT) / len(rows)
    tallest = max((sum(shares) for _, shares in rows), default=0.0)
    whole = next((step for step in (0.02, 0.05, 0.1, 0.2, 0.5) if tallest <= step), 1.0)
    floor, height = HEIGHT - _BOTTOM, (HEIGHT - _BOTTOM - _TOP) / whole
    parts = [_level(floor - height * share, f"{share:.0%}") for share in (0.0, whole / 2, whole)]
    for index, (_, shares) in enumerate(rows):
        at = float(floor)
        for number, share in enumerate(shares):
            tall = height * min(max(share, 0.0), whole)
            at -= tall
            parts.append(
                f'<rect class="bar s{number % NUM_COLOURS}" x="{_WIDE_LEFT + step * index + step * 0.08:.1f}" '
                f'y="{at:.1f}" width="{step * 0.84:.1f}" height="{tall:.1f}"/>'
            )
    parts += _along([label for label, _ in rows], step)
    return _svg("".join(parts), "shares over time") + legend(list(block.names))


def ribbon(block: Ribbon, limit: int) -> str:
    """The table of shades."""
    head = "".join(f'<th scope="col">{escape(name, 16)}</th>' for name in block.columns)
    rows = []
    for name, values in block.rows[:limit]:
        cells = "".join(_shade(value, block) for value in values)
        rows.append(f'<tr><th scope="row">{escape(name, 40)}</th>{cells}</tr>')
    caption = f"<caption>{escape(block.title, 200)}</caption>" if block.title else ""
    return (
        f'<table class="ribbon">{caption}<thead><tr><th></th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    )


def _shade(value: float | None, block: Ribbon) -> str:
    if value is None:
        return "<td></td>"
    share = min(max(value / block.full, 0.0), 1.0)
    marked = ' class="hit"' if block.bound is not None and value >= block.bound else ""
    words = "" if value < 0.005 else f"{value:.2f}"[1:] if value < 0.995 else f"{value:.1f}"
    return f'<td{marked} style="--a:{share * 0.85:.2f}">{words}</td>'
