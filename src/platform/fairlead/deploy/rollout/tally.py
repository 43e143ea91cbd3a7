"""Evidence as sums: adding, subtracting, and going on when a server's counters start anew.

A server counts from its own start, a rollout from its own. So a rollout keeps `carried`: what earlier server processes
counted, minus what the present one had counted before the rollout. The rollout's own evidence is always
`carried + seen`, and that of a step the difference of two such sums. All statistics use sums only.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from fairlead.deploy.rollout.detecting import detect
from fairlead.records.evidence import RunningMean, RunningRate
from fairlead.records.rollout import (
    ArmEvidence,
    Detectors,
    Observation,
    PairEvidence,
    Phase,
    RolloutRecord,
    SliceEvidence,
    Tally,
)
from fairlead.records.trial import KeyOutcomes

LEFT_INSTANCES = 8
"""How many server processes that were left are remembered, to know a late answer of one of them."""


def total(record: RolloutRecord) -> Tally:
    """What was counted since the rollout began."""
    return add(record.carried, record.seen) if record.seen is not None else Tally()


def of_step(record: RolloutRecord) -> Tally:
    """What was counted since the present step began."""
    return subtract(total(record), record.step_start)


def detectors_of_step(record: RolloutRecord) -> Detectors:
    """The detectors of the present step; empty ones before its first look."""
    return record.detectors if record.detectors.since == record.phase_since else Detectors()


def num_pairs(tally: Tally) -> int:
    """Requests that both models answered."""
    return max(tally.pairs.requests, tally.pairs.flips.n, tally.pairs.difference.n)


def num_requests(phase: Phase, tally: Tally) -> int:
    """What a step counts: pairs in shadow, the candidate's own answers afterwards."""
    return num_pairs(tally) if phase is Phase.SHADOW else tally.candidate.requests


def absorb(record: RolloutRecord, observation: Observation, now: datetime) -> RolloutRecord:
    """Take the counters of `observation` into the record. Evidence of other digests than the rollout's own is left out;
    another `instance` means that the server began anew, and so does a counter that went back where there is no
    `instance`. A stale answer counts nothing."""
    if observation.error or observation.release is None or _is_stale(record, observation):
        return record
    restarted = bool(observation.instance and record.server_instance not in ("", observation.instance))
    before = record.seen
    raw = _own(record, observation, Tally() if restarted or before is None else before)
    if before is None or (record.phase is Phase.STARTING and record.applied_generation == 0):
        carried = subtract(Tally(), raw)  # nothing is this rollout's before the servers know the rollout
    else:
        carried = _carry(record.carried, before, raw, restarted)
    instance = observation.instance or record.server_instance
    earlier = total(record)
    if restarted:
        record = replace(record, left_instances=(*record.left_instances, record.server_instance)[-LEFT_INSTANCES:])
    record = replace(record, seen=raw, carried=carried, server_instance=instance)
    record = replace(record, detectors=detect(record, earlier, total(record), counting_phase(record), now))
    requests = num_requests(counting_phase(record), of_step(record))
    if requests != record.last_requests:
        newer = now.isoformat() if requests > record.last_requests else record.last_data_at
        record = replace(record, last_requests=requests, last_data_at=newer)
    return record


def _is_stale(record: RolloutRecord, observation: Observation) -> bool:
    """True for an older answer than the last one: of an instance that was left already (two processes behind one
    address answer in turn while one replaces the other), or with counters that went back within one instance."""
    if observation.instance in record.left_instances:
        return True
    before = record.seen
    if before is None or not observation.instance or observation.instance != record.server_instance:
        return False
    raw = _own(record, observation, before)
    return (
        _arm_went_back(before.champion, raw.champion)
        or _arm_went_back(before.candidate, raw.candidate)
        or (not _turned(before.pairs, raw.pairs) and _pairs_went_back(before.pairs, raw.pairs))
        or raw.user_failures < before.user_failures
    )


def counting_phase(record: RolloutRecord) -> Phase:
    """The phase whose evidence is being collected: the paused one while paused."""
    return record.resume_phase or record.phase if record.phase is Phase.PAUSED else record.phase


