"""Wald's sequential probability ratio test on failures: the fast way to see that a candidate is broken.

Assumption: calls fail independently with one probability p, given what came before (bursts of failures that share a
cause make it too eager, never too slow). Source: Wald (1945), "Sequential tests of statistical hypotheses"; the
bounds on its errors under looks at any time are Ville's inequality on the likelihood ratio, a martingale under p0, and
on its inverse, a martingale under p1.
"""

import math
from dataclasses import dataclass
from functools import cached_property

from fairlead.records.evidence import Verdict


@dataclass(frozen=True)
class Sprt:
    """The test of "failure rate is `healthy`" against "it is `bad`".

    With boundaries A = log((1 - beta) / alpha) and B = log(beta / (1 - alpha)), whatever the looks:
    P(FAIL ever | healthy) <= alpha / (1 - beta), and P(PASS ever | bad) <= beta / (1 - alpha). Rates below `healthy`
    and above `bad` are decided with smaller errors still.
    """

    healthy: float
    bad: float
    alpha: float
    beta: float

    def __post_init__(self) -> None:
        if not 0 < self.healthy < self.bad < 1:
            raise ValueError(f"need 0 < healthy < bad < 1, got healthy={self.healthy}, bad={self.bad}")
        if not (0 < self.alpha < 1 and 0 < self.beta < 1 and self.alpha + self.beta < 1):
            raise ValueError(f"need alpha, beta > 0 and alpha + beta < 1, got {self.alpha}, {self.beta}")

    @cached_property
    def upper(self) -> float:
        """The log likelihood ratio from which the candidate counts as bad."""
        return math.log((1 - self.beta) / self.alpha)

    @cached_property
    def lower(self) -> float:
        """The log likelihood ratio down to which the candidate counts as healthy."""
        return math.log(self.beta / (1 - self.alpha))

    @cached_property
    def per_failure(self) -> float:
        """What one failure adds."""
        return math.log(self.bad / self.healthy)

    @cached_property
    def per_success(self) -> float:
        """What one success adds (below zero)."""
        return math.log((1 - self.bad) / (1 - self.healthy))

    def log_ratio(self, n: int, events: int) -> float:
        """log of the likelihood under `bad` over that under `healthy`, after `events` failures in `n` calls."""
        return events * self.per_failure + (n - events) * self.per_success

    def verdict(self, n: int, events: int) -> Verdict:
        """PASS at or below `lower`, FAIL at or above `upper`, else not enough evidence. Valid at any look."""
        ratio = self.log_ratio(n, events)
        if ratio >= self.upper:
            return Verdict.FAIL
        return Verdict.PASS if ratio <= self.lower else Verdict.NOT_ENOUGH_EVIDENCE

    def needed(self, n: int, events: int) -> int | None:
        """How many more calls PASS takes when failures go on at the rate seen so far; None when it never comes."""
        rate = events / n if n else 0.0
        drift = rate * self.per_failure + (1 - rate) * self.per_success
        missing = self.lower - self.log_ratio(n, events)
        if missing >= 0:
            return 0
        return math.ceil(missing / drift) if drift < 0 else None
