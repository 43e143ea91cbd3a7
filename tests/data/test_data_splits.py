"""Splits: exact where they promise it, sticky where they promise it, and never the same row on two sides."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.data.splits import LEFT_OUT, Keys, assign, check_sizes, keep_first
from fairlead.errors import SplitTooSmall
from fairlead.features.hashing import mix
from fairlead.spec.data import Split

shares = st.tuples(st.floats(0.05, 0.4), st.floats(0.05, 0.4))


def keys(count: int, *, seed: int = 7, positive: int | None = None) -> Keys:
    rng = np.random.default_rng(seed)
    labels = np.zeros(count, np.int64)
    labels[: count // 3 if positive is None else positive] = 1
    hashes = rng.integers(0, 2**63, count).astype(np.uint64)
    times = np.datetime64("2013-01-01", "us") + rng.integers(0, 365 * 86400, count).astype("timedelta64[s]")
    return Keys(count, rng.permutation(labels), times, hashes % np.uint64(max(count // 5, 1)), hashes)


def test_a_stratified_split_of_a_small_set_is_balanced_exactly() -> None:
    given_keys = keys(100, positive=30)
    sides, _ = assign(Split(by="stratified", validation=0.2, test=0.2), given_keys)
    assert [int((sides == side).sum()) for side in range(3)] == [60, 20, 20]
    assert [int(given_keys.labels[sides == side].sum()) for side in range(3)] == [18, 6, 6]


@settings(max_examples=200, deadline=None)
@given(shares, st.integers(1, 300), st.integers(0, 1000))
def test_random_shares_are_met_to_the_row(share: tuple[float, float], count: int, seed: int) -> None:
    sides, _ = assign(Split(by="random", validation=share[0], test=share[1], seed=seed), keys(count))
    for side, wanted in enumerate((1 - share[0] - share[1], *share)):
        assert abs(int((sides == side).sum()) - wanted * count) <= 1


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["random", "stratified", "group"]), st.integers(0, 100), st.integers(1, 200))
def test_the_order_of_rows_does_not_matter(by: str, seed: int, count: int) -> None:
    split = Split.model_validate({"by": by, "validation": 0.2, "test": 0.2, "seed": seed})
    one = keys(count)
    order = np.random.default_rng(seed).permutation(count)
    other = Keys(count, one.labels[order], one.times[order], one.groups[order], one.rows[order])  # type: ignore[index]
    assert np.array_equal(assign(split, one)[0][order], assign(split, other)[0])


@pytest.mark.parametrize("by", ["random", "stratified"])
def test_equal_rows_stay_on_one_side(by: str) -> None:
    hashes = np.repeat(mix(np.arange(60, dtype=np.uint64)), 5)
    labels = np.repeat(np.arange(60) % 2, 5)
    sides, _ = assign(Split.model_validate({"by": by}), Keys(300, labels, rows=hashes))
    assert all(len(set(sides[hashes == value])) == 1 for value in np.unique(hashes))
    assert abs(int((sides == 0).sum()) - 180) <= 10


def test_a_group_keeps_its_side_when_data_grows_and_is_on_one_side_only() -> None:
    split = Split(by="group", validation=0.2, test=0.2)
    many = keys(5000)
    sides, _ = assign(split, many)
    groups = many.groups
    assert groups is not None
    assert all(len(set(sides[groups == group])) == 1 for group in np.unique(groups)[:50])
    few = Keys(500, many.labels[:500], groups=groups[:500])
    assert np.array_equal(assign(split, few)[0], sides[:500])
    assert abs(float((sides == 1).mean()) - 0.2) < 0.05


def test_another_seed_gives_another_split() -> None:
    one = assign(Split(seed=1), keys(500))[0]
    two = assign(Split(seed=2), keys(500))[0]
    assert (one != two).mean() > 0.3


def test_by_time_the_past_trains_and_nothing_after_until_is_used() -> None:
    split = Split.model_validate(
        {"by": "time", "validation": "2013-06-01", "test": "2013-07-01", "until": "2013-08-01"}
    )
    given_keys = keys(2000)
    sides, facts = assign(split, given_keys)
    months = given_keys.times.astype("datetime64[M]").astype(int) % 12 + 1  # type: ignore[union-attr]
    assert set(months[sides == 0]) == {1, 2, 3, 4, 5}
    assert (set(months[sides == 1]), set(months[sides == 2])) == ({6}, {7})
    assert set(months[sides == LEFT_OUT]) == {8, 9, 10, 11, 12}
    assert facts["test"] == "2013-07-01T00:00:00+00:00"


def test_a_boundary_with_a_zone_is_an_instant() -> None:
    split = Split.model_validate({"by": "time", "validation": "2013-06-01T00:00-05:00", "test": "2013-07-01"})
    times = np.array(["2013-06-01T04:59", "2013-06-01T05:00", "2013-07-01T00:00"], "datetime64[us]")
    assert assign(split, Keys(3, np.zeros(3, np.int64), times))[0].tolist() == [0, 1, 2]
    assert split.validation == datetime.fromisoformat("2013-06-01T05:00+00:00").astimezone(UTC)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 300), st.integers(1, 20), shares)
def test_shares_by_time_keep_one_instant_together_and_the_order(
    count: int, instants: int, share: tuple[float, float]
) -> None:
    rng = np.random.default_rng(count)
    times = np.datetime64("2013-01-01", "us") + rng.integers(0, instants, count).astype("timedelta64[h]")
    split = Split(by="time", validation=share[0], test=share[1])
    sides, _ = assign(split, Keys(count, np.zeros(count, np.int64), times))
    for time in np.unique(times):
        assert len(set(sides[times == time])) == 1
    order = np.argsort(times, kind="stable")
    assert (np.diff(sides[order]) >= 0).all()


def test_shares_by_time_are_exact_without_ties() -> None:
    times = np.datetime64("2013-01-01", "us") + np.arange(100).astype("timedelta64[h]")
    sides, _ = assign(Split(by="time", validation=0.2, test=0.2), Keys(100, np.zeros(100, np.int64), times))
    assert np.bincount(sides).tolist() == [60, 20, 20]


def test_regression_strata_spread_the_label_evenly() -> None:
    rng = np.random.default_rng(7)
    values = rng.exponential(size=1000)
    given_keys = Keys(1000, values, rows=rng.integers(0, 2**63, 1000).astype(np.uint64))
    sides, _ = assign(Split(by="stratified", validation=0.2, test=0.2), given_keys)
    for side in range(3):
        assert abs(np.median(values[sides == side]) - np.median(values)) < 0.08


def test_of_equal_rows_the_first_is_kept() -> None:
    assert keep_first(np.array([5, 3, 5, 3, 9], np.uint64)).tolist() == [True, True, False, False, True]


def test_small_splits_are_refused_with_all_reasons() -> None:
    labels = np.array([0, 1] * 20 + [0, 0, 0] + [1] * 10)
    sides = np.array([0] * 40 + [1] * 3 + [2] * 10, np.int8)
    with pytest.raises(SplitTooSmall, match="validation has 3 rows") as caught:
        check_sizes(sides, labels, ("no", "yes"), {"test": "2013-07-01"}, "time")
    assert "test has no row of class no" in str(caught.value)
    assert "2013-07-01" in str(caught.value)
    check_sizes(np.repeat(np.arange(3), 30).astype(np.int8), np.tile([0, 1], 45), ("no", "yes"), {}, "random")


def test_a_class_that_is_not_in_training_is_refused() -> None:
    labels = np.array([0, 1] * 15 + [2] * 30 + [0] * 30)
    sides = np.repeat(np.arange(3), 30).astype(np.int8)
    with pytest.raises(SplitTooSmall, match="train has no row of class c"):
        check_sizes(sides, labels, ("a", "b", "c"), {}, "random")
