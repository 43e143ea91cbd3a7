"""A source: its files, read in order as record batches with bounded memory, and what its content is called."""

import copy
import hashlib
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from fairlead.atomic import write_atomic
from fairlead.data.csv_reader import csv_header, csv_tasks
from fairlead.data.json_reader import jsonl_tasks
from fairlead.data.locations import Location, find_files, unreadable
from fairlead.data.readers import RawBatch, Task, parquet_metadata, parquet_schema, parquet_tasks
from fairlead.errors import SchemaMismatch, SourceUnreadable
from fairlead.records.data import SourceFile
from fairlead.spec.data import Data

T = TypeVar("T")

_DIGEST_CACHE = Path(".fairlead") / "cache" / "source-digests.json"
_HASH_BLOCK = 2**20
_ASKERS = 16


class Source:
    """The files that `data.source` names. Opening looks at names only; Parquet footers are read on first use."""

    def __init__(self, data: Data, base: Path) -> None:
        sources = (data.source,) if isinstance(data.source, str) else data.source
        self.base = base
        self.files, self.format = find_files(sources, base, data.format)
        self._delimiter = data.delimiter

    def part(self, numbers: range) -> "Source":
        """The same source with only these of its files; nothing is looked at again."""
        made = copy.copy(self)
        made.files = self.files[numbers.start : numbers.stop]
        for name in ("metadata", "schemas"):
            if name in made.__dict__:
                made.__dict__[name] = made.__dict__[name][numbers.start : numbers.stop]
        return made

    @property
    def typed(self) -> bool:
        """Do the files themselves say what type a column has?"""
        return self.format == "parquet"

    @cached_property
    def metadata(self) -> tuple[pq.FileMetaData, ...]:
        """The footer of each Parquet file."""
        return tuple(parquet_metadata(file) for file in self.files) if self.typed else ()

    @cached_property
    def schemas(self) -> tuple[pa.Schema, ...]:
        """The columns of each Parquet file, each name once."""
        pairs = zip(self.files, self.metadata, strict=True)
        return tuple(parquet_schema(file, footer) for file, footer in pairs) if self.typed else ()

    @property
    def num_rows(self) -> int | None:
        """All rows, when the files say so."""
        return sum(footer.num_rows for footer in self.metadata) if self.typed else None

    def columns_of(self, number: int) -> dict[str, pa.DataType | None]:
        """Columns of file `number` with their types; None where text is to be interpreted. For JSON Lines the columns
        of the first lines."""
        file = self.files[number]
        if self.typed:
            found: dict[str, pa.DataType | None] = {field.name: field.type for field in self.schemas[number]}
        elif self.format == "csv":
            found = dict.fromkeys(csv_header(file, self._delimiter))
        else:
            first = next(iter(jsonl_tasks(file, number, None)), None)
            found = dict.fromkeys(first()[0].batch.schema.names if first else ())
        return found | {name: None for name, _ in file.partitions if name not in found}

    def tasks(
        self, columns: Sequence[str] | None = None, only: int | None = None, *, dictionaries: bool = False
    ) -> Iterator[Task]:
        """What there is to read, in order (of one file with `only`). Columns that a file lacks are left out.
        `dictionaries`: see `readers.parquet_tasks`."""
        for number, file in enumerate(self.files):
            if only is not None and number != only:
                continue
            partitions = {k: v for k, v in file.partitions if columns is None or k in columns}
            for task in self._file_tasks(number, columns, dictionaries):
                yield _with_partitions(task, partitions) if partitions else task

    def _file_tasks(self, number: int, columns: Sequence[str] | None, dictionaries: bool) -> Iterator[Task]:
        file = self.files[number]
        if self.typed:
            footer = self.metadata[number]
            names = None
            if columns is not None:
                known = set(self.schemas[number].names)
                names = [name for name in columns if name in known]
            return parquet_tasks(file, number, footer, names, dictionaries=dictionaries)
        if self.format == "csv":
            return csv_tasks(file, number, columns, self._delimiter)
        return jsonl_tasks(file, number, columns)

    def scan(self, work: Callable[[RawBatch], T], columns: Sequence[str] | None = None) -> Iterator[T]:
        """`work` on every batch, by several threads, results in the order of the rows.

        At most two tasks a thread are under way, which bounds memory: a task holds up to 128 Ki rows (of more than 64
        columns fewer, see `readers.batch_rows`), or 64 MiB of them when rows are wide, or one row group."""
        yield from run_in_order(self.tasks(columns), lambda task: [work(raw) for raw in task()])

    def check_zones(self) -> None:
        """Raises SchemaMismatch when a column of points in time has a zone in one Parquet file and another or none in
        the next: the clock on the wall, which features describe, would mean different things."""
        first: dict[str, tuple[str | None, str]] = {}
        for file, schema in zip(self.files, self.schemas, strict=False):
            for field in schema:
                if not pa.types.is_timestamp(field.type):
                    continue
                zone, before = first.setdefault(field.name, (field.type.tz, file.uri))
                if zone != field.type.tz:
                    raise SchemaMismatch(
                        f"the column {field.name} has different time zones in different files",
                        where=file.uri,
                        why=f"{field.type.tz or 'no zone'} here, {zone or 'no zone'} in {before}",
                        fix="write all files with the same zone, or all without one",
                    )

    def check_unchanged(self) -> None:
        """Raises SourceUnreadable when a file has another size or time than when it was found: what was read is then
        part old, part new."""
        threads = _ASKERS if self.files[0].uri.startswith("s3://") else 1
        with ThreadPoolExecutor(threads, thread_name_prefix="fairlead-look") as pool:
            for file, info in zip(self.files, pool.map(_look_again, self.files), strict=True):
                gone = info.type != fs.FileType.File
                if gone or (info.size, info.mtime_ns or 0) != (file.size_bytes, file.mtime_ns):
                    raise SourceUnreadable(
                        f"{file.uri} changed while it was read",
                        where=file.uri,
                        why="it is gone" if gone else f"{file.size_bytes:,} bytes at first, {info.size:,} now",
                        fix="run again when nobody writes to it",
                    )

    def facts(self, rows: Sequence[int]) -> tuple[SourceFile, ...]:
        """What was read, with digests; `rows` of each file."""
        digests = file_digests(self.files, self.base)
        return tuple(
            SourceFile(file.uri, file.size_bytes, count, digest)
            for file, count, digest in zip(self.files, rows, digests, strict=True)
        )


