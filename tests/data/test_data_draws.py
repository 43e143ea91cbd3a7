"""Samples: seeded, the same however the stream is cut, with the chances that they promise."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.data.balance import balanced, drawn_rows
from fairlead.data.draws import Reservoir, StratifiedReservoir
from fairlead.data.prepare import PrepareResult, prepare_data
from fairlead.dataset import LABEL, WEIGHT
from fairlead.dataset.weights import effective_rows
from fairlead.errors import LabelProblem, SchemaMismatch
from fairlead.spec.data import Balance, Sample
from fairlead.spec.project import Project


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 300), st.integers(1, 60), st.integers(1, 5), st.integers(0, 99), st.booleans())
def test_a_sample_does_not_depend_on_how_the_stream_is_cut(
    count: int, size: int, parts: int, seed: int, weighted: bool
) -> None:
    places = np.arange(count)
    weights = np.random.default_rng(seed).exponential(size=count) if weighted else None
    whole = Reservoir(size, seed)
    whole.update(places, weights)
    pieces = []
    for chosen in np.array_split(np.random.default_rng(seed).permutation(count), parts):
        piece = Reservoir(size, seed)
        piece.update(places[chosen], None if weights is None else weights[chosen])
        pieces.append(piece)
    for piece in pieces[1:]:
        pieces[0].merge(piece)
    one, other = whole.finish(), pieces[0].finish()
    assert np.array_equal(one.places, other.places)
    assert np.array_equal(one.weights, other.weights)
    assert len(one.places) == min(size, count)
    assert len(np.unique(one.places)) == len(one.places)


def test_every_row_of_a_simple_sample_has_the_same_chance() -> None:
    drawn = np.zeros(40)
    for seed in range(3000):
        sample = Reservoir(10, seed)
        sample.update(np.arange(40))
        drawn[sample.finish().places] += 1
    # 3000 draws of 10 of 40: 750 each with a deviation of 24.
    assert abs(drawn - 750).max() < 24 * 4.5


def test_the_first_row_of_a_weighted_sample_is_drawn_in_proportion_to_its_weight() -> None:
    weights = np.array([1.0, 2.0, 3.0, 4.0, 0.0])
    drawn = np.zeros(5)
    for seed in range(4000):
        sample = Reservoir(1, seed)
        sample.update(np.arange(5), weights)
        drawn[sample.finish().places] += 1
    assert drawn[4] == 0
    assert np.abs(drawn / 4000 - weights / 10).max() < 4.5 * 0.5 / np.sqrt(4000)


def test_importance_weights_estimate_sums_of_the_whole_without_bias() -> None:
    rng = np.random.default_rng(7)
    values = rng.gamma(2, 3, 500)
    chances = values + 0.5
    sums, counts = [], []
    for seed in range(400):
        sample = Reservoir(50, seed)
        sample.update(np.arange(500), chances)
        drawn = sample.finish()
        sums.append(float((values[drawn.places] * drawn.weights).sum()))
        counts.append(float(drawn.weights.sum()))
    for estimates, truth in ((sums, values.sum()), (counts, 500.0)):
        error = np.std(estimates) / np.sqrt(len(estimates))
        assert abs(np.mean(estimates) - truth) < 4.5 * error


def test_a_stratified_sample_has_the_shares_of_the_whole_to_the_row() -> None:
    strata = np.random.default_rng(7).permutation(np.repeat([0, 1, 2], [700, 250, 50]))
    sample = StratifiedReservoir(100, 7)
    for part in np.array_split(np.arange(1000), 6):
        sample.update(part, strata[part])
    drawn = sample.finish()
    assert np.bincount(strata[drawn.places]).tolist() == [70, 25, 5]
    assert drawn.weights.sum() == pytest.approx(1000)


def test_bad_weights_are_refused_and_an_effective_size_is_told() -> None:
    for bad in ([1.0, -1.0], [1.0, np.nan], [np.inf, 1.0]):
        with pytest.raises(ValueError, match="finite and at least 0"):
            Reservoir(1, 7).update(np.arange(2), np.array(bad))
    with pytest.raises(ValueError, match="same size and seed"):
        Reservoir(1, 7).merge(Reservoir(1, 8))
    assert effective_rows(np.ones(10)) == pytest.approx(10)
    assert effective_rows(np.array([1.0, 0, 0])) == pytest.approx(1)


def test_balance_makes_every_class_count_as_it_says() -> None:
    labels = np.random.default_rng(7).permutation(np.repeat([0, 1, 2], [600, 300, 100]))
    times, weights = balanced(Balance(how="weights"), labels, 3, 7, "y")
    assert weights is not None
    assert np.bincount(labels, weights).tolist() == pytest.approx([1000 / 3] * 3)
    assert (times == 1).all()
    _, effective = balanced(Balance(how="effective_number", beta=0.99), labels, 3, 7, "y")
    assert effective is not None
    first, last = effective[labels == 0][0], effective[labels == 2][0]
    assert last / first == pytest.approx((1 - 0.99**600) / (1 - 0.99**100))
    assert effective.mean() == pytest.approx(1)
    for how, goal in (("undersample", 100), ("oversample", 600)):
        times, none = balanced(Balance.model_validate({"how": how}), labels, 3, 7, "y")
        assert none is None
        assert np.bincount(labels, times).tolist() == [goal] * 3
    with pytest.raises(LabelProblem, match="no classes to balance"):
        balanced(Balance(how="weights"), np.array([0.5, 1.5]), 0, 7, "y")


def test_a_sample_of_more_rows_than_there_are_is_all_of_them() -> None:
    labels = np.array([0, 1] * 30)
    for by in ("simple", "stratified"):
        places, weights = drawn_rows(Sample.model_validate({"rows": 100, "by": by}), labels, None)
        assert np.array_equal(places, np.arange(60))
        assert weights is None


def prepare(folder: Path, **data: object) -> PrepareResult:
    rng = np.random.default_rng(7)
    rows = 2000
    rare = rng.random(rows) < 0.1
    table = pa.table(
        {
            "a": rng.normal(size=rows) + rare,
            "weight": rng.exponential(size=rows),
            "y": np.where(rare, "rare", "usual"),
        }
    )
    (folder / "raw").mkdir(exist_ok=True)
    pq.write_table(table, folder / "raw" / "rows.parquet", row_group_size=300)
    project = Project.model_validate(
        {
            "project": "p",
            "data": {"source": "raw", "label": {"column": "y"}, "split": {"by": "stratified"}, **data},
            "features": {"numeric": ["a"]},
        }
    )
    return prepare_data(project, folder, folder / "out")


@pytest.mark.parametrize("how", ["weights", "effective_number", "undersample", "oversample"])
def test_balance_touches_the_training_split_only(how: str, tmp_path: Path) -> None:
    plain, balance = prepare(tmp_path), prepare(tmp_path, balance={"how": how})
    for side in ("validation", "test"):
        left, right = plain.data.table(side), balance.data.table(side)
        assert left.select(["a", LABEL]).equals(right.select(["a", LABEL]))
        if WEIGHT in right.column_names:
            assert set(right[WEIGHT].to_pylist()) == {1.0}
    train = balance.data.table("train")
    labels = train[LABEL].to_numpy()
    weights = train[WEIGHT].to_numpy() if WEIGHT in train.column_names else np.ones(len(labels))
    of_class = np.bincount(labels, weights)
    if how != "effective_number":
        assert of_class[0] == pytest.approx(of_class[1])
    assert weights.mean() == pytest.approx(1)
    assert any("balanced" in warning for warning in balance.warnings)
    assert plain.manifest.fingerprint != balance.manifest.fingerprint


def test_declared_weights_are_written_for_every_side_and_average_one_in_training(tmp_path: Path) -> None:
    result = prepare(tmp_path, weight="weight")
    assert result.data.table("train")[WEIGHT].to_numpy().mean() == pytest.approx(1)
    raw = {round(row["a"], 9): row["weight"] for row in pq.read_table(tmp_path / "raw").to_pylist()}
    test = result.data.table("test")
    expected = [raw[round(value, 9)] for value in test["a"].to_pylist()]
    assert test[WEIGHT].to_pylist() == pytest.approx(expected)
    with pytest.raises(SchemaMismatch, match="cannot be a weight"):
        prepare(tmp_path, weight="y")


@pytest.mark.parametrize(("by", "chance"), [("simple", None), ("stratified", None), ("importance", "weight")])
def test_a_declared_sample_is_drawn_from_the_training_split_only(by: str, chance: str | None, tmp_path: Path) -> None:
    plain = prepare(tmp_path)
    drawn = prepare(tmp_path, sample={"rows": 300, "by": by, "chance": chance})
    assert drawn.manifest.rows("train") == 300
    assert [drawn.manifest.rows(s) for s in ("validation", "test")] == [
        plain.manifest.rows(s) for s in ("validation", "test")
    ]
    assert drawn.manifest.rows_left_out == plain.manifest.rows("train") - 300
    train = drawn.data.table("train")
    assert set(train["a"].to_pylist()) <= set(plain.data.table("train")["a"].to_pylist())
    assert (WEIGHT in train.column_names) == (by == "importance")
    if by == "stratified":
        assert np.bincount(train[LABEL].to_numpy())[0] == round(
            300 * np.bincount(plain.data.table("train")[LABEL].to_numpy())[0] / plain.manifest.rows("train")
        )
