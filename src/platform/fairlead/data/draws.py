"""Drawing rows from a stream of unknown length: simple, stratified, weighted, importance; seeded, mergeable.

Every row gets a key from the seeded hash of its place, and those with the smallest keys are the sample, so it needs
memory for the sample only, two parts of a stream can be drawn apart and merged, and the order of arrival plays no role.
Keys are exponential, -ln(u) / w: with equal weights the sample is simple and without replacement (what a reservoir
gives; Vitter 1985, "Random sampling with a reservoir"), with weights it is the weighted one of Efraimidis and Spirakis
(2006, "Weighted random sampling with a reservoir", algorithm A-ES): each next row is drawn with a probability in
proportion to its weight among those left.

A weighted sample is no picture of the whole until each row counts 1 / its chance of being drawn. With the smallest key
left out as threshold t, a row of weight w was drawn with the chance 1 - exp(-w t), given the others; sums over rows
with weights 1 / chance have no bias (rank conditioning; Cohen and Kaplan 2007, "Summarizing data using bottom-k
sketches").
"""

from dataclasses import dataclass

import numpy as np

from fairlead.features.hashing import mix


@dataclass(frozen=True)
class Drawn:
    """`places` int64 [K], rising: the numbers of the drawn rows; `weights` float64 [K]: how many rows of the whole each
    stands for, so that their sum estimates the number of rows."""

    places: np.ndarray
    weights: np.ndarray


class Reservoir:
    """The `size` rows with the smallest keys of all that came by."""

    def __init__(self, size: int, seed: int) -> None:
        if size < 1:
            raise ValueError("a sample has at least one row")
        self._size, self._seed = size, seed
        self._places = np.empty(0, np.int64)
        self._keys = np.empty(0)
        self._chances = np.empty(0)
        self.seen = 0

    def update(self, places: np.ndarray, weights: np.ndarray | None = None) -> None:
        """Rows by their place in the stream, int64 [N], each place once; `weights` [N], at least 0, by default 1.
        Raises ValueError for weights that are negative or not finite."""
        chances = np.ones(len(places)) if weights is None else np.asarray(weights, np.float64)
        if not np.isfinite(chances).all() or (chances < 0).any():
            raise ValueError("weights must be finite and at least 0")
        able = chances > 0
        self.seen += len(places)
        places, chances = places[able], chances[able]
        # The middle of each of 2**53 cells: never 0, whose logarithm is not finite, and never 1.
        uniform = ((mix(places.astype(np.uint64), self._seed) >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
        self._keep(places, -np.log(uniform) / chances, chances)

    def merge(self, other: "Reservoir") -> None:
        """Take the rows of another part of the stream, drawn with the same size and seed."""
        if (other._size, other._seed) != (self._size, self._seed):
            raise ValueError("only samples of the same size and seed can be merged")
        self.seen += other.seen
        self._keep(other._places, other._keys, other._chances)

    def finish(self) -> Drawn:
        """The sample."""
        count = min(self._size, len(self._places))
        order = np.argsort(self._keys, kind="stable")
        chosen = order[:count]
        weights = np.ones(count)
        if len(order) > count:
            threshold = float(self._keys[order[count]])
            weights = -1.0 / np.expm1(-self._chances[chosen] * threshold)
        by_place = np.argsort(self._places[chosen], kind="stable")
        return Drawn(self._places[chosen][by_place], weights[by_place])

    def _keep(self, places: np.ndarray, keys: np.ndarray, chances: np.ndarray) -> None:
        places = np.concatenate([self._places, places])
        keys = np.concatenate([self._keys, keys])
        chances = np.concatenate([self._chances, chances])
        # One more than the sample: its key is the threshold.
        if len(keys) > self._size + 1:
            best = np.argpartition(keys, self._size)[: self._size + 1]
            places, keys, chances = places[best], keys[best], chances[best]
        self._places, self._keys, self._chances = places, keys, chances


class StratifiedReservoir:
    """A reservoir for each stratum; the sample has each stratum's share of the stream, to the row."""

    def __init__(self, size: int, seed: int) -> None:
        self._size, self._seed = size, seed
        self._parts: dict[int, Reservoir] = {}

    def update(self, places: np.ndarray, strata: np.ndarray) -> None:
        """Rows by their place in the stream with their stratum, int64 [N]."""
        for stratum in np.unique(strata).tolist():
            part = self._parts.setdefault(stratum, Reservoir(self._size, self._seed))
            part.update(places[strata == stratum])

    @property
    def num_strata(self) -> int:
        """How many strata came by."""
        return len(self._parts)

    def merge(self, other: "StratifiedReservoir") -> None:
        """Take the rows of another part of the stream."""
        for stratum, part in other._parts.items():
            self._parts.setdefault(stratum, Reservoir(self._size, self._seed)).merge(part)

    def finish(self) -> Drawn:
        """The sample; strata are filled by the largest remainder, so that the sizes add up."""
        names = sorted(self._parts)
        counts = np.array([self._parts[name].seen for name in names], np.float64)
        total = counts.sum()
        if not total:
            return Drawn(np.empty(0, np.int64), np.empty(0))
        exact = counts * min(1.0, self._size / total)
        sizes = np.floor(exact + 1e-9).astype(np.int64)
        short = round(exact.sum()) - int(sizes.sum())
        sizes[np.argsort(-(exact - sizes), kind="stable")[:short]] += 1
        places, weights = [], []
        for name, size, count in zip(names, sizes.tolist(), counts.tolist(), strict=True):
            if not size:
                continue
            part = self._parts[name]
            order = np.argsort(part._keys, kind="stable")[:size]
            places.append(part._places[order])
            weights.append(np.full(size, count / size))
        joined = np.concatenate(places)
        by_place = np.argsort(joined, kind="stable")
        return Drawn(joined[by_place], np.concatenate(weights)[by_place])
