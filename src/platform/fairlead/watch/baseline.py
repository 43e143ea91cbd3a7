"""Data against what somebody accepted: units, vocabularies, default values, missing values, volume, freshness.

A baseline is a few hundred numbers a column, committed beside the schema. It judges no drift: months differ. It names
what makes of one column another thing (`cause`), whatever the season.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairlead.features.categories import category_array
from fairlead.features.encoders import numbers_of_array
from fairlead.features.statistics import StatisticsBuilder
from fairlead.records.data import ColumnStatistics
from fairlead.records.drift import Anomaly, Baseline, BaselineColumn
from fairlead.watch.cause import Cause, cause_of, moved_hours
from fairlead.watch.cause_numbers import explain_numbers, sampling_noise, shape_of_sample
from fairlead.watch.cause_values import Counts, explain_values
from fairlead.watch.distance import CYCLES, MISSING, cumulative_distance

_TOP = 500
_LEAST_ROWS = 100
_MISSING_SURGE = 0.05
_HOURS_APART = 0.1
_VOLUME = 3.0
_FEW_VALUES = 3
_SEVERE = frozenset(
    {"conversion", "factor", "offset", "sign", "logarithm", "time_zone", "vocabulary", "spelling", "swapped"}
)


def baseline_of(
    rows: pa.Table, kinds: Mapping[str, str], total: int, file_rows: Sequence[int], time: str | None, now: str
) -> Baseline:
    """What `rows`, a sample of `total` rows, look like. `kinds`: column -> int, float, string, bool, timestamp."""
    columns = {name: _column(rows, name, kind) for name, kind in kinds.items() if name in rows.column_names}
    newest = pc.max(rows[time]).as_py() if time in rows.column_names else None
    return Baseline(now, total, columns, tuple(file_rows), newest.isoformat() if isinstance(newest, datetime) else "")


def anomalies(baseline: Baseline, current: Baseline) -> tuple[Anomaly, ...]:
    """What is not as it was accepted, the severe first."""
    found: list[Anomaly] = []
    for name, before in baseline.columns.items():
        now = current.columns.get(name)
        if now is not None and min(now.rows - now.missing, before.rows - before.missing) >= _LEAST_ROWS:
            found += _of_column(name, before, now)
        if now is not None:
            found += _missing(name, before, now)
    found += _volume(baseline.file_rows, current.file_rows)
    return tuple(sorted(found, key=lambda one: (not one.severe, -(one.share or 0.0), one.column)))


def stale(newest: str, max_age_seconds: float | None, now: datetime) -> tuple[Anomaly, ...]:
    """The newest row is older than is allowed. `newest`: ISO 8601, without a zone it is UTC."""
    if max_age_seconds is None or not newest:
        return ()
    moment = datetime.fromisoformat(newest)
    age = (now - (moment if moment.tzinfo else moment.replace(tzinfo=now.tzinfo))).total_seconds()
    if age <= max_age_seconds:
        return ()
    what = f"the newest row is {age / 86400:.1f} days old, {max_age_seconds / 86400:.1f} are allowed"
    return (Anomaly("", "freshness", True, None, what, (newest,), "look at what delivers the data"),)


def _column(rows: pa.Table, name: str, kind: str) -> BaselineColumn:
    array = rows[name].combine_chunks()
    if kind in ("int", "float"):
        values = np.empty(0) if pa.types.is_null(array.type) else numbers_of_array(array, name)
        values = values[np.isfinite(values)]
        shape = tuple(shape_of_sample(values).tolist()) if len(values) else ()
        return BaselineColumn(kind, len(array), len(array) - len(values), shape=shape)
    if kind in ("string", "bool"):
        texts = pa.array([], pa.string()) if pa.types.is_null(array.type) else category_array(array).drop_null()
        found = sorted(pc.value_counts(texts).to_pylist(), key=lambda item: (-item["counts"], item["values"]))
        top = {item["values"]: item["counts"] for item in found[:_TOP]}
        return BaselineColumn(kind, len(array), len(array) - len(texts), top=top)
    builder = StatisticsBuilder({name: "timestamp"}, parts={name: ("hour", "weekday")})
    builder.update(pa.table({name: array}))
    found_times = builder.finish().columns[name]
    return BaselineColumn(kind, len(array), found_times.missing, parts=found_times.parts)


def _of_column(name: str, before: BaselineColumn, now: BaselineColumn) -> Iterator[Anomaly]:
    present = before.rows - before.missing, now.rows - now.missing
    cause: Cause | None = None
    examples: tuple[str, ...] = ()
    if before.shape and now.shape:
        shapes = np.array(before.shape), np.array(now.shape)
        cause = cause_of(explain_numbers(*shapes, sampling_noise(*present)))
        examples = tuple(f"{value:g}" for value in np.quantile(shapes[1], [0.25, 0.5, 0.75]))
    elif before.top and now.top:
        cause = cause_of(explain_values(Counts(before.top, present[0]), Counts(now.top, present[1])))
        examples = tuple(repr(value) for value in now.top if value not in before.top)[:_FEW_VALUES]
    elif _hours_apart(before, now) >= _HOURS_APART:
        cause = moved_hours(_times(name, before), _times(name, now))
    if cause is not None:
        fix = "mend the source; or, when this is meant, accept it: fairlead data schema accept"
        text = f"against what was accepted, the values are {cause.text}"
        yield Anomaly(name, cause.kind, cause.kind in _SEVERE, 1.0, text, examples, fix)


def _hours_apart(before: BaselineColumn, now: BaselineColumn) -> float:
    if "hour" not in before.parts or "hour" not in now.parts:
        return 0.0
    return cumulative_distance(before.parts["hour"], now.parts["hour"], CYCLES["hour"][0])


def _times(name: str, column: BaselineColumn) -> ColumnStatistics:
    return ColumnStatistics(name, "timestamp", column.rows - column.missing, column.missing, 0, parts=column.parts)


def _missing(name: str, before: BaselineColumn, now: BaselineColumn) -> Iterator[Anomaly]:
    shares = [side.missing / max(1, side.rows) for side in (before, now)]
    surge = shares[1] - shares[0]
    if surge > max(_MISSING_SURGE, 3 * sampling_noise(before.rows, now.rows)):
        what = f"{shares[1]:.1%} of the values are missing, {shares[0]:.1%} were when it was accepted"
        fix = "look at what fills the column; or accept it: fairlead data schema accept"
        yield Anomaly(name, MISSING, shares[1] > 0.99, surge, what, (), fix)


def _volume(before: Sequence[int], now: Sequence[int]) -> Iterator[Anomaly]:
    """Files that hold far fewer or far more rows than the accepted ones did."""
    if not before or not now:
        return
    usual = float(np.median(before))
    low, high = min(min(before), usual / _VOLUME), max(max(before), usual * _VOLUME)
    odd = [rows for rows in now if not low <= rows <= high]
    if odd:
        what = f"{len(odd)} of {len(now)} files have {min(odd):,} to {max(odd):,} rows, {usual:,.0f} is usual"
        yield Anomaly("", "volume", False, len(odd) / len(now), what, (), "look at what delivers the data")
