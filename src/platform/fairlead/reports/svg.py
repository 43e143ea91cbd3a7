"""Charts as inline SVG. Colours and fonts come from the page's style sheet, so that light and dark both work."""

import html
from collections.abc import Mapping, Sequence

from fairlead.reports.model import BarChart, Histogram, IntervalRow, LineChart, TimelineStep
from fairlead.reports.scale import Axis, Point, axis_over, finite_points, thin, tick_label, time_ticks
from fairlead.reports.words import clean, elapsed_seconds, format_elapsed, format_number

WIDTH = 720
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 14, 46
NUM_COLOURS = 6


def escape(text: object, limit: int | None = 400) -> str:
    """`text` safe between tags and in double-quoted attributes."""
    return html.escape(clean(text, limit), quote=True)


def legend(names: Sequence[str]) -> str:
    """Names of the series with their colours; nothing for a single series without a name."""
    if len(names) < 2 and not any(names):
        return ""
    items = "".join(
        f'<li><span class="key s{index % NUM_COLOURS}"></span>{escape(name, 60)}</li>'
        for index, name in enumerate(names)
    )
    return f'<ul class="legend">{items}</ul>'


def _frame(height: float, body: str, summary: str) -> str:
    # The summary is what a screen reader says in place of the picture; the numbers follow in a table below it.
    return (
        f'<div class="chart"><svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(summary, 600)}">'
        f"{body}</svg></div>"
    )


def _grid(x: Axis, y: Axis, x_label: str, y_label: str, x_ticks: Mapping[float, str] | None = None) -> str:
    parts = []
    y_ticks = y.ticks(5)
    for tick in y_ticks:
        at = y.place(tick)
        parts.append(f'<path class="grid" d="M{x.start:g} {at:.1f}H{x.end:g}"/>')
        parts.append(f'<text class="tick end" x="{x.start - 8:g}" y="{at + 4:.1f}">{tick_label(tick, y_ticks)}</text>')
    ticks = x.ticks(7)
    labels = x_ticks if x_ticks is not None else {tick: tick_label(tick, ticks) for tick in ticks}
    for tick, label in labels.items():
        at = x.place(tick)
        parts.append(f'<path class="axis" d="M{at:.1f} {y.start:g}v5"/>')
        parts.append(f'<text class="tick mid" x="{at:.1f}" y="{y.start + 19:g}">{escape(label, 16)}</text>')
    parts.append(f'<path class="axis" d="M{x.start:g} {y.start:g}H{x.end:g}"/>')
    parts.append(
        f'<text class="label mid" x="{(x.start + x.end) / 2:g}" y="{y.start + 39:g}">{escape(x_label, 90)}</text>'
    )
    if y_label:
        middle = (y.start + y.end) / 2
        parts.append(
            f'<text class="label mid" x="14" y="{middle:g}" transform="rotate(-90 14 {middle:g})">'
            f"{escape(y_label, 40)}</text>"
        )
    return "".join(parts)


def _path(points: Sequence[Point], x: Axis, y: Axis) -> str:
    return "M" + "L".join(f"{x.place(px):.1f} {y.place(py):.1f}" for px, py in points)


def line_chart(block: LineChart, limit: int) -> str:
    """Lines with their bounds; "" when no point can be drawn."""
    series = {name: finite_points(points)[0] for name, points in block.series.items()}
    if not any(series.values()):
        return ""
    xs = [px for points in series.values() for px, _ in points]
    bounds = _finite(block.bounds)
    ys = [py for points in series.values() for _, py in points] + list(bounds.values())
    x = axis_over(xs, _LEFT, WIDTH - _RIGHT, fixed=block.x_range)
    y = axis_over(ys, 300 - _BOTTOM, _TOP, fixed=block.y_range, padding=0.06)
    parts = [_grid(x, y, block.x_label, block.y_label)]
    if block.diagonal:
        low, high = max(x.low, y.low), min(x.high, y.high)
        if low < high:
            parts.append(f'<path class="guide" d="{_path([(low, low), (high, high)], x, y)}"/>')
    for name, value in bounds.items():
        at = y.place(value)
        parts.append(f'<path class="bound" d="M{x.start:g} {at:.1f}H{x.end:g}"/>')
        parts.append(
            f'<text class="tick end boundtext" x="{x.end - 4:g}" y="{at - 5:.1f}">'
            f"{escape(name, 60)} {format_number(value)}</text>"
        )
    for index, points in enumerate(series.values()):
        kept = thin(points, limit)
        if len(kept) > 1:
            parts.append(f'<path class="line s{index % NUM_COLOURS}" d="{_path(kept, x, y)}"/>')
        if 0 < len(kept) <= 20:
            parts.extend(
                f'<circle class="dot s{index % NUM_COLOURS}" cx="{x.place(px):.1f}" cy="{y.place(py):.1f}" r="3.2"/>'
                for px, py in kept
            )
    return legend(list(series)) + _frame(300, "".join(parts), line_summary(block))


