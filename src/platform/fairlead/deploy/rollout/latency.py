"""The latency's verdicts: each declared quantile of the candidate against the champion's of the same minutes."""

import math
from collections.abc import Iterator

from fairlead.deploy.rollout import sentences as say
from fairlead.deploy.rollout.comparing import reason_for, word
from fairlead.deploy.statistics.budget import Budget
from fairlead.deploy.statistics.quantiles import Limit, compare_quantiles, needed_for_quantile, quantile_limits
from fairlead.records.evidence import Interval, LatencyCounts, MetricVerdict, Verdict
from fairlead.records.rollout import RolloutPlan

EXPECTED_BEYOND = 10
"""A quantile must PASS where the least number of requests of a step brings this many beyond it; else it only vetoes: a
p99 takes a thousand requests to tell, and no step of 300 should wait for it."""


def latency_limit(plan: RolloutPlan) -> Limit:
    """What a candidate's quantile may be."""
    return Limit(plan.max_latency_increase, plan.min_latency_increase_ms / 1000)


def quantile_metric(quantile: float) -> str:
    """The metric's name: 0.99 as "latency_p99"."""
    return f"latency_p{100 * quantile:g}"


def is_required(plan: RolloutPlan, quantile: float) -> bool:
    """True when the candidate cannot advance without a PASS of this quantile."""
    return plan.min_requests * (1 - quantile) >= EXPECTED_BEYOND - 1e-9


def latency_metrics(
    plan: RolloutPlan, budget: Budget, candidate: LatencyCounts, champion: LatencyCounts
) -> Iterator[MetricVerdict]:
    """One verdict for each quantile."""
    for quantile in plan.latency_quantiles:
        yield _quantile(plan, budget, quantile, candidate, champion)


def _quantile(
    plan: RolloutPlan, budget: Budget, quantile: float, candidate: LatencyCounts, champion: LatencyCounts
) -> MetricVerdict:
    alpha_low, alpha_high = budget.rollback("latency"), budget.promotion
    limit = latency_limit(plan)
    n, observed, usual = candidate.n, candidate.quantile_ms(quantile), champion.quantile_ms(quantile)
    found = compare_quantiles(candidate, champion, quantile, limit)
    verdict = Verdict.NOT_ENOUGH_EVIDENCE
    if float(found.worse) >= -math.log(alpha_low):
        verdict = Verdict.FAIL
    elif float(found.within) >= -math.log(alpha_high):
        verdict = Verdict.PASS
    reason = reason_for(verdict, min(n, champion.n))
    needed = needed_for_quantile(candidate, champion, quantile, limit, alpha_high) if reason else None
    low, high = quantile_limits(candidate, quantile, alpha_low, alpha_high)
    bound = None if usual is None else 1000 * limit.of(usual / 1000)
    required = is_required(plan, quantile)
    if observed is None or bound is None or usual is None:
        why = f"p{100 * quantile:g} of the latency: {word(verdict, reason)}"
    else:
        shown = f">= {low:.3g} ms at {say.level(alpha_low)}" if verdict is Verdict.FAIL else (
            f"<= {high:.3g} ms at {say.level(alpha_high)}" if math.isfinite(high) else "no upper limit yet"
        )  # fmt: skip
        why = (
            f"p{100 * quantile:g} of {say.count(n, 'latency', 'latencies')} {observed:.3g} ms ({shown}), champion "
            f"{usual:.3g} ms of {champion.n:,}, limit {bound:.3g} ms: {word(verdict, reason)}"
        )
    details: dict[str, object] = {
        "required": required, "reason": reason, "unit": "ms", "alpha_low": alpha_low, "alpha_high": alpha_high,
        "quantile": quantile, "champion_ms": usual, "champion_n": champion.n, "log_worse": float(found.worse),
        "log_within": float(found.within), "upper_known": math.isfinite(high),
    }  # fmt: skip
    known = Interval(low, high if math.isfinite(high) else _highest_ms(candidate), 1 - alpha_low - alpha_high)
    return MetricVerdict(
        quantile_metric(quantile), verdict, observed, known if n else None, bound, n, why, needed, details
    )


def _highest_ms(counts: LatencyCounts) -> float:
    """Where an interval without an upper end is drawn to: the slowest latency seen."""
    return counts.quantile_ms(1.0) or 0.0
