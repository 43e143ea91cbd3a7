"""Plottable series: ROC, precision-recall, reliability, by the rows' weights; and the confusion matrix, in rows."""

import numpy as np
from numpy.typing import NDArray

from fairlead.evaluate.metrics import FloatArray, Scored, predictions

Points = tuple[tuple[float, float], ...]
_MAX_POINTS = 200
_RELIABILITY_BINS = 10
_MAX_CONFUSION_CLASSES = 100


def curves(rows: Scored) -> dict[str, Points]:
    """The curves of these rows: binary roc, precision_recall and reliability; multiclass reliability of the largest
    score; regression predicted_actual. At most 200 points each. Nothing for rows that cannot be judged."""
    if rows.problem():
        return {}
    if rows.weights is not None:
        rows = rows.part(rows.weights > 0)
    count = np.ones(len(rows)) if rows.weights is None else rows.weights
    if rows.task == "regression":
        return {"predicted_actual": _by_bins(rows.scores, rows.labels, count)}
    if rows.task == "multiclass":
        confidence = rows.scores.max(axis=1)
        return {"reliability": _by_bins(confidence, (predictions(rows) == rows.labels).astype(float), count)}
    if rows.labels.min() == rows.labels.max():
        return {"reliability": _by_bins(rows.scores, rows.labels, count)}
    hits, taken = _cumulated(rows.scores, rows.labels, count)
    positives, negatives = hits[-1], taken[-1] - hits[-1]
    roc = np.column_stack(((taken - hits) / negatives, hits / positives))
    precision_recall = np.column_stack((hits / positives, hits / taken))
    return {
        "roc": _thin(np.vstack(([[0.0, 0.0]], roc))),
        "precision_recall": _thin(precision_recall),
        "reliability": _by_bins(rows.scores, rows.labels, count),
    }


def confusion(rows: Scored) -> tuple[tuple[int, ...], ...]:
    """Rows by actual (first index) and predicted class; empty for regression, unusable rows or more than 100
    classes."""
    if rows.task == "regression" or rows.problem():
        return ()
    num_classes = 2 if rows.task == "binary" else rows.scores.shape[1]
    if num_classes > _MAX_CONFUSION_CLASSES:
        return ()
    cells = rows.labels.astype(np.intp) * num_classes + predictions(rows)
    counts = np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)
    return tuple(tuple(int(n) for n in row) for row in counts)


def _cumulated(scores: FloatArray, labels: FloatArray, count: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Weight of positives and of rows at or above each distinct score, from the highest score down."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last_of_value = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    return np.cumsum((labels * count)[order])[last_of_value], np.cumsum(count[order])[last_of_value]


def _by_bins(predicted: FloatArray, actual: FloatArray, count: FloatArray) -> Points:
    """Weighted mean of predicted and of actual values in bins of about equal numbers of rows."""
    edges = np.unique(np.quantile(predicted, np.linspace(0, 1, _RELIABILITY_BINS + 1)))
    bins: NDArray[np.intp] = np.clip(np.searchsorted(edges, predicted, side="right") - 1, 0, max(0, len(edges) - 2))
    counts = np.bincount(bins, count)
    kept = counts > 0
    x, y = (np.bincount(bins, values * count)[kept] / counts[kept] for values in (predicted, actual))
    return tuple((float(a), float(b)) for a, b in zip(x, y, strict=True))


def _thin(points: FloatArray) -> Points:
    keep = np.unique(np.linspace(0, len(points) - 1, min(len(points), _MAX_POINTS)).astype(np.intp))
    return tuple((float(x), float(y)) for x, y in points[keep])
