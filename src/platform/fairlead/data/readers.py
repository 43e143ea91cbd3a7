"""Reading one file as record batches, with the row where each batch begins; here Parquet, which keeps its types.

CSV and JSON Lines (`csv_reader`, `json_reader`) are text: CSV columns stay strings and JSON values keep what JSON
knows, until the schema says what they are (see `checks`); one odd value then costs its row, not the file.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fairlead.data.locations import Location, unreadable
from fairlead.errors import DataError, SourceUnreadable

BATCH_ROWS = 131_072
WIDE_COLUMNS = 64
_BATCH_VALUES = WIDE_COLUMNS * BATCH_ROWS
_FEWEST_BATCH_ROWS = 8192
_GROUP_BYTES = 256 * 2**20
_DICTIONARY_BYTES = 2.5
_STREAMED_BYTES = 3
_VALUE_BYTES = 8
# What pyarrow raises for bytes that are not what they should be.
_DAMAGE = (OSError, pa.ArrowException, UnicodeDecodeError, OverflowError)


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """A row that has no columns at all: `row` counts from 1, `reason` is "columns", "json" or "key twice"."""

    row: int
    reason: str
    text: str


@dataclass(frozen=True)
class RawBatch:
    """Rows of one file. `start` counts the rows delivered before it, from 0, `before` the broken ones; `skipped` are
    the numbers of those amid its rows. With them the numbers of its rows are right."""

    file: int
    start: int
    batch: pa.RecordBatch
    broken: tuple[BrokenRow, ...] = ()
    skipped: Sequence[int] | np.ndarray = ()
    before: int = 0

    def row_numbers(self, positions: np.ndarray) -> np.ndarray:
        """Which rows of the file the rows at `positions` of this batch are, counting from 1: int64 [N]."""
        rows = positions.astype(np.int64) + self.start
        if len(self.skipped):
            gaps = np.asarray(self.skipped, np.int64) - 1 - self.before - np.arange(len(self.skipped))
            rows = rows + np.searchsorted(gaps, rows, side="right")
        return rows + self.before + 1


class Skips:
    """The numbers of broken rows, forgotten once batches have stepped over them."""

    def __init__(self) -> None:
        self._rows = array("q")
        self._before = 0

    def add(self, row: int) -> None:
        """Rows come in order."""
        self._rows.append(row)

    def of(self, start: int, count: int) -> tuple[np.ndarray, int]:
        """(`skipped`, `before`) of a batch of `count` rows."""
        rows = np.array(self._rows, np.int64)
        good_before = rows - 1 - self._before - np.arange(len(rows))
        passed, end = np.searchsorted(good_before, [start, start + count], side="left").tolist()
        self._before += passed
        self._rows = array("q", rows[passed:].tolist())
        return rows[passed:end], self._before


Task = Callable[[], list[RawBatch]]


def batch_rows(columns: int) -> int:
    """Rows of a batch of so many columns: `BATCH_ROWS`, and of wide tables (more than `WIDE_COLUMNS` columns) a power
    of two that leaves a batch with about as many values as one of 64 columns has, but not fewer than 8,192 rows."""
    fitting = _BATCH_VALUES // max(columns, 1)
    return min(BATCH_ROWS, max(_FEWEST_BATCH_ROWS, 1 << fitting.bit_length() - 1 if fitting else 0))


# --- Parquet ---------------------------------------------------------------------------------------------------------
def parquet_metadata(location: Location) -> pq.FileMetaData:
    """The footer. Raises SourceUnreadable when the file is truncated or no Parquet file."""
    try:
        with location.filesystem.open_input_file(location.path) as source:
            return pq.read_metadata(source)
    except (FileNotFoundError, PermissionError) as error:
        raise unreadable(location, error) from error
    except _DAMAGE as error:
        if not isinstance(refusal := unreadable(location, error), SourceUnreadable):
            raise refusal from error
        raise SourceUnreadable(
            f"{location.uri} is not a whole Parquet file",
            where=location.uri,
            why=str(error).split("\n")[0],
            fix=refusal.fix,
        ) from error


def parquet_schema(location: Location, metadata: pq.FileMetaData) -> pa.Schema:
    """The columns. Raises SourceUnreadable when they cannot be told apart or not be read."""
    try:
        schema = metadata.schema.to_arrow_schema()
        names = list(schema.names)
    except _DAMAGE as error:
        raise SourceUnreadable(
            f"the columns of {location.uri} cannot be read",
            where=f"{location.uri}, footer",
            why=str(error).split("\n")[0],
            fix="copy or write the file again",
        ) from error
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise SourceUnreadable(
            f"{location.uri} has columns without a name of their own",
            where=f"{location.uri}, footer",
            why=f"twice: {', '.join(twice[:20])}",
            fix="write the file again, each column with its own name",
        )
    return schema


def parquet_tasks(
    location: Location,
    number: int,
    metadata: pq.FileMetaData,
    columns: Sequence[str] | None,
    *,
    dictionaries: bool = False,
) -> Iterator[Task]:
    """Tasks that each read some neighbouring row groups; those too large for memory, and of wide tables those of more
    than one batch, are read as the tasks are asked for, one batch a task.

    With `dictionaries` text of few different values stays as the file has it, a dictionary and indices: six times
    faster to read, and the values are looked at once."""
    encoded = _encoded_columns(metadata) if dictionaries else ()
    width = metadata.num_columns if columns is None else len(columns)
    most = batch_rows(width)
    start = 0
    groups: list[int] = []
    rows = size = 0
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        apart = read_apart(group, width)
        # Of a wide table a task is one batch: what is found out about it waits for its turn.
        if groups and (apart or (width > WIDE_COLUMNS and rows + group.num_rows > most)):
            yield _groups_task(location, number, metadata, columns, groups, start, encoded)
            start, groups, rows, size = start + rows, [], 0, 0
        if apart:
            if _streaming_is_less(group, width):
                yield from _streamed(location, number, metadata, columns, index, start, encoded)
            else:
                yield from _cut(_groups_task(location, number, metadata, columns, [index], start, encoded))
            start += group.num_rows
            continue
        groups.append(index)
        rows, size = rows + group.num_rows, size + group.total_byte_size
        if rows >= most or size > _GROUP_BYTES // 4:
            yield _groups_task(location, number, metadata, columns, groups, start, encoded)
            start, groups, rows, size = start + rows, [], 0, 0
    if groups:
        yield _groups_task(location, number, metadata, columns, groups, start, encoded)


def read_apart(group: pq.RowGroupMetaData, columns: int) -> bool:
    """Is the row group read as its tasks are asked for? Then later ones cost the earlier ones."""
    beyond: bool = group.total_byte_size > _GROUP_BYTES
    return beyond or (columns > WIDE_COLUMNS and group.num_rows > batch_rows(columns))


def bytes_apart(group: pq.RowGroupMetaData, columns: int) -> int:
    """About how much of a row group that is read apart is held meanwhile, as it is encoded or decoded."""
    size: int = group.total_byte_size
    return size * _STREAMED_BYTES if _streaming_is_less(group, columns) else group.num_rows * columns * _VALUE_BYTES


def _streaming_is_less(group: pq.RowGroupMetaData, columns: int) -> bool:
    """Streaming holds each column's encoded bytes, its dictionary and a page; reading at once what is decoded."""
    decoded: int = group.num_rows * columns * _VALUE_BYTES
    return columns <= WIDE_COLUMNS or group.total_byte_size * _STREAMED_BYTES < decoded


