"""A bandit in a rollout: who gets which share of the keys next, and what it recommends at its declared end. Pure.

Shares are set anew at whole multiples of the declared interval since the trial began. The draws of Thompson's policy
come from a seed that the rollout and the number of the allocation make, so that a host that takes over after a crash
draws the same. A bandit promises no error rate (see `fairlead.deploy.strategies.bandit`), so its metric never passes
or fails anything but its own end.
"""

import hashlib
from dataclasses import replace

import numpy as np

from fairlead.deploy.rollout import sentences as say
from fairlead.deploy.rollout import tally as sums
from fairlead.deploy.strategies.bandit import ArmRewards, EpsilonGreedy, Policy, Thompson, Ucb1, allocate
from fairlead.records.evidence import MetricVerdict, Verdict
from fairlead.records.rollout import RolloutRecord
from fairlead.records.trial import BANDIT, KeyOutcomes, TrialPlan

CHAMPION, CANDIDATE, NOBODY = "champion", "candidate", "no_winner"
NO_PROMISE = "a bandit promises no error rate for this; where that is the question, run an A/B test"


def rewards_of(record: RolloutRecord, trial: TrialPlan) -> tuple[ArmRewards, ArmRewards]:
    """Final rewards of champion and candidate, each between 0 and 1 and better when higher."""
    whole = sums.total(record)
    return _rewards(whole.champion.keys, trial), _rewards(whole.candidate.keys, trial)


def _rewards(keys: KeyOutcomes | None, trial: TrialPlan) -> ArmRewards:
    if keys is None or keys.values.n <= 0:
        return ArmRewards(0, 0.0)
    low, high, values = trial.outcome.low, trial.outcome.high, keys.values
    total = (values.total - low * values.n) / (high - low)
    total = total if trial.higher_is_better else values.n - total
    return ArmRewards(values.n, min(max(total, 0.0), float(values.n)))


def policy_of(trial: TrialPlan) -> Policy:
    """The declared policy."""
    if trial.policy == "epsilon_greedy":
        return EpsilonGreedy(trial.epsilon)
    return Ucb1() if trial.policy == "ucb" else Thompson()


def next_share(record: RolloutRecord, trial: TrialPlan, number: int) -> float:
    """The candidate's share in percent, to a tenth, at allocation `number`."""
    arms = rewards_of(record, trial)
    seed = hashlib.sha256(f"{record.model}/{record.id}/{number}".encode()).digest()
    shares = allocate(policy_of(trial), arms, trial.floor, np.random.default_rng(int.from_bytes(seed[:8])))
    return round(100 * shares[1], 1)


def reallocated(record: RolloutRecord, trial: TrialPlan) -> RolloutRecord:
    """The record with the next shares, where an allocation is due and something new counts; else as it is."""
    number = int(record.trial_seconds // trial.every_seconds)
    counted = sum(arm.n for arm in rewards_of(record, trial))
    if number <= record.allocated or counted <= record.allocated_keys:
        return record
    share = next_share(record, trial, number)
    record = replace(record, allocated=number, allocated_keys=counted)
    return record if share == record.weight else replace(record, weight=share, step=record.step + 1)


def end(record: RolloutRecord, trial: TrialPlan) -> tuple[str, str] | None:
    """Who is best at the declared end, and the sentence; None before it."""
    champion, candidate = rewards_of(record, trial)
    counted = champion.n + candidate.n
    if counted < trial.max_keys and record.trial_seconds < trial.max_seconds:
        return None
    whole = sums.total(record)
    arrived = sum(keys.arrived for keys in (whole.champion.keys, whole.candidate.keys) if keys is not None)
    means = described(record, trial)
    if not (champion.n and candidate.n and arrived):
        return NOBODY, f"{means} at the declared end: too little to recommend anything"
    better = candidate.total / candidate.n > champion.total / champion.n
    arm = record.candidate if better else record.champion
    return CANDIDATE if better else CHAMPION, f"{means} at the declared end: {say.arm(arm)} looks best; {NO_PROMISE}"


def described(record: RolloutRecord, trial: TrialPlan) -> str:
    """Each arm's mean of the metric, as it was measured, and its keys."""
    whole, words = sums.total(record), []
    for arm, keys in ((record.champion, whole.champion.keys), (record.candidate, whole.candidate.keys)):
        n = keys.values.n if keys is not None else 0
        mean = f"{keys.values.mean:.4g}" if keys is not None and n else "-"
        words.append(f"{say.arm(arm)} {mean} ({say.count(n, 'key')})")
    return f"{trial.outcome.metric}: {', '.join(words)}"


def bandit_metric(record: RolloutRecord, trial: TrialPlan) -> MetricVerdict:
    """The bandit at this look. PASS says only that the declared end has come and that the candidate looks best."""
    found = end(record, trial)
    champion, candidate = rewards_of(record, trial)
    n = champion.n + candidate.n
    best = found[0] if found is not None else ""
    verdict = Verdict.PASS if best == CANDIDATE else Verdict.NOT_ENOUGH_EVIDENCE
    difference = candidate.total / candidate.n - champion.total / champion.n if champion.n and candidate.n else None
    details = {
        "required": True, "reason": "" if best else "running", "unit": trial.outcome.metric, "outcome": best,
        "test": f"none: {trial.policy}", "champion_n": champion.n, "candidate_n": candidate.n,
    }  # fmt: skip
    return MetricVerdict(BANDIT, verdict, difference, None, None, n, described(record, trial), None, details)
