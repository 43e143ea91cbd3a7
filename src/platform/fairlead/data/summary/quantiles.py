"""Quantiles of a stream from a few thousand of its numbers, with a bound that the sketch itself keeps account of."""

import math
from typing import Any

import numpy as np

from fairlead.data.summary.packing import pack, unpack
from fairlead.features.hashing import mix

K = 1024
GROUP_K = 256
CONFIDENCE = 0.99
_SMALLEST = 16
_WAITING = 16  # times k


class QuantileSketch:
    """Levels of numbers: one at level h stands for 2**h. A full level is sorted, one of two neighbours goes up.

    The sketch of Karnin, Lang, Liberty (2016), "Optimal quantile approximation in streams", on whole arrays: a level
    that holds many times its share is thinned by a stride of 2**j at once. Each such step changes the rank of a value
    by at most stride * 2**h and by 0 on average, and so does taking one row of every w of a batch (`add` with `level`).
    The steps' random offsets are independent (from a seed, so that the same stream gives the same sketch), hence with
    V the sum of the squared ranges P(|rank error| >= t) <= 2 exp(-2 t^2 / V) (Hoeffding 1963). `variance` is V; it adds
    up over merges, so `rank_error` holds after any merge. Up to `k` numbers nothing is thinned and quantiles are exact.
    """

    __slots__ = ("_levels", "_num_waiting", "_steps", "k", "seed", "variance", "weight")

    def __init__(self, seed: int = 0, k: int = K) -> None:
        self.k, self.seed = k, seed & (2**64 - 1)
        self.weight = 0
        self.variance = 0.0
        self._levels: list[list[np.ndarray]] = []
        self._num_waiting = 0
        self._steps = 0

    def add(self, values: np.ndarray, level: int = 0) -> None:
        """Take finite float64 [N]; with `level` each is one, drawn at random, of 2**level numbers."""
        if not len(values):
            return
        self._put(values, level)
        self.weight += len(values) << level
        if level:
            self.variance += float(len(values)) * 4.0**level
        if self._num_waiting > _WAITING * self.k:
            self.settle()

    def merge(self, other: "QuantileSketch") -> None:
        """Add what `other` saw."""
        for level, chunks in enumerate(other._levels):
            for chunk in chunks:
                self._put(chunk, level)
        self.weight += other.weight
        self.variance += other.variance
        self._steps += other._steps
        if self._num_waiting > _WAITING * self.k:
            self.settle()

    def relax(self, most: int) -> None:
        """Thin what waits if that is more than `most` numbers."""
        if self._num_waiting > most or not most:
            self.settle()

    def settle(self) -> None:
        """Thin what waits."""
        self._num_waiting = 0
        level = 0
        while level < len(self._levels):
            held = sum(len(chunk) for chunk in self._levels[level])
            capacity = max(_SMALLEST, math.ceil(self.k * (2 / 3) ** (len(self._levels) - 1 - level)))
            if held > capacity:
                self._thin(level, capacity)
            level += 1

    def _put(self, values: np.ndarray, level: int) -> None:
        while len(self._levels) <= level:
            self._levels.append([])
        self._levels[level].append(values)
        self._num_waiting += len(values)

    def _thin(self, level: int, capacity: int) -> None:
        values = np.sort(np.concatenate(self._levels[level]))
        up = max(1, (len(values) // capacity).bit_length() - 1)
        stride = 1 << up
        whole = len(values) // stride * stride
        drawn = int(mix(np.array([self.seed ^ self._steps], np.uint64), level + 1)[0])
        self._steps += 1
        # What does not fill a stride stays; which end it stands at is drawn too, so that no end is favoured.
        if drawn >> 63:
            thinned, rest = values[:whole], values[whole:]
        else:
            thinned, rest = values[len(values) - whole :], values[: len(values) - whole]
        kept = thinned[drawn % stride :: stride].copy()
        self.variance += 4.0 ** (level + up)
        self._levels[level] = [rest.copy()] if len(rest) else []
        while len(self._levels) <= level + up:
            self._levels.append([])
        self._levels[level + up].append(kept)

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """(numbers in order float64 [M], what each stands for int64 [M])."""
        self.settle()
        chunks = [(chunk, level) for level, chunks in enumerate(self._levels) for chunk in chunks]
        if not chunks:
            return np.empty(0), np.empty(0, np.int64)
        values = np.concatenate([chunk for chunk, _ in chunks])
        weights = np.concatenate([np.full(len(chunk), 1 << level, np.int64) for chunk, level in chunks])
        order = np.argsort(values, kind="stable")
        return values[order], weights[order]

    def quantiles(self, shares: np.ndarray | list[float]) -> np.ndarray:
        """float64 [Q]: the smallest number at which the share of numbers up to it reaches each of `shares`."""
        values, weights = self.points()
        if not len(values):
            return np.full(len(shares), np.nan)
        ranks = np.cumsum(weights)
        at = np.searchsorted(ranks, np.asarray(shares) * ranks[-1] - 1e-9, side="left")
        return np.asarray(values[np.minimum(at, len(values) - 1)])

    def shares_up_to(self, at: np.ndarray) -> np.ndarray:
        """float64 [Q]: the share of numbers that are at most each of `at`."""
        values, weights = self.points()
        ranks = np.concatenate([[0], np.cumsum(weights)])
        return np.asarray(ranks[np.searchsorted(values, at, side="right")] / max(int(ranks[-1]), 1))

    @property
    def rank_error(self) -> float:
        """How far off the share of a quantile may be, with a probability of `CONFIDENCE`; 0: exact."""
        self.settle()
        if not self.weight:
            return 0.0
        return math.sqrt(self.variance * math.log(2 / (1 - CONFIDENCE)) / 2) / self.weight

    def to_value(self) -> dict[str, Any]:
        """JSON."""
        self.settle()
        levels = [pack(np.concatenate(chunks)) if chunks else "" for chunks in self._levels]
        state = {"k": self.k, "seed": f"{self.seed:x}", "weight": self.weight, "steps": self._steps}
        return {**state, "variance": self.variance, "levels": levels}

    @classmethod
    def from_value(cls, value: dict[str, Any]) -> "QuantileSketch":
        """What `to_value` gave."""
        made = cls(int(value["seed"], 16), value["k"])
        made.weight, made.variance, made._steps = value["weight"], float(value["variance"]), value["steps"]
        for text in value["levels"]:
            made._levels.append([unpack(text, "f8")] if text else [])
        return made
