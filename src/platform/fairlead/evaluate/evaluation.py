"""The evaluation of one model on the test split: metrics, slices, baselines, champion, gates, all on the same rows."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from fairlead.dataset.weights import effective_rows, unless_alike
from fairlead.errors import EvaluationError
from fairlead.evaluate.baselines import NAMES, BaselineData, Baselines, fit_baselines
from fairlead.evaluate.curves import Points, confusion, curves
from fairlead.evaluate.gates import GateInput, judge_gates
from fairlead.evaluate.metrics import FloatArray, Scored
from fairlead.evaluate.scoring import Resampling, differences, measure
from fairlead.evaluate.slices import cut, measure_slices
from fairlead.records.evaluation import Evaluation, MetricValue
from fairlead.spec.evaluate import Evaluate

_COMPARED_CURVES = ("champion", "gradient_boosting")


@dataclass(frozen=True)
class EvaluateRequest:
    """One model's scores on the test rows, and what they are compared with.

    `scores`: float64 [N] (probability of the positive class, or the value) or [N, C]; `labels`: class index or float
    [N]; `weights`: how much each row counts, None: alike; `threshold`: binary only, None means 0.5; `slices`: column ->
    values [N]; `champion`: what to call the champion, None when there is none; `champion_scores`: its scores on the
    same rows, None with `champion_why` when they cannot be had; `champion_threshold`: its own threshold, by default the
    model's. `calibration`: facts of the calibration, for the report."""

    spec: Evaluate
    task: str
    classes: tuple[str, ...]
    scores: NDArray[Any]
    labels: NDArray[Any]
    threshold: float | None = None
    weights: NDArray[Any] | None = None
    slices: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    baseline_data: BaselineData | None = None
    champion_scores: NDArray[Any] | None = None
    champion: str | None = None
    champion_why: str = ""
    champion_threshold: float | None = None
    latency_ms: float | None = None
    size_mb: float | None = None
    calibration: Mapping[str, float] = field(default_factory=dict)
    split: str = "test"


def evaluate(request: EvaluateRequest) -> Evaluation:
    """Judge the model. Numbers that the rows do not allow are None with a reason; raises EvaluationError only when
    scores, labels, slices or tables are not of the same rows.

    Takes one thread: those of OpenMP and BLAS wait for each other by spinning, which costs many times what they save
    when training or serving has the other cores. Sums in a fixed order also give the same numbers on every machine."""
    with threadpool_limits(limits=1):
        return _evaluate(request)


def _evaluate(request: EvaluateRequest) -> Evaluation:
    request = _counted(request)
    spec = request.spec
    how = Resampling(spec.level, spec.bootstrap, spec.seed)
    threshold = 0.5 if request.threshold is None else request.threshold
    labels = np.asarray(request.labels, dtype=np.float64)
    weights = request.weights
    model = Scored(request.task, _scores(request.scores), labels, threshold, weights)
    if request.task == "multiclass" and request.classes and model.scores.shape[1] != len(request.classes):
        raise EvaluationError(f"{model.scores.shape[1]} scores per row for {len(request.classes)} classes")
    slices = cut(request.slices, len(labels))
    baselines = _baselines(request, model)
    others = {name: replace(rows, weights=weights) for name, rows in baselines.scored.items()}
    missing = dict(baselines.why)
    champion = request.champion or ("the champion" if request.champion_scores is not None else None)
    if request.champion_scores is not None:
        own = threshold if request.champion_threshold is None else request.champion_threshold
        others["champion"] = Scored(request.task, _scores(request.champion_scores), labels, own, weights)
    elif champion is not None:
        missing["champion"] = request.champion_why or "its scores on these rows were not given"
    metrics = measure(model, how)
    gates = judge_gates(
        spec.gates,
        GateInput(
            model=model,
            metrics=metrics,
            others=others,
            missing=missing,
            champion=champion,
            slices=slices,
            min_rows=spec.slices.min_rows,
            how=how,
            facts={"latency_ms": request.latency_ms, "size_mb": request.size_mb},
        ),
    )
    return Evaluation(
        task=request.task,
        split=request.split,
        rows=len(labels),
        metrics={**metrics, **_facts(request)},
        slices=measure_slices(model, slices, spec.slices.min_rows, how),
        baselines={
            **{name: measure(rows, how) for name, rows in others.items()},
            **{name: _unavailable(metrics, why) for name, why in missing.items() if _was_wanted(name, request)},
        },
        gates=gates,
        confusion=confusion(model),
        classes=request.classes,
        curves=_curves(model, others),
        threshold=threshold if request.task == "binary" else None,
        calibration=dict(request.calibration),
        champion=champion,
        random_split_auc=baselines.random_split_auc,
        differences={n: differences(model, others[n], how) for n in ("champion", "gradient_boosting") if n in others},
        effective_rows=None if weights is None else effective_rows(weights),
    )


def _counted(request: EvaluateRequest) -> EvaluateRequest:
    """Without the rows of weight 0, as if they were not there; without weights, where all rows count alike."""
    if request.weights is None:
        return request
    weights = np.asarray(request.weights, dtype=np.float64)
    if weights.shape != np.shape(request.labels):
        raise EvaluationError(f"weights {weights.shape} and labels {np.shape(request.labels)} are not of the same rows")
    kept = weights != 0
    champion, data = request.champion_scores, request.baseline_data
    others = [request.scores, *request.slices.values(), champion, None if data is None else data.test_labels]
    fits = all(len(values) == len(kept) for values in others if values is not None)  # what does not is refused later
    if fits and kept.any() and not kept.all():
        request = replace(
            request,
            scores=np.asarray(request.scores)[kept],
            labels=np.asarray(request.labels)[kept],
            slices={name: np.asarray(values)[kept] for name, values in request.slices.items()},
            champion_scores=None if champion is None else np.asarray(champion)[kept],
            baseline_data=None if data is None else data.test_rows(kept),
        )
        weights = weights[kept]
    return replace(request, weights=unless_alike(weights))


def _scores(scores: NDArray[Any]) -> FloatArray:
    return np.asarray(scores, dtype=np.float64)


def _baselines(request: EvaluateRequest, model: Scored) -> Baselines:
    if request.baseline_data is None:
        return Baselines({}, dict.fromkeys(NAMES, "baselines are switched off"))
    request.baseline_data.check(model.labels)
    if model.problem():
        return Baselines({}, dict.fromkeys(NAMES, model.problem()))
    classes = model.scores.shape[1] if request.task == "multiclass" else 2
    return fit_baselines(request.baseline_data, request.task, classes, request.spec.threshold, request.spec.seed)


def _was_wanted(name: str, request: EvaluateRequest) -> bool:
    return name == "champion" or request.baseline_data is not None


def _unavailable(metrics: Mapping[str, MetricValue], why: str) -> dict[str, MetricValue]:
    return {name: MetricValue(name, None, None, metric.rows, why=why) for name, metric in metrics.items()}


def _facts(request: EvaluateRequest) -> dict[str, MetricValue]:
    """Latency and size stand beside the metrics, without intervals."""
    facts = {"latency_ms": request.latency_ms, "size_mb": request.size_mb}
    return {n: MetricValue(n, float(v), None, len(request.labels)) for n, v in facts.items() if v is not None}


def _curves(model: Scored, others: Mapping[str, Scored]) -> dict[str, Points]:
    found = dict(curves(model))
    for name in _COMPARED_CURVES:
        if name in others:
            found.update({f"{kind}:{name}": points for kind, points in curves(others[name]).items()})
    return found
