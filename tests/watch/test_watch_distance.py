"""Distances, and how far sampling alone may go."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fairlead.features.statistics import StatisticsBuilder
from fairlead.records.data import Statistics
from fairlead.watch.distance import CYCLES, MISSING, Distance, cumulative_distance, distances, sampling_bound


def statistics_of(columns: dict[str, pa.Array], reference: Statistics | None = None) -> Statistics:
    table = pa.table(columns)
    builder = StatisticsBuilder(table.column_names, reference=reference)
    builder.update(table)
    return builder.finish()


def distance_of(live: pa.Array, training: pa.Array) -> dict[str, Distance]:
    reference = statistics_of({"x": training})
    return {d.part: d for d in distances(statistics_of({"x": live}, reference), reference)}


def test_the_distance_of_numbers_comes_close_to_kolmogorovs_from_below() -> None:
    rng = np.random.default_rng(0)
    training, live = rng.normal(0, 1, 20_000), rng.normal(0.5, 1, 5000)
    exact = stats.ks_2samp(training, live).statistic
    binned = distance_of(pa.array(live), pa.array(training))[""]
    assert exact - 0.03 < binned.value <= exact + 1e-12
    assert "less of the live values than of the training values lie below" in binned.what


def test_values_far_outside_the_training_range_are_at_full_distance() -> None:
    training = np.random.default_rng(0).normal(0, 1, 1000)
    assert distance_of(pa.array(training + 100), pa.array(training))[""].value > 0.95


def test_the_distance_of_categories_is_the_largest_difference_of_shares() -> None:
    found = distance_of(pa.array(["a"] * 50 + ["b"] * 50), pa.array(["a"] * 80 + ["b"] * 20))[""]
    assert found.value == pytest.approx(0.3)


def test_categories_unknown_in_training_count_together() -> None:
    found = distance_of(pa.array(["a"] * 60 + ["new", "newer"] * 20), pa.array(["a"] * 100))[""]
    assert found.value == pytest.approx(0.4)
    assert found.what == "other values: 40.0% of the live rows, 0.0% in training"


def test_missing_values_are_a_distance_of_their_own() -> None:
    found = distance_of(pa.array([1.0, None, None, 2.0]), pa.array([1.0, 2.0, 3.0, None]))
    assert found[MISSING].value == pytest.approx(0.25)


def test_a_column_that_live_rows_lack_is_missing_in_all_of_them() -> None:
    reference = statistics_of({"x": pa.array([1.0, 2.0]), "y": pa.array(["a", "b"])})
    live = statistics_of({"x": pa.array([1.0, 2.0])}, reference)
    found = {(d.feature, d.part): d.value for d in distances(live, reference)}
    assert found[("y", MISSING)] == 1
    assert ("y", "") not in found


def test_months_and_days_are_not_compared() -> None:
    winter = np.arange("2013-01-01", "2013-03-01", dtype="datetime64[h]").astype("datetime64[us]")
    summer = np.arange("2013-07-01", "2013-08-01", dtype="datetime64[h]").astype("datetime64[us]")
    found = distance_of(pa.array(summer), pa.array(winter))
    assert set(found) == {MISSING, "hour", "weekday"}
    assert all(d.value < 0.05 for d in found.values())


@pytest.mark.parametrize(("hours", "unfit"), [(5, {"hour", "weekday"}), (48, {"weekday"}), (24 * 8, set())])
def test_a_part_is_not_expected_to_fit_before_its_cycle_has_come_round(hours: int, unfit: set[str]) -> None:
    training = np.arange("2013-01-01", "2013-03-01", dtype="datetime64[h]")
    live = np.datetime64("2013-07-01T00:00", "m") + np.arange(0, hours * 60, 10)
    found = distance_of(pa.array(live.astype("datetime64[us]")), pa.array(training.astype("datetime64[us]")))
    assert {part for part, d in found.items() if d.unfit} == unfit


def test_histograms_on_other_edges_are_not_compared_and_say_so() -> None:
    reference = statistics_of({"x": pa.array(np.arange(100.0))})
    live = statistics_of({"x": pa.array(np.arange(50.0))})
    found = {d.part: d for d in distances(live, reference)}
    assert found[""].unfit
    assert found[""].value == 0


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 23), st.lists(st.integers(0, 50), min_size=24, max_size=24).filter(lambda c: sum(c) > 0))
def test_a_shift_undoes_itself(shift: int, counts: list[int]) -> None:
    hours = {str(h): n for h, n in enumerate(counts)}
    moved = {str((h + shift) % 24): n for h, n in enumerate(counts)}
    assert cumulative_distance(hours, moved, CYCLES["hour"][0], shift) == pytest.approx(0, abs=1e-12)


def test_the_sampling_bound_is_massarts_and_shrinks_with_rows() -> None:
    # At delta/2 = 0.05 for one sample: sqrt(ln(2/0.05)/2n), the textbook's 1.358/sqrt(n).
    assert sampling_bound(1000, 0.1, 0) == pytest.approx(1.358 / np.sqrt(1000), rel=1e-3)
    assert sampling_bound(0, 0.1, 0) == 1
    assert sampling_bound(100, 0.1, 50) > sampling_bound(100, 0.1, 1)


def test_equal_distributions_stay_below_the_sampling_bound_as_often_as_promised() -> None:
    """2,000 pairs of samples at delta 0.1: the bound is a guarantee, so at most 10 % (plus luck) may be beyond it."""
    rng = np.random.default_rng(1)
    beyond = 0
    for _ in range(2000):
        first, second = rng.integers(0, 24, 80), rng.integers(0, 24, 400)
        of_first = {str(h): int(n) for h, n in enumerate(np.bincount(first, minlength=24))}
        of_second = {str(h): int(n) for h, n in enumerate(np.bincount(second, minlength=24))}
        bound = sampling_bound(80, 0.1, 0) + sampling_bound(400, 0.1, 0)
        beyond += cumulative_distance(of_first, of_second, 24) > bound
    assert beyond / 2000 < 0.1
