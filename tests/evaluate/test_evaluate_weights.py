"""Rows that count differently: only ratios count, weight 0 is not there, and baselines are fitted by weights, too."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from fairlead.errors import EvaluationError
from fairlead.evaluate.baselines import BaselineData, fit_baselines
from fairlead.evaluate.calibration import calibration_facts, fit_calibration
from fairlead.evaluate.card import model_card
from fairlead.evaluate.evaluation import EvaluateRequest, evaluate
from fairlead.evaluate.report import evaluation_report
from fairlead.evaluate.threshold import choose_threshold
from fairlead.records.codec import from_json, to_json
from fairlead.records.data import DatasetManifest
from fairlead.records.evaluation import Evaluation
from fairlead.reports.markdown import render_markdown
from fairlead.spec.evaluate import Evaluate

TRAIN, TEST = 400, 300


def request_of(task: str, seed: int, *, baselines: bool = False, **changes: Any) -> EvaluateRequest:
    """A model, a champion, slices, and baselines when asked for, with weights of which a fifth is 0."""
    rng = np.random.default_rng(seed)
    rows = TRAIN + TEST
    x, word = rng.normal(size=rows), rng.choice(["a", "b", "c"], rows)
    score = 1.5 * x + (word == "a") + rng.normal(size=rows)
    labels: np.ndarray = {
        "binary": (score > 0).astype(np.int64),
        "multiclass": np.digitize(score, [-1, 1]),
        "regression": score,
    }[task]
    weights = rng.exponential(size=rows) * (rng.random(rows) > 0.2)
    noisy = x + rng.normal(size=(2, rows))

    def scores(values: np.ndarray) -> np.ndarray:
        if task == "regression":
            return values
        if task == "binary":
            return 1 / (1 + np.exp(-values))
        odds = np.exp(np.stack([-values, np.zeros_like(values), values], axis=1))
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))

    table = pa.table({"x": x, "word": word})
    held = slice(TRAIN, None)
    data = BaselineData(
        table[:TRAIN], labels[:TRAIN], table[TRAIN:], labels[held], ("x",), ("word",),
        train_weights=weights[:TRAIN], test_weights=weights[held],
    )  # fmt: skip
    metric = {"binary": "auc", "multiclass": "accuracy", "regression": "rmse"}[task]
    gates: list[dict[str, Any]] = [{"metric": metric, "not_worse_than": "champion", "margin": 0.5}]
    gates.append({"metric": metric, "slice": "word", **({"max": 9.0} if task == "regression" else {"min": 0.1})})
    request = EvaluateRequest(
        spec=Evaluate.model_validate({"gates": gates, "bootstrap": 50, "slices": {"columns": [], "min_rows": 20}}),
        task=task,
        classes=("low", "mid", "high") if task == "multiclass" else (),
        scores=scores(noisy[0, held]),
        labels=labels[held],
        weights=weights[held],
        slices={"word": word[held].astype(object)},
        champion_scores=scores(noisy[1, held]),
        champion="version 1",
        baseline_data=data if baselines else None,
    )
    return replace(request, **changes)


def without_zeros(request: EvaluateRequest) -> EvaluateRequest:
    """The rows of weight 0 taken out by hand, of the test rows and of the baselines' tables."""
    assert request.weights is not None
    kept = request.weights > 0
    data = request.baseline_data
    if data is not None:
        assert data.train_weights is not None
        assert data.test_weights is not None
        trained = data.train_weights > 0
        data = replace(
            data,
            train=data.train.filter(pa.array(trained)),
            train_labels=data.train_labels[trained],
            train_weights=data.train_weights[trained],
            test=data.test.filter(pa.array(kept)),
            test_labels=data.test_labels[kept],
            test_weights=data.test_weights[kept],
        )
    champion = request.champion_scores
    return replace(
        request,
        scores=request.scores[kept],
        labels=request.labels[kept],
        weights=request.weights[kept],
        slices={name: values[kept] for name, values in request.slices.items()},
        champion_scores=None if champion is None else champion[kept],
        baseline_data=data,
    )


def scaled(request: EvaluateRequest, factor: float) -> EvaluateRequest:
    assert request.weights is not None
    data = request.baseline_data
    if data is not None and data.train_weights is not None and data.test_weights is not None:
        data = replace(data, train_weights=data.train_weights * factor, test_weights=data.test_weights * factor)
    return replace(request, weights=request.weights * factor, baseline_data=data)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(["binary", "multiclass", "regression"]), st.integers(0, 10_000))
def test_weight_0_is_not_there_and_twice_the_weights_are_the_same_to_the_bit(task: str, seed: int) -> None:
    request = request_of(task, seed)
    found = to_json(evaluate(request))
    assert to_json(evaluate(without_zeros(request))) == found
    assert to_json(evaluate(scaled(request, 2.0))) == found
    assert to_json(evaluate(scaled(request, 0.25))) == found


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_with_baselines_it_is_the_same_to_the_bit_as_well(task: str) -> None:
    request = request_of(task, 7, baselines=True)
    evaluation = evaluate(request)
    assert set(evaluation.baselines) == {"random", "majority", "one_rule", "gradient_boosting", "champion"}
    assert evaluate(without_zeros(request)) == evaluation
    assert evaluate(scaled(request, 2.0)) == evaluation


def test_weights_that_are_all_alike_are_none() -> None:
    request = request_of("binary", 7)
    plain = evaluate(replace(request, weights=None))
    assert evaluate(replace(request, weights=np.full(TEST, 3.0))) == plain
    assert plain.effective_rows is None


