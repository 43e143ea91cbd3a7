"""What a project file could say about data that nobody has described: roles of columns, split, training, gates.

Every choice has a reason that `fairlead init` writes beside it. When in doubt a column is left out and named: what is
missing from a model is noticed in its metrics, what should not be in it is not noticed until production.
"""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairlead.data.csv_reader import likely_delimiter
from fairlead.data.label_proposal import find_labels, is_whole, misread, positive_label, rarest_share
from fairlead.data.labels import Labels
from fairlead.data.leaks import MissingCounts, scan_leaks
from fairlead.data.sampling import Column, Sample, take_sample
from fairlead.data.sources import Source
from fairlead.errors import LabelProblem
from fairlead.records.data import LeakFinding
from fairlead.spec.data import Data, Leaks
from fairlead.spec.features import Features

SMALL_ROWS = 50_000
# The leak scan of the pipeline sees other rows than this sample: what is close to its bound may be above it there.
_BOUNDS = (Leaks().max_auc - 0.03, Leaks().max_auc)
_MAX_VOCABULARY = 1_000
_MAX_CODES = 12
_NEARLY_UNIQUE = 0.9
_MIN_GROUPS = 50
_LONG_TEXT = 60
_ID_NAME = re.compile(r"(?i)(^|[_\W])(id|ids|uuid|guid|key|index|nr|no|num|number)$|^unnamed|^$")
_ID_CAMEL = re.compile(r"[a-z](Id|ID|Key|Uuid)$")
_CODE_NAME = re.compile(
    r"(?i)(code|type|class|category|kind|group|region|zone|zip|zipcode|postal|status|flag|plan|level|grade)$"
)
_TIME_NAME = re.compile(r"(?i)(time|date|timestamp|created|_at|when|day|month|_ts)")
_NOT_THE_TIME = re.compile(r"(?i)(birth|dob|updated|modified|closed|end|expir|due|deleted|cancel)")
_OTHER_DATE = re.compile(r"^\d{1,2}[/.]\d{1,2}[/.]\d{2,4}|^\d{4}/\d{1,2}/\d{1,2}")


