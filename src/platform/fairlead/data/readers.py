"""Reading one file of each format as record batches, with the row where each batch begins.

Parquet keeps its types. CSV and JSON Lines are text: CSV columns stay strings and JSON values keep what JSON knows,
until the schema says what they are (see `checks`); one odd value then costs its row, not the file.
"""

import codecs
import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from fairlead.data.locations import Location
from fairlead.errors import SourceUnreadable

BATCH_ROWS = 131_072
_BLOCK_BYTES = 4 * 2**20
_MAX_LINE_BYTES = 64 * 2**20
_GROUP_BYTES = 256 * 2**20
_JSON_ROWS = 16_384
_OTHER_DELIMITERS = ";\t|"


@dataclass(frozen=True)
class BrokenRow:
    """A row that has no columns at all: `row` counts from 1, `reason` is "columns" or "json"."""

    row: int
    reason: str
    text: str


@dataclass(frozen=True)
class RawBatch:
    """Rows of one file. `start` counts the rows delivered before it, from 0; `skipped` are the broken rows of the file
    so far, so that row numbers are right after them."""

    file: int
    start: int
    batch: pa.RecordBatch
    broken: tuple[BrokenRow, ...] = ()
    skipped: tuple[int, ...] = ()

    def row_numbers(self, positions: np.ndarray) -> np.ndarray:
        """Which rows of the file the rows at `positions` of this batch are, counting from 1: int64 [N]."""
        rows = positions.astype(np.int64) + self.start
        if self.skipped:
            gaps = np.array(self.skipped, np.int64) - 1 - np.arange(len(self.skipped))
            rows = rows + np.searchsorted(gaps, rows, side="right")
        return rows + 1


Task = Callable[[], list[RawBatch]]


# --- Parquet ---------------------------------------------------------------------------------------------------------
def parquet_metadata(location: Location) -> pq.FileMetaData:
    """The footer. Raises SourceUnreadable when the file is truncated or no Parquet file."""
    try:
        with location.filesystem.open_input_file(location.path) as source:
            return pq.read_metadata(source)
    except (OSError, pa.ArrowException) as error:
        raise SourceUnreadable(
            f"{location.uri} is not a whole Parquet file",
            where=location.uri,
            why=str(error).split("\n")[0],
            fix="copy or write the file again",
        ) from error


def parquet_tasks(
    location: Location, number: int, metadata: pq.FileMetaData, columns: Sequence[str] | None
) -> Iterator[Task]:
    """Tasks that each read some neighbouring row groups; those too large for memory are streamed one batch a task."""
    start = 0
    groups: list[int] = []
    rows = size = 0
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        if group.total_byte_size > _GROUP_BYTES:
            if groups:
                yield _groups_task(location, number, metadata, columns, groups, start)
                start, groups, rows, size = start + rows, [], 0, 0
            yield from _streamed(location, number, metadata, columns, index, start)
            start += group.num_rows
            continue
        groups.append(index)
        rows, size = rows + group.num_rows, size + group.total_byte_size
        if rows >= BATCH_ROWS or size > _GROUP_BYTES // 4:
            yield _groups_task(location, number, metadata, columns, groups, start)
            start, groups, rows, size = start + rows, [], 0, 0
    if groups:
        yield _groups_task(location, number, metadata, columns, groups, start)


def _groups_task(
    location: Location,
    number: int,
    metadata: pq.FileMetaData,
    columns: Sequence[str] | None,
    groups: Sequence[int],
    start: int,
) -> Task:
    names = None if columns is None else list(columns)

    def read() -> list[RawBatch]:
        done: list[pa.Table] = []
        with _opened(location, metadata) as file:
            try:
                table = file.read_row_groups(list(groups), columns=names, use_threads=False)
            except (OSError, pa.ArrowException):
                # Once more one by one, to name the row group.
                for index in groups:
                    try:
                        done.append(file.read_row_group(index, columns=names, use_threads=False))
                    except (OSError, pa.ArrowException) as error:
                        raise _damaged_group(location, index, error) from error
                table = pa.concat_tables(done)
        _check_text(table, location, groups[0])
        batches, at = [], start
        for batch in table.combine_chunks().to_batches(max_chunksize=BATCH_ROWS):
            batches.append(RawBatch(number, at, batch))
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
) -> Iterator[Task]:
    names = None if columns is None else list(columns)
    with _opened(location, metadata) as file:
        batches = file.iter_batches(BATCH_ROWS, [index], names, use_threads=True)
        while True:
            try:
                batch = next(batches, None)
            except (OSError, pa.ArrowException) as error:
                raise _damaged_group(location, index, error) from error
            if batch is None:
                return
            _check_text(pa.Table.from_batches([batch]), location, index)
            raw = RawBatch(number, start, batch)
            yield lambda raw=raw: [raw]  # type: ignore[misc]
            start += batch.num_rows


