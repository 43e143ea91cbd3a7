"""What anybody could have had for less: four predictors that a network must be compared with, on the same test rows.

random: the training labels in random order. majority: the training rate of each class (regression: the mean).
one_rule: a table of the label's rate by ranges or values of the single best feature. gradient_boosting:
scikit-learn's HistGradientBoosting on the raw features, with its default settings and a bounded number of rows.

With training weights all four are fitted by them: random draws labels in proportion to their weight, majority takes
the weighted rate, the cells of one_rule are weighted, and gradient boosting weighs each row's loss. What has no place
for weights counts rows: the ranges of one_rule, and the bins and the smallest leaf of gradient boosting. Rows of weight
0 are not looked at, and weights count in proportion to their mean, so that twice as large ones change nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from fairlead.dataset.weights import unless_alike
from fairlead.evaluate.metrics import FloatArray, Scored, statistic, undefined
from fairlead.evaluate.tables import BaselineData, Encoded, encode
from fairlead.evaluate.threshold import choose_threshold

__all__ = ["MAX_ROWS", "NAMES", "BaselineData", "Baselines", "fit_baselines"]

NAMES = ("random", "majority", "one_rule", "gradient_boosting")
MAX_ROWS = 300_000
_ITERATIONS = 100
_MAX_TREES = 2_000
# One-rule: ranges of a numeric feature, and rows of the overall rate that each cell starts with, so that a value seen
# once does not predict with certainty.
_RANGES = 20
_PRIOR_ROWS = 20.0


@dataclass(frozen=True)
class Baselines:
    """Each baseline's scores on the test rows, with a threshold of its own; `why` says for each one that is missing
    what it lacks. `rule_feature` is the feature of the one rule. `random_split_auc` is what gradient boosting reaches
    when the same rows are split at random instead."""

    scored: dict[str, Scored]
    why: dict[str, str]
    rule_feature: str = ""
    random_split_auc: float | None = None


def fit_baselines(data: BaselineData, task: str, num_classes: int, rule: str | float, seed: int) -> Baselines:
    """Fit all baselines on the training rows and score the test rows. `rule` chooses thresholds of binary baselines (on
    training rows). Training rows without a finite label are left out. Raises EvaluationError when tables do not fit."""
    with threadpool_limits(limits=1):  # see evaluation.evaluate
        return _fit_baselines(data, task, num_classes, rule, seed)


def _fit_baselines(data: BaselineData, task: str, num_classes: int, rule: str | float, seed: int) -> Baselines:
    test_labels = np.asarray(data.test_labels, dtype=np.float64)
    data.check(test_labels)
    if data.train_weights is not None:
        data = data.training_rows(data.train_weights > 0)
    labels = np.asarray(data.train_labels, dtype=np.float64)
    problem = "" if np.isfinite(labels).any() else "no labelled training rows"
    if not problem and task != "regression" and len(np.unique(labels[np.isfinite(labels)])) < 2:
        problem = "the training rows have one class only"
    if problem or not len(test_labels):
        return Baselines({}, dict.fromkeys(NAMES, problem or "no test rows"))
    rng = np.random.default_rng(seed)
    train, test = encode(data)
    kept = _sample(np.flatnonzero(np.isfinite(labels)), MAX_ROWS, rng)
    train, labels = Encoded(train.matrix[kept], train.features), labels[kept]
    worth = _to_mean_1(None if data.train_weights is None else data.train_weights[kept])
    fitted = _Fitted(task, num_classes, rule, labels, test_labels, worth)

    shuffled = labels[_drawn(len(labels), len(test_labels), worth, rng)]
    random_scores = rng.random(len(test_labels)) if task == "binary" else fitted.one_hot(shuffled)
    fitted.add("random", random_scores, 0.5)
    prior = fitted.prior()
    fitted.add("majority", np.repeat(prior[None], len(test_labels), axis=0), 0.5)
    rule_feature = ""
    if not train.features:
        fitted.why.update(dict.fromkeys(("one_rule", "gradient_boosting"), "no features that a baseline can take"))
        return Baselines(fitted.scored, fitted.why)
    one_rule = _one_rule(train, fitted.one_hot(labels), fitted.worth, rng)
    rule_feature = train.features[one_rule.feature].source
    fitted.add("one_rule", one_rule.predict(test.matrix), fitted.threshold(one_rule.predict(train.matrix)))
    boosted = _boost(train, labels, task, num_classes, seed, worth)
    fitted.add("gradient_boosting", boosted(test.matrix), fitted.threshold(boosted(train.matrix)))
    claimed = None
    if task == "binary":
        both = (labels, worth), (test_labels, _to_mean_1(data.test_weights))
        claimed = _random_split_auc((train, *both[0]), (test, *both[1]), seed)
    return Baselines(fitted.scored, fitted.why, rule_feature, claimed)


class _Fitted:
    """Collects baselines in the shape of the task's scores."""

    def __init__(
        self,
        task: str,
        num_classes: int,
        rule: str | float,
        labels: FloatArray,
        test_labels: FloatArray,
        weights: FloatArray | None,
    ) -> None:
        self.task, self.num_classes, self.rule = task, num_classes, rule
        self.labels, self.test_labels, self.weights = labels, test_labels, weights
        self.scored: dict[str, Scored] = {}
        self.why: dict[str, str] = {}

    def one_hot(self, labels: FloatArray) -> FloatArray:
        """Labels as targets [N, K]: K = C for multiclass, else 1."""
        return _targets(labels, self.task, self.num_classes)

    @property
    def worth(self) -> FloatArray:
        """How much each training row counts [N], 1 on average."""
        return np.ones(len(self.labels)) if self.weights is None else self.weights

    def prior(self) -> FloatArray:
        """The mean target [K] of the training rows."""
        targets = self.one_hot(self.labels)
        mean: FloatArray = targets.mean(axis=0) if self.weights is None else np.average(targets, 0, self.weights)
        return mean

    def threshold(self, train_scores: FloatArray) -> float:
        """The threshold that the rule chooses on the training rows."""
        if self.task != "binary":
            return 0.5
        return choose_threshold(self.rule, train_scores.reshape(-1), self.labels, self.weights)

    def add(self, name: str, scores: FloatArray, threshold: float) -> None:
        """Keep scores [N] or [N, K]."""
        shaped = scores if self.task == "multiclass" else scores.reshape(len(self.test_labels))
        self.scored[name] = Scored(self.task, shaped, self.test_labels, threshold)


