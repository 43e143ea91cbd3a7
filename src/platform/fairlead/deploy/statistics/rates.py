"""Confidence sequences for the rate of a yes/no event, and for the difference of two rates.

Assumption: events are independent with one probability p (or, weaker, have conditional mean p given the past). Under
p the mixture likelihood ratio

    M_n(p) = integral of q^s (1 - q)^(n - s) dBeta(a, b)(q)  /  p^s (1 - p)^(n - s)
           = B(a + s, b + n - s) / B(a, b) / (p^s (1 - p)^(n - s)),     s events in n

is a martingale with mean 1, so by Ville's inequality {p : M_n(p) < 1 / alpha} holds p at all looks at once with
probability at least 1 - alpha. Sources: Robbins (1970), "Statistical methods related to the law of the iterated
logarithm"; Howard, Ramdas, McAuliffe, Sekhon (2021), "Time-uniform, nonparametric, nonasymptotic confidence sequences".

The mixture Beta(a, b) is fixed before any data: a = 1/2 and mean equal to the bound that the rate is to be compared
with, which makes the sequence tight around the decision and wider elsewhere, never invalid.
"""

import math
from dataclasses import dataclass

from fairlead.deploy.statistics.search import first_that
from fairlead.records.evidence import RunningRate

_SHAPE = 0.5
_STEPS = 60  # halvings of an interval of length at most 1: below the spacing of doubles near any rate of interest


@dataclass(frozen=True, slots=True)
class Mixture:
    """The Beta(a, b) over alternatives."""

    a: float = _SHAPE
    b: float = _SHAPE

    @classmethod
    def around(cls, rate: float) -> "Mixture":
        """The mixture with mean `rate` (0 < rate < 1), for decisions at this rate."""
        if not 0 < rate < 1:
            return cls()
        return cls(_SHAPE, _SHAPE * (1 - rate) / rate)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def log_martingale(n: int, events: float, rate: float, mixture: Mixture) -> float:
    """log M_n(rate) for `events` of `n`; infinite where the data are impossible under `rate`."""
    return _log_mixed(n, events, mixture) - _log_likelihood(n, events, rate)


def _log_mixed(n: int, events: float, mixture: Mixture) -> float:
    """The log likelihood under the mixture of alternatives."""
    return _log_beta(mixture.a + events, mixture.b + n - events) - _log_beta(mixture.a, mixture.b)


def _log_likelihood(n: int, events: float, rate: float) -> float:
    misses = n - events
    if (rate <= 0 and events > 0) or (rate >= 1 and misses > 0):
        return -math.inf
    return (events * math.log(rate) if events else 0.0) + (misses * math.log1p(-rate) if misses else 0.0)


def upper_limit(n: int, events: int, alpha: float, mixture: Mixture) -> float:
    """The rate that the true one stays below at all looks, with probability at least 1 - alpha."""
    low, high = (events / n, 1.0) if n else (0.0, 1.0)
    return _edge(n, events, alpha, mixture, inside=low, outside=high)


def lower_limit(n: int, events: int, alpha: float, mixture: Mixture) -> float:
    """The rate that the true one stays above at all looks, with probability at least 1 - alpha."""
    low, high = (0.0, events / n) if n else (0.0, 0.0)
    return _edge(n, events, alpha, mixture, inside=high, outside=low)


def _edge(n: int, events: int, alpha: float, mixture: Mixture, *, inside: float, outside: float) -> float:
    """Where log M crosses log(1 / alpha) between the observed rate (where M is smallest) and the end of [0, 1]."""
    likely = _log_mixed(n, events, mixture) + math.log(alpha)  # the log likelihood where M is 1 / alpha
    if n == 0 or inside == outside or _log_likelihood(n, events, outside) > likely:
        return outside
    for _ in range(_STEPS):
        middle = (inside + outside) / 2
        if _log_likelihood(n, events, middle) > likely:
            inside = middle
        else:
            outside = middle
    return outside


def is_below(n: int, events: float, rate: float, alpha: float, mixture: Mixture) -> bool:
    """True when `upper_limit` is at most `rate`, without computing it."""
    return n > 0 and events < rate * n and log_martingale(n, events, rate, mixture) >= -math.log(alpha)


def needed_below(n: int, events: int, rate: float, alpha: float, mixture: Mixture) -> int | None:
    """How many more requests until the upper limit falls to `rate`, when events go on at the share seen so far (shrunk
    towards a quarter of `rate`, so that a few first requests promise nothing). None when they never suffice."""
    share = (events + 0.5) / (n + 2 / rate)
    if share >= rate:
        return None
    return first_that(lambda more: is_below(n + more, events + share * more, rate, alpha, mixture))


@dataclass(frozen=True, slots=True)
class Difference:
    """Candidate minus champion: `low` holds at 1 - alpha_low and `high` at 1 - alpha_high, at all looks at once. The
    limits of the two rates that they are made of are kept for the explanation."""

    observed: float
    low: float
    high: float
    candidate_low: float
    candidate_high: float
    champion_low: float
    champion_high: float


def difference(
    candidate: RunningRate,
    champion: RunningRate,
    *,
    alpha_low: float,
    alpha_high: float,
    mixture: Mixture,
) -> Difference:
    """Limits for the difference of two independent rates: each error probability is split evenly over the two arms
    (a union bound; no assumption beyond those of each arm)."""
    candidate_high = upper_limit(candidate.n, candidate.events, alpha_high / 2, mixture)
    candidate_low = lower_limit(candidate.n, candidate.events, alpha_low / 2, mixture)
    champion_low = lower_limit(champion.n, champion.events, alpha_high / 2, mixture)
    champion_high = upper_limit(champion.n, champion.events, alpha_low / 2, mixture)
    return Difference(
        observed=candidate.rate - champion.rate,
        low=candidate_low - champion_high,
        high=candidate_high - champion_low,
        candidate_low=candidate_low,
        candidate_high=candidate_high,
        champion_low=champion_low,
        champion_high=champion_high,
    )
