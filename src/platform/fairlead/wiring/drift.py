"""`fairlead data drift`: rows of two windows, or of days; what features weigh in the champion."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairlead.bundle.predictor import Predictor
from fairlead.clock import SystemClock
from fairlead.data.anomalies import describe
from fairlead.data.bounds import volume
from fairlead.data.labels import unlabelled
from fairlead.data.schema import Schema
from fairlead.data.windows import Window, WindowRows, read_windows, window_schema
from fairlead.errors import UsageError
from fairlead.features.categories import category_array
from fairlead.features.encoders import numbers_of_array
from fairlead.records.drift import DriftOverTime, WindowDrift
from fairlead.watch.baseline import stale
from fairlead.watch.links import moved_links
from fairlead.watch.over_time import watch_days
from fairlead.watch.shift_kind import tell_shift
from fairlead.watch.windows import Judgement, compare_windows
from fairlead.wiring.context import Context
from fairlead.wiring.models import champion_bundle

Progress = Callable[[str, float | None], None]

_IMPORTANCE_ROWS = 2000
_ROWS_A_DAY = 2000


@dataclass(frozen=True)
class Compared:
    """What was found, and the rows that it rests on."""

    drift: WindowDrift
    reference: pa.Table
    live: pa.Table


def compare(
    context: Context, reference: Window, live: Window, live_source: str | None = None, progress: Progress | None = None
) -> Compared:
    """Two windows of `data.source`, or a window of it and one of `live_source`. Raises DataError, UsageError."""
    project, spec = context.project, context.project.watch.drift
    schema = window_schema(project, context.base)
    windows = [reference, live] if live_source is None else [reference]
    rows = read_windows(project, context.base, schema, windows, most_rows=spec.max_rows, progress=progress)
    if live_source is not None:
        rows += read_windows(
            project, context.base, schema, [live], source=live_source, most_rows=spec.max_rows, progress=progress
        )
    kinds = feature_kinds(context, schema)
    judgement = Judgement(distance=spec.max_distance, alarm=spec.false_alarm)
    weights, ranked_by = importance(context, rows[0].table)
    tables = rows[0].table, rows[1].table
    columns = compare_windows(*tables, kinds, judgement, weights)
    labels = _labels(context, rows)
    shift = tell_shift(*tables, labels, kinds, columns, judgement)
    sides = [_linked(table, kinds, side, project.data.label.column) for table, side in zip(tables, labels, strict=True)]
    links = moved_links(*sides, false_alarm=spec.false_alarm, least=spec.max_distance)
    drift = WindowDrift(
        reference=reference.text,
        live=live.text if live_source is None else f"{live_source}{'' if live.open else ' ' + live.text}",
        reference_rows=rows[0].total,
        live_rows=rows[1].total,
        sampled=any(one.total > one.table.num_rows for one in rows),
        ranked_by=ranked_by,
        columns=columns,
        shift=shift,
        links=links,
        warnings=() if live_source is None else _as_agreed(context, rows[1]),
    )
    return Compared(drift, *tables)


def _as_agreed(context: Context, live: WindowRows) -> tuple[str, ...]:
    """The number of rows and the age of another batch, where ``data.validate`` bounds them."""
    spec, time = context.project.data.validate_, context.project.data.time
    newest = pc.max(live.table[time]).as_py() if time in live.table.column_names else None
    text = newest.isoformat() if isinstance(newest, datetime) else ""
    return tuple(describe(one) for one in (*volume(spec, live.total), *stale(text, spec.max_age, SystemClock().now())))


def _linked(table: pa.Table, kinds: dict[str, str], label: np.ndarray | None, name: str) -> dict[str, np.ndarray]:
    """The columns between which links are compared: numbers, and the label."""
    found = {
        column: numbers_of_array(table[column].combine_chunks(), column)
        for column, kind in kinds.items()
        if kind in ("int", "float") and column in table.column_names
    }
    return found if label is None else {**found, name: label}


def over_time(context: Context, until: np.datetime64, progress: Progress | None = None) -> DriftOverTime:
    """The days of `data.source` from `until` on, against those before. Raises DataError, UsageError."""
    project, spec = context.project, context.project.watch.drift
    if project.data.time is None:
        raise UsageError("days need a time", where="data.time", fix="name the column in data.time")
    schema = window_schema(project, context.base)
    (rows,) = read_windows(
        project, context.base, schema, [Window("all")], most_rows=_ROWS_A_DAY, a_day=True, progress=progress
    )
    kinds = feature_kinds(context, schema)
    weekday = list(kinds) if spec.same_weekday == ("all",) else list(spec.same_weekday)
    unknown = [name for name in weekday if name not in kinds]
    if unknown:
        raise UsageError(
            f"{unknown[0]} is no feature", where="watch.drift.same_weekday", fix=f"name some of {', '.join(kinds)}"
        )
    return watch_days(
        rows.table,
        project.data.time,
        until,
        kinds,
        false_alarms_per_month=spec.false_alarms_per_month,
        same_weekday=weekday,
    )


def feature_kinds(context: Context, schema: Schema) -> dict[str, str]:
    """Feature -> kind, as comparisons take it: a category of any type is a string; images are left out."""
    features = context.project.features
    kinds = {name: schema.columns[name].type for name in features.names() if name in schema.columns}
    kinds |= {name: "string" for name in features.categorical if name in kinds}
    kinds |= {name: "float" for name in features.numeric if name in kinds}
    return {name: kind for name, kind in kinds.items() if kind != "tensor" and name not in features.text}


def importance(context: Context, rows: pa.Table) -> tuple[dict[str, float] | None, str]:
    """(how much the champion's score changes on average when a feature's values are exchanged among rows (permutation
    importance; Breiman 2001, "Random forests"), what the ranking rests on). None without a champion."""
    loaded = champion_bundle(context)
    if loaded is None:
        return None, "distance alone: there is no champion whose features could be weighed"
    predictor = Predictor(loaded.bundle)
    chosen = np.random.default_rng(7).permutation(rows.num_rows)[:_IMPORTANCE_ROWS]
    sample = rows.take(pa.array(np.sort(chosen)))
    fields = [name for name in loaded.bundle.statistics.columns if name in sample.column_names]
    before = predictor.predict_table(sample).scores
    weights: dict[str, float] = {}
    for number, name in enumerate(fields):
        order = np.random.default_rng([7, number]).permutation(sample.num_rows)
        column = sample[name].combine_chunks().take(pa.array(order))
        changed = sample.set_column(sample.column_names.index(name), name, column)
        weights[name] = float(np.abs(predictor.predict_table(changed).scores - before).mean())
    return (
        weights,
        f"impact on version {loaded.version}: mean change of its score when the feature is shuffled, x distance",
    )


def _labels(context: Context, rows: list[WindowRows]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """1 and 0 for each row, NaN without a label: the positive class, the most frequent class of many, or whether a
    number is above the reference's median."""
    label = context.project.data.label
    columns = [
        one.table[label.column].combine_chunks() if label.column in one.table.column_names else None for one in rows
    ]
    first = columns[0]
    if first is None or columns[1] is None:
        return None, None
    positive = label.positive
    if label.task == "regression" or (pa.types.is_floating(first.type) and positive is None):
        middle = pc.approximate_median(first).as_py()
        return _as_numbers(first, pc.greater(first, middle)), _as_numbers(columns[1], pc.greater(columns[1], middle))
    texts = [category_array(column) for column in columns if column is not None]
    if positive is None:
        found = sorted(pc.value_counts(texts[0].drop_null()).to_pylist(), key=lambda i: (-i["counts"], i["values"]))
        chosen = found[0]["values"] if found else ""
    else:
        chosen = category_array(pa.array([positive]))[0].as_py()
    return _as_numbers(first, pc.equal(texts[0], chosen)), _as_numbers(columns[1], pc.equal(texts[1], chosen))


def _as_numbers(column: pa.Array, truth: pa.Array) -> np.ndarray:
    numbers = np.asarray(truth.fill_null(False).to_numpy(zero_copy_only=False), np.float64)
    numbers[unlabelled(column)] = np.nan
    return numbers