@dataclass(frozen=True)
class _Rule:
    """A table: `cells` [number of cells, K] is the predicted target of each range or value of one feature."""

    feature: int
    edges: FloatArray | None
    cells: FloatArray

    def predict(self, matrix: FloatArray) -> FloatArray:
        """Targets [N, K]."""
        return self.cells[_cells(matrix[:, self.feature], self.edges, len(self.cells))]


def _one_rule(train: Encoded, targets: FloatArray, worth: FloatArray, rng: np.random.Generator) -> _Rule:
    """The feature whose table predicts one half of the rows best when fitted on the other (Holte 1993, "Very simple
    classification rules perform well on most commonly used datasets"); then its table of all rows."""
    order = rng.permutation(len(targets))
    fit, choose = order[::2], order[1::2]
    best, best_loss = 0, np.inf
    for feature in range(train.matrix.shape[1]):
        rule = _table(train, targets, worth, feature, fit)
        errors = ((rule.predict(train.matrix[choose]) - targets[choose]) ** 2).mean(axis=1)
        loss = float((errors * worth[choose]).sum())
        if loss < best_loss:
            best, best_loss = feature, loss
    return _table(train, targets, worth, best, order)


def _table(train: Encoded, targets: FloatArray, worth: FloatArray, feature: int, rows: NDArray[np.intp]) -> _Rule:
    values = train.matrix[rows, feature]
    if train.features[feature].categorical:
        edges, count = None, 256
    else:
        known = values[np.isfinite(values)]
        edges = np.unique(np.quantile(known, np.linspace(0, 1, _RANGES + 1)[1:-1])) if len(known) else np.empty(0)
        count = len(edges) + 2
    cells = _cells(values, edges, count)
    counted = worth[rows]
    prior = np.average(targets[rows], 0, counted)
    sums = np.stack([np.bincount(cells, targets[rows, k] * counted, count) for k in range(targets.shape[1])], axis=1)
    weights = np.bincount(cells, counted, count)[:, None]
    return _Rule(feature, edges, (sums + _PRIOR_ROWS * prior) / (weights + _PRIOR_ROWS))


