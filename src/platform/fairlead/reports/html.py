"""A report as one HTML file: everything inline, nothing fetched, at most 300 KB, light and dark.

All text is escaped; the page forbids itself scripts and network access by its own policy, so that a column named
``<script>`` stays a name. What does not fit into the size is thinned in steps (rows of tables, points of lines), and
the page says so; at worst the end of the report is cut, also said.
"""

import functools
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from fairlead.reports import svg
from fairlead.reports.bands import band_chart
from fairlead.reports.cards import card, ribbon
from fairlead.reports.model import (
    KIND_OF_VERDICT,
    Bands,
    BarChart,
    Block,
    Callout,
    Card,
    Cell,
    Histogram,
    Intervals,
    KeyValues,
    LineChart,
    Matrix,
    Report,
    Ribbon,
    Section,
    Table,
    Text,
    Timeline,
)
from fairlead.reports.scale import finite_points
from fairlead.reports.svg import escape
from fairlead.reports.words import format_cell, format_instant, format_interval, format_number, kind_of

MAX_BYTES = 300_000
_INTERVAL_WIDTH = 250
_NARROW_COLUMNS = 3
_STACKED_ROWS = 80
"""Tables of more columns than fit a phone become a card per row there, unless the cards would be too many to scroll."""
_CALLOUT_WORD = {"ok": "Good", "warn": "Warning", "fail": "Problem", "info": "Note"}
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


@dataclass(frozen=True, slots=True)
class _Limits:
    """How much of each block is shown."""

    rows: int
    points: int
    items: int
    cell: int
    text: int


_LADDER = (
    _Limits(rows=200, points=400, items=40, cell=400, text=20_000),
    _Limits(rows=60, points=160, items=25, cell=200, text=6_000),
    _Limits(rows=20, points=60, items=12, cell=80, text=1_500),
)


def render_html(report: Report, max_bytes: int = MAX_BYTES) -> str:
    """The whole page. The result, encoded as UTF-8, has at most `max_bytes` bytes (not below 30,000)."""
    page = _whole(report, max_bytes)
    if page is not None:
        return page
    frame = len(_page(Report(report.title, report.subtitle, ()), _LADDER[-1], budget=None).encode())
    return _page(report, _LADDER[-1], budget=max_bytes - frame - 2000)


def fits(report: Report, max_bytes: int = MAX_BYTES) -> bool:
    """Has the page its end, thinned perhaps, but not cut?"""
    return _whole(report, max_bytes) is not None


def _whole(report: Report, max_bytes: int) -> str | None:
    for limits in _LADDER:
        page = _page(report, limits, budget=None)
        if len(page.encode()) <= max_bytes:
            return page
    return None


def _page(report: Report, limits: _Limits, budget: int | None) -> str:
    head = _header(report) + _attention(report)
    left = None if budget is None else budget - len(head.encode())
    sections: list[str] = []
    cut = False
    for index, section in enumerate(report.sections):
        text, fits = _section(index, section, limits, left)
        if left is not None:
            left -= len(text.encode())
        sections.append(text)
        if not fits:
            cut = True
            break
    end = '<p class="note">The rest of this report was left out: the page is limited in size.</p>' if cut else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(report.title, 120)}</title><style>{_style()}</style></head><body><main>\n"
        f"{head}{_contents(report)}{''.join(sections)}{end}<footer>Written by Fairlead.</footer></main></body></html>\n"
    )


@functools.cache
def _style() -> str:
    return (Path(__file__).parent / "style.css").read_text(encoding="utf-8")


def _header(report: Report) -> str:
    badge = "" if report.verdict is None else " " + _cell(report.verdict, 40)
    subtitle = f'<p class="subtitle">{escape(report.subtitle, 600)}</p>' if report.subtitle else ""
    return f"<header><h1>{escape(report.title, 200)}{badge}</h1>{subtitle}</header>\n"


