"""Choosing the score from which a binary row counts as positive, on the validation split."""

import numpy as np

from fairlead.errors import EvaluationError
from fairlead.evaluate.metrics import FloatArray


def choose_threshold(
    rule: str | float, scores: FloatArray, labels: FloatArray, weights: FloatArray | None = None
) -> float:
    """The threshold t such that `score >= t` is best by `rule` on these rows [N], which count by `weights` [N]; rows
    of weight 0 are not looked at.

    "f1": the largest harmonic mean of precision and recall; "youden": the largest recall minus false-positive rate
    (Youden 1950, "Index for rating diagnostic tests"); a number is taken as it is. Of several equally good ones, the
    highest. The threshold lies halfway between two neighbouring scores, so that rounding moves no row across it.
    Raises EvaluationError when a rule needs both classes and finds one, or a score is not finite."""
    if not isinstance(rule, str):
        return float(rule)
    if rule not in ("f1", "youden"):
        raise EvaluationError(f"unknown threshold rule {rule!r}", fix="f1, youden, or a number")
    scores, labels = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if not (np.isfinite(scores).all() and np.isfinite(labels).all()):
        raise EvaluationError(
            "no threshold can be chosen: a score or label is not finite", where="the validation split"
        )
    count = np.ones(len(labels)) if weights is None else np.asarray(weights, dtype=np.float64)
    scores, labels, count = scores[count != 0], labels[count != 0], count[count != 0]
    positives = (labels * count).sum()
    negatives = count.sum() - positives
    if not positives or not negatives:
        raise EvaluationError(
            "no threshold can be chosen: all labels are of one class",
            where="the validation split",
            fix="give evaluate.threshold a number, or a validation split with both classes",
        )
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last_of_value = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    hits = np.cumsum((labels * count)[order])[last_of_value]
    taken = np.cumsum(count[order])[last_of_value]
    quality = 2 * hits / (taken + positives) if rule == "f1" else hits / positives - (taken - hits) / negatives
    best = int(np.argmax(quality))
    at = ranked[last_of_value[best]]
    if best + 1 == len(last_of_value):
        return float(at)
    halfway = (at + ranked[last_of_value[best + 1]]) / 2
    # Halfway between two neighbouring floats is one of them.
    return float(halfway if halfway > ranked[last_of_value[best + 1]] else at)
