"""Searching for the number of further requests that a decision takes."""

from collections.abc import Callable

_LIMIT = 10**8


def first_that(holds: Callable[[int], bool], limit: int = _LIMIT) -> int | None:
    """The smallest number >= 0 for which a condition holds that stays true once it is true, found by doubling and
    halving (some 50 evaluations); None when it does not hold at `limit`."""
    if holds(0):
        return 0
    below, above = 0, 1
    while not holds(above):
        if above >= limit:
            return None
        below, above = above, min(above * 2, limit)
    while above - below > max(1, below // 64):  # an estimate: within 2 % is near enough
        middle = (below + above) // 2
        if holds(middle):
            above = middle
        else:
            below = middle
    return above
