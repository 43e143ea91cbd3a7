"""Metrics as functions of row weights, so that a point value and its bootstrap resamples take one path.

A `Statistic` is bound to scores and labels; `at(weights)` takes weights [B, N] (how often each row was drawn) and gives
the metric [B] of each resample, NaN where it is not defined. All ones give the point value. A binary row counts as
predicted positive when its score is at least the threshold.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from fairlead.errors import EvaluationError

Task = Literal["binary", "multiclass", "regression"]
FloatArray = NDArray[np.float64]

METRICS: dict[str, tuple[str, ...]] = {
    "binary": ("auc", "average_precision", "accuracy", "f1", "precision", "recall", "log_loss", "brier", "ece"),
    "multiclass": ("accuracy", "macro_f1", "log_loss", "ece"),
    "regression": ("mae", "rmse", "r2"),
}
PRIMARY: dict[str, str] = {"binary": "auc", "multiclass": "accuracy", "regression": "rmse"}
LOWER_IS_BETTER = frozenset({"log_loss", "brier", "ece", "mae", "rmse", "latency_ms", "size_mb"})
RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(
        ("auc", "average_precision", "accuracy", "f1", "precision", "recall", "macro_f1", "brier", "ece"), (0.0, 1.0)
    ),
    **dict.fromkeys(("log_loss", "mae", "rmse"), (0.0, float("inf"))),
    "r2": (float("-inf"), 1.0),
}
ECE_BINS = 15
# A probability of exactly 0 would make one wrong row's loss infinite and hide all others.
PROBABILITY_FLOOR = 1e-15


@dataclass(frozen=True)
class Scored:
    """Scores and labels of the same rows. `scores` is float64 [N] (probability of the positive class, or the value), or
    [N, C] for multiclass; `labels` is a class index or a float, [N]. `threshold` is only used for binary labels.
    `weights` float64 [N]: how much each row counts; None: alike."""

    task: str
    scores: FloatArray
    labels: FloatArray
    threshold: float = 0.5
    weights: FloatArray | None = None

    def __post_init__(self) -> None:
        if self.task not in METRICS:
            raise EvaluationError(f"unknown task {self.task!r}", fix=f"one of {', '.join(METRICS)}")
        dimensions = 2 if self.task == "multiclass" else 1
        if self.scores.ndim != dimensions or self.labels.ndim != 1 or len(self.scores) != len(self.labels):
            raise EvaluationError(
                f"scores {self.scores.shape} and labels {self.labels.shape} are not of the same rows",
                why=f"{self.task} takes scores with {dimensions} dimension(s), one row per label",
            )
        if self.weights is not None and self.weights.shape != self.labels.shape:
            raise EvaluationError(
                f"weights {self.weights.shape} and labels {self.labels.shape} are not of the same rows"
            )
        if self.task != "regression":
            known = self.labels[np.isfinite(self.labels)]
            classes = self.scores.shape[1] if self.task == "multiclass" else 2
            if known.size and (known.min() < 0 or known.max() >= classes or np.any(known != np.floor(known))):
                raise EvaluationError(
                    "labels are no class indices", why=f"values must be whole numbers from 0 to {classes - 1}"
                )

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> "Scored":
        """Only these rows."""
        weights = None if self.weights is None else self.weights[rows]
        return Scored(self.task, self.scores[rows], self.labels[rows], self.threshold, weights)

    def problem(self) -> str:
        """Why nothing at all can be said about these rows; "" when something can."""
        if len(self) == 0:
            return "no rows"
        weights = self.weights
        if weights is not None and not (np.isfinite(weights).all() and weights.min() >= 0 and weights.sum() > 0):
            return "a weight is not finite or below 0, or all of them are 0"
        bad_labels = int(np.sum(~np.isfinite(self.labels)))
        if bad_labels:
            return f"{bad_labels} of {len(self)} labels are not finite"
        finite = np.isfinite(self.scores)
        bad = ~finite if finite.ndim == 1 else ~finite.all(axis=1)
        if bad.any():
            return f"{int(bad.sum())} of {len(self)} scores are not finite (first: row {int(np.argmax(bad))})"
        return ""


class Statistic(Protocol):
    """A metric bound to its rows: the only thing that intervals need to know about it."""

    def at(self, weights: FloatArray) -> FloatArray:
        """The metric [B] of each resample with row weights [B, N]; NaN where it is not defined."""


@dataclass(frozen=True)
class Sums:
    """A metric that is a function of weighted sums of per-row columns: `finish(weights @ columns)`, columns [N, K]."""

    columns: FloatArray
    finish: Callable[[FloatArray], FloatArray]

    def at(self, weights: FloatArray) -> FloatArray:
        """See Statistic."""
        return self.finish(weights @ self.columns)


class _Ranked:
    """Rows in order of falling score, with rows of equal score as one group: what ranking metrics are made of."""

    def __init__(self, scores: FloatArray, labels: FloatArray) -> None:
        self._order = np.argsort(-scores, kind="stable")
        ordered = scores[self._order]
        self._starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
        self._positive = labels[self._order]
        self._ties = len(self._starts) < len(scores)

    def groups(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Weight of positives and negatives [B, G] in each group of equal score."""
        ordered = weights[:, self._order]
        positive = ordered * self._positive
        negative = ordered - positive
        if self._ties:
            positive = np.add.reduceat(positive, self._starts, axis=1)
            negative = np.add.reduceat(negative, self._starts, axis=1)
        return positive, negative


