"""Alarms over many features and many days, with a bounded number of false ones.

The unit is the day. Rows of one day share their weather and their news, so a test that counts rows as independent
raises an alarm on any day that is a little unlike another, which all days are. Here each feature's day becomes a few
numbers (`day_channels`: level, spread, tails, shares, missing), and each number is a channel.

**Null hypothesis.** The days of the reference and those that follow are exchangeable; with `groups` (the weekday) days
of one group are. Nothing is assumed of the distribution of a day's number, nor of channels and features together.

**One day.** With the t - 1 earlier days of its group, the rank of today's number, ties broken by a uniform draw U,

    p_t = (#{i < t: x_i > x_t} + U (1 + #{i < t: x_i = x_t})) / t,

is a conformal p-value: uniform on (0, 1) and independent of the p-values before it (Vovk, Gammerman, Shafer 2005,
"Algorithmic learning in a random world", theorem 8.1; by groups, section 4.5, Mondrian). So every bet f on it with
integral 1 has conditional mean 1. The bets: f(p) = exp(d z - d^2 / 2) with z the normal score of 1 - p, for shifts of
d = +-1/2, +-1, +-2 standard deviations of the days; and nine tenths of the stake on the four outermost ranks, up or
down (four, because the changed days themselves come to stand among the earlier ones).

**Many days.** For each bet, R_t = (R_{t-1} + 1) f(p_t): the sum of the test martingales begun on every day
(Shiryaev 1963, Roberts 1966; Vovk, Petej, Nouretdinov, Ahlberg, Carlsson, Gammerman 2021, "Retrain or not retrain:
conformal test martingales for change-point detection"). A channel's detector is the mean of its bets, an e-detector in
the sense of Shin, Ramdas, Rinaldo (2023), "E-detectors: a nonparametric framework for sequential change detection",
definition 2.2. It raises an alarm at R >= c and starts again at 0.

**False alarms.** c N_t + R_t - t, with N_t the alarms by day t, is a supermartingale: R_t - t is a martingale, and an
alarm adds c and takes away at least c. So E[N_t] <= t / c for every t, and not only until the first alarm. With C
channels of all features together and c = C * 30 / budget the expected number of false alarms is at most `budget` in 30
days, whatever the dependence of channels and features is, because expectations add up. A channel uses no other's
p-values, which is why each starts again by itself.

**What it cannot do.** That d days are the d largest of n earlier ones and themselves has the chance 1 / C(n + d, d)
under the null, so no bet on the order of days, however large the change, is worth more than C(n + d, d) after d days,
and an alarm needs C(n + d, d) >= c (`fewest_days`); dividing the stake among several bets costs a day or two more.
Breaks that have a name (`cause`) are told on the first day instead. Days that follow a season or lean on the day before
are not exchangeable: declare the weekday, or compare with the same season, or expect to be told of the season.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]

DAYS_PER_MONTH = 30.0
_SHIFTS = np.array([0.5, 1.0, 2.0, -0.5, -1.0, -2.0])
_STAKE = 0.9
_OUTER_RANKS = 4
NUM_BETS = len(_SHIFTS) + 2
_EMPTY = -1e4


def threshold(channels: int, false_alarms_per_month: float) -> float:
    """c: what the detector of one of `channels` channels must reach."""
    return channels * DAYS_PER_MONTH / false_alarms_per_month


def fewest_days(earlier: int, level: float, groups: int = 1) -> int:
    """The days that the largest change needs to reach c = `level` by bets on the order of days, after `earlier` days of
    each of `groups` groups (7 weekdays): the smallest d at which the chance of its order is 1 / level or less, for one
    group 1 / C(earlier + d, d). Whatever the bets are; these need up to 2 more (after 20 days and more)."""
    days, evidence = 0, 1.0
    while evidence < level:
        of_group = days // groups + 1
        evidence *= (earlier + of_group) / of_group
        days += 1
    return days


def conformal_p(history: Floats, values: Floats, uniform: Floats) -> Floats:
    """The p-values of `values` [C] (small: large) after `history` [t - 1, C], whose NaN are no days of their channel;
    `uniform` [C] breaks ties."""
    above = (history > values).sum(axis=0)
    equal = (history == values).sum(axis=0)
    return np.asarray((above + uniform * (1 + equal)) / (1 + np.isfinite(history).sum(axis=0)))


def log_bets(p: Floats, days: NDArray[np.int64]) -> Floats:
    """log f of every bet on the p-values [C], each of the `days`-th day [C] of its group: [C, NUM_BETS]."""
    z = -special.ndtri(np.clip(p, 1e-12, 1 - 1e-12))[:, None]
    shifts = _SHIFTS * z - _SHIFTS**2 / 2
    outer = np.minimum(_OUTER_RANKS / days, 0.5)
    won, lost = np.log(1 - _STAKE + _STAKE / outer), math.log(1 - _STAKE)
    ends = [np.where(side <= outer, won, lost) for side in (p, 1 - p)]
    return np.concatenate([shifts, np.stack(ends, axis=1)], axis=1)


@dataclass(frozen=True, slots=True)
class ChannelAlarm:
    """Channel `channel` reached its threshold on day `day`; the change began about day `since`, upwards or not."""

    channel: int
    day: int
    since: int
    up: bool
    evidence: float


class ChannelWatch:
    """The detectors of C channels. `reference` [N, C] are the days of the reference in order, `groups` [N] theirs (the
    weekday, or nothing). Memory: one number a day and channel."""

    def __init__(self, reference: Floats, level: float, groups: Sequence[int] | None = None, seed: int = 7) -> None:
        self._random = np.random.default_rng(seed)
        self._log_level = math.log(level)
        days, channels = reference.shape
        of_day = np.zeros(days, int) if groups is None else np.asarray(groups)
        self._history: dict[int, list[Floats]] = {}
        for group, row in zip(of_day.tolist(), reference, strict=True):
            self._history.setdefault(group, []).append(row)
        self._log_r = np.full((channels, NUM_BETS), _EMPTY)
        self._sums = np.zeros((channels, NUM_BETS))
        self._since = np.zeros((channels, NUM_BETS), int)
        self._day = -1

    def update(self, values: Floats, group: int = 0) -> list[ChannelAlarm]:
        """Take the numbers [C] of the next day; NaN (no rows) says nothing. Returns the alarms of this day."""
        self._day += 1
        history = self._history.setdefault(group, [])
        uniform = self._random.random(len(values))
        known = np.isfinite(values)[:, None]
        if history:
            before = np.array(history)
            p = conformal_p(before, values, uniform)
            gain = np.where(known, log_bets(p, 1 + np.isfinite(before).sum(axis=0)), 0.0)
            begun = np.where(known, 0.0, -np.inf)  # a day without rows begins no test
            self._log_r = np.maximum(np.logaddexp(self._log_r, begun) + gain, _EMPTY)
            fresh = self._sums <= 0
            self._since = np.where(fresh, self._day, self._since)
            self._sums = np.where(fresh, 0.0, self._sums) + gain
        history.append(values)
        log_mean = np.logaddexp.reduce(self._log_r, axis=1) - math.log(NUM_BETS)
        return [self._alarm(int(channel), log_mean) for channel in np.flatnonzero(log_mean >= self._log_level)]

    def _alarm(self, channel: int, log_mean: Floats) -> ChannelAlarm:
        best = int(np.argmax(self._log_r[channel]))
        up = _SHIFTS[best] > 0 if best < len(_SHIFTS) else best == len(_SHIFTS)
        alarm = ChannelAlarm(
            channel, self._day, int(self._since[channel, best]), bool(up), math.exp(log_mean[channel] - self._log_level)
        )
        self._log_r[channel], self._sums[channel] = _EMPTY, 0.0
        return alarm
