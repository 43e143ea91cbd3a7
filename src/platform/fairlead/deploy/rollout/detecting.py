"""The restarting detectors of a rollout: what each look adds to them, and when they raise an alarm.

Hard failures and slow answers are held against the plan's rates, blame, latency and loss against the champion of the
same look. In the watch the champion answers nobody: blame and latency rest, and the loss is that of pairs.
"""

import math
from dataclasses import replace
from datetime import datetime

import numpy as np

from fairlead.deploy.rollout.latency import latency_limit
from fairlead.deploy.rollout.plan import budget_of
from fairlead.deploy.statistics import detector, exceedances, mean_shifts
from fairlead.deploy.statistics.concurrent import log_blame
from fairlead.deploy.statistics.quantiles import dense
from fairlead.deploy.statistics.sprt import Sprt
from fairlead.records.evidence import LatencyCounts, MetricVerdict, RunningMean, RunningRate, Verdict
from fairlead.records.rollout import Detectors, Phase, RolloutPlan, RolloutRecord, Tally

SLOW_ODDS = 3.0
"""The share of slow answers that the detector looks for has this many times the odds of the bound."""

_LIVE = frozenset({Phase.CANARY, Phase.WATCHING})


def failure_test(plan: RolloutPlan, alpha: float) -> Sprt:
    """The likelihood ratio of hard failures."""
    return Sprt(plan.healthy_failure_rate, plan.bad_failure_rate, alpha, budget_of(plan).promotion)


def slow_test(plan: RolloutPlan, alpha: float) -> Sprt | None:
    """The likelihood ratio of slow answers; None where every answer may be slow."""
    if plan.max_slow_rate >= 1:
        return None
    odds = SLOW_ODDS * plan.max_slow_rate / (1 - plan.max_slow_rate)
    return Sprt(plan.max_slow_rate, odds / (1 + odds), alpha, budget_of(plan).promotion)


def share_of_calls(record: RolloutRecord, phase: Phase) -> float | None:
    """The candidate's share of all calls (0 to 1) in a phase; None where the champion is not called beside it."""
    copied = record.shadow_percent / 100
    share = {Phase.SHADOW: copied / (1 + copied), Phase.CANARY: record.weight / 100}.get(phase, 0.0)
    return share if 0 < share < 1 else None


def blame_of_calls(record: RolloutRecord, part: Tally, state: Detectors) -> float | None:
    """The evidence that the candidate's live calls fail more often than the champion's of this step, or lately."""
    share = share_of_calls(record, Phase.CANARY if record.weight < 100 else Phase.WATCHING)
    if share is None:
        return None
    failed, failed0 = part.candidate.tried.events, part.champion.tried.events
    return max(float(log_blame(failed, failed0, share, _blame_odds(record.plan))), state.blame)


def blame_of_copies(record: RolloutRecord, part: Tally) -> float | None:
    """The same for shadow copies."""
    share = share_of_calls(record, Phase.SHADOW)
    if share is None:
        return None
    failed, failed0 = part.pairs.shadow_failures.events, part.champion.tried.events
    return float(log_blame(failed, failed0, share, _blame_odds(record.plan)))


def _blame_odds(plan: RolloutPlan) -> float:
    return plan.bad_failure_rate / plan.healthy_failure_rate


def horizon_seconds(record: RolloutRecord, phase: Phase) -> float:
    """The time over which the detectors' error probabilities hold: the longest that a step, or the watch, may last."""
    return record.plan.watch_seconds if phase is Phase.WATCHING else record.plan.max_seconds


def with_detector(metric: MetricVerdict, log_value: float, alpha: float, what: str) -> MetricVerdict:
    """The metric, failed when its detector raised an alarm, whatever the sums of the step still say."""
    details = {**metric.details, "detector": log_value, "detector_from": -math.log(alpha)}
    if metric.verdict is Verdict.FAIL or not bool(detector.alarm(log_value, alpha)):
        return replace(metric, details=details)
    why = (
        f"{what} in the course of this step (evidence {log_value:+.1f}, bad from {-math.log(alpha):.1f}), "
        f"over all of it: {metric.why.rpartition(': ')[0]}: {Verdict.FAIL.value}"
    )
    return replace(metric, verdict=Verdict.FAIL, why=why, needed=None, details={**details, "reason": ""})


def loss_evidence(state: Detectors) -> float:
    """log R of the loss: the mean over its strengths."""
    return float(mean_shifts.together(state.loss)) if state.loss else detector.EMPTY


