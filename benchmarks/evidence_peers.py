"""What rollout controllers do with the same candidates: their rules as documented, played on drawn requests.

Sources: Flagger's example Canary (README, and docs.flagger.app): interval 1m, stepWeight 5, maxWeight 50,
threshold 10, request-success-rate >= 99 over 1m; a failed check holds the weight and counts, the count is never reset,
and a check without a value counts as failed. Argo Rollouts' "Background Analysis" (docs, features/analysis): steps of
20, 40, 60 and 80 % for 10 minutes each, success rate >= 0.95 measured every 5 minutes, failureLimit 3 (more than 3
failed measurements abort). Both get the benefit of the doubt: their query sees the candidate's requests only.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Measure = Callable[[np.random.Generator, int, int], Floats]
"""(rng, runs, requests) -> how bad the candidate was in so many requests, for each run: a share, or a mean."""
UNDECIDED, PROMOTED, ROLLED_BACK = 0, 1, 2


@dataclass(slots=True)
class Ends:
    """How simulated rollouts ended: outcome, candidate requests until then, bad answers that users got."""

    outcome: Counts
    requests: Counts
    bad: Floats


def flagger(rng: np.random.Generator, runs: int, per_minute: float, measure: Measure, most: float) -> Ends:
    """A check a minute; ten failed ones roll back."""
    ends = _nothing(runs)
    weight, failed, open_ = np.full(runs, 5), np.zeros(runs, dtype=int), np.ones(runs, dtype=bool)
    while open_.any():
        for share in np.unique(weight[open_]):
            here = np.flatnonzero(open_ & (weight == share))
            number = round(per_minute * share / 100)
            value = measure(rng, len(here), number)
            ends.requests[here] += number
            ends.bad[here] += value * number
            good = (value <= most + 1e-12) & (number > 0)
            failed[here] += ~good
            done = here[good & (share >= 50)]
            ends.outcome[done], open_[done] = PROMOTED, False
            weight[here[good & (share < 50)]] += 5
            given_up = here[failed[here] >= 10]
            ends.outcome[given_up], open_[given_up] = ROLLED_BACK, False
    return ends


def argo(rng: np.random.Generator, runs: int, per_minute: float, measure: Measure, most: float) -> Ends:
    """Two measurements in each of four steps; the fourth failed one aborts."""
    ends = _nothing(runs)
    failed, open_ = np.zeros(runs, dtype=int), np.ones(runs, dtype=bool)
    for share in (20, 20, 40, 40, 60, 60, 80, 80):
        here = np.flatnonzero(open_)
        number = round(5 * per_minute * share / 100)
        value = measure(rng, len(here), number)
        ends.requests[here] += number
        ends.bad[here] += value * number
        failed[here] += value > most + 1e-12
        aborted = here[failed[here] > 3]
        ends.outcome[aborted], open_[aborted] = ROLLED_BACK, False
    ends.outcome[open_] = PROMOTED
    return ends


def peeked_rates(
    rng: np.random.Generator, runs: int, rate: float, champion: float, alpha: float, horizon: int, ratio: int = 9
) -> Ends:
    """A one-sided two-proportion z-test for a fixed number of requests, looked at after each one from the 30th on:
    significantly worse rolls back at once, the end promotes."""
    ends, open_ = _nothing(runs), np.arange(runs)
    hits, hits0 = np.zeros(runs, dtype=int), np.zeros(runs, dtype=int)
    limit = _z(alpha)
    for n in range(1, horizon + 1):
        hits[open_] += rng.random(len(open_)) < rate
        hits0[open_] += rng.binomial(ratio, champion, len(open_))
        if n < 30:
            continue
        share, share0 = hits[open_] / n, hits0[open_] / (ratio * n)
        pooled = (hits[open_] + hits0[open_]) / (n * (1 + ratio))
        error = np.sqrt(np.maximum(pooled * (1 - pooled), 1e-12) * (1 / n + 1 / (ratio * n)))
        worse = (share - share0) / error > limit
        _end(ends, open_[worse], ROLLED_BACK, n, hits)
        open_ = open_[~worse]
    _end(ends, open_, PROMOTED, horizon, hits)
    return ends


def peeked_means(rng: np.random.Generator, runs: int, mean: float, spread: float, alpha: float, horizon: int) -> Ends:
    """A one-sided z-test of "the mean difference is above 0", looked at after each pair from the 30th on."""
    ends, open_ = _nothing(runs), np.arange(runs)
    total, limit = np.zeros(runs), _z(alpha) * spread
    for n in range(1, horizon + 1):
        total[open_] += rng.normal(mean, spread, len(open_))
        if n >= 30:
            worse = total[open_] / math.sqrt(n) > limit
            _end(ends, open_[worse], ROLLED_BACK, n, np.zeros(runs))
            open_ = open_[~worse]
    _end(ends, open_, PROMOTED, horizon, np.zeros(runs))
    return ends


def shares(rate: float) -> Measure:
    """Events at a rate."""

    def measure(rng: np.random.Generator, runs: int, number: int) -> Floats:
        return rng.binomial(number, rate, runs) / max(number, 1)

    return measure


def means(mean: float, spread: float) -> Measure:
    """The mean of so many values."""

    def measure(rng: np.random.Generator, runs: int, number: int) -> Floats:
        return rng.normal(mean, spread / math.sqrt(max(number, 1)), runs)

    return measure


def _z(alpha: float) -> float:
    from scipy.stats import norm

    return float(norm.isf(alpha))


def _nothing(runs: int) -> Ends:
    return Ends(np.zeros(runs, dtype=int), np.zeros(runs, dtype=int), np.zeros(runs))


def _end(ends: Ends, runs: Counts, outcome: int, n: int, bad: npt.NDArray[np.generic]) -> None:
    ends.outcome[runs], ends.requests[runs], ends.bad[runs] = outcome, n, bad[runs]
