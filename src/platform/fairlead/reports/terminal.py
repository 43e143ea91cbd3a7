"""A report in a terminal, through rich. Text is never read as rich's markup."""

from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.rule import Rule
from rich.segment import Segment
from rich.table import Table as Grid
from rich.text import Text as Words

from fairlead.reports.model import (
    Bands,
    BarChart,
    Block,
    Callout,
    Card,
    Cell,
    Histogram,
    Intervals,
    KeyValues,
    Kind,
    LineChart,
    Matrix,
    Report,
    Ribbon,
    Table,
    Text,
    Timeline,
)
from fairlead.reports.scale import axis_over, finite_points
from fairlead.reports.svg import histogram_heights
from fairlead.reports.words import (
    clean,
    format_cell,
    format_instant,
    format_interval,
    format_number,
    kind_of,
    sparkline,
)

MAX_ROWS = 60
STYLE_OF_KIND: dict[Kind, str] = {"ok": "green", "warn": "yellow", "fail": "bold red", "info": "cyan"}
SIGN_OF_KIND: dict[Kind, str] = {"ok": "✓", "warn": "!", "fail": "✗", "info": "·"}


def render_terminal(report: Report, console: Console) -> None:
    """Print the whole report."""
    title = Words(clean(report.title), style="bold")
    if report.verdict is not None:
        title.append("  ").append(cell_words(report.verdict))
    console.print(title)
    if report.subtitle:
        console.print(Words(clean(report.subtitle), style="dim"))
    for _, callout in report.warnings():
        console.print(_callout_line(callout))
    for section in report.sections:
        console.print()
        console.print(Rule(Words(clean(section.title), style="bold"), align="left", style="dim"))
        for block in section.blocks:
            print_block(block, console)


def print_block(block: Block, console: Console) -> None:
    """Print one block of a report."""
    match block:
        case Text():
            console.print(Words(clean(block.text)))
        case Callout():
            console.print(_callout_line(block))
            if block.text:
                console.print(Padding(Words(clean(block.text)), (0, 0, 0, 2)))
        case KeyValues():
            console.print(_key_values(block))
        case Table():
            _print_grid(console, block.title, block.columns, block.rows, block, block.note)
        case LineChart():
            _print_lines(block, console)
        case BarChart():
            _print_bars(block, console)
        case Histogram():
            _print_histogram(block, console)
        case Intervals():
            rows: list[list[Cell]] = [
                [r.label, format_interval(r.low, r.point, r.high), r.bound, r.verdict] for r in block.rows
            ]
            columns = ["", block.x_label or "observed", "bound", "verdict"]
            _print_grid(console, block.title, columns, rows, None, block.note)
        case Timeline():
            _print_timeline(block, console)
        case Matrix():
            columns = [f"{block.row_label} ↓ {block.column_label} →", *block.labels]
            matrix: list[list[Cell]] = [
                [label, *values] for label, values in zip(block.labels, block.values, strict=False)
            ]
            _print_grid(console, block.title, columns, matrix, None, block.note)
        case Bands():
            _print_bands(block, console)
        case Card():
            _print_card(block, console)
        case Ribbon():
            shades: list[list[Cell]] = [[name, *values] for name, values in block.rows]
            _print_grid(console, block.title, ["", *block.columns], shades, None, block.note)


def _print_card(block: Card, console: Console) -> None:
    line = Words(clean(block.title), style="bold")
    for badge in block.badges:
        line.append(f"  {clean(badge.text)}", style=STYLE_OF_KIND[badge.kind])
    for name, value in block.facts:
        line.append(f"  {clean(name)} ", style="dim").append(format_cell(value, 60), style="")
    console.print(line)


def cell_words(cell: Cell) -> Words:
    """A cell in its colour."""
    kind = kind_of(cell)
    style = STYLE_OF_KIND[kind] if kind else ("dim" if cell is None else "")
    return Words(format_cell(cell, 200), style=style)


def _callout_line(callout: Callout) -> Words:
    words = Words(f"{SIGN_OF_KIND[callout.kind]} ", style=STYLE_OF_KIND[callout.kind])
    return words.append(clean(callout.title), style=STYLE_OF_KIND[callout.kind])


def _key_values(block: KeyValues) -> Grid:
    grid = Grid.grid(padding=(0, 2))
    for key, value in block.pairs():
        grid.add_row(Words(clean(key), style="dim"), cell_words(value))
    return grid


