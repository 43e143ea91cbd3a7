"""A source: its files, read in order as record batches with bounded memory, and what its content is called."""

import hashlib
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from fairlead.atomic import write_atomic
from fairlead.data.locations import Location, find_files
from fairlead.data.readers import RawBatch, Task, csv_header, csv_tasks, jsonl_tasks, parquet_metadata, parquet_tasks
from fairlead.errors import SourceNotFound
from fairlead.records.data import SourceFile
from fairlead.spec.data import Data

T = TypeVar("T")

_DIGEST_CACHE = Path(".fairlead") / "cache" / "source-digests.json"
_HASH_BLOCK = 2**20


class Source:
    """The files that `data.source` names. Opening looks at names only; Parquet footers are read on first use."""

    def __init__(self, data: Data, base: Path) -> None:
        sources = (data.source,) if isinstance(data.source, str) else data.source
        self.base = base
        self.files, self.format = find_files(sources, base, data.format)

    @property
    def typed(self) -> bool:
        """Do the files themselves say what type a column has?"""
        return self.format == "parquet"

    @cached_property
    def metadata(self) -> tuple[pq.FileMetaData, ...]:
        """The footer of each Parquet file."""
        return tuple(parquet_metadata(file) for file in self.files) if self.typed else ()

    @property
    def num_rows(self) -> int | None:
        """All rows, when the files say so."""
        return sum(footer.num_rows for footer in self.metadata) if self.typed else None

    def columns_of(self, number: int) -> dict[str, pa.DataType | None]:
        """Columns of file `number` with their types; None where text is to be interpreted. For JSON Lines the columns
        of the first lines."""
        file = self.files[number]
        if self.typed:
            schema = self.metadata[number].schema.to_arrow_schema()
            found: dict[str, pa.DataType | None] = {field.name: field.type for field in schema}
        elif self.format == "csv":
            found = dict.fromkeys(csv_header(file))
        else:
            first = next(iter(jsonl_tasks(file, number, None)), None)
            found = dict.fromkeys(first()[0].batch.schema.names if first else ())
        return found | {name: None for name, _ in file.partitions if name not in found}

    def tasks(self, columns: Sequence[str] | None = None, only: int | None = None) -> Iterator[Task]:
        """What there is to read, in order (of one file with `only`). Columns that a file lacks are left out."""
        for number, file in enumerate(self.files):
            if only is not None and number != only:
                continue
            partitions = {k: v for k, v in file.partitions if columns is None or k in columns}
            for task in self._file_tasks(number, columns):
                yield _with_partitions(task, partitions) if partitions else task

    def _file_tasks(self, number: int, columns: Sequence[str] | None) -> Iterator[Task]:
        file = self.files[number]
        if self.typed:
            footer = self.metadata[number]
            names = None
            if columns is not None:
                known = set(footer.schema.to_arrow_schema().names)
                names = [name for name in columns if name in known]
            return parquet_tasks(file, number, footer, names)
        return (csv_tasks if self.format == "csv" else jsonl_tasks)(file, number, columns)

    def scan(self, work: Callable[[RawBatch], T], columns: Sequence[str] | None = None) -> Iterator[T]:
        """`work` on every batch, by several threads, results in the order of the rows.

        At most two tasks a thread are under way, which bounds memory: a task holds up to 128 Ki rows, or 64 MiB of them
        when rows are wide, or one row group."""
        yield from _in_order(self.tasks(columns), lambda task: [work(raw) for raw in task()])

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


def _in_order(tasks: Iterator[Task], run: Callable[[Task], list[T]]) -> Iterator[T]:
    threads = num_threads()
    with ThreadPoolExecutor(threads, thread_name_prefix="fairlead-data") as pool:
        waiting: deque[Future[list[T]]] = deque()
        try:
            for task in tasks:
                waiting.append(pool.submit(run, task))
                if len(waiting) > 2 * threads:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _with_partitions(task: Task, partitions: dict[str, str | None]) -> Task:
    def read() -> list[RawBatch]:
        done = []
        for raw in task():
            batch = raw.batch
            for name, value in partitions.items():
                if name not in batch.schema.names:
                    column = pa.array(itertools.repeat(value, batch.num_rows), pa.string(), size=batch.num_rows)
                    batch = batch.append_column(name, column)
            done.append(RawBatch(raw.file, raw.start, batch, raw.broken, raw.skipped))
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
        raise SourceNotFound(f"{file.uri} cannot be opened", where=file.uri, why=str(error)) from error
    return digest.hexdigest()


def _read_cache(path: Path) -> dict[str, str]:
    try:
        value = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return {str(k): str(v) for k, v in value.items()} if isinstance(value, dict) else {}