def _finite(bounds: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in bounds.items() if finite_points([(value, value)])[0]}


def line_summary(block: LineChart) -> str:
    """The chart in one sentence per line."""
    sentences = [f"{block.title or block.y_label}: {block.y_label} over {block.x_label}."]
    for name, raw in list(block.series.items())[:NUM_COLOURS]:
        points, _ = finite_points(raw)
        if points:
            low, high = min(p[1] for p in points), max(p[1] for p in points)
            sentences.append(
                f"{name}: {len(points)} points, from {format_number(points[0][1])} to {format_number(points[-1][1])}, "
                f"lowest {format_number(low)}, highest {format_number(high)}."
            )
    return " ".join(sentences)


def bar_chart(block: BarChart, limit: int) -> str:
    """Horizontal bars, grouped where an item has several series."""
    items = block.grouped()[:limit]
    names = list(dict.fromkeys(name for _, group in items for name in group))
    values = [v for _, group in items for v in group.values() if v is not None]
    if not finite_points((v, v) for v in values)[0]:
        return ""
    bounds = _finite(block.bounds)
    x = axis_over([*values, *bounds.values()], 200, WIDTH - 84, include=0.0)
    thickness = 18 if len(names) == 1 else 12
    row = thickness * len(names) + 10
    height = row * len(items) + _BOTTOM + (14 if bounds else 0)
    top = 14 if bounds else 2
    floor = height - _BOTTOM
    ticks = x.ticks(5)
    parts = [f'<path class="grid" d="M{x.place(t):.1f} {top}V{floor:g}"/>' for t in ticks]
    parts += [
        f'<text class="tick mid" x="{x.place(t):.1f}" y="{floor + 17:g}">{tick_label(t, ticks)}</text>' for t in ticks
    ]
    for index, (label, group) in enumerate(items):
        y = top + 5 + index * row
        middle = y + thickness * len(names) / 2 + 4
        parts.append(
            f'<text class="tick end" x="190" y="{middle:.1f}">{escape(label, 28)}<title>{escape(label)}</title></text>'
        )
        for number, name in enumerate(names):
            parts.append(_bar(x, y + number * thickness, thickness - 2, number, group.get(name)))
    for name, value in bounds.items():
        at = x.place(value)
        parts.append(f'<path class="bound" d="M{at:.1f} {top}V{floor:g}"/>')
        parts.append(f'<text class="tick mid boundtext" x="{at:.1f}" y="10">{escape(name, 40)}</text>')
    zero = x.place(0.0)
    parts.append(f'<path class="axis" d="M{zero:.1f} {top}V{floor:g}"/>')
    parts.append(
        f'<text class="label mid" x="{(x.start + x.end) / 2:g}" y="{floor + 37:g}">'
        f"{escape(block.value_label, 80)}</text>"
    )
    summary = f"{block.title or block.value_label}: bars for {len(items)} items; the numbers are in the table below."
    return legend(names) + _frame(height, "".join(parts), summary)


def _bar(x: Axis, top: float, thickness: float, colour: int, value: float | None) -> str:
    if value is None or not finite_points([(value, value)])[0]:
        at = x.place(0.0) + 6
        return f'<text class="tick" x="{at:.1f}" y="{top + thickness - 2:.1f}">n/a</text>'
    start, end = sorted((x.place(0.0), x.place(value)))
    # The number of a negative bar stands at the zero line's other side, where no bar and no label can be.
    return (
        f'<rect class="bar s{colour % NUM_COLOURS}" x="{start:.1f}" y="{top:.1f}" width="{max(end - start, 0.5):.1f}" '
        f'height="{thickness:g}" rx="2"/><text class="tick" x="{end + 6:.1f}" y="{top + thickness - 1.5:.1f}">'
        f"{format_number(value)}</text>"
    )


def histogram(block: Histogram) -> str:
    """Counts; shares when there are several series; densities when the bins are not equally wide."""
    heights, y_label = histogram_heights(block)
    edges = [float(edge) for edge in block.edges]
    if edges != sorted(edges) or len(finite_points((e, e) for e in edges)[0]) < len(edges):
        return ""
    if not heights or len(edges) < 2 or not any(any(h) for h in heights.values()):
        return ""
    x = axis_over(edges, _LEFT, WIDTH - _RIGHT)
    y = axis_over([h for hs in heights.values() for h in hs], 260 - _BOTTOM, _TOP, include=0.0)
    parts = [_grid(x, y, block.x_label, y_label)]
    single = len(heights) == 1
    for index, values in enumerate(heights.values()):
        path = f"M{x.place(edges[0]):.1f} {y.start:g}"
        for left, right, value in zip(edges, edges[1:], values, strict=False):
            at = y.place(value)
            path += f"L{x.place(left):.1f} {at:.1f}H{x.place(right):.1f}"
            if single:
                path += f"V{y.start:g}"
        path += f"V{y.start:g}Z"
        parts.append(f'<path class="area {"solid" if single else ""} s{index % NUM_COLOURS}" d="{path}"/>')
    summary = (
        f"{block.title or block.x_label}: histogram of {block.x_label or 'values'} from {format_number(edges[0])} to "
        f"{format_number(edges[-1])} in {len(edges) - 1} bins; the numbers are in the table below."
    )
    return legend(list(heights)) + _frame(260, "".join(parts), summary)