def _print_grid(
    console: Console,
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    table: Table | None,
    note: str,
) -> None:
    source = table or Table(columns, rows)
    grid = Grid(box=None, pad_edge=False, header_style="dim", title_justify="left", title_style="bold")
    if title:
        grid.title = Words(clean(title), style="bold")
    for name, align in zip(columns, source.alignment(), strict=True):
        grid.add_column(Words(clean(name)), justify=align, overflow="fold")
    for row in rows[:MAX_ROWS]:
        grid.add_row(*(cell_words(cell) for cell in [*row, *[None] * len(columns)][: len(columns)]))
    console.print(grid)
    if len(rows) > MAX_ROWS:
        console.print(Words(f"{len(rows) - MAX_ROWS:,} more rows", style="dim"))
    _print_note(console, note)


def _print_note(console: Console, note: str) -> None:
    if note:
        console.print(Words(clean(note), style="dim"))


def _print_lines(block: LineChart, console: Console) -> None:
    if block.title:
        console.print(Words(clean(block.title), style="bold"))
    grid = Grid.grid(padding=(0, 2))
    for name, raw in block.series.items():
        points, _ = finite_points(raw)
        ys = [y for _, y in points]
        ends = f"{format_number(ys[0])} → {format_number(ys[-1])}" if ys else "no finite points"
        grid.add_row(Words(clean(name), style="dim"), Words(sparkline(ys), style="cyan"), ends)
    for name, value in block.bounds.items():
        grid.add_row(Words(clean(name), style="dim"), "bound", format_number(value))
    console.print(grid)
    _print_note(console, block.note)


def _print_bands(block: Bands, console: Console) -> None:
    """A line per panel: how the interval's width fell, and where it ended."""
    if block.title:
        console.print(Words(clean(block.title), style="bold"))
    grid = Grid.grid(padding=(0, 2))
    for band in block.panels:
        widths = [p.high - p.low for p in band.points if p.high is not None and p.low is not None]
        shown = widths or [p.point for p in band.points if p.point is not None]
        if not shown:
            continue
        last = band.points[-1]
        bounds = ", ".join(f"{clean(name)} {format_number(value)}" for name, value in band.bounds.items())
        grid.add_row(
            Words(clean(band.title), style="dim"),
            Words(sparkline(shown, low=0.0 if widths else None), style="cyan"),
            format_interval(last.low, last.point, last.high),
            Words(bounds, style="dim"),
        )
    console.print(grid)
    _print_note(console, block.note)


class _Bar:
    """A bar as wide as its share of the room that is left."""

    def __init__(self, share: float) -> None:
        self.share = min(max(share, 0.0), 1.0)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = min(options.max_width, 30)
        yield Segment("█" * round(self.share * width), console.get_style("cyan"))


def _print_bars(block: BarChart, console: Console) -> None:
    if block.title:
        console.print(Words(clean(block.title), style="bold"))
    items = [(label, name, value) for label, group in block.grouped() for name, value in group.items()]
    axis = axis_over([abs(v) for _, _, v in items if v is not None], 0.0, 1.0, include=0.0)
    grid = Grid.grid(padding=(0, 2))
    for label, name, value in items[:MAX_ROWS]:
        words = Words(clean(label, 40)) if not name else Words(f"{clean(label, 40)} {clean(name, 30)}")
        finite = value is not None and bool(finite_points([(value, value)])[0])
        share = axis.place(abs(value)) if finite and value is not None else 0.0
        grid.add_row(words, cell_words(value), _Bar(share))
    console.print(grid)
    _print_note(console, block.note)


def _print_histogram(block: Histogram, console: Console) -> None:
    if block.title:
        console.print(Words(clean(block.title), style="bold"))
    heights, _ = histogram_heights(block)
    top = max((h for hs in heights.values() for h in hs), default=0.0)
    ends = f"{format_number(block.edges[0])} … {format_number(block.edges[-1])}" if len(block.edges) > 1 else ""
    grid = Grid.grid(padding=(0, 2))
    for name, values in heights.items():
        line = sparkline(values, width=max(len(values), 1), low=0.0, high=top)
        grid.add_row(Words(clean(name), style="dim"), Words(line, style="cyan"), ends)
    console.print(grid)
    _print_note(console, block.note)


def _print_timeline(block: Timeline, console: Console) -> None:
    if block.title:
        console.print(Words(clean(block.title), style="bold"))
    grid = Grid.grid(padding=(0, 2))
    for step in block.steps:
        value = "" if step.value is None else f"{format_number(step.value)} {clean(block.value_label)}".strip()
        sign = Words(SIGN_OF_KIND[step.kind], style=STYLE_OF_KIND[step.kind])
        grid.add_row(sign, Words(format_instant(step.at), style="dim"), Words(clean(step.label)), Words(value))
    console.print(grid)
    _print_note(console, block.note)
