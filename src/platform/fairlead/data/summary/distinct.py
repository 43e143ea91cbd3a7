"""How many different values a stream has, from a few thousand hashes."""

import math
from typing import Any

import numpy as np

from fairlead.data.summary.packing import pack, unpack

K = 4096
_WAITING = 16 * K
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


class DistinctSketch:
    """The hashes below 2**(64 - depth), with the smallest depth at which there are at most `K` of them.

    The estimate is their number times 2**depth: the adaptive sampling of Wegman, analysed by Flajolet (1990), "On
    adaptive sampling". Its standard error is at most 1 / sqrt(number of hashes), 1.6 to 2.2 % of the count, and 0 (but
    for equal hashes) up to `K` values. Which hashes are kept follows from the set of values alone, so order, repetition
    and grouping change nothing, to the last bit.
    """

    __slots__ = ("_hashes", "_num_waiting", "_waiting", "depth")

    def __init__(self) -> None:
        self.depth = 0
        self._hashes = np.empty(0, np.uint64)
        self._waiting: list[np.ndarray] = []
        self._num_waiting = 0

    def add_hashes(self, hashes: np.ndarray) -> None:
        """Take uint64 [N]."""
        if self.depth:
            hashes = hashes[hashes < _limit(self.depth)]
        self._waiting.append(hashes)
        self._num_waiting += len(hashes)
        if self._num_waiting > _WAITING:
            self.settle()

    def add_many(self, hashes: np.ndarray) -> None:
        """The same for an array of which most are expected to be different: begins with a share of them."""
        depth = max(self.depth, (len(hashes) // K).bit_length())
        while depth > self.depth:
            found = _different(hashes[hashes < _limit(depth)])
            if len(found) > K // 2:
                self._deepen(depth)
                self.add_hashes(found)
                return
            # A level less doubles them: as many as fit, by what was found.
            depth -= max(1, (K // (2 * max(len(found), 1))).bit_length())
        self.add_hashes(hashes)

    def merge(self, other: "DistinctSketch") -> None:
        """Add what `other` saw."""
        self._deepen(other.depth)
        for hashes in (other._hashes, *other._waiting):
            self.add_hashes(hashes)

    def _deepen(self, depth: int) -> None:
        if depth > self.depth:
            self.depth = depth
            self._hashes = self._hashes[self._hashes < _limit(depth)]
            self._waiting = [hashes[hashes < _limit(depth)] for hashes in self._waiting]

    def relax(self, most: int) -> None:
        """Take in what waits if that is more than `most` hashes."""
        if self._num_waiting > most or not most:
            self.settle()

    def settle(self) -> None:
        """Take in what waits."""
        if self._waiting:
            self._hashes = _different(np.concatenate([self._hashes, *self._waiting]))
            self._waiting, self._num_waiting = [], 0
        while len(self._hashes) > K:
            self._deepen(self.depth + 1)

    @property
    def estimate(self) -> int:
        """Different values; exact while `depth` is 0."""
        self.settle()
        return len(self._hashes) << self.depth

    @property
    def relative_error(self) -> float:
        """One standard error of the estimate as a share of it; 0: exact."""
        self.settle()
        if not self.depth:
            return 0.0
        return math.sqrt((1 - 2.0**-self.depth) / max(len(self._hashes), 1))

    def to_value(self) -> dict[str, Any]:
        """JSON."""
        self.settle()
        return {"depth": self.depth, "hashes": pack(self._hashes)}

    @classmethod
    def from_value(cls, value: dict[str, Any]) -> "DistinctSketch":
        """What `to_value` gave."""
        made = cls()
        made.depth, made._hashes = value["depth"], unpack(value["hashes"], "u8")
        return made


def _limit(depth: int) -> np.uint64:
    return np.uint64(2 ** (64 - depth) - 1) if depth else np.uint64(2**64 - 1)


def _different(hashes: np.ndarray) -> np.ndarray:
    """In order, each once; sorting is faster here than numpy's table."""
    hashes = np.sort(hashes)
    return hashes[np.concatenate([[True], hashes[1:] != hashes[:-1]])] if len(hashes) else hashes


def hash_numbers(values: np.ndarray) -> np.ndarray:
    """uint64 [N] of float64 or int64 [N]; 0.0 and -0.0 are equal. Two rounds of SplitMix64's finaliser."""
    if values.dtype.kind == "f":
        values = values + 0.0  # -0.0 becomes 0.0
    with np.errstate(over="ignore"):
        hashes = values.view(np.uint64) * _FIRST
        hashes ^= hashes >> np.uint64(29)
        hashes *= _SECOND
        hashes ^= hashes >> np.uint64(32)
        hashes *= _FIRST
    return hashes


def hash_texts(offsets: np.ndarray, data: np.ndarray) -> np.ndarray:
    """uint64 [N] of the texts data[offsets[i]:offsets[i + 1]] (uint8), eight bytes of all texts at a time."""
    lengths = np.diff(offsets)
    hashes = hash_numbers(lengths.astype(np.int64))
    padded = np.concatenate([data[: offsets[-1]], np.zeros(8, np.uint8)])
    words = np.lib.stride_tricks.as_strided(padded[:8].view("<u8"), (len(padded) - 7,), (1,))
    active = np.flatnonzero(lengths > 0)
    at = 0
    while len(active):
        left = lengths[active] - at
        word = words[offsets[active] + at]
        short = left < 8
        if short.any():
            word[short] &= (np.uint64(1) << (left[short] * 8).astype(np.uint64)) - np.uint64(1)
        with np.errstate(over="ignore"):
            mixed = (hashes[active] ^ word) * _FIRST
            mixed ^= mixed >> np.uint64(31)
            hashes[active] = mixed * _SECOND
        at += 8
        active = active[left > 8]
    with np.errstate(over="ignore"):
        hashes ^= hashes >> np.uint64(32)
        hashes *= _FIRST
    return hashes