def _attention(report: Report) -> str:
    warnings = report.warnings()
    if not warnings:
        return ""
    items = "".join(
        f'<li><span class="badge b-{callout.kind}">{_CALLOUT_WORD[callout.kind]}</span>'
        f'<a href="#s{index}">{escape(callout.title, 200)}</a></li>'
        for index, callout in warnings[:20]
    )
    more = f"<li>and {len(warnings) - 20} more below</li>" if len(warnings) > 20 else ""
    count = "1 thing needs attention" if len(warnings) == 1 else f"{len(warnings)} things need attention"
    return f'<div class="attention" role="alert"><strong>{count}</strong><ul>{items}{more}</ul></div>\n'


def _contents(report: Report) -> str:
    if not 3 <= len(report.sections) <= 30:
        return ""
    links = " ".join(f'<a href="#s{i}">{escape(s.title, 60)}</a>' for i, s in enumerate(report.sections))
    return f'<nav aria-label="Contents">{links}</nav>\n'


def _section(index: int, section: Section, limits: _Limits, budget: int | None) -> tuple[str, bool]:
    parts = [f'<section id="s{index}"><h2>{escape(section.title, 200)}</h2>\n']
    used = len(parts[0].encode())
    for block in section.blocks:
        text = _block(block, limits)
        used += len(text.encode())
        if budget is not None and used > budget - 200:
            return "".join(parts) + "</section>\n", False
        parts.append(text)
    return "".join(parts) + "</section>\n", True


def _block(block: Block, limits: _Limits) -> str:
    match block:
        case Text():
            return _paragraphs(block.text, limits.text)
        case Callout():
            return _callout(block, limits)
        case KeyValues():
            return _key_values(block, limits)
        case Table():
            return _table(block, limits)
        case LineChart():
            return _line(block, limits)
        case BarChart():
            return _bars(block, limits)
        case Histogram():
            return _histogram(block)
        case Intervals():
            return _intervals(block, limits)
        case Timeline():
            return _timeline(block, limits)
        case Matrix():
            return _matrix(block, limits)
        case Bands():
            return _bands(block, limits)
        case Card():
            return card(block, limits.items)
        case Ribbon():
            more = _more(len(block.rows), limits.rows, "rows")
            return _scroll(ribbon(block, limits.rows), block.title or "ribbon") + _note(block.note, more)


def _paragraphs(text: str, limit: int) -> str:
    return "".join(f"<p>{part}</p>" for part in escape(text, limit).split("\n\n") if part.strip()) + "\n"


def _callout(block: Callout, limits: _Limits) -> str:
    text = _paragraphs(block.text, limits.text) if block.text else ""
    word = _CALLOUT_WORD[block.kind]
    return (
        f'<div class="callout b-{block.kind}" role="note" aria-label="{word}">'
        f"<strong>{escape(block.title, 300)}</strong>{text}</div>\n"
    )


def _key_values(block: KeyValues, limits: _Limits) -> str:
    pairs = block.pairs()
    shown = "".join(
        f"<dt>{escape(key, 120)}</dt><dd>{_cell(value, limits.cell)}</dd>" for key, value in pairs[: limits.rows]
    )
    return f"<dl>{shown}</dl>{_more(len(pairs), limits.rows, 'facts')}\n"


def _cell(cell: Cell, limit: int) -> str:
    kind = kind_of(cell)
    words = escape(format_cell(cell, limit), None)
    if kind is not None:
        return f'<span class="badge b-{kind}">{words}</span>'
    return f'<span class="none">{words}</span>' if cell is None else words


def _more(total: int, shown: int, what: str) -> str:
    return f'<p class="note">{total - shown:,} more {what} not shown here.</p>' if total > shown else ""


def _note(note: str, more: str = "") -> str:
    return (f'<p class="note">{escape(note, 1000)}</p>' if note else "") + more + "\n"


