"""Is a mean above a bound, just now? Evidence of one look, for a detector that restarts (`detector`).

With x_i in a range of width c, conditional mean at most mu given the past, m_i a prediction of x_i from the past, and
psi(l) = (-log(1 - c l) - c l) / c^2, 0 <= l < 1 / c,

    exp(l sum (x_i - mu) - psi(l) sum (x_i - m_i)^2)

has mean at most 1 (theorem 4 of Howard, Ramdas, McAuliffe, Sekhon 2021, see `means`), and so has the same with mu - x_i
where the mean is at least mu. Pairs: `log_evidence_above` with mu the margin. Two arms: each arm's mean is unknown and
may be another one at each look; with l and l0 chosen so that l n = l0 n0, the product of the candidate's and the
champion's factor depends on the difference of the means alone, and is evidence against "at most the margin":
`log_evidence_apart`. Own combination; nothing but the sums that `RunningMean` keeps.

Which l is best depends on how far the mean rose and how the values spread, so there is a detector for each of
`STRENGTHS`, and their mean raises the alarm. Everything works on arrays as on numbers.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fairlead.deploy.statistics.alternatives import Floats

STRENGTHS = (0.05, 0.15, 0.4, 0.8)
"""Values of l in units of 1 / c: from small steady rises of noisy values to large ones."""


@dataclass(frozen=True, slots=True)
class Values:
    """Number, sum and variance process of new values; each a number or an array."""

    n: ArrayLike
    total: ArrayLike
    variance: ArrayLike


def log_evidence_above(values: Values, bound: float, width: float) -> Floats:
    """[..., strengths]: log of the evidence that the values' mean is above `bound`."""
    n, total, variance = _columns(values)
    strength = np.array(STRENGTHS) / width
    return np.asarray(strength * (total - n * bound) - _psi(strength, width) * variance)


def log_evidence_apart(candidate: Values, champion: Values, margin: float, width: float) -> Floats:
    """[..., strengths]: log of the evidence that the candidate's mean is more than `margin` above the champion's; 0
    where either has no values."""
    n, total, variance = _columns(candidate)
    n0, total0, variance0 = _columns(champion)
    both = (n > 0) & (n0 > 0)
    some, some0 = np.maximum(n, 1.0), np.maximum(n0, 1.0)
    strength = np.array(STRENGTHS) / width
    ours, theirs = strength * np.minimum(1.0, some0 / some), strength * np.minimum(1.0, some / some0)
    spread = _psi(ours, width) * variance + _psi(theirs, width) * variance0
    return np.asarray(np.where(both, ours * (total - n * margin) - theirs * total0 - spread, 0.0))


def together(log_values: ArrayLike) -> Floats:
    """log of the mean over the strengths (the last axis) of the detectors' values."""
    values = np.asarray(log_values, dtype=np.float64)
    return np.asarray(np.logaddexp.reduce(values, axis=-1) - np.log(values.shape[-1]))


def _columns(values: Values) -> tuple[Floats, Floats, Floats]:
    """The sums with one more axis, for the strengths."""
    parts = (np.asarray(part, dtype=np.float64)[..., None] for part in (values.n, values.total, values.variance))
    n, total, variance = parts
    return n, total, variance


def _psi(strength: Floats, width: float) -> Floats:
    scaled = width * strength
    return np.asarray((-np.log1p(-scaled) - scaled) / width**2)
