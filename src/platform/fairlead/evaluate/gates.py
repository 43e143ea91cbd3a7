"""Gates: what a version must show. A gate that cannot be computed fails, and says what it lacked.

`min` and `max` look at the end of the interval that is worse for the model: "at least 0.68" means that the data show
it, not that the point happens to lie above. `not_worse_than` looks at the worse end of the paired difference. A gate
by slice must hold for every slice of the column that is large enough; its intervals are Bonferroni-corrected, so that
they hold all together at the declared level.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fairlead.evaluate.intervals import corrected_level
from fairlead.evaluate.metrics import LOWER_IS_BETTER, METRICS, Scored
from fairlead.evaluate.scoring import Difference, Resampling, difference, measure
from fairlead.evaluate.slices import Slice
from fairlead.records.evaluation import GateResult, MetricValue
from fairlead.records.evidence import Interval, Verdict
from fairlead.spec.evaluate import Gate

_WORDS = {"latency_ms": "ms", "size_mb": "MB"}


@dataclass(frozen=True)
class GateInput:
    """All that gates look at. `others` are the champion and the baselines on the same rows; `missing` says why one is
    not there. `champion` is None when there is no champion at all. `slices` are those of at least `min_rows` rows and
    smaller."""

    model: Scored
    metrics: Mapping[str, MetricValue]
    others: Mapping[str, Scored]
    missing: Mapping[str, str]
    champion: str | None
    slices: Mapping[str, Sequence[Slice]]
    min_rows: int
    how: Resampling
    facts: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class _Judged:
    """One comparison: `shortfall` is how far the judged number is on the wrong side of the bound (<= 0: it holds)."""

    where: str
    observed: float
    interval: Interval | None
    shortfall: float


def judge_gates(gates: Sequence[Gate], given: GateInput) -> tuple[GateResult, ...]:
    """One result per gate, in their order. Never raises for what the data are."""
    return tuple(_judge(gate, given) for gate in gates)


def gate_name(gate: Gate) -> str:
    """The gate in words, e.g. "auc >= 0.55 for each carrier"."""
    unit = f" {_WORDS[gate.metric]}" if gate.metric in _WORDS else ""
    if gate.min is not None:
        text = f"{gate.metric} >= {gate.min:g}{unit}"
    elif gate.max is not None:
        text = f"{gate.metric} <= {gate.max:g}{unit}"
    else:
        text = f"{gate.metric} not worse than {gate.not_worse_than} by more than {gate.margin:g}"
    return text + (f" for each {gate.slice}" if gate.slice else "")


def bound_of(gate: Gate) -> float:
    """The number that is compared with: the bound itself, or the largest accepted loss against the other model, with
    the sign of the metric (-margin where higher is better)."""
    if gate.min is not None:
        return gate.min
    if gate.max is not None:
        return gate.max
    return gate.margin if gate.metric in LOWER_IS_BETTER else -gate.margin


def _judge(gate: Gate, given: GateInput) -> GateResult:
    if gate.not_worse_than == "champion" and given.champion is None:
        return GateResult(gate_name(gate), Verdict.PASS, None, None, bound_of(gate), "no champion: bootstrap rule")
    if gate.metric in given.facts or gate.metric in _WORDS:
        return _judge_fact(gate, given)
    if gate.metric not in METRICS[given.model.task]:
        return _cannot(gate, f"{gate.metric} is no metric for {given.model.task}")
    if gate.not_worse_than is not None and gate.not_worse_than not in given.others:
        why = given.missing.get(gate.not_worse_than, "it was not computed")
        return _cannot(gate, f"{gate.not_worse_than} is not available: {why}")
    return _judge_slices(gate, gate.slice, given) if gate.slice else _judge_all(gate, given)


def _judge_fact(gate: Gate, given: GateInput) -> GateResult:
    """Latency and size: measured once, no interval, and not per slice or against another model."""
    value = given.facts.get(gate.metric)
    if gate.slice:
        return _cannot(gate, f"{gate.metric} is not measured by slice")
    if gate.not_worse_than:
        return _cannot(gate, f"{gate.metric} of {gate.not_worse_than} is not measured; give min or max")
    if value is None or value != value:
        return _cannot(gate, f"{gate.metric} was not measured")
    return _result(gate, _Judged("", value, None, _shortfall(gate, value, None)), "")


def _judge_all(gate: Gate, given: GateInput) -> GateResult:
    judged = _compare(gate, given, given.model, given.others, given.how, "")
    return _cannot(gate, judged) if isinstance(judged, str) else _result(gate, judged, "")


def _judge_slices(gate: Gate, column: str, given: GateInput) -> GateResult:
    if column not in given.slices:
        return _cannot(gate, f"the test rows have no column {column}")
    parts = [part for part in given.slices[column] if len(part.rows) >= given.min_rows]
    small = len(given.slices[column]) - len(parts)
    if not parts:
        return _cannot(gate, f"no slice of {column} has {given.min_rows} rows")
    how = given.how.at_level(corrected_level(given.how.level, len(parts)))
    judged: list[_Judged] = []
    for part in parts:
        others: dict[str, Scored] = {}
        if gate.not_worse_than is not None:
            others = {gate.not_worse_than: given.others[gate.not_worse_than].part(part.rows)}
        one = _compare(gate, given, given.model.part(part.rows), others, how, part.name)
        if isinstance(one, str):
            return _cannot(gate, f"{part.name}: {one}")
        judged.append(one)
    worst = max(judged, key=lambda one: one.shortfall)
    failing = [one.where for one in judged if one.shortfall > 0]
    note = f"; {len(parts)} slices judged at {how.level:.2%} each" if gate.judge == "interval" else ""
    note += f"; {small} too small to judge (below {given.min_rows} rows)" if small else ""
    note += f"; fails for {', '.join(failing[:10])}{' and more' if len(failing) > 10 else ''}" if failing else ""
    return _result(gate, worst, note)


def _compare(
    gate: Gate, given: GateInput, model: Scored, others: Mapping[str, Scored], how: Resampling, where: str
) -> _Judged | str:
    """The comparison on one set of rows, or why it cannot be made."""
    if gate.not_worse_than is not None:
        found = difference(gate.metric, model, others[gate.not_worse_than], how, where)
    elif where or gate.metric not in given.metrics:
        found = _as_difference(measure(model, how, where, (gate.metric,))[gate.metric])
    else:
        found = _as_difference(given.metrics[gate.metric])
    if found.value is None:
        return found.why or f"{gate.metric} has no value"
    if gate.judge == "interval" and found.interval is None:
        return found.why or f"{gate.metric} has no interval"
    interval = found.interval if gate.judge == "interval" else None
    return _Judged(where, found.value, found.interval, _shortfall(gate, found.value, interval))


def _as_difference(metric: MetricValue) -> Difference:
    return Difference(metric.value, metric.interval, metric.why)


def _shortfall(gate: Gate, value: float, interval: Interval | None) -> float:
    """How far the judged end lies beyond the bound. Which end is worse depends on the bound, and for a difference on
    the metric."""
    bound = bound_of(gate)
    needs_at_least = gate.min is not None or (gate.not_worse_than is not None and gate.metric not in LOWER_IS_BETTER)
    if needs_at_least:
        return bound - (value if interval is None else interval.low)
    return (value if interval is None else interval.high) - bound


def _result(gate: Gate, judged: _Judged, note: str) -> GateResult:
    passed = judged.shortfall <= 0
    at = f"worst at {judged.where}: " if judged.where else ""
    what = f"difference {judged.observed:+.4f}" if gate.not_worse_than else f"{gate.metric} {judged.observed:.4f}"
    at_least = gate.min is not None or (gate.not_worse_than is not None and gate.metric not in LOWER_IS_BETTER)
    bound = bound_of(gate)
    if judged.interval is None or gate.judge == "point":
        seen = f"{what}, as a point"
        judged_end = judged.observed
    else:
        judged_end = judged.interval.low if at_least else judged.interval.high
        seen = f"{what} ({judged.interval.low:.4f} to {judged.interval.high:.4f})"
    relation = {(True, True): "at least", (True, False): "below", (False, True): "at most", (False, False): "above"}
    why = f"{at}{seen}; {judged_end:.4f} is {relation[(at_least, passed)]} {bound:g}"
    point_holds = judged.observed >= bound if at_least else judged.observed <= bound
    if not passed and point_holds:
        why += "; the point alone would hold: more test rows would narrow the interval"
    verdict = Verdict.PASS if passed else Verdict.FAIL
    return GateResult(gate_name(gate), verdict, judged.observed, judged.interval, bound, why + note)


def _cannot(gate: Gate, why: str) -> GateResult:
    return GateResult(gate_name(gate), Verdict.FAIL, None, None, bound_of(gate), f"cannot be computed: {why}")