def _table(block: Table, limits: _Limits) -> str:
    alignment = block.alignment()
    columns = len(block.columns)
    stacks = columns > _NARROW_COLUMNS and len(block.rows) <= _STACKED_ROWS
    head = "".join(
        f'<th scope="col" class="{align}">{escape(name, 80)}</th>'
        for name, align in zip(block.columns, alignment, strict=True)
    )
    rows = []
    for row in block.rows[: limits.rows]:
        padded = [*row, *[None] * columns][:columns]
        cells = (
            f'<td class="{align}{_unbroken(cell, align)}"{_label(name, stacks)}>{_cell(cell, limits.cell)}</td>'
            for name, cell, align in zip(block.columns, padded, alignment, strict=True)
        )
        rows.append(f"<tr>{''.join(cells)}</tr>")
    caption = f"<caption>{escape(block.title, 200)}</caption>" if block.title else ""
    body = "".join(rows) or f'<tr><td colspan="{max(columns, 1)}" class="none">no rows</td></tr>'
    opening = '<table class="stack">' if stacks else "<table>"
    table = f"{opening}{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return _scroll(table, block.title or "table") + _note(block.note, _more(len(block.rows), limits.rows, "rows"))


def _unbroken(cell: Cell, align: str) -> str:
    """Numbers and instants are not broken into lines."""
    return " num" if align == "right" or isinstance(cell, date) else ""


def _label(name: str, stacks: bool) -> str:
    """What a cell is called where a narrow screen shows each row as a card."""
    return f' data-label="{escape(name, 80)}"' if stacks and name else ""


def _scroll(table: str, name: str) -> str:
    # A wide table scrolls by itself, also with the keyboard.
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name, 120)}">{table}</div>'


def _figure(title: str, drawing: str, numbers: Table | None, note: str) -> str:
    caption = f"<figcaption>{escape(title, 200)}</figcaption>" if title else ""
    if not drawing:
        return f'<figure>{caption}<p class="note">Nothing to draw: there are no finite values.</p></figure>' + _note(
            note
        )
    details = ""
    if numbers is not None:
        details = f"<details><summary>Numbers</summary>{_table(numbers, _Limits(60, 0, 0, 60, 0))}</details>"
    return f"<figure>{caption}{drawing}{details}</figure>{_note(note)}"


