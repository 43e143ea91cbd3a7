"""Some rows of a source for the leak scan of a profile: from all over it, few enough for the memory that is given.

Of a source of more than a million rows (`READ_ROWS`) only as much is read: whole files spread evenly over all of them,
and of large Parquet files reads spread evenly within. Of text, which has no places to jump to, each file's first rows.
Rows are then kept by a hash of their place: first all, and each time they are too many every second of them. What has
sunk already is left out by the threads that read, so that only kept rows wait. The same files give the same rows,
whatever the threads: the bound only sinks, and what a thread leaves out would be left out later.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from fairlead.data.checks import Checked, Checker
from fairlead.data.readers import Task, batch_rows, read_apart
from fairlead.data.sources import Source, run_in_order
from fairlead.features.hashing import mix, stable_hash

READ_ROWS = 1_000_000
KEPT_ROWS = 150_000
_TEXT_FILES = 16


@dataclass(frozen=True)
class LeakSample:
    """Checked batches of the rows that keep to the schema. `whole`: these are all such rows of the source."""

    batches: tuple[Checked, ...]
    whole: bool

    @property
    def rows(self) -> int:
        """How many."""
        return sum(checked.batch.num_rows for checked in self.batches)


def draw_sample(
    source: Source,
    checker: Checker,
    max_bytes: int,
    threads: int,
    read_rows: int | None = None,
    under_way: int | None = None,
) -> LeakSample:
    """At most `KEPT_ROWS` rows, of at most `max_bytes`, out of about `read_rows` (`READ_ROWS`), at most `under_way`
    tasks at a time (see `sources.run_in_order`). Raises what reading and checking raise."""
    plan = _Plan(source, list(checker.rules), READ_ROWS if read_rows is None else read_rows)
    kept = _Kept([stable_hash(file.uri) for file in source.files], max_bytes)

    def run(task: Task) -> list[_Part]:
        return [kept.thin(checker.check(raw)) for raw in task()]

    for part in run_in_order(plan.tasks(), run, threads, under_way):
        kept.add(part)
        del part  # the next one is made meanwhile
    return LeakSample(tuple(kept.batches()), plan.whole and not kept.thinned)


class _Plan:
    """What is read; `whole` is right once all tasks were given out."""

    def __init__(self, source: Source, columns: Sequence[str], read_rows: int) -> None:
        self._source, self._columns = source, columns
        files, rows = len(source.files), source.num_rows
        number = min(files, _TEXT_FILES)
        if rows is not None:
            number = files if rows <= read_rows else max(1, min(files, read_rows * files // rows))
        self._files = _spread(files, number)
        self._rows_of_file = read_rows if rows is not None and rows <= read_rows else max(1, read_rows // number)
        self.whole = number == files

    def tasks(self) -> Iterator[Task]:
        for number in self._files:
            tasks = self._source.tasks(self._columns, only=number)
            yield from self._of_parquet(number, tasks) if self._source.typed else self._of_text(tasks)

    def _of_parquet(self, number: int, tasks: Iterator[Task]) -> Iterator[Task]:
        footer = self._source.metadata[number]
        if footer.num_rows <= self._rows_of_file:
            yield from tasks
            return
        self.whole = False
        width = len(self._columns)
        most = max(1, self._rows_of_file // batch_rows(width))
        groups = (footer.row_group(group) for group in range(footer.num_row_groups))
        if any(read_apart(group, width) for group in groups):  # later tasks cost the earlier ones
            yield from (task for task, _ in zip(tasks, range(most), strict=False))
            return
        listed = list(tasks)
        yield from (listed[place] for place in _spread(len(listed), min(most, len(listed))))

    def _of_text(self, tasks: Iterator[Task]) -> Iterator[Task]:
        rows = 0
        for task in tasks:
            more = sum(raw.batch.num_rows for raw in task())  # the rows are there already
            if more and rows >= self._rows_of_file:
                self.whole = False
                return
            rows += more
            yield task


@dataclass(frozen=True)
class _Part:
    """Rows of a batch with the hashes of their places, uint64 [N]."""

    checked: Checked
    hashes: np.ndarray

    def filter(self, chosen: np.ndarray) -> "_Part":
        """Some of the rows. Columns that the check left as they are are held once."""
        if chosen.all():
            return self
        mask = pa.array(chosen)
        raw, batch = self.checked.raw.batch, self.checked.batch.filter(mask)
        own = {field.name for field in _read_otherwise(self.checked)}
        columns = [column.filter(mask) if name in own else batch.column(name) for name, column in _named(raw)]
        kept = pa.RecordBatch.from_arrays(columns, schema=raw.schema)
        return _Part(replace(self.checked, raw=replace(self.checked.raw, batch=kept), batch=batch), self.hashes[chosen])

    @property
    def num_bytes(self) -> int:
        """Of the columns, and of those of the file that the check made others of."""
        raw = self.checked.raw.batch
        own = sum(raw.column(field.name).nbytes for field in _read_otherwise(self.checked))
        return int(self.checked.batch.nbytes + own)


class _Kept:
    """Rows whose hash is below a limit that sinks when they are too many."""

    def __init__(self, seeds: Sequence[int], max_bytes: int) -> None:
        self._seeds, self._max_bytes = seeds, max_bytes
        self._kept: list[_Part] = []
        self._limit = np.uint64(2**64 - 1)
        self._rows = self._bytes = 0
        self.thinned = False

    def thin(self, checked: Checked) -> _Part:
        """The good rows that may still be kept. Threads may do so while another adds."""
        rows = checked.batch.num_rows
        places = np.arange(rows, dtype=np.uint64) + np.uint64(checked.raw.start)
        hashes = mix(places ^ np.uint64(self._seeds[checked.raw.file]))
        chosen = hashes <= self._limit
        if checked.bad is not None:
            chosen &= ~checked.bad
        raw = replace(checked.raw, broken=(), skipped=())
        bare = replace(checked, raw=raw, bad=None, problems=(), new_values={}, unlisted=(), negative=())
        return _Part(bare, hashes).filter(chosen)

    def add(self, part: _Part) -> None:
        """Keep it, in the order of the rows."""
        self._take(part)
        while self._rows > KEPT_ROWS or (self._bytes > self._max_bytes and self._rows > 1):
            self.thinned = True
            self._limit //= np.uint64(2)
            before, self._kept, self._rows, self._bytes = self._kept[::-1], [], 0, 0
            while before:
                self._take(before.pop())

    def batches(self) -> list[Checked]:
        return [part.checked for part in self._kept]

    def _take(self, part: _Part) -> None:
        part = part.filter(part.hashes <= self._limit)
        if len(part.hashes):
            self._kept.append(part)
            self._rows += len(part.hashes)
            self._bytes += part.num_bytes


def _named(batch: pa.RecordBatch) -> Iterator[tuple[str, pa.Array]]:
    return zip(batch.schema.names, batch.columns, strict=True)


def _read_otherwise(checked: Checked) -> list[pa.Field]:
    """Columns of the file that the check made another type of, or does not know."""
    types = {field.name: field.type for field in checked.batch.schema}
    return [field for field in checked.raw.batch.schema if types.get(field.name) != field.type]


def _spread(number: int, chosen: int) -> list[int]:
    """`chosen` of `number` places, evenly."""
    return [int((index + 0.5) * number / chosen) for index in range(chosen)]
