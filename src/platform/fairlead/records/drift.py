"""What comparing two windows of data, or the days of a year with each other, found."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fairlead.records.data import LinkDrift


@dataclass(frozen=True, slots=True)
class Measure:
    """One distance (or effect size) with the ends of its 95 % interval."""

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ColumnDrift:
    """One column (or a `part` of it: "missing", "hour", ...) in two windows.

    `distance` is the largest difference of cumulative (numbers, parts of a day) or relative frequencies (categories,
    missing), `chance` what sampling alone explains for all columns together, `bound` the larger of that and of the
    declared distance; `moved` says that the distance is above the bound. `what` describes the largest difference,
    `cause` names what makes the live values of the reference's ("" when nothing is recognised), `cause_kind` in a word:
    conversion, factor, offset, sign, logarithm, time_zone, spelling, vocabulary, default_value, missing, swapped,
    first_negative. `importance` is how much the model's answer depends on the column, `impact` importance times
    distance."""

    column: str
    part: str
    kind: str
    reference_rows: int
    live_rows: int
    distance: float
    chance: float
    bound: float
    moved: bool
    what: str
    cause: str = ""
    cause_kind: str = ""
    measures: tuple[Measure, ...] = ()
    importance: float | None = None
    impact: float | None = None


@dataclass(frozen=True, slots=True)
class ShiftKind:
    """Which part of the joint distribution of features and label moved, as far as the data tell.

    `kind`: none, covariate, label, concept, mixed, unknown. `why` says what speaks for it and what cannot be told."""

    kind: str
    why: str
    measures: tuple[Measure, ...] = ()


@dataclass(frozen=True, slots=True)
class WindowDrift:
    """Two windows of rows compared: columns by impact, the largest first. `sampled` says that more rows were there than
    were kept for the comparison."""

    reference: str
    live: str
    reference_rows: int
    live_rows: int
    sampled: bool
    ranked_by: str
    columns: tuple[ColumnDrift, ...]
    shift: ShiftKind
    warnings: tuple[str, ...] = ()
    links: tuple[LinkDrift, ...] = ()

    @property
    def moved(self) -> tuple[ColumnDrift, ...]:
        """The columns that moved."""
        return tuple(column for column in self.columns if column.moved)


@dataclass(frozen=True, slots=True)
class DriftAlarm:
    """A feature whose days no longer look like those of the reference. `day` is when the first alarm was raised,
    `since` the likeliest first day of the change, `evidence` the e-detector's value over its threshold (at least 1),
    `change` how much the channel's number differs since then from the reference. `again` counts the days with later
    alarms of the feature, `last` is the last of them: a change that stays raises its alarm again and again."""

    feature: str
    day: str
    since: str
    channel: str
    direction: str
    evidence: float
    change: float
    what: str
    again: int = 0
    last: str = ""


@dataclass(frozen=True, slots=True)
class DriftOverTime:
    """Days watched one after another. `threshold` is what a detector must reach, `budget` the false alarms per month
    for all features together that it stands for."""

    reference: str
    reference_days: int
    days: int
    features: int
    budget: float
    threshold: float
    same_weekday: tuple[str, ...]
    alarms: tuple[DriftAlarm, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BaselineColumn:
    """What one column looked like when somebody accepted it. `shape`: quantiles of numbers, ascending; `top`: the most
    frequent values with their counts; `parts`: counts of the hours and weekdays of points in time. These are of `rows`
    drawn rows; `low` is the smallest number of all `present` values (None where that was not looked at)."""

    kind: str
    rows: int
    missing: int
    shape: tuple[float, ...] = ()
    top: Mapping[str, int] = field(default_factory=dict)
    parts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    low: float | None = None
    present: int = 0


@dataclass(frozen=True, slots=True)
class Baseline:
    """What the data looked like when somebody accepted them. `file_rows`: the rows of each file; `newest`: the
    latest point in time (ISO 8601), "" without a time column."""

    accepted_at: str
    rows: int
    columns: Mapping[str, BaselineColumn]
    file_rows: tuple[int, ...] = ()
    newest: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands: `row` counts the rows of `file` from 1 (the header of a CSV file is no row)."""

    file: str
    row: int
    value: str


@dataclass(frozen=True, slots=True)
class Anomaly:
    """Something about a column (or about the whole: column "") that is not as the schema says, or not as accepted.

    `kind`: a cause as in `ColumnDrift`, a rule that rows break (`data.suggestions.KINDS`), or missing, volume,
    freshness and the like (docs/data-schema.md lists all). `count` and `share` of the rows are affected, where that
    means something; `places` are the first of them. `severe`: rows that are refused, and values that a model would take
    for what they are not. `fix` says what to do, `change` is what the schema would have to say instead, in its own
    YAML, for `fairlead data schema accept --change` ("" where no rule is about it)."""

    column: str
    kind: str
    severe: bool
    share: float | None
    what: str
    examples: tuple[str, ...]
    fix: str
    count: int | None = None
    places: tuple[Place, ...] = ()
    change: str = ""


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """One place where data and committed schema disagree: `key` of the rule, what it `says`, what was `seen`."""

    column: str
    key: str
    says: str
    seen: str
