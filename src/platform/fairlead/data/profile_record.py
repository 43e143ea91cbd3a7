"""What `fairlead data profile -o json` prints: one object, described by docs/reference/profile.schema.json."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

FORMAT = "fairlead.profile/1"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Value(_Part):
    """A value and how many rows have it."""

    value: str | float
    count: int


class Bins(_Part):
    """Rows between `edges`, one more than counts; outliers count in the end bins. Shares times rows, from quantiles."""

    edges: tuple[float, ...]
    counts: tuple[float, ...]


class Apart(_Part):
    """How far a distribution is from the reference."""

    value: float = Field(description="0 to 1: Kolmogorov-Smirnov for numbers, L-infinity for values.")
    error: float = Field(description="What the sketches may add or take.")
    noise: float = Field(description="What equal distributions of so many rows exceed in 1 % of the cases.")
    sure: bool = Field(description="value > error + noise.")


class GroupOfRows(_Part):
    """A column within the rows of one split, month or label."""

    rows: int
    missing: int
    quantiles: dict[str, float] = Field(default_factory=dict, description="By share of rows; empty: no numbers.")
    counts: tuple[float, ...] = Field((), description="Of the column's own bins (splits and labels).")
    top: tuple[Value, ...] = Field((), description="The column's most frequent values here; () when not exact.")
    drift: Apart | None = Field(None, description="From the reference: the training split, or all rows.")


class Tie(_Part):
    """How well the column alone ranks the rows of `label` above all others, 0.5 to 1 (area under the ROC curve)."""

    label: str
    auc: float | None = Field(description="None: too many different values to say.")
    missing_auc: float = Field(description="The same for being missing.")
    error: float
    severe: bool = Field(description="Above data.leaks.max_auc, and not in data.leaks.allow.")


class Lengths(_Part):
    """Characters of a text, items of a list."""

    minimum: int
    mean: float
    maximum: int


class ColumnProfile(_Part):
    """One column. Points in time are ISO texts in UTC, or microseconds since 1970 where a number is asked for."""

    name: str
    kind: Literal["int", "float", "string", "bool", "timestamp", "tensor", "other"]
    rows: int
    missing: int = Field(description="null and NaN.")
    infinite: int = 0
    unreadable: int = Field(0, description="Texts that are not of the schema's type; they count as missing.")
    distinct: int
    distinct_error: float = Field(description="One standard error as a share of `distinct`; 0: exact.")
    minimum: float | str | None = None
    maximum: float | str | None = None
    mean: float | str | None = None
    std: float | None = Field(None, description="Of the population; seconds for points in time.")
    quantiles: dict[str, float | str] = Field(default_factory=dict)
    rank_error: float = Field(0.0, description="How far off the share of a quantile may be, in 99 % of the cases.")
    bins: Bins | None = None
    top: tuple[Value, ...] = ()
    top_error: int = Field(0, description="How far off a count of `top` may be; 0: exact.")
    lengths: Lengths | None = None
    tie: Tie | None = Field(None, description="To the label.")
    drift: Apart | None = Field(None, description="From the same column of `against`.")
    groups: dict[str, dict[str, GroupOfRows]] = Field(
        default_factory=dict, description='"split", "month", "label", each group by its name.'
    )


class Pattern(_Part):
    """Columns that are missing together, and in how many rows exactly these are."""

    columns: tuple[str, ...]
    rows: int


class Finding(_Part):
    """Something to look at."""

    severity: Literal["fail", "warn"]
    column: str
    what: str
    why: str = ""


class LeakEvidence(_Part):
    """One rule's finding; `score` is held against `bound` in the unit of the rule (see docs/leaks-and-splits.md)."""

    kind: str
    score: float
    bound: float
    severe: bool
    why: str


class LeakOfColumn(_Part):
    """What a column knows that a prediction will not."""

    column: str = Field(description='A column, or "(rows)".')
    severity: Literal["fail", "warn", "info"] = Field(
        description="fail: `fairlead data split` refuses it. warn: to look at. info: allowed, or near its bound."
    )
    feature: bool = Field(description="false: it is no feature, and should not become one.")
    allowed: bool = False
    reason: str = Field("", description="Why data.leaks.allow lets it pass.")
    evidence: tuple[LeakEvidence, ...] = Field(description="The worst first.")


class LeakScan(_Part):
    """The leak scan: the rules of `fairlead data split` on the features, in some of the rows."""

    rows: int = Field(0, description="Looked at by the scan; the columns that are no features, in all rows.")
    training_rows: int = Field(0, description="How many of them count as training rows.")
    whole: bool = Field(False, description="These are all rows that keep to the schema.")
    not_done: str = Field("", description="Why the features were not scanned.")
    columns: tuple[LeakOfColumn, ...] = Field((), description="Ranked, the worst first; each column once.")


class Profile(_Part):
    """Statistics of a source in one pass."""

    format: Literal["fairlead.profile/1"] = "fairlead.profile/1"
    project: str
    source: str
    files: int
    rows: int
    label: str | None = None
    time: str | None = None
    reference: str = Field("", description='What drift by month is measured from: "train" or "all rows".')
    columns: tuple[ColumnProfile, ...]
    patterns: tuple[Pattern, ...] = ()
    patterns_error: int = 0
    rows_complete: int = Field(description="Rows without a missing value, at least.")
    leaks: LeakScan | None = Field(None, description="None without a label.")
    warnings: tuple[Finding, ...] = ()
    seconds: float | None = None
    memory_limit_bytes: int | None = None
    memory_peak_bytes: int | None = None
    against: "Profile | None" = None
