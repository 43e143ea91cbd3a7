"""Which row is in which step: pure functions of (seed, epoch).

Row groups are drawn in a random order and put together into windows of at most `window_rows` rows; the rows of a window
are shuffled among themselves. The rows of an epoch form one stream, window after window, and a global batch is the next
`global_batch` rows of that stream. Workers share a batch: they change who computes on a row, never which rows a step
sees. A position is (epoch, step), so going on after a kill needs no replay.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]

_ORDER_OF_GROUPS, _ORDER_IN_WINDOW = 1, 2


@dataclass(frozen=True, slots=True)
class Window:
    """Row groups whose rows are shuffled together. `start` is the place of its first row in the epoch's stream."""

    index: int
    groups: tuple[int, ...]
    start: int
    rows: int


@dataclass(frozen=True, slots=True)
class Piece:
    """What one worker computes on in one micro-batch: rows [start, stop) of the epoch's stream.

    When there are fewer rows than workers, `padded` says that the one row stands in with weight 0, because every worker
    must take part in every step."""

    step: int
    micro: int
    start: int
    stop: int
    padded: bool


@dataclass(frozen=True, slots=True)
class DataPlan:
    """The order of an epoch's rows and their way into steps. `group_rows`: rows of each row group of the split."""

    group_rows: tuple[int, ...]
    global_batch: int
    accumulate: int
    window_rows: int
    seed: int

    @property
    def rows(self) -> int:
        """Rows of an epoch."""
        return sum(self.group_rows)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch; the last one may have fewer rows."""
        return -(-self.rows // self.global_batch)

    def step_rows(self, step: int) -> tuple[int, int]:
        """The rows [start, stop) of the stream that `step` (0 is the epoch's first) sees."""
        return step * self.global_batch, min((step + 1) * self.global_batch, self.rows)

    def windows(self, epoch: int) -> tuple[Window, ...]:
        """The epoch's windows in order. A row group larger than a window is a window of its own."""
        order = _generator(self.seed, epoch, _ORDER_OF_GROUPS).permutation(len(self.group_rows))
        found: list[Window] = []
        groups: list[int] = []
        start = rows = 0
        for group in (int(g) for g in order if self.group_rows[g]):
            if groups and rows + self.group_rows[group] > self.window_rows:
                found.append(Window(len(found), tuple(groups), start, rows))
                groups, start, rows = [], start + rows, 0
            groups.append(group)
            rows += self.group_rows[group]
        if groups:
            found.append(Window(len(found), tuple(groups), start, rows))
        return tuple(found)

    def shuffled(self, epoch: int, window: Window) -> Rows:
        """For each place in the window the row of its concatenated groups that goes there; int64 [rows]."""
        return _generator(self.seed, epoch, _ORDER_IN_WINDOW, window.index).permutation(window.rows)

    def pieces(self, rank: int, world: int, step: int) -> Iterator[Piece]:
        """The micro-batches of one worker in one step, `accumulate` of them."""
        start, stop = self.step_rows(step)
        size, parts = stop - start, self.accumulate * world
        for micro in range(self.accumulate):
            part = micro * world + rank
            first, last = start + size * part // parts, start + size * (part + 1) // parts
            yield Piece(step, micro, first, max(last, first + 1), padded=last == first)


def sizes(row_groups: Sequence[object]) -> tuple[int, ...]:
    """Rows of each row group (anything with `rows`)."""
    return tuple(int(group.rows) for group in row_groups)  # type: ignore[attr-defined]


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))
