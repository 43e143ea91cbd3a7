"""Latencies of many rollouts at once: drawn into the histograms that the policy reads, and judged by its quantiles.

Simulated latencies are log-normal, on every `STEP`-th bin of the grid of `LatencyCounts` (some 10 % apart), and each is
independent of the others. A quantile's test looks at every cell that may hold the champion's quantile, and its evidence
is the smallest over all cells: one cell alone gives an upper bound of it, so only where that bound could decide is the
whole test computed. Nothing is left out by that.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from fairlead.deploy.rehearsal.arrays import Counts, Flags, Floats
from fairlead.deploy.rollout.latency import is_required, latency_limit, quantile_metric
from fairlead.deploy.rollout.plan import budget_of
from fairlead.deploy.statistics.alternatives import log_evidence_above, log_evidence_below
from fairlead.deploy.statistics.quantiles import Limit, QuantileEvidence, compare_quantile_counts
from fairlead.records.evidence import LATENCY_BINS_PER_E
from fairlead.records.rollout import RolloutPlan

Places = tuple[Counts, ...]

STEP = 4
"""Bins between two simulated latencies."""
_WIDE = 2.6
_AT_ONCE = 4
"""Looks of a rollout for which the whole test is computed together."""


@dataclass(frozen=True, slots=True)
class Histograms:
    """Counts from bin `first` on, [runs, looks, bins], of the candidate and of the champion."""

    first: int
    candidate: Counts
    champion: Counts


class LatencyDraws:
    """Draws one stage's histograms, block of looks by block."""

    def __init__(self, runs: int, median_ms: float, spread: float, slowest: float, rng: np.random.Generator) -> None:
        """`slowest`: the largest factor by which the candidate may be slower."""
        self._rng = rng
        middle, width = LATENCY_BINS_PER_E * math.log(median_ms / 1000), LATENCY_BINS_PER_E * spread
        atoms = np.arange(math.floor(middle - _WIDE * width), math.ceil(middle + _WIDE * width) + 1, STEP)
        shares = norm.cdf((atoms + STEP - middle) / width) - norm.cdf((atoms - middle) / width)
        self.first = int(atoms[0])
        self._chances = shares / shares.sum()
        self._places = atoms - self.first
        self._bins = int(self._places[-1]) + 1 + _shift(np.array(slowest)).item()
        self._candidate = np.zeros((runs, self._bins), dtype=np.int64)
        self._champion = np.zeros((runs, self._bins), dtype=np.int64)

    def block(self, live: Counts, champion: Counts, factor: Floats, share: float) -> Histograms:
        """The histograms after each look, when `live` and `champion` requests arrive between looks [looks], and `share`
        of the candidate's are `factor` [runs, looks] times as slow as the champion's."""
        shape = factor.shape
        slowed = self._rng.binomial(np.broadcast_to(live, shape), share)
        moved = self._drawn(slowed, _shift(factor)) + self._drawn(live - slowed, np.zeros(shape, dtype=np.int64))
        mine = self._candidate[:, None] + np.cumsum(moved, axis=1)
        usual = self._drawn(np.broadcast_to(champion, shape), np.zeros(shape, dtype=np.int64))
        theirs = self._champion[:, None] + np.cumsum(usual, axis=1)
        self._candidate, self._champion = mine[:, -1].copy(), theirs[:, -1].copy()
        return Histograms(self.first, mine, theirs)

    def _drawn(self, number: Counts, shift: Counts) -> Counts:
        out = np.zeros((*number.shape, self._bins), dtype=np.int64)
        if not number.any():
            return out
        atoms = self._rng.multinomial(number, self._chances)
        runs, looks = np.indices(number.shape)
        for index, place in enumerate(self._places.tolist()):
            out[runs, looks, place + shift] += atoms[..., index]
        return out


def _shift(factor: Floats) -> Counts:
    out: Counts = np.rint(LATENCY_BINS_PER_E * np.log(factor)).astype(np.int64)
    return out


