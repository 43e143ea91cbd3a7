"""Hashes that are the same on every machine and in every release: they decide buckets, folds and sides of a split."""

import hashlib

import numpy as np

_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def stable_hash(text: str) -> int:
    """64 bits of BLAKE2b over the UTF-8 bytes of `text`."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def mix(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """Scramble uint64 [N] -> uint64 [N], one to one for each seed.

    The finaliser of SplitMix64 (Steele, Lea, Flood, 2014, "Fast splittable pseudorandom number generators").
    """
    with np.errstate(over="ignore"):
        z = values.astype(np.uint64) + _GOLDEN * np.uint64(seed + 1)
        z = (z ^ (z >> np.uint64(30))) * _FIRST
        z = (z ^ (z >> np.uint64(27))) * _SECOND
    return np.asarray(z ^ (z >> np.uint64(31)))
