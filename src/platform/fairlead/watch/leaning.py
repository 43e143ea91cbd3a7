"""Days that lean on the day before: what is new in each day.

Weather comes in spells. Days with spells are not exchangeable, so alarms for exchangeable days come far too often.
Where the reference's days lean on the day before, each is replaced by what the day before does not explain,

    e_t = (x_t - m) - f (x_{t-1} - m),

with m the reference's mean (of the weekday, where days are grouped). With the autocorrelations r_k = r a^(k-1) of a
spell seen through the sampling of its rows (an ARMA(1, 1); an autoregression has a = r), f is such that sums of many e
vary as those of independent numbers do: (1 - f)^2 k = 1 + f^2 - 2 f r, with k = 1 + 2 r / (1 - a) the ratio of the
variance of long sums to that of independent days. r and a come from the first three autocorrelations of the reference,
raised by k / n, the bias of their estimate (Marriott, Pope 1954, "Bias in the estimation of autocorrelations"), and by
a standard error, because too small an f costs false alarms and too large a one only days. What `alarms` promises then
holds for the e as far as this describes the spells: `make drift-year` says how far. A shift of x by d moves e by d on
its first day and by (1 - f) d after that, so it is found later: that is what a spell costs.
"""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_STANDARD_ERRORS = 1.0
_MOST = 0.95
_FEWEST = 20


def novelties(days: Floats, before: int, groups: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """(what is new in each day [D, C], f of each channel [C], 0 where days do not lean). The first `before` days are
    the reference; `groups` [D] their weekdays (or all 0). NaN: a day without rows."""
    centred = days.copy()
    for group in np.unique(groups):
        chosen = groups == group
        reference = days[:before][chosen[:before]]
        known = np.isfinite(reference)
        means = np.where(known, reference, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        centred[chosen] -= means
    leaning = np.array([_leaning(channel) for channel in centred[:before].T])
    # A channel that does not lean is kept as it is: ranks must not change by rounding.
    new = days.copy()
    for channel in np.flatnonzero(leaning):
        new[0, channel] = np.nan
        new[1:, channel] = centred[1:, channel] - leaning[channel] * centred[:-1, channel]
    return new, leaning


def _leaning(days: Floats) -> float:
    """f; 0 where the first autocorrelation is what independent days may have."""
    found = [_correlation(days, lag) for lag in (1, 2, 3)]
    first, count = found[0]
    if count < _FEWEST or first < _STANDARD_ERRORS / math.sqrt(count):
        return 0.0
    r, ratio = first, 1.0
    for _ in range(3):  # the bias depends on what it is to correct
        more = ratio / count + math.sqrt((1 - r * r) / count)
        one, two, three = (value + more for value, _ in found)
        r = min(_MOST, one)
        fall = min(_MOST, max((two + three) / max(one + two, 1e-9), r))
        ratio = 1 + 2 * r / (1 - fall)
    half = ratio - r
    return min(_MOST, (half - math.sqrt(max(0.0, half * half - (ratio - 1) ** 2))) / (ratio - 1))


def _correlation(days: Floats, lag: int) -> tuple[float, int]:
    pair = np.stack([days[:-lag], days[lag:]])
    pair = pair[:, np.isfinite(pair).all(axis=0)]
    count = pair.shape[1]
    if count < _FEWEST or float(pair.std(axis=1).min()) == 0.0:
        return 0.0, 0
    return float(np.asarray(np.corrcoef(pair))[0, 1]), count
