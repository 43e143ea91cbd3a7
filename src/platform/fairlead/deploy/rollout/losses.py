"""The loss's verdict once labels arrive: on pairs where both models answered the same requests, else between the arms.

When an answer counts. Without a declared horizon, as soon as its label comes. Then the sums hold the answers whose
labels come early, and where what a label says and how long it takes depend on each other (a cancelled order is known at
once, a good one after weeks), they are no fair sample of anybody: a candidate that leans towards the early kind looks
better than it is. Pairs do not help: both models have the same label, so no arm gets more early ones, but the mean over
the pairs is that of the early labels. With a horizon (`label_horizon`) an answer counts, with its label, once its whole
horizon is over: whatever the delays within it, the sums hold all answers of their time. What is left: labels that
never come, or too late. Those are counted, and told, and no evidence; where their absence depends on what they would
say, the mean is that of the others, for pairs as for arms. Where it depends on the arm as well, the arms cannot be
compared: when one arm has a label more often than the other, the verdict is an ERROR, for a person.
"""

import math
from dataclasses import replace

from fairlead.deploy.rollout import sentences as say
from fairlead.deploy.rollout.comparing import compare, interval, mean_limits, word
from fairlead.deploy.statistics import two_sample
from fairlead.deploy.statistics.budget import Budget
from fairlead.deploy.statistics.means import needed_mean_below
from fairlead.deploy.statistics.rates import Mixture
from fairlead.records.evidence import LabelCounts, MetricVerdict, Verdict
from fairlead.records.rollout import ArmEvidence, PairEvidence, RolloutPlan

LABELLED_SHARE = 0.5
"""Share of the pairs that need a label before the loss must pass in the shadow."""


def labels_keep_up(plan: RolloutPlan, pairs: PairEvidence, answered: int) -> bool:
    """True when enough pairs have a label: at least `min_requests`, and half of those that could have one by now."""
    labelled = pairs.loss_difference.n
    could = answered if plan.label_horizon_seconds is None else pairs.labels.exposed
    return labelled >= plan.min_requests and labelled >= LABELLED_SHARE * could


def paired_loss(plan: RolloutPlan, budget: Budget, pairs: PairEvidence, *, required: bool) -> MetricVerdict:
    """Candidate minus champion on the same labelled requests, against the margin."""
    values = pairs.loss_difference
    alpha_low, alpha_high = budget.rollback("loss"), budget.promotion
    low, high = mean_limits(values, alpha_low, alpha_high, plan.min_requests)
    verdict, reason = compare(values.n, low, high, plan.max_loss_increase)
    needed = needed_mean_below(values, plan.max_loss_increase, alpha_high, plan.min_requests) if reason else None
    if values.n:
        shown = f">= {low:+.4f} at {say.level(alpha_low)}" if verdict is Verdict.FAIL else (
            f"<= {high:+.4f} at {say.level(alpha_high)}"
        )  # fmt: skip
        why = (
            f"{say.count(values.n, 'labelled pair')}{_account(plan, pairs.labels)}, loss difference {values.mean:+.4f} "
            f"({shown}), margin {plan.max_loss_increase:g}: {word(verdict, reason)}"
        )
    else:
        why = _no_labels(plan, pairs.labels)
    details = {"required": required, "alpha_low": alpha_low, "alpha_high": alpha_high, "unit": "loss",
               "reason": reason, "paired": True}  # fmt: skip
    return MetricVerdict(
        "loss", verdict, values.mean if values.n else None, interval(low, high, alpha_low, alpha_high),
        plan.max_loss_increase, values.n, why, needed, details | _facts(plan, pairs.labels),
    )  # fmt: skip


