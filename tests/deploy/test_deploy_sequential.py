"""Error rates of the concurrent tests under continuous looks, by seeded simulation, and what they find how fast."""

import math

import numpy as np
import pytest

from fairlead.deploy.statistics import concurrent, detector, rates, sample_ratio, two_sample
from fairlead.deploy.statistics.alternatives import log_evidence_above, log_evidence_below
from fairlead.deploy.statistics.quantiles import (
    Limit,
    compare_quantile_counts,
    compare_quantiles,
    needed_for_quantile,
    quantile_limits,
    smallest_seen_ratio,
)
from fairlead.deploy.statistics.sprt import Sprt
from fairlead.records.evidence import LatencyCounts, RunningRate, latency_bin

SEED = 20_260
MIXTURE = rates.Mixture.around(0.02)


@pytest.fixture
def rng() -> np.random.Generator:
    print(f"seed {SEED}")
    return np.random.default_rng(SEED)


def slack(bound: float, runs: int) -> float:
    """The bound plus four standard errors of a share of `runs`."""
    return bound + 4 * math.sqrt(bound * (1 - bound) / runs)


def running(rng: np.random.Generator, rate: float, steps: np.ndarray, runs: int) -> np.ndarray:
    """Counts of events at the looks: `steps` are the numbers of calls between looks."""
    return np.cumsum(rng.binomial(steps, rate, (runs, len(steps))), axis=1)


# --- one rate against a few alternatives -----------------------------------------------------------------------------
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.5])
def test_one_sided_evidence_is_wrong_at_most_as_often_as_its_level(rng: np.random.Generator, rate: float) -> None:
    runs, alpha, steps = 1500, 0.05, np.full(600, 5)
    counts, n = running(rng, rate, steps, runs), np.cumsum(steps)
    for evidence in (log_evidence_above, log_evidence_below):
        wrong = (evidence(n, counts, rate) >= -math.log(alpha)).any(axis=1).mean()
        assert wrong <= slack(alpha, runs)
        assert wrong > alpha / 50, "a test that never errs is weaker than it has to be"


