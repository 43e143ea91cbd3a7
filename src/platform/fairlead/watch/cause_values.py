"""What was done to a column of values in a set: other names, names exchanged, one name in the place of others."""

from collections.abc import Mapping
from dataclasses import dataclass

from fairlead.watch.cause_numbers import Explanation

_STRANGE = 0.5
_SURGE = 0.05
_RARE = 0.5
_REST = 0.3
_REST_EXCHANGED = 0.15
_LEAST_EXCHANGED = 0.2


@dataclass(frozen=True, slots=True)
class Counts:
    """How often values occurred, among `total` values that are not missing; those not listed are the rest."""

    top: Mapping[str, int]
    total: int

    def share(self, value: str) -> float:
        """The share of the rows that have it."""
        return self.top.get(value, 0) / max(1, self.total)


def explain_values(source: Counts, target: Counts) -> Explanation | None:
    """What explains the difference: other spelling or another vocabulary; else a default value or names exchanged, by
    their fit; None when nothing does."""
    if not source.total or not target.total or not source.top or not target.top:
        return None
    renamed = _renamed(source, target)
    if renamed is not None:
        return renamed
    found = [one for one in (_default(source, target), _exchanged(source, target)) if one is not None]
    return min(found, key=lambda one: one.left, default=None)


def _renamed(source: Counts, target: Counts) -> Explanation | None:
    """Most rows of each have values that the other lacks."""
    strange = {value: n for value, n in target.top.items() if n and value not in source.top}
    lost = {value: n for value, n in source.top.items() if n and value not in target.top}
    if sum(strange.values()) < _STRANGE * target.total or sum(lost.values()) < _STRANGE * source.total:
        return None
    folded = {_fold(value) for value in lost}
    alike = sum(n for value, n in strange.items() if _fold(value) in folded) > 0.5 * sum(strange.values())
    how = "differ only in case, blanks or leading zeros" if alike else "are named otherwise: another vocabulary?"
    examples = ", ".join(repr(value) for value in list(strange)[:3])
    before = ", ".join(repr(value) for value in list(lost)[:3])
    text = f"values such as {examples} where there were {before}; they {how}"
    return Explanation("spelling" if alike else "vocabulary", text, 0.0)


def _default(source: Counts, target: Counts) -> Explanation | None:
    """One value in the place of a share of all others, which keep their proportions."""
    value = max(target.top, key=lambda name: target.share(name) - source.share(name))
    share = (target.share(value) - source.share(value)) / max(1e-9, 1 - source.share(value))
    if share < _SURGE or source.share(value) > _RARE * target.share(value):
        return None
    others = [name for name in dict.fromkeys((*source.top, *target.top)) if name != value]
    as_is = max((abs(target.share(name) - source.share(name)) for name in others), default=0.0)
    left = max((abs(target.share(name) - (1 - share) * source.share(name)) for name in others), default=0.0)
    if len(others) < 2 or left > _REST * as_is:
        return None
    return Explanation("default_value", f"the same but for {share:.0%} that read {value!r}: a default value?", left)


def _exchanged(source: Counts, target: Counts) -> Explanation | None:
    """The same values with their frequencies exchanged, as when codes are assigned anew."""
    names = list(dict.fromkeys((*source.top, *target.top)))
    as_is = max(abs(target.share(name) - source.share(name)) for name in names)
    by_source = sorted(names, key=lambda name: -source.share(name))
    by_target = sorted(names, key=lambda name: -target.share(name))
    left = max(abs(target.share(b) - source.share(a)) for a, b in zip(by_source, by_target, strict=True))
    if as_is < _LEAST_EXCHANGED or left > _REST_EXCHANGED * as_is:
        return None
    pairs = [f"{b!r} as often as {a!r} was" for a, b in zip(by_source, by_target, strict=True) if a != b]
    return Explanation("vocabulary", f"the same names exchanged ({', '.join(pairs[:3])}): other codes?", left)


def _fold(value: str) -> str:
    return value.strip().casefold().lstrip("0")
