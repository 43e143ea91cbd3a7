"""Sequential comparison of one quantile of two streams of latencies, from two histograms on a fixed grid.

The question. With Q the quantile at level p, is Q(candidate) <= limit(Q(champion)), where limit is an increasing
function such as x -> max(1.25 x, x + 50 ms)?

Assumption: given the past, a champion's latency is at most x0 = Q(champion) with probability p, and a candidate's is at
most limit(x0) with one fixed probability (at least p when the candidate is good, below p when it is not). So latencies
that depend on each other over time break it; how far apart they must be taken is the caller's rule (serve.units).

The test. x0 is unknown, so each cell of the grid that may hold it is tested, and only all of them together count. For
x0 in the cell [a, b):

- the champion's number of latencies below x0 is between those below a and those below b: evidence against "the rate of
  latencies below x0 is p", at its worst case in between;
- the candidate's number below limit(x0) is at most that below the first edge at or above limit(b) (for a FAIL), at
  least that below the last edge at or below limit(a) (for a PASS): one-sided evidence at the worst case.

The product of the two is a lower bound of a supermartingale for the true x0, so the smallest product over all cells is
one for every pair of distributions under the null, and reaches 1 / alpha with probability at most alpha at any look.
Source: Howard, Ramdas (2022), "Sequential estimation of quantiles with applications to A/B testing and best-arm
identification", section 3: for a fixed quantile, the indicators 1(X <= Q) are Bernoulli(p), so every time-uniform
bound for coin tosses gives one for the quantile. Two streams by the product over an unknown nuisance value: own
combination. The grid costs power (one cell on each side, 5 % of the latency), never validity.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairlead.deploy.statistics.alternatives import (
    Floats,
    log_evidence_above,
    log_evidence_against,
    log_evidence_below,
)
from fairlead.records.evidence import LATENCY_BINS_PER_E, LatencyCounts

_GROWING = 1.0
_FAR = 60.0
"""Cells against which the champion alone has this much log evidence cannot be the worst ones."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What a candidate's latency may be where the champion's is x: the larger of `ratio` x and x + `extra_seconds`."""

    ratio: float = 1.0
    extra_seconds: float = 0.0

    def of(self, seconds: float) -> float:
        """The limit at a champion's latency."""
        return max(self.ratio * seconds, seconds + self.extra_seconds)


@dataclass(frozen=True, slots=True)
class QuantileEvidence:
    """log evidence that the candidate is over the limit (`worse`) and that it is within (`within`); decisive from
    log(1 / alpha). Arrays over rollouts, or numbers."""

    worse: Floats
    within: Floats


@functools.lru_cache(maxsize=256)  # one look asks for the same several times
def compare_quantiles(
    candidate: LatencyCounts, champion: LatencyCounts, quantile: float, limit: Limit
) -> QuantileEvidence:
    """The evidence on Q(candidate) <= limit(Q(champion)) at `quantile`."""
    if not candidate.n or not champion.n:
        return QuantileEvidence(np.float64(0.0), np.float64(0.0))  # type: ignore[arg-type]
    first = min(candidate.first, champion.first)
    size = max(candidate.first + len(candidate.counts), champion.first + len(champion.counts)) - first
    return compare_quantile_counts(dense(candidate, first, size), dense(champion, first, size), first, quantile, limit)


def dense(counts: LatencyCounts, first: int, size: int) -> NDArray[np.int64]:
    """Counts as an array of `size` bins from bin `first` on."""
    values = np.zeros(size, dtype=np.int64)
    at = counts.first - first
    values[at : at + len(counts.counts)] = counts.counts
    return values


def compare_quantile_counts(
    candidate: NDArray[np.int64], champion: NDArray[np.int64], first: int, quantile: float, limit: Limit
) -> QuantileEvidence:
    """The same for counts [..., bins] from bin `first` on: whole arrays of rollouts at once."""
    bins = champion.shape[-1]
    below_candidate, below_champion = _below(candidate), _below(champion)  # [..., bins + 1] at the edges
    num_candidate, num_champion = below_candidate[..., -1:], below_champion[..., -1:]
    # Cells by their lower edge, with one before the first edge and one after the last.
    at_least = np.concatenate([np.zeros_like(num_champion), below_champion], axis=-1)
    at_most = np.concatenate([below_champion, num_champion], axis=-1)
    near = _near(num_champion, at_least, at_most, quantile)
    low, high = _limit_edges(first, bins, limit)
    cells = np.flatnonzero(near.reshape(-1, bins + 2).any(axis=0))
    if cells.size == 0:  # cannot be: the cell of the observed quantile is always near
        raise ValueError("no cell of the grid can hold the quantile")
    padded = np.concatenate([np.zeros_like(num_candidate), below_candidate, num_candidate], axis=-1)
    against = log_evidence_against(num_champion, at_least[..., cells], at_most[..., cells], quantile)
    worse = against + log_evidence_below(num_candidate, padded[..., high[cells]], quantile)
    within = against + log_evidence_above(num_candidate, padded[..., low[cells]], quantile)
    nothing = (num_candidate[..., 0] == 0) | (num_champion[..., 0] == 0)
    return QuantileEvidence(np.where(nothing, 0.0, worse.min(axis=-1)), np.where(nothing, 0.0, within.min(axis=-1)))


