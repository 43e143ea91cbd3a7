"""Intervals hold their point, are the same for the same seed, and cover the truth about as often as they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fairlead.evaluate.intervals import (
    auc_difference,
    auc_interval,
    bootstrap,
    bootstrap_interval,
    clopper_pearson,
    corrected_level,
)
from fairlead.evaluate.metrics import METRICS, Scored, statistic
from fairlead.evaluate.scoring import Resampling, difference, differences, measure


def rows_of(seed: int, rows: int, shift: float = 1.0) -> Scored:
    rng = np.random.default_rng(seed)
    labels = (rng.random(rows) < 0.4).astype(float)
    labels[:2] = 0, 1
    return Scored("binary", stats.norm.cdf(shift * labels + rng.normal(0, 1, rows)), labels)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), rows=st.integers(5, 120), level=st.sampled_from([0.8, 0.95, 0.999]))
def test_every_interval_holds_its_point_within_the_metrics_range(seed: int, rows: int, level: float) -> None:
    for metric in measure(rows_of(seed, rows), Resampling(level, 60, seed)).values():
        if metric.value is not None and metric.interval is not None:
            assert 0 <= metric.interval.low <= metric.value <= metric.interval.high
            assert metric.interval.level == level


def test_the_same_seed_gives_the_same_intervals_and_another_seed_others() -> None:
    rows = rows_of(1, 400)
    first, again = measure(rows, Resampling(seed=3)), measure(rows, Resampling(seed=3))
    assert first == again
    assert first["brier"].interval != measure(rows, Resampling(seed=4))["brier"].interval


def test_blocks_do_not_change_a_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(2, 100)
    bound = [statistic(name, rows) for name in METRICS["binary"]]
    whole = bootstrap(bound, len(rows), 50, (1, 2))
    monkeypatch.setattr("fairlead.evaluate.intervals._BLOCK_VALUES", 700)
    assert np.allclose(bootstrap(bound, len(rows), 50, (1, 2)), whole, rtol=1e-12)


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (10, 10), (3, 10), (500, 1000)])
def test_clopper_pearson_inverts_the_binomial_tests(successes: int, trials: int) -> None:
    interval = clopper_pearson(successes, trials, 0.95)
    exact = stats.binomtest(successes, trials).proportion_ci(0.95, "exact")
    assert (interval.low, interval.high) == pytest.approx((exact.low, exact.high))


def test_no_trials_say_nothing_about_a_proportion() -> None:
    interval = clopper_pearson(0, 0, 0.95)
    assert (interval.low, interval.high) == (0, 1)


def test_the_auc_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    truth = float(stats.norm.cdf(1 / np.sqrt(2)))
    hits = 0
    for seed in range(600):
        _, interval = auc_interval(rows_of(seed, 150).scores, rows_of(seed, 150).labels, 0.9)
        hits += interval.low <= truth <= interval.high
    # 600 tries at 90 %: four standard errors are 0.049.
    assert abs(hits / 600 - 0.9) < 0.049


def test_the_bootstrap_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    truth, hits = 2 / 3, 0
    for seed in range(400):
        values = np.random.default_rng(seed).random(80) * 4 / 3
        rows = Scored("regression", values, np.zeros(80))
        draws = bootstrap([statistic("mae", rows)], 80, 200, (seed,))
        interval = bootstrap_interval(float(values.mean()), draws[:, 0], 0.9, (0, np.inf))
        assert interval is not None
        hits += interval.low <= truth <= interval.high
    assert 0.9 - 0.075 < hits / 400 < 0.9 + 0.06


def test_the_paired_auc_interval_covers_a_difference_of_nothing() -> None:
    """Two equally good models on the same rows: the interval holds 0 about as often as its level says."""
    hits = 0
    for seed in range(500):
        rng = np.random.default_rng(seed)
        labels = (rng.random(150) < 0.5).astype(float)
        shared = labels + rng.normal(0, 1, 150)
        first, second = shared + rng.normal(0, 0.5, 150), shared + rng.normal(0, 0.5, 150)
        _, interval = auc_difference(first, second, labels, 0.9)
        hits += interval.low <= 0 <= interval.high
    assert abs(hits / 500 - 0.9) < 0.054


def test_pairing_narrows_the_interval_of_a_difference() -> None:
    rows = rows_of(5, 800)
    noise = np.random.default_rng(6).normal(0, 0.02, len(rows))
    other = Scored("binary", np.clip(rows.scores + noise, 0, 1), rows.labels)
    for name in ("auc", "brier", "average_precision"):
        alone = measure(rows, Resampling())[name].interval
        paired = difference(name, rows, other, Resampling()).interval
        assert alone is not None
        assert paired is not None
        assert paired.high - paired.low < 0.5 * (alone.high - alone.low)


def test_all_differences_at_once_equal_each_on_its_own() -> None:
    rows = rows_of(7, 300)
    other = Scored("binary", np.roll(rows.scores, 1), rows.labels)
    together = differences(rows, other, Resampling())
    for name in METRICS["binary"]:
        alone = difference(name, rows, other, Resampling())
        assert (together[name].value, together[name].interval) == (alone.value, alone.interval)


def test_a_model_does_not_differ_from_itself() -> None:
    rows = rows_of(8, 200)
    for name, found in differences(rows, rows, Resampling()).items():
        assert found.value == 0, name
        assert found.interval is not None
        assert (found.interval.low, found.interval.high) == (0, 0), name


@pytest.mark.parametrize("rows", [2, 10, 200])
def test_a_perfect_order_is_not_certain_on_few_rows(rows: int) -> None:
    labels = (np.arange(rows) >= rows // 2).astype(float)
    auc, interval = auc_interval(np.arange(rows, dtype=float), labels, 0.95)
    assert auc == 1 == interval.high
    assert interval.low < 1 - 1 / rows


def test_one_positive_row_gives_a_wide_interval_instead_of_an_error() -> None:
    labels = np.zeros(50)
    labels[10] = 1
    scores = np.random.default_rng(0).random(50)
    auc, interval = auc_interval(scores, labels, 0.95)
    assert interval.low <= auc <= interval.high
    assert interval.high - interval.low > 0.5
    assert auc_difference(scores, scores[::-1], labels, 0.95)[1].low == -1


def test_levels_for_many_comparisons_grow_towards_one() -> None:
    assert corrected_level(0.95, 1) == pytest.approx(0.95)
    assert corrected_level(0.95, 10) == pytest.approx(0.995)


def test_a_level_beyond_the_resamples_falls_back_to_the_standard_error_and_is_wider() -> None:
    draws = np.random.default_rng(0).normal(0.5, 0.1, 200)
    usual = bootstrap_interval(0.5, draws, 0.95, (0, 1))
    strict = bootstrap_interval(0.5, draws, 0.9999, (0, 1))
    assert usual is not None
    assert strict is not None
    assert strict.low < usual.low
    assert strict.high > usual.high


def test_too_many_undefined_resamples_give_no_interval() -> None:
    draws = np.array([0.5] * 90 + [np.nan] * 10)
    assert bootstrap_interval(0.5, draws, 0.95, (0, 1)) is None