def _own(record: RolloutRecord, observation: Observation, missing: Tally) -> Tally:
    """The counters of the rollout's two digests, whichever arm they are on; `missing` where the server has none."""
    arms = {arm.digest: arm for arm in (observation.champion, observation.candidate) if arm is not None}
    pairs, ours = observation.pairs, (record.champion.digest, record.candidate.digest)
    if pairs is not None and (pairs.candidate_digest, pairs.champion_digest) == ours:
        pairs = _mirrored(pairs)
    elif pairs is not None and (pairs.champion_digest, pairs.candidate_digest) != ours:
        pairs = None
    return Tally(
        champion=arms.get(record.champion.digest, missing.champion),
        candidate=arms.get(record.candidate.digest, missing.candidate),
        pairs=pairs if pairs is not None else missing.pairs,
        user_failures=observation.user_failures,
    )


def _mirrored(pairs: PairEvidence) -> PairEvidence:
    """Pairs of the watch, in which the old champion is the shadow, as what they say of the candidate: the loss
    difference the other way round, and nothing of the shadow's own failures. The digests stay as they were, which tells
    these counters from those of the time before the promotion."""
    loss = pairs.loss_difference
    return PairEvidence(
        pairs.champion_digest,
        pairs.candidate_digest,
        flips=pairs.flips,
        difference=pairs.difference,
        loss_difference=replace(loss, low=-loss.high, high=-loss.low, total=-loss.total),
        dropped=pairs.dropped,
        labels=pairs.labels,
    )


def _turned(before: PairEvidence, now: PairEvidence) -> bool:
    """True when champion and shadow have changed places, and the server counts their pairs anew."""
    return bool(before.champion_digest) and before.champion_digest != now.champion_digest


def _carry(carried: Tally, before: Tally, raw: Tally, restarted: bool) -> Tally:
    """Keep what a counter showed before it went back."""
    champion, candidate, pairs, users = carried.champion, carried.candidate, carried.pairs, carried.user_failures
    if restarted or _arm_went_back(before.champion, raw.champion):
        champion = add_arm(champion, before.champion)
    if restarted or _arm_went_back(before.candidate, raw.candidate):
        candidate = add_arm(candidate, before.candidate)
    if restarted or _turned(before.pairs, raw.pairs) or _pairs_went_back(before.pairs, raw.pairs):
        pairs = add_pairs(pairs, before.pairs)
    if restarted or raw.user_failures < before.user_failures:
        users += before.user_failures
    return Tally(champion, candidate, pairs, users)


# --- arithmetic ------------------------------------------------------------------------------------------------------
def add(a: Tally, b: Tally) -> Tally:
    """a + b."""
    return Tally(
        add_arm(a.champion, b.champion),
        add_arm(a.candidate, b.candidate),
        add_pairs(a.pairs, b.pairs),
        a.user_failures + b.user_failures,
    )


def subtract(a: Tally, b: Tally) -> Tally:
    """a - b: what came after `b` was taken."""
    return Tally(
        subtract_arm(a.champion, b.champion),
        subtract_arm(a.candidate, b.candidate),
        subtract_pairs(a.pairs, b.pairs),
        a.user_failures - b.user_failures,
    )


def add_arm(a: ArmEvidence, b: ArmEvidence) -> ArmEvidence:
    """a + b for one arm; percentiles of latency are those of `b`."""
    return _arm(a, b, 1)


def subtract_arm(a: ArmEvidence, b: ArmEvidence) -> ArmEvidence:
    """a - b for one arm; percentiles of latency are those of `a`."""
    arm = _arm(a, b, -1)
    return replace(arm, latency_p50_ms=a.latency_p50_ms, latency_p99_ms=a.latency_p99_ms)


def add_pairs(a: PairEvidence, b: PairEvidence) -> PairEvidence:
    """a + b for pairs."""
    return _pairs(a, b, 1)


def subtract_pairs(a: PairEvidence, b: PairEvidence) -> PairEvidence:
    """a - b for pairs."""
    return _pairs(a, b, -1)