def _cells(values: FloatArray, edges: FloatArray | None, count: int) -> NDArray[np.intp]:
    """The cell of each value; the last one is for missing values."""
    known = np.isfinite(values)
    if edges is None:
        return np.where(known, np.nan_to_num(values), count - 1).astype(np.intp)
    return np.where(known, np.searchsorted(edges, values, side="right"), count - 1)


def _boost(
    train: Encoded, labels: FloatArray, task: str, num_classes: int, seed: int, weights: FloatArray | None
) -> Callable[[FloatArray], FloatArray]:
    """Gradient boosting fitted on these rows: matrix -> scores [N] or [N, C]."""
    settings = {"categorical_features": train.categorical or None, "early_stopping": False, "random_state": seed}
    if task == "regression":
        regressor = HistGradientBoostingRegressor(max_iter=_ITERATIONS, **settings).fit(train.matrix, labels, weights)
        return lambda matrix: np.asarray(regressor.predict(matrix), dtype=np.float64)
    # One tree per class and iteration: many classes would take as many times longer.
    iterations = _ITERATIONS if task == "binary" else int(np.clip(_MAX_TREES // num_classes, 5, _ITERATIONS))
    classifier = HistGradientBoostingClassifier(max_iter=iterations, **settings).fit(train.matrix, labels, weights)
    if task == "binary":
        return lambda matrix: np.asarray(classifier.predict_proba(matrix)[:, 1], dtype=np.float64)
    seen = classifier.classes_.astype(np.intp)

    def predict(matrix: FloatArray) -> FloatArray:
        # A class without training rows has no column of its own and gets probability 0.
        scores = np.zeros((len(matrix), num_classes))
        scores[:, seen] = classifier.predict_proba(matrix)
        return scores

    return predict


_Rows = tuple[Encoded, FloatArray, FloatArray | None]


def _random_split_auc(trained: _Rows, tested: _Rows, seed: int) -> float | None:
    """The AUC that gradient boosting claims when training and test rows (features, labels, weights) are mixed and split
    again at random, as large as before. None when the rows do not allow it."""
    (train, labels, train_worth), (test, test_labels, test_worth) = trained, tested
    usable = np.isfinite(test_labels)
    matrix = np.vstack((train.matrix, test.matrix[usable]))
    every = np.concatenate((labels, test_labels[usable]))
    worth = None
    if train_worth is not None or test_worth is not None:
        parts = (
            np.ones(len(part)) if w is None else w for part, w in ((labels, train_worth), (test_labels, test_worth))
        )
        first_part, rest_part = parts
        worth = np.concatenate((first_part, rest_part[usable]))
    order = np.random.default_rng([seed, 1]).permutation(len(every))
    first, rest = order[: len(labels)], order[len(labels) :]
    if not len(rest) or len(np.unique(every[first])) < 2:
        return None
    chosen = None if worth is None else worth[first]
    boosted = _boost(Encoded(matrix[first], train.features), every[first], "binary", 2, seed, chosen)
    rows = Scored("binary", boosted(matrix[rest]), every[rest], 0.5, None if worth is None else worth[rest])
    if undefined("auc", rows):
        return None
    return float(statistic("auc", rows).at(np.ones((1, len(rows))))[0])


def _targets(labels: FloatArray, task: str, num_classes: int) -> FloatArray:
    if task != "multiclass":
        return labels[:, None]
    return np.eye(num_classes)[labels.astype(np.intp)]


def _to_mean_1(weights: NDArray[Any] | None) -> FloatArray | None:
    """Weights of rows that count at all, None where they count alike."""
    values = None if weights is None else unless_alike(weights)
    return None if values is None else values * (len(values) / values.sum())


def _drawn(rows: int, wanted: int, weights: FloatArray | None, rng: np.random.Generator) -> NDArray[np.intp]:
    """Rows in random order, again from the first when there are too few; with weights, drawn in proportion to them."""
    if weights is None:
        return rng.permutation(rows)[np.arange(wanted) % rows]
    return rng.choice(rows, wanted, p=weights / weights.sum())


def _sample(rows: NDArray[np.intp], limit: int, rng: np.random.Generator) -> NDArray[np.intp]:
    return rows if len(rows) <= limit else np.sort(rng.choice(rows, limit, replace=False))
