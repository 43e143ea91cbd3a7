"""Sequential test of the difference of two rates against a margin, stronger than two separate confidence sequences.

Assumption: given the past, a candidate's call is an event with probability p, a champion's with probability p0. The
product of the two mixture martingales of `rates`, M(p) of the candidate and M0(p0) of the champion, is a martingale
under the true pair (each call moves only one factor), so by Ville's inequality the set {M(p) M0(p0) < 1 / alpha} holds
the true pair at all looks at once with probability at least 1 - alpha. All differences p - p0 of that set are a
confidence sequence; a null such as p - p0 <= margin is rejected when the whole null lies outside:

    min over p0 of log M(p0 + margin) + log M0(p0) >= log(1 / alpha),

as log M is convex and the minimum of a null that the observed rates do not meet lies on its edge. Two sequences at
alpha / 2 each reject only when M and M0 speak alone; the product adds what they say. With equal arms it takes about
half the requests (measured in the tests).

The minimum is where the likelihood under p = p0 + margin is largest, in closed form: Miettinen, Nurminen (1985),
"Comparative analysis of two rates", appendix I. Product of martingales for 2 x 2 tables: Turner, Ly, Grünwald (2024),
"Generic e-variables for exact sequential k-sample tests", who choose the alternative adaptively; here it is a mixture.
Functions take numbers or arrays of any one shape.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaln, xlog1py, xlogy

from fairlead.deploy.statistics.rates import Mixture
from fairlead.deploy.statistics.search import first_that
from fairlead.records.evidence import RunningRate

Floats = NDArray[np.float64]

_STEPS = 30
_TINY = 1e-12


def log_evidence(
    n: ArrayLike, events: ArrayLike, n0: ArrayLike, events0: ArrayLike, margin: float, mixture: Mixture
) -> Floats:
    """The smallest log M(p) + log M0(p0) over all p - p0 = `margin`, for `events` of `n` calls of the candidate and
    `events0` of `n0` of the champion."""
    count, hits, count0, hits0 = (np.asarray(value, dtype=np.float64) for value in (n, events, n0, events0))
    base = _likeliest(count, hits, count0, hits0, margin)
    other = np.clip(base + margin, 0.0, 1.0)
    return np.asarray(_log_martingale(count, hits, other, mixture) + _log_martingale(count0, hits0, base, mixture))


def _log_martingale(n: Floats, events: Floats, rate: Floats, mixture: Mixture) -> Floats:
    top = betaln(mixture.a + events, mixture.b + n - events) - betaln(mixture.a, mixture.b)
    return np.asarray(top - xlogy(events, rate) - xlog1py(n - events, -rate), dtype=np.float64)


def _likeliest(n: Floats, events: Floats, n0: Floats, events0: Floats, margin: float) -> Floats:
    """The champion's rate p0 that is likeliest when the candidate's is p0 + `margin`: a root of a cubic."""
    total, hits = n + n0, events + events0
    total = np.maximum(total, 1.0)
    l2 = (n + 2 * n0) * margin - total - hits
    l1 = (n0 * margin - total - 2 * events0) * margin + hits
    l0 = events0 * margin * (1 - margin)
    third = l2 / (3 * total)
    q = third**3 - l1 * l2 / (6 * total**2) + l0 / (2 * total)
    root = np.sqrt(np.maximum(third**2 - l1 / (3 * total), 0.0))
    p = np.where(q >= 0, root, -root)
    cosine = np.clip(np.divide(q, p**3, out=np.zeros_like(q), where=np.abs(p) > _TINY), -1.0, 1.0)
    angle = (math.pi + np.arccos(cosine)) / 3
    base = 2 * p * np.cos(angle) - third
    return np.asarray(np.clip(base, max(0.0, -margin), min(1.0, 1.0 - margin)), dtype=np.float64)


def is_above(
    n: ArrayLike, events: ArrayLike, n0: ArrayLike, events0: ArrayLike, margin: float, alpha: float, mixture: Mixture
) -> NDArray[np.bool_]:
    """True where candidate minus champion is above `margin`; wrong ever with probability at most `alpha`."""
    observed = _observed(n, events, n0, events0)
    evidence = log_evidence(n, events, n0, events0, margin, mixture)
    return np.asarray((observed > margin) & (evidence >= -math.log(alpha)))


def is_within(
    n: ArrayLike, events: ArrayLike, n0: ArrayLike, events0: ArrayLike, margin: float, alpha: float, mixture: Mixture
) -> NDArray[np.bool_]:
    """True where candidate minus champion is at most `margin`; wrong ever with probability at most `alpha`."""
    observed = _observed(n, events, n0, events0)
    evidence = log_evidence(n, events, n0, events0, margin, mixture)
    return np.asarray((observed < margin) & (evidence >= -math.log(alpha)))


def _observed(n: ArrayLike, events: ArrayLike, n0: ArrayLike, events0: ArrayLike) -> Floats:
    rate = np.asarray(events, dtype=np.float64) / np.maximum(np.asarray(n, dtype=np.float64), 1.0)
    rate0 = np.asarray(events0, dtype=np.float64) / np.maximum(np.asarray(n0, dtype=np.float64), 1.0)
    return np.asarray(rate - rate0)


@dataclass(frozen=True, slots=True)
class Difference:
    """Candidate minus champion: `low` holds at 1 - alpha_low and `high` at 1 - alpha_high, at all looks at once."""

    observed: float
    low: float
    high: float


def difference(
    candidate: RunningRate, champion: RunningRate, *, alpha_low: float, alpha_high: float, mixture: Mixture
) -> Difference:
    """The two ends of the confidence sequence for the difference of the rates, within 1e-6, on the safe side."""
    counts = _Counts(candidate.n, candidate.events, champion.n, champion.events, mixture)
    return Difference(candidate.rate - champion.rate, _end(counts, -1.0, alpha_low), _end(counts, 1.0, alpha_high))


class _Counts:
    """`log_evidence` of one look at many margins, in plain numbers: some 2 microseconds each."""

    def __init__(self, n: float, events: float, n0: float, events0: float, mixture: Mixture) -> None:
        self.n, self.events, self.n0, self.events0 = n, events, n0, events0
        self._top = sum(
            math.lgamma(mixture.a + e) + math.lgamma(mixture.b + k - e) - math.lgamma(mixture.a + mixture.b + k)
            for k, e in ((n, events), (n0, events0))
        ) - 2 * (math.lgamma(mixture.a) + math.lgamma(mixture.b) - math.lgamma(mixture.a + mixture.b))

    def log_evidence(self, margin: float) -> float:
        base = self._likeliest(margin)
        other = min(max(base + margin, 0.0), 1.0)
        return self._top - _log_likelihood(self.n, self.events, other) - _log_likelihood(self.n0, self.events0, base)

    def _likeliest(self, margin: float) -> float:
        total, hits = max(self.n + self.n0, 1.0), self.events + self.events0
        l2 = (self.n + 2 * self.n0) * margin - total - hits
        l1 = (self.n0 * margin - total - 2 * self.events0) * margin + hits
        l0 = self.events0 * margin * (1 - margin)
        third = l2 / (3 * total)
        q = third**3 - l1 * l2 / (6 * total**2) + l0 / (2 * total)
        p = math.copysign(math.sqrt(max(third**2 - l1 / (3 * total), 0.0)), q)
        cosine = min(max(q / p**3, -1.0), 1.0) if abs(p) > _TINY else 0.0
        base = 2 * p * math.cos((math.pi + math.acos(cosine)) / 3) - third
        return min(max(base, 0.0, -margin), 1.0, 1.0 - margin)


def _log_likelihood(n: float, events: float, rate: float) -> float:
    misses = n - events
    if (rate <= 0 and events > 0) or (rate >= 1 and misses > 0):
        return -math.inf
    return (events * math.log(rate) if events else 0.0) + (misses * math.log1p(-rate) if misses else 0.0)


def _end(counts: _Counts, side: float, alpha: float) -> float:
    """Where the evidence crosses log(1 / alpha) between the observed difference and `side` (-1 or 1)."""
    bound = -math.log(alpha)
    rates = [e / k if k else 0.0 for k, e in ((counts.n, counts.events), (counts.n0, counts.events0))]
    inside, outside = rates[0] - rates[1], side * (1 - 1e-9)
    if inside * side >= abs(outside) or counts.log_evidence(outside) < bound:
        return side
    step = 1e-3  # near the margin of interest, so that few halvings are left
    while step < 2 and abs(inside + side * step) < abs(outside):
        if counts.log_evidence(inside + side * step) >= bound:
            outside = inside + side * step
            break
        inside, step = inside + side * step, step * 2
    for _ in range(_STEPS):
        if abs(outside - inside) <= 1e-6:
            break
        middle = (inside + outside) / 2
        if counts.log_evidence(middle) >= bound:
            outside = middle
        else:
            inside = middle
    return outside


def needed_within(
    candidate: RunningRate, champion: RunningRate, margin: float, alpha: float, mixture: Mixture
) -> int | None:
    """How many more of the candidate's calls until `is_within`, when both arms go on at the rates seen (the candidate's
    shrunk towards a quarter of the margin, so that a few first calls promise nothing) and in the same proportion."""
    share, bound = (candidate.events + 0.5) / (candidate.n + 2 / margin), -math.log(alpha)
    per_call = champion.n / candidate.n if candidate.n else 1.0
    if share - champion.rate >= margin:
        return None

    def holds(more: int) -> bool:
        n, n0 = candidate.n + more, champion.n + per_call * more
        events, events0 = candidate.events + share * more, champion.rate * n0
        if not n or not n0 or events / n - champion.rate >= margin:
            return False
        return _Counts(n, events, n0, events0, mixture).log_evidence(margin) >= bound

    return first_that(holds)


def smallest_seen(n: float, n0: float, base: float, margin: float, alpha: float, mixture: Mixture) -> float | None:
    """The smallest candidate rate that is found above the champion's `base` plus `margin` after `n` and `n0` calls,
    when counts fall as is expected; None when not even a rate of 1 is."""
    if n < 1 or n0 < 1:
        return None
    bound, low, high = -math.log(alpha), min(base + margin, 1.0), 1.0
    if _Counts(n, n, n0, n0 * base, mixture).log_evidence(margin) < bound:
        return None
    for _ in range(20):
        middle = (low + high) / 2
        if _Counts(n, n * middle, n0, n0 * base, mixture).log_evidence(margin) >= bound:
            high = middle
        else:
            low = middle
    return high
