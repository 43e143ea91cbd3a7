"""The most frequent values of a stream, exact while there are few different ones."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from fairlead.data.summary.quantiles import CONFIDENCE

LIMIT = 4096
KEEP = 1024
_PACKED = 512


class FrequentItems:
    """Values with their counts.

    Exact up to `limit` different values. Beyond, the (keep + 1)-th largest count is taken from all and the rest is
    dropped, as Misra and Gries (1982) do; merging is that of Agarwal, Cormode, Huang, Phillips, Wei, Yi (2012),
    "Mergeable summaries". A value occurred between its count and its count + `error` times, values that are not listed
    at most `error` times, and `error` <= rows / (keep + 1). Counts from a sample (one row of w) add a random error:
    `variance` is the sum of the squared ranges of its draws, see `quantiles`. Many numbers wait as two arrays, a
    fifth of the memory of a table.
    """

    __slots__ = ("_counts", "_packed", "error", "exact", "keep", "limit", "total", "variance")

    def __init__(self, limit: int = LIMIT, keep: int = KEEP) -> None:
        self.limit, self.keep = limit, keep
        self._counts: dict[str | float, int] = {}
        self._packed: tuple[np.ndarray, np.ndarray] | None = None
        self.total = 0
        self.error = 0
        self.exact = True
        self.variance = 0.0

    @property
    def counts(self) -> dict[str | float, int]:
        """Of each value that is listed."""
        if self._packed is not None:
            self._counts, self._packed = dict(self._items()), None
        return self._counts

    @property
    def num_listed(self) -> int:
        """How many values are listed."""
        return len(self._counts) if self._packed is None else len(self._packed[0])

    def _items(self) -> Iterable[tuple[str | float, int]]:
        if self._packed is None:
            return self._counts.items()
        values, counts = self._packed
        return zip(values.tolist(), counts.tolist(), strict=True)

    def pack(self) -> None:
        """Let many numbers wait as arrays; nothing else changes."""
        if self._packed is None and len(self._counts) > _PACKED and isinstance(next(iter(self._counts)), float):
            counts = np.fromiter(self._counts.values(), np.int64)
            self._counts, self._packed = {}, (np.array(list(self._counts), np.float64), counts)

    def add_numbers(self, values: np.ndarray, counts: np.ndarray) -> None:
        """Take float64 [N] with their exact counts, int64 [N]."""
        fits = _PACKED < len(values) <= (self.limit if self.exact else self.keep)
        if self.num_listed or not fits or not np.all(np.diff(values) > 0):
            self.add(values.tolist(), counts)
            return
        self._packed = values.astype(np.float64), counts.astype(np.int64)
        self.total += int(counts.sum())

    def add(self, values: Iterable[str | float], counts: np.ndarray) -> None:
        """Take different values with their exact counts, int64 [N]."""
        held = self.counts
        for value, count in zip(values, counts.tolist(), strict=True):
            held[value] = held.get(value, 0) + count
        self.total += int(counts.sum())
        self._reduce()

    def add_rest(self, rows: int, error: int) -> None:
        """`rows` more that are not listed, no value of them more often than `error`."""
        if rows:
            self.total += rows
            self.error += error
            self.exact = False
            self._reduce()

    def merge(self, other: "FrequentItems") -> None:
        """Add what `other` saw."""
        held = self.counts
        for value, count in other._items():
            held[value] = held.get(value, 0) + count
        self.total += other.total
        self.error += other.error
        self.exact &= other.exact
        self.variance += other.variance
        self._reduce()

    def _reduce(self) -> None:
        if self.num_listed <= (self.limit if self.exact else self.keep):
            return
        self.exact = False
        held = self.counts
        cut = int(np.partition(np.fromiter(held.values(), np.int64), -self.keep - 1)[-self.keep - 1])
        self._counts = {value: count - cut for value, count in held.items() if count > cut}
        self.error += cut

    def top(self, number: int) -> list[tuple[str | float, int]]:
        """The most frequent values with their counts; equal counts in the order of the values."""
        ordered = sorted(self._items(), key=lambda item: (-item[1], item[0]))
        # The middle of the range that the count may lie in.
        half = self.error // 2
        return [(value, count + half) for value, count in ordered[:number]]

    @property
    def count_error(self) -> int:
        """How far off a count of `top` may be, with a probability of `CONFIDENCE` where rows were drawn; 0: exact."""
        drawn = math.sqrt(self.variance * math.log(2 / (1 - CONFIDENCE)) / 2)
        return -(-self.error // 2) + math.ceil(drawn)

    def to_value(self) -> dict[str, Any]:
        """JSON."""
        return {
            "limits": [self.limit, self.keep],
            "values": [value for value, _ in self._items()],
            "counts": [count for _, count in self._items()],
            "total": self.total,
            "error": self.error,
            "exact": self.exact,
            "variance": self.variance,
        }

    @classmethod
    def from_value(cls, value: dict[str, Any]) -> "FrequentItems":
        """What `to_value` gave."""
        made = cls(*value["limits"])
        made._counts = dict(zip(value["values"], value["counts"], strict=True))
        made.total, made.error, made.exact = value["total"], value["error"], value["exact"]
        made.variance = float(value["variance"])
        return made


def most_frequent(counts: np.ndarray, keep: int) -> tuple[np.ndarray, int]:
    """(positions of the `keep` largest of int64 [N] in order, the largest count among the others)."""
    if len(counts) <= keep:
        return np.arange(len(counts)), 0
    cut = int(np.partition(counts, -keep - 1)[-keep - 1])
    return np.flatnonzero(counts > cut), cut
