"""Rows on their way to the device: read, transformed, shuffled one window ahead, in a background thread.

Transformed row groups are kept up to a number of bytes; what does not fit is read again in the next epoch, and then
only this worker's rows of it are transformed. Memory is bounded by two windows of this worker's rows, the cache, and
one raw row group.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch

from fairlead.dataset import LABEL, WEIGHT
from fairlead.train.data_plan import DataPlan, Piece, Rows, Window

EVALUATION_ROWS = 8192

Arrays = dict[str, np.ndarray]
Tensors = dict[str, torch.Tensor]


class RowGroup(Protocol):
    """A part of a split that is read at once."""

    @property
    def rows(self) -> int:
        """How many there are."""


class Source(Protocol):
    """What training needs of prepared data (`fairlead.dataset.PreparedData` is one): its row groups, one at a time."""

    def row_groups(self, split: str) -> tuple[Any, ...]:
        """Those of a split, in order."""

    def read(self, row_group: Any, columns: list[str] | None = None) -> pa.Table:
        """All of its rows; all columns, or these."""


Transform = Callable[[pa.Table], Mapping[str, np.ndarray]]


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Rows on the device. `weights` is None when every row counts fully; `rows` counts those that do."""

    tensors: Tensors
    labels: torch.Tensor
    weights: torch.Tensor | None
    rows: int


@dataclass(frozen=True, slots=True)
class StepBatch:
    """What this worker computes on in one step; `rows` is the size of the global batch."""

    epoch: int
    step: int
    micros: tuple[MicroBatch, ...]
    rows: int


class SplitReader:
    """The row groups of one split as arrays, label included; kept in memory while `cache_bytes` allows."""

    def __init__(
        self, source: Source, split: str, transform: Transform, label_dtype: type[np.generic], cache_bytes: int
    ) -> None:
        self.groups = source.row_groups(split)
        self._source, self._transform, self._label_dtype = source, transform, label_dtype
        self._left = cache_bytes
        self._kept: dict[int, Arrays] = {}

    def rows(self, group: int, which: Rows) -> Arrays:
        """Rows `which` (places in the row group) of one row group; [rows, ...] each."""
        kept = self._kept.get(group)
        if kept is None:
            table = self._source.read(self.groups[group])
            # Arrow's own size stands for the transformed one: whether to transform all rows must be known beforehand.
            if table.nbytes > self._left:
                return self._encode(table.take(pa.array(which)))
            kept = self._encode(table)
            size = sum(array.nbytes for array in kept.values())
            if size <= self._left:
                self._left -= size
                self._kept[group] = kept
        return {name: array[which] for name, array in kept.items()}

    def _encode(self, table: pa.Table) -> Arrays:
        arrays = dict(self._transform(table))
        arrays[LABEL] = table[LABEL].to_numpy().astype(self._label_dtype)
        if WEIGHT in table.column_names:
            arrays[WEIGHT] = table[WEIGHT].to_numpy().astype(np.float32)
        return arrays


