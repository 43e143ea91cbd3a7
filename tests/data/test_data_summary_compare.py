"""Distances between columns and ties to the label: true values, false alarms as rare as stated, and power."""

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from fairlead.data.summary.compare import associate, distance
from fairlead.data.summary.draw import draw_rows
from fairlead.data.summary.groups import Codes
from fairlead.data.summary.table import Summary, TableSummary

WHOLE = draw_rows(1, 0, 0, None)


def column(values: np.ndarray | list[object] | pa.Array) -> Summary:
    """The summary of one column."""
    return TableSummary.of(pa.RecordBatch.from_pydict({"x": values}), WHOLE, 1).columns["x"]


def grouped(values: object, labels: list[str]) -> TableSummary:
    """The summary of one column by label."""
    names = sorted(set(labels))
    codes = Codes(np.array([names.index(label) for label in labels]), names)
    return TableSummary.of(pa.RecordBatch.from_pydict({"x": values}), WHOLE, 1, {"label": codes})


def test_the_distance_of_numbers_is_that_of_kolmogorov_and_smirnov() -> None:
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=900), rng.normal(0.3, 1.2, 800)
    found = distance(column(one), column(other))
    assert found is not None
    assert found.error == 0
    assert found.value == pytest.approx(stats.ks_2samp(one, other).statistic, abs=1e-12)


def test_the_distance_of_values_is_the_largest_difference_of_shares() -> None:
    found = distance(column(["a"] * 60 + ["b"] * 40), column(["a"] * 40 + ["b"] * 40 + ["c"] * 20))
    assert found is not None
    assert found.value == pytest.approx(0.2)


@pytest.mark.parametrize("kind", ["numbers", "few numbers", "values"])
def test_equal_distributions_are_rarely_said_to_differ(kind: str) -> None:
    """At most 1 % of the pairs: of 400 at most 11 (a true 1 % gives more with a probability of 0.2 %)."""
    rng = np.random.default_rng(2)

    def draw() -> Summary:
        if kind == "values":
            return column(pa.array([f"v{i}" for i in rng.choice(12, 300, p=np.arange(1, 13) / 78)]))
        values = rng.normal(size=300)
        return column(values if kind == "numbers" else np.round(values))

    alarms = 0
    for _ in range(400):
        found = distance(draw(), draw())
        assert found is not None
        alarms += found.sure
    assert alarms <= 11, alarms


def test_sketched_distances_are_within_their_error() -> None:
    rng = np.random.default_rng(3)
    worst = 0.0
    for seed in range(10):
        one, other = rng.normal(size=40_000), rng.normal(0.2, 1, 40_000)
        sides = []
        for values in (one, other):
            batch = pa.RecordBatch.from_pydict({"x": values})
            sides.append(TableSummary.of(batch, draw_rows(40_000, 0, seed, 10**7), seed).columns["x"])
        found = distance(*sides)
        assert found is not None
        assert found.sure
        worst = max(worst, abs(found.value - stats.ks_2samp(one, other).statistic) / found.error)
    assert 0 < worst <= 1


def test_too_few_rows_or_unlike_kinds_have_no_distance() -> None:
    assert distance(column(np.arange(49.0)), column(np.arange(100.0))) is None
    assert distance(column(np.arange(100.0)), column(["a"] * 100)) is None


@pytest.mark.parametrize("shift", [0.0, 0.7, -2.0])
def test_the_tie_of_a_number_is_its_area_under_the_curve(shift: float) -> None:
    rng = np.random.default_rng(4)
    labels = np.where(rng.random(3000) < 0.3, "yes", "no")
    values = np.round(rng.normal(size=3000) + shift * (labels == "yes"), 1)
    found = associate({k: c["x"] for k, c in grouped(values, labels.tolist()).groups["label"].groups.items()})
    yes, no = values[labels == "yes"], np.sort(values[labels == "no"])
    below = (np.searchsorted(no, yes, "left") + np.searchsorted(no, yes, "right")) / 2
    area = below.sum() / (len(yes) * len(no))
    assert found is not None
    assert found.label == "yes"
    assert found.auc == pytest.approx(max(area, 1 - area), abs=found.error + 1e-9)


def test_the_tie_of_a_value_and_of_being_missing() -> None:
    labels = ["yes"] * 400 + ["no"] * 600
    towns = ["a"] * 300 + ["b"] * 100 + ["a"] * 100 + ["b"] * 200 + [None] * 300
    found = associate({k: c["x"] for k, c in grouped(towns, labels).groups["label"].groups.items()})
    assert found is not None
    assert found.missing_auc == pytest.approx(0.75)
    # P(a | yes) = 3/4, P(a | no) = 1/3: 3/4 * 2/3 + (3/4 * 1/3 + 1/4 * 2/3) / 2
    assert found.auc == pytest.approx(0.75 * 2 / 3 + (0.25 + 1 / 6) / 2)


def test_identifiers_have_no_area() -> None:
    rng = np.random.default_rng(5)
    labels = np.where(rng.random(900) < 0.5, "yes", "no").tolist()
    many = grouped([f"id {i}" for i in range(900)], labels)
    few = grouped([f"id {i}" for i in range(100)] * 9, labels)
    for summary in (many, few):
        found = associate({k: c["x"] for k, c in summary.groups["label"].groups.items()})
        assert found is not None
        assert found.auc is None


def test_of_many_labels_the_best_told_is_named() -> None:
    rng = np.random.default_rng(6)
    labels = rng.choice(["a", "b", "c"], 3000)
    values = rng.normal(size=3000) + 4.0 * (labels == "b")
    found = associate({k: c["x"] for k, c in grouped(values, labels.tolist()).groups["label"].groups.items()})
    assert found is not None
    assert found.label == "b"
    assert found.auc is not None
    assert found.auc > 0.99
