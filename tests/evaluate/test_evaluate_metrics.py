"""Metrics equal scikit-learn's; weights are repeated rows; where there is no value, there is a reason."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from fairlead.errors import EvaluationError
from fairlead.evaluate.metrics import METRICS, Scored, predictions, statistic, undefined
from fairlead.evaluate.scoring import Resampling, measure


def binary_rows(seed: int, rows: int = 300, distinct: int = 40) -> Scored:
    """Scores with ties, and both classes."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(rows) < 0.3).astype(float)
    labels[:2] = 0, 1
    scores = np.round(np.clip(0.3 + 0.2 * labels + rng.normal(0, 0.2, rows), 0, 1) * distinct) / distinct
    return Scored("binary", scores, labels, 0.4)


def multiclass_rows(seed: int, rows: int = 200, classes: int = 4) -> Scored:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows).astype(float)
    logits = rng.normal(size=(rows, classes)) + 1.5 * np.eye(classes)[labels.astype(int)]
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Scored("multiclass", scores, labels)


def regression_rows(seed: int, rows: int = 200) -> Scored:
    rng = np.random.default_rng(seed)
    labels = 1e6 + rng.normal(0, 3, rows)
    return Scored("regression", labels + rng.normal(0, 1, rows), labels)


ROWS = {"binary": binary_rows, "multiclass": multiclass_rows, "regression": regression_rows}


def value(name: str, rows: Scored) -> float:
    return float(statistic(name, rows).at(np.ones((1, len(rows))))[0])


@pytest.mark.parametrize("seed", range(5))
def test_binary_metrics_equal_scikit_learn(seed: int) -> None:
    rows = binary_rows(seed)
    told = predictions(rows)
    expected = {
        "auc": reference.roc_auc_score(rows.labels, rows.scores),
        "average_precision": reference.average_precision_score(rows.labels, rows.scores),
        "accuracy": reference.accuracy_score(rows.labels, told),
        "f1": reference.f1_score(rows.labels, told),
        "precision": reference.precision_score(rows.labels, told),
        "recall": reference.recall_score(rows.labels, told),
        "log_loss": reference.log_loss(rows.labels, np.clip(rows.scores, 1e-15, 1 - 1e-15)),
        "brier": reference.brier_score_loss(rows.labels, rows.scores),
    }
    assert {name: value(name, rows) for name in expected} == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_multiclass_metrics_equal_scikit_learn(seed: int) -> None:
    rows = multiclass_rows(seed)
    told = predictions(rows)
    expected = {
        "accuracy": reference.accuracy_score(rows.labels, told),
        "macro_f1": reference.f1_score(rows.labels, told, average="macro"),
        "log_loss": reference.log_loss(rows.labels, rows.scores),
    }
    assert {name: value(name, rows) for name in expected} == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_regression_metrics_equal_scikit_learn_even_far_from_zero(seed: int) -> None:
    rows = regression_rows(seed)
    expected = {
        "mae": reference.mean_absolute_error(rows.labels, rows.scores),
        "rmse": reference.root_mean_squared_error(rows.labels, rows.scores),
        "r2": reference.r2_score(rows.labels, rows.scores),
    }
    assert {name: value(name, rows) for name in expected} == pytest.approx(expected, rel=1e-6)


def test_the_calibration_error_is_the_weighted_gap_of_the_bins() -> None:
    scores = np.array([0.1, 0.1, 0.1, 0.1, 0.9, 0.9])
    rows = Scored("binary", scores, np.array([0.0, 0, 0, 1, 1, 1]))
    # Bin of 0.1: mean outcome 0.25, gap 0.15 on 4 of 6 rows; bin of 0.9: gap 0.1 on 2 of 6.
    assert value("ece", rows) == pytest.approx((4 * 0.15 + 2 * 0.1) / 6)


