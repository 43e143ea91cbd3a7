"""The limits and tests of `deploy.statistics` for many rollouts at once.

Same formulas, same constants (they are read from `Mixture` and `MeanSequence`), arrays in place of numbers; a test
compares them with the originals point by point. Counts repeat a lot over rollouts and looks, so each distinct pair of
(requests, events) is computed once.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import betaln, gammainc, gammaln

from fairlead.deploy.statistics.means import MeanSequence
from fairlead.deploy.statistics.rates import Mixture

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_HALVINGS = 60


def log_martingales(n: Any, events: Any, rate: Any, mixture: Mixture) -> Floats:
    """`rates.log_martingale` on arrays, for rates strictly between 0 and 1."""
    misses = n - events
    top = betaln(mixture.a + events, mixture.b + misses) - betaln(mixture.a, mixture.b)
    out: Floats = top - (events * np.log(rate) + misses * np.log1p(-rate))
    return out


def upper_limits(n: Any, events: Any, alpha: float, mixture: Mixture) -> Floats:
    """`rates.upper_limit` on arrays of counts of any shape."""
    return _distinct(n, events, lambda m, s: _edges(m, s, alpha, mixture, upper=True))


def lower_limits(n: Any, events: Any, alpha: float, mixture: Mixture) -> Floats:
    """`rates.lower_limit` on arrays of counts of any shape."""
    return _distinct(n, events, lambda m, s: _edges(m, s, alpha, mixture, upper=False))


def _distinct(n: Any, events: Any, limits: Any) -> Floats:
    n, events = np.broadcast_arrays(np.asarray(n, dtype=np.int64), np.asarray(events, dtype=np.int64))
    width = int(events.max(initial=0)) + 1
    keys, places = np.unique(n * width + events, return_inverse=True)
    found: Floats = limits(keys // width, keys % width)
    return found[places].reshape(n.shape)


def _edges(n: Counts, events: Counts, alpha: float, mixture: Mixture, *, upper: bool) -> Floats:
    """Where log M crosses log(1 / alpha) on one side of the observed rate, by the halvings of `rates`."""
    seen = events / np.maximum(n, 1)
    end = 1.0 if upper else 0.0
    inside, outside = seen.copy(), np.full(n.shape, end)
    # At the end of [0, 1] the data are impossible, unless nothing speaks against it: then it is the limit.
    open_ended = (n == 0) | ((events == n) if upper else (events == 0))
    bound = -math.log(alpha)
    misses = n - events
    top = betaln(mixture.a + events, mixture.b + misses) - betaln(mixture.a, mixture.b)
    with np.errstate(divide="ignore", invalid="ignore"):
        for _ in range(_HALVINGS):
            middle = (inside + outside) / 2
            value = top - (events * np.log(middle) + misses * np.log1p(-middle))
            within = value < bound
            inside, outside = np.where(within, middle, inside), np.where(within, outside, middle)
    return np.where(open_ended, end, outside)


def excludes(sequence: MeanSequence, deviation: Any, variance: Any) -> Flags:
    """`MeanSequence.excludes` on arrays: S_n = `deviation`, V_n = `variance`."""
    square, rho = sequence.width**2, sequence.rho
    r = rho / square
    deviation, variance = np.broadcast_arrays(np.asarray(deviation, dtype=float), np.asarray(variance, dtype=float))
    positive = np.maximum(deviation, 0.0)
    t = (variance + rho) / square
    y = (sequence.width * positive + variance) / square
    leading = r * math.log(r) - float(gammaln(r)) - math.log(float(gammainc(r, r)))
    value = leading + gammaln(t) + _log_gammainc(t, y + r) - t * np.log(y + r) + y
    found: Flags = (deviation > 0) & (value >= -math.log(sequence.alpha))
    return found


def _log_gammainc(t: Floats, x: Floats) -> Floats:
    value = gammainc(t, x)
    with np.errstate(divide="ignore"):
        whole = np.log(value)
    small: Floats = np.where(value > 0, whole, t * np.log(x) - x - gammaln(t + 1))
    return small
