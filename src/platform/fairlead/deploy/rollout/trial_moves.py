"""What an A/B test or a bandit decides at a look, once nothing has failed."""

from dataclasses import replace
from datetime import datetime

from fairlead.deploy.rollout import bandits, moves, trials
from fairlead.deploy.rollout import sentences as say
from fairlead.deploy.rollout.decisions import enter
from fairlead.deploy.rollout.moves import ENGINE, is_fresh
from fairlead.deploy.rollout.verdicts import required
from fairlead.records.evidence import MetricVerdict, Verdict
from fairlead.records.rollout import Observation, Phase, RolloutRecord
from fairlead.records.trial import AB_TEST, BANDIT, TrialPlan

TRIALS = frozenset({AB_TEST, BANDIT})


def decide_trial(
    record: RolloutRecord,
    observation: Observation,
    now: datetime,
    metrics: tuple[MetricVerdict, ...],
    ended: trials.Ending | None,
) -> RolloutRecord:
    """An A/B test or a bandit ends by its own rules; to promote, all that must pass has to pass as well."""
    trial = record.plan.trial
    if ended is None and trial is not None and trial.kind == BANDIT:
        return _reallocate(record, observation, now, trial)
    if ended is None:
        return replace(record, status=trials.progress(record, observation.outcomes))
    if ended.result != "candidate":
        return end_trial(record, observation, now, ended)
    missing = [m.why for m in metrics if required(m) and m.verdict is not Verdict.PASS and m.metric not in TRIALS]
    if record.last_requests < record.plan.min_requests:
        missing.append(
            f"{say.count(record.last_requests, 'request')} of {record.plan.min_requests:,} that the plan wants"
        )
    if not is_fresh(record, now):
        missing.append("no request has come lately")
    if missing and not ended.last:
        return replace(record, status=f"{ended.sentence}; to be promoted it still needs: {'; '.join(missing)}")
    if missing and ended.promotes:
        reason = f"{ended.sentence}; but at the declared end: {'; '.join(missing)}"
        return moves.pause(record, observation, now, "inconclusive", reason)
    if ended.promotes:
        record = replace(record, result=ended.result, recommends=ended.recommends)
        next_one = f"Next: {say.arm(record.candidate)} becomes champion"
        return moves.promote(record, observation, now, ENGINE, f"{ended.sentence}. {next_one}")
    return end_trial(record, observation, now, ended)


def _reallocate(record: RolloutRecord, observation: Observation, now: datetime, trial: TrialPlan) -> RolloutRecord:
    target = bandits.reallocated(record, trial)
    if target.weight == record.weight:
        return replace(target, status=trials.progress(record, observation.outcomes))
    sentence = f"{say.stage(record)}: {bandits.described(record, trial)}. Next: {say.stage(target)}"
    return enter(record, target, observation, now, ENGINE, sentence)


def end_trial(record: RolloutRecord, observation: Observation, now: datetime, ended: trials.Ending) -> RolloutRecord:
    """The champion answers everything again; what was found stays in the record."""
    target = replace(record, phase=Phase.ABORTING, weight=0.0, shadow_percent=0.0)
    target = replace(target, result=ended.result, recommends=ended.recommends)
    back = "Rolled back" if ended.result in ("champion", "invalid") else f"Recommended: {ended.recommends}. Ended"
    sentence = f"{ended.sentence}. {back}: {say.arm(record.rollback_target)} answers everything"
    return enter(record, target, observation, now, ENGINE, sentence)