class _Auc(_Ranked):
    """Area under the ROC curve: the share of (positive, negative) pairs in the right order, ties counted half."""

    def at(self, weights: FloatArray) -> FloatArray:
        positive, negative = self.groups(weights)
        above = np.cumsum(positive, axis=1) - positive / 2
        pairs = positive.sum(axis=1) * negative.sum(axis=1)
        return _ratio((above * negative).sum(axis=1), pairs)


class _AveragePrecision(_Ranked):
    """Sum of precision times the increase of recall over all thresholds, as scikit-learn defines it."""

    def at(self, weights: FloatArray) -> FloatArray:
        positive, negative = self.groups(weights)
        hits = np.cumsum(positive, axis=1)
        taken = hits + np.cumsum(negative, axis=1)
        precision = np.divide(hits, taken, out=np.zeros_like(hits), where=taken > 0)
        return _ratio((precision * positive).sum(axis=1), positive.sum(axis=1))


class _MacroF1:
    """The mean of each class's F1, over the classes that occur among labels or predictions."""

    def __init__(self, predicted: NDArray[np.intp], labels: NDArray[np.intp], num_classes: int) -> None:
        self._predicted, self._labels, self._num_classes = predicted, labels, num_classes
        self._hit = predicted == labels

    def at(self, weights: FloatArray) -> FloatArray:
        values = np.empty(len(weights))
        for index, row in enumerate(weights):
            told = np.bincount(self._predicted, row, self._num_classes)
            true = np.bincount(self._labels, row, self._num_classes)
            hits = np.bincount(self._labels[self._hit], row[self._hit], self._num_classes)
            seen = told + true > 0
            values[index] = np.mean(2 * hits[seen] / (told + true)[seen]) if seen.any() else np.nan
        return values


class _Weighted:
    """A metric of rows that do not count alike: being drawn twice and counting twice are the same."""

    def __init__(self, inner: Statistic, weights: FloatArray) -> None:
        self._inner, self._weights = inner, weights * (len(weights) / weights.sum())

    def at(self, weights: FloatArray) -> FloatArray:
        return self._inner.at(weights * self._weights)


def statistic(name: str, rows: Scored) -> Statistic:
    """Bind metric `name` to rows for which `undefined` is "". Raises EvaluationError for a metric of another task."""
    bound = _unweighted(name, rows)
    return bound if rows.weights is None else _Weighted(bound, rows.weights)


def _unweighted(name: str, rows: Scored) -> Statistic:
    if name not in METRICS[rows.task]:
        raise EvaluationError(
            f"{name} is no metric for {rows.task}", fix=f"one of {', '.join(METRICS[rows.task])}, latency_ms, size_mb"
        )
    if rows.task == "binary":
        return _binary(name, rows)
    return _multiclass(name, rows) if rows.task == "multiclass" else _regression(name, rows)


def undefined(name: str, rows: Scored) -> str:
    """Why metric `name` has no value on these rows; "" when it has one."""
    problem = rows.problem()
    if problem:
        return problem
    if rows.weights is not None:
        rows = rows.part(rows.weights > 0)
    if name not in METRICS[rows.task]:
        return f"{name} is no metric for {rows.task}"
    if name in ("log_loss", "brier", "ece") and (rows.scores.min() < 0 or rows.scores.max() > 1):
        return "scores outside 0 to 1 are no probabilities"
    if name == "r2" and np.ptp(rows.labels) == 0:
        return "all labels are equal"
    if rows.task != "binary":
        return ""
    positives = int(rows.labels.sum())
    predicted = int(np.sum(rows.scores >= rows.threshold))
    if name == "auc" and positives in (0, len(rows)):
        return f"only one class: {positives} of {len(rows)} rows are positive"
    if name in ("average_precision", "recall") and positives == 0:
        return "no row is positive"
    if name == "precision" and predicted == 0:
        return "no row was predicted positive"
    if name == "f1" and positives == 0 and predicted == 0:
        return "no row is positive or predicted positive"
    return ""


