"""One-sided tests of a rate, as a mixture of likelihood ratios over a few fixed alternatives.

Assumption: given the past, each observation is an event with probability at most r (at least r). For an alternative q
above (below) r,

    L_n(q) = (q / r)^s ((1 - q) / (1 - r))^(n - s),     s events in n,

is a supermartingale, since one more observation multiplies it by 1 + (p - r) (q - r) / (r (1 - r)) <= 1 on average. So
is the mean of L_n over finitely many q. By Ville's inequality it ever reaches 1 / alpha with probability at most alpha.
It only grows (falls) with s, so a bound on an unknown s gives a bound on it. Sources: Wald (1945), "Sequential tests of
statistical hypotheses"; Robbins (1970), "Statistical methods related to the law of the iterated logarithm".

A mixture over points is linear in n and s: arrays of any shape cost a few exponentials each. The price: a rate whose
odds differ from those of r by less than a factor of about 1.05 is never told from r.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

ODDS_FACTORS = (1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
"""Alternatives: the odds of the event are this much larger (or smaller) than under r. The 1 is no alternative: its
ratio is always 1, so the evidence never falls below 1 / 9, however clearly the data speak for r."""


def log_evidence_above(n: ArrayLike, events: ArrayLike, rate: float) -> Floats:
    """log of the evidence that the rate is above `rate`, elementwise for n and events."""
    return _log_mixture(n, events, rate, np.array(ODDS_FACTORS))


def log_evidence_below(n: ArrayLike, events: ArrayLike, rate: float) -> Floats:
    """log of the evidence that the rate is below `rate`, elementwise for n and events."""
    return _log_mixture(n, events, rate, 1.0 / np.array(ODDS_FACTORS))


def log_evidence_against(n: ArrayLike, at_least: ArrayLike, at_most: ArrayLike, rate: float) -> Floats:
    """log of the evidence against "the rate is `rate`" from between `at_least` and `at_most` events: the mean of the
    two one-sided ones, each at its own worst case."""
    above, below = log_evidence_above(n, at_least, rate), log_evidence_below(n, at_most, rate)
    return np.asarray(np.logaddexp(above, below) - np.log(2.0), dtype=np.float64)


def _log_mixture(n: ArrayLike, events: ArrayLike, rate: float, factors: Floats) -> Floats:
    odds = rate / (1 - rate) * factors
    alternatives = odds / (1 + odds)
    per_event, per_miss = np.log(alternatives / rate), np.log((1 - alternatives) / (1 - rate))
    count, hits = np.asarray(n, dtype=np.float64)[..., None], np.asarray(events, dtype=np.float64)[..., None]
    logs = hits * per_event + (count - hits) * per_miss
    highest = logs.max(axis=-1)
    return np.asarray(highest + np.log(np.exp(logs - highest[..., None]).mean(axis=-1)), dtype=np.float64)