class Feed:
    """One worker's batches."""

    def __init__(
        self, plan: DataPlan, train: SplitReader, evaluation: SplitReader, rank: int, world: int, device: torch.device
    ) -> None:
        self.plan = plan
        self._train, self._evaluation = train, evaluation
        self._rank, self._world, self._device = rank, world, device

    def steps(self, epoch: int, step: int, epochs: int) -> Iterator[StepBatch]:
        """This worker's batches from position (epoch, step) to the end of the last epoch."""
        windows = self._windows(epoch, step, epochs)
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="fairlead-train-feed") as pool:
            ahead = pool.submit(next, windows, None)
            rest: Arrays | None = None
            for at in range(epoch, epochs):
                for number in range(step if at == epoch else 0, self.plan.steps_per_epoch):
                    micros = []
                    for piece in self.plan.pieces(self._rank, self._world, number):
                        needed, parts = piece.stop - piece.start, []
                        while needed:
                            if rest is None or not len(rest[LABEL]):
                                window = ahead.result()
                                if window is None:
                                    raise RuntimeError(f"the data plan has no rows for epoch {at}, step {number}")
                                rest = window
                                ahead = pool.submit(next, windows, None)
                                continue
                            parts.append({name: array[:needed] for name, array in rest.items()})
                            taken = len(parts[-1][LABEL])
                            rest = {name: array[taken:] for name, array in rest.items()}
                            needed -= taken
                        micros.append(self._micro(parts, piece))
                    first, last = self.plan.step_rows(number)
                    yield StepBatch(at, number, tuple(micros), last - first)

    def evaluation(self) -> Iterator[MicroBatch]:
        """This worker's share of the validation split, in order."""
        for number, group in enumerate(self._evaluation.groups):
            first, last = (group.rows * part // self._world for part in (self._rank, self._rank + 1))
            if first == last:
                continue
            arrays = self._evaluation.rows(number, np.arange(first, last, dtype=np.int64))
            for start in range(0, last - first, EVALUATION_ROWS):
                part = {name: array[start : start + EVALUATION_ROWS] for name, array in arrays.items()}
                yield self._to_device(part, None)

    def sample(self, rows: int) -> MicroBatch:
        """The first rows of the training split's first row group that has any; the same for all workers."""
        for number, group in enumerate(self._train.groups):
            if group.rows:
                which = np.arange(min(rows, group.rows), dtype=np.int64)
                return self._to_device(self._train.rows(number, which), None)
        raise RuntimeError("the training split has no rows")

    def _windows(self, epoch: int, step: int, epochs: int) -> Iterator[Arrays]:
        for at in range(epoch, epochs):
            first_step = step if at == epoch else 0
            for window in self.plan.windows(at):
                own = self._own_places(window, first_step)
                if len(own):
                    yield self._gather(window, self.plan.shuffled(at, window)[own])

    def _own_places(self, window: Window, first_step: int) -> Rows:
        """Places inside the window that this worker computes on, from `first_step` on, in the order of its pieces."""
        batch = self.plan.global_batch
        places = []
        for step in range(max(first_step, window.start // batch), -(-(window.start + window.rows) // batch)):
            for piece in self.plan.pieces(self._rank, self._world, step):
                start = max(piece.start - window.start, 0)
                stop = min(piece.stop - window.start, window.rows)
                if start < stop:
                    places.append(np.arange(start, stop, dtype=np.int64))
        return np.concatenate(places) if places else np.empty(0, dtype=np.int64)

    def _gather(self, window: Window, rows: Rows) -> Arrays:
        """Rows of the window's concatenated groups, in the given order."""
        ends = np.cumsum([self.plan.group_rows[group] for group in window.groups])
        belongs_to = np.searchsorted(ends, rows, side="right")
        out: Arrays = {}
        for number, group in enumerate(window.groups):
            here = np.flatnonzero(belongs_to == number)
            if not len(here):
                continue
            start = int(ends[number]) - self.plan.group_rows[group]
            for name, array in self._train.rows(group, rows[here] - start).items():
                if name not in out:
                    out[name] = np.empty((len(rows), *array.shape[1:]), dtype=array.dtype)
                out[name][here] = array
        return out

    def _micro(self, parts: list[Arrays], piece: Piece) -> MicroBatch:
        joined = (
            parts[0] if len(parts) == 1 else {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        )
        return self._to_device(joined, piece)

    def _to_device(self, arrays: Arrays, piece: Piece | None) -> MicroBatch:
        tensors = {}
        for name, array in arrays.items():
            tensor = torch.from_numpy(np.ascontiguousarray(array))
            if self._device.type == "cuda":
                tensor = tensor.pin_memory().to(self._device, non_blocking=True)
            tensors[name] = tensor
        labels = tensors.pop(LABEL)
        padded = piece is not None and piece.padded
        weights = tensors.pop(WEIGHT, None)
        if padded:
            weights = torch.zeros(len(labels), device=self._device)
        return MicroBatch(tensors, labels, weights, 0 if padded else len(labels))