def proportion(name: str, rows: Scored) -> tuple[int, int] | None:
    """(successes, trials) of a metric that is a plain proportion of rows, else None."""
    if rows.weights is not None:
        return None
    if name == "accuracy":
        return int(np.sum(predictions(rows) == rows.labels)), len(rows)
    if rows.task == "binary" and name in ("precision", "recall"):
        predicted, positive = predictions(rows) == 1, rows.labels == 1
        return int(np.sum(predicted & positive)), int(np.sum(predicted if name == "precision" else positive))
    return None


def predictions(rows: Scored) -> NDArray[np.intp]:
    """The class index [N] that each row's scores stand for."""
    if rows.task == "binary":
        return (rows.scores >= rows.threshold).astype(np.intp)
    return np.asarray(np.argmax(rows.scores, axis=1), dtype=np.intp)


def _binary(name: str, rows: Scored) -> Statistic:
    scores, labels = rows.scores, rows.labels
    if name == "auc":
        return _Auc(scores, labels)
    if name == "average_precision":
        return _AveragePrecision(scores, labels)
    if name == "log_loss":
        p = np.clip(scores, PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
        return _mean(-(labels * np.log(p) + (1 - labels) * np.log1p(-p)))
    if name == "brier":
        return _mean((scores - labels) ** 2)
    if name == "ece":
        return _ece(scores, labels)
    predicted = (scores >= rows.threshold).astype(float)
    if name == "accuracy":
        return _mean((predicted == labels).astype(float))
    columns = np.column_stack((predicted * labels, predicted, labels))
    finish: dict[str, Callable[[FloatArray], FloatArray]] = {
        "precision": lambda s: _ratio(s[:, 0], s[:, 1]),
        "recall": lambda s: _ratio(s[:, 0], s[:, 2]),
        "f1": lambda s: _ratio(2 * s[:, 0], s[:, 1] + s[:, 2]),
    }
    return Sums(columns, finish[name])


def _multiclass(name: str, rows: Scored) -> Statistic:
    labels = rows.labels.astype(np.intp)
    predicted = predictions(rows)
    if name == "accuracy":
        return _mean((predicted == labels).astype(float))
    if name == "macro_f1":
        return _MacroF1(predicted, labels, rows.scores.shape[1])
    every = np.arange(len(labels))
    if name == "log_loss":
        # Scores that sum to 1 only nearly (float32 softmax) must not count as a better or worse model.
        p = rows.scores[every, labels] / np.maximum(rows.scores.sum(axis=1), PROBABILITY_FLOOR)
        return _mean(-np.log(np.clip(p, PROBABILITY_FLOOR, 1)))
    return _ece(rows.scores[every, predicted], (predicted == labels).astype(float))


def _regression(name: str, rows: Scored) -> Statistic:
    error, labels = rows.scores - rows.labels, rows.labels
    if name == "mae":
        return _mean(np.abs(error))
    if name == "rmse":
        return Sums(np.column_stack((error**2, np.ones_like(error))), lambda s: np.sqrt(_ratio(s[:, 0], s[:, 1])))
    # Centred first: the sum of squares of large labels would lose the digits that matter.
    centred = labels - labels.mean()

    def finish(sums: FloatArray) -> FloatArray:
        return 1 - _ratio(sums[:, 0], sums[:, 2] - _ratio(sums[:, 1] ** 2, sums[:, 3]))

    return Sums(np.column_stack((error**2, centred, centred**2, np.ones_like(error))), finish)


def _mean(values: FloatArray) -> Statistic:
    return Sums(np.column_stack((values, np.ones_like(values))), lambda s: _ratio(s[:, 0], s[:, 1]))


def _ece(confidence: FloatArray, outcome: FloatArray) -> Statistic:
    """Expected calibration error over `ECE_BINS` bins of equal width: the mean over rows of |share of outcomes - mean
    confidence| of the row's bin (Naeini, Cooper, Hauskrecht 2015, "Obtaining well calibrated probabilities using
    Bayesian binning"). It is biased upwards on few rows (Kumar, Liang, Ma 2019, "Verified uncertainty calibration")."""
    bins = np.minimum((confidence * ECE_BINS).astype(np.intp), ECE_BINS - 1)
    columns = np.zeros((len(confidence), ECE_BINS + 1))
    columns[np.arange(len(confidence)), bins] = outcome - confidence
    columns[:, ECE_BINS] = 1
    return Sums(columns, lambda s: _ratio(np.abs(s[:, :ECE_BINS]).sum(axis=1), s[:, ECE_BINS]))


def _ratio(above: FloatArray, below: FloatArray) -> FloatArray:
    result: FloatArray = np.divide(above, below, out=np.full(np.shape(above), np.nan), where=np.asarray(below) > 0)
    return result
