"""Drawing the sums of many values at once: exactly where there are few, by their moments where there are many.

A sum of more than `EXACT` independent bounded values is drawn from the normal distribution with its mean and its
variance, jointly with the sum of squared deviations (central limit theorem; the third and fourth central moments give
their covariance). The variance process is the one of `RunningMean`, with predictions that stand still within a drawn
chunk where values are drawn by moments: these are predictions from the past as well, so tests stay valid.
"""

from dataclasses import dataclass

import numpy as np

from fairlead.deploy.rehearsal.arrays import Floats

EXACT = 64
"""Chunks of up to so many values are drawn value by value."""


@dataclass(frozen=True, slots=True)
class MeanSums:
    """What `RunningMean` keeps, for many rollouts (and looks): number, total, variance process."""

    n: Floats
    total: Floats
    variance: Floats


@dataclass(frozen=True, slots=True)
class Differences:
    """Absolute score differences: Beta(1, b) with the given means."""

    low = 0.0
    high = 1.0

    def values(self, rng: np.random.Generator, mean: Floats, size: int) -> Floats:
        """[len(mean), size] values."""
        b = (1 - mean) / mean
        out: Floats = 1.0 - (1.0 - rng.random((len(mean), size))) ** (1.0 / b[:, None])
        return out

    def moments(self, mean: Floats) -> tuple[Floats, Floats, Floats]:
        """Second, third and fourth central moments of Beta(1, b)."""
        b = (1 - mean) / mean
        variance = b / ((1 + b) ** 2 * (2 + b))
        skew = 2 * (b - 1) * np.sqrt(2 + b) / ((b + 3) * np.sqrt(b))
        excess = 6 * ((1 - b) ** 2 * (2 + b) - b * (3 + b)) / (b * (3 + b) * (4 + b))
        return variance, skew * variance**1.5, (excess + 3) * variance**2


@dataclass(frozen=True, slots=True)
class Shifts:
    """Loss differences of pairs: normal around the given means, cut to [-1, 1]."""

    spread: float
    low = -1.0
    high = 1.0

    def values(self, rng: np.random.Generator, mean: Floats, size: int) -> Floats:
        """[len(mean), size] values."""
        out: Floats = np.clip(mean[:, None] + self.spread * rng.standard_normal((len(mean), size)), -1.0, 1.0)
        return out

    def moments(self, mean: Floats) -> tuple[Floats, Floats, Floats]:
        """Central moments, as if nothing were cut."""
        one = np.ones_like(mean)
        return self.spread**2 * one, 0.0 * one, 3 * self.spread**4 * one


@dataclass(frozen=True, slots=True)
class Losses:
    """Losses of one arm's answers in [0, 1]: Beta with the given means and one spread."""

    spread: float
    low = 0.0
    high = 1.0

    def values(self, rng: np.random.Generator, mean: Floats, size: int) -> Floats:
        """[len(mean), size] values."""
        middle = np.clip(mean, 1e-3, 1 - 1e-3)
        strength = np.maximum(middle * (1 - middle) / self.spread**2 - 1, 0.05)
        return rng.beta((middle * strength)[:, None], ((1 - middle) * strength)[:, None], (len(mean), size))

    def moments(self, mean: Floats) -> tuple[Floats, Floats, Floats]:
        """Central moments; those of a normal distribution beyond the second."""
        middle = np.clip(mean, 1e-3, 1 - 1e-3)
        variance = np.minimum(self.spread**2, 0.95 * middle * (1 - middle))
        return variance, 0.0 * variance, 3 * variance**2


Values = Differences | Shifts | Losses


def add_values(rng: np.random.Generator, kind: Values, means: Floats, counts: Floats, before: MeanSums) -> MeanSums:
    """The sums after each look [runs, looks], from those before the first look [runs], when `counts` values with the
    given `means` (both [runs, looks]) arrive between looks."""
    n, total, variance = before.n.copy(), before.total.copy(), before.variance.copy()
    out = MeanSums(*(np.empty(counts.shape) for _ in range(3)))
    for look in range(counts.shape[1]):
        number, mean = counts[:, look], means[:, look]
        most = int(number.max(initial=0))
        if 0 < most <= EXACT:
            gained, spread = _one_by_one(rng, kind, mean, number, n, total, most)
        elif most:
            gained, spread = _by_moments(rng, kind, mean, number, n, total)
        else:
            gained = spread = np.zeros_like(n)
        n, total, variance = n + number, total + gained, variance + spread
        out.n[:, look], out.total[:, look], out.variance[:, look] = n, total, variance
    return out


def _one_by_one(
    rng: np.random.Generator, kind: Values, mean: Floats, number: Floats, n: Floats, total: Floats, most: int
) -> tuple[Floats, Floats]:
    values = kind.values(rng, mean, most)
    there = np.arange(most) < number[:, None]
    values = np.where(there, values, 0.0)
    running = total[:, None] + np.cumsum(values, axis=1) - values
    seen = n[:, None] + np.arange(most)
    middle = (kind.low + kind.high) / 2
    predicted = np.where(seen > 0, running / np.maximum(seen, 1), middle)
    return values.sum(axis=1), (np.where(there, values - predicted, 0.0) ** 2).sum(axis=1)


def _by_moments(
    rng: np.random.Generator, kind: Values, mean: Floats, number: Floats, n: Floats, total: Floats
) -> tuple[Floats, Floats]:
    second, third, fourth = kind.moments(mean)
    first = rng.standard_normal(len(mean))
    deviation = np.sqrt(number * second) * first
    covariance = np.sqrt(number / second) * third
    rest = np.sqrt(np.maximum(number * (fourth - second**2) - covariance**2, 0.0))
    squares = number * second + covariance * first + rest * rng.standard_normal(len(mean))
    predicted = np.where(n > 0, total / np.maximum(n, 1), (kind.low + kind.high) / 2)
    off = mean - predicted
    gained = np.clip(number * mean + deviation, number * kind.low, number * kind.high)
    return gained, np.maximum(squares, 0.0) + 2 * off * deviation + number * off**2
