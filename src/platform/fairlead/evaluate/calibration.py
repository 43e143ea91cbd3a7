"""Fitting, on the validation split, how logits become probabilities. The bundle carries and applies what is fitted
here."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.isotonic import IsotonicRegression

from fairlead.bundle.calibration import Calibration
from fairlead.errors import EvaluationError
from fairlead.evaluate.metrics import FloatArray, Scored, statistic

# Beyond these the optimum only says that the labels are separated perfectly (or that logits say nothing).
_TEMPERATURES = (0.05, 20.0)


def fit_calibration(
    kind: str,
    logits: NDArray[np.floating],
    labels: NDArray[np.generic],
    task: str,
    weights: NDArray[np.floating] | None = None,
) -> Calibration:
    """The calibration with the smallest log loss on these rows: logits [N] (binary) or [N, C], labels class indices
    [N], weights [N] (None: rows count alike).

    "temperature": one number that all logits are divided by; it changes no order, hence no AUC. "isotonic" (binary
    only): a rising step function, which makes ties; its probabilities keep a distance of 1/(n+2) from 0 and 1,
    because a single later row on the wrong side of a certainty would cost an infinite log loss. A regression gets
    none. Rows of weight 0 are not looked at. Raises EvaluationError for rows that no calibration can be fitted on."""
    if task not in ("binary", "multiclass", "regression"):
        raise EvaluationError(f"unknown task {task!r}", fix="binary, multiclass or regression")
    if task == "regression":
        return Calibration("none", "regression")
    if kind == "none":
        return Calibration("none", "binary" if task == "binary" else "multiclass")
    values, classes = np.asarray(logits, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if weights is not None:
        counted = weights != 0
        values, classes, weights = values[counted], classes[counted], weights[counted]
    _check(values, classes, task)
    if kind == "temperature":
        return _temperature(values, classes, task, weights)
    if kind != "isotonic":
        raise EvaluationError(f"unknown calibration {kind!r}", fix="temperature, isotonic or none")
    if task != "binary":
        raise EvaluationError("isotonic calibration is for binary labels", fix="evaluate.calibration: temperature")
    return _isotonic(values, classes, weights)


def calibration_facts(
    calibration: Calibration,
    logits: NDArray[np.floating],
    labels: NDArray[np.generic],
    weights: NDArray[np.floating] | None = None,
) -> dict[str, float]:
    """What the calibration changed on the rows that it was fitted on: log_loss and ece before and after, the
    temperature. Empty for a regression, or when there are no rows."""
    if calibration.task == "regression" or not len(labels):
        return {}
    facts = {"temperature": calibration.temperature} if calibration.kind == "temperature" else {}
    classes = np.asarray(labels, dtype=np.float64)
    worth = None if weights is None else np.asarray(weights, dtype=np.float64)
    for when, how in (("before", Calibration("none", calibration.task)), ("after", calibration)):
        rows = Scored(
            calibration.task, np.asarray(how.apply(np.asarray(logits)), dtype=np.float64), classes, 0.5, worth
        )
        if rows.problem():
            return facts
        for name in ("log_loss", "ece"):
            facts[f"{name}_{when}"] = float(statistic(name, rows).at(np.ones((1, len(rows))))[0])
    return facts


def _check(logits: FloatArray, labels: FloatArray, task: str) -> None:
    rows = Scored(task, logits, labels)
    problem = rows.problem()
    if not problem and labels.min() == labels.max():
        problem = "all labels are of one class"
    if problem:
        raise EvaluationError(
            "no calibration can be fitted",
            where="the validation split",
            why=problem,
            fix="a validation split with more classes and finite scores, or evaluate.calibration: none",
        )


def _temperature(
    logits: FloatArray, labels: FloatArray, task: str, weights: NDArray[np.floating] | None
) -> Calibration:
    """Guo, Pleiss, Sun, Weinberger 2017, "On calibration of modern neural networks". The log loss is convex in 1/T."""

    def log_loss(log_inverse: float) -> float:
        scaled = logits * np.exp(log_inverse)
        if task == "binary":
            return float(np.average(np.logaddexp(0, np.where(labels == 1, -scaled, scaled)), weights=weights))
        top = scaled.max(axis=1)
        own = scaled[np.arange(len(labels)), labels.astype(np.intp)]
        losses = np.log(np.exp(scaled - top[:, None]).sum(axis=1)) + top - own
        return float(np.average(losses, weights=weights))

    low, high = _TEMPERATURES
    found = minimize_scalar(log_loss, bounds=(-np.log(high), -np.log(low)), method="bounded", options={"xatol": 1e-6})
    temperature = float(np.exp(-found.x))
    return Calibration("temperature", "binary" if task == "binary" else "multiclass", temperature=temperature)


def _isotonic(logits: FloatArray, labels: FloatArray, weights: NDArray[np.floating] | None) -> Calibration:
    """Zadrozny and Elkan 2002, "Transforming classifier scores into accurate multiclass probability estimates"."""
    fitted = IsotonicRegression(out_of_bounds="clip").fit(logits, labels, weights)
    x, y = np.asarray(fitted.X_thresholds_, dtype=np.float64), np.asarray(fitted.y_thresholds_, dtype=np.float64)
    distinct = np.concatenate(([True], np.diff(x) > 0))
    floor = 1 / (len(labels) + 2)
    y = np.maximum.accumulate(np.clip(y, floor, 1 - floor))
    return Calibration("isotonic", "binary", x=tuple(x[distinct].tolist()), y=tuple(y[distinct].tolist()))
