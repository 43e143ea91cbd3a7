"""The restarting detectors of a rollout: what each look adds to them, and when they raise an alarm."""

from datetime import datetime

from fairlead.deploy.rollout.plan import budget_of
from fairlead.deploy.statistics import detector
from fairlead.deploy.statistics.concurrent import log_blame
from fairlead.deploy.statistics.sprt import Sprt
from fairlead.records.evidence import RunningRate
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


def detect(record: RolloutRecord, before: Tally, after: Tally, phase: Phase, now: datetime) -> Detectors:
    """The detectors after a look: `before` and `after` are the rollout's sums at the last look and at this one."""
    state = record.detectors
    if state.since != record.phase_since:
        state = Detectors(since=record.phase_since, at=record.phase_since)
    if phase not in _LIVE:
        return state
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
    return Detectors(
        since=state.since,
        at=max(state.at, now.isoformat()),
        failures=float(detector.update(state.failures, ratios[0], share)),
        slow=float(detector.update(state.slow, ratios[1], share)),
        blame=float(detector.update(state.blame, blame, share)),
    )


def _new(before: RunningRate, after: RunningRate) -> RunningRate:
    if after.n < before.n or after.events < before.events:  # sums never go back; one that does says nothing
        return RunningRate()
    return RunningRate(after.n - before.n, after.events - before.events)