@pytest.mark.parametrize(("task", "name"), [(task, name) for task, names in METRICS.items() for name in names])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_weights_are_repeated_rows(task: str, name: str, seed: int) -> None:
    rows = ROWS[task](seed, 60)
    weights = np.random.default_rng(seed).integers(0, 4, len(rows))
    weights[:2] = 1
    repeated = rows.part(np.repeat(np.arange(len(rows)), weights))
    weighted = float(statistic(name, rows).at(weights[None].astype(float))[0])
    assert weighted == pytest.approx(value(name, repeated), rel=1e-9, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.booleans()), min_size=2, max_size=40).filter(
        lambda pairs: len({label for _, label in pairs}) == 2
    )
)
def test_auc_equals_scikit_learn_on_any_scores_with_ties(pairs: list[tuple[float, bool]]) -> None:
    scores, labels = np.array([s for s, _ in pairs]), np.array([float(y) for _, y in pairs])
    assert value("auc", Scored("binary", scores, labels)) == pytest.approx(reference.roc_auc_score(labels, scores))


@pytest.mark.parametrize(
    ("name", "scores", "labels", "why"),
    [
        ("auc", [0.1, 0.2], [1, 1], "only one class"),
        ("auc", [], [], "no rows"),
        ("auc", [0.1, np.nan], [0, 1], "1 of 2 scores are not finite (first: row 1)"),
        ("auc", [0.1, 0.2], [0, np.nan], "1 of 2 labels are not finite"),
        ("average_precision", [0.1, 0.2], [0, 0], "no row is positive"),
        ("recall", [0.1, 0.2], [0, 0], "no row is positive"),
        ("precision", [0.1, 0.2], [0, 1], "no row was predicted positive"),
        ("f1", [0.1, 0.2], [0, 0], "no row is positive or predicted positive"),
        ("log_loss", [-3.0, 4.0], [0, 1], "no probabilities"),
        ("mae", [0.1, 0.2], [0, 1], "no metric for binary"),
    ],
)
def test_a_metric_without_a_value_says_why(name: str, scores: list[float], labels: list[float], why: str) -> None:
    assert why in undefined(name, Scored("binary", np.array(scores, float), np.array(labels, float)))


def test_constant_labels_have_no_r2() -> None:
    assert undefined("r2", Scored("regression", np.array([1.0, 2.0]), np.array([3.0, 3.0]))) == "all labels are equal"


@pytest.mark.parametrize(
    ("task", "scores", "labels"),
    [
        ("binary", np.zeros(3), np.zeros(2)),
        ("binary", np.zeros((3, 2)), np.zeros(3)),
        ("multiclass", np.zeros(3), np.zeros(3)),
        ("binary", np.zeros(3), np.array([0.0, 1.0, 2.0])),
        ("multiclass", np.zeros((2, 3)), np.array([0.0, 0.5])),
        ("ranking", np.zeros(3), np.zeros(3)),
    ],
)
def test_scores_and_labels_that_do_not_belong_together_are_refused(
    task: str, scores: np.ndarray, labels: np.ndarray
) -> None:
    with pytest.raises(EvaluationError):
        Scored(task, scores, labels)


def test_a_perfect_wrong_prediction_has_a_finite_log_loss() -> None:
    assert np.isfinite(value("log_loss", Scored("binary", np.array([0.0, 1.0]), np.array([1.0, 0.0]))))


@pytest.mark.parametrize("task", sorted(METRICS))
def test_a_row_of_weight_k_counts_as_k_rows(task: str) -> None:
    rows = ROWS[task](7)
    times = np.random.default_rng(7).integers(0, 4, len(rows))
    repeated = rows.part(np.repeat(np.arange(len(rows)), times))
    weighted = Scored(task, rows.scores, rows.labels, rows.threshold, times.astype(float))
    for name in METRICS[task]:
        assert undefined(name, weighted) == undefined(name, repeated) == ""
        assert value(name, weighted) == pytest.approx(value(name, repeated), rel=1e-9), name
    found = measure(weighted, Resampling())
    for name, metric in found.items():
        assert metric.value == pytest.approx(value(name, repeated), rel=1e-9)
        assert metric.interval is not None
        assert metric.interval.low <= metric.value <= metric.interval.high
    assert weighted.part(np.arange(10)).weights is not None


def test_weights_that_are_none_are_named() -> None:
    rows = binary_rows(7)
    with pytest.raises(EvaluationError, match="not of the same rows"):
        Scored("binary", rows.scores, rows.labels, 0.5, np.ones(3))
    assert "all of them are 0" in Scored("binary", rows.scores, rows.labels, 0.5, np.zeros(len(rows))).problem()
    only_negative = Scored("binary", rows.scores, rows.labels, 0.5, 1 - rows.labels)
    assert "only one class" in undefined("auc", only_negative)
