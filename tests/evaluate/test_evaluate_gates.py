"""Gates: judged by the interval, failing when they cannot be computed, monotone in their bound."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.evaluate.evaluation import EvaluateRequest, evaluate
from fairlead.records.evaluation import GateResult
from fairlead.records.evidence import Verdict
from fairlead.spec.evaluate import Evaluate

ROWS = 1200
RNG = np.random.default_rng(11)
LABELS = (RNG.random(ROWS) < 0.4).astype(float)
SCORES = np.clip(0.3 + 0.25 * LABELS + RNG.normal(0, 0.15, ROWS), 0, 1)
WORSE = np.clip(SCORES + RNG.normal(0, 0.3, ROWS), 0, 1)
CARRIER = np.array(["AA", "B6", "UA", "ZZ"], dtype=object)[np.searchsorted([400, 800, 1150], np.arange(ROWS), "right")]


def judge(gate: dict[str, Any], **changes: Any) -> GateResult:
    given: dict[str, Any] = {
        "spec": Evaluate(gates=(gate,), bootstrap=50, slices={"columns": ["carrier"], "min_rows": 200}),  # type: ignore[arg-type]
        "task": "binary",
        "classes": ("no", "yes"),
        "scores": SCORES,
        "labels": LABELS,
        "threshold": 0.4,
        "slices": {"carrier": CARRIER},
        **changes,
    }
    return evaluate(EvaluateRequest(**given)).gates[0]


def test_a_bound_inside_the_interval_fails_though_the_point_is_better() -> None:
    whole = judge({"metric": "auc", "min": 0.5})
    assert whole.verdict is Verdict.PASS
    assert whole.interval is not None
    between = (whole.interval.low + whole.observed) / 2
    failed = judge({"metric": "auc", "min": between})
    assert failed.verdict is Verdict.FAIL
    assert "more test rows would narrow the interval" in failed.why
    assert judge({"metric": "auc", "min": between, "judge": "point"}).verdict is Verdict.PASS


@settings(max_examples=15, deadline=None)
@given(metric=st.sampled_from(["auc", "brier", "f1"]), bounds=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_gates_are_monotone_in_their_bound(metric: str, bounds: tuple[float, float]) -> None:
    low, high = sorted(bounds)
    if judge({"metric": metric, "min": high}).verdict is Verdict.PASS:
        assert judge({"metric": metric, "min": low}).verdict is Verdict.PASS
    if judge({"metric": metric, "max": low}).verdict is Verdict.PASS:
        assert judge({"metric": metric, "max": high}).verdict is Verdict.PASS


@settings(max_examples=15, deadline=None)
@given(margins=st.tuples(st.floats(0, 0.3), st.floats(0, 0.3)))
def test_gates_against_the_champion_are_monotone_in_their_margin(margins: tuple[float, float]) -> None:
    low, high = sorted(margins)
    gate = {"metric": "auc", "not_worse_than": "champion"}
    worse = {"scores": WORSE, "champion_scores": SCORES, "champion": "version 1"}
    if judge({**gate, "margin": low}, **worse).verdict is Verdict.PASS:
        assert judge({**gate, "margin": high}, **worse).verdict is Verdict.PASS


def test_no_champion_passes_by_the_bootstrap_rule_and_says_so() -> None:
    found = judge({"metric": "auc", "not_worse_than": "champion", "margin": 0.01}, champion_why="there is no champion")
    assert (found.verdict, found.why) == (Verdict.PASS, "no champion: bootstrap rule")


def test_a_champion_that_cannot_score_the_rows_fails_the_gate_with_the_reason() -> None:
    why = "version 1 cannot score these rows: column seats is missing"
    found = judge({"metric": "auc", "not_worse_than": "champion"}, champion="version 1", champion_why=why)
    assert found.verdict is Verdict.FAIL
    assert why in found.why


@pytest.mark.parametrize(
    ("metric", "model", "champion", "verdict"),
    [
        ("auc", SCORES, WORSE, Verdict.PASS),
        ("auc", WORSE, SCORES, Verdict.FAIL),
        ("brier", SCORES, WORSE, Verdict.PASS),
        ("brier", WORSE, SCORES, Verdict.FAIL),
        ("log_loss", WORSE, SCORES, Verdict.FAIL),
        ("auc", SCORES, SCORES, Verdict.PASS),
    ],
)
def test_not_worse_than_the_champion_knows_which_way_is_better(
    metric: str, model: np.ndarray, champion: np.ndarray, verdict: Verdict
) -> None:
    found = judge(
        {"metric": metric, "not_worse_than": "champion", "margin": 0.001},
        scores=model,
        champion_scores=champion,
        champion="version 1",
    )
    assert found.verdict is verdict, found.why


@pytest.mark.parametrize(
    ("gate", "changes", "why"),
    [
        ({"metric": "auc", "min": 0.1}, {"labels": np.ones(ROWS)}, "only one class"),
        ({"metric": "auc", "min": 0.1}, {"scores": np.where(np.arange(ROWS) == 7, np.nan, SCORES)}, "not finite"),
        ({"metric": "auc", "min": 0.1, "slice": "dest"}, {}, "no column dest"),
        ({"metric": "mae", "max": 9}, {}, "no metric for binary"),
        ({"metric": "auc", "not_worse_than": "gradient_boosting"}, {}, "baselines are switched off"),
        ({"metric": "latency_ms", "max": 5}, {}, "was not measured"),
        ({"metric": "size_mb", "max": 5}, {"size_mb": float("nan")}, "was not measured"),
        ({"metric": "size_mb", "not_worse_than": "champion"}, {"size_mb": 1.0, "champion": "v1"}, "is not measured"),
        ({"metric": "size_mb", "max": 5, "slice": "carrier"}, {"size_mb": 1.0}, "not measured by slice"),
        (
            {"metric": "auc", "min": 0.1},
            {"labels": np.empty(0), "scores": np.empty(0), "slices": {"carrier": np.empty(0, dtype=object)}},
            "no rows",
        ),
    ],
)
def test_a_gate_that_cannot_be_computed_fails_and_says_why(
    gate: dict[str, Any], changes: dict[str, Any], why: str
) -> None:
    found = judge(gate, **changes)
    assert found.verdict is Verdict.FAIL
    assert found.why.startswith("cannot be computed")
    assert why in found.why


@pytest.mark.parametrize(("bound", "verdict"), [(0.6, Verdict.PASS), (0.4, Verdict.FAIL)])
def test_latency_and_size_are_compared_as_they_are(bound: float, verdict: Verdict) -> None:
    assert judge({"metric": "latency_ms", "max": bound}, latency_ms=0.5).verdict is verdict


def test_a_gate_by_slice_names_the_worst_slice_and_those_too_small() -> None:
    scores = SCORES.copy()
    of_ua = CARRIER == "UA"
    scores[of_ua] = RNG.random(int(of_ua.sum()))
    found = judge({"metric": "auc", "min": 0.6, "slice": "carrier"}, scores=scores)
    assert found.verdict is Verdict.FAIL
    assert "worst at carrier=UA" in found.why
    assert "fails for carrier=UA" in found.why
    assert "1 too small to judge" in found.why
    assert found.observed is not None
    assert found.observed < 0.6


def test_intervals_of_a_gate_by_slice_are_corrected_for_the_number_of_slices() -> None:
    found = judge({"metric": "auc", "min": 0.6, "slice": "carrier"})
    assert found.verdict is Verdict.PASS
    assert found.interval is not None
    assert found.interval.level == pytest.approx(1 - 0.05 / 3)


def test_a_slice_of_one_class_fails_its_gate_instead_of_being_passed_over() -> None:
    labels = LABELS.copy()
    labels[CARRIER == "B6"] = 0
    found = judge({"metric": "auc", "min": 0.5, "slice": "carrier"}, labels=labels)
    assert found.verdict is Verdict.FAIL
    assert "carrier=B6: only one class" in found.why


def test_slices_that_are_all_too_small_fail_the_gate() -> None:
    spec = Evaluate(
        gates=({"metric": "auc", "min": 0.1, "slice": "carrier"},),  # type: ignore[arg-type]
        slices={"min_rows": 5000},  # type: ignore[arg-type]
    )
    request = EvaluateRequest(spec, "binary", ("no", "yes"), SCORES, LABELS, slices={"carrier": CARRIER})
    found = evaluate(request).gates[0]
    assert found.verdict is Verdict.FAIL
    assert "no slice of carrier has 5000 rows" in found.why


def test_a_paired_gate_holds_for_every_slice() -> None:
    champion = SCORES.copy()
    model = SCORES.copy()
    of_aa = CARRIER == "AA"
    model[of_aa] = RNG.random(int(of_aa.sum()))
    gate = {"metric": "auc", "not_worse_than": "champion", "margin": 0.02, "slice": "carrier"}
    found = judge(gate, scores=model, champion_scores=champion, champion="version 1")
    assert found.verdict is Verdict.FAIL
    assert "worst at carrier=AA" in found.why