def test_weighted_numbers_are_those_of_scikit_learn_in_metrics_and_curves() -> None:
    request = request_of("binary", 7)
    assert request.weights is not None
    found = evaluate(request)
    expected = roc_auc_score(request.labels, request.scores, sample_weight=request.weights)
    assert found.metrics["auc"].value == pytest.approx(expected)
    wrong, right, _ = roc_curve(request.labels, request.scores, sample_weight=request.weights, drop_intermediate=False)
    points = np.array(found.curves["roc"])
    distances = np.abs(points[:, None, :] - np.column_stack((wrong, right))[None]).max(axis=2)
    assert distances.min(axis=1) == pytest.approx(np.zeros(len(points)), abs=1e-12)
    assert np.trapezoid(points[:, 1], points[:, 0]) == pytest.approx(expected, abs=0.005)
    assert sum(map(sum, found.confusion)) == int((request.weights > 0).sum()) == found.rows


def test_every_baseline_is_fitted_by_the_weights() -> None:
    """Rows of the word "a" that say yes count ninefold: their rate rises from a half to nine tenths."""
    rng = np.random.default_rng(7)
    word = rng.choice(["a", "b"], 4000)
    labels = (rng.random(4000) < 0.5).astype(np.int64)
    weights = np.where((word == "a") & (labels == 1), 9.0, 1.0)
    table = pa.table({"word": word})
    data = BaselineData(table, labels, table, labels, categorical=("word",))
    plain = fit_baselines(data, "binary", 2, "f1", 7).scored
    found = fit_baselines(replace(data, train_weights=weights), "binary", 2, "f1", 7).scored
    rate = float(np.average(labels, weights=weights))
    assert found["majority"].scores == pytest.approx(np.full(4000, rate))
    for name in ("one_rule", "gradient_boosting"):
        for value in ("a", "b"):
            rows = word == value
            assert plain[name].scores[rows].mean() == pytest.approx(labels[rows].mean(), abs=0.01)
            weighted = np.average(labels[rows], weights=weights[rows])
            assert found[name].scores[rows].mean() == pytest.approx(weighted, abs=0.02)
        assert found[name].scores[word == "a"].mean() > 0.85
    # Of an amount, random is a label drawn in proportion to the weights.
    amounts = fit_baselines(replace(data, train_weights=weights), "regression", 0, 0.5, 7).scored
    assert amounts["random"].scores.mean() == pytest.approx(rate, abs=4.5 * 0.5 / np.sqrt(4000))


def test_weights_of_other_rows_are_refused() -> None:
    request = request_of("binary", 7, baselines=True)
    assert request.baseline_data is not None
    with pytest.raises(EvaluationError, match="300 labels and 299 weights"):
        evaluate(
            replace(request, baseline_data=replace(request.baseline_data, test_weights=np.ones(299)), weights=None)
        )
    with pytest.raises(EvaluationError, match="are not of the same rows"):
        evaluate(replace(request, weights=np.array([0.0, 1.0])))
    below = evaluate(replace(request, weights=np.where(np.arange(TEST) == 3, -1.0, 1.0)))
    assert "below 0" in below.metrics["auc"].why


@pytest.mark.parametrize("kind", ["temperature", "isotonic"])
def test_calibration_and_threshold_do_not_see_rows_of_weight_0(kind: str) -> None:
    rng = np.random.default_rng(7)
    logits = rng.normal(size=500) * 3
    labels = (rng.random(500) < 1 / (1 + np.exp(-logits / 2))).astype(np.int64)
    weights = rng.exponential(size=500) * (rng.random(500) > 0.3)
    kept = weights > 0
    found = fit_calibration(kind, logits, labels, "binary", weights)
    assert found == fit_calibration(kind, logits[kept], labels[kept], "binary", weights[kept])
    assert found == fit_calibration(kind, logits, labels, "binary", weights * 2)
    assert found != fit_calibration(kind, logits, labels, "binary")
    facts = calibration_facts(found, logits, labels, weights)
    assert facts["log_loss_after"] < facts["log_loss_before"]
    for rule in ("f1", "youden"):
        best = choose_threshold(rule, logits, labels, weights)
        assert best == choose_threshold(rule, logits[kept], labels[kept], weights[kept])
        assert best == choose_threshold(rule, logits, labels, weights * 2)


def test_report_and_card_say_that_rows_count_by_their_weight() -> None:
    evaluation = evaluate(request_of("binary", 7))
    assert evaluation.effective_rows is not None
    assert evaluation.effective_rows < evaluation.rows
    text = render_markdown(evaluation_report(evaluation))
    assert f"worth {evaluation.effective_rows:,.0f} equally weighted ones" in text
    assert "bootstrap, as rows count by their weight" in text
    assert "DeLong" not in text
    manifest = DatasetManifest(
        "f", "p", "binary", "y", (), {}, ("x",), (), (), "random", {}, 700, 0, 0, 0, ""
    )  # fmt: skip
    assert "Kish" in model_card("p", evaluation, manifest, {})


def test_an_evaluation_that_was_written_without_weights_still_loads() -> None:
    evaluation = evaluate(request_of("regression", 7, weights=None))
    old = to_json(evaluation).replace(b'  "effective_rows": null,\n', b"")
    assert b"effective_rows" not in old
    assert from_json(Evaluation, old) == evaluation