def _arm(a: ArmEvidence, b: ArmEvidence, sign: int) -> ArmEvidence:
    attempts = None if a.attempts is None and b.attempts is None else _rate(a.tried, b.tried, sign)
    return ArmEvidence(
        digest=b.digest or a.digest,
        requests=a.requests + sign * b.requests,
        failures=_rate(a.failures, b.failures, sign),
        slow=_rate(a.slow, b.slow, sign),
        loss=_mean(a.loss, b.loss, sign),
        latency_p50_ms=b.latency_p50_ms,
        latency_p99_ms=b.latency_p99_ms,
        latency=a.latency.plus(b.latency, sign),
        attempts=attempts,
        keys=_keys(a.keys, b.keys, sign),
        labels=a.labels.plus(b.labels, sign),
    )


def _pairs(a: PairEvidence, b: PairEvidence, sign: int) -> PairEvidence:
    return PairEvidence(
        champion_digest=b.champion_digest or a.champion_digest,
        candidate_digest=b.candidate_digest or a.candidate_digest,
        flips=_rate(a.flips, b.flips, sign),
        difference=_mean(a.difference, b.difference, sign),
        loss_difference=_mean(a.loss_difference, b.loss_difference, sign),
        shadow_failures=_rate(a.shadow_failures, b.shadow_failures, sign),
        shadow_slow=_rate(a.shadow_slow, b.shadow_slow, sign),
        dropped=a.dropped + sign * b.dropped,
        requests=a.requests + sign * b.requests,
        labels=a.labels.plus(b.labels, sign),
        slices=_slices(a.slices, b.slices, sign),
    )


def _keys(a: KeyOutcomes | None, b: KeyOutcomes | None, sign: int) -> KeyOutcomes | None:
    if b is None:
        return a
    first = a or KeyOutcomes(values=replace(b.values, n=0, total=0.0, variance_process=0.0, clipped=0, refused=0))
    return KeyOutcomes(
        exposed=first.exposed + sign * b.exposed,
        ripe=first.ripe + sign * b.ripe,
        arrived=first.arrived + sign * b.arrived,
        values=_mean(first.values, b.values, sign),
    )


def _slices(a: Mapping[str, SliceEvidence], b: Mapping[str, SliceEvidence], sign: int) -> Mapping[str, SliceEvidence]:
    if not b:
        return a
    none = SliceEvidence()
    pairs = {name: (a.get(name, none), b.get(name, none)) for name in {**a, **b}}
    return {
        name: SliceEvidence(
            _rate(one.flips, other.flips, sign),
            _mean(one.difference, other.difference, sign),
            _mean(one.loss_difference, other.loss_difference, sign),
        )
        for name, (one, other) in pairs.items()
    }


def _rate(a: RunningRate, b: RunningRate, sign: int) -> RunningRate:
    return RunningRate(n=a.n + sign * b.n, events=a.events + sign * b.events)


def _mean(a: RunningMean, b: RunningMean, sign: int) -> RunningMean:
    # The variance process may be cut and joined: its predictions only have to come from the past, and do on each part.
    ranged = b if b.n else a
    return RunningMean(
        low=ranged.low,
        high=ranged.high,
        n=a.n + sign * b.n,
        total=a.total + sign * b.total,
        variance_process=a.variance_process + sign * b.variance_process,
        clipped=a.clipped + sign * b.clipped,
        refused=a.refused + sign * b.refused,
    )


def _rate_went_back(before: RunningRate, now: RunningRate) -> bool:
    return now.n < before.n or now.events < before.events


def _arm_went_back(before: ArmEvidence, now: ArmEvidence) -> bool:
    return (
        now.requests < before.requests
        or _rate_went_back(before.failures, now.failures)
        or _rate_went_back(before.slow, now.slow)
        or now.loss.n < before.loss.n
        or _keys_went_back(before.keys, now.keys)
    )


def _keys_went_back(before: KeyOutcomes | None, now: KeyOutcomes | None) -> bool:
    if before is None or now is None:  # servers may stop counting keys once the trial has ended
        return False
    return now.exposed < before.exposed or now.ripe < before.ripe or now.values.n < before.values.n


def _pairs_went_back(before: PairEvidence, now: PairEvidence) -> bool:
    return (
        _rate_went_back(before.flips, now.flips)
        or _rate_went_back(before.shadow_failures, now.shadow_failures)
        or now.difference.n < before.difference.n
        or now.loss_difference.n < before.loss_difference.n
        or now.dropped < before.dropped
    )