def _below(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many lie below each edge: [..., bins] -> [..., bins + 1]."""
    zero = np.zeros((*counts.shape[:-1], 1), dtype=np.int64)
    return np.concatenate([zero, np.cumsum(counts, axis=-1)], axis=-1)


def _near(
    n: NDArray[np.int64], at_least: NDArray[np.int64], at_most: NDArray[np.int64], quantile: float
) -> NDArray[np.bool_]:
    """Cells that may be the worst one: others have far more evidence against them than any decision takes."""
    safe = np.maximum(n, 1)
    share = np.clip(np.where(at_least > quantile * safe, at_least, at_most) / safe, 1e-12, 1 - 1e-12)
    divergence = share * np.log(share / quantile) + (1 - share) * np.log((1 - share) / (1 - quantile))
    outside = (at_least > quantile * safe) | (at_most < quantile * safe)
    return np.asarray(~outside | (n * divergence < _FAR), dtype=np.bool_)


@functools.lru_cache(maxsize=256)
def _limit_edges(first: int, bins: int, limit: Limit) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each cell, where in the padded counts the candidate's latencies below limit(lower edge), rounded down, and
    below limit(upper edge), rounded up, are found."""
    low, high = np.zeros(bins + 2, dtype=np.int64), np.full(bins + 2, bins + 2, dtype=np.int64)
    for edge in range(bins + 1):
        at = LATENCY_BINS_PER_E * math.log(limit.of(math.exp((first + edge) / LATENCY_BINS_PER_E))) - first
        # The cell above this edge starts here, the cell below it ends here; 0 in the padded counts means "none".
        low[edge + 1] = min(max(math.floor(at + 1e-9) + 1, 0), bins + 1)
        high[edge] = min(max(math.ceil(at - 1e-9) + 1, 0), bins + 2)
    return low, high


@functools.lru_cache(maxsize=256)
def quantile_limits(counts: LatencyCounts, quantile: float, alpha_low: float, alpha_high: float) -> tuple[float, float]:
    """Limits of one stream's quantile in milliseconds: it is at least the first and at most the second at all looks at
    once, with probability at least 1 - `alpha_low` and 1 - `alpha_high`; 0 and infinity where nothing is known."""
    n = counts.n
    if not n:
        return 0.0, math.inf
    below = _below(np.asarray(counts.counts, dtype=np.int64))
    # An edge x is excluded from below when too few lie below it: then Q > x; from above when too many: then Q < x.
    too_few = log_evidence_below(n, below, quantile) >= -math.log(alpha_low)
    too_many = log_evidence_above(n, below, quantile) >= -math.log(alpha_high)
    low = _edge_ms(counts, int(np.flatnonzero(too_few)[-1])) if too_few.any() else 0.0
    high = _edge_ms(counts, int(np.flatnonzero(too_many)[0])) if too_many.any() else math.inf
    return low, high


def _edge_ms(counts: LatencyCounts, index: int) -> float:
    return 1000.0 * math.exp((counts.first + index) / LATENCY_BINS_PER_E)


def needed_for_quantile(
    candidate: LatencyCounts, champion: LatencyCounts, quantile: float, limit: Limit, alpha: float
) -> int | None:
    """How many more of the candidate's latencies until it is known to be within the limit, when both histograms grow as
    they are; None when that never comes."""
    n = candidate.n
    if not n or not champion.n:
        return None
    bound = -math.log(alpha)
    # Evidence grows in proportion to what is counted, once it grows; before, ten times as much shows whether it will.
    factor, evidence = 1.0, float(compare_quantiles(candidate, champion, quantile, limit).within)
    if evidence < _GROWING:
        factor = 10.0
        more = compare_quantiles(_times(candidate, factor), _times(champion, factor), quantile, limit)
        evidence = float(more.within)
    return max(0, math.ceil(n * (factor * bound / evidence - 1))) if evidence >= _GROWING else None


def _times(counts: LatencyCounts, factor: float) -> LatencyCounts:
    return LatencyCounts(counts.first, tuple(round(factor * count) for count in counts.counts))


def smallest_seen_ratio(
    champion: LatencyCounts, num_candidate: int, quantile: float, limit: Limit, alpha: float,
    ratios: Sequence[float] = (1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0),
) -> float | None:  # fmt: skip
    """The smallest of `ratios` by which a candidate's latencies may be the champion's and be found over the limit after
    `num_candidate` of them; None when not even the largest would be."""
    n = champion.n
    if not n or num_candidate <= 0:
        return None
    for ratio in ratios:
        shifted = LatencyCounts(champion.first + round(LATENCY_BINS_PER_E * math.log(ratio)), champion.counts)
        slower = _times(shifted, num_candidate / n)
        if float(compare_quantiles(slower, champion, quantile, limit).worse) >= -math.log(alpha):
            return ratio
    return None
