"""An A/B test with one declared metric and a declared end, that may be looked at any time. Pure.

One observation per key: the outcome of its first exposure, once it is final (`maturing`). Keys are hashed to an arm,
so the arms are independent samples. Candidate minus champion gets a confidence sequence at 1 - alpha, half of alpha on
each side, valid at all looks at once: a rate by `statistics.two_sample`, a bounded mean by one sequence of
`statistics.means` per arm at half of that (a union bound). What ends the test, in this order:

    the split is not the declared one     INVALID     who is missing may be who matters: no winner, whatever the metric
    the whole interval is above 0         CANDIDATE   wrong with probability at most alpha / 2 when it is not better
    the whole interval is below 0         CHAMPION    the same
    the whole interval is within the smallest effect worth having on both sides      SAME
    the declared keys or time are over    NO_WINNER   the champion stays, and the interval says what is still possible

The split is judged twice, among the keys that were exposed and among those with an outcome (a candidate whose outcomes
get lost is as broken as one whose keys do), by `statistics.sample_ratio` at half of `split_alpha` each.
"""

import enum
import math
from dataclasses import dataclass

from fairlead.deploy.statistics import sample_ratio, two_sample
from fairlead.deploy.statistics.means import lower_mean, upper_mean
from fairlead.deploy.statistics.rates import Mixture
from fairlead.records.evidence import RunningMean, RunningRate


class Outcome(enum.StrEnum):
    """What an A/B test says. All but RUNNING end it."""

    RUNNING = "running"
    CANDIDATE = "candidate"
    CHAMPION = "champion"
    SAME = "same"
    NO_WINNER = "no_winner"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class AbPlan:
    """What is declared before the first key. `candidate_share`: share of the keys, 0 to 1. `smallest_effect`: in units
    of the metric; 0 for none. `expected_rate`: for a rate, about where it lies; it tunes the test, never its validity.
    Raises ValueError with a sentence for a plan that contradicts itself."""

    metric: str
    max_keys: int
    max_seconds: float
    higher_is_better: bool = True
    alpha: float = 0.05
    split_alpha: float = 0.001
    candidate_share: float = 0.5
    smallest_effect: float = 0.0
    expected_rate: float = 0.1

    def __post_init__(self) -> None:
        shares = {"alpha": self.alpha, "split_alpha": self.split_alpha, "candidate_share": self.candidate_share,
                  "expected_rate": self.expected_rate}  # fmt: skip
        for name, share in shares.items():
            if not 0 < share < 1:
                raise ValueError(f"{name} must lie between 0 and 1, not {share:g}")
        if not (self.max_keys > 0 and 0 < self.max_seconds < math.inf):
            raise ValueError("an A/B test needs an end: max_keys and max_seconds above 0")
        if not 0 <= self.smallest_effect < math.inf:
            raise ValueError(f"smallest_effect must not be negative, not {self.smallest_effect:g}")


@dataclass(frozen=True, slots=True)
class AbArm:
    """One arm's sums: `exposed` keys, and the outcomes of those that have one, as a rate or as a bounded mean."""

    exposed: int
    outcomes: RunningRate | RunningMean


@dataclass(frozen=True, slots=True)
class AbResult:
    """Where the test is. `observed`, `low` and `high` are candidate minus champion as measured, whichever is better."""

    outcome: Outcome
    observed: float
    low: float
    high: float
    why: str


def judge_ab(plan: AbPlan, champion: AbArm, candidate: AbArm, elapsed_seconds: float) -> AbResult:
    """One look. Raises ValueError when the arms measure different things."""
    observed, low, high = _difference(plan, champion.outcomes, candidate.outcomes)

    def found(outcome: Outcome, why: str) -> AbResult:
        return AbResult(outcome, observed, low, high, f"{plan.metric}: {why}")

    off = _split_problem(plan, champion, candidate)
    if off:
        return found(Outcome.INVALID, off)
    interval = f"candidate minus champion {observed:+.4g}, between {low:+.4g} and {high:+.4g}"
    best_low, best_high = (low, high) if plan.higher_is_better else (-high, -low)
    if best_low > 0:
        return found(Outcome.CANDIDATE, f"{interval}: the candidate is better")
    if best_high < 0:
        return found(Outcome.CHAMPION, f"{interval}: the champion is better")
    if plan.smallest_effect > 0 and max(abs(low), abs(high)) <= plan.smallest_effect:
        return found(Outcome.SAME, f"{interval}: no difference of {plan.smallest_effect:g}, the smallest worth having")
    keys = champion.outcomes.n + candidate.outcomes.n
    if keys >= plan.max_keys or elapsed_seconds >= plan.max_seconds:
        return found(Outcome.NO_WINNER, f"{interval} at the declared end, {keys:,} keys: the champion stays")
    return found(Outcome.RUNNING, f"{interval} after {keys:,} of {plan.max_keys:,} keys")


def _difference(
    plan: AbPlan, champion: RunningRate | RunningMean, candidate: RunningRate | RunningMean
) -> tuple[float, float, float]:
    alpha = plan.alpha / 2
    if isinstance(champion, RunningRate) and isinstance(candidate, RunningRate):
        mixture = Mixture.around(plan.expected_rate)
        found = two_sample.difference(candidate, champion, alpha_low=alpha, alpha_high=alpha, mixture=mixture)
        return found.observed, found.low, found.high
    if not (isinstance(champion, RunningMean) and isinstance(candidate, RunningMean)):
        raise ValueError(f"{plan.metric} is a rate on one arm and a mean on the other")
    if (champion.low, champion.high) != (candidate.low, candidate.high):
        raise ValueError(f"{plan.metric} has another range on each arm")
    reference = max(plan.max_keys // 2, 1)
    low = _lower(candidate, alpha / 2, reference) - _upper(champion, alpha / 2, reference)
    high = _upper(candidate, alpha / 2, reference) - _lower(champion, alpha / 2, reference)
    return candidate.mean - champion.mean, low, high


def _lower(values: RunningMean, alpha: float, reference: int) -> float:
    return lower_mean(values, alpha, reference) if values.n else values.low


def _upper(values: RunningMean, alpha: float, reference: int) -> float:
    return upper_mean(values, alpha, reference) if values.n else values.high


def _split_problem(plan: AbPlan, champion: AbArm, candidate: AbArm) -> str:
    """Why the arms are not the ones that were declared; "" when nothing speaks against it."""
    counts = (
        ("of the exposed keys", candidate.exposed, champion.exposed),
        ("of the keys with an outcome", candidate.outcomes.n, champion.outcomes.n),
    )
    for what, ours, theirs in counts:
        total = ours + theirs
        if total and bool(sample_ratio.is_off(ours, total, plan.candidate_share, plan.split_alpha / 2)):
            seen, declared = 100 * ours / total, 100 * plan.candidate_share
            return (
                f"the candidate has {seen:.4g} % {what}, declared are {declared:.4g} % ({total:,} keys): "
                "the arms cannot be compared"
            )
    return ""
