"""The evidence behind one decision of a rollout, as blocks of a report: numbers, tests, and how they narrowed."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from fairlead.deploy.rollout import sentences as say
from fairlead.deploy.rollout.course import ends_of, point_of
from fairlead.records.course import CoursePart, Point
from fairlead.records.evidence import MetricVerdict
from fairlead.records.rollout import Decision, Phase, RolloutRecord
from fairlead.reports.model import (
    KIND_OF_VERDICT,
    Band,
    BandPoint,
    Bands,
    Block,
    Cell,
    IntervalRow,
    Intervals,
    Table,
)
from fairlead.reports.words import format_interval, sparkline

NAMES: Mapping[str, str] = {
    "failures": "Hard failures",
    "error_rate": "Failure rate over the champion's",
    "slow_rate": "Slow answers",
    "loss": "Loss over the champion's",
    "skew": "Live features against training data",
    "split": "Split of the keys",
    "ab_test": "A/B test: candidate minus champion",
    "bandit": "Bandit: candidate minus champion",
    "shadow_failures": "Failed shadow copies",
    "shadow_flips": "Labels that change",
    "shadow_score_difference": "Mean score difference",
    "shadow_slow": "Slow shadow copies",
    "shadow_flips_by_slice": "Labels that change, worst slice",
    "shadow_score_difference_by_slice": "Mean score difference, worst slice",
    "loss_by_slice": "Loss over the champion's, worst slice",
}
_TESTS: Mapping[str, str] = {
    "failures": "sequential probability ratio test",
    "shadow_failures": "sequential probability ratio test",
    "error_rate": "sequential two-sample test of rates",
    "slow_rate": "confidence sequence of a rate",
    "shadow_flips": "confidence sequence of a rate",
    "shadow_slow": "confidence sequence of a rate",
    "shadow_score_difference": "confidence sequence of a mean",
    "loss": "confidence sequence of a mean",
    "skew": "distance of distributions",
    "split": "sequential test of the split",
}
_CUT_NOTE = (
    "The shaded interval holds at every look at once; PASS when all of it is on the good side of the bound, FAIL when "
    "all of it is on the bad side. The first, widest intervals are cut at the edge."
)


def name_of(metric: str) -> str:
    """A metric in words."""
    return NAMES.get(metric) or metric.replace("_", " ").capitalize()


def metric_blocks(
    metrics: Sequence[MetricVerdict], part: CoursePart | None, requests: int, decided: str
) -> tuple[Block, ...]:
    """How each metric's interval narrowed until the decision after `requests` of the step (or, with too few looks, only
    where it ended), then all numbers."""
    blocks: list[Block] = []
    panels = _panels(metrics, part, requests, decided) if part is not None else []
    if panels:
        blocks.append(Bands(panels, "requests of this step", "How the evidence narrowed", _CUT_NOTE))
    drawn = {panel.title for panel in panels}
    rest = [
        metric for metric in metrics if metric.interval is not None and metric.n and name_of(metric.metric) not in drawn
    ]
    if rest:
        rows = tuple(_interval_row(metric) for metric in rest)
        blocks.append(Intervals(rows, title="Estimates with their intervals, and the bounds", shared_axis=False))
    return (*blocks, _numbers(metrics))


def part_of(record: RolloutRecord, decision: Decision | None) -> CoursePart | None:
    """The looks that led to `decision`; without one, those of the present step."""
    if decision is None:
        phase, weight, until = record.resume_phase or record.phase, record.weight, float("inf")
    else:
        phase, weight = decision.phase_before, decision.weight_before
        began = datetime.fromisoformat(record.started_at)
        until = (datetime.fromisoformat(decision.at) - began).total_seconds()
    matching = [
        part
        for part in record.course
        if part.looks[0].seconds <= until
        and part.weight == weight
        and (part.phase == phase.value or phase is Phase.PAUSED)
    ]
    return matching[-1] if matching else None


def narrowing(metric: MetricVerdict, part: CoursePart | None, width: int = 16) -> str:
    """How the width of a metric's interval fell, as a row of blocks; "" where too little is stored."""
    points = [*_points(metric.metric, part), point_of(metric)] if part is not None else []
    widths = [high - low for _, _, low, high, _ in points if low is not None and high is not None]
    return sparkline(widths, width, low=0.0) if len(widths) > 2 else ""


