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


def _place(number: int) -> float:
    return min(number / _RANGE, _LARGEST)


def position(key: str, salt: str) -> float:
    """Where `key` lies in [0, 1), evenly spread and independent for different salts."""
    spread = _salted(salt)
    spread.update(key.encode("utf-8", "surrogatepass"))
    return _place(int.from_bytes(spread.digest(), "big"))


def on_candidate(key: str, salt: str, weight: float) -> bool:
    """True when the candidate answers `key` at `weight` percent (0: never, 100: always)."""
    return weight > 0 and position(key, salt) * 100.0 < weight


def nobody(_key: str) -> bool:
    """The split that gives the candidate no key."""
    return False


def everybody(_key: str) -> bool:
    """The split that gives the candidate every key."""
    return True


def splitter(salt: str, weight: float) -> Callable[[str], bool]:
    """`on_candidate` for one salt and weight, at a third of its cost: beginning a hash with a key takes longer than
    hashing one, and bytes are compared faster than they are made a number."""
    if weight <= 0:
        return nobody
    number = _first_beyond(weight)
    if number == 2**64:
        return everybody
    spread, end = _salted(salt), number.to_bytes(8, "big")

    def is_below(key: str) -> bool:
        hashed = spread.copy()
        hashed.update(key.encode("utf-8", "surrogatepass"))
        return hashed.digest() < end

    return is_below


def _first_beyond(weight: float) -> int:
    """The smallest number whose place is not the candidate's; 2**64 where all are."""
    low, high = 0, 2**64
    while low < high:
        middle = (low + high) // 2
        if _place(middle) * 100.0 < weight:
            low = middle + 1
        else:
            high = middle
    return low


def is_shadowed(key: str, salt: str, percent: float) -> bool:
    """True when the candidate gets a copy of the request `key` at `percent`. Independent of `on_candidate`."""
    return on_candidate(key, _for_copies(salt), percent)


def copier(salt: str, percent: float) -> Callable[[str], bool]:
    """`is_shadowed` for one salt and percentage, as `splitter` is for `on_candidate`."""
    return splitter(_for_copies(salt), percent)


def _for_copies(salt: str) -> str:
    return "shadow" + salt[-58:]
