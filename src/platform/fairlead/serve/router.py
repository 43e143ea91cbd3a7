"""Who answers a request: a pure function of the key, the salt and the weight. No state, no I/O.

A key is hashed to a point in [0, 1); the candidate owns [0, weight / 100). So a key stays where it is while the weight
stays, and the set of keys on the candidate only grows while the weight grows. The salt is the candidate's digest: the
next candidate meets other keys first.
"""

from collections.abc import Callable
from hashlib import blake2b

_RANGE = float(2**64)
_LARGEST = 0.9999999999999999
"""The largest 64-bit values round up to 2**64 as a float; without this bound a weight of 100 would miss them."""


def _salted(salt: str) -> blake2b:
    return blake2b(digest_size=8, key=salt.encode()[-64:])


def _place(spread: blake2b, key: str) -> float:
    spread.update(key.encode("utf-8", "surrogatepass"))
    return min(int.from_bytes(spread.digest(), "big") / _RANGE, _LARGEST)


def position(key: str, salt: str) -> float:
    """Where `key` lies in [0, 1), evenly spread and independent for different salts."""
    return _place(_salted(salt), key)


def on_candidate(key: str, salt: str, weight: float) -> bool:
    """True when the candidate answers `key` at `weight` percent (0: never, 100: always)."""
    return weight > 0 and position(key, salt) * 100.0 < weight


def nobody(_key: str) -> bool:
    """The split that gives the candidate no key."""
    return False


def splitter(salt: str, weight: float) -> Callable[[str], bool]:
    """`on_candidate` for one salt and weight, at half its cost: beginning a hash with a key takes longer than hashing
    one."""
    if weight <= 0:
        return nobody
    spread = _salted(salt)
    return lambda key: _place(spread.copy(), key) * 100.0 < weight


def is_shadowed(key: str, salt: str, percent: float) -> bool:
    """True when the candidate gets a copy of the request `key` at `percent`. Independent of `on_candidate`."""
    return percent > 0 and (percent >= 100 or position(key, "shadow" + salt[-58:]) * 100.0 < percent)
