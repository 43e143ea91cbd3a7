"""Evidence: the four verdicts, and the running sums that statistics valid at every look are computed from."""

import enum
import itertools
import math
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

LATENCY_BINS_PER_E = 40.0
"""Latency bins per factor of e: neighbouring edges differ by 2.5 %."""
MOST_VALUES = 15
"""Values of a declared column that get evidence of their own; all others are one more, `OTHER_VALUES`."""
OTHER_VALUES = "(other)"
_LOWEST_BIN, _HIGHEST_BIN = -461, 276  # 10 microseconds, 1,000 s: what lies outside is counted in the end bins


class Verdict(enum.StrEnum):
    """The four answers to "is it good enough?". `NOT_ENOUGH_EVIDENCE` comes with a reason: too few, inconclusive,
    stale. It never promotes and never rolls back."""

    PASS = "PASS"
    FAIL = "FAIL"
    NOT_ENOUGH_EVIDENCE = "NOT_ENOUGH_EVIDENCE"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval (or the current end of a confidence sequence) at `level`, e.g. 0.95."""

    low: float
    high: float
    level: float


@dataclass(slots=True)
class RunningMean:
    """Sums of values in [low, high], enough for an empirical-Bernstein confidence sequence.

    `variance_process` is the sum of (x_i - m_{i-1})^2 with m_{i-1} the mean of the values before x_i (the middle of
    the range before the first), so it is predictable as Howard, Ramdas, McAuliffe, Sekhon (2021), "Time-uniform,
    nonparametric, nonasymptotic confidence sequences", theorem 4, needs it. Values outside the range are clipped and
    counted in `clipped`; what is no finite number is no value: it is counted in `refused` and left out.
    """

    low: float = 0.0
    high: float = 1.0
    n: int = 0
    total: float = 0.0
    variance_process: float = 0.0
    clipped: int = 0
    refused: int = 0

    @property
    def mean(self) -> float:
        """The mean so far; the middle of the range before the first value."""
        return self.total / self.n if self.n else (self.low + self.high) / 2

    def add(self, values: Iterable[float]) -> None:
        """Take values in the order in which they arrived."""
        low, high, middle = self.low, self.high, self.mean
        n, total, variance_process = self.n, self.total, self.variance_process
        for raw in values:
            value = raw
            if not low <= raw <= high:
                if not math.isfinite(raw):
                    self.refused += 1
                    continue
                self.clipped += 1
                value = min(max(raw, low), high)
            variance_process += (value - (total / n if n else middle)) ** 2
            n += 1
            total += value
        self.n, self.total, self.variance_process = n, total, variance_process


@dataclass(slots=True)
class RunningRate:
    """Successes of a yes/no question: `events` of `n`."""

    n: int = 0
    events: int = 0

    @property
    def rate(self) -> float:
        """The share so far; 0 before the first."""
        return self.events / self.n if self.n else 0.0


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """What became of answers that a label was waited for, with a declared horizon: `exposed` units whose horizon is
    over, `labelled` ones among them, and `late` labels, which came after their horizon and are no evidence."""

    exposed: int = 0
    labelled: int = 0
    late: int = 0

    def plus(self, other: "LabelCounts", sign: int = 1) -> "LabelCounts":
        """The sum, or with `sign` -1 the difference."""
        return LabelCounts(
            self.exposed + sign * other.exposed, self.labelled + sign * other.labelled, self.late + sign * other.late
        )


def latency_bin(seconds: float) -> int:
    """The bin of a latency: bin i holds the seconds in [e^(i / 40), e^((i + 1) / 40))."""
    if seconds <= 1e-5:
        return _LOWEST_BIN
    return min(math.floor(LATENCY_BINS_PER_E * math.log(seconds)), _HIGHEST_BIN)


@dataclass(frozen=True, slots=True)
class LatencyCounts:
    """A histogram of latencies on the fixed grid of `latency_bin`: `counts[k]` fell into bin `first + k`. Its size has
    a bound (738 bins), it adds and subtracts exactly, and a quantile read from it is within 2.5 %."""

    first: int = 0
    counts: tuple[int, ...] = ()

    @classmethod
    def of(cls, bins: Mapping[int, int]) -> "LatencyCounts":
        """From counts by bin."""
        if not bins:
            return cls()
        first, last = min(bins), max(bins)
        return cls(first, tuple(bins.get(index, 0) for index in range(first, last + 1)))

    @property
    def n(self) -> int:
        """How many latencies."""
        return sum(self.counts)

    def quantile_ms(self, quantile: float) -> float | None:
        """The latency at `quantile` in milliseconds, within 2.5 %; None without observations."""
        total = self.n
        if total <= 0:
            return None
        target = quantile * total
        index = next(index for index, seen in enumerate(itertools.accumulate(self.counts)) if seen >= target)
        return 1000.0 * math.exp((self.first + index + 0.5) / LATENCY_BINS_PER_E)

    def plus(self, other: "LatencyCounts", sign: int = 1) -> "LatencyCounts":
        """The sum, or with `sign` -1 the difference, bin by bin."""
        if not other.counts:
            return self
        if not self.counts:
            return LatencyCounts(other.first, tuple(sign * count for count in other.counts))
        if self.first == other.first and len(self.counts) == len(other.counts):
            apply = operator.add if sign == 1 else operator.sub
            return LatencyCounts(self.first, tuple(map(apply, self.counts, other.counts)))
        first = min(self.first, other.first)
        last = max(self.first + len(self.counts), other.first + len(other.counts))
        merged = [0] * (last - first)
        for part, factor in ((self, 1), (other, sign)):
            at = part.first - first
            for index, count in enumerate(part.counts):
                merged[at + index] += factor * count
        return LatencyCounts(first, tuple(merged))


@dataclass(frozen=True, slots=True)
class MetricVerdict:
    """One metric at one look: what was observed, the interval, the bound, the verdict and why. `needed` is how many
    more requests a decision takes at the present estimate (None: unknown or decided)."""

    metric: str
    verdict: Verdict
    observed: float | None
    interval: Interval | None
    bound: float | None
    n: int
    why: str
    needed: int | None = None
    details: Mapping[str, object] = field(default_factory=dict)
