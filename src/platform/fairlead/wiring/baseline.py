"""What was accepted, beside the schema file, and how the present data compare with it."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fairlead.atomic import write_atomic
from fairlead.clock import Clock, SystemClock
from fairlead.data.inference import Inferred, infer_schema
from fairlead.data.schema import Schema, load_schema, write_schema
from fairlead.data.schema_changes import accepted, schema_changes
from fairlead.data.sources import Source
from fairlead.data.suggestions import changed
from fairlead.data.windows import Window, read_windows
from fairlead.errors import SpecError, UsageError
from fairlead.records.codec import from_json, to_json
from fairlead.records.drift import Anomaly, Baseline, SchemaChange
from fairlead.watch.accepted_distance import beyond_distance
from fairlead.watch.baseline import anomalies, baseline_of, stale
from fairlead.wiring.context import Context
from fairlead.wiring.drift import feature_kinds

Progress = Callable[[str, float | None], None]

_ROWS = 20_000
# What is only a sign of another anomaly of its column, and which those are.
_SIGN_OF = {
    "first_negative": {"conversion", "factor", "offset", "sign", "logarithm", "swapped", "default_value"},
    "new_values": {"vocabulary", "spelling"},
}


@dataclass(frozen=True)
class SchemaDiff:
    """Where the present data disagree with the committed schema and with what was accepted (None: nothing was yet)."""

    schema: str
    baseline: str | None
    changes: tuple[SchemaChange, ...]
    anomalies: tuple[Anomaly, ...]


def baseline_path(context: Context) -> Path | None:
    """Beside the schema file: schema.yaml -> schema.baseline.json; None without a schema file."""
    name = context.project.data.validate_.schema_file
    return None if name is None else (context.base / name).with_suffix(".baseline.json")


def read_baseline(context: Context) -> Baseline | None:
    """What was accepted, or None. Raises SpecError for a file that cannot be read."""
    path = baseline_path(context)
    if path is None or not path.exists():
        return None
    try:
        return from_json(Baseline, path.read_bytes())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SpecError(
            f"{path.name} is no baseline",
            where=str(path),
            why=str(error),
            fix="write it again: fairlead data schema accept",
        ) from error


def present_anomalies(
    context: Context, schema: Schema, file_rows: Collection[int], newest: str = "", clock: Clock | None = None
) -> tuple[Anomaly, ...]:
    """The present data against the baseline, where there is one, and their age. Reads a sample again for the first."""
    now = (clock or SystemClock()).now()
    before, max_age = read_baseline(context), context.project.data.validate_.max_age
    bounds = {name: rule.max_distance for name, rule in schema.columns.items() if rule.max_distance is not None}
    if before is None and max_age is None and not bounds:
        return ()
    current = _current(context, schema, file_rows, now.isoformat())
    found = anomalies(before, current) if before is not None else ()
    return (
        *stale(newest or current.newest, max_age, now),
        *(_with_unit(one, schema) for one in found),
        *beyond_distance(before, current, bounds),
    )


def never_negative(context: Context, schema: Schema) -> dict[str, int]:
    """The columns of numbers that had no value below 0 when they were accepted, with how many values they had; those
    whose schema refuses negative values anyway are left out."""
    before = read_baseline(context)
    found = {}
    for name, column in (before.columns if before is not None else {}).items():
        rule = schema.columns.get(name)
        refused = rule is not None and rule.min is not None and rule.min >= 0
        numbers = rule is not None and rule.type in ("int", "float")
        if numbers and not refused and column.low is not None and column.low >= 0 and column.present:
            found[name] = column.present
    return found


def one_of_each(found: Iterable[Anomaly]) -> tuple[Anomaly, ...]:
    """Without first negative values and new values in columns where something is found that explains them."""
    listed = tuple(found)
    there = {(one.column, one.kind) for one in listed}
    return tuple(one for one in listed if not any((one.column, kind) in there for kind in _SIGN_OF.get(one.kind, ())))


def _with_unit(anomaly: Anomaly, schema: Schema) -> Anomaly:
    rule = schema.columns.get(anomaly.column)
    if rule is None or rule.unit is None:
        return anomaly
    return replace(anomaly, what=f"{anomaly.what} (the schema's unit is {rule.unit})")


def diff(context: Context, progress: Progress | None = None) -> SchemaDiff:
    """Changes that the schema would need for the present data, and anomalies. Raises UsageError without a schema."""
    path, schema = _schema(context)
    inferred = _inferred(context)
    before = read_baseline(context)
    found: tuple[Anomaly, ...] = ()
    if before is not None:
        found = anomalies(before, _current(context, schema, _file_rows(context), ""))
    where = baseline_path(context)
    return SchemaDiff(
        path.name, where.name if before is not None and where else None, schema_changes(schema, inferred), found
    )


def accept(context: Context, columns: Collection[str] = (), clock: Clock | None = None) -> SchemaDiff:
    """Write the schema that the present data fit (changed in `columns` only, where given) and a new baseline; returns
    what was accepted. Comments in the schema file are written anew."""
    path, schema = _schema(context)
    inferred = _inferred(context)
    unknown = [name for name in columns if name not in schema.columns and name not in inferred.schema.columns]
    if unknown:
        raise UsageError(
            f"there is no column {unknown[0]}", where="--column", fix="name a column of the schema or the data"
        )
    before, told = read_baseline(context), diff(context)
    fitting = accepted(schema, inferred, columns)
    if fitting != schema:
        write_schema(path, fitting, _title(context), {k: v for k, v in inferred.notes.items() if k in fitting.columns})
    now = (clock or SystemClock()).now().isoformat()
    current = _with_lows(_current(context, fitting, _file_rows(context), now), inferred)
    if columns and before is not None:
        kept = {k: v for k, v in before.columns.items() if k not in columns}
        current = Baseline(
            now,
            current.rows,
            kept | {k: v for k, v in current.columns.items() if k in columns or k not in kept},
            current.file_rows,
            current.newest,
        )
    where = baseline_path(context)
    if where is not None:
        write_atomic(where, to_json(current, indent=False))
    changes = tuple(one for one in told.changes if not columns or one.column in columns)
    found = tuple(one for one in told.anomalies if not columns or one.column in columns)
    return SchemaDiff(path.name, where.name if where else None, changes, found)


def _with_lows(baseline: Baseline, inferred: Inferred) -> Baseline:
    """With the smallest number of all rows, and about how many values that rests on."""
    columns = dict(baseline.columns)
    for name, column in columns.items():
        if name in inferred.ranges and column.shape:
            present = baseline.rows * (column.rows - column.missing) // max(1, column.rows)
            columns[name] = replace(column, low=inferred.ranges[name][0], present=present)
    return replace(baseline, columns=columns)


def accept_changes(context: Context, texts: Sequence[str]) -> SchemaDiff:
    """Write the schema with the changes that `texts` describe (`data.suggestions.changed`), without a look at the data;
    the baseline stays. Raises UsageError for what is no change."""
    path, schema = _schema(context)
    fitting = schema
    for text in texts:
        fitting = changed(fitting, text)
    told = tuple(_told(schema, fitting))
    if fitting != schema:
        write_schema(path, fitting, _title(context), {})
    where = baseline_path(context)
    return SchemaDiff(path.name, where.name if where and where.exists() else None, told, ())


def _told(before: Schema, after: Schema) -> Iterator[SchemaChange]:
    for name, rule in before.columns.items():
        if name not in after.columns:
            yield SchemaChange(name, "column", rule.type, "absent")
            continue
        now = after.columns[name]
        for key in type(rule).model_fields:
            if getattr(rule, key) != getattr(now, key):
                yield SchemaChange(name, key, str(getattr(rule, key)), str(getattr(now, key)))


def _title(context: Context) -> str:
    return f"What each column of {context.project.project} must be. Accepted with `fairlead data schema accept`."


def _schema(context: Context) -> tuple[Path, Schema]:
    name = context.project.data.validate_.schema_file
    if name is None or not (context.base / name).exists():
        raise UsageError(
            "there is no schema to compare with",
            where="data.validate.schema",
            fix="name a file there and run fairlead data validate, which writes it",
        )
    return context.base / name, load_schema(context.base / name)


def _inferred(context: Context) -> Inferred:
    data = context.project.data
    instants = [*context.project.features.datetime, *([data.time] if data.time else [])]
    return infer_schema(Source(data, context.base), never_bounded=[data.label.column], instants=instants)


def _current(context: Context, schema: Schema, file_rows: Collection[int], now: str) -> Baseline:
    project = context.project
    (rows,) = read_windows(project, context.base, schema, [Window("all")], most_rows=_ROWS)
    kinds = feature_kinds(context, schema)
    return baseline_of(rows.table, kinds, rows.total, tuple(file_rows), project.data.time, now)


def _file_rows(context: Context) -> tuple[int, ...]:
    source = Source(context.project.data, context.base)
    return tuple(footer.num_rows for footer in source.metadata)