class LatencyJudge:
    """FAIL and PASS of a plan's quantiles."""

    def __init__(self, plan: RolloutPlan) -> None:
        budget = budget_of(plan)
        self._plan, self._limit = plan, latency_limit(plan)
        self._for_fail, self._for_pass = -math.log(budget.rollback("latency")), -math.log(budget.promotion)

    def fails(self, seen: Histograms) -> dict[str, Flags]:
        """FAIL of each quantile, [runs, looks]; of each rollout, looks after the first such one may be left out."""
        out = {}
        for quantile in self._plan.latency_quantiles:
            possible = self._upper_bound(seen, quantile, worse=True) >= self._for_fail

            def worse(at: Places, quantile: float = quantile) -> Flags:
                failed: Flags = self._compare(seen, at, quantile).worse >= self._for_fail
                return failed

            out[quantile_metric(quantile)] = _earliest(possible, worse)
        return out

    def passes(self, seen: Histograms, wanted: Flags) -> Flags:
        """True where every quantile that must pass does, at looks that are `wanted`; of each rollout, looks after the
        first such one may be left out."""
        quantiles = [q for q in self._plan.latency_quantiles if is_required(self._plan, q)]
        possible = wanted.copy()
        for quantile in quantiles:
            possible &= self._upper_bound(seen, quantile, worse=False) >= self._for_pass
        if not quantiles:
            return possible

        def within(at: Places) -> Flags:
            found = [self._compare(seen, at, quantile).within >= self._for_pass for quantile in quantiles]
            together: Flags = np.logical_and.reduce(found)
            return together

        return _earliest(possible, within)

    def _compare(self, seen: Histograms, at: Places, quantile: float) -> QuantileEvidence:
        return compare_quantile_counts(seen.candidate[at], seen.champion[at], seen.first, quantile, self._limit)

    def _upper_bound(self, seen: Histograms, quantile: float, *, worse: bool) -> Floats:
        """More than the evidence can be: that of the cell of the champion's observed quantile alone, against which the
        champion itself says nothing. One bin of room on the safe side."""
        number, below = seen.candidate.sum(axis=-1), np.cumsum(seen.champion, axis=-1)
        cell = (below >= quantile * below[..., -1:]).argmax(axis=-1)
        edges = _limit_bins(seen.first, seen.champion.shape[-1], self._limit)[cell + (1 if worse else 0)]
        place = np.floor(edges).astype(np.int64) - 1 if worse else np.ceil(edges).astype(np.int64) + 1
        counted = np.cumsum(seen.candidate, axis=-1)
        last = counted.shape[-1] - 1
        events = np.take_along_axis(counted, np.clip(place - 1, 0, last)[..., None], axis=-1)[..., 0]
        events = np.where(place <= 0, 0, events)
        empty = (number == 0) | (below[..., -1] == 0)
        bound = (log_evidence_below if worse else log_evidence_above)(number, events, quantile)
        return np.where(empty, -np.inf, bound)


def _earliest(possible: Flags, holds: Callable[[Places], Flags]) -> Flags:
    """Where `holds`, at looks that are `possible`, computed a few looks at a time, until the first one of a rollout."""
    possible, out = possible.copy(), np.zeros(possible.shape, dtype=bool)
    while possible.any():
        at = np.nonzero(possible & (np.cumsum(possible, axis=1) <= _AT_ONCE))
        out[at] = holds(at)
        possible[at] = False
        possible[out.any(axis=1)] = False
    return out


def _limit_bins(first: int, bins: int, limit: Limit) -> Floats:
    """Where the limit of each edge of the grid lies, in bins from `first`."""
    edges = [limit.of(math.exp((first + edge) / LATENCY_BINS_PER_E)) for edge in range(bins + 1)]
    out: Floats = LATENCY_BINS_PER_E * np.log(np.array(edges)) - first
    return out