@dataclass(frozen=True)
class Proposal:
    """Roles and settings. `excluded` and `notes` map a column to a reason; `rows` is exact or (`exact` False) about.
    `unreadable` is the share of rows with a value that does not fit its column's type, `rare_label` that of the rarest
    class."""

    project: str
    source: str
    label: str
    task: str
    classes: tuple[str, ...]
    positive: bool | int | str | None
    rows: int
    exact: bool
    numeric: tuple[str, ...]
    categorical: dict[str, dict[str, object]]
    datetime: dict[str, tuple[str, ...]]
    excluded: dict[str, str]
    notes: dict[str, str]
    time: str | None
    time_candidates: tuple[str, ...]
    entity: str | None
    entity_candidates: tuple[str, ...]
    split_by: str
    split_why: str
    slices: tuple[str, ...]
    allow: dict[str, float]
    unreadable: float = 0.0
    rare_label: float = 0.0
    format: str | None = None
    delimiter: str = ","

    @property
    def small(self) -> bool:
        """True when one process and no Ray is the better choice."""
        return self.rows < SMALL_ROWS

    @property
    def train_rows(self) -> int:
        """Rows of the training split, about."""
        return max(int(self.rows * 0.6), 1)

    @property
    def batch(self) -> int:
        """A power of two that gives some 40 optimizer steps a pass, within 16 and 1024."""
        wanted = max(self.train_rows // 40, 1)
        return min(max(1 << round(math.log2(wanted)), 16), 1024)

    @property
    def epochs(self) -> int:
        """Enough passes for some 500 steps, within 4 and 40."""
        return min(max(round(500 * self.batch / self.train_rows), 4), 40)


@dataclass
class _Roles:
    """Filled column by column."""

    numeric: list[str] = field(default_factory=list)
    categorical: dict[str, dict[str, object]] = field(default_factory=dict)
    datetime: dict[str, tuple[str, ...]] = field(default_factory=dict)
    excluded: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    entities: list[str] = field(default_factory=list)

    def drop(self, name: str, why: str) -> None:
        """Take a feature out again."""
        self.numeric = [other for other in self.numeric if other != name]
        self.categorical.pop(name, None)
        self.datetime.pop(name, None)
        self.notes.pop(name, None)
        self.excluded[name] = why

    def names(self) -> list[str]:
        """All features so far."""
        return [*self.numeric, *self.categorical, *self.datetime]


def propose(
    source: str, label: str, base: Path, name: str = "", wanted_format: str = "auto", delimiter: str | None = None
) -> Proposal:
    """Look at a sample of `source` (a path, folder, glob or s3:// as a project file in `base` would name it). Without
    `delimiter`, that of CSV files is found in the first header.

    Raises DataError when it cannot be read, LabelProblem when `label` cannot be predicted.
    """
    spec = Data.model_validate({"source": source, "label": {"column": label}, "format": wanted_format})
    opened = Source(spec, base)
    if opened.format == "csv":
        spec = spec.model_copy(update={"delimiter": delimiter or likely_delimiter(opened.files[0])})
        opened = Source(spec, base)
    sample = take_sample(opened)
    labels, labelled = find_labels(sample, label)
    roles = _Roles()
    for column in sample.columns.values():
        if column.name != label:
            _assign(roles, column, sample.rows)
    allow = _leave_out_leaks(roles, sample, labels, labelled, label)
    if not roles.names():
        reasons = "; ".join(f"{name}: {why}" for name, why in list(roles.excluded.items())[:8])
        why = reasons or "there are none"
        fix = "correct the source; or write the project file by hand (fairlead explain features)"
        raise LabelProblem(f"no column is left to predict {label} from", where=source, why=why, fix=fix)
    times = _time_candidates(sample, roles)
    entity, split_by, why = _split(sample, roles, labels, labelled, times)
    if entity in roles.names():
        roles.drop(entity, "names the group that the split keeps together: the test has other ones")
    column = sample.columns[label]
    return Proposal(
        project=name or project_name(source),
        source=source,
        label=label,
        task=labels.task,
        classes=labels.classes,
        positive=positive_label(labels, column),
        rows=sample.total_rows,
        exact=sample.exact,
        numeric=tuple(roles.numeric),
        categorical=roles.categorical,
        datetime=roles.datetime,
        excluded=roles.excluded,
        notes=roles.notes,
        time=times[0] if split_by == "time" else None,
        time_candidates=tuple(times),
        entity=entity,
        entity_candidates=tuple(roles.entities),
        split_by=split_by,
        split_why=why,
        slices=_slices(roles, sample),
        allow=allow,
        unreadable=_unreadable(sample, [label, *roles.names()]),
        rare_label=rarest_share(labels),
        format=None if wanted_format == "auto" else wanted_format,
        delimiter=spec.delimiter,
    )


def project_name(source: str) -> str:
    """A project name from a file's name: lower case, digits, dashes, a letter first, at most 40 characters."""
    parts = [part for part in source.rstrip("/").split("/") if part and not set(part) & set("*?[")]
    stem = parts[-1].split(".")[0] if parts else ""
    words = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")
    words = re.sub(r"^[^a-z]+", "", words)[:40].strip("-")
    return words or "project"


def _unreadable(sample: Sample, names: list[str]) -> float:
    return sum(sample.columns[name].unreadable for name in names) / sample.rows


# --- roles -----------------------------------------------------------------------------------------------------------
def _assign(roles: _Roles, column: Column, rows: int) -> None:
    name = column.name
    if column.kind is None:
        roles.excluded[name] = f"{column.values.type} cannot be used"
    elif column.kind == "tensor":
        roles.excluded[name] = "a block of numbers: declare its shape as features.image to use it"
    elif not column.present:
        roles.excluded[name] = "no values"
    elif column.distinct == 1 and not column.missing:
        roles.excluded[name] = "one value only"
    elif re.search(r"[\x00-\x1f]", name) or not name.strip():
        roles.excluded[name] = "a column needs a name"
    elif re.fullmatch(r"unnamed_\d+_*", name):
        roles.excluded[name] = "its name in the header is empty"
    elif column.kind == "timestamp":
        roles.datetime[name] = _parts(column)
    elif column.kind == "bool":
        roles.categorical[name] = {}
    elif column.kind == "string":
        _assign_text(roles, column)
    else:
        _assign_number(roles, column, rows)


def _assign_text(roles: _Roles, column: Column) -> None:
    name, unique = column.name, column.distinct / column.present
    lengths = pc.mean(pc.utf8_length(column.values)).as_py() or 0
    first = column.values.drop_null()[0].as_py()
    if column.distinct > 20 and _OTHER_DATE.match(first):
        roles.excluded[name] = f"dates in a form such as {first}: write them as YYYY-MM-DD to use them"
    elif column.distinct > 20 and (odd := misread(column)):
        roles.excluded[name] = odd
    elif column.present >= 20 and unique == 1:
        roles.excluded[name] = "a different value in every row: an identifier or free text"
    elif column.present >= 50 and unique > _NEARLY_UNIQUE:
        roles.excluded[name] = f"nearly unique ({column.distinct:,} values in {column.present:,} rows)"
    elif lengths > _LONG_TEXT:
        roles.excluded[name] = "long text"
    elif column.distinct > _MAX_VOCABULARY:
        if _is_id(name) or unique < 0.5:
            roles.entities.append(name)
        buckets = int(min(2 ** math.ceil(math.log2(column.distinct)), 16_384))
        roles.categorical[name] = {"encode": "hash", "buckets": buckets}
        roles.notes[name] = f"{column.distinct:,} values in the sample: hashed"
    else:
        if _is_id(name) and column.distinct >= _MIN_GROUPS:
            roles.entities.append(name)
        roles.categorical[name] = {}


def _assign_number(roles: _Roles, column: Column, rows: int) -> None:
    name = column.name
    whole = column.kind == "int" or is_whole(column.values)
    unique = column.distinct / column.present
    if whole and unique == 1 and column.present >= 20 and (_is_id(name) or _consecutive(column.values)):
        roles.excluded[name] = "a different number in every row: an identifier or a row number"
    elif whole and _is_id(name) and column.distinct > max(_MAX_CODES, _MIN_GROUPS):
        roles.entities.append(name)
        roles.excluded[name] = f"an identifier by its name ({column.distinct:,} values): no number to compute with"
    elif whole and (column.distinct == 2 or (_CODE_NAME.search(name) and column.distinct <= _MAX_VOCABULARY)):
        roles.categorical[name] = {}
        if column.distinct > 2:
            roles.notes[name] = f"whole numbers used as codes ({column.distinct:,} values), by the name"
    else:
        roles.numeric.append(name)
    if column.missing == rows:
        roles.drop(name, "no values")


def _consecutive(values: pa.Array) -> bool:
    low, high = pc.min_max(values).as_py().values()
    return bool(high - low + 1 <= 1.02 * len(values)) or bool(
        pc.all(pc.equal(pc.pairwise_diff(values.drop_null()).drop_null(), 1)).as_py()
    )


def _is_id(name: str) -> bool:
    return bool(_ID_NAME.search(name) or _ID_CAMEL.search(name))


def _parts(column: Column) -> tuple[str, ...]:
    values = column.values.cast(pa.timestamp("us")).drop_null()
    hours = pc.count_distinct(pc.hour(values)).as_py()
    low, high = pc.min_max(values).as_py().values()
    parts = ["hour"] if hours > 1 else []
    parts.append("weekday")
    # A part that the future has and the past has not is noise: months only when every month was seen.
    if (high - low).days >= 365:
        parts.append("month")
    return tuple(parts)


# --- leaks -----------------------------------------------------------------------------------------------------------
def _leave_out_leaks(
    roles: _Roles, sample: Sample, labels: Labels, labelled: np.ndarray, label: str
) -> dict[str, float]:
    """Drop features that know the answer, unless so many do that the label is simply easy. Those stay, and so do those
    just below the bound; all of them are allowed by name. Returns the allowed ones with their score."""
    allowed: dict[str, float] = {}
    # Again after each removal: a pair of features is only looked at when neither of them is suspicious by itself.
    for _ in range(4):
        if not roles.names():
            break
        near, above = (_scan(roles, sample, labels, labelled, bound, list(allowed)) for bound in _BOUNDS)
        if not near and not above:
            break
        if allowed or len(above) > max(3, len(roles.names()) // 4):
            allowed |= {name: finding.score for name, finding in (near | above).items()}
            continue
        allowed |= {name: finding.score for name, finding in near.items() if name not in above}
        for name, finding in above.items():
            related = "; its name is like the label's" if _related(name, label) else ""
            roles.drop(
                name,
                f"may only be known afterwards: {finding.why}{related}; if it is known in time, add it to features and "
                "to data.leaks.allow",
            )
    return {name: score for name, score in allowed.items() if name in roles.names()}


def _scan(
    roles: _Roles, sample: Sample, labels: Labels, labelled: np.ndarray, max_auc: float, allow: list[str]
) -> dict[str, LeakFinding]:
    """The severe findings that are not allowed, by feature."""
    features = Features.model_validate(
        {
            "numeric": roles.numeric,
            "categorical": list(roles.categorical),
            "datetime": {name: {"parts": parts} for name, parts in roles.datetime.items()},
        }
    )
    rows = pa.array(labelled)
    table = pa.table({name: sample.columns[name].values.filter(rows) for name in roles.names()})
    missing = {}
    for name in roles.names():
        gone = np.asarray(sample.columns[name].values.is_null().to_numpy(zero_copy_only=False))
        missing[name] = MissingCounts(
            int(labelled.sum()), int(gone[labelled].sum()), int((~labelled).sum()), int(gone[~labelled].sum())
        )
    findings = scan_leaks(table, labels.codes, features, labels.task, missing=missing, max_auc=max_auc, allow=allow)
    return {finding.feature: finding for finding in findings if finding.severe and not finding.allowed}


def _related(name: str, label: str) -> bool:
    a, b = (re.sub(r"[^a-z0-9]", "", word.lower()) for word in (name, label))
    return len(b) >= 3 and (a in b or b in a)


# --- split -----------------------------------------------------------------------------------------------------------
def _time_candidates(sample: Sample, roles: _Roles) -> list[str]:
    """Columns that could say when a row was known, the likeliest first."""
    candidates = []
    for name in roles.datetime:
        column = sample.columns[name]
        low, high = pc.min_max(column.values.cast(pa.timestamp("us"))).as_py().values()
        if column.missing or column.distinct < 20 or (high - low).days < 7 or _NOT_THE_TIME.search(name):
            continue
        candidates.append((not _TIME_NAME.search(name), -column.distinct, name))
    return [name for _, _, name in sorted(candidates)]


def _split(
    sample: Sample, roles: _Roles, labels: Labels, labelled: np.ndarray, times: list[str]
) -> tuple[str | None, str, str]:
    """(entity, by, why)."""
    if times:
        problem = _time_split_problem(sample.columns[times[0]], labels, labelled)
        if not problem:
            return None, "time", "train on the past, validate and test on what came after"
        return None, _plain_split(labels), f"not by time ({times[0]}), because {problem}"
    for name in roles.entities:
        column = sample.columns[name]
        if not _is_id(name) or column.missing or roles.names() == [name]:
            continue
        if column.distinct >= _MIN_GROUPS and column.present >= 2 * column.distinct:
            return name, "group", f"rows of one {name} stay on one side, so that the test has new ones"
    if labels.task == "regression":
        return None, "random", "no column says when a row was known"
    return None, _plain_split(labels), "no column says when a row was known; each class keeps its share"


def _plain_split(labels: Labels) -> str:
    return "random" if labels.task == "regression" else "stratified"


def _time_split_problem(column: Column, labels: Labels, labelled: np.ndarray) -> str:
    """Why the last fifths of the sample in time order could not validate and test; "" when they can."""
    order = np.argsort(column.values.filter(pa.array(labelled)).cast(pa.timestamp("us")).to_numpy(zero_copy_only=False))
    codes = labels.codes[order]
    cuts = int(len(codes) * 0.6), int(len(codes) * 0.8)
    parts = (codes[: cuts[0]], codes[cuts[0] : cuts[1]], codes[cuts[1] :])
    if min(map(len, parts)) < 10:
        return "too few rows"
    if labels.task != "regression":
        classes = range(len(labels.classes))
        if any((part == number).sum() < 3 for part in parts for number in classes):
            return "a part of it would lack a class"
    return ""


def _slices(roles: _Roles, sample: Sample) -> tuple[str, ...]:
    few = [n for n, options in roles.categorical.items() if not options and 2 <= sample.columns[n].distinct <= 12]
    return tuple(few[:2])