def _line(block: LineChart, limits: _Limits) -> str:
    rows: list[list[Cell]] = []
    dropped = 0
    for name, raw in block.series.items():
        points, bad = finite_points(raw)
        dropped += bad
        step = max(1, -(-len(points) // 12))  # about a dozen a line: enough to follow it without the picture
        picked = points[::step]
        if points and picked[-1] != points[-1]:
            picked.append(points[-1])
        rows.extend([name, x, y] for x, y in picked)
    numbers = Table(["series", block.x_label, block.y_label], rows)
    note = block.note
    if dropped:
        note = f"{note} Points left out because they are not finite: {dropped:,}.".strip()
    return _figure(block.title, svg.line_chart(block, limits.points), numbers, note)


def _bars(block: BarChart, limits: _Limits) -> str:
    items = block.grouped()
    names = list(dict.fromkeys(name for _, group in items for name in group))
    header = ["", *(name or block.value_label or "value" for name in names)]
    numbers = Table(header, [[label, *(group.get(name) for name in names)] for label, group in items])
    drawing = svg.bar_chart(block, limits.items)
    return _figure(block.title, drawing, numbers, block.note) + _more(len(items), limits.items, "bars")


def _histogram(block: Histogram) -> str:
    rows = [
        [
            f"{format_number(left)} to {format_number(right)}",
            *(counts[i] if i < len(counts) else None for counts in block.counts.values()),
        ]
        for i, (left, right) in enumerate(zip(block.edges, block.edges[1:], strict=False))
    ]
    numbers = Table([block.x_label or "from, to", *(name or "rows" for name in block.counts)], rows)
    return _figure(block.title, svg.histogram(block), numbers, block.note)


def _intervals(block: Intervals, limits: _Limits) -> str:
    shown = list(block.rows[: limits.rows])
    shared = svg.interval_axis(shown, _INTERVAL_WIDTH)
    judged = any(row.bound is not None or row.verdict is not None for row in shown)
    body = []
    for row in shown:
        kind = "info" if row.verdict is None else KIND_OF_VERDICT[row.verdict]
        axis = shared if block.shared_axis else svg.interval_axis([row], _INTERVAL_WIDTH)
        bound = "" if row.bound is None else format_number(row.bound)
        verdict = "" if row.verdict is None else _cell(row.verdict, 40)
        picture = svg.interval_row(row, axis, _INTERVAL_WIDTH, kind)
        body.append(
            f"<tr><td>{escape(row.label, limits.cell)}</td><td>{picture}</td>"
            f'<td class="num" data-label="observed">{escape(format_interval(row.low, row.point, row.high))}</td>'
            + (f'<td class="num" data-label="bound">{bound}</td><td>{verdict}</td></tr>' if judged else "</tr>")
        )
    caption = f"<caption>{escape(block.title, 200)}</caption>" if block.title else ""
    names = ("", block.x_label, "observed", *(("bound", "") if judged else ()))
    head = "".join(f'<th scope="col">{escape(name, 80)}</th>' for name in names)
    opening = '<table class="stack">' if len(shown) <= _STACKED_ROWS else "<table>"
    table = f"{opening}{caption}<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    return _scroll(table, block.title or "intervals") + _note(block.note, _more(len(block.rows), limits.rows, "rows"))


def _timeline(block: Timeline, limits: _Limits) -> str:
    steps = list(block.steps)
    items = []
    for step in steps[: limits.rows]:
        value = (
            ""
            if step.value is None
            else f'<span class="value">{format_number(step.value)} {escape(block.value_label, 40)}</span>'
        )
        items.append(
            f'<li class="t-{step.kind}"><time>{escape(format_instant(step.at))}</time>'
            f'<span class="what">{escape(step.label, limits.cell)}</span>{value}</li>'
        )
    caption = f"<figcaption>{escape(block.title, 200)}</figcaption>" if block.title else ""
    drawing = svg.step_chart(steps[: limits.points], block.value_label)
    listing = f'<ol class="steps">{"".join(items)}</ol>' if items else '<p class="note">nothing happened</p>'
    more = _more(len(steps), limits.rows, "steps")
    return f"<figure>{caption}{drawing}{listing}</figure>{_note(block.note, more)}"


def _bands(block: Bands, limits: _Limits) -> str:
    caption = f"<figcaption>{escape(block.title, 200)}</figcaption>" if block.title else ""
    panels, rows = [], []
    for band in block.panels[: limits.items]:
        drawing = band_chart(band, block.x_label) or '<p class="note">no observations</p>'
        panels.append(f"<div><strong>{escape(band.title, 80)}</strong>{drawing}</div>")
        step = max(1, (len(band.points) - 1) // 3)  # the first, the last, and what lies between: enough to follow it
        picked = [*band.points[:-1:step][:3], *band.points[-1:]]
        rows += [(band.title, p.x, format_interval(p.low, p.point, p.high)) for p in picked]
    numbers = Table(("", block.x_label, "estimate and interval"), rows)
    details = f"<details><summary>Numbers</summary>{_table(numbers, _Limits(limits.rows, 0, 0, 60, 0))}</details>"
    drawn = f'<figure>{caption}<div class="bands">{"".join(panels)}</div>{details}</figure>'
    return drawn + _note(block.note, _more(len(block.panels), limits.items, "panels"))


def _matrix(block: Matrix, limits: _Limits) -> str:
    size = min(len(block.labels), limits.items)
    labels = [escape(label, 40) for label in block.labels[:size]]
    head = "".join(f'<th scope="col">{label}</th>' for label in labels)
    rows = []
    for label, values in zip(labels, block.values, strict=False):
        total = sum(values)
        cells = []
        for value in values[:size]:
            share = value / total if total else 0.0
            cells.append(f'<td style="--a:{share * 0.55:.2f}">{value:,}<small>{share:.1%}</small></td>')
        rows.append(f'<tr><th scope="row">{label}</th>{"".join(cells)}</tr>')
    corner = f'<th scope="col"><small>{escape(block.row_label, 40)} ↓ · {escape(block.column_label, 40)} →</small></th>'
    caption = f"<caption>{escape(block.title, 200)}</caption>" if block.title else ""
    table = (
        f'<table class="matrix">{caption}<thead><tr>{corner}{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    )
    return _scroll(table, block.title or "matrix") + _note(block.note, _more(len(block.labels), size, "classes"))
