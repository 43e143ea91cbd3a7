"""Slices: every row in one slice of each column, small ones told and not judged, the worst one named."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.errors import EvaluationError
from fairlead.evaluate.metrics import METRICS, Scored
from fairlead.evaluate.scoring import Resampling
from fairlead.evaluate.slices import cut, measure_slices, worst_slice

HOW = Resampling(resamples=50)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "", None, 3, 2.5, True, float("nan")]), max_size=60))
def test_the_slices_of_a_column_are_a_partition(values: list[object]) -> None:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    rows = np.concatenate([part.rows for part in cut({"c": column}, len(values))["c"]] or [np.empty(0, int)])
    assert sorted(rows.tolist()) == list(range(len(values)))


def test_missing_values_are_a_slice_of_their_own() -> None:
    column = np.array(["a", None, float("nan"), "a"], dtype=object)
    assert {p.name: len(p.rows) for p in cut({"c": column}, 4)["c"]} == {"c=a": 2, "c=(missing)": 2}


def test_many_numbers_become_ranges_of_equal_size() -> None:
    column = np.append(np.arange(1000.0), np.nan)
    parts = {p.name: len(p.rows) for p in cut({"age": column}, 1001)["age"]}
    assert parts.pop("age=(missing)") == 1
    assert len(parts) == 5
    assert set(parts.values()) == {200} or max(parts.values()) - min(parts.values()) <= 1


def test_few_numbers_stay_values() -> None:
    parts = cut({"seats": np.array([2, 2, 100])}, 3)["seats"]
    assert [(p.name, len(p.rows)) for p in parts] == [("seats=2", 2), ("seats=100", 1)]


def test_a_column_of_other_rows_is_refused() -> None:
    with pytest.raises(EvaluationError, match="3 rows, the labels 4"):
        cut({"c": np.zeros(3)}, 4)


def scored(rows: int) -> Scored:
    rng = np.random.default_rng(0)
    labels = (rng.random(rows) < 0.5).astype(float)
    return Scored("binary", np.clip(labels * 0.3 + rng.random(rows) * 0.7, 0, 1), labels)


def test_every_metric_of_every_large_slice_and_one_line_per_small_one() -> None:
    model = scored(500)
    column = np.array(["big"] * 300 + ["mid"] * 190 + ["small"] * 10, dtype=object)
    values = measure_slices(model, cut({"c": column}, 500), 100, HOW)
    assert {v.name for v in values if v.slice == "c=mid"} == set(METRICS["binary"])
    small = [v for v in values if v.slice == "c=small"]
    assert [(v.value, v.why) for v in small] == [(None, "too small: 10 rows, 100 needed")]


def test_an_identifier_as_a_slice_column_stays_readable() -> None:
    column = np.array([f"N{i}" for i in range(500)], dtype=object)
    values = measure_slices(scored(500), cut({"tail": column}, 500), 100, HOW)
    assert len(values) == 21
    assert values[-1].slice == "tail=(480 more values)"
    assert values[-1].rows == 480


def test_the_worst_slice_is_named_and_never_a_small_one() -> None:
    model = scored(600)
    scores = model.scores.copy()
    scores[300:590] = 1 - scores[300:590]
    model = Scored("binary", scores, model.labels)
    column = np.array(["good"] * 300 + ["bad"] * 290 + ["tiny"] * 10, dtype=object)
    values = measure_slices(model, cut({"c": column}, 600), 100, HOW)
    for metric in ("auc", "log_loss"):
        worst = worst_slice(values, metric)
        assert worst is not None
        assert worst.slice == "c=bad"
    assert worst_slice((), "auc") is None