def num_threads() -> int:
    """The processors that this process may use."""
    return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def run_in_order(
    tasks: Iterator[Task], run: Callable[[Task], list[T]], threads: int | None = None, most: int | None = None
) -> Iterator[T]:
    """`run` on every task by several threads, results in the order of the tasks; at most `most` are under way or wait
    (default: two a thread, and one)."""
    threads = threads or num_threads()
    most = most or 2 * threads + 1
    with ThreadPoolExecutor(threads, thread_name_prefix="fairlead-data") as pool:
        waiting: deque[Future[list[T]]] = deque()
        try:
            for task in tasks:
                waiting.append(pool.submit(run, task))
                if len(waiting) >= most:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _look_again(file: Location) -> fs.FileInfo:
    try:
        return file.filesystem.get_file_info(file.path)
    except (OSError, pa.ArrowException) as error:
        raise unreadable(file, error) from error


def _with_partitions(task: Task, partitions: dict[str, str | None]) -> Task:
    def read() -> list[RawBatch]:
        done = []
        for raw in task():
            batch = raw.batch
            for name, value in partitions.items():
                if name not in batch.schema.names:
                    column = pa.array(itertools.repeat(value, batch.num_rows), pa.string(), size=batch.num_rows)
                    batch = batch.append_column(name, column)
            done.append(replace(raw, batch=batch))
        return done

    return read


# --- content ---------------------------------------------------------------------------------------------------------
def source_fingerprint(data: Data, base: Path) -> str:
    """The sha256 over the names and contents of the source's files. Raises SourceNotFound."""
    source = Source(data, base)
    lines = [
        f"{file.uri} {digest}" for file, digest in zip(source.files, file_digests(source.files, base), strict=True)
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def file_digests(files: Sequence[Location], base: Path) -> tuple[str, ...]:
    """The sha256 of each file. Files of the same name, size and time as before are not read again."""
    cache_file = base / _DIGEST_CACHE
    cache = _read_cache(cache_file)
    keys = [f"{file.uri} {file.size_bytes} {file.mtime_ns}" for file in files]
    new = [file for file, key in zip(files, keys, strict=True) if key not in cache]
    with ThreadPoolExecutor(num_threads(), thread_name_prefix="fairlead-digest") as pool:
        found = dict(zip((file.uri for file in new), pool.map(_digest, new), strict=True))
    digests = tuple(found.get(file.uri) or cache[key] for file, key in zip(files, keys, strict=True))
    if found:
        fresh = cache | dict(zip(keys, digests, strict=True))
        # Only what can still be asked for: an old size or time of a known file is of no use.
        uris = {file.uri for file in files}
        kept = {k: v for k, v in fresh.items() if k in keys or k.rsplit(" ", 2)[0] not in uris}
        try:
            write_atomic(cache_file, orjson.dumps(kept, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2))
        except OSError:  # a read-only project folder costs time, not correctness
            pass
    return digests


def _digest(file: Location) -> str:
    digest = hashlib.sha256()
    try:
        # compression=None: the bytes as they lie there.
        with file.filesystem.open_input_stream(file.path, compression=None) as stream:
            while block := stream.read(_HASH_BLOCK):
                digest.update(block)
    except (OSError, pa.ArrowException) as error:
        raise unreadable(file, error) from error
    return digest.hexdigest()


def _read_cache(path: Path) -> dict[str, str]:
    try:
        value = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return {str(k): str(v) for k, v in value.items()} if isinstance(value, dict) else {}
