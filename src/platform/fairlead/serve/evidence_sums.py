"""The sums of what all replicas counted under one rollout: each key once, labels joined, arithmetic without I/O."""

import uuid
from dataclasses import dataclass, field, replace
from itertools import compress

from fairlead.records.evidence import LabelCounts, LatencyCounts, RunningMean, RunningRate
from fairlead.records.rollout import ArmEvidence, PairEvidence, SliceEvidence
from fairlead.serve.awaited_labels import RESULTS, Awaited, AwaitedLabels
from fairlead.serve.evidence import CallCounts, EvidenceDelta, Outcome, PairDelta, score_loss
from fairlead.serve.messages import Labels
from fairlead.serve.slices import SliceNames
from fairlead.serve.units import BLOCK_SECONDS, OWN, Seen


@dataclass(slots=True)
class _Arm:
    calls: CallCounts = field(default_factory=CallCounts)
    total: int = 0
    attempts: RunningRate = field(default_factory=RunningRate)
    loss: RunningMean = field(default_factory=RunningMean)
    labels: LabelCounts = field(default_factory=LabelCounts)


@dataclass(slots=True)
class _Pair:
    flips: RunningRate = field(default_factory=RunningRate)
    difference: RunningMean = field(default_factory=RunningMean)
    requests: int = 0
    loss_difference: RunningMean = field(default_factory=lambda: RunningMean(low=-1.0, high=1.0))
    failures: RunningRate = field(default_factory=RunningRate)
    slow: RunningRate = field(default_factory=RunningRate)
    dropped: int = 0
    labels: LabelCounts = field(default_factory=LabelCounts)
    slices: dict[str, SliceEvidence] = field(default_factory=dict)


class EvidenceSums:
    """Not thread-safe: one event loop owns it."""

    def __init__(self, rollout: str, outcomes_kept: int) -> None:
        """`outcomes_kept`: answers that a label may still come for, at most."""
        self._awaited = AwaitedLabels(outcomes_kept)
        self.label_horizon: float | None = None
        """Seconds that a label may take, when an answer counts only once they are over."""
        self.columns: tuple[str, ...] = ()
        """Input columns whose values get evidence of their own."""
        self.start(rollout)

    def start(self, rollout: str) -> None:
        """Begin anew with the sums of `rollout`. What labels may come for stays."""
        self.rollout = rollout
        self._arms: dict[str, _Arm] = {}
        self._pairs: dict[tuple[str, str], _Pair] = {}
        self.user_failures = 0
        self._seen, self._seen_lately, self._block = Seen(), Seen(), 0
        self._split = RunningRate()
        self._feedback = dict.fromkeys(RESULTS, 0)
        self._awaited.start()
        self._names = SliceNames()
        self.epoch = uuid.uuid4().hex[:6]

    def count_keys_again(self) -> None:
        """The traffic has changed: each key counts once more, and the split begins anew."""
        self._seen.clear()
        self._split = RunningRate()

    # --- what replicas counted ---------------------------------------------------------------------------------------
    def count(self, delta: EvidenceDelta, weight: float, now: float) -> None:
        """Add what a replica counted. `weight`: percent of the keys that should be the candidate's. `now`: monotonic
        seconds. Of another rollout only what labels may come for is kept: it is no evidence for this one."""
        if delta.rollout != self.rollout:
            self._awaited.remember(delta.outcomes, delta.rollout, now)
            return
        horizon = self.label_horizon
        self._awaited.remember(delta.outcomes, delta.rollout, now, horizon=horizon, is_unit=self._is_first)
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
        values = events.values if self.columns and len(events.values) == len(events.slots) else []
        if events.slots.count(OWN) < len(events.slots):
            new = [self._seen.first(name, slot) for slot in events.slots]
            flips, differences = list(compress(flips, new)), list(compress(differences, new))
            values = list(compress(values, new))
        pair.requests += events.calls
        pair.flips.n += len(flips)
        pair.flips.events += sum(flips)
        pair.difference.add(differences)
        for index, each in enumerate(values):
            for part in self._slices(pair, each):
                part.flips.n += 1
                part.flips.events += flips[index]
                part.difference.add((differences[index],))
        pair.failures.n += events.calls
        pair.failures.events += events.failures
        pair.slow.n += events.calls
        pair.slow.events += events.slow
        pair.dropped += events.dropped

    def _slices(self, pair: _Pair, values: tuple[str, ...]) -> list[SliceEvidence]:
        return [pair.slices.setdefault(name, SliceEvidence()) for name in self._names.of(self.columns, values)]

    # --- labels ------------------------------------------------------------------------------------------------------
    def feedback(self, labels: Labels, now: float) -> dict[str, int]:
        """Join labels with answers by request id. Only labels that are joined for the first time are evidence: at once,
        or with a horizon, once that is over for the answer."""
        joined = self._awaited.join(labels.items, labels.scale, now, horizon=self.label_horizon)
        for awaited in joined.evident:
            if awaited.rollout == self.rollout and self._is_first(awaited.outcome):
                self._take_label(awaited)
        for awaited in joined.late:
            if awaited.rollout == self.rollout:
                self._account(awaited.outcome, LabelCounts(late=1))
        for name, count in joined.counts.items():
            self._feedback[name] += count
        return joined.counts

    def mature(self, now: float) -> None:
        """Count the answers whose horizon is over by `now`, with their label or without."""
        if self.label_horizon is None:
            return
        for awaited in self._awaited.over(now, self.label_horizon):
            self._account(awaited.outcome, LabelCounts(exposed=1, labelled=int(awaited.label is not None)))
            self._take_label(awaited)

    def _is_first(self, outcome: Outcome) -> bool:
        """False for another row of a request, or another request of a key, that has had its say."""
        return self._seen.first(f"label {outcome.digest}", outcome.slot)

    def _account(self, outcome: Outcome, counts: LabelCounts) -> None:
        if outcome.drawn:
            arm = self._arms.setdefault(outcome.digest, _Arm())
            arm.labels = arm.labels.plus(counts)
        if outcome.shadow_score is not None:
            pair = self._pairs.setdefault((outcome.digest, outcome.shadow_digest), _Pair())
            pair.labels = pair.labels.plus(counts)

    def _take_label(self, awaited: Awaited) -> None:
        outcome, label, scale = awaited.outcome, awaited.label, awaited.scale
        if label is None:
            return
        loss = score_loss(outcome.score, label, scale)
        if outcome.drawn:
            self._arms.setdefault(outcome.digest, _Arm()).loss.add((loss,))
        if outcome.shadow_score is not None:
            pair = self._pairs.setdefault((outcome.digest, outcome.shadow_digest), _Pair())
            difference = score_loss(outcome.shadow_score, label, scale) - loss
            pair.loss_difference.add((difference,))
            for part in self._slices(pair, outcome.values):
                part.loss_difference.add((difference,))

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
            labels=arm.labels,
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
            labels=pair.labels,
            slices=dict(pair.slices),
        )

    def split(self) -> RunningRate:
        """Keys that chose an arm, and those that chose the candidate."""
        return replace(self._split)

    def feedback_counts(self) -> dict[str, int]:
        """Labels by what became of them."""
        return dict(self._feedback)