def _cut(read: Task) -> Iterator[Task]:
    for raw in read():
        yield lambda raw=raw: [raw]  # type: ignore[misc]


def _groups_task(
    location: Location,
    number: int,
    metadata: pq.FileMetaData,
    columns: Sequence[str] | None,
    groups: Sequence[int],
    start: int,
    encoded: Sequence[str],
) -> Task:
    names = None if columns is None else list(columns)
    most = batch_rows(metadata.num_columns if columns is None else len(columns))

    def read() -> list[RawBatch]:
        done: list[pa.Table] = []
        with _opened(location, metadata, encoded) as file:
            try:
                table = file.read_row_groups(list(groups), columns=names, use_threads=False)
            except _DAMAGE:
                # Once more one by one, to name the row group.
                for index in groups:
                    try:
                        done.append(file.read_row_group(index, columns=names, use_threads=False))
                    except _DAMAGE as error:
                        raise _damaged_group(location, index, error) from error
                table = pa.concat_tables(done)
        _check_text(table, location, groups[0])
        batches, at = [], start
        for batch in table.combine_chunks().to_batches(max_chunksize=most):
            batches.append(RawBatch(number, at, _without_views(batch)))
            at += batch.num_rows
        return batches

    return read


def _streamed(
    location: Location,
    number: int,
    metadata: pq.FileMetaData,
    columns: Sequence[str] | None,
    index: int,
    start: int,
    encoded: Sequence[str],
) -> Iterator[Task]:
    names = None if columns is None else list(columns)
    most = batch_rows(metadata.num_columns if columns is None else len(columns))
    with _opened(location, metadata, encoded) as file:
        batches = file.iter_batches(most, [index], names, use_threads=True)
        while True:
            try:
                batch = next(batches, None)
            except _DAMAGE as error:
                raise _damaged_group(location, index, error) from error
            if batch is None:
                return
            _check_text(pa.Table.from_batches([batch]), location, index)
            raw = RawBatch(number, start, _without_views(batch))
            yield lambda raw=raw: [raw]  # type: ignore[misc]
            start += batch.num_rows


