"""The rows of a window of time, or of another source, in the schema's types: as many as are wanted, at random.

Rows that break a rule of the schema are kept: that a column is a hundred times what it was is what a comparison is to
find. What cannot be read in the column's type is missing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from fairlead.data.checks import Checker
from fairlead.data.inference import infer_schema
from fairlead.data.schema import Schema, load_schema
from fairlead.data.sources import Source
from fairlead.errors import EmptyData, UsageError
from fairlead.features.instants import wall_clock_array
from fairlead.spec.project import Project

Progress = Callable[[str, float | None], None]


@dataclass(frozen=True, slots=True)
class Window:
    """From `start` to before `end` on the clock of the time column; None is open. `text` is how a person wrote it."""

    text: str
    start: np.datetime64 | None = None
    end: np.datetime64 | None = None

    @property
    def open(self) -> bool:
        """True when it takes every row, those without a time as well."""
        return self.start is None and self.end is None

    def mask(self, clock: np.ndarray) -> np.ndarray:
        """Which rows are inside: bool [N] of datetime64 [N]."""
        inside = np.asarray(~np.isnat(clock))
        if self.start is not None:
            inside &= clock >= self.start
        if self.end is not None:
            inside &= clock < self.end
        return inside


@dataclass(frozen=True)
class WindowRows:
    """`table` are the rows kept of the `total` rows of a window."""

    window: Window
    table: pa.Table
    total: int


def parse_window(text: str) -> Window:
    """``2013-01-01..2013-02-01`` (to before), ``..2013-02-01``, ``2013-09`` (a month), ``all``. Raises UsageError."""
    try:
        if text == "all":
            return Window(text)
        if ".." in text:
            start, end = (part.strip() for part in text.split("..", 1))
            window = Window(text, _moment(start), _moment(end))
        else:
            first = np.datetime64(text).astype({4: "datetime64[Y]", 7: "datetime64[M]", 10: "datetime64[D]"}[len(text)])
            window = Window(text, first.astype("datetime64[us]"), (first + 1).astype("datetime64[us]"))
    except (KeyError, ValueError) as error:
        raise UsageError(
            f"{text!r} is no window of time", why=str(error), fix="write 2013-01-01..2013-02-01, 2013-09 or all"
        ) from error
    if window.start is not None and window.end is not None and window.start >= window.end:
        raise UsageError(f"the window {text!r} is empty", why="it ends before it begins", fix="write FROM..TO")
    return window


def _moment(text: str) -> np.datetime64 | None:
    return np.datetime64(text).astype("datetime64[us]") if text else None


def window_schema(project: Project, base: Path) -> Schema:
    """The project's schema, or one inferred from `data.source` and written nowhere."""
    name = project.data.validate_.schema_file
    if name is not None and (base / name).exists():
        return load_schema(base / name)
    instants = [*project.features.datetime, *([project.data.time] if project.data.time else [])]
    source = Source(project.data, base)
    return infer_schema(source, never_bounded=[project.data.label.column], instants=instants).schema


def read_windows(
    project: Project,
    base: Path,
    schema: Schema,
    windows: Sequence[Window],
    *,
    source: str | None = None,
    most_rows: int = 50_000,
    a_day: bool = False,
    progress: Progress | None = None,
) -> list[WindowRows]:
    """Up to `most_rows` rows of each window, at random, with the columns that the project names (of each day with
    `a_day`); of `source` instead of `data.source` where given. A column that the files lack is left out.

    Raises SourceNotFound, SourceUnreadable, UsageError for windows without `data.time`, EmptyData for an empty one."""
    data = project.data if source is None else project.data.model_copy(update={"source": source, "format": "auto"})
    time = data.time
    if time is None and (a_day or not all(window.open for window in windows)):
        raise UsageError("windows of time need a time", where="data.time", fix="name the column in data.time")
    opened = Source(data, base)
    names = _columns(project, schema, opened)
    checker = Checker(schema, [file.uri for file in opened.files], only=names)
    kept = [_Kept(most_rows, seed, a_day) for seed in range(len(windows))]
    span: tuple[np.datetime64, np.datetime64] | None = None
    for checked in opened.scan(checker.check, names):
        batch = checked.batch
        clock = wall_clock_array(batch.column(time)) if time in names else None
        span = _span(span, clock)
        for window, sample in zip(windows, kept, strict=True):
            mask = np.ones(batch.num_rows, bool) if clock is None or window.open else window.mask(clock)
            sample.add(batch, mask, clock)
        if progress is not None:
            progress(f"read {sum(sample.total for sample in kept):,} rows of the windows", None)
    opened.check_unchanged()
    for window, sample in zip(windows, kept, strict=True):
        if not sample.total:
            where = source or str(project.data.source)
            fix = (
                f"choose a window of {span[0]} to {span[1]}, where the rows are"
                if span
                else "choose a window with rows"
            )
            raise EmptyData(f"the window {window.text} has no rows", where=where, fix=fix)
    return [WindowRows(window, sample.table(), sample.total) for window, sample in zip(windows, kept, strict=True)]


def _span(
    span: tuple[np.datetime64, np.datetime64] | None, clock: np.ndarray | None
) -> tuple[np.datetime64, np.datetime64] | None:
    """The first and the last day that were seen."""
    if clock is None:
        return span
    seen = clock[~np.isnat(clock)].astype("datetime64[D]")
    if not len(seen):
        return span
    first, last = seen.min(), seen.max()
    return (min(first, span[0]), max(last, span[1])) if span else (first, last)


def _columns(project: Project, schema: Schema, source: Source) -> list[str]:
    wanted = [*project.features.names(), project.data.label.column, *([project.data.time] if project.data.time else [])]
    there = [set(source.columns_of(number)) for number in range(len(source.files))]
    return [name for name in dict.fromkeys(wanted) if name in schema.columns and all(name in one for one in there)]


class _Kept:
    """A uniform sample of the rows seen: those with the smallest random priorities. By day: so many of each day."""

    def __init__(self, most: int, seed: int, a_day: bool) -> None:
        self._most, self._a_day = most, a_day
        self._random = np.random.default_rng([7, seed])
        self._parts: list[pa.RecordBatch] = []
        self._priorities: list[np.ndarray] = []
        self._days: list[np.ndarray] = []
        self._limit = 2 * most
        self.total = 0

    def add(self, batch: pa.RecordBatch, mask: np.ndarray, clock: np.ndarray | None) -> None:
        positions = np.flatnonzero(mask)
        self.total += len(positions)
        if not len(positions):
            return
        self._parts.append(batch.take(pa.array(positions)))
        self._priorities.append(self._random.random(len(positions)))
        days = np.zeros(len(positions), np.int64)
        if self._a_day and clock is not None:
            days = clock[positions].astype("datetime64[D]").astype(np.int64)
        self._days.append(days)
        if sum(len(part) for part in self._priorities) > self._limit:
            self._settle()

    def table(self) -> pa.Table:
        self._settle()
        return pa.Table.from_batches(self._parts)

    def _settle(self) -> None:
        table = pa.Table.from_batches(self._parts)
        priorities, days = np.concatenate(self._priorities), np.concatenate(self._days)
        order = np.lexsort((priorities, days))
        _, starts = np.unique(days[order], return_index=True)
        rank = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
        chosen = np.sort(order[rank < self._most])
        if len(chosen) < len(order):
            table = table.take(pa.array(chosen))
        self._parts = table.combine_chunks().to_batches()
        self._priorities, self._days = [priorities[chosen]], [days[chosen]]
        self._limit = max(2 * self._most, 2 * len(chosen))