def _opened(location: Location, metadata: pq.FileMetaData) -> pq.ParquetFile:
    try:
        source = location.filesystem.open_input_file(location.path)
        return pq.ParquetFile(source, metadata=metadata, pre_buffer=False)
    except (OSError, pa.ArrowException) as error:
        raise SourceUnreadable(f"{location.uri} cannot be opened", where=location.uri, why=str(error)) from error


def _check_text(table: pa.Table, location: Location, group: int) -> None:
    """Parquet does not promise that its strings are UTF-8; everything after this point believes it."""
    for field, column in zip(table.schema, table.columns, strict=True):
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            try:
                column.validate(full=True)
            except pa.ArrowInvalid as error:
                raise SourceUnreadable(
                    f"column {field.name} is not UTF-8 text",
                    where=f"{location.uri}, from row group {group}",
                    why=str(error).split("\n")[0],
                    fix="write the file again with UTF-8 strings",
                ) from error


def _damaged_group(location: Location, index: int, error: Exception) -> SourceUnreadable:
    return SourceUnreadable(
        f"{location.uri} is damaged",
        where=f"{location.uri}, row group {index}",
        why=str(error).split("\n")[0],
        fix="copy or write the file again",
    )


# --- CSV -------------------------------------------------------------------------------------------------------------
def csv_header(location: Location) -> list[str]:
    """The column names. Raises SourceUnreadable for an empty file, other delimiters, other encodings."""
    try:
        with location.filesystem.open_input_stream(location.path) as stream:
            head = stream.read(2**20)
    except (OSError, pa.ArrowException) as error:
        raise SourceUnreadable(f"{location.uri} cannot be opened", where=location.uri, why=str(error)) from error
    if not head.strip():
        raise SourceUnreadable(f"{location.uri} is empty", where=location.uri, fix="the first row names the columns")
    try:
        first = head.split(b"\n", 1)[0].decode("utf-8-sig").rstrip("\r")
    except UnicodeDecodeError as error:
        raise _not_utf8(location, 0) from error
    names = next(csv.reader(io.StringIO(first)))
    if len(names) == 1:
        for delimiter in _OTHER_DELIMITERS:
            if delimiter in first:
                raise SourceUnreadable(
                    f"{location.uri} is not separated by commas",
                    where=f"{location.uri}, row 0 (the header)",
                    why=f"one column, whose name holds {delimiter!r}: {first[:80]}",
                    fix="write the file with commas, or as Parquet",
                )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or "" in names:
        raise SourceUnreadable(
            f"{location.uri} has columns without a name of their own",
            where=f"{location.uri}, row 0 (the header)",
            why=f"twice: {', '.join(twice)}" if twice else "an empty name",
            fix="give every column its own name in the first row",
        )
    return names


def csv_tasks(location: Location, number: int, columns: Sequence[str] | None) -> Iterator[Task]:
    """A task per block of the file; all columns are strings, null where a field is empty."""
    names = csv_header(location)
    wanted = names if columns is None else [name for name in columns if name in names]
    broken: list[BrokenRow] = []

    def skip(row: pa_csv.InvalidRow) -> str:
        # Row 1 of the reader is the header.
        broken.append(BrokenRow((row.number or 1) - 1, "columns", row.text))
        return "skip"

    start, told = 0, 0
    try:
        with location.filesystem.open_input_stream(location.path) as stream:
            reader = pa_csv.open_csv(
                pa.PythonFile(_CheckedText(stream), mode="r"),
                # One thread: only then the reader knows the numbers of broken rows.
                read_options=pa_csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
                parse_options=pa_csv.ParseOptions(invalid_row_handler=skip, newlines_in_values=True),
                convert_options=pa_csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()),
                    include_columns=wanted,
                    strings_can_be_null=True,
                    null_values=[""],
                ),
            )
            for batch in reader:
                new, told = tuple(broken[told:]), len(broken)
                raw = RawBatch(number, start, batch, new, tuple(row.row for row in broken))
                start += batch.num_rows
                yield lambda raw=raw: [raw]  # type: ignore[misc]
    except UnicodeDecodeError as error:
        raise _not_utf8(location, start) from error
    except (OSError, pa.ArrowException) as error:
        raise SourceUnreadable(
            f"{location.uri} cannot be read as CSV",
            where=f"{location.uri}, after row {start}",
            why=str(error).split("\n")[0],
            fix="look at that place of the file; rows are separated by line ends, fields by commas",
        ) from error
    if len(broken) > told:
        yield lambda: [RawBatch(number, start, _no_rows(wanted), tuple(broken[told:]))]


