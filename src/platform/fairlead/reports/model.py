"""What a report says, apart from how it looks: sections of blocks, all frozen.

Cells of tables and key-value lists take plain values. Numbers stay numbers (the renderer formats them), a
`records.evidence.Verdict` becomes a badge, `Badge` is a badge with words of its own, None reads "not available".
Charts leave out points that are not finite, and say how many they left out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal

from fairlead.records.evidence import Verdict

Kind = Literal["ok", "warn", "fail", "info"]
Align = Literal["left", "right", "center"]

KIND_OF_VERDICT: Mapping[Verdict, Kind] = {
    Verdict.PASS: "ok",
    Verdict.FAIL: "fail",
    Verdict.NOT_ENOUGH_EVIDENCE: "warn",
    Verdict.ERROR: "fail",
}


@dataclass(frozen=True, slots=True)
class Badge:
    """A word or two on a coloured ground, for instance "champion"."""

    text: str
    kind: Kind = "info"


Cell = str | int | float | bool | datetime | date | Verdict | Badge | None


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph; a blank line starts the next one. Plain text, no markup."""

    text: str


@dataclass(frozen=True, slots=True)
class Callout:
    """Something that must not be overlooked. `fail` and `warn` are also listed at the top of the report."""

    kind: Kind
    title: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class KeyValues:
    """Facts, one a line."""

    items: Sequence[tuple[str, Cell]] | Mapping[str, Cell]

    def pairs(self) -> tuple[tuple[str, Cell], ...]:
        """The facts in their order."""
        return tuple(self.items.items() if isinstance(self.items, Mapping) else self.items)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells. `align` per column; without it, columns that hold only numbers stand right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    align: Sequence[Align] = ()
    title: str = ""
    note: str = ""

    def alignment(self) -> tuple[Align, ...]:
        """One word per column."""
        if self.align:
            given: list[Align] = list(self.align)
            return tuple(given + ["left"] * len(self.columns))[: len(self.columns)]
        return tuple(self._guess(index) for index in range(len(self.columns)))

    def _guess(self, index: int) -> Align:
        cells = [row[index] for row in self.rows if index < len(row) and row[index] is not None]
        numeric = bool(cells) and all(isinstance(c, (int, float)) and not isinstance(c, bool) for c in cells)
        return "right" if numeric else "left"


@dataclass(frozen=True, slots=True)
class LineChart:
    """Lines by name, each a sequence of (x, y). `bounds` are labelled horizontal lines; `diagonal` draws y = x, as a
    ROC or a reliability curve needs. `x_range` and `y_range` fix an axis."""

    series: Mapping[str, Sequence[tuple[float, float]]]
    x_label: str
    y_label: str
    title: str = ""
    diagonal: bool = False
    bounds: Mapping[str, float] = field(default_factory=dict)
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class BarChart:
    """Horizontal bars. Each item is (label, value), or (label, {series: value}) for grouped bars."""

    items: Sequence[tuple[str, float | None] | tuple[str, Mapping[str, float | None]]]
    value_label: str = ""
    title: str = ""
    bounds: Mapping[str, float] = field(default_factory=dict)
    note: str = ""

    def grouped(self) -> tuple[tuple[str, Mapping[str, float | None]], ...]:
        """All items in the grouped form; a single series has the name ""."""
        return tuple((label, value if isinstance(value, Mapping) else {"": value}) for label, value in self.items)


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts between `edges` (one more edge than counts), one or several series. With several, heights are shares of
    each series, so that sets of different size can be compared."""

    edges: Sequence[float]
    counts: Mapping[str, Sequence[float]]
    x_label: str = ""
    title: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class IntervalRow:
    """A point with the ends of its interval, the bound it is judged by, and the verdict."""

    label: str
    low: float | None
    point: float | None
    high: float | None
    bound: float | None = None
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class Intervals:
    """Estimates with their intervals, on one axis; rows of different units need `shared_axis=False`."""

    rows: Sequence[IntervalRow]
    x_label: str = ""
    title: str = ""
    note: str = ""
    shared_axis: bool = True


@dataclass(frozen=True, slots=True)
class TimelineStep:
    """One thing that happened. `value` is a share of traffic in percent, or None; it is drawn as a step line."""

    at: str
    label: str
    value: float | None = None
    kind: Kind = "info"


@dataclass(frozen=True, slots=True)
class Timeline:
    """What happened, in order."""

    steps: Sequence[TimelineStep]
    value_label: str = ""
    title: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Matrix:
    """Counts of pairs of classes: `values[i][j]` rows of class `labels[i]` that got class `labels[j]`."""

    labels: Sequence[str]
    values: Sequence[Sequence[int]]
    row_label: str = "actual"
    column_label: str = "predicted"
    title: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class BandPoint:
    """An estimate and its interval after `x` observations; what is not known is None."""

    x: float
    low: float | None
    point: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Band:
    """One panel: how an interval narrowed. `bounds` are labelled horizontal lines, `mark` where on the x-axis something
    was decided, `mark_label` what, in `kind`'s colour."""

    title: str
    points: Sequence[BandPoint]
    bounds: Mapping[str, float] = field(default_factory=dict)
    mark: float | None = None
    mark_label: str = ""
    kind: Kind = "info"


@dataclass(frozen=True, slots=True)
class Bands:
    """Panels side by side over the same logarithmic axis of observations. Of wide first intervals only the part near
    the later ones is drawn."""

    panels: Sequence[Band]
    x_label: str
    title: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Boxes:
    """Five ascending quantiles for each label in turn, for instance a month: ends, quartiles, median. None: no data."""

    items: Sequence[tuple[str, Sequence[float] | None]]


@dataclass(frozen=True, slots=True)
class Shares:
    """How a whole is divided, for each label in turn: `rows` hold a share for each of `names`; the rest is "other"."""

    names: Sequence[str]
    rows: Sequence[tuple[str, Sequence[float]]]


@dataclass(frozen=True, slots=True)
class Card:
    """One thing with its facts in a line and small pictures side by side, each under a few words."""

    title: str
    facts: Sequence[tuple[str, Cell]]
    panels: Sequence[tuple[str, "Histogram | BarChart | Boxes | Shares"]]
    badges: Sequence[Badge] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Ribbon:
    """A number for each row and column, told by shades: `full` is the darkest; from `bound` on it is marked."""

    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[float | None]]]
    full: float
    bound: float | None = None
    title: str = ""
    note: str = ""


Block = (
    Text
    | Callout
    | KeyValues
    | Table
    | LineChart
    | BarChart
    | Histogram
    | Intervals
    | Timeline
    | Matrix
    | Bands
    | Card
    | Ribbon
)


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands below it."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True)
class Report:
    """The whole. `verdict`, when there is one, stands beside the title."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    verdict: Verdict | None = None

    def warnings(self) -> tuple[tuple[int, Callout], ...]:
        """Callouts that need attention with the index of their section: failures first, then warnings."""
        return tuple(self._callouts("fail")) + tuple(self._callouts("warn"))

    def _callouts(self, kind: Kind) -> Iterator[tuple[int, Callout]]:
        for index, section in enumerate(self.sections):
            for block in section.blocks:
                if isinstance(block, Callout) and block.kind == kind:
                    yield index, block
