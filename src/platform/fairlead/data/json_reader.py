"""Reading one JSON Lines file as record batches. Values keep what JSON knows of them.

A line that is no JSON object, or says a key twice, is a broken row; a file that begins so is refused.
"""

import io
import json
from collections.abc import Iterator, Sequence

import orjson
import pyarrow as pa

from fairlead.data.locations import Location, unreadable
from fairlead.data.readers import BrokenRow, RawBatch, Skips, Task
from fairlead.errors import SourceUnreadable

_MAX_LINE_BYTES = 64 * 2**20
_BATCH_BYTES = 16 * 2**20
_BATCH_ROWS = 16_384
_MAX_KEYS = 5_000


def jsonl_tasks(location: Location, number: int, columns: Sequence[str] | None) -> Iterator[Task]:
    """A task per some thousand lines. A line that is no JSON object is a broken row; as the first line, an error."""
    start = row = size = 0
    lines: list[tuple[int, bytes]] = []
    skips, num_skipped = Skips(), 0

    def take() -> Task:
        nonlocal start, num_skipped
        rows, broken = _parse_lines(lines)
        lines.clear()
        if not num_skipped and not start and broken and broken[0].row == 1:
            raise SourceUnreadable(
                f"{location.uri} is not JSON Lines",
                where=f"{location.uri}, row 1",
                why=f"expected one JSON object a line, found {broken[0].text[:60]!r}",
                fix="write one object a line, or set data.format",
            )
        num_skipped += len(broken)
        for item in broken:
            skips.add(item.row)
        batch = _columns_of(rows, columns, location, row)
        raw = RawBatch(number, start, batch, tuple(broken), *skips.of(start, batch.num_rows))
        start += batch.num_rows
        return lambda: [raw]

    try:
        with location.filesystem.open_input_stream(location.path) as stream:
            for line in _lines(io.BufferedReader(stream, 2**20), location):
                row += 1
                if line.strip():
                    lines.append((row, line))
                    size += len(line)
                if len(lines) >= _BATCH_ROWS or size >= _BATCH_BYTES:
                    yield take()
                    size = 0
    except (OSError, pa.ArrowException) as error:
        raise unreadable(location, error, after=f"after row {row}") from error
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
        reason = "json"
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            value = None
        # The count is quick and sometimes too high; only then the keys are looked at.
        if isinstance(value, dict) and line.count(b'":') + line.count(b'" :') > len(value) and _says_twice(line):
            value, reason = None, "key twice"
        if isinstance(value, dict):
            rows.append(value)
        else:
            broken.append(BrokenRow(number, reason, line[:200].decode("utf-8", "replace").strip()))
    return rows, broken


def _says_twice(line: bytes) -> bool:
    """Does the object say one of its own keys twice? JSON readers then differ in the value that they take."""
    # The outermost object is made last; those within it may do as they like, no column comes from them.
    made: list[list[tuple[str, object]]] = []
    try:
        json.loads(line, object_pairs_hook=made.append)
    except (RecursionError, ValueError):
        return False
    names = [name for name, _ in made[-1]]
    return len(set(names)) < len(names)


def _columns_of(
    rows: Sequence[dict[str, object]], columns: Sequence[str] | None, location: Location, row: int
) -> pa.RecordBatch:
    names = list(columns) if columns is not None else list(dict.fromkeys(name for item in rows for name in item))
    if columns is None and len(names) > _MAX_KEYS:
        raise SourceUnreadable(
            f"{location.uri} has more than {_MAX_KEYS:,} different keys",
            where=f"{location.uri}, up to row {row}",
            why=f"each key is a column: {', '.join(names[:3])}, ...",
            fix="write what varies as values, not as keys",
        )
    arrays = [_column_of([item.get(name) for item in rows]) for name in names]
    return pa.RecordBatch.from_arrays(arrays, names=names)


def _column_of(values: Sequence[object]) -> pa.Array:
    """An array of one type; values of mixed types turn into their JSON text, which the schema then judges."""
    try:
        array = pa.array(values)
    except (pa.ArrowException, OverflowError):
        array = None
    # A truth among floats would be 1.0.
    if array is None or (pa.types.is_floating(array.type) and bool in set(map(type, values))):
        texts = [value if value is None or isinstance(value, str) else orjson.dumps(value).decode() for value in values]
        return pa.array(texts, pa.string())
    return array
