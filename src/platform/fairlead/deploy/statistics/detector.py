"""A detector that restarts at every look: a long healthy history cannot bury a fault that starts late.

For each look t let L_t be the evidence of the calls since the look before (a likelihood ratio with conditional mean at
most 1 while all is well), and w_t >= 0 a weight known before those calls. The detector is the sum of tests begun at
every look, each with its weight:

    R_t = (R_(t-1) + w_t) L_t,    an alarm when R_t >= 1 / alpha.

R_t minus the sum of weights is a supermartingale while all is well, so P(alarm while the weights sum to W) <= alpha W
(Doob), and the mean weight to a false alarm is at least 1 / alpha. Here w_t is the time since the last look as a share
of a `horizon`: the probability of a false alarm within the horizon is at most alpha, whatever the looks, and beyond it
there is at most one false alarm in 1 / alpha horizons on average. A fault is found, whenever it starts, about
log(horizon / delay) / information later than by a test that began with it.

Assumption: that of the likelihood ratio (for failures, `sprt`): given the past, calls fail independently with one
probability, at most the healthy one. Sources: Shiryaev (1963), Roberts (1966); as sums of e-processes with the bound on
the average run length for any null: Shin, Ramdas, Rinaldo (2023), "E-detectors: a nonparametric framework for
sequential change detection", theorem 2.4.

Looks only group the calls: a test can begin at a look, not between two, which costs at most the calls of one look.
Everything works on logarithms, and on arrays as on numbers.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

EMPTY = -1e4
"""log R before the first look, and its floor: a weight of e^-10000, which no level can tell from none."""


def weight(seconds: float, horizon_seconds: float) -> float:
    """The weight of a look that comes `seconds` after the one before."""
    return max(seconds, 0.0) / horizon_seconds if horizon_seconds > 0 else 0.0


def update(log_value: ArrayLike, log_ratio: ArrayLike, share: ArrayLike) -> Floats:
    """log R after a look with the log evidence `log_ratio` of its calls, and the weight `share`."""
    value, ratio = np.asarray(log_value, dtype=np.float64), np.asarray(log_ratio, dtype=np.float64)
    part = np.asarray(share, dtype=np.float64)
    started = np.log(part, out=np.full_like(part, EMPTY), where=part > 0)
    return np.asarray(np.maximum(np.logaddexp(value, started) + ratio, EMPTY))


def alarm(log_value: ArrayLike, alpha: float) -> NDArray[np.bool_]:
    """True where the detector raises an alarm at level `alpha`."""
    return np.asarray(np.asarray(log_value, dtype=np.float64) >= -math.log(alpha))


def expected_delay(rate: float, healthy: float, bad: float, alpha: float, horizon_calls: float) -> float:
    """About how many calls pass from the start of a failure rate `rate` to the alarm: the evidence wanted (with the
    price of not knowing the start among `horizon_calls`) over what a call brings. Infinite when it brings none."""
    gain = rate * math.log(bad / healthy) + (1 - rate) * math.log((1 - bad) / (1 - healthy))
    if gain <= 0:
        return math.inf
    calls = -math.log(alpha) / gain
    return (-math.log(alpha) + math.log(max(horizon_calls / max(calls, 1.0), 1.0))) / gain
