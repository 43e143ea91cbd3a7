"""Evidence: the four verdicts, and the running sums that statistics valid at every look are computed from."""

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


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
    counted in `clipped`.
    """

    low: float = 0.0
    high: float = 1.0
    n: int = 0
    total: float = 0.0
    variance_process: float = 0.0
    clipped: int = 0

    @property
    def mean(self) -> float:
        """The mean so far; the middle of the range before the first value."""
        return self.total / self.n if self.n else (self.low + self.high) / 2

    def add(self, values: Iterable[float]) -> None:
        """Take values in the order in which they arrived."""
        for raw in values:
            value = min(max(raw, self.low), self.high)
            if value != raw:
                self.clipped += 1
            self.variance_process += (value - self.mean) ** 2
            self.n += 1
            self.total += value


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