class _CheckedText:
    """A stream that refuses bytes which are no UTF-8 before the parser sees them: it cannot hand broken rows of other
    encodings to the handler, and would only print what went wrong."""

    def __init__(self, stream: pa.NativeFile) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    @property
    def closed(self) -> bool:
        return bool(self._stream.closed)

    def close(self) -> None:
        """The stream belongs to whoever opened it."""

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._stream.read(None if size < 0 else size)
        self._decoder.decode(data, final=not data)
        return data


def _no_rows(names: Sequence[str]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], pa.string())] * len(names), names=list(names))


def _not_utf8(location: Location, after: int) -> SourceUnreadable:
    """Find the line that is not UTF-8."""
    line = 0
    with location.filesystem.open_input_stream(location.path) as stream:
        for line, data in enumerate(io.BufferedReader(stream), start=0):
            try:
                data.decode("utf-8")
            except UnicodeDecodeError as error:
                byte = data[error.start]
                return SourceUnreadable(
                    f"{location.uri} is not UTF-8 text",
                    where=f"{location.uri}, row {line}",
                    why=f"byte {byte:#04x} at position {error.start} of the line",
                    fix="save the file as UTF-8",
                )
    return SourceUnreadable(f"{location.uri} is not UTF-8 text", where=f"{location.uri}, after row {max(after, line)}")


# --- JSON Lines ------------------------------------------------------------------------------------------------------
def jsonl_tasks(location: Location, number: int, columns: Sequence[str] | None) -> Iterator[Task]:
    """A task per some thousand lines. A line that is no JSON object is a broken row; as the first line, an error."""
    start = row = 0
    lines: list[tuple[int, bytes]] = []
    skipped: list[int] = []

    def take() -> Task:
        nonlocal start
        rows, broken = _parse_lines(lines)
        if not skipped and not start and broken and broken[0].row == 1:
            raise SourceUnreadable(
                f"{location.uri} is not JSON Lines",
                where=f"{location.uri}, row 1",
                why=f"expected one JSON object a line, found {broken[0].text[:60]!r}",
                fix="write one object a line, or set data.format",
            )
        skipped.extend(item.row for item in broken)
        batch = _columns_of(rows, columns)
        raw = RawBatch(number, start, batch, tuple(broken), tuple(skipped))
        start += batch.num_rows
        return lambda: [raw]

    try:
        with location.filesystem.open_input_stream(location.path) as stream:
            for line in _lines(io.BufferedReader(stream, 2**20), location):
                row += 1
                if line.strip():
                    lines.append((row, line))
                if len(lines) >= _JSON_ROWS:
                    yield take()
                    lines = []
    except (OSError, pa.ArrowException) as error:
        raise SourceUnreadable(
            f"{location.uri} cannot be read", where=f"{location.uri}, after row {row}", why=str(error)
        ) from error
    if lines:
        yield take()


def _lines(stream: io.BufferedReader, location: Location) -> Iterator[bytes]:
    row = 0
    while line := stream.readline(_MAX_LINE_BYTES):
        row += 1
        if len(line) >= _MAX_LINE_BYTES:
            raise SourceUnreadable(
                f"a line of {location.uri} is longer than {_MAX_LINE_BYTES >> 20} MiB",
                where=f"{location.uri}, row {row}",
                fix="write one object a line",
            )
        yield line.removeprefix(b"\xef\xbb\xbf") if row == 1 else line


def _parse_lines(lines: Sequence[tuple[int, bytes]]) -> tuple[list[dict[str, object]], list[BrokenRow]]:
    rows, broken = [], []
    for number, line in lines:
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            value = None
        if isinstance(value, dict):
            rows.append(value)
        else:
            broken.append(BrokenRow(number, "json", line[:200].decode("utf-8", "replace").strip()))
    return rows, broken


def _columns_of(rows: Sequence[dict[str, object]], columns: Sequence[str] | None) -> pa.RecordBatch:
    names = list(columns) if columns is not None else list(dict.fromkeys(name for row in rows for name in row))
    arrays = [_column_of([row.get(name) for row in rows]) for name in names]
    return pa.RecordBatch.from_arrays(arrays, names=names)


def _column_of(values: Sequence[object]) -> pa.Array:
    """An array of one type; values of mixed types turn into their JSON text, which the schema then judges."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        texts = [value if value is None or isinstance(value, str) else orjson.dumps(value).decode() for value in values]
        return pa.array(texts, pa.string())
