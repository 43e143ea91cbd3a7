"""A source's summary: its files one after another, each from its own batches, joined in an order that never changes."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairlead.data.checks import Checker
from fairlead.data.readers import RawBatch, Task, batch_rows, bytes_apart, read_apart
from fairlead.data.schema import Schema
from fairlead.data.sources import Source, file_digests, num_threads, run_in_order
from fairlead.data.summary.cache import SummaryCache
from fairlead.data.summary.draw import draw_rows
from fairlead.data.summary.project_groups import ProjectGroups
from fairlead.data.summary.table import TableSummary
from fairlead.features.hashing import stable_hash
from fairlead.features.kinds import kind_of
from fairlead.spec.data import Data

CHUNK_FILES = 16
DEFAULT_MEMORY_BYTES = 1024 * 2**20
_BASE_BYTES = 256 * 2**20
_PER_READ_BYTE = 3
_LEAST_READ_BYTES = 16 * 2**20
_COLUMN_BYTES = 128 * 2**10
_COPIES = 2
_VALUE_BYTES = 8
_MOST_KEPT_COLUMNS = 512

Told = Callable[[int], None]


@dataclass(frozen=True)
class Question:
    """What is to be known of a source. `schema` types the columns of text formats; `groups`: by split, month and
    label; `sketches`: quantiles, different and frequent values beside the exact part."""

    data: Data
    schema: Schema | None = None
    groups: bool = True
    sketches: bool = True

    @property
    def key(self) -> str:
        """The same for questions with the same answer."""
        asked = self.data.model_dump(mode="json", include={"label", "time", "entity", "split", "delimiter"})
        schema = "" if self.schema is None else self.schema.model_dump_json()
        words = f"{asked} {schema} {self.groups} {self.sketches}"
        return hashlib.sha256(words.encode()).hexdigest()


class FileReader:
    """Turns batches of a source into summaries. Threads may share one."""

    def __init__(self, source: Source, question: Question) -> None:
        self._source, self._question = source, question
        self._groups = ProjectGroups(question.data) if question.groups else None
        self._seeds = [stable_hash(file.uri) for file in source.files]
        self._rows = [footer.num_rows for footer in source.metadata] if source.typed else None
        self._checker = None
        if question.schema is not None:
            uris = [file.uri for file in source.files]
            header = lambda number: list(source.columns_of(number))  # noqa: E731
            self._checker = Checker(question.schema, uris, header=header)

    def summarise(self, raw: RawBatch) -> tuple[int, TableSummary]:
        """(number of the file, the batch's summary)."""
        batch, unreadable = raw.batch, {}
        if self._checker is not None and not self._typed(batch):
            checked = self._checker.check(raw)
            extra = [name for name in raw.batch.schema.names if name not in self._checker.rules]
            batch = checked.batch
            for name in extra:
                batch = batch.append_column(name, raw.batch.column(name))
            unreadable = {p.column: len(p.positions) for p in checked.problems if p.reason == "type"}
            batch = _hide(batch, {p.column: p.positions for p in checked.problems if p.reason == "type"})
        seed = self._seeds[raw.file]
        file_rows = self._rows[raw.file] if self._rows is not None else None
        draw = draw_rows(batch.num_rows, raw.start, seed, file_rows, self._question.sketches)
        coded = self._groups(batch) if self._groups is not None else None
        made = TableSummary.of(batch, draw, seed, coded)
        made.unreadable.update(unreadable)
        if raw.broken:
            made.unreadable[""] += len(raw.broken)
        return raw.file, made

    def _typed(self, batch: pa.RecordBatch) -> bool:
        """Do the file's own types agree with the schema, so that there is nothing to interpret?"""
        assert self._question.schema is not None
        if not self._source.typed:
            return False
        types = {field.name: kind_of(field.type) for field in batch.schema}
        columns = self._question.schema.columns
        return all(types.get(name) in (rule.type, None) for name, rule in columns.items())


def _hide(batch: pa.RecordBatch, bad: dict[str, np.ndarray]) -> pa.RecordBatch:
    for name, positions in bad.items():
        index = batch.schema.get_field_index(name)
        array = batch.column(index)
        mask = np.zeros(len(array), bool)
        mask[positions] = True
        if array.null_count < len(array):
            batch = batch.set_column(index, name, pc.if_else(pa.array(mask), None, array))
    return batch


@dataclass(frozen=True)
class UnderWay:
    """How many threads read, and how many tasks are read or wait for their turn at a time."""

    threads: int
    tasks: int


def summarise_files(
    source: Source, question: Question, files: Sequence[int], told: Told | None, bounds: UnderWay
) -> Iterator[tuple[int, TableSummary]]:
    """(number, summary) of each of `files`, in their order, at rest. `told` hears of rows read since the last time."""
    reader = FileReader(source, question)
    tasks = (
        task for number in files for task in source.tasks(_asked(source, question), only=number, dictionaries=True)
    )
    waiting = list(files)
    current = TableSummary()

    def run(task: Task) -> list[tuple[int, TableSummary]]:
        return [reader.summarise(raw) for raw in task()]

    for number, summary in run_in_order(tasks, run, bounds.threads, bounds.tasks):
        while waiting[0] != number:
            current.settle()
            yield waiting.pop(0), current
            current = TableSummary()
        current.merge(summary)
        if told is not None:
            told(summary.rows)
        del summary  # the next one is made meanwhile
    for number in waiting:
        current.settle()
        yield number, current
        current = TableSummary()


def _asked(source: Source, question: Question) -> list[str] | None:
    return None if source.typed or question.schema is None else list(question.schema.columns)


def chunks(source: Source) -> list[range]:
    """The files by chunk. Their summaries are joined first, whoever computes them, then those of the chunks."""
    return [range(at, min(at + CHUNK_FILES, len(source.files))) for at in range(0, len(source.files), CHUNK_FILES)]


def summarise_chunk(
    source: Source,
    question: Question,
    files: range,
    base: Path | None,
    told: Told | None = None,
    bounds: UnderWay | None = None,
) -> TableSummary:
    """The joined summary of neighbouring files, by one thread where `bounds` do not say otherwise. With `base`, a
    project's folder, files seen before are not read, unless they have more than 512 columns: keeping the summary of
    such a file takes more memory than making it."""
    if bounds is None:
        tasks = under_way(source, DEFAULT_MEMORY_BYTES, _num_columns(source, question)).tasks
        bounds = UnderWay(1, min(3, tasks))
    cache = None if base is None else SummaryCache(base, question.key)
    digests = () if base is None else file_digests([source.files[number] for number in files], base)
    known: dict[int, TableSummary] = {}
    if cache is not None:
        for number, digest in zip(files, digests, strict=True):
            found = cache.get(f"{digest} {source.files[number].uri}")
            if found is not None:
                known[number] = found
                if told is not None:
                    told(found.rows)
    fresh = summarise_files(source, question, [n for n in files if n not in known], told, bounds)
    total = TableSummary()
    for number in files:
        summary = known.get(number)
        if summary is None:
            _, summary = next(fresh)
            if cache is not None and len(summary.columns) <= _MOST_KEPT_COLUMNS:
                cache.put(f"{digests[number - files[0]]} {source.files[number].uri}", summary)
        total.merge(summary)
    total.settle()
    return total


def summarise(
    source: Source,
    question: Question,
    base: Path | None = None,
    told: Told | None = None,
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
) -> TableSummary:
    """The whole source in this process, as much at a time as fits into `memory_bytes`.

    Raises SourceUnreadable when a file changed meanwhile, and what reading raises."""
    bounds = under_way(source, memory_bytes, _num_columns(source, question))
    total = TableSummary()
    for files in chunks(source):
        total.merge(summarise_chunk(source, question, files, base, told, bounds))
    total.settle()
    source.check_unchanged()
    if base is not None:
        SummaryCache(base, question.key).prune()
    return total


def threads_within(source: Source, memory_bytes: int) -> int:
    """Threads whose reads, decoded and copied once, fit into `memory_bytes` beside the program itself; at least 1."""
    sizes = [
        footer.row_group(group).total_byte_size for footer in source.metadata for group in range(footer.num_row_groups)
    ]
    read = max([_LEAST_READ_BYTES, *sizes])
    fitting: int = (memory_bytes - _BASE_BYTES) // (_PER_READ_BYTE * read)
    return max(1, min(num_threads(), fitting))


def under_way(source: Source, memory_bytes: int, columns: int) -> UnderWay:
    """What fits into `memory_bytes` beside the program, what is held all the while (the summary of the file and that of
    all, a row group that is read apart): tasks of one batch of so many `columns`, decoded and copied once, and its
    summary; at least one, at most two a thread and one. The wider the table, the fewer; what is found out is the same.
    """
    threads = threads_within(source, memory_bytes)
    groups = [footer.row_group(index) for footer in source.metadata for index in range(footer.num_row_groups)]
    rows = min(batch_rows(columns), max((footer.num_rows for footer in source.metadata), default=0))
    held = 2 * columns * _COLUMN_BYTES
    held += max((bytes_apart(group, columns) for group in groups if read_apart(group, columns)), default=0)
    task = columns * (_COLUMN_BYTES + _COPIES * _VALUE_BYTES * rows)
    fitting = (memory_bytes - _BASE_BYTES - held) // max(task, 1)
    tasks = max(1, min(2 * threads + 1, fitting))
    return UnderWay(min(threads, tasks), tasks)


def _num_columns(source: Source, question: Question) -> int:
    asked = 0 if question.schema is None else len(question.schema.columns)
    return max([asked, *(len(schema.names) for schema in source.schemas)])
