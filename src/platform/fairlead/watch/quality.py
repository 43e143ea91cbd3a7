"""Quality of what was served, from labels that arrive later: the request log joined with feedback by request id.

The rule for labels: the first label of a request counts, in the order of their times. A later one is a duplicate when
it says the same, and changed when it says something else; both are counted and neither is used, as the serving
evidence does it. A label that arrives more than `max_delay_seconds` after its request is late: counted, not used. A
label without a request in the log is unknown. Answers of the fallback and failed requests are nobody's predictions
and are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy import stats

from fairlead.errors import DataError

_REQUEST_COLUMNS = ("request_id", "time", "arm", "version", "digest", "status", "fallback", "score", "label")
_FEEDBACK_COLUMNS = ("request_id", "label", "time")
_FIRST_ERROR_STATUS = 400


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """What became of the labels: `used` joined with a prediction, the rest not."""

    used: int
    duplicate: int
    changed: int
    late: int
    unknown: int


@dataclass(frozen=True, slots=True)
class QualityPoint:
    """One arm's model in one window of time, which begins at `start` (seconds since 1970, UTC). `predictions` were
    made in the window, `labelled` of them have a label by now; metrics are over these, None (with `why`) where they
    have no value. `loss` is the Brier score, or the squared error of a regression; `accuracy` the share of right
    labels."""

    start: float
    arm: str
    version: int
    digest: str
    predictions: int
    labelled: int
    accuracy: float | None
    loss: float | None
    auc: float | None
    label_rate: float | None
    why: str = ""


@dataclass(frozen=True)
class Joined:
    """Predictions with their labels: a table with the columns of the request log and `actual` (null without a
    label)."""

    table: pa.Table
    counts: LabelCounts


def join_feedback(requests: pa.Table, feedback: pa.Table, max_delay_seconds: float | None = None) -> Joined:
    """Join by the rule at the head of this module. Raises DataError when a needed column is missing."""
    _need(requests, _REQUEST_COLUMNS, "the request log")
    _need(feedback, _FEEDBACK_COLUMNS, "the feedback log")
    served = requests.filter(
        pc.and_(
            pc.less(pc.fill_null(requests["status"], _FIRST_ERROR_STATUS), _FIRST_ERROR_STATUS),
            pc.invert(pc.fill_null(requests["fallback"], False)),
        )
    )
    # A client may send an id twice; the first answer is the one that its label is about.
    served = _first(served.sort_by("time"))
    labels = feedback.select(list(_FEEDBACK_COLUMNS)).rename_columns(["request_id", "actual", "labelled_at"])
    labels = labels.filter(pc.is_valid(labels["actual"])).sort_by("labelled_at")
    known = labels.filter(pc.is_in(labels["request_id"], value_set=pc.unique(served["request_id"])))
    first = _first(known)
    repeated = known.num_rows - first.num_rows
    changed = _changed(known, first)
    joined = served.join(first, "request_id", join_type="left outer").sort_by("time")
    late = pa.array([False] * joined.num_rows)
    if max_delay_seconds is not None:
        delay = np.asarray(_seconds(joined["labelled_at"]) - _seconds(joined["time"]))
        late = pa.array(np.nan_to_num(delay, nan=0.0) > max_delay_seconds)
        actual = pc.if_else(late, pa.scalar(None, joined["actual"].type), joined["actual"])
        joined = joined.set_column(joined.schema.get_field_index("actual"), "actual", actual)
    num_late = int(np.sum(late.to_numpy(zero_copy_only=False)))
    counts = LabelCounts(
        used=joined.num_rows - joined["actual"].null_count,
        duplicate=repeated - changed,
        changed=changed,
        late=num_late,
        unknown=labels.num_rows - known.num_rows,
    )
    return Joined(joined.drop_columns(["labelled_at"]), counts)


def quality_over_time(
    joined: Joined, task: str, classes: Sequence[str] = (), period_seconds: float = 86_400.0
) -> tuple[QualityPoint, ...]:
    """One point for each arm, version and window of `period_seconds` (aligned to midnight UTC of 1970), in order of
    time. `classes` are the label's values in the order of the model's outputs; labels are compared as text,
    regardless of case. Raises DataError for a binary task without two classes, or a period that is not above 0."""
    if period_seconds <= 0:
        raise DataError("the period must be above 0 seconds")
    if task == "binary" and len(classes) != 2:
        raise DataError(f"a binary task has two classes, not {len(classes)}")
    table = joined.table
    if table.num_rows == 0:
        return ()
    window = np.floor(_seconds(table["time"]) / period_seconds) * period_seconds
    keys = list(
        zip(
            window.tolist(),
            table["arm"].to_pylist(),
            table["version"].to_pylist(),
            table["digest"].to_pylist(),
            strict=True,
        )
    )
    groups: dict[tuple[float, str, int, str], list[int]] = {}
    for row, key in enumerate(keys):
        groups.setdefault(key, []).append(row)
    points = [_point(key, table.take(rows), task, classes) for key, rows in groups.items()]
    return tuple(sorted(points, key=lambda point: (point.start, point.arm, point.version)))


def _point(key: tuple[float, str, int, str], rows: pa.Table, task: str, classes: Sequence[str]) -> QualityPoint:
    start, arm, version, digest = key
    known = rows.filter(pc.is_valid(rows["actual"]))
    actual = [str(value) for value in known["actual"].to_pylist()]
    scores = known["score"].cast(pa.float64()).to_numpy().astype(np.float64)
    if task == "regression":
        truth = np.array([_number(text) for text in actual], dtype=np.float64)
        usable = np.isfinite(truth) & np.isfinite(scores)
        loss = float(np.mean((scores - truth)[usable] ** 2)) if usable.any() else None
        why = "" if usable.any() else "no usable label yet"
        return QualityPoint(start, arm, version, digest, rows.num_rows, int(usable.sum()), None, loss, None, None, why)
    folded = [str(value).casefold() for value in classes]
    told = [str(value).casefold() for value in known["label"].to_pylist()]
    truths = [text.casefold() for text in actual]
    usable = np.array([text in folded for text in truths], dtype=bool) if folded else np.ones(len(truths), dtype=bool)
    if not usable.any():
        why = "no usable label yet"
        return QualityPoint(start, arm, version, digest, rows.num_rows, 0, None, None, None, None, why)
    right = np.array([a == b for a, b in zip(truths, told, strict=True)])[usable]
    labelled, accuracy = int(usable.sum()), float(right.mean())
    if task != "binary":
        return QualityPoint(start, arm, version, digest, rows.num_rows, labelled, accuracy, None, None, None)
    positive = np.array([text == folded[1] for text in truths], dtype=np.float64)[usable]
    kept = scores[usable]
    finite = np.isfinite(kept)
    loss = float(np.mean((kept - positive)[finite] ** 2)) if finite.any() else None
    auc, why = _auc(kept[finite], positive[finite])
    rate = float(positive.mean())
    return QualityPoint(start, arm, version, digest, rows.num_rows, labelled, accuracy, loss, auc, rate, why)


def _auc(scores: NDArray[np.float64], positive: NDArray[np.float64]) -> tuple[float | None, str]:
    """Mann and Whitney's share of pairs in the right order."""
    m = int(positive.sum())
    n = len(positive) - m
    if not m or not n:
        return None, "labels of one class only"
    ranks = stats.rankdata(scores)
    return float((ranks[positive == 1].sum() - m * (m + 1) / 2) / (m * n)), ""


def _first(table: pa.Table) -> pa.Table:
    """The first row of each request id, in the table's order."""
    ids = table["request_id"].combine_chunks()
    codes = np.asarray(pc.dictionary_encode(ids).indices.to_numpy(zero_copy_only=False))
    _, rows = np.unique(codes, return_index=True)
    return table.take(np.sort(rows))


def _changed(labels: pa.Table, first: pa.Table) -> int:
    """Labels that say something else than their request's first one."""
    kept = dict(zip(first["request_id"].to_pylist(), first["actual"].to_pylist(), strict=True))
    pairs = zip(labels["request_id"].to_pylist(), labels["actual"].to_pylist(), strict=True)
    return sum(kept[identity] != actual for identity, actual in pairs)


def _seconds(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """Seconds since 1970; NaN where missing."""
    stamps = column.cast(pa.timestamp("us", tz=column.type.tz)).cast(pa.int64())
    return np.asarray(stamps.to_numpy(), dtype=np.float64) / 1e6


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _need(table: pa.Table, columns: Sequence[str], what: str) -> None:
    missing = [column for column in columns if column not in table.column_names]
    if missing:
        raise DataError(f"{what} lacks the column {', '.join(missing)}", fix="give whole files of the log")
