"""What a replica counted since it last told: small enough to send five times a second, exact enough to decide on.

A replica adds what happened to an `EvidenceDelta` and sends it to the control, which keeps the sums. Values whose order
matters (differences and losses feed sums that are predictable at every look) travel as lists in the order in which
they happened.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from fairlead.records.evidence import latency_bin
from fairlead.serve.units import OWN

Score = float | list[float]


Call = tuple[int, bool, bool, int | None]
"""The call of a key: its slot, whether it failed, whether it was slow, and the bin of its latency where that counts."""


@dataclass(slots=True)
class CallCounts:
    """Calls of one model. Failed: raised, timed out or answered garbage. Slow: took longer than the bound.

    Calls that are units of their own are summed; those of keys that may come again are listed in `keyed`, for the
    control to count each key once (see `fairlead.serve.units`)."""

    requests: int = 0
    failures: int = 0
    slow: int = 0
    latency: dict[int, int] = field(default_factory=dict)
    keyed: list[Call] = field(default_factory=list)

    def add(self, seconds: float, *, failed: bool, slow: bool, slot: int = OWN, timed: bool = True) -> None:
        """Count one call. `timed`: it is far enough from the last one for its latency to count."""
        index = latency_bin(seconds) if timed else None
        if slot >= 0:
            self.keyed.append((slot, failed, slow, index))
        else:
            self.take(failed, slow, index)

    def take(self, failed: bool, slow: bool, index: int | None) -> None:
        """Count one unit; `index` is the bin of its latency."""
        self.requests += 1
        self.failures += failed
        self.slow += slow
        if index is not None:
            self.latency[index] = self.latency.get(index, 0) + 1

    def merge(self, other: "CallCounts") -> None:
        """Add another's counts."""
        self.requests += other.requests
        self.failures += other.failures
        self.slow += other.slow
        for index, count in other.latency.items():
            self.latency[index] = self.latency.get(index, 0) + count
        self.keyed += other.keyed


@dataclass(slots=True)
class PairDelta:
    """Shadow copies of one pair of models. `differences`, `flips`, `slots` and `values` (of the columns that make
    slices) have one entry per request: of several rows, one is taken by the hash of the request's id."""

    differences: list[float] = field(default_factory=list)
    flips: list[bool] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    values: list[tuple[str, ...]] = field(default_factory=list)
    calls: int = 0
    failures: int = 0
    slow: int = 0
    dropped: int = 0

    def merge(self, other: "PairDelta") -> None:
        """Append another's events."""
        self.differences += other.differences
        self.flips += other.flips
        self.slots += other.slots
        self.values += other.values
        self.calls += other.calls
        self.failures += other.failures
        self.slow += other.slow
        self.dropped += other.dropped


@dataclass(slots=True)
class Exposure:
    """Who was sent where at one weight: counted where a request is a unit of its own, listed where a key may come
    again, as (slot, went to the candidate)."""

    total: int = 0
    candidate: int = 0
    keyed: list[tuple[int, bool]] = field(default_factory=list)

    def add(self, slot: int, chosen: bool) -> None:
        """Note where a request went."""
        if slot >= 0:
            self.keyed.append((slot, chosen))
        else:
            self.total += 1
            self.candidate += chosen

    def merge(self, other: "Exposure") -> None:
        """Add another's."""
        self.total += other.total
        self.candidate += other.candidate
        self.keyed += other.keyed


@dataclass(slots=True)
class Outcome:
    """One answered row that a label may come for: who answered what, what the shadow would have answered, and which
    unit of evidence it is (`slot`). `drawn`: its key chose the arm while both answered, so that the arms' answers are
    of the same time (or there is no rollout, and nothing to compare). `values`: of the columns that make slices."""

    id: str
    digest: str
    score: Score
    shadow_digest: str = ""
    shadow_score: Score | None = None
    slot: int = OWN
    drawn: bool = True
    values: tuple[str, ...] = ()

    @property
    def compares(self) -> bool:
        """True when it says something of one model against the other."""
        return self.drawn or self.shadow_score is not None


@dataclass(slots=True)
class Met:
    """A key of an A/B test or a bandit: which model it was sent to, by which of its requests, and what that one was
    answered (None: not by a model). `unit` names the key, `slot` is its place (see `fairlead.serve.units`)."""

    unit: str
    slot: int
    digest: str
    requests: tuple[str, ...]
    score: Score | None


@dataclass(slots=True)
class EvidenceDelta:
    """Everything that one replica counted under one rollout since it last told."""

    rollout: str
    answers: int = 0
    user_failures: int = 0
    calls: dict[str, CallCounts] = field(default_factory=dict)
    pairs: dict[tuple[str, str], PairDelta] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    exposed: dict[float, Exposure] = field(default_factory=dict)
    met: list[Met] = field(default_factory=list)

    def expose(self, weight: float) -> Exposure:
        """Who was sent where at `weight` percent."""
        found = self.exposed.get(weight)
        if found is None:
            found = self.exposed[weight] = Exposure()
        return found

    def call(self, digest: str) -> CallCounts:
        """The counts of one model."""
        found = self.calls.get(digest)
        if found is None:
            found = self.calls[digest] = CallCounts()
        return found

    def pair(self, champion: str, candidate: str) -> PairDelta:
        """The events of one pair."""
        found = self.pairs.get((champion, candidate))
        if found is None:
            found = self.pairs[champion, candidate] = PairDelta()
        return found

    def merge(self, later: "EvidenceDelta") -> None:
        """Append a later delta of the same rollout."""
        self.answers += later.answers
        self.user_failures += later.user_failures
        for digest, counts in later.calls.items():
            self.call(digest).merge(counts)
        for (champion, candidate), pair in later.pairs.items():
            self.pair(champion, candidate).merge(pair)
        self.outcomes += later.outcomes
        for weight, exposure in later.exposed.items():
            self.expose(weight).merge(exposure)
        self.met += later.met


def score_difference(first: Score, second: Score, scale: float) -> float:
    """How far two answers are apart, 0 to 1: probabilities by their absolute difference, distributions by total
    variation, values by their absolute difference in units of `scale`."""
    if isinstance(first, list) and isinstance(second, list):
        return 0.5 * sum(abs(a - b) for a, b in zip(first, second, strict=False))
    if isinstance(first, list) or isinstance(second, list):
        return 1.0
    return abs(first - second) / scale


def score_loss(score: Score, label: float, scale: float) -> float:
    """The loss of an answer once the label is known, 0 to 1.

    Probability: (p - y)^2, distribution: half the squared distance to the label's corner (Brier 1950, "Verification of
    forecasts expressed in terms of probability"), value: squared error in units of `scale`, at most 1.
    """
    if isinstance(score, list):
        return 0.5 * sum((p - (index == int(label))) ** 2 for index, p in enumerate(score))
    return min(((score - label) / scale) ** 2, 1.0)


def merge_deltas(deltas: Sequence[EvidenceDelta]) -> list[EvidenceDelta]:
    """Deltas of the same rollout as one, in the order in which rollouts first appear."""
    merged: dict[str, EvidenceDelta] = {}
    for delta in deltas:
        if delta.rollout in merged:
            merged[delta.rollout].merge(delta)
        else:
            merged[delta.rollout] = delta
    return list(merged.values())
