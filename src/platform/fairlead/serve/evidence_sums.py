"""The sums of what all replicas counted under one rollout: each key once, labels joined, arithmetic without I/O."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import compress, islice

from fairlead.records.evidence import LatencyCounts, RunningMean, RunningRate
from fairlead.records.rollout import ArmEvidence, PairEvidence
from fairlead.serve.evidence import CallCounts, EvidenceDelta, Outcome, PairDelta, score_loss
from fairlead.serve.messages import Labels
from fairlead.serve.units import BLOCK_SECONDS, OWN, Seen


@dataclass(slots=True)
class _Arm:
    calls: CallCounts = field(default_factory=CallCounts)
    total: int = 0
    attempts: RunningRate = field(default_factory=RunningRate)
    loss: RunningMean = field(default_factory=RunningMean)


@dataclass(slots=True)
class _Pair:
    flips: RunningRate = field(default_factory=RunningRate)
    difference: RunningMean = field(default_factory=RunningMean)
    requests: int = 0
    loss_difference: RunningMean = field(default_factory=lambda: RunningMean(low=-1.0, high=1.0))
    failures: RunningRate = field(default_factory=RunningRate)
    slow: RunningRate = field(default_factory=RunningRate)
    dropped: int = 0


@dataclass(slots=True)
class _Remembered:
    outcome: Outcome
    rollout: str
    label: float | None = None


class EvidenceSums:
    """Not thread-safe: one event loop owns it."""

    def __init__(self, rollout: str, outcomes_kept: int) -> None:
        """`outcomes_kept`: answers that a label may still come for, at most."""
        self._outcomes_kept = outcomes_kept
        self._outcomes: dict[str, _Remembered] = {}
        self.start(rollout)

    def start(self, rollout: str) -> None:
        """Begin anew with the sums of `rollout`. What labels may come for stays."""
        self.rollout = rollout
        self._arms: dict[str, _Arm] = {}
        self._pairs: dict[tuple[str, str], _Pair] = {}
        self.user_failures = 0
        self._seen, self._seen_lately, self._block = Seen(), Seen(), 0
        self._split = RunningRate()
        self._feedback = {"joined": 0, "unknown": 0, "duplicate": 0, "changed": 0}
        self.epoch = uuid.uuid4().hex[:6]

    def count_keys_again(self) -> None:
        """The traffic has changed: each key counts once more, and the split begins anew."""
        self._seen.clear()
        self._split = RunningRate()

    # --- what replicas counted ---------------------------------------------------------------------------------------
    def count(self, delta: EvidenceDelta, weight: float, now: float) -> None:
        """Add what a replica counted. `weight`: percent of the keys that should be the candidate's. `now`: monotonic
        seconds. Of another rollout only what labels may come for is kept: it is no evidence for this one."""
        self._remember(delta.outcomes, delta.rollout)
        if delta.rollout != self.rollout:
            return
        self.user_failures += delta.user_failures
        block = int(now // BLOCK_SECONDS)
        if block != self._block:
            self._block = block
            self._seen_lately.clear()
        for digest, counts in delta.calls.items():
            self._count_calls(digest, self._arms.setdefault(digest, _Arm()), counts)
        for key, events in delta.pairs.items():
            self._count_pairs(key, self._pairs.setdefault(key, _Pair()), events)
        exposure = delta.exposed.get(weight)
        if exposure is not None:
            new = [chosen for slot, chosen in exposure.keyed if self._seen.first("split", slot)]
            self._split.n += exposure.total + len(new)
            self._split.events += exposure.candidate + sum(new)

    def _count_calls(self, digest: str, arm: _Arm, counts: CallCounts) -> None:
        keyed, counts.keyed = counts.keyed, []
        arm.total += counts.requests + len(keyed)
        arm.attempts.n += counts.requests
        arm.attempts.events += counts.failures
        arm.calls.merge(counts)
        for slot, failed, slow, index in keyed:
            if self._seen_lately.first(digest, slot):
                arm.attempts.n += 1
                arm.attempts.events += failed
            if self._seen.first(digest, slot):
                arm.calls.take(failed, slow, index)

    def _count_pairs(self, key: tuple[str, str], pair: _Pair, events: PairDelta) -> None:
        name = f"{key[0]} {key[1]}"
        flips, differences = events.flips, events.differences
        if events.slots.count(OWN) < len(events.slots):
            new = [self._seen.first(name, slot) for slot in events.slots]
            flips, differences = list(compress(flips, new)), list(compress(differences, new))
        pair.requests += events.calls
        pair.flips.n += len(flips)
        pair.flips.events += sum(flips)
        pair.difference.add(differences)
        pair.failures.n += events.calls
        pair.failures.events += events.failures
        pair.slow.n += events.calls
        pair.slow.events += events.slow
        pair.dropped += events.dropped

    def _remember(self, outcomes: Sequence[Outcome], rollout: str) -> None:
        kept = self._outcomes
        for outcome in outcomes:
            known = kept.get(outcome.id)
            if known is None or known.label is None:
                kept.pop(outcome.id, None)
                kept[outcome.id] = _Remembered(outcome, rollout)
        for identity in list(islice(kept, max(0, len(kept) - self._outcomes_kept))):
            del kept[identity]

    # --- labels ------------------------------------------------------------------------------------------------------
    def feedback(self, labels: Labels) -> dict[str, int]:
        """Join labels with outcomes by request id. Only labels that are joined for the first time are evidence."""
        counts = {"joined": 0, "unknown": 0, "duplicate": 0, "changed": 0}
        for identity, label in labels.items:
            known = self._outcomes.get(identity)
            if known is None:
                counts["unknown"] += 1
            elif known.label is not None:
                counts["duplicate" if known.label == label else "changed"] += 1
            else:
                known.label = label
                counts["joined"] += 1
                if known.rollout == self.rollout:
                    self._judge(known.outcome, label, labels.scale)
        for name, count in counts.items():
            self._feedback[name] += count
        return counts

    def _judge(self, outcome: Outcome, label: float, scale: float) -> None:
        if not self._seen.first(f"label {outcome.digest}", outcome.slot):
            return  # another row of a request, or another request of a key, that has had its say
        loss = score_loss(outcome.score, label, scale)
        self._arms.setdefault(outcome.digest, _Arm()).loss.add((loss,))
        if outcome.shadow_score is not None:
            pair = self._pairs.setdefault((outcome.digest, outcome.shadow_digest), _Pair())
            pair.loss_difference.add((score_loss(outcome.shadow_score, label, scale) - loss,))

    # --- what it comes to --------------------------------------------------------------------------------------------
    def arm(self, digest: str) -> ArmEvidence:
        """What was counted of one model."""
        arm = self._arms.get(digest, _Arm())
        calls = arm.calls
        latency = LatencyCounts.of(calls.latency)
        return ArmEvidence(
            digest=digest,
            requests=arm.total,
            failures=RunningRate(calls.requests, calls.failures),
            slow=RunningRate(calls.requests, calls.slow),
            loss=arm.loss,
            latency_p50_ms=latency.quantile_ms(0.5),
            latency_p99_ms=latency.quantile_ms(0.99),
            latency=latency,
            attempts=arm.attempts,
        )

    def pair(self, champion: str, candidate: str) -> PairEvidence:
        """What was counted of one pair of models."""
        pair = self._pairs.get((champion, candidate), _Pair())
        return PairEvidence(
            champion_digest=champion,
            candidate_digest=candidate,
            flips=pair.flips,
            difference=pair.difference,
            loss_difference=pair.loss_difference,
            shadow_failures=pair.failures,
            shadow_slow=pair.slow,
            dropped=pair.dropped,
            requests=pair.requests,
        )

    def split(self) -> RunningRate:
        """Keys that chose an arm, and those that chose the candidate."""
        return replace(self._split)

    def feedback_counts(self) -> dict[str, int]:
        """Labels by what became of them."""
        return dict(self._feedback)
