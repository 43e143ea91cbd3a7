"""Do a candidate's latencies exceed the limit more often than the champion's exceed their own quantile, just now?

For a detector that restarts (`detector`), which needs evidence look by look, each look's from the latencies of that
look alone. Before a look, the champion's quantile at level p is read from its latencies of the step so far: x, an edge
of the grid. In the look, k of n latencies of the candidate are over limit(x), and k0 of n0 of the champion over x. With
q and q0 the probabilities of both,

    E = (a / m)^k ((1 - a) / (1 - m))^(n - k) (b / m)^k0 ((1 - b) / (1 - m))^(n0 - k0),

b = 1 - p, a > b with `odds` times the odds of b, and m = (n a + n0 b) / (n + n0), has mean at most 1 whenever q <= q0:
an outcome of the candidate has mean 1 + (q - m) (a - m) / (m (1 - m)), one of the champion 1 + (q0 - m) (b - m) /
(m (1 - m)); the first grows with q, so q = q0 is the worst case, where the logarithm of the product is at most the sum
of the second terms, which is 0 by the choice of m. This is the e-variable of Turner, Ly, Grünwald (2024), "Generic
e-variables for exact sequential k-sample tests that allow for optional stopping", for one block of two samples.

Assumption: given the past and how many latencies are counted, those of one look are independent, and the candidate
exceeds limit(x) no more often than the champion exceeds x. That is implied by "the candidate's latency, made shorter by
the limit, is stochastically at most the champion's", and follows the champion: what makes both slow, at any time, is no
evidence. Both rates may change from look to look. Latencies that depend on each other break it (see `serve.units`).
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairlead.deploy.statistics.alternatives import Floats
from fairlead.deploy.statistics.quantiles import Limit
from fairlead.records.evidence import LATENCY_BINS_PER_E

Ints = NDArray[np.int64]

ODDS = 3.0
"""The odds of an exceedance that a detector looks for are this many times those of a champion's."""
LEAST_BEYOND = 10
"""A champion's quantile is read once this many of its latencies are expected beyond it."""


def thresholds(champion: Ints, first: int, quantile: float, limit: Limit) -> tuple[Ints, Ints]:
    """For histograms [..., bins] from bin `first` on: the bin from which latencies are over the champion's quantile,
    and the one from which they are surely over its limit. Both lie beyond every bin where there are too few."""
    below = np.cumsum(champion, axis=-1)
    n = below[..., -1]
    at = np.asarray((below >= quantile * n[..., None]).argmax(axis=-1)) + 1
    over = _over(first, champion.shape[-1], limit)[at - 1]
    few = n * (1 - quantile) < LEAST_BEYOND
    never = np.iinfo(np.int32).max
    return np.where(few, never, first + at), np.where(few, never, over)


def _over(first: int, bins: int, limit: Limit) -> Ints:
    """For each bin, the first one that lies over the limit of its upper edge."""
    edges = [limit.of(math.exp((first + index + 1) / LATENCY_BINS_PER_E)) for index in range(bins)]
    out: Ints = np.ceil(LATENCY_BINS_PER_E * np.log(np.array(edges)) - 1e-9).astype(np.int64)
    return out


def number_from(counts: Ints, first: int, start: Ints) -> Ints:
    """How many of histograms [..., bins] lie in bins from `start` on."""
    bins = counts.shape[-1]
    padded = np.concatenate([np.zeros((*counts.shape[:-1], 1), dtype=np.int64), np.cumsum(counts, axis=-1)], axis=-1)
    place = np.clip(start - first, 0, bins)
    return np.asarray(padded[..., -1] - np.take_along_axis(padded, place[..., None], axis=-1)[..., 0])


def log_evidence(
    over: ArrayLike, n: ArrayLike, over0: ArrayLike, n0: ArrayLike, quantile: float, odds: float = ODDS
) -> Floats:
    """log of the evidence that `over` of `n` latencies over the limit are more than the champion's `over0` of `n0` over
    its quantile explain. Numbers or arrays; 0 where either arm has none."""
    k, count, k0, count0 = (np.asarray(value, dtype=np.float64) for value in (over, n, over0, n0))
    usual = 1 - quantile
    more = odds * usual / (1 - usual + odds * usual)
    total = np.maximum(count + count0, 1.0)
    middle = np.where(count + count0 > 0, (count * more + count0 * usual) / total, usual)
    ours = k * np.log(more / middle) + (count - k) * np.log((1 - more) / (1 - middle))
    theirs = k0 * np.log(usual / middle) + (count0 - k0) * np.log((1 - usual) / (1 - middle))
    return np.asarray(np.where((count > 0) & (count0 > 0), ours + theirs, 0.0), dtype=np.float64)