# --- looks -----------------------------------------------------------------------------------------------------------
def detect(record: RolloutRecord, before: Tally, after: Tally, phase: Phase, now: datetime) -> Detectors:
    """The detectors after a look: `before` and `after` are the rollout's sums at the last look and at this one."""
    state = record.detectors
    if state.since != record.phase_since:
        state = Detectors(since=record.phase_since, at=record.phase_since)
    if phase not in _LIVE:
        return state
    state = _with_loss(record, state, before, after, phase, now)
    failed = _new(before.candidate.tried, after.candidate.tried)
    slow = _new(before.candidate.slow, after.candidate.slow)
    if failed.n == 0 and slow.n == 0:
        return state
    seconds = (now - datetime.fromisoformat(state.at)).total_seconds()
    share = detector.weight(seconds, horizon_seconds(record, phase))
    budget = budget_of(record.plan)
    slowness = slow_test(record.plan, budget.detection("slow_rate"))
    failed0 = _new(before.champion.tried, after.champion.tried)
    calls = share_of_calls(record, phase)
    blame = float(log_blame(failed.events, failed0.events, calls, _blame_odds(record.plan))) if calls else 0.0
    ratios = (
        failure_test(record.plan, budget.failures("detector")).log_ratio(failed.n, failed.events),
        slowness.log_ratio(slow.n, slow.events) if slowness is not None else 0.0,
    )
    return replace(
        state,
        at=max(state.at, now.isoformat()),
        failures=float(detector.update(state.failures, ratios[0], share)),
        slow=float(detector.update(state.slow, ratios[1], share)),
        blame=float(detector.update(state.blame, blame, share)),
        latency=_latency(record, state, before, after, phase, share),
    )


def _latency(
    record: RolloutRecord, state: Detectors, before: Tally, after: Tally, phase: Phase, share: float
) -> tuple[float, ...]:
    """log R of each quantile."""
    quantiles = record.plan.latency_quantiles
    if phase is Phase.WATCHING or not quantiles:
        return ()
    values = state.latency or (detector.EMPTY,) * len(quantiles)
    mine = after.candidate.latency.plus(before.candidate.latency, -1)
    theirs = after.champion.latency.plus(before.champion.latency, -1)
    usual = before.champion.latency.plus(record.step_start.champion.latency, -1)
    ratios = [latency_evidence(record.plan, quantile, usual, mine, theirs) for quantile in quantiles]
    return tuple(float(detector.update(value, ratio, share)) for value, ratio in zip(values, ratios, strict=True))


def latency_evidence(
    plan: RolloutPlan, quantile: float, usual: LatencyCounts, mine: LatencyCounts, theirs: LatencyCounts
) -> float:
    """What a look's new latencies of the candidate (`mine`) and of the champion add; `usual`: the champion's before."""
    if not usual.counts or min(mine.counts + theirs.counts, default=-1) < 0:
        return 0.0  # nothing to compare with, or counters that contradict themselves
    start, over = exceedances.thresholds(dense(usual, usual.first, len(usual.counts)), usual.first, quantile,
                                         latency_limit(plan))  # fmt: skip
    return float(
        exceedances.log_evidence(_from(mine, int(over)), mine.n, _from(theirs, int(start)), theirs.n, quantile)
        if int(start) < np.iinfo(np.int32).max
        else 0.0
    )


def _from(counts: LatencyCounts, start: int) -> int:
    return sum(counts.counts[max(start - counts.first, 0) :])


def _with_loss(
    record: RolloutRecord, state: Detectors, before: Tally, after: Tally, phase: Phase, now: datetime
) -> Detectors:
    """The detectors of the loss, once all that is compared has new labels; until then these wait for each other."""
    sums = _losses(after, phase)
    if not state.loss_sums:
        state = replace(state, loss_at=record.phase_since, loss_sums=_losses(before, phase))
    new = tuple(value - seen for value, seen in zip(sums, state.loss_sums, strict=True))
    if min(new[::3]) <= 0:
        return state
    parts = [mean_shifts.Values(*new[at : at + 3]) for at in range(0, len(new), 3)]
    margin, width = record.plan.max_loss_increase, _width(after, phase)
    if len(parts) == 1:
        ratios = mean_shifts.log_evidence_above(parts[0], margin, width)
    else:
        ratios = mean_shifts.log_evidence_apart(parts[0], parts[1], margin, width)
    seconds = (now - datetime.fromisoformat(state.loss_at)).total_seconds()
    share = detector.weight(seconds, horizon_seconds(record, phase))
    values = state.loss or (detector.EMPTY,) * len(mean_shifts.STRENGTHS)
    loss = tuple(detector.update(values, ratios, share).tolist())
    return replace(state, loss=loss, loss_at=max(state.loss_at, now.isoformat()), loss_sums=sums)


def _losses(tally: Tally, phase: Phase) -> tuple[float, ...]:
    compared: tuple[RunningMean, ...] = (tally.candidate.loss, tally.champion.loss)
    if phase is Phase.WATCHING:
        compared = (tally.pairs.loss_difference,)
    return tuple(float(part) for mean in compared for part in (mean.n, mean.total, mean.variance_process))


def _width(tally: Tally, phase: Phase) -> float:
    mean = tally.pairs.loss_difference if phase is Phase.WATCHING else tally.candidate.loss
    return mean.high - mean.low


def _new(before: RunningRate, after: RunningRate) -> RunningRate:
    if after.n < before.n or after.events < before.events:  # sums never go back; one that does says nothing
        return RunningRate()
    return RunningRate(after.n - before.n, after.events - before.events)
