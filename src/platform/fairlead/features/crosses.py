"""Categories taken together: each combination of indices is an index of its own, or shares a hash bucket."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from fairlead.features.hashing import stable_hash

# A Mersenne prime above every index; products of two numbers below it fit 64 bits with a sign.
PRIME = 2**31 - 1


@dataclass(frozen=True, slots=True)
class CrossColumn:
    """A cross of the categories `of`: 0 when any of them is missing, else 1 + the combination's number.

    Combinations are numbered by the mixed radix of `sizes` (the numbers of present indices) when that gives at most
    `buckets` (`exact`); else by ((sum of multiplier x index) mod p) mod buckets, which two combinations share with a
    chance of some 1 / buckets (Carter, Wegman 1979, "Universal classes of hash functions"; the multipliers are drawn
    once, from the cross's name). Integers only, so that any runtime gives the same.
    """

    name: str
    of: tuple[str, ...]
    sizes: tuple[int, ...]
    buckets: int

    exact: bool = field(init=False, compare=False)
    multipliers: tuple[int, ...] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        sizes = self.sizes
        exact = prod(sizes) <= self.buckets
        radix = tuple(prod(sizes[i + 1 :]) for i in range(len(sizes)))
        drawn = tuple(1 + stable_hash(f"{self.name} {i}") % (PRIME - 1) for i in range(len(sizes)))
        object.__setattr__(self, "exact", exact)
        object.__setattr__(self, "multipliers", radix if exact else drawn)

    @property
    def cardinality(self) -> int:
        """Number of indices."""
        return 1 + (prod(self.sizes) if self.exact else self.buckets)

    def indices(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """int64 [N] of the parts' int64 [N]."""
        missing = parts[0] == 0
        total = np.zeros(len(parts[0]), np.int64)
        for part, multiplier in zip(parts, self.multipliers, strict=True):
            missing |= part == 0
            product = (part - 1) * multiplier
            total += product if self.exact else product % PRIME
        if not self.exact:
            total = total % PRIME % self.buckets
        total += 1
        total[missing] = 0
        return total

    def index(self, parts: Sequence[int]) -> int:
        """The same for one row."""
        if 0 in parts:
            return 0
        products = [(part - 1) * multiplier for part, multiplier in zip(parts, self.multipliers, strict=True)]
        if self.exact:
            return 1 + sum(products)
        return 1 + sum(product % PRIME for product in products) % PRIME % self.buckets
