"""Confidence intervals for metrics and for differences of metrics on the same rows.

Proportions: exact (Clopper and Pearson 1934). AUC: DeLong, on the logit scale. All else: percentile bootstrap with a
seed. Every function takes the level of a two-sided interval.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fairlead.evaluate.metrics import FloatArray, Statistic
from fairlead.records.evidence import Interval

# Weights of one block of resamples: bounds memory at 8 bytes each, whatever the number of rows.
_BLOCK_VALUES = 2_000_000
# Fewer resamples than this beyond an end of the interval and its percentile is one or two lucky draws.
_MIN_TAIL_RESAMPLES = 5
_MAX_UNDEFINED_SHARE = 0.05


def clopper_pearson(successes: int, trials: int, level: float) -> Interval:
    """The exact interval of a proportion (Clopper and Pearson 1934, "The use of confidence or fiducial limits
    illustrated in the case of the binomial"). Covers at least `level`, whatever the proportion. No trials: 0 to 1."""
    if trials == 0:
        return Interval(0.0, 1.0, level)
    alpha = 1 - level
    low = float(stats.beta.ppf(alpha / 2, successes, trials - successes + 1)) if successes else 0.0
    high = float(stats.beta.ppf(1 - alpha / 2, successes + 1, trials - successes)) if successes < trials else 1.0
    return Interval(low, high, level)


def auc_interval(scores: FloatArray, labels: FloatArray, level: float) -> tuple[float, Interval]:
    """AUC and its interval: DeLong's variance (DeLong, DeLong, Clarke-Pearson 1988; computed from midranks as Sun and
    Xu 2014), normal on the logit scale so that it stays within 0 and 1. Where that variance is 0 or unknown (a
    perfect order, one row of a class), Wilson's interval with the largest variance an AUC can have, A(1-A)/min(m, n)
    (Birnbaum and Klose 1957, "Bounds for the variance of the Mann-Whitney statistic"). Needs both classes."""
    of_positives, of_negatives = _placements(scores, labels)
    auc = float(of_positives.mean())
    m, n = len(of_positives), len(of_negatives)
    z = float(stats.norm.ppf((1 + level) / 2))
    if min(m, n) > 1 and 0 < auc < 1:
        se = math.sqrt(float(of_positives.var(ddof=1)) / m + float(of_negatives.var(ddof=1)) / n)
        if se > 0:
            centre, spread = math.log(auc / (1 - auc)), z * se / (auc * (1 - auc))
            return auc, Interval(_expit(centre - spread), _expit(centre + spread), level)
    return auc, _wilson(auc, min(m, n), z, level)


def auc_difference(first: FloatArray, second: FloatArray, labels: FloatArray, level: float) -> tuple[float, Interval]:
    """AUC of `first` minus AUC of `second` on the same rows, with DeLong's interval for correlated curves. Needs both
    classes; with a single row of one of them the interval is -1 to 1."""
    first_pos, first_neg = _placements(first, labels)
    second_pos, second_neg = _placements(second, labels)
    difference = float(first_pos.mean() - second_pos.mean())
    m, n = len(first_pos), len(first_neg)
    if min(m, n) < 2:
        return difference, Interval(-1.0, 1.0, level)
    variance = float((first_pos - second_pos).var(ddof=1)) / m + float((first_neg - second_neg).var(ddof=1)) / n
    spread = float(stats.norm.ppf((1 + level) / 2)) * math.sqrt(variance)
    return difference, Interval(max(-1.0, difference - spread), min(1.0, difference + spread), level)


def bootstrap(statistics: Sequence[Statistic], rows: int, resamples: int, seed: Sequence[int]) -> FloatArray:
    """Each statistic [resamples, K] on the same resamples of the same rows, so that columns can be subtracted (paired).
    The same seed gives the same numbers. NaN where a resample leaves a statistic undefined."""
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    values = np.empty((resamples, len(statistics)))
    block = max(1, min(resamples, _BLOCK_VALUES // max(1, rows)))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        weights = _draw(rng, size, rows)
        for column, statistic in enumerate(statistics):
            values[start : start + size, column] = statistic.at(weights)
    return values


def bootstrap_interval(
    point: float, resampled: FloatArray, level: float, bounds: tuple[float, float]
) -> Interval | None:
    """The interval of `point` from its resamples [B]; None when more than 5 % of them are undefined.

    Percentile interval (Efron and Tibshirani 1993, "An introduction to the bootstrap", chapter 13), widened to hold
    the point: a metric with a bias, such as the calibration error, otherwise lies outside of its own interval. With
    fewer than five resamples beyond each end the percentiles are too coarse, and the normal interval with the
    bootstrap's standard error is taken instead, as for levels corrected for many slices. Clipped to `bounds`, the
    metric's range."""
    known = resampled[np.isfinite(resampled)]
    if len(known) < (1 - _MAX_UNDEFINED_SHARE) * len(resampled) or len(known) < 2:
        return None
    tail = (1 - level) / 2
    if tail * len(known) < _MIN_TAIL_RESAMPLES:
        spread = float(stats.norm.ppf(1 - tail)) * float(known.std(ddof=1))
        low, high = point - spread, point + spread
    else:
        low, high = (float(q) for q in np.quantile(known, (tail, 1 - tail)))
    return Interval(max(bounds[0], min(low, point)), min(bounds[1], max(high, point)), level)


def corrected_level(level: float, comparisons: int) -> float:
    """The level of each of several intervals that hold together with `level` (Bonferroni)."""
    return 1 - (1 - level) / max(1, comparisons)


def _placements(scores: FloatArray, labels: FloatArray) -> tuple[FloatArray, FloatArray]:
    """For each positive the share of negatives below it (ties half), for each negative the share of positives above."""
    positive = labels == 1
    ranks = stats.rankdata(scores)
    m, n = int(positive.sum()), int((~positive).sum())
    of_positives = (ranks[positive] - stats.rankdata(scores[positive])) / n
    of_negatives = 1 - (ranks[~positive] - stats.rankdata(scores[~positive])) / m
    return of_positives, of_negatives


def _wilson(share: float, trials: int, z: float, level: float) -> Interval:
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / (1 + z * z / trials)
    return Interval(min(share, max(0.0, centre - spread)), max(share, min(1.0, centre + spread)), level)


def _expit(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))


def _draw(rng: np.random.Generator, resamples: int, rows: int) -> FloatArray:
    """How often each row is drawn [resamples, rows] when `rows` rows are drawn with replacement."""
    drawn: NDArray[np.int64] = rng.integers(0, rows, size=(resamples, rows))
    drawn += np.arange(resamples)[:, None] * rows
    counts = np.bincount(drawn.ravel(), minlength=resamples * rows)
    return counts.reshape(resamples, rows).astype(np.float64)
