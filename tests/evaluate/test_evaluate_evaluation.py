"""The whole: one request in, one evaluation, one card and one report out."""

import time
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fairlead.errors import EvaluationError
from fairlead.evaluate.baselines import BaselineData
from fairlead.evaluate.card import model_card
from fairlead.evaluate.evaluation import EvaluateRequest, evaluate
from fairlead.evaluate.metrics import METRICS
from fairlead.evaluate.report import evaluation_report
from fairlead.records.codec import from_json, to_json
from fairlead.records.data import DatasetManifest, Shard, SourceFile
from fairlead.records.evaluation import Evaluation
from fairlead.records.evidence import Verdict
from fairlead.reports.html import render_html
from fairlead.reports.markdown import render_markdown
from fairlead.reports.model import Callout, Table, Text
from fairlead.spec.evaluate import Evaluate


def request_of(seed: int = 0, rows: int = 1500, **changes: Any) -> EvaluateRequest:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=rows + 1000)
    carrier = rng.choice(["AA", "B6", "odd|`name`"], rows + 1000, p=[0.5, 0.48, 0.02])
    labels = (rng.random(rows + 1000) < 1 / (1 + np.exp(-1.5 * x))).astype(np.int64)
    table = pa.table({"x": pa.array(x), "carrier": pa.array(carrier)})
    test = slice(1000, None)
    given: dict[str, Any] = {
        "spec": Evaluate(
            gates=(
                {"metric": "auc", "min": 0.6},  # type: ignore[arg-type]
                {"metric": "auc", "not_worse_than": "gradient_boosting", "margin": 0.02},  # type: ignore[arg-type]
                {"metric": "auc", "slice": "carrier", "min": 0.6},  # type: ignore[arg-type]
            ),
            bootstrap=50,
        ),
        "task": "binary",
        "classes": ("no", "yes"),
        "scores": 1 / (1 + np.exp(-1.4 * x[test])),
        "labels": labels[test],
        "threshold": 0.45,
        "slices": {"carrier": carrier[test].astype(object)},
        "baseline_data": BaselineData(table[:1000], labels[:1000], table[1000:], labels[test], ("x",), ("carrier",)),
        "latency_ms": 0.4,
        "size_mb": 0.1,
        **changes,
    }
    return EvaluateRequest(**given)


MANIFEST = DatasetManifest(
    fingerprint="sha256:abc",
    project="flights",
    task="binary",
    label="late",
    label_classes=("no", "yes"),
    schema={"x": "float"},
    features=("x", "carrier"),
    shards=(Shard("train-0.parquet", "train", 1000, 1, ""), Shard("test-0.parquet", "test", 1500, 1, "")),
    sources=(SourceFile("data/2013-01.parquet", 1, 2500, ""),),
    split_by="time",
    boundaries={"test": "2013-07-01"},
    rows_read=2500,
    rows_rejected=3,
    rows_unlabelled=2,
    rows_duplicate=0,
    transform_sha256="def",
)


def test_an_evaluation_holds_every_metric_every_baseline_and_survives_its_json() -> None:
    found = evaluate(request_of())
    assert set(METRICS["binary"]) <= set(found.metrics)
    assert set(found.baselines) == {"random", "majority", "one_rule", "gradient_boosting"}
    assert [gate.verdict for gate in found.gates] == [Verdict.PASS] * 3
    assert sum(map(sum, found.confusion)) == found.rows == 1500
    assert found.random_split_auc is not None
    assert from_json(Evaluation, to_json(found)) == found


def test_the_same_request_gives_the_same_evaluation() -> None:
    assert evaluate(request_of()) == evaluate(request_of())


def test_curves_begin_and_end_where_they_must() -> None:
    curves = evaluate(request_of()).curves
    assert curves["roc"][0] == (0, 0)
    assert curves["roc"][-1] == (1, 1)
    assert curves["precision_recall"][-1][0] == 1
    assert len(curves["roc"]) <= 200
    assert all(abs(x - y) < 0.15 for x, y in curves["reliability"])
    assert "roc:gradient_boosting" in curves


def test_a_champion_is_compared_with_paired_intervals() -> None:
    request = request_of()
    worse = np.clip(request.scores + np.random.default_rng(1).normal(0, 0.3, len(request.labels)), 0, 1)
    found = evaluate(request_of(champion_scores=worse, champion="version 1"))
    change = found.differences["champion"]["auc"]
    assert change.value is not None
    assert change.interval is not None
    assert change.interval.low > 0
    text = render_markdown(evaluation_report(found))
    assert "version 1" in text
    assert "better" in text


@pytest.mark.parametrize(
    "changes",
    [
        {"scores": np.full(1500, np.nan)},
        {"scores": np.full(1500, 7.0)},
        {"scores": np.full(1500, 0.5)},
        {"champion": "version 1", "champion_why": "it lacks a column"},
        {"baseline_data": None},
        {"slices": {"carrier": np.full(1500, None, dtype=object)}},
    ],
)
def test_what_cannot_be_judged_is_told_and_never_breaks_card_or_report(changes: dict[str, Any]) -> None:
    found = evaluate(request_of(**changes))
    for metric in found.metrics.values():
        assert metric.value is not None or metric.why
    report = evaluation_report(found, run="r1", split_by="time")
    assert len(render_html(report)) < 300_000
    assert render_markdown(report)
    assert model_card("flights", found, MANIFEST, {"seed": 7, "champion": None}, noise=0.01)