def _encoded_columns(metadata: pq.FileMetaData) -> tuple[str, ...]:
    """Columns of text whose dictionary surely covers them: it takes less room than indices of 20 bits would."""
    found = []
    for index in range(metadata.num_columns):
        column = metadata.schema.column(index)
        if column.physical_type != "BYTE_ARRAY" or column.max_repetition_level or "." in column.path:
            continue
        chunks = [metadata.row_group(group).column(index) for group in range(metadata.num_row_groups)]
        size, rows = sum(chunk.total_uncompressed_size for chunk in chunks), sum(chunk.num_values for chunk in chunks)
        if size <= _DICTIONARY_BYTES * rows and all(chunk.has_dictionary_page for chunk in chunks):
            found.append(column.path)
    return tuple(found)


def _opened(location: Location, metadata: pq.FileMetaData, encoded: Sequence[str]) -> pq.ParquetFile:
    try:
        source = location.filesystem.open_input_file(location.path)
        return pq.ParquetFile(
            source,
            metadata=metadata,
            pre_buffer=False,
            page_checksum_verification=True,
            read_dictionary=list(encoded) or None,
        )
    except _DAMAGE as error:
        raise unreadable(location, error) from error


def _check_text(table: pa.Table, location: Location, group: int) -> None:
    """Parquet does not promise that its strings are UTF-8; everything after this point believes it."""
    for field, column in zip(table.schema, table.columns, strict=True):
        text = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_string(text) or pa.types.is_large_string(text):
            try:
                column.validate(full=True)
            except pa.ArrowInvalid as error:
                raise SourceUnreadable(
                    f"column {field.name} is not UTF-8 text",
                    where=f"{location.uri}, from row group {group}",
                    why=str(error).split("\n")[0],
                    fix="write the file again with UTF-8 strings",
                ) from error


def _without_views(batch: pa.RecordBatch) -> pa.RecordBatch:
    """String views as strings: much of Arrow cannot compute with them."""
    for index, field in enumerate(batch.schema):
        if field.type == pa.string_view():
            batch = batch.set_column(index, field.name, batch.column(index).cast(pa.string()))
    return batch


def _damaged_group(location: Location, index: int, error: Exception) -> DataError:
    if location.uri.startswith("s3://") or isinstance(error, FileNotFoundError | PermissionError):
        refusal = unreadable(location, error, after=f"row group {index}")
        if not isinstance(error, pa.ArrowInvalid):
            return refusal
    return SourceUnreadable(
        f"{location.uri} is damaged",
        where=f"{location.uri}, row group {index}",
        why=str(error).split("\n")[0],
        fix="copy or write the file again",
    )
