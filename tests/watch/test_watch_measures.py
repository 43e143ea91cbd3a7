"""Distances between two samples against what they are by definition, and their intervals against the truth."""

import math

import numpy as np
import pytest
from scipy import stats

from fairlead.records.drift import Measure
from fairlead.watch.measures import kolmogorov_distance, number_measures, psi, value_measures

SEED = 11


def named(measures: tuple[Measure, ...]) -> dict[str, Measure]:
    return {measure.name: measure for measure in measures}


def test_distances_of_numbers_are_those_of_the_textbook() -> None:
    rng = np.random.default_rng(SEED)
    reference, live = np.sort(rng.normal(size=4000)), np.sort(rng.normal(0.3, 1.2, size=3000))
    found = named(number_measures(reference, live))
    assert abs(kolmogorov_distance(reference, live)[0]) == pytest.approx(stats.ks_2samp(reference, live).statistic)
    assert found["ks"].value == pytest.approx(stats.ks_2samp(reference, live).statistic, abs=0.01)
    exact = stats.wasserstein_distance(reference, live) / reference.std()
    assert found["wasserstein"].value == pytest.approx(exact, rel=0.02)
    pooled = math.sqrt((reference.var() * 4000 + live.var() * 3000) / 6998)
    assert found["cohens_d"].value == pytest.approx((live.mean() - reference.mean()) / pooled)


def test_distances_of_values_are_those_of_the_textbook() -> None:
    found = named(value_measures({"a": 500, "b": 300, "c": 200}, {"a": 400, "b": 300, "d": 300}))
    assert found["l_infinity"].value == pytest.approx(0.3)
    p, q = np.array([0.5, 0.3, 0.2, 0]), np.array([0.4, 0.3, 0, 0.3])
    middle = (p + q) / 2
    js = math.sqrt((stats.entropy(p, middle, base=2) + stats.entropy(q, middle, base=2)) / 2)
    assert found["jensen_shannon"].value == pytest.approx(js)


def test_psi_of_equal_shares_is_nothing_and_that_of_known_shares_is_known() -> None:
    assert float(psi(np.array([100.0, 300.0]), np.array([1000.0, 3000.0]))) == pytest.approx(0, abs=1e-4)
    many = 10_000_000
    value = float(psi(np.array([0.5 * many, 0.5 * many]), np.array([0.4 * many, 0.6 * many])))
    assert value == pytest.approx((0.4 - 0.5) * math.log(0.8) + (0.6 - 0.5) * math.log(1.2), rel=1e-5)


def test_intervals_cover_the_true_distance_nearly_as_often_as_they_say() -> None:
    """Two normal distributions a shift of 0.3 apart; 80 pairs of samples, 95 % wanted, 88 % asked of each measure."""
    truth = {
        "ks": 2 * stats.norm.cdf(0.15) - 1,
        "wasserstein": 0.3,
        "cohens_d": 0.3,
        "psi": _true_psi(),
    }
    rng = np.random.default_rng(SEED)
    covered = dict.fromkeys(truth, 0)
    for number in range(80):
        found = named(number_measures(np.sort(rng.normal(size=1500)), np.sort(rng.normal(0.3, 1, 1500)), number))
        for name, value in truth.items():
            covered[name] += found[name].low <= value <= found[name].high
    assert min(covered.values()) >= 70, covered


def _true_psi() -> float:
    cuts = np.array([-np.inf, *stats.norm.ppf(np.arange(1, 10) / 10), np.inf])
    p, q = np.diff(stats.norm.cdf(cuts)), np.diff(stats.norm.cdf(cuts - 0.3))
    return float(np.sum((q - p) * np.log(q / p)))


def test_samples_of_one_distribution_have_a_distance_of_nothing_within_their_interval() -> None:
    rng = np.random.default_rng(SEED)
    lows = [
        measure.low
        for number in range(30)
        for measure in number_measures(np.sort(rng.normal(size=1000)), np.sort(rng.normal(size=1000)), number)
        if measure.name in ("ks", "jensen_shannon", "psi")
    ]
    assert np.mean(np.array(lows) == 0) >= 0.9


def test_constant_columns_and_single_rows_have_measures() -> None:
    for reference, live in ((np.zeros(5), np.zeros(5)), (np.zeros(5), np.ones(5)), (np.zeros(1), np.ones(1))):
        assert all(math.isfinite(m.value) for m in number_measures(reference, live))
