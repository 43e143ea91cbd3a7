"""A bounded random sample of a stream of numbers, for quantiles."""

import numpy as np

from fairlead.features.hashing import stable_hash

CAPACITY = 100_000


class BoundedSample:
    """The numbers of a stream with the smallest random priorities: a uniform sample without replacement.

    Up to `capacity` numbers all are kept and quantiles are exact. Beyond that the rank of a quantile is off by at most
    sqrt(ln(2/d) / (2 capacity)) with probability 1 - d (Dvoretzky, Kiefer, Wolfowitz 1956; Massart 1990): 0.9 % of the
    rows at a capacity of 100,000 and d = 1e-6; near the ends of the distribution the error is far smaller, its standard
    deviation being sqrt(q (1 - q) / capacity). Priorities come from a generator seeded by `name`, so that the same
    stream gives the same sample. Memory: 16 bytes a number.
    """

    def __init__(self, name: str, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self.seen = 0
        self._random = np.random.Generator(np.random.Philox(stable_hash(name)))
        self._values = np.empty(0, np.float64)
        self._priorities = np.empty(0, np.float64)
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self._num_waiting = 0
        self._limit = 1.0

    @property
    def exact(self) -> bool:
        """True while the sample holds every number."""
        return self.seen <= self.capacity

    def update(self, values: np.ndarray) -> None:
        """Take float64 [N] without NaN."""
        if not len(values):
            return
        self.seen += len(values)
        priorities = self._random.random(len(values))
        if self._limit < 1.0:
            kept = priorities < self._limit
            values, priorities = values[kept], priorities[kept]
        self._waiting.append((np.asarray(values, np.float64).copy(), priorities))
        self._num_waiting += len(values)
        if self._num_waiting > self.capacity // 2:
            self._settle()

    def values(self) -> np.ndarray:
        """The sample, sorted: float64 [min(seen, capacity)]."""
        self._settle()
        return np.sort(self._values)

    def _settle(self) -> None:
        if not self._waiting:
            return
        self._values = np.concatenate([self._values, *(values for values, _ in self._waiting)])
        self._priorities = np.concatenate([self._priorities, *(priorities for _, priorities in self._waiting)])
        self._waiting, self._num_waiting = [], 0
        if len(self._values) > self.capacity:
            kept = np.argpartition(self._priorities, self.capacity - 1)[: self.capacity]
            self._values, self._priorities = self._values[kept], self._priorities[kept]
            self._limit = float(self._priorities.max())
