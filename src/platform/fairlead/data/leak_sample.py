"""Some rows of a source for the leak scan of a profile: from all over it, few enough for the memory that is given.

Of a source of more than a million rows (`READ_ROWS`) only as much is read: whole files spread evenly over all of them,
and of large Parquet files reads spread evenly within. Of text, which has no places to jump to, each file's first rows.
Rows are then kept by a hash of their place: first all, and each time they are too many every second of them. The same
files give the same rows, whatever the threads.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from fairlead.data.checks import Checked, Checker
from fairlead.data.readers import BATCH_ROWS, Task
from fairlead.data.sources import Source, run_in_order
from fairlead.features.hashing import mix, stable_hash

READ_ROWS = 1_000_000
KEPT_ROWS = 150_000
_TEXT_FILES = 16
_LARGE_GROUP_BYTES = 256 * 2**20


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
    source: Source, checker: Checker, max_bytes: int, threads: int, read_rows: int | None = None
) -> LeakSample:
    """At most `KEPT_ROWS` rows, of at most `max_bytes`, out of about `read_rows` (`READ_ROWS`). Raises what reading and
    checking raise."""
    plan = _Plan(source, list(checker.rules), READ_ROWS if read_rows is None else read_rows)
    kept = _Kept([stable_hash(file.uri) for file in source.files], max_bytes)
    for checked in run_in_order(plan.tasks(), lambda task: [checker.check(raw) for raw in task()], threads):
        kept.add(checked)
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
        most = max(1, self._rows_of_file // BATCH_ROWS)
        sizes = (footer.row_group(group).total_byte_size for group in range(footer.num_row_groups))
        if max(sizes) > _LARGE_GROUP_BYTES:  # read as a stream, so that later tasks cost the earlier ones
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


class _Kept:
    """Rows whose hash is below a limit that sinks when they are too many."""

    def __init__(self, seeds: Sequence[int], max_bytes: int) -> None:
        self._seeds, self._max_bytes = seeds, max_bytes
        self._kept: list[tuple[Checked, np.ndarray]] = []
        self._limit = np.uint64(2**64 - 1)
        self.thinned = False

    def add(self, checked: Checked) -> None:
        rows = checked.batch.num_rows
        places = np.arange(rows, dtype=np.uint64) + np.uint64(checked.raw.start)
        hashes = mix(places ^ np.uint64(self._seeds[checked.raw.file]))
        chosen = hashes <= self._limit
        if checked.bad is not None:
            chosen &= ~checked.bad
        self._take(checked, hashes, chosen)
        while self._too_many():
            self.thinned = True
            self._limit //= np.uint64(2)
            before, self._kept = self._kept, []
            for part, its_hashes in before:
                self._take(part, its_hashes, its_hashes <= self._limit)

    def batches(self) -> list[Checked]:
        return [checked for checked, _ in self._kept]

    def _take(self, checked: Checked, hashes: np.ndarray, chosen: np.ndarray) -> None:
        if not chosen.any():
            return
        mask = pa.array(chosen)
        raw = replace(checked.raw, batch=checked.raw.batch.filter(mask), broken=(), skipped=())
        part = replace(checked, raw=raw, batch=checked.batch.filter(mask), bad=None, problems=(), new_values={})
        self._kept.append((part, hashes[chosen]))

    def _too_many(self) -> bool:
        rows = sum(checked.batch.num_rows for checked, _ in self._kept)
        size = sum(checked.batch.nbytes for checked, _ in self._kept)
        return bool(rows > KEPT_ROWS or (size > self._max_bytes and rows > 1))


def _spread(number: int, chosen: int) -> list[int]:
    """`chosen` of `number` places, evenly."""
    return [int((index + 0.5) * number / chosen) for index in range(chosen)]
