"""What can still be expected of the metrics that are undecided: requests, time, and the smallest harm to be seen.

A look does not need it, a person does: it is computed when somebody asks, from the record and the last observation.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from fairlead.deploy.rollout import sentences as say
from fairlead.deploy.rollout import tally as sums
from fairlead.deploy.rollout.latency import latency_limit
from fairlead.deploy.rollout.plan import budget_of
from fairlead.deploy.statistics import two_sample
from fairlead.deploy.statistics.means import MeanSequence
from fairlead.deploy.statistics.quantiles import smallest_seen_ratio
from fairlead.deploy.statistics.rates import Mixture, lower_limit
from fairlead.records.evidence import MetricVerdict, RunningMean, Verdict
from fairlead.records.rollout import Phase, RolloutRecord, Tally


@dataclass(frozen=True, slots=True)
class Outlook:
    """For one undecided metric. `needed` more units of evidence decide it at the present estimate, `seconds` from now
    at the present traffic (None: not to be foreseen). `remaining`: units until the deadline. `visible`: the smallest
    true value that would still be found too high by then, in the metric's unit (a ratio to the champion's for a
    latency); None: none would."""

    metric: str
    needed: int | None
    seconds: float | None
    remaining: int
    visible: float | None
    sentence: str


def outlook(record: RolloutRecord, requests_per_second: float, now: datetime) -> tuple[Outlook, ...]:
    """One for each metric of the last look that is undecided, at the traffic of now."""
    phase = sums.counting_phase(record)
    part = sums.total(record) if phase is Phase.SHADOW else sums.of_step(record)
    share = {Phase.SHADOW: record.shadow_percent, Phase.CANARY: record.weight}.get(phase, 100.0) / 100
    begun = datetime.fromisoformat(record.deadline_from or record.started_at)
    left = max(0.0, record.plan.max_seconds - max(0.0, (now - begun).total_seconds()))
    requests = sums.num_requests(phase, part)
    found = []
    for metric in record.last_metrics:
        undecided = metric.verdict is Verdict.NOT_ENOUGH_EVIDENCE and not metric.metric.endswith("_by_slice")
        if undecided and metric.metric != "skew":  # slices only veto, and nothing waits for them
            # Keys that come again bring no evidence: units come slower than requests, as they did so far.
            units = requests_per_second * share * (min(1.0, metric.n / requests) if requests and metric.n else 1.0)
            found.append(_of_metric(record, metric, part, units, left))
    return tuple(found)


def outlook_text(outlooks: Iterable[Outlook]) -> str:
    """All of them in one line each."""
    return "\n".join(each.sentence for each in outlooks)


def _of_metric(record: RolloutRecord, metric: MetricVerdict, part: Tally, units: float, left: float) -> Outlook:
    remaining = int(units * left)
    visible = _visible(record, metric, part, remaining)
    seconds = metric.needed / units if metric.needed is not None and units > 0 else None
    wait = say.wait(metric.needed, units) or "a decision is not to be foreseen"
    late = seconds is not None and seconds > left
    unit = str(metric.details.get("unit", ""))
    shown = "no harm of any size could be seen" if visible is None else f"{_amount(visible, unit)} would be seen"
    sentence = (
        f"{metric.metric}: {wait}{', after the deadline' if late else ''}; by the deadline, {say.seconds(left)} and "
        f"{remaining:,} more from now, {shown}"
    )
    return Outlook(metric.metric, metric.needed, seconds, remaining, visible, sentence)


def _amount(value: float, unit: str) -> str:
    if unit == "ms":
        return f"{value:g} times the champion's"
    return say.percent(value) if unit == "share" else f"{value:.4g}"


def _visible(record: RolloutRecord, metric: MetricVerdict, part: Tally, remaining: int) -> float | None:
    """The smallest true value that is found too high once `remaining` more units came."""
    plan, budget, name, n = record.plan, budget_of(record.plan), metric.metric, metric.n + remaining
    if n <= 0 or (metric.bound is None and not name.startswith("latency_")):
        return None
    if name == "error_rate":
        champion = part.champion.failures
        others = champion.n + remaining * (champion.n / metric.n if metric.n else 1.0)
        margin = plan.max_error_rate_increase
        rate = two_sample.smallest_seen(n, others, champion.rate, margin, budget.rollback(name), Mixture.around(margin))
        return None if rate is None else rate - champion.rate
    if name.startswith("latency_"):
        quantile = float(str(metric.details["quantile"]))
        return smallest_seen_ratio(part.champion.latency, n, quantile, latency_limit(plan), budget.rollback("latency"))
    bound = metric.bound or 0.0
    values = {"shadow_score_difference": part.pairs.difference, "loss": part.pairs.loss_difference}.get(name)
    if values is not None:
        reference = plan.min_requests if name == "loss" else plan.shadow_min_requests
        return _visible_mean(values, bound, n, budget.rollback(name), reference)
    alpha = budget.rollback(name) if name in ("slow_rate", "shadow_flips") else budget.failures("live")
    return _visible_rate(bound, n, alpha)


def _visible_mean(values: RunningMean, bound: float, n: int, alpha: float, reference: int) -> float | None:
    spread = values.variance_process / values.n if values.n else (values.high - values.low) ** 2 / 4
    seen = bound + MeanSequence(alpha, values.high - values.low, reference).radius(n, spread * n)
    return seen if math.isfinite(seen) and seen <= values.high else None


def _visible_rate(bound: float, n: int, alpha: float) -> float | None:
    mixture = Mixture.around(bound)
    if lower_limit(n, n, alpha, mixture) <= bound:
        return None
    low, high = math.floor(bound * n), n
    while high - low > max(1, n // 500):
        middle = (low + high) // 2
        if lower_limit(n, middle, alpha, mixture) > bound:
            high = middle
        else:
            low = middle
    return high / n
