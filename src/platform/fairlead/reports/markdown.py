"""A report as GitHub-flavoured Markdown: tables and words in place of pictures. All text is escaped."""

import re
from collections.abc import Iterable, Sequence

from fairlead.reports.bands import band_summary
from fairlead.reports.model import (
    Align,
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
    Table,
    Text,
    Timeline,
)
from fairlead.reports.svg import line_summary
from fairlead.reports.words import clean, format_cell, format_instant, format_interval, format_number

MAX_ROWS = 200
_CALLOUT = {"ok": "NOTE", "warn": "WARNING", "fail": "CAUTION", "info": "NOTE"}
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")
_RULE = {"left": "---", "right": "---:", "center": ":---:"}


def render_markdown(report: Report) -> str:
    """The whole report."""
    lines = [f"# {_inline(report.title)}", ""]
    if report.verdict is not None:
        lines += [f"**{format_cell(report.verdict)}**", ""]
    if report.subtitle:
        lines += [_inline(report.subtitle), ""]
    warnings = report.warnings()
    if warnings:
        lines += ["**Needs attention:**", ""]
        lines += [f"- {_inline(callout.title)}" for _, callout in warnings]
        lines.append("")
    for section in report.sections:
        lines += [f"## {_inline(section.title)}", ""]
        for block in section.blocks:
            lines += [*_block(block), ""]
    return "\n".join(lines).rstrip() + "\n"


def _inline(text: object) -> str:
    return _SPECIAL.sub(r"\\\1", " ".join(clean(text).split()))


def _block(block: Block) -> list[str]:
    match block:
        case Text():
            paragraphs = [_inline(part) for part in block.text.split("\n\n") if part.strip()]
            return "\n\n".join(paragraphs).split("\n")
        case Callout():
            lines = [f"> [!{_CALLOUT[block.kind]}]", f"> **{_inline(block.title)}**"]
            return [*lines, *(f"> {_inline(line)}" for line in block.text.splitlines() if line.strip())]
        case KeyValues():
            return [f"- {_inline(key)}: {_cell(value)}" for key, value in block.pairs()]
        case Table():
            return _titled(block.title, _grid(block.columns, block.rows, block.alignment()), block.note)
        case LineChart():
            return _titled(block.title, [_inline(line_summary(block)), *_bounds(block.bounds.items())], block.note)
        case BarChart():
            return _titled(block.title, _bars(block), block.note)
        case Histogram():
            return _titled(block.title, _histogram(block), block.note)
        case Intervals():
            rows = [
                [row.label, format_interval(row.low, row.point, row.high), row.bound, row.verdict] for row in block.rows
            ]
            return _titled(block.title, _grid(["", block.x_label or "observed", "bound", "verdict"], rows), block.note)
        case Timeline():
            return _titled(block.title, _timeline(block), block.note)
        case Matrix():
            header = [f"{block.row_label} ↓ {block.column_label} →", *block.labels]
            rows = [[label, *values] for label, values in zip(block.labels, block.values, strict=False)]
            return _titled(block.title, _grid(header, rows), block.note)
        case Bands():
            return _titled(block.title, [f"- {_inline(band_summary(band))}" for band in block.panels], block.note)
        case Card():
            facts = ", ".join(f"{_inline(name)} {_cell(value)}" for name, value in block.facts)
            badges = "".join(f" ({_inline(badge.text)})" for badge in block.badges)
            return _titled("", [f"- **{_inline(block.title)}**{badges}: {facts}"], block.note)
        case Ribbon():
            return _titled(
                block.title, _grid(["", *block.columns], [[n, *values] for n, values in block.rows]), block.note
            )


def _titled(title: str, lines: Iterable[str], note: str) -> list[str]:
    head = [f"**{_inline(title)}**", ""] if title else []
    return [*head, *lines, *(["", _inline(note)] if note else [])]


def _cell(cell: Cell) -> str:
    return _inline(format_cell(cell, 400))


def _grid(columns: Sequence[str], rows: Sequence[Sequence[Cell]], align: Sequence[Align] | None = None) -> list[str]:
    width = len(columns)
    alignment = align or Table(columns, rows).alignment()
    lines = [
        "| " + " | ".join(_inline(column) for column in columns) + " |",
        "| " + " | ".join(_RULE[word] for word in alignment) + " |",
    ]
    for row in rows[:MAX_ROWS]:
        padded = [*row, *[None] * width][:width]
        lines.append("| " + " | ".join(_cell(cell) for cell in padded) + " |")
    if len(rows) > MAX_ROWS:
        lines += ["", f"{len(rows) - MAX_ROWS:,} more rows not shown here."]
    return lines


def _bounds(bounds: Iterable[tuple[str, float]]) -> list[str]:
    return [f"\nBound {_inline(name)}: {format_number(value)}." for name, value in bounds]


def _bars(block: BarChart) -> list[str]:
    items = block.grouped()
    names = list(dict.fromkeys(name for _, group in items for name in group))
    rows = [[label, *(group.get(name) for name in names)] for label, group in items]
    return _grid(["", *(name or block.value_label or "value" for name in names)], rows)


def _histogram(block: Histogram) -> list[str]:
    rows = [
        [
            f"{format_number(left)} to {format_number(right)}",
            *(c[i] if i < len(c) else None for c in block.counts.values()),
        ]
        for i, (left, right) in enumerate(zip(block.edges, block.edges[1:], strict=False))
    ]
    return _grid([block.x_label or "from, to", *(name or "rows" for name in block.counts)], rows)


def _timeline(block: Timeline) -> list[str]:
    lines = []
    for number, step in enumerate(block.steps, 1):
        value = (
            ""
            if step.value is None
            else f" ({format_number(step.value)} {_inline(block.value_label)})".replace(" )", ")")
        )
        lines.append(f"{number}. {_inline(format_instant(step.at))}: {_inline(step.label)}{value}")
    return lines