# --- difference of two rates -----------------------------------------------------------------------------------------
def test_the_smallest_product_is_the_one_of_a_fine_grid(rng: np.random.Generator) -> None:
    for _ in range(60):
        n, n0, margin = int(rng.integers(1, 3000)), int(rng.integers(1, 20_000)), float(rng.uniform(-0.5, 0.5))
        events, events0 = int(rng.binomial(n, rng.random() ** 3)), int(rng.binomial(n0, rng.random() ** 3))
        base = np.linspace(max(0.0, -margin), min(1.0, 1 - margin), 4001)[1:-1]
        products = [
            rates.log_martingale(n, events, b + margin, MIXTURE) + rates.log_martingale(n0, events0, b, MIXTURE)
            for b in base[:: max(1, len(base) // 150)]
        ]
        found = float(two_sample.log_evidence(n, events, n0, events0, margin, MIXTURE))
        assert found <= min(products) + 1e-6
        assert two_sample._Counts(n, events, n0, events0, MIXTURE).log_evidence(margin) == pytest.approx(
            found, abs=1e-5
        )


@pytest.mark.parametrize("weight", [0.1, 0.5])
@pytest.mark.parametrize("base", [0.0, 0.005, 0.05])
def test_the_difference_of_two_rates_keeps_both_error_rates(
    rng: np.random.Generator, weight: float, base: float
) -> None:
    """At the margin every PASS and every FAIL is an error."""
    runs, alpha, margin = 1000, 0.05, 0.02
    looks = np.unique(np.geomspace(10, 10_000, 150).astype(int))
    steps = np.diff(looks, prepend=0)
    others = np.round(looks * (1 - weight) / weight).astype(int)
    ours = running(rng, base + margin, steps, runs)
    theirs = running(rng, base, np.diff(others, prepend=0), runs)
    passed = two_sample.is_within(looks, ours, others, theirs, margin, alpha, MIXTURE).any(axis=1).mean()
    failed = two_sample.is_above(looks, ours, others, theirs, margin, alpha, MIXTURE).any(axis=1).mean()
    assert passed <= slack(alpha, runs)
    assert failed <= slack(alpha, runs)


def test_the_product_needs_about_half_the_requests_of_two_separate_sequences(rng: np.random.Generator) -> None:
    runs, alpha = 40, 0.001
    looks = np.unique(np.geomspace(50, 8000, 60).astype(int))
    steps = np.diff(looks, prepend=0)
    ours, theirs = running(rng, 0.06, steps, runs), running(rng, 0.005, steps, runs)
    joint = two_sample.is_above(looks, ours, looks, theirs, 0.02, alpha, MIXTURE)
    first = np.median(looks[joint.argmax(axis=1)])
    apart = []
    for run in range(runs):
        for n, a, b in zip(looks, ours[run], theirs[run], strict=True):
            separate = rates.difference(
                RunningRate(int(n), int(a)),
                RunningRate(int(n), int(b)),
                alpha_low=alpha,
                alpha_high=alpha,
                mixture=MIXTURE,
            )
            if separate.low > 0.02:
                apart.append(n)
                break
    assert joint.any(axis=1).all()
    assert first < 0.65 * np.median(apart)


def test_the_ends_of_the_sequence_agree_with_the_tests() -> None:
    for n, events, n0, events0 in [
        (300, 1, 2700, 12),
        (40, 40, 400, 0),
        (5000, 60, 5000, 50),
        (10, 0, 90, 0),
        (0, 0, 0, 0),
    ]:
        found = two_sample.difference(
            RunningRate(n, events), RunningRate(n0, events0), alpha_low=0.01, alpha_high=0.01, mixture=MIXTURE
        )
        assert -1 <= found.low <= found.observed <= found.high <= 1
        for margin in (-0.01, 0.005, 0.02, 0.1):
            above = bool(two_sample.is_above(n, events, n0, events0, margin, 0.01, MIXTURE))
            within = bool(two_sample.is_within(n, events, n0, events0, margin, 0.01, MIXTURE))
            if abs(found.low - margin) > 1e-5 and abs(found.high - margin) > 1e-5:
                assert (found.low > margin, found.high < margin) == (above, within)


def test_the_outlook_of_the_difference_is_what_it_takes() -> None:
    ours, theirs = RunningRate(200, 1), RunningRate(1800, 9)
    more = two_sample.needed_within(ours, theirs, 0.02, 0.01, MIXTURE)
    assert more is not None
    n, n0 = 200 + more, 1800 + 9 * more
    assert two_sample.is_within(n, 0.005 * n, n0, 0.005 * n0, 0.02, 0.01, MIXTURE)
    assert two_sample.needed_within(RunningRate(200, 20), theirs, 0.02, 0.01, MIXTURE) is None
    seen = two_sample.smallest_seen(3000, 27_000, 0.005, 0.02, 0.001, MIXTURE)
    assert seen is not None
    assert two_sample.is_above(3000, 3000 * seen, 27_000, 135, 0.02, 0.001, MIXTURE)
    assert not two_sample.is_above(3000, 3000 * (seen - 0.005), 27_000, 135, 0.02, 0.001, MIXTURE)
    assert two_sample.smallest_seen(1, 9, 0.005, 0.02, 0.001, MIXTURE) is None


# --- whose failures --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("rate", [0.005, 0.026, 0.3])
def test_a_candidate_that_fails_as_often_as_the_champion_is_not_blamed(
    rng: np.random.Generator, share: float, rate: float
) -> None:
    runs, calls, alpha = 1000, 1000, 0.01
    ours = np.cumsum(rng.random((runs, calls)) < rate, axis=1)
    between = rng.negative_binomial(1, share, (runs, calls))
    theirs = np.cumsum(rng.binomial(between, rate), axis=1)
    blamed = (concurrent.log_blame(ours, theirs, share, 10.0) >= -math.log(alpha)).any(axis=1).mean()
    assert blamed <= slack(alpha, runs)


def test_a_broken_candidate_is_blamed_as_fast_as_the_absolute_test_finds_it(rng: np.random.Generator) -> None:
    test, runs, share = Sprt(0.005, 0.05, 0.0056, 0.01), 1000, 0.1
    for rate, calls in [(0.05, 2000), (0.1, 600), (1.0, 20)]:
        ours, n = np.cumsum(rng.random((runs, calls)) < rate, axis=1), np.arange(1, calls + 1)
        theirs = np.cumsum(rng.binomial(rng.negative_binomial(1, share, (runs, calls)), 0.005), axis=1)
        absolute = test.log_ratio(n, ours) >= test.upper
        both = absolute & (concurrent.log_blame(ours, theirs, share, 10.0) >= math.log(100))
        assert both.any(axis=1).mean() > 0.99
        assert np.mean(both.argmax(axis=1) + 1) <= 1.25 * np.mean(absolute.argmax(axis=1) + 1)


# --- detector --------------------------------------------------------------------------------------------------------
def detected(rng: np.random.Generator, rate: np.ndarray, runs: int, per_look: int, alpha: float) -> np.ndarray:
    """At which look each run raises its alarm; len(rate) when none does. `rate` by look."""
    test, looks = Sprt(0.005, 0.05, alpha, 0.01), len(rate)
    value, first = np.full(runs, detector.EMPTY), np.full(runs, looks)
    for look in range(looks):
        failed = rng.binomial(per_look, rate[look], runs)
        value = detector.update(value, test.log_ratio(per_look, failed), 1 / looks)
        first = np.where((first == looks) & detector.alarm(value, alpha), look, first)
    return first


@pytest.mark.parametrize("per_look", [1, 20])
def test_the_detector_keeps_its_false_alarm_budget_over_the_horizon(rng: np.random.Generator, per_look: int) -> None:
    runs, alpha = 4000, 0.05
    first = detected(rng, np.full(2000 // per_look, 0.005), runs, per_look, alpha)
    assert (first < 2000 // per_look).mean() <= slack(alpha, runs)


def test_a_long_healthy_history_does_not_bury_a_late_failure(rng: np.random.Generator) -> None:
    runs, per_look, looks = 200, 10, 1000
    rate = np.where(np.arange(looks) < 0.8 * looks, 0.005, 0.2)
    late = (detected(rng, rate, runs, per_look, 0.001) - 0.8 * looks + 1) * per_look
    test = Sprt(0.005, 0.05, 0.001, 0.01)
    counts = np.cumsum(rng.binomial(per_look, rate, (runs, looks)), axis=1)
    buried = test.log_ratio(per_look * np.arange(1, looks + 1), counts) >= test.upper
    assert np.quantile(late, 0.99) < 150, "calls after the change"
    assert np.median(late) <= 3 * detector.expected_delay(0.2, 0.005, 0.05, 0.001, looks * per_look)
    assert np.median(buried.argmax(axis=1) - 0.8 * looks) * per_look > 5 * np.median(late)


def test_a_clock_that_is_set_back_gives_no_weight() -> None:
    assert detector.weight(-5.0, 100.0) == 0.0
    value = detector.update(detector.EMPTY, 3.0, detector.weight(-5.0, 100.0))
    assert not detector.alarm(value, 0.5)


# --- split -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_the_check_of_the_split_keeps_its_level_and_finds_a_wrong_one(rng: np.random.Generator, share: float) -> None:
    runs, alpha, steps = 2000, 0.01, np.full(300, 100)
    total = np.cumsum(steps)
    right = running(rng, share, steps, runs)
    wrong = running(rng, share * 0.8, steps, runs)
    assert sample_ratio.is_off(right, total, share, alpha).any(axis=1).mean() <= slack(alpha, runs)
    assert sample_ratio.is_off(wrong, total, share, alpha).any(axis=1).mean() > (0.95 if share > 0.05 else 0.1)


# --- quantiles -------------------------------------------------------------------------------------------------------
FIRST = latency_bin(0.001)
BINS = latency_bin(1.0) - FIRST


def histograms(
    rng: np.random.Generator, median: float, steps: np.ndarray, runs: int, spread: float = 0.4
) -> np.ndarray:
    """Log-normal latencies as running histograms [runs, looks, bins]."""
    from scipy.stats import norm

    edges = np.exp((FIRST + np.arange(1, BINS)) / 40.0)
    below = np.concatenate([[0.0], norm.cdf(np.log(edges / median) / spread), [1.0]])
    return np.cumsum(rng.multinomial(steps, np.diff(below), (runs, len(steps))), axis=1)


@pytest.mark.parametrize("quantile", [0.5, 0.95, 0.99])
def test_a_quantile_at_its_limit_is_judged_wrongly_at_most_as_often_as_budgeted(
    rng: np.random.Generator, quantile: float
) -> None:
    """A candidate just at the limit: both verdicts are errors of the one or the other kind."""
    runs, alpha, limit = (60 if quantile == 0.5 else 150), 0.05, Limit(1.25)
    steps = np.diff(np.unique(np.geomspace(20, 5000, 15).astype(int)), prepend=0)
    ours = histograms(rng, 0.010 * 1.25, steps, runs)
    theirs = histograms(rng, 0.010, 3 * steps, runs)
    found = compare_quantile_counts(ours, theirs, FIRST, quantile, limit)
    assert (found.worse >= -math.log(alpha)).any(axis=1).mean() <= slack(alpha, runs)
    assert (found.within >= -math.log(alpha)).any(axis=1).mean() <= slack(alpha, runs)


@pytest.mark.parametrize(("quantile", "enough"), [(0.5, 600), (0.95, 2500), (0.99, 6000)])
def test_equal_latencies_pass_and_doubled_ones_fail(rng: np.random.Generator, quantile: float, enough: int) -> None:
    steps = np.array([enough])
    theirs = histograms(rng, 0.010, 3 * steps, 50)
    equal = compare_quantile_counts(histograms(rng, 0.010, steps, 50), theirs, FIRST, quantile, Limit(1.25))
    doubled = compare_quantile_counts(histograms(rng, 0.020, steps, 50), theirs, FIRST, quantile, Limit(1.25))
    assert (equal.within >= math.log(100)).mean() > 0.9
    assert (doubled.worse >= math.log(2000)).mean() > 0.9
    assert (equal.worse < 0).all()


def counts_of(values: np.ndarray) -> LatencyCounts:
    found, number = np.unique([latency_bin(value) for value in values], return_counts=True)
    return LatencyCounts.of(dict(zip(found.tolist(), number.tolist(), strict=True)))


def test_one_histogram_gives_what_arrays_give(rng: np.random.Generator) -> None:
    ours, theirs = counts_of(rng.lognormal(-4.5, 0.4, 400)), counts_of(rng.lognormal(-4.6, 0.4, 1600))
    alone = compare_quantiles(ours, theirs, 0.95, Limit(1.25, 0.002))
    from fairlead.deploy.statistics.quantiles import dense

    wide = compare_quantile_counts(
        np.stack([dense(ours, FIRST, BINS)] * 2),
        np.stack([dense(theirs, FIRST, BINS)] * 2),
        FIRST,
        0.95,
        Limit(1.25, 0.002),
    )
    assert wide.within == pytest.approx([float(alone.within)] * 2, abs=1e-9)
    assert wide.worse == pytest.approx([float(alone.worse)] * 2, abs=1e-9)


def test_a_small_increase_in_milliseconds_never_counts(rng: np.random.Generator) -> None:
    ours, theirs = (
        counts_of(rng.lognormal(math.log(0.006), 0.2, 2000)),
        counts_of(rng.lognormal(math.log(0.002), 0.2, 2000)),
    )
    assert float(compare_quantiles(ours, theirs, 0.5, Limit(1.25)).worse) > 10
    assert float(compare_quantiles(ours, theirs, 0.5, Limit(1.25, 0.05)).within) > 10


def test_the_limits_of_a_quantile_hold_it_and_its_outlook_is_finite(rng: np.random.Generator) -> None:
    values = rng.lognormal(math.log(0.010), 0.4, 3000)
    counts = counts_of(values)
    for quantile in (0.5, 0.95, 0.99):
        low, high = quantile_limits(counts, quantile, 0.01, 0.01)
        assert low <= 1000 * 0.010 * math.exp(0.4 * {0.5: 0, 0.95: 1.645, 0.99: 2.326}[quantile]) <= high
    assert quantile_limits(LatencyCounts(), 0.5, 0.01, 0.01) == (0.0, math.inf)
    few = counts_of(values[:200])
    more = needed_for_quantile(few, counts, 0.95, Limit(1.25), 0.01)
    assert more is not None
    assert 100 < more < 20_000
    assert smallest_seen_ratio(counts, 2000, 0.95, Limit(1.25), 0.001) in (1.5, 2.0)
    assert smallest_seen_ratio(LatencyCounts(), 2000, 0.95, Limit(1.25), 0.001) is None


def test_nothing_is_known_without_both_arms(rng: np.random.Generator) -> None:
    some = counts_of(rng.lognormal(-4.5, 0.4, 100))
    for ours, theirs in [(LatencyCounts(), some), (some, LatencyCounts())]:
        found = compare_quantiles(ours, theirs, 0.5, Limit(1.25))
        assert (float(found.worse), float(found.within)) == (0.0, 0.0)


def test_histograms_add_and_subtract_exactly() -> None:
    a, b = LatencyCounts.of({3: 2, 5: 1}), LatencyCounts.of({-1: 4, 4: 1})
    assert a.plus(b) == LatencyCounts(-1, (4, 0, 0, 0, 2, 1, 1))
    assert a.plus(b).plus(a, -1).n == b.n
    assert LatencyCounts().plus(a, -1) == LatencyCounts(3, (-2, 0, -1))
    assert LatencyCounts().quantile_ms(0.5) is None
    assert latency_bin(0.0) == latency_bin(1e-9)
    assert latency_bin(1e9) == latency_bin(1e12)
