"""The most frequent values of a stream, exact while there are few different ones."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from fairlead.data.summary.quantiles import CONFIDENCE

LIMIT = 4096
KEEP = 1024


class FrequentItems:
    """Values with their counts.

    Exact up to `limit` different values. Beyond, the (keep + 1)-th largest count is taken from all and the rest is
    dropped, as Misra and Gries (1982) do; merging is that of Agarwal, Cormode, Huang, Phillips, Wei, Yi (2012),
    "Mergeable summaries". A value occurred between its count and its count + `error` times, values that are not listed
    at most `error` times, and `error` <= rows / (keep + 1). Counts from a sample (one row of w) add a random error:
    `variance` is the sum of the squared ranges of its draws, see `quantiles`.
    """

    __slots__ = ("counts", "error", "exact", "keep", "limit", "total", "variance")

    def __init__(self, limit: int = LIMIT, keep: int = KEEP) -> None:
        self.limit, self.keep = limit, keep
        self.counts: dict[str | float, int] = {}
        self.total = 0
        self.error = 0
        self.exact = True
        self.variance = 0.0

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
        for value, count in other.counts.items():
            held[value] = held.get(value, 0) + count
        self.total += other.total
        self.error += other.error
        self.exact &= other.exact
        self.variance += other.variance
        self._reduce()

    def _reduce(self) -> None:
        if len(self.counts) <= (self.limit if self.exact else self.keep):
            return
        self.exact = False
        cut = int(np.partition(np.fromiter(self.counts.values(), np.int64), -self.keep - 1)[-self.keep - 1])
        self.counts = {value: count - cut for value, count in self.counts.items() if count > cut}
        self.error += cut

    def top(self, number: int) -> list[tuple[str | float, int]]:
        """The most frequent values with their counts; equal counts in the order of the values."""
        ordered = sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
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
            "values": list(self.counts),
            "counts": list(self.counts.values()),
            "total": self.total,
            "error": self.error,
            "exact": self.exact,
            "variance": self.variance,
        }

    @classmethod
    def from_value(cls, value: dict[str, Any]) -> "FrequentItems":
        """What `to_value` gave."""
        made = cls(*value["limits"])
        made.counts = dict(zip(value["values"], value["counts"], strict=True))
        made.total, made.error, made.exact = value["total"], value["error"], value["exact"]
        made.variance = float(value["variance"])
        return made


def most_frequent(counts: np.ndarray, keep: int) -> tuple[np.ndarray, int]:
    """(positions of the `keep` largest of int64 [N] in order, the largest count among the others)."""
    if len(counts) <= keep:
        return np.arange(len(counts)), 0
    cut = int(np.partition(counts, -keep - 1)[-keep - 1])
    return np.flatnonzero(counts > cut), cut
