"""Where rejected rows are listed: a Parquet file with file, row, column, reason, value."""

from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

_SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("row", pa.int64()),
        ("column", pa.string()),
        ("reason", pa.string()),
        ("value", pa.string()),
    ]
)
_MAX_LINES = 1_000_000
_GROUP_LINES = 50_000

Line = tuple[str, int, str, str, str]


class Quarantine:
    """Use as a context manager; the file appears when it is left without an error, and only when there is a line.

    `row` counts the rows of a file from 1 (the header of a CSV file is no row). A row that breaks several rules has
    several lines. Lines beyond a million are counted, not written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._partial = path.with_name(f".partial-{path.name}")
        self._lines: list[Line] = []
        self._writer: pq.ParquetWriter | None = None
        self.num_lines = 0

    def add(self, lines: list[Line]) -> None:
        """List problems."""
        room = max(0, _MAX_LINES - self.num_lines)
        self.num_lines += len(lines)
        self._lines += lines[:room]
        if len(self._lines) >= _GROUP_LINES:
            self._write()

    def _write(self) -> None:
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self._partial, _SCHEMA)
        columns = list(zip(*self._lines, strict=True)) or [()] * len(_SCHEMA)
        self._writer.write_table(pa.table([list(c) for c in columns], schema=_SCHEMA))
        self._lines = []

    def __enter__(self) -> Self:
        self.path.unlink(missing_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None and self._lines:
                self._write()
            if self._writer is not None:
                self._writer.close()
                if error is None:
                    self._partial.replace(self.path)
        finally:
            self._partial.unlink(missing_ok=True)
