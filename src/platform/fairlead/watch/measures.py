"""Distances between two samples of one column, each with a 95 % interval.

For numbers: Kolmogorov-Smirnov (largest difference of the cumulative frequencies), Wasserstein-1 in standard deviations
of the reference, Jensen-Shannon distance (square root of the divergence to base 2; Lin 1991, "Divergence measures based
on the Shannon entropy"), population stability index over tenths of the reference (Siddiqi 2006, "Credit risk
scorecards"), and Cohen's d, the difference of means in pooled standard deviations. For values in a set: L-infinity
(largest difference of a share), Jensen-Shannon, PSI.

Intervals are reflected bootstrap intervals (Davison, Hinkley 1997, "Bootstrap methods and their application", 5.2): 2 t
- t*, over multinomial draws from the counts of both samples. Reflecting takes away the upward bias that all plug-in
distances have, to first order. Near a distance of 0 no bootstrap is right, so the lower end is 0 where draws from both
samples together are as far apart. They assume rows that are drawn independently.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairlead.records.drift import Measure

Floats = NDArray[np.float64]
Pairs = Callable[[Floats, Floats], Floats]

_DRAWS = 200
_FINE = 256
_TENTHS = 10
_SMOOTHING = 0.5
_Z = 1.959964


def number_measures(reference: Floats, live: Floats, seed: int = 7) -> tuple[Measure, ...]:
    """The distances of two samples of finite numbers, float64 [N] and [M], both not empty."""
    rng = np.random.default_rng(seed)
    edges = fine_edges(reference, live)
    of_reference, of_live = counts_between(reference, edges), counts_between(live, edges)
    spread = float(np.std(reference)) or float(np.std(live)) or 1.0
    drawn = _drawn(of_reference, of_live, rng)
    ks, wasserstein = _kolmogorov, _wasserstein(_positions(reference, live, edges), spread)
    tenths = _tenths(reference)
    coarse = counts_between(reference, tenths), counts_between(live, tenths)
    coarse_drawn = _drawn(*coarse, rng)
    return (
        _measure("ks", ks, (of_reference, of_live), drawn, most=1.0),
        _measure("wasserstein", wasserstein, (of_reference, of_live), drawn),
        _measure("jensen_shannon", jensen_shannon, coarse, coarse_drawn, most=1.0),
        _measure("psi", psi, coarse, coarse_drawn),
        _cohens_d(reference, live),
    )


def value_measures(reference: Mapping[str, int], live: Mapping[str, int], seed: int = 7) -> tuple[Measure, ...]:
    """The distances of the counts of values in two samples."""
    rng = np.random.default_rng(seed)
    names = list(dict.fromkeys((*reference, *live)))
    counts = tuple(np.array([side.get(name, 0) for name in names], np.float64) for side in (reference, live))
    pair = counts[0], counts[1]
    drawn = _drawn(*pair, rng)
    return (
        _measure("l_infinity", _l_infinity, pair, drawn, most=1.0),
        _measure("jensen_shannon", jensen_shannon, pair, drawn, most=1.0),
        _measure("psi", psi, pair, drawn),
    )


def kolmogorov_distance(reference: Floats, live: Floats) -> tuple[float, float]:
    """(the largest difference of the cumulative frequencies, signed: positive where more of `live` lies below; where),
    exact, for sorted float64 [N] and [M]."""
    points = np.unique(np.concatenate([reference, live]))
    below = np.searchsorted(live, points, "right") / len(live) - np.searchsorted(reference, points, "right") / len(
        reference
    )
    at = int(np.argmax(np.abs(below)))
    return float(below[at]), float(points[at])


def fine_edges(reference: Floats, live: Floats) -> Floats:
    """Upper ends of fine bins: every different value where there are few, else quantiles of both samples together."""
    both = np.concatenate([reference, live])
    different = np.unique(both)
    if len(different) <= _FINE:
        return different
    return np.unique(np.quantile(both, np.linspace(0, 1, _FINE + 1)[1:], method="higher"))


def counts_between(values: Floats, edges: Floats) -> Floats:
    """How many values are in (edges[i-1], edges[i]]; those above the last edge count in the last bin: [len(edges)]."""
    bins = np.minimum(np.searchsorted(edges, values, "left"), len(edges) - 1)
    return np.bincount(bins, minlength=len(edges)).astype(np.float64)


def psi(reference: Floats, live: Floats) -> Floats:
    """Population stability index of counts [..., K]: sum (q - p) ln(q / p), half a row added to every bin."""
    p, q = _shares(reference, _SMOOTHING), _shares(live, _SMOOTHING)
    return np.asarray(np.sum((q - p) * np.log(q / p), axis=-1))


def jensen_shannon(reference: Floats, live: Floats) -> Floats:
    """Jensen-Shannon distance of counts [..., K], 0 to 1."""
    p, q = _shares(reference), _shares(live)
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(p > 0, p * np.log2(p / middle), 0.0) + np.where(q > 0, q * np.log2(q / middle), 0.0)
    return np.asarray(np.sqrt(np.maximum(parts.sum(axis=-1) / 2, 0.0)))


def _tenths(reference: Floats) -> Floats:
    return np.unique(np.quantile(reference, np.linspace(0, 1, _TENTHS + 1)[1:], method="inverted_cdf"))


def _kolmogorov(reference: Floats, live: Floats) -> Floats:
    gap = np.cumsum(_shares(live) - _shares(reference), axis=-1)
    return np.asarray(np.max(np.abs(gap), axis=-1))


def _l_infinity(reference: Floats, live: Floats) -> Floats:
    return np.asarray(np.max(np.abs(_shares(live) - _shares(reference)), axis=-1))


def _positions(reference: Floats, live: Floats, edges: Floats) -> Floats:
    """The mean of all values of each bin, so that the distance rests on values that occur."""
    both = np.concatenate([reference, live])
    bins = np.minimum(np.searchsorted(edges, both, "left"), len(edges) - 1)
    counts = np.bincount(bins, minlength=len(edges))
    return np.asarray(np.bincount(bins, weights=both, minlength=len(edges)) / np.maximum(counts, 1))


def _wasserstein(positions: Floats, spread: float) -> Pairs:
    """Area between the cumulative frequencies, in units of `spread`."""
    widths = np.diff(positions) / spread

    def area(reference: Floats, live: Floats) -> Floats:
        gap = np.cumsum(_shares(live) - _shares(reference), axis=-1)[..., :-1]
        return np.asarray(np.sum(np.abs(gap) * widths, axis=-1))

    return area


def _shares(counts: Floats, added: float = 0.0) -> Floats:
    padded = counts + added
    return np.asarray(padded / padded.sum(axis=-1, keepdims=True))


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Draws like the two samples, and draws of two samples that are alike."""

    apart: tuple[Floats, Floats]
    alike: tuple[Floats, Floats]


