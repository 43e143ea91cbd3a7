"""Error rates under continuous looks, by seeded simulation; formulas against independent computations."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import betaln

from fairlead.deploy.statistics import means, rates
from fairlead.deploy.statistics.budget import SLOW_METRICS, Budget
from fairlead.deploy.statistics.search import first_that
from fairlead.deploy.statistics.sprt import Sprt
from fairlead.records.evidence import RunningMean, RunningRate, Verdict

RUNS = 20_000


def failures(rate: float, runs: int, length: int, seed: int) -> np.ndarray:
    """Running counts of failures [runs, length]."""
    return np.cumsum(
        np.random.default_rng(seed).random((runs, length), dtype=np.float32) < rate, axis=1, dtype=np.int32
    )


def slack(bound: float, runs: int) -> float:
    """The bound plus four standard errors of a share of `runs`."""
    return bound + 4 * math.sqrt(bound * (1 - bound) / runs)


def log_ratios(test: Sprt, counts: np.ndarray) -> np.ndarray:
    n = np.arange(1, counts.shape[1] + 1)
    return counts * test.per_failure + (n - counts) * test.per_success


# --- SPRT ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("true_rate", "aborted", "median", "p99"),
    [(1.0, 1.0, 3, 3), (0.5, 1.0, 7, 17), (0.1, 0.999, 37, 116), (0.05, 0.949, 88, 335), (0.005, 0.0002, None, None)],
)
def test_the_sequential_test_aborts_as_fast_as_its_published_table(true_rate, aborted, median, p99) -> None:
    test = Sprt(healthy=0.005, bad=0.05, alpha=0.001, beta=0.05)
    ratios = log_ratios(test, failures(true_rate, RUNS, 1200, seed=11))
    crossed = (ratios >= test.upper - 1e-9) | (ratios <= test.lower)
    first = crossed.argmax(axis=1)
    assert crossed.any(axis=1).all(), "1,200 calls decide"
    bad = ratios[np.arange(RUNS), first] > 0
    assert bad.mean() == pytest.approx(aborted, abs=0.006)
    if median is not None:
        calls = first[bad] + 1
        assert np.median(calls) == pytest.approx(median, rel=0.1)
        assert np.quantile(calls, 0.99) == pytest.approx(p99, rel=0.12)
    else:
        assert (first[~bad] + 1).min() == 65, "65 calls without a failure pass"


def test_the_sequential_test_keeps_both_error_rates_when_looked_at_after_every_call() -> None:
    test = Sprt(healthy=0.02, bad=0.1, alpha=0.05, beta=0.05)
    healthy = log_ratios(test, failures(0.02, RUNS, 1000, seed=12))
    bad = log_ratios(test, failures(0.1, RUNS, 1000, seed=13))
    false_fail = (healthy.max(axis=1) >= test.upper).mean()
    false_pass = (bad.min(axis=1) <= test.lower).mean()
    assert 0.005 < false_fail <= slack(0.05 / 0.95, RUNS)
    assert 0.005 < false_pass <= slack(0.05 / 0.95, RUNS)


def test_the_verdict_follows_the_counts_alone() -> None:
    test = Sprt(healthy=0.005, bad=0.05, alpha=0.001, beta=0.05)
    assert test.verdict(0, 0) is Verdict.NOT_ENOUGH_EVIDENCE
    assert test.verdict(3, 3) is Verdict.FAIL
    assert test.verdict(65, 0) is Verdict.PASS
    assert test.needed(0, 0) == 65
    assert test.needed(65, 0) == 0
    assert test.needed(10, 5) is None, "at half the calls failing, PASS never comes"


@pytest.mark.parametrize("values", [(0.05, 0.005, 0.01, 0.01), (0.0, 0.1, 0.01, 0.01), (0.01, 0.1, 0.6, 0.6)])
def test_a_test_that_makes_no_sense_is_refused(values: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="need"):
        Sprt(*values)


# --- rates -----------------------------------------------------------------------------------------------------------
def test_the_martingale_is_the_ratio_of_two_beta_functions() -> None:
    mixture = rates.Mixture.around(0.02)
    for n, events, rate in [(1, 0, 0.5), (1204, 0, 0.006), (5000, 80, 0.02), (10**6, 20_000, 0.0201)]:
        expected = (
            betaln(mixture.a + events, mixture.b + n - events)
            - betaln(mixture.a, mixture.b)
            - events * math.log(rate)
            - (n - events) * math.log1p(-rate)
        )
        assert rates.log_martingale(n, events, rate, mixture) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("rate", [0.001, 0.02, 0.15, 0.5])
def test_a_rate_stays_inside_its_sequence_at_all_looks(rate: float) -> None:
    alpha, runs, length = 0.05, 4000, 4000
    mixture = rates.Mixture.around(0.02)
    counts = failures(rate, runs, length, seed=14)
    n = np.arange(1, length + 1)
    log_m = (
        betaln(mixture.a + counts, mixture.b + n - counts)
        - betaln(mixture.a, mixture.b)
        - counts * math.log(rate)
        - (n - counts) * math.log1p(-rate)
    )
    missed = (log_m >= -math.log(alpha)).any(axis=1).mean()
    assert missed <= slack(alpha, runs)
    assert missed > alpha / 20, "a sequence that never misses is wider than it has to be"


def test_the_limits_are_where_the_martingale_crosses() -> None:
    mixture = rates.Mixture.around(0.05)
    for n, events in [(10, 0), (10, 10), (300, 3), (2000, 300), (10**6, 77)]:
        low, high = rates.lower_limit(n, events, 0.01, mixture), rates.upper_limit(n, events, 0.01, mixture)
        assert 0 <= low <= events / n <= high <= 1
        for limit in (low, high):
            if 0 < limit < 1:
                assert rates.log_martingale(n, events, limit, mixture) == pytest.approx(math.log(100), abs=1e-3)
        assert rates.is_below(n, events, min(1.0, high + 1e-9), 0.01, mixture) == (high < 1)


def test_without_a_request_nothing_is_known() -> None:
    mixture = rates.Mixture.around(0.05)
    assert rates.lower_limit(0, 0, 0.01, mixture) == 0
    assert rates.upper_limit(0, 0, 0.01, mixture) == 1
    assert not rates.is_below(0, 0, 0.5, 0.01, mixture)


@pytest.mark.parametrize(("candidate", "champion", "what"), [(0.07, 0.05, "promoted"), (0.069, 0.05, "rolled back")])
def test_the_difference_of_two_rates_is_wrong_at_most_as_often_as_budgeted(candidate, champion, what) -> None:
    """At (just beyond, just within) the margin of 2 % a PASS (a FAIL) at any of 40 looks is an error."""
    alpha, margin, runs, length = 0.1, 0.02, 400, 8000
    looks = np.unique(np.geomspace(50, length, 40).astype(int))
    mixture = rates.Mixture.around(margin)
    ours, theirs = failures(candidate, runs, length, seed=15), failures(champion, runs, length, seed=16)
    wrong = 0
    for run in range(runs):
        for n in looks:
            found = rates.difference(
                RunningRate(int(n), int(ours[run, n - 1])),
                RunningRate(int(n), int(theirs[run, n - 1])),
                alpha_low=alpha,
                alpha_high=alpha,
                mixture=mixture,
            )
            if found.high <= margin if what == "promoted" else found.low > margin:
                wrong += 1
                break
    assert wrong / runs <= slack(alpha, runs)


def test_the_difference_finds_a_real_increase() -> None:
    found = rates.difference(
        RunningRate(2000, 160),
        RunningRate(8000, 40),
        alpha_low=0.001,
        alpha_high=0.01,
        mixture=rates.Mixture.around(0.02),
    )
    assert found.low > 0.02
    assert found.observed == pytest.approx(0.075)


@pytest.mark.parametrize(("rate", "bound"), [(0.0, 0.02), (0.005, 0.02), (0.02, 0.05)])
def test_the_estimate_of_needed_requests_is_what_it_takes_at_that_rate(rate: float, bound: float) -> None:
    mixture = rates.Mixture.around(bound)
    n = 400
    more = rates.needed_below(n, round(rate * n), bound, 0.005, mixture)
    assert more is not None
    after = n + more
    assert rates.upper_limit(after, round(rate * after), 0.005, mixture) <= bound * 1.1
    if more > 50:
        assert rates.upper_limit(n, round(rate * n), 0.005, mixture) > bound


def test_no_estimate_is_given_for_a_rate_above_the_bound() -> None:
    assert rates.needed_below(1000, 100, 0.05, 0.01, rates.Mixture.around(0.05)) is None


# --- means -----------------------------------------------------------------------------------------------------------
def test_the_supermartingale_is_the_mixture_that_it_claims_to_be() -> None:
    sequence = means.MeanSequence(alpha=0.01, width=2.0, reference=500)
    c, r = 2.0, sequence.rho / 4.0

    def density(rate: float) -> float:
        return (1 - c * rate) ** (r - 1) * math.exp(r * c * rate)

    total = quad(density, 0, 1 / c, limit=200)[0]
    for deviation, variance in [(0.0, 1.0), (5.0, 3.0), (20.0, 10.0), (3.0, 40.0)]:

        def mixed(rate: float, s: float = deviation, v: float = variance) -> float:
            psi = (-math.log1p(-c * rate) - c * rate) / c**2
            return math.exp(rate * s - psi * v) * density(rate)

        expected = math.log(quad(mixed, 0, 1 / c, limit=200)[0] / total)
        assert sequence.log_supermartingale(deviation, variance) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def draw(kind: str, rng: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, float]:
    if kind == "rare":
        return (rng.random(shape) < 0.02).astype(float), 0.02
    if kind == "coin":
        return (rng.random(shape) < 0.5).astype(float), 0.5
    if kind == "uniform":
        return rng.random(shape), 0.5
    return rng.beta(1, 25, shape), 1 / 26


@pytest.mark.parametrize("kind", ["rare", "coin", "uniform", "scores"])
def test_a_mean_stays_inside_its_sequence_at_all_looks(kind: str) -> None:
    alpha, runs, length = 0.05, 500, 3000
    values, mean = draw(kind, np.random.default_rng(17), (runs, length))
    n = np.arange(1, length + 1)
    totals = np.cumsum(values, axis=1)
    predicted = np.concatenate([np.full((runs, 1), 0.5), totals[:, :-1] / n[:-1]], axis=1)
    variance = np.cumsum((values - predicted) ** 2, axis=1)
    sequence = means.MeanSequence(alpha, 1.0, reference=1000)
    looks = np.unique(np.geomspace(1, length, 80).astype(int)) - 1
    for sign in (1, -1):
        deviation = sign * (totals - n * mean)
        missed = sum(any(sequence.excludes(deviation[run, i], variance[run, i]) for i in looks) for run in range(runs))
        assert missed / runs <= slack(alpha, runs)


def test_the_running_sums_are_the_ones_that_the_theorem_needs() -> None:
    values = np.random.default_rng(18).beta(1, 25, 500)
    running = RunningMean()
    running.add(values.tolist())
    before = np.concatenate([[0.5], np.cumsum(values)[:-1] / np.arange(1, 500)])
    assert running.variance_process == pytest.approx(((values - before) ** 2).sum())
    assert running.mean == pytest.approx(values.mean())


def test_a_mean_is_known_to_a_useful_width_after_2000_pairs() -> None:
    running = RunningMean()
    running.add(np.random.default_rng(19).beta(1, 25, 2000).tolist())
    low, high = means.lower_mean(running, 0.001, 2000), means.upper_mean(running, 0.01, 2000)
    assert low < running.mean < high
    assert high - low < 0.015
    assert high < 0.05


def test_a_mean_of_nothing_is_anything() -> None:
    assert means.upper_mean(RunningMean(low=-1.0), 0.01, 100) == 1.0
    assert means.lower_mean(RunningMean(low=-1.0), 0.01, 100) == -1.0
    assert means.needed_mean_below(RunningMean(), 0.1, 0.01, 100) is None


def test_the_estimate_of_needed_values_is_what_it_takes() -> None:
    running = RunningMean(n=200, total=200 * 0.03, variance_process=200 * 0.001)
    more = means.needed_mean_below(running, 0.05, 0.01, 2000)
    assert more is not None
    n = 200 + more
    later = RunningMean(n=n, total=n * 0.03, variance_process=n * 0.001)
    assert means.upper_mean(later, 0.01, 2000) <= 0.05 * 1.01
    assert means.upper_mean(running, 0.01, 2000) > 0.05


# --- budget and search -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("steps", [1, 2, 4, 8])
@pytest.mark.parametrize("shadow", [True, False])
@pytest.mark.parametrize("watch", [True, False])
def test_all_chances_of_a_false_rollback_together_are_the_budget(steps: int, shadow: bool, watch: bool) -> None:
    budget = Budget(error_budget=0.01, abort_error=0.0075, steps=steps, shadow=shadow, watch=watch)
    assert budget.spent_on_rollback() == pytest.approx(0.01)
    assert budget.promotion == 0.01
    assert all(budget.rollback(metric) > 0 for metric in SLOW_METRICS)
    assert budget.failures("live") >= 0.005


def test_the_search_finds_the_first_number_within_two_percent() -> None:
    for first in (0, 1, 2, 77, 12_345):
        found = first_that(lambda more, first=first: more >= first)
        assert found is not None
        assert first <= found <= first * 1.02 + 1
    assert first_that(lambda more: False, limit=1000) is None
