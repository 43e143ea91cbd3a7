"""What every metric's verdict is made of: an interval against a bound, a word for it, and a margin of error."""

from fairlead.deploy.rollout import sentences as say
from fairlead.deploy.statistics.budget import Budget
from fairlead.deploy.statistics.means import lower_mean, upper_mean
from fairlead.deploy.statistics.rates import Mixture, lower_limit, needed_below, upper_limit
from fairlead.records.evidence import Interval, MetricVerdict, RunningMean, RunningRate, Verdict


def rate_below(
    name: str, what: str, seen: RunningRate, limit: float, alpha_low: float, budget: Budget
) -> MetricVerdict:
    """A rate against a bound: PASS when the upper limit is at most the bound, FAIL when the lower one is above."""
    alpha_high = budget.promotion
    mixture = Mixture.around(limit)
    low = lower_limit(seen.n, seen.events, alpha_low, mixture)
    high = upper_limit(seen.n, seen.events, alpha_high, mixture)
    verdict, reason = compare(seen.n, low, high, limit)
    needed = needed_below(seen.n, seen.events, limit, alpha_high, mixture) if reason else None
    noun = "pair" if name.startswith("shadow") else "request"
    shown = f">= {say.percent(low)} at {say.level(alpha_low)}" if verdict is Verdict.FAIL else (
        f"<= {say.percent(high)} at {say.level(alpha_high)}"
    )  # fmt: skip
    why = (
        f"{say.count(seen.n, noun)}, {what} {say.percent(seen.rate)} ({shown}), bound {say.bound(limit)}: "
        f"{word(verdict, reason)}"
    )
    details = {"required": True, "reason": reason, "unit": "share", "alpha_low": alpha_low, "alpha_high": alpha_high,
               "events": seen.events}  # fmt: skip
    return MetricVerdict(
        name, verdict, seen.rate if seen.n else None, interval(low, high, alpha_low, alpha_high), limit, seen.n, why,
        needed, details,
    )  # fmt: skip


def compare(n: int, low: float, high: float, limit: float) -> tuple[Verdict, str]:
    """FAIL when `low` is above the limit, PASS when `high` is not, else not enough evidence and why."""
    if n and low > limit:
        return Verdict.FAIL, ""
    if n and high <= limit:
        return Verdict.PASS, ""
    return Verdict.NOT_ENOUGH_EVIDENCE, reason_for(Verdict.NOT_ENOUGH_EVIDENCE, n)


def reason_for(verdict: Verdict, n: int) -> str:
    """Why there is no verdict; "" where there is one."""
    if verdict is not Verdict.NOT_ENOUGH_EVIDENCE:
        return ""
    return "inconclusive" if n else "too few"


def word(verdict: Verdict, reason: str) -> str:
    """The verdict as a sentence ends with it."""
    return f"{verdict.value} ({reason})" if reason else verdict.value


def mean_limits(values: RunningMean, alpha_low: float, alpha_high: float, reference: int) -> tuple[float, float]:
    """Both limits of a mean; its range while there are no values."""
    if values.n == 0:
        return values.low, values.high
    return lower_mean(values, alpha_low, reference), upper_mean(values, alpha_high, reference)


def interval(low: float, high: float, alpha_low: float, alpha_high: float) -> Interval:
    """Two one-sided limits as one interval."""
    return Interval(low, high, 1 - alpha_low - alpha_high)