def _drawn(reference: Floats, live: Floats, rng: np.random.Generator) -> _Drawn:
    sizes = int(reference.sum()), int(live.sum())
    together = (reference + live) / sum(sizes)
    shares = reference / sizes[0], live / sizes[1], together, together
    draws = [rng.multinomial(sizes[i % 2], share, size=_DRAWS).astype(np.float64) for i, share in enumerate(shares)]
    return _Drawn((draws[0], draws[1]), (draws[2], draws[3]))


def _measure(
    name: str, distance: Pairs, counts: tuple[Floats, Floats], drawn: _Drawn, most: float = math.inf
) -> Measure:
    value = float(distance(*counts))
    low, high = np.quantile(distance(*drawn.apart), [0.025, 0.975])
    chance = float(np.quantile(distance(*drawn.alike), 0.975))
    bottom = 0.0 if value <= chance else max(0.0, 2 * value - float(high))
    return Measure(name, value, bottom, min(most, max(value, 2 * value - float(low))))


def _cohens_d(reference: Floats, live: Floats) -> Measure:
    n, m = len(reference), len(live)
    squares = float(np.var(reference)) * n + float(np.var(live)) * m
    spread = math.sqrt(squares / max(1, n + m - 2))
    value = (float(np.mean(live)) - float(np.mean(reference))) / spread if spread > 0 else 0.0
    error = _Z * math.sqrt((n + m) / (n * m) + value * value / (2 * (n + m)))
    return Measure("cohens_d", value, value - error, value + error)