def test_no_rows_at_all_give_no_numbers_and_fail_every_gate() -> None:
    empty = EvaluateRequest(
        Evaluate(gates=({"metric": "auc", "min": 0.1},)),  # type: ignore[arg-type]
        "binary",
        ("no", "yes"),
        np.empty(0),
        np.empty(0),
        slices={"carrier": np.empty(0, dtype=object)},
    )
    found = evaluate(empty)
    assert not found.passed
    assert {metric.why for metric in found.metrics.values()} == {"no rows"}
    assert render_markdown(evaluation_report(found))


def test_one_class_only_gives_reasons_and_a_failing_gate() -> None:
    request = request_of(baseline_data=None)
    found = evaluate(request_of(baseline_data=None, labels=np.zeros(len(request.labels))))
    assert not found.passed
    assert "only one class" in found.metrics["auc"].why
    assert found.metrics["brier"].value is not None
    assert render_html(evaluation_report(found))


def test_several_classes() -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, 600)
    logits = rng.normal(size=(600, 3)) + 2 * np.eye(3)[labels]
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    spec = Evaluate(gates=({"metric": "macro_f1", "min": 0.5},), bootstrap=50)  # type: ignore[arg-type]
    found = evaluate(EvaluateRequest(spec, "multiclass", ("a", "b", "c"), scores, labels))
    assert found.passed
    assert len(found.confusion) == 3
    assert found.threshold is None
    assert render_html(evaluation_report(found))
    with pytest.raises(EvaluationError, match="3 scores per row for 2 classes"):
        evaluate(EvaluateRequest(spec, "multiclass", ("a", "b"), scores, labels))


def test_a_regression() -> None:
    rng = np.random.default_rng(4)
    labels = rng.normal(50, 10, 600)
    spec = Evaluate(gates=({"metric": "rmse", "max": 3},), bootstrap=50)  # type: ignore[arg-type]
    found = evaluate(EvaluateRequest(spec, "regression", (), labels + rng.normal(0, 2, 600), labels))
    assert found.passed
    assert set(found.metrics) == {"mae", "rmse", "r2"}
    assert "predicted_actual" in found.curves
    assert render_html(evaluation_report(found))


def test_the_report_begins_with_the_verdict_and_explains_the_random_split() -> None:
    report = evaluation_report(evaluate(request_of()), "Evaluation of flights", "r1", "time")
    assert report.verdict is Verdict.PASS
    head = report.sections[0].blocks[0]
    assert isinstance(head, Callout)
    assert head.title == "All 3 gates passed"
    told = next(s for s in report.sections if s.title == "What a random split would have claimed").blocks[0]
    assert isinstance(told, Text)
    assert "does not count" in told.text


def test_a_failing_gate_is_the_first_thing_that_the_report_says() -> None:
    spec = Evaluate(gates=({"metric": "auc", "min": 0.99},), bootstrap=50)  # type: ignore[arg-type]
    report = evaluation_report(evaluate(request_of(spec=spec, baseline_data=None)))
    head = report.sections[0].blocks[0]
    assert report.verdict is Verdict.FAIL
    assert isinstance(head, Callout)
    assert (head.kind, head.title) == ("fail", "1 of 1 gates failed")
    assert "auc >= 0.99" in head.text


def test_slices_stand_worst_first() -> None:
    request = request_of()
    scores = request.scores.copy()
    of_b6 = request.slices["carrier"] == "B6"
    scores[of_b6] = np.random.default_rng(0).random(int(of_b6.sum()))
    report = evaluation_report(evaluate(request_of(scores=scores)))
    section = next(s for s in report.sections if s.title == "Slices")
    table = next(b for b in section.blocks if isinstance(b, Table) and b.title == "All metrics by slice")
    assert [row[0] for row in table.rows] == ["carrier=B6", "carrier=AA"]


def test_the_card_names_data_metrics_slices_gates_limits_and_lineage() -> None:
    card = model_card("flights", evaluate(request_of()), MANIFEST, {"seed": 7, "environment": {"torch": "2"}}, 0.018)
    for text in ("sha256:abc", "1 files", "auc", "carrier=AA", "PASS", "0.0180", "torch 2"):
        assert text in card
    assert "## Limits" in card
    rows = [line for line in card.splitlines() if line.startswith("|")]
    unescaped = [line.replace("\\|", "").count("|") for line in rows]
    assert all(count in (3, 4, 5, 6) for count in unescaped)


def test_thirty_thousand_rows_with_slices_and_baselines_are_judged_in_time() -> None:
    """The bound is loose: it catches a metric that went from vectors to loops, not a busy machine."""
    request = request_of(rows=29_000)
    slices = {f"s{i}": np.random.default_rng(i).integers(0, 10, 29_000) for i in range(5)}
    started = time.perf_counter()
    evaluate(request_of(rows=29_000, spec=Evaluate(), slices=slices, champion_scores=request.scores, champion="v1"))
    assert time.perf_counter() - started < 40
