"""When a delayed reward may be counted: a key's exposure counts only when its whole horizon is over, reward or not.

Counting rewards as they come would favour the arm whose rewards come early: a click in a second, a cancellation in a
week. So exposures are gathered in buckets of time; a bucket is counted as a whole once its youngest key had the
declared horizon to get its reward. A key without one by then has the declared value for that, usually 0. What comes
later is told, and never counted: the decision that it would have changed was made on the same rule for all arms.

Memory: one sum per arm and open bucket, `horizon / bucket` of them. Pure but for its own sums; the caller owns the
clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from fairlead.deploy.strategies.bandit import ArmRewards


@dataclass(slots=True)
class _Bucket:
    exposed: int = 0
    rewarded: int = 0
    total: float = 0.0


@dataclass(slots=True)
class Maturing:
    """Exposures and rewards of the arms in `names`. `horizon_seconds`: how long a reward may take; `bucket_seconds`:
    how finely exposures are kept; `missing`: the reward of a key that got none, in [0, 1].

    `late` counts rewards that came after their horizon, `unknown` those without an exposure: neither is evidence.
    `now` and `at` are seconds of one clock that never goes back."""

    names: Sequence[str]
    horizon_seconds: float
    bucket_seconds: float
    missing: float = 0.0
    late: int = 0
    unknown: int = 0
    _open: dict[tuple[int, str], _Bucket] = field(default_factory=dict)
    _final: dict[str, ArmRewards] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (self.horizon_seconds >= 0 and self.bucket_seconds > 0 and 0 <= self.missing <= 1):
            raise ValueError("a horizon is not negative, a bucket longer than 0 s, a missing reward between 0 and 1")
        if len(set(self.names)) != len(self.names) or not self.names:
            raise ValueError("arms have names, each its own")

    def expose(self, arm: str, at: float) -> None:
        """A key met `arm` at `at`. Raises KeyError for an arm that is not there."""
        self._bucket(arm, at, create=True)

    def reward(self, arm: str, exposed_at: float, value: float, at: float) -> None:
        """The reward of a key that met `arm` at `exposed_at` is known at `at`; once per key. Raises ValueError for a
        value outside of [0, 1], KeyError for an unknown arm."""
        if not 0 <= value <= 1:
            raise ValueError(f"a reward lies between 0 and 1, not {value:g}")
        if at - exposed_at > self.horizon_seconds:
            self.late += 1
            return
        bucket = self._bucket(arm, exposed_at, create=False)
        if bucket is None or bucket.rewarded >= bucket.exposed:
            self.unknown += 1
            return
        bucket.rewarded += 1
        bucket.total += value

    def final(self, now: float) -> tuple[ArmRewards, ...]:
        """The rewards that are final at `now`, in the order of `names`."""
        last = self._last_final(now)
        for key in [key for key in self._open if key[0] <= last]:
            bucket = self._open.pop(key)
            known = self._final.get(key[1], ArmRewards(0, 0.0))
            total = bucket.total + self.missing * (bucket.exposed - bucket.rewarded)
            n = known.n + bucket.exposed
            self._final[key[1]] = ArmRewards(n, min(known.total + total, n))
        return tuple(self._final.get(name, ArmRewards(0, 0.0)) for name in self.names)

    @property
    def open_buckets(self) -> int:
        """How many buckets are not final yet: what memory there is."""
        return len(self._open)

    def _last_final(self, now: float) -> int:
        """The newest bucket whose youngest key had the whole horizon."""
        return self._index(now - self.horizon_seconds) - 1

    def _index(self, at: float) -> int:
        return int(at // self.bucket_seconds)

    def _bucket(self, arm: str, at: float, *, create: bool) -> _Bucket | None:
        if arm not in self.names:
            raise KeyError(arm)
        key = (self._index(at), arm)
        if create:
            bucket = self._open.setdefault(key, _Bucket())
            bucket.exposed += 1
            return bucket
        return self._open.get(key)
