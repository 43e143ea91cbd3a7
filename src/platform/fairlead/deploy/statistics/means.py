"""Empirical-Bernstein confidence sequences for the mean of bounded values, from three running sums.

Assumption: values lie in [low, high] (others were clipped and counted) and have conditional mean mu given the past; no
assumption about their distribution. With x_i the values, m_i a prediction from the values before x_i,

    S_n = sum (x_i - mu),   V_n = sum (x_i - m_i)^2,   c = high - low,

exp(lambda S_n - psi(lambda) V_n) is a supermartingale for psi(lambda) = (-log(1 - c lambda) - c lambda) / c^2 and all
0 <= lambda < 1/c, and so is the same with -S_n: theorem 4 of Howard, Ramdas, McAuliffe, Sekhon (2021), "Time-uniform,
nonparametric, nonasymptotic confidence sequences". Mixing over lambda with a (truncated) gamma density of precision rho
gives the closed form of proposition 9 there, the gamma-exponential mixture

    m(s, v) = r^r / (Gamma(r) P(r, r)) * Gamma(t) P(t, x) / x^t * exp(y),
    r = rho / c^2,  t = (v + rho) / c^2,  y = (c s + v) / c^2,  x = y + r,

with P the regularised lower incomplete gamma function. By Ville's inequality m(S_n, V_n) < 1 / alpha at all looks at
once with probability at least 1 - alpha. rho changes where the sequence is tightest, never its validity.

Constants: rho is chosen so that the sequence is tightest near V = `REFERENCE_SHARE` c^2 n at n = the number of values
that a step waits for, with equation (65) there solved approximately:
rho = v / (2 log(1/alpha) + log(1 + 2 log(1/alpha))).
"""

import math
from dataclasses import dataclass

from scipy.special import gammainc, gammaln

from fairlead.deploy.statistics.search import first_that
from fairlead.records.evidence import RunningMean

REFERENCE_SHARE = 0.01
"""Variance of the values, as a share of the squared range, that the sequence is tuned for."""

_STEPS = 60


@dataclass(frozen=True, slots=True)
class MeanSequence:
    """A one-sided confidence sequence at 1 - `alpha` for values with range `width`, tuned for `reference` values."""

    alpha: float
    width: float
    reference: int = 1000

    @property
    def rho(self) -> float:
        """The precision of the mixing density, in squared units of the values."""
        log_inverse = math.log(1 / self.alpha)
        spread = REFERENCE_SHARE * self.width**2 * max(self.reference, 1)
        return spread / (2 * log_inverse + math.log1p(2 * log_inverse))

    def log_supermartingale(self, deviation: float, variance: float) -> float:
        """log m(s, v) for S_n = `deviation` >= 0 and V_n = `variance`."""
        square = self.width**2
        r = self.rho / square
        t = (variance + self.rho) / square
        y = (self.width * deviation + variance) / square
        leading = r * math.log(r) - float(gammaln(r)) - math.log(float(gammainc(r, r)))
        return leading + float(gammaln(t)) + _log_gammainc(t, y + r) - t * math.log(y + r) + y

    def radius(self, n: int, variance: float) -> float:
        """How far the mean of `n` values with V_n = `variance` can be from mu on one side; infinite at n = 0."""
        if n == 0:
            return math.inf
        bound = -math.log(self.alpha)
        outside = self.width * n  # a sum of n deviations is never larger
        if self.log_supermartingale(outside, variance) < bound:
            return math.inf
        inside = 0.0
        for _ in range(_STEPS):
            middle = (inside + outside) / 2
            if self.log_supermartingale(middle, variance) < bound:
                inside = middle
            else:
                outside = middle
            if outside - inside <= 1e-9 * outside:
                break
        return outside / n

    def excludes(self, deviation: float, variance: float) -> bool:
        """True when S_n = `deviation` is too large to be chance: the mean under test lies outside the sequence."""
        return deviation > 0 and self.log_supermartingale(deviation, variance) >= -math.log(self.alpha)


def _log_gammainc(t: float, x: float) -> float:
    # For x far below t the function underflows; the leading term of its series keeps the logarithm finite (and small,
    # which can only widen the sequence).
    value = float(gammainc(t, x))
    if value > 0:
        return math.log(value)
    return t * math.log(x) - x - float(gammaln(t + 1))


def upper_mean(values: RunningMean, alpha: float, reference: int) -> float:
    """The value that the true mean stays below at all looks, with probability at least 1 - alpha (at most `high`)."""
    radius = MeanSequence(alpha, values.high - values.low, reference).radius(values.n, values.variance_process)
    return min(values.mean + radius, values.high)


def lower_mean(values: RunningMean, alpha: float, reference: int) -> float:
    """The value that the true mean stays above at all looks, with probability at least 1 - alpha (at least `low`)."""
    radius = MeanSequence(alpha, values.high - values.low, reference).radius(values.n, values.variance_process)
    return max(values.mean - radius, values.low)


def needed_mean_below(values: RunningMean, bound: float, alpha: float, reference: int) -> int | None:
    """How many more values until `upper_mean` falls to `bound` when mean and variance stay as seen; None: never."""
    if values.n == 0 or values.mean >= bound:
        return None
    sequence = MeanSequence(alpha, values.high - values.low, reference)
    gap, spread = bound - values.mean, values.variance_process / values.n
    return first_that(lambda more: sequence.excludes(gap * (values.n + more), spread * (values.n + more)))
