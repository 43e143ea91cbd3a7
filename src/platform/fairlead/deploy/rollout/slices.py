"""Shadow evidence slice by slice: labels that change, score differences and losses of each value of declared columns.

A fault that hits one slice only is diluted in the mean over all pairs, often below its bound for good. So each slice is
held against bounds of its own, with the same tests as all pairs together (`statistics.rates`, `statistics.means`):
`slice_factor` times the bound of all pairs, because a mean within its bound may well be the mean of unequal slices, and
for score differences at least `score_difference_factor` times the noise of retraining in that slice, where the bundles
hold it. Slices can only veto: most have too few pairs to PASS anything, and nobody waits for them.

The budget: half of what each of the three comparisons has in the shadow, split evenly over all slices that there may be
(`Budget.slice`). Servers keep `MOST_VALUES` values of each column, whichever come first, and the rest as one more: that
bounds the memory, and which they are does not depend on what the models say.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fairlead.deploy.rollout import sentences as say
from fairlead.deploy.rollout.comparing import mean_limits, word
from fairlead.deploy.statistics.budget import Budget
from fairlead.deploy.statistics.means import MeanSequence
from fairlead.deploy.statistics.rates import Mixture, log_martingale, lower_limit, upper_limit
from fairlead.records.evidence import Interval, MetricVerdict, RunningMean, RunningRate, Verdict
from fairlead.records.rollout import RolloutPlan, SliceEvidence

SHOWN = 8
"""How many slices a verdict tells of, the worst first."""


@dataclass(frozen=True, slots=True)
class _Judged:
    """One slice against its bound: `evidence` that it is over it is decisive from log(1 / alpha)."""

    name: str
    n: int
    observed: float
    low: float
    high: float
    bound: float
    evidence: float


def slice_metrics(
    plan: RolloutPlan,
    budget: Budget,
    slices: Mapping[str, SliceEvidence],
    limit: float | None,
    noises: Mapping[str, float],
) -> Iterator[MetricVerdict]:
    """A verdict for each comparison; none where no slices are declared. `limit`: the bound of the mean score difference
    of all pairs; `noises`: the noise of retraining by slice, where it was measured."""
    if not plan.slices:
        return
    factor = plan.slice_factor
    flips = factor * plan.max_flip_rate
    yield _verdict(
        "shadow_flips", "labels that change", "share", plan, budget,
        [(name, each.flips, flips) for name, each in slices.items() if flips < 1],
    )  # fmt: skip
    differences = []
    if limit is not None:
        for name, each in slices.items():
            bound = max(factor * limit, plan.score_difference_factor * noises.get(name, 0.0))
            differences.append((name, each.difference, bound))
    yield _verdict("shadow_score_difference", "mean score difference", "score", plan, budget, differences)
    losses = [(name, each.loss_difference, factor * plan.max_loss_increase) for name, each in slices.items()]
    yield _verdict("loss", "loss difference", "loss", plan, budget, losses)


def _verdict(
    metric: str,
    what: str,
    unit: str,
    plan: RolloutPlan,
    budget: Budget,
    parts: Sequence[tuple[str, RunningRate | RunningMean, float]],
) -> MetricVerdict:
    # A restarted server may have kept other values: then there are more slices than one server keeps.
    alpha = budget.slice(metric) * min(1.0, budget.slices / max(len(parts), 1))
    judged = [_judged(name, values, bound, alpha, plan) for name, values, bound in parts if values.n]
    judged.sort(key=lambda each: (-each.evidence, each.bound - each.observed))
    name = f"{metric}_by_slice"
    details: dict[str, object] = {
        "required": False, "unit": unit, "alpha_low": alpha, "slices": {
            each.name: [each.n, round(each.observed, 6), round(each.evidence, 3)] for each in judged[:SHOWN]
        },
    }  # fmt: skip
    if not judged:
        why = f"{what} by slice: no pairs yet" if parts else f"{what} by slice: there is no bound to judge by"
        return MetricVerdict(name, Verdict.NOT_ENOUGH_EVIDENCE, None, None, None, 0, why, None,
                             details | {"reason": "too few"})  # fmt: skip
    worst, wanted = judged[0], -math.log(alpha)
    failed = [each for each in judged if each.evidence >= wanted]
    verdict = Verdict.FAIL if failed else Verdict.NOT_ENOUGH_EVIDENCE
    shown = (say.percent if unit == "share" else lambda value: f"{value:.4f}")(worst.observed)
    limit = say.bound(worst.bound) if unit == "share" else f"{worst.bound:.4f}"
    reason = "" if failed else "slices only veto"
    others = f", {len(failed) - 1} more slices as well" if len(failed) > 1 else ""
    why = (
        f"{worst.name}: {say.count(worst.n, 'pair')}, {what} {shown}, bound of a slice {limit}{others} (the worst of "
        f"{say.count(len(judged), 'slice')}, evidence {worst.evidence:+.1f}, bad from {wanted:.1f}): "
        f"{word(verdict, reason)}"
    )
    interval = Interval(max(worst.low, -1.0), min(worst.high, 1.0), 1 - 2 * alpha)
    details |= {"reason": reason, "slice": worst.name}
    return MetricVerdict(name, verdict, worst.observed, interval, worst.bound, worst.n, why, None, details)


def _judged(name: str, values: RunningRate | RunningMean, bound: float, alpha: float, plan: RolloutPlan) -> _Judged:
    """The evidence alone, and no limits, while the slice is within its bound: there may be many, at every look."""
    if isinstance(values, RunningRate):
        mixture = Mixture.around(bound)
        if values.rate <= bound:
            return _Judged(name, values.n, values.rate, 0.0, 1.0, bound, 0.0)
        low = lower_limit(values.n, values.events, alpha, mixture)
        high = upper_limit(values.n, values.events, alpha, mixture)
        evidence = log_martingale(values.n, values.events, bound, mixture)
        return _Judged(name, values.n, values.rate, low, high, bound, evidence)
    if values.mean <= bound:
        return _Judged(name, values.n, values.mean, values.low, values.high, bound, 0.0)
    sequence = MeanSequence(alpha, values.high - values.low, plan.min_requests)
    evidence = sequence.log_supermartingale(values.total - values.n * bound, values.variance_process)
    low, high = mean_limits(values, alpha, alpha, plan.min_requests)
    return _Judged(name, values.n, values.mean, low, high, bound, evidence)
