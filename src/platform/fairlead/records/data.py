"""What the data stage knows about data."""

from collections.abc import Mapping
from dataclasses import dataclass, field

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One raw file as it was read. `uri` is relative to the project folder, or s3://."""

    uri: str
    size_bytes: int
    rows: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Shard:
    """One Parquet file of prepared data; `path` is relative to the manifest."""

    path: str
    split: str
    rows: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class DatasetManifest:
    """Prepared data: written last, so that without a manifest there is no data set.

    `fingerprint` is the sha256 over the content of all shards, the schema and the transform (not over file times).
    `schema` maps each column to its type name (int, float, string, bool, timestamp, tensor).
    `label_classes` are the values of the label in the order of the model's outputs; empty for regression.
    `boundaries` are the split's own facts, e.g. {"validation": "2013-07-01T00:00:00+00:00"}.
    `rows_left_out` counts good, labelled rows that belong to no split (a split by time with `until`).
    `files` maps each file beside the shards (transform.json, statistics.json, schema.yaml) to its sha256.
    """

    fingerprint: str
    project: str
    task: str
    label: str
    label_classes: tuple[str, ...]
    schema: Mapping[str, str]
    features: tuple[str, ...]
    shards: tuple[Shard, ...]
    sources: tuple[SourceFile, ...]
    split_by: str
    boundaries: Mapping[str, str]
    rows_read: int
    rows_rejected: int
    rows_unlabelled: int
    rows_duplicate: int
    transform_sha256: str
    time: str | None = None
    entity: str | None = None
    created_at: str = ""
    rows_left_out: int = 0
    files: Mapping[str, str] = field(default_factory=dict)

    def rows(self, split: str) -> int:
        """Rows of one split."""
        return sum(shard.rows for shard in self.shards if shard.split == split)


@dataclass(frozen=True, slots=True)
class ColumnStatistics:
    """One column in one pass. `edges` and `counts` are a histogram (len(edges) == len(counts) + 1) for numbers;
    `top` maps the most frequent values to their counts for strings and booleans, `other` counts the rest; for numbers
    `top` has those that at least one in a hundred values is (as `repr` writes them; too small by 0.25 % of all values).
    `parts` holds the same for what is derived from a timestamp (hour, weekday, month) as top/counts."""

    name: str
    kind: str
    count: int
    missing: int
    distinct: int
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    std: float | None = None
    quantiles: Mapping[str, float] = field(default_factory=dict)
    edges: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    top: Mapping[str, int] = field(default_factory=dict)
    other: int = 0
    parts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Statistics:
    """The columns of one split (or of live traffic), and the noise of retraining when the model was trained twice.

    `retraining_noise` is the mean absolute difference of the scores of two models trained on the same data with
    another seed, on the validation split, `retraining_flips` the share of labels that it changes, and `slice_noise` the
    same difference by "column=value" of declared columns; `numeric_noise` is that of the model from itself, asked row
    by row and all at once (expected: 0). None when not measured."""

    rows: int
    columns: Mapping[str, ColumnStatistics]
    retraining_noise: float | None = None
    retraining_flips: float | None = None
    numeric_noise: float | None = None
    slice_noise: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LeakFinding:
    """A feature (or the entity, or rows of two sides) that says too much about the label.

    `score` is held against `bound` in the unit of the finding's `kind`: for "strength", "difference" and "combination"
    an AUC (|rank correlation| for regression). `reason` is why the project file allows it, "" when it does not say."""

    feature: str
    score: float
    bound: float
    severe: bool
    allowed: bool
    why: str
    kind: str = "strength"
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SplitDifference:
    """How a column of a later side differs from the training split: `distance` is the largest difference of the two
    cumulative (numbers) or relative (categories) frequencies, `bound` what chance explains in one of a thousand splits
    over all columns and sides."""

    split: str
    column: str
    distance: float
    bound: float
    differs: bool
    why: str


@dataclass(frozen=True, slots=True)
class LinkDrift:
    """Two columns (or a column and the label) whose rank correlation moved from `before` to `now`; `bound` is what
    chance explains, on the scale of Fisher's z."""

    first: str
    second: str
    before: float
    now: float
    bound: float
    what: str


@dataclass(frozen=True, slots=True)
class SkewFinding:
    """A feature of live traffic that does not look as it did in a model's training data.

    `distance` is the largest difference of the two cumulative (numbers, hours) or relative (categories) frequencies,
    `bound` what sampling alone explains at the declared level; `part` names a derived part such as "hour"."""

    feature: str
    part: str
    digest: str
    distance: float
    bound: float
    skewed: bool
    why: str
