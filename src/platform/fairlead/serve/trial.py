"""What an A/B test or a bandit counts: one outcome per key, whenever it comes. Pure but for its own sums.

The rules:

- A key belongs to the model that it met first, whoever answers it later, and to the one that it was sent to, even when
  another had to step in: who is left out afterwards would bias what is compared. A request without a key that may come
  again (see `fairlead.serve.units`) is a key of its own, and its id names it.
- A key counts when the declared horizon since its first exposure is over, with the outcome that came by then, or with
  the declared value for none, or not at all. Counting outcomes as they come would favour the arm whose outcomes come
  early: a click in a second, a cancellation in a week.
- The first outcome of a key counts. The same again is a duplicate, another one has changed: both are counted as such,
  and are no evidence. So is one that comes late, one out of the declared range (in another unit, say), one of a metric
  that is not declared, and one of an unknown key.
- With `label` and `loss`, the label of the request by which the key was met first counts, and only that.

Memory: the keys whose horizon is open, and once more those that were closed within a horizon (to tell late outcomes
from unknown ones), together at most `KEYS_KEPT`; further keys are not taken in, and counted in `turned_away`: which,
depends on when they came and not on their arm. Of keys that may come again, one bit is kept for good (`units.Seen`).
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from fairlead.records.evidence import RunningMean
from fairlead.records.trial import LABEL, LOSS, WORDS, KeyOutcomes, OutcomeRule
from fairlead.serve.evidence import Met, Score, score_loss
from fairlead.serve.units import Seen

KEYS_KEPT = 1_000_000


@dataclass(slots=True)
class _Key:
    digest: str
    at: float
    requests: tuple[str, ...]
    score: Score | None
    value: float | None = None
    closed: bool = False


@dataclass(slots=True)
class _Arm:
    values: RunningMean
    exposed: int = 0
    ripe: int = 0
    arrived: int = 0


@dataclass(slots=True)
class Posted:
    """One outcome as it was posted: of a key, or of the key that was met first by a request (`by_request`)."""

    unit: str
    metric: str
    value: float
    by_request: bool = False


@dataclass(slots=True)
class Trial:
    """The keys of one rollout. Times are seconds of one clock that never goes back."""

    rule: OutcomeRule
    keys_kept: int = KEYS_KEPT
    turned_away: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(WORDS, 0))
    _keys: dict[str, _Key] = field(default_factory=dict)
    _units: dict[str, str] = field(default_factory=dict)
    _open: deque[str] = field(default_factory=deque)
    _closed: deque[str] = field(default_factory=deque)
    _seen: Seen = field(default_factory=Seen)
    _arms: dict[str, _Arm] = field(default_factory=dict)

    def meet(self, met: Sequence[Met], now: float) -> None:
        """Keys that were sent to a model at about `now`; those that were met before change nothing."""
        self.ripen(now)
        for each in met:
            if each.unit in self._keys:
                continue
            if len(self._keys) >= self.keys_kept:
                self.turned_away += 1
            elif self._seen.first("", each.slot):
                self._keys[each.unit] = _Key(each.digest, now, each.requests, each.score)
                self._open.append(each.unit)
                self._arm(each.digest).exposed += 1
                for request in each.requests:
                    self._units[request] = each.unit

    def outcomes(self, posted: Sequence[Posted], now: float) -> dict[str, int]:
        """Take outcomes of the declared metric; how many became what."""
        self.ripen(now)
        found = dict.fromkeys(WORDS, 0)
        for each in posted:
            declared = each.metric == self.rule.metric and self.rule.metric not in (LABEL, LOSS)
            unit = self._units.get(each.unit, "") if each.by_request else each.unit
            word = self._take(unit, each.value) if declared else "not_declared"
            found[word] += 1
            self.counts[word] += 1
        return found

    def label(self, request: str, label: float, scale: float, now: float) -> None:
        """A label that was joined, where the metric is one of labels."""
        if self.rule.metric not in (LABEL, LOSS):
            return
        self.ripen(now)
        unit = self._units.get(request, "")
        key = self._keys.get(unit)
        if key is None:
            return  # a later request of its key, or of another time
        if self.rule.metric == LABEL:
            self.counts[self._take(unit, label)] += 1
        elif key.score is not None:
            self.counts[self._take(unit, score_loss(key.score, label, scale))] += 1

    def ripen(self, now: float) -> None:
        """Count the keys whose horizon is over, in the order in which they were met."""
        horizon, keys = self.rule.horizon_seconds, self._keys
        while self._open and keys[self._open[0]].at + horizon <= now:
            unit = self._open.popleft()
            self._closed.append(unit)
            self._count(keys[unit])
        while self._closed and keys[self._closed[0]].at + 2 * horizon <= now:
            for request in keys.pop(self._closed.popleft()).requests:
                self._units.pop(request, None)

    def of(self, digest: str) -> KeyOutcomes:
        """What counts for one model so far."""
        arm = self._arm(digest)
        return KeyOutcomes(arm.exposed, arm.ripe, arm.arrived, replace(arm.values))

    def _arm(self, digest: str) -> _Arm:
        arm = self._arms.get(digest)
        if arm is None:
            arm = self._arms[digest] = _Arm(RunningMean(low=self.rule.low, high=self.rule.high))
        return arm

    def _count(self, key: _Key) -> None:
        arm = self._arm(key.digest)
        key.closed = True
        arm.ripe += 1
        arm.arrived += key.value is not None
        value = self.rule.missing if key.value is None else key.value
        if value is not None:
            arm.values.add((value,))

    def _take(self, unit: str, value: float) -> str:
        rule, key = self.rule, self._keys.get(unit)
        if not rule.low <= value <= rule.high or (rule.binary and value not in (rule.low, rule.high)):
            return "out_of_range"
        if key is None:
            return "unknown"
        if key.value is not None:
            return "duplicate" if key.value == value else "changed"
        if key.closed:
            return "late"
        key.value = value
        return "joined"