def histogram_heights(block: Histogram) -> tuple[dict[str, list[float]], str]:
    """What is drawn for each series, and what it is called."""
    widths = [right - left for left, right in zip(block.edges, block.edges[1:], strict=False)]
    uneven = bool(widths) and min(widths) > 0 and max(widths) > 1.5 * min(widths)
    shares = len(block.counts) > 1 or uneven
    result = {}
    for name, given in block.counts.items():
        counts = [count if 0 <= count < 1e300 else 0.0 for count in given]  # NaN fails both comparisons
        total = sum(counts) if shares else 1
        heights = [count / total if total else 0.0 for count in counts]
        if uneven:
            heights = [height / width for height, width in zip(heights, widths, strict=False)]
        result[name] = heights
    return result, "density" if uneven else ("share of rows" if shares else "rows")


def interval_axis(rows: Sequence[IntervalRow], width: float) -> Axis:
    """One axis for the rows of a group."""
    values = [v for row in rows for v in (row.low, row.point, row.high, row.bound) if v is not None]
    return axis_over(values, 6, width - 6, padding=0.08)


def interval_row(row: IntervalRow, axis: Axis, width: float, kind: str) -> str:
    """A small picture for a cell of a table; the numbers stand beside it, so it is hidden from screen readers."""
    parts = [f'<path class="grid" d="M{axis.start:g} 13H{axis.end:g}"/>']
    if row.bound is not None and row.bound == row.bound:
        at = axis.place(row.bound)
        parts.append(f'<path class="bound" d="M{at:.1f} 1V25"/>')
    if row.low is not None or row.high is not None:
        low = axis.start if row.low is None or row.low != row.low else axis.place(row.low)
        high = axis.end if row.high is None or row.high != row.high else axis.place(row.high)
        parts.append(f'<path class="whisker k-{kind}" d="M{low:.1f} 8V18M{low:.1f} 13H{high:.1f}M{high:.1f} 8V18"/>')
    if row.point is not None and finite_points([(row.point, row.point)])[0]:
        parts.append(f'<circle class="point k-{kind}" cx="{axis.place(row.point):.1f}" cy="13" r="4.5"/>')
    return f'<svg class="row" viewBox="0 0 {width:g} 26" width="{width:g}" aria-hidden="true">{"".join(parts)}</svg>'


def step_chart(steps: Sequence[TimelineStep], value_label: str) -> str:
    """The value over time as a stair, a percentage over the whole of 0 to 100; "" when no step has a value."""
    valued = [(index, step) for index, step in enumerate(steps) if step.value is not None]
    offsets = elapsed_seconds([step.at for step in steps])
    if len(valued) < 2:
        return ""
    positions = offsets or [float(index) for index in range(len(steps))]
    values = [float(step.value or 0) for _, step in valued]
    x = axis_over(positions, _LEFT, WIDTH - _RIGHT)
    whole = (0.0, 100.0) if value_label == "percent" else None
    y = axis_over(values, 200 - _BOTTOM, _TOP, fixed=whole, include=0.0, padding=0.05)
    path = ""
    for (index, _), value in zip(valued, values, strict=True):
        at = x.place(positions[index])
        path += f"H{at:.1f}V{y.place(value):.1f}" if path else f"M{at:.1f} {y.place(value):.1f}"
    path += f"H{x.end:g}"
    labels = {t: format_elapsed(t) for t in time_ticks(x)} if offsets else {t: f"{t:g}" for t in x.ticks(6)}
    parts = [_grid(x, y, "since the start" if offsets else "step", value_label, labels)]
    parts.append(f'<path class="line s0" d="{path}"/>')
    for (index, step), value in zip(valued, values, strict=True):
        parts.append(
            f'<circle class="point k-{step.kind}" cx="{x.place(positions[index]):.1f}" cy="{y.place(value):.1f}" r="4">'
            f"<title>{escape(step.label, 120)}</title></circle>"
        )
    summary = f"{value_label or 'value'} over time: {', '.join(format_number(v) for v in values[:12])}."
    return _frame(200, "".join(parts), summary)
