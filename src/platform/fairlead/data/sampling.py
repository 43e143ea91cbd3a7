"""A bounded sample of a source as typed columns, spread over its files: enough to say what each column is."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from fairlead.data.readers import RawBatch, Task
from fairlead.data.sources import Source
from fairlead.data.text_values import likely_kind, parse_text
from fairlead.errors import EmptyData
from fairlead.features.kinds import kind_of

MAX_ROWS = 60_000
_MAX_FILES = 8
_MAX_TASKS = 8
_MAX_TEXT_TASKS = 24


@dataclass(frozen=True)
class Column:
    """One column of the sample. `values` has the type of `kind` (None: a type that cannot be used); NaN is missing.
    `as_text` is True when a file format without types (CSV) or a string column of the file held it;
    `unreadable` of its texts are no `kind` and count as missing here."""

    name: str
    kind: str | None
    values: pa.Array
    as_text: bool
    missing: int
    distinct: int
    unreadable: int = 0

    @property
    def present(self) -> int:
        """Values that are there."""
        return len(self.values) - self.missing


@dataclass(frozen=True)
class Sample:
    """`rows` of the sample, and of the source: exact, or an estimate from sizes."""

    columns: dict[str, Column]
    rows: int
    total_rows: int
    exact: bool


def take_sample(source: Source) -> Sample:
    """Up to 60,000 rows from up to 8 files, spread over each file (of a large text file its first part).

    Raises EmptyData, SourceUnreadable."""
    step = max(1, -(-len(source.files) // _MAX_FILES))
    chosen = list(range(0, len(source.files), step))
    per_file = MAX_ROWS // len(chosen)
    parts: list[pa.RecordBatch] = []
    seen = complete = 0
    for number in chosen:
        batches, rows, whole = _of_file(source, number, per_file)
        parts += batches
        seen += rows
        complete += whole
    if not seen:
        raise EmptyData("the source has no rows", where=source.files[0].uri, fix="name a file with data")
    everything = complete == len(source.files)
    total = source.num_rows if source.num_rows is not None else _estimate(source, chosen, seen, everything)
    rows = sum(part.num_rows for part in parts)
    return Sample(_columns(source, parts, rows), rows, total, everything or source.num_rows is not None)


def _of_file(source: Source, number: int, limit: int) -> tuple[list[pa.RecordBatch], int, bool]:
    """Batches of one file, the rows that were read, and whether that was all of it."""
    tasks: list[Task] = []
    whole = True
    for task in source.tasks(only=number):
        if len(tasks) >= (10_000 if source.typed else _MAX_TEXT_TASKS):
            whole = False
            break
        tasks.append(task)
    if source.typed and len(tasks) > _MAX_TASKS:
        whole = False
        tasks = [tasks[i * (len(tasks) - 1) // (_MAX_TASKS - 1)] for i in range(_MAX_TASKS)]
    quota = max(limit // max(len(tasks), 1), 1)
    batches: list[pa.RecordBatch] = []
    rows = 0
    for task in tasks:
        raws: list[RawBatch] = task()
        size = sum(raw.batch.num_rows for raw in raws)
        rows += size
        stride = max(1, -(-size // quota))
        batches += [
            raw.batch.take(pa.array(range(0, raw.batch.num_rows, stride))) for raw in raws if raw.batch.num_rows
        ]
    return batches, rows, whole


def _estimate(source: Source, chosen: list[int], seen: int, exact: bool) -> int:
    if exact:
        return seen
    read = sum(source.files[number].size_bytes for number in chosen)
    return round(seen * sum(file.size_bytes for file in source.files) / max(read, 1))


def _columns(source: Source, parts: list[pa.RecordBatch], rows: int) -> dict[str, Column]:
    names = list(dict.fromkeys(name for part in parts for name in part.schema.names))
    untyped = {
        name for number in range(min(len(source.files), _MAX_FILES))
        for name, arrow in source.columns_of(number).items() if arrow is None
    }  # fmt: skip
    return {name: _column(name, parts, rows, not source.typed or name in untyped) for name in names}


def _column(name: str, parts: list[pa.RecordBatch], rows: int, untyped: bool) -> Column:
    arrays = []
    for part in parts:
        index = part.schema.get_field_index(name)
        arrays.append(part.column(index) if index >= 0 else pa.nulls(part.num_rows))
    values = _one_type(arrays)
    kind = "string" if pa.types.is_null(values.type) else kind_of(values.type)
    as_text = kind == "string"
    unreadable = 0
    if as_text and not pa.types.is_null(values.type):
        text = values.cast(pa.string())
        likely = likely_kind(text)
        # Typed files mean it when they say string, but for points in time, which many tools write as text.
        kind = likely if untyped or likely == "timestamp" else "string"
        values, bad = parse_text(text, kind)
        unreadable = int(bad.sum())
    if kind == "float":
        values = values.cast(pa.float64())
        # Validation refuses rows with an infinite number; here they are missing.
        unreadable += int(pc.sum(pc.is_inf(values)).as_py() or 0)
        values = pc.if_else(pc.is_finite(values).fill_null(False), values, None)
    countable = kind not in (None, "tensor") and not pa.types.is_null(values.type)
    distinct = pc.count_distinct(values).as_py() if countable else 0
    return Column(name, kind, values, as_text, values.null_count, distinct, unreadable)


def _one_type(arrays: list[pa.Array]) -> pa.Array:
    arrays = [array.dictionary_decode() if pa.types.is_dictionary(array.type) else array for array in arrays]
    types = {array.type for array in arrays if not pa.types.is_null(array.type)}
    if not types:
        return pa.nulls(sum(map(len, arrays)))
    if len(types) == 1:
        target = types.pop()
    elif all(kind_of(found) in ("int", "float") for found in types):
        target = pa.float64()
    else:
        target = pa.string()
    try:
        return pa.concat_arrays([array.cast(target) for array in arrays])
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.nulls(sum(map(len, arrays)))
