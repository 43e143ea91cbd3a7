"""What is fitted on the validation split: calibration and threshold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, log_loss, roc_auc_score

from fairlead.errors import EvaluationError
from fairlead.evaluate.calibration import calibration_facts, fit_calibration
from fairlead.evaluate.threshold import choose_threshold


def logits_of(seed: int, rows: int = 4000, stretch: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `stretch` times too sure of themselves."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-0.5, 1.2, rows)
    return logits * stretch, (rng.random(rows) < 1 / (1 + np.exp(-logits))).astype(float)


def test_the_temperature_undoes_overconfidence() -> None:
    logits, labels = logits_of(0)
    fitted = fit_calibration("temperature", logits, labels, "binary")
    assert fitted.temperature == pytest.approx(3, abs=0.25)
    facts = calibration_facts(fitted, logits, labels)
    assert facts["log_loss_after"] < facts["log_loss_before"]
    assert facts["ece_after"] < facts["ece_before"] / 3


def test_the_temperature_of_several_classes_is_the_best_one() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 1, (3000, 3))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(3, p=row) for row in p])
    fitted = fit_calibration("temperature", 2.5 * logits, labels, "multiclass")
    best = log_loss(labels, fitted.apply(2.5 * logits))
    for other in (0.8, 1.25):
        scaled = 2.5 * logits / (fitted.temperature * other)
        assert best < log_loss(labels, np.exp(scaled) / np.exp(scaled).sum(axis=1, keepdims=True))


def test_isotonic_rises_keeps_away_from_certainty_and_calibrates() -> None:
    logits, labels = logits_of(2)
    fitted = fit_calibration("isotonic", logits, labels, "binary")
    scores = fitted.apply(np.sort(np.concatenate((logits, [-100, 100]))))
    assert (np.diff(scores) >= 0).all()
    assert 0 < scores.min() <= 1 / (len(labels) + 2) * 1.0001
    assert scores.max() < 1
    assert calibration_facts(fitted, logits, labels)["ece_after"] < 0.005
    assert roc_auc_score(labels, fitted.apply(logits)) == pytest.approx(roc_auc_score(labels, logits), abs=0.01)


def test_isotonic_takes_equal_logits_and_a_constant_model() -> None:
    labels = np.array([0.0, 1, 0, 1])
    assert fit_calibration("isotonic", np.zeros(4), labels, "binary").apply(np.array([5.0])) == pytest.approx(0.5)


def test_a_regression_gets_no_calibration() -> None:
    assert fit_calibration("temperature", np.ones(3), np.ones(3), "regression").kind == "none"


@pytest.mark.parametrize(
    ("kind", "logits", "labels", "task", "why"),
    [
        ("temperature", np.zeros(3), np.ones(3), "binary", "one class"),
        ("temperature", np.array([0, np.nan, 1]), np.array([0.0, 1, 1]), "binary", "not finite"),
        ("temperature", np.zeros(0), np.zeros(0), "binary", "no rows"),
        ("isotonic", np.zeros((3, 3)), np.array([0.0, 1, 2]), "multiclass", "isotonic"),
        ("platt", np.zeros(2), np.array([0.0, 1]), "binary", "unknown calibration"),
        ("none", np.zeros(2), np.zeros(2), "ranking", "unknown task"),
    ],
)
def test_rows_that_no_calibration_can_be_fitted_on_are_refused(
    kind: str, logits: np.ndarray, labels: np.ndarray, task: str, why: str
) -> None:
    with pytest.raises(EvaluationError) as error:
        fit_calibration(kind, logits, labels, task)
    assert why in str(error.value)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.5, 0.7, 0.9]), st.booleans()), min_size=2, max_size=30).filter(
        lambda pairs: len({label for _, label in pairs}) == 2
    ),
    st.sampled_from(["f1", "youden"]),
)
def test_no_other_threshold_is_better(pairs: list[tuple[float, bool]], rule: str) -> None:
    scores, labels = np.array([s for s, _ in pairs]), np.array([float(y) for _, y in pairs])

    def quality(threshold: float) -> float:
        told = scores >= threshold
        if rule == "f1":
            return float(f1_score(labels, told, zero_division=0))
        return float(told[labels == 1].mean() - told[labels == 0].mean())

    chosen = quality(choose_threshold(rule, scores, labels))
    assert chosen == pytest.approx(max(quality(t) for t in np.linspace(0.05, 0.95, 19)))


def test_the_threshold_lies_between_two_scores() -> None:
    assert choose_threshold("f1", np.array([0.2, 0.8]), np.array([0.0, 1.0])) == pytest.approx(0.5)


def test_a_number_is_its_own_threshold() -> None:
    assert choose_threshold(0.3, np.zeros(0), np.zeros(0)) == 0.3


@pytest.mark.parametrize(
    ("rule", "scores", "labels"), [("f1", [0.1, 0.2], [1, 1]), ("f1", [0.1, np.nan], [0, 1]), ("best", [0.1], [1])]
)
def test_a_rule_that_cannot_choose_is_refused(rule: str, scores: list[float], labels: list[float]) -> None:
    with pytest.raises(EvaluationError):
        choose_threshold(rule, np.array(scores), np.array(labels))