# --- panels ----------------------------------------------------------------------------------------------------------
def _panels(metrics: Sequence[MetricVerdict], part: CoursePart, requests: int, decided: str) -> list[Band]:
    panels = []
    for metric in metrics:
        ending = max(float(requests), part.looks[-1].requests)
        points = [*_along(metric.metric, part), (ending, point_of(metric))]
        seen = [(x, point) for x, point in points if point[0] > 0]
        if len(seen) < 2 or metric.interval is None:
            continue
        mark = ending if decided else None
        kind = KIND_OF_VERDICT[metric.verdict]
        band = [BandPoint(x, low, estimate, high) for x, (_, estimate, low, high, _) in seen]
        bounds = {"bound": metric.bound} if metric.bound is not None else {}
        panels.append(Band(name_of(metric.metric), band, bounds, mark, decided, kind))
        ratio = _ratio_panel(metric, seen, mark, decided)
        if ratio is not None:
            panels.append(ratio)
    return panels


def _ratio_panel(
    metric: MetricVerdict, seen: Sequence[tuple[float, Point]], mark: float | None, decided: str
) -> Band | None:
    """The log evidence of a sequential test, between the limits at which it decides."""
    points = [BandPoint(x, None, ratio, None) for x, (*_, ratio) in seen if ratio is not None]
    limits = {"bad from": metric.details.get("upper"), "healthy from": metric.details.get("lower")}
    bounds = {name: float(value) for name, value in limits.items() if isinstance(value, int | float)}
    if len(points) < 2 or not bounds:
        return None
    title = f"{name_of(metric.metric)}: log evidence"
    return Band(title, points, bounds, mark, decided, KIND_OF_VERDICT[metric.verdict])


def _along(metric: str, part: CoursePart) -> list[tuple[float, Point]]:
    if metric not in part.metrics:
        return []
    index = part.metrics.index(metric)
    return [(float(look.requests), look.points[index]) for look in part.looks]


def _points(metric: str, part: CoursePart | None) -> list[Point]:
    return [point for _, point in _along(metric, part)] if part is not None else []


# --- numbers ---------------------------------------------------------------------------------------------------------
def _numbers(metrics: Sequence[MetricVerdict]) -> Table:
    rows: list[Sequence[Cell]] = [
        (
            name_of(m.metric) + (" (must pass)" if m.details.get("required") else ""),
            m.verdict,
            m.n,
            _estimate(m),
            m.bound,
            "; error ".join(part for part in (_test(m), error_spent(m)) if part),
            m.why,
        )
        for m in metrics
    ]
    columns = ("metric", "verdict", "n", "estimate", "bound", "test, error spent", "why")
    note = (
        "Error spent: the probability that this test rolls back a good candidate / that it lets a bad one pass. What "
        "need not pass may still veto."
    )
    return Table(columns, tuple(rows), note=note)


def _estimate(metric: MetricVerdict) -> str:
    low, high = ends_of(metric)
    return format_interval(low, metric.observed, high)


def error_spent(metric: MetricVerdict) -> str:
    """The parts of the two error budgets that a metric's test has: false FAIL / false PASS; "" where it has none."""
    details = metric.details
    shares = (details.get("alpha_low", details.get("alpha")), details.get("alpha_high", details.get("beta")))
    known = [say.bound(share) for share in shares if isinstance(share, int | float)]
    return " / ".join(known) if len(known) == len(shares) else ""


def _test(metric: MetricVerdict) -> str:
    name = metric.metric.removesuffix("_by_slice")
    known = "sequential comparison of a quantile" if name.startswith("latency_") else ""
    return str(metric.details.get("test") or _TESTS.get(name, known))


def _interval_row(metric: MetricVerdict) -> IntervalRow:
    low, high = ends_of(metric)
    return IntervalRow(
        label=name_of(metric.metric),
        low=low,
        point=metric.observed,
        high=high,
        bound=metric.bound,
        verdict=metric.verdict,
    )
