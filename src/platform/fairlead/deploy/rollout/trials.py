"""An A/B test or a bandit in place of the canary steps: what it says now, as a metric, and what follows from it.

It runs in the phase CANARY, so that whatever holds for a canary holds here: hard failures, the failure rate and all
else that vetoes roll the candidate back at once, a person may pause and abort, and a crash is resumed from the record.
Only the way forward differs: no step advances; instead the trial ends, by its own rules:

    A/B test: the candidate is better      promoted once all that must pass has passed (or recommended, as declared)
              the champion is better       rolled back
              no difference, or no winner  the champion stays
              the split is wrong           rolled back: the arms cannot be compared
    bandit:   the declared end             the better one is recommended (or promoted, as declared)

Nothing but outcomes of keys decides it (see `fairlead.serve.trial`), over the whole trial; without a single outcome
nothing is ever promoted or called the same. Time goes on while it is paused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from fairlead.deploy.rollout import bandits
from fairlead.deploy.rollout import sentences as say
from fairlead.deploy.rollout import tally as sums
from fairlead.deploy.strategies.ab_test import AbArm, AbPlan, AbResult, Outcome, judge_ab
from fairlead.records.evidence import Interval, MetricVerdict, RunningMean, RunningRate, Verdict
from fairlead.records.rollout import RolloutRecord
from fairlead.records.trial import AB_TEST, KeyOutcomes, TrialPlan

_VERDICTS = {Outcome.CANDIDATE: Verdict.PASS, Outcome.CHAMPION: Verdict.FAIL, Outcome.INVALID: Verdict.ERROR}


@dataclass(frozen=True, slots=True)
class Ending:
    """How a trial ends now. `result` is what it found, `recommends` what it recommends; `promotes`: the candidate is to
    become champion, as soon as all that must pass has passed; else the champion stays."""

    result: str
    sentence: str
    recommends: str
    promotes: bool
    last: bool
    """True at the declared end: nothing more can be waited for."""


def trial_metric(record: RolloutRecord) -> MetricVerdict | None:
    """The trial at this look, as one more metric; None without one."""
    trial = record.plan.trial
    if trial is None:
        return None
    if trial.kind != AB_TEST:
        return bandits.bandit_metric(record, trial)
    result = judged(record, trial)
    champion, candidate = arms_of(record)
    n = champion.values.n + candidate.values.n
    verdict = _VERDICTS.get(result.outcome, Verdict.NOT_ENOUGH_EVIDENCE)
    reason = "" if verdict in (Verdict.PASS, Verdict.FAIL) else str(result.outcome)
    if result.outcome is Outcome.RUNNING:
        reason = "inconclusive" if n else "too few"
    details = {
        "required": True, "reason": reason, "unit": trial.outcome.metric, "test": _TESTS[trial.outcome.binary],
        "outcome": str(result.outcome), "alpha_low": trial.alpha / 2, "alpha_high": trial.alpha / 2,
        "candidate": candidate.values.mean if candidate.values.n else None, "candidate_n": candidate.values.n,
        "champion": champion.values.mean if champion.values.n else None, "champion_n": champion.values.n,
        **exposures(champion, candidate),
    }  # fmt: skip
    observed = result.observed if champion.values.n and candidate.values.n else None
    interval = Interval(result.low, result.high, 1 - trial.alpha)
    return MetricVerdict(AB_TEST, verdict, observed, interval, 0.0, n, f"{result.why}: {verdict.value}", None, details)


_TESTS = {True: "sequential two-sample test of rates", False: "confidence sequences of two means"}


def exposures(champion: KeyOutcomes, candidate: KeyOutcomes) -> dict[str, object]:
    """Who was exposed to what, for people."""
    return {
        "candidate_exposed": candidate.exposed, "champion_exposed": champion.exposed,
        "candidate_ripe": candidate.ripe, "champion_ripe": champion.ripe,
        "candidate_arrived": candidate.arrived, "champion_arrived": champion.arrived,
    }  # fmt: skip


def arms_of(record: RolloutRecord) -> tuple[KeyOutcomes, KeyOutcomes]:
    """The keys of champion and candidate, over the whole rollout."""
    whole, trial = sums.total(record), record.plan.trial
    nothing = KeyOutcomes()
    if trial is not None:
        nothing = KeyOutcomes(values=RunningMean(low=trial.outcome.low, high=trial.outcome.high))
    return whole.champion.keys or nothing, whole.candidate.keys or nothing


def judged(record: RolloutRecord, trial: TrialPlan) -> AbResult:
    """The A/B test at the last look."""
    plan = AbPlan(
        trial.outcome.metric,
        trial.max_keys,
        trial.max_seconds,
        trial.higher_is_better,
        trial.alpha,
        trial.split_alpha,
        record.plan.steps[0] / 100,
        trial.smallest_effect,
        trial.expected_rate,
    )
    champion, candidate = arms_of(record)
    result = judge_ab(plan, _arm(trial, champion), _arm(trial, candidate), record.trial_seconds)
    if result.outcome not in (Outcome.RUNNING, Outcome.INVALID) and not champion.arrived + candidate.arrived:
        why = f"{trial.outcome.metric}: not one outcome has arrived"
        return replace(result, outcome=Outcome.NO_WINNER if over(record, trial) else Outcome.RUNNING, why=why)
    return result


def _arm(trial: TrialPlan, keys: KeyOutcomes) -> AbArm:
    values = keys.values
    return AbArm(keys.exposed, RunningRate(values.n, round(values.total)) if trial.outcome.binary else values)


def over(record: RolloutRecord, trial: TrialPlan) -> bool:
    """True when the declared end has come."""
    return record.trial_seconds >= trial.max_seconds or sum(k.values.n for k in arms_of(record)) >= trial.max_keys


def ending(record: RolloutRecord) -> Ending | None:
    """How the trial ends at this look; None while it goes on."""
    trial = record.plan.trial
    if trial is None:
        return None
    if trial.kind != AB_TEST:
        return _end_of_bandit(record, trial)
    result = judged(record, trial)
    found = result.outcome
    if found is Outcome.RUNNING:
        return None
    sentence = f"{say.stage(record)}: {result.why}"
    if found is Outcome.CANDIDATE:
        recommends = f"promote {say.arm(record.candidate)}"
        return Ending(str(found), sentence, recommends, trial.promotes, over(record, trial))
    return Ending(str(found), sentence, f"keep {say.arm(record.champion)}", False, True)


def _end_of_bandit(record: RolloutRecord, trial: TrialPlan) -> Ending | None:
    found = bandits.end(record, trial)
    if found is None:
        return None
    best, sentence = found
    candidate = best == bandits.CANDIDATE
    recommends = f"promote {say.arm(record.candidate)}" if candidate else f"keep {say.arm(record.champion)}"
    return Ending(best, f"{say.stage(record)}: {sentence}", recommends, trial.promotes and candidate, True)


def accepts(record: RolloutRecord) -> bool:
    """True when a person who resumes after a pause for lack of a verdict thereby promotes: the trial has found the
    candidate better. Without a trial, resuming accepts what there is."""
    found = ending(record) if record.plan.trial is not None else None
    return record.plan.trial is None or (found is not None and found.promotes)


def clocked(record: RolloutRecord, now: datetime) -> RolloutRecord:
    """The record with how long the trial has lasted, pauses included."""
    if not record.trial_since:
        return record
    seconds = max(0.0, (now - datetime.fromisoformat(record.trial_since)).total_seconds())
    return replace(record, trial_seconds=max(seconds, record.trial_seconds))


def progress(record: RolloutRecord, outcomes: Mapping[str, int]) -> str:
    """What is being waited for, and which of the `outcomes` that were posted are no evidence."""
    trial = record.plan.trial
    if trial is None:
        return ""
    champion, candidate = arms_of(record)
    counted, met = champion.values.n + candidate.values.n, champion.exposed + candidate.exposed
    refused = [f"{count:,} {word.replace('_', ' ')}" for word, count in outcomes.items() if count and word != "joined"]
    left = max(0.0, trial.max_seconds - record.trial_seconds)
    return (
        f"{say.stage(record)}: {met:,} keys met a model, {counted:,} of {trial.max_keys:,} count, "
        f"{champion.arrived + candidate.arrived:,} with an outcome; it ends in {say.seconds(left)} at the latest"
        + (f"; posted, and no evidence: {', '.join(refused)}" if refused else "")
    )