def live_loss(
    plan: RolloutPlan, budget: Budget, pairs: PairEvidence, candidate: ArmEvidence, champion: ArmEvidence
) -> MetricVerdict:
    """The paired difference where there are pairs with labels, else the difference of the arms' mean losses. Vetoes."""
    mine, theirs = candidate.loss, champion.loss
    if pairs.loss_difference.n or not (mine.n and theirs.n):
        return paired_loss(plan, budget, pairs, required=False)
    alpha_low, alpha_high = budget.rollback("loss"), budget.promotion
    candidate_low, candidate_high = mean_limits(mine, alpha_low / 2, alpha_high / 2, plan.min_requests)
    champion_low, champion_high = mean_limits(theirs, alpha_high / 2, alpha_low / 2, plan.min_requests)
    low, high = candidate_low - champion_high, candidate_high - champion_low
    verdict, reason = compare(mine.n, low, high, plan.max_loss_increase)
    observed = mine.mean - theirs.mean
    shown = f">= {low:+.4f} at {say.level(alpha_low)}" if verdict is Verdict.FAIL else (
        f"<= {high:+.4f} at {say.level(alpha_high)}"
    )  # fmt: skip
    why = (
        f"{say.count(mine.n, 'labelled answer')}{_account(plan, candidate.labels)}, loss {observed:+.4f} against the "
        f"champion's ({shown}), margin {plan.max_loss_increase:g}: {word(verdict, reason)}"
    )
    details = {"required": False, "alpha_low": alpha_low, "alpha_high": alpha_high, "unit": "loss",
               "reason": reason, "paired": False}  # fmt: skip
    return MetricVerdict(
        "loss", verdict, observed, interval(low, high, alpha_low, alpha_high), plan.max_loss_increase,
        mine.n, why, None, details | _facts(plan, candidate.labels),
    )  # fmt: skip


def compares_arms(metric: MetricVerdict) -> bool:
    """True for a verdict on the loss that rests on answers of both arms: where there are no labelled pairs, or where
    the detector, which compares arms in every step, raised the alarm."""
    value, wanted = metric.details.get("detector"), metric.details.get("detector_from")
    alarm = isinstance(value, float) and isinstance(wanted, float) and value >= wanted
    return metric.details.get("paired") is False or alarm


def with_label_check(
    metric: MetricVerdict, budget: Budget, candidate: LabelCounts, champion: LabelCounts
) -> MetricVerdict:
    """The metric, an ERROR when the arms' answers get labels at different rates: who is without one may be who matters.
    Like the check of the split it pauses for a person, takes nothing from the budgets, and is wrong with probability at
    most `Budget.split_alarm` (`statistics.two_sample` at a difference of 0, over all looks of a rollout)."""
    if not (compares_arms(metric) and candidate.exposed and champion.exposed):
        return metric
    evidence = two_sample.log_evidence(
        candidate.exposed, candidate.labelled, champion.exposed, champion.labelled, 0.0, Mixture()
    )
    if float(evidence) < -math.log(budget.split_alarm):
        return metric
    why = (
        f"{say.percent(candidate.labelled / candidate.exposed)} of the candidate's answers got a label in time, "
        f"{say.percent(champion.labelled / champion.exposed)} of the champion's: comparing the losses of those that "
        f"did says nothing until the cause is found: {Verdict.ERROR.value}"
    )
    details = {**metric.details, "required": True, "reason": "labels missing"}
    return replace(metric, verdict=Verdict.ERROR, why=why, needed=None, details=details)


def _account(plan: RolloutPlan, labels: LabelCounts) -> str:
    """What became of the answers that the labels are from."""
    if plan.label_horizon_seconds is None:
        return ""
    late = ""
    if labels.late:
        late = f"; {say.count(labels.late, 'label')} came later and {'does' if labels.late == 1 else 'do'} not count"
    return f" of {labels.exposed:,} whose {say.seconds(plan.label_horizon_seconds)} are over{late}"


def _no_labels(plan: RolloutPlan, labels: LabelCounts) -> str:
    if plan.label_horizon_seconds is None:
        return "no labels yet; their absence does not block"
    horizon = say.seconds(plan.label_horizon_seconds)
    if not labels.exposed:
        return f"no answer has had its {horizon} for a label yet; that does not block"
    return f"no labels{_account(plan, labels)}; their absence does not block"


def _facts(plan: RolloutPlan, labels: LabelCounts) -> dict[str, object]:
    if plan.label_horizon_seconds is None:
        return {}
    return {"exposed": labels.exposed, "labelled": labels.labelled, "late_labels": labels.late}
