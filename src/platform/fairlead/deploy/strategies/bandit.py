"""Bandit policies as shares of traffic: for cases where exploration is the point and every arm is safe to show. Pure.

A policy sees each arm's rewards so far (in [0, 1], final ones only: `maturing`) and says which share of the keys each
arm should get until the next look. `allocate` adds the floor: no arm gets less than `floor` of the traffic, so that
none is given up for good, each can still be measured, and a change of the world is noticed.

    EpsilonGreedy  the best mean gets 1 - epsilon, all share epsilon. Linear regret; easy to explain.
                   Sutton, Barto (2018), "Reinforcement learning", 2.2.
    Thompson       each arm gets the probability that it is the best, from Beta posteriors. For rewards between 0 and 1
                   that are not yes or no the sums are used as if they were: the posterior is then too wide, never too
                   narrow. Thompson (1933), "On the likelihood that one unknown probability exceeds another in view of
                   the evidence of two samples"; regret: Agrawal, Goyal (2012), "Analysis of Thompson sampling for the
                   multi-armed bandit problem", whose randomised rounding has the same mean.
    Ucb1           all traffic to the largest mean + sqrt(2 log N / n). Auer, Cesa-Bianchi, Fischer (2002),
                   "Finite-time analysis of the multiarmed bandit problem", theorem 1. Delayed rewards: the index uses
                   observed ones only, which costs what the arms got meanwhile (Joulani, György, Szepesvári 2013,
                   "Online learning under delayed feedback").

What a bandit gives up: the means of the arms that it turned away from are biased downwards (Nie, Tian, Taylor, Zou
2018, "Why adaptively collected data have negative bias and how to correct for it"), so no error rate is promised for
"which is best". Where that is the question, run an A/B test.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Shares = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ArmRewards:
    """An arm's final rewards: `n` of them, their sum `total` (0 <= total <= n)."""

    n: int
    total: float

    def __post_init__(self) -> None:
        if not (self.n >= 0 and 0 <= self.total <= self.n):
            raise ValueError(f"{self.n} rewards between 0 and 1 cannot sum to {self.total:g}")


class Policy(Protocol):
    """How the keys should be divided. `rng` is the only source of chance, so that a seed repeats an allocation."""

    def shares(self, arms: Sequence[ArmRewards], rng: np.random.Generator) -> Shares:
        """A share per arm, together 1."""


@dataclass(frozen=True, slots=True)
class EpsilonGreedy:
    """The best mean gets all but `epsilon`; ties, and arms without rewards, are tried evenly."""

    epsilon: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon <= 1:
            raise ValueError(f"epsilon must lie between 0 and 1, not {self.epsilon:g}")

    def shares(self, arms: Sequence[ArmRewards], rng: np.random.Generator) -> Shares:
        """See Policy."""
        return (1 - self.epsilon) * _even(_best(_means(arms))) + self.epsilon / len(arms)


@dataclass(frozen=True, slots=True)
class Thompson:
    """Each arm's probability of being the best, by `draws` draws from Beta(prior_a + total, prior_b + n - total)."""

    prior_a: float = 1.0
    prior_b: float = 1.0
    draws: int = 2000

    def __post_init__(self) -> None:
        if not (self.prior_a > 0 and self.prior_b > 0 and self.draws > 0):
            raise ValueError("a prior and a number of draws are above 0")

    def shares(self, arms: Sequence[ArmRewards], rng: np.random.Generator) -> Shares:
        """See Policy."""
        totals, counts = np.array([arm.total for arm in arms]), np.array([arm.n for arm in arms])
        drawn = rng.beta(self.prior_a + totals, self.prior_b + counts - totals, size=(self.draws, len(arms)))
        return np.bincount(drawn.argmax(axis=1), minlength=len(arms)) / self.draws


@dataclass(frozen=True, slots=True)
class Ucb1:
    """All to the largest upper bound; `width` scales it (1: as published)."""

    width: float = 1.0

    def __post_init__(self) -> None:
        if not self.width > 0:
            raise ValueError(f"width must be above 0, not {self.width:g}")

    def shares(self, arms: Sequence[ArmRewards], rng: np.random.Generator) -> Shares:
        """See Policy."""
        counts = np.array([max(arm.n, 1) for arm in arms], dtype=np.float64)
        bonus = self.width * np.sqrt(2 * np.log(max(counts.sum(), 2.0)) / counts)
        return _even(_best(_means(arms) + bonus))


def allocate(policy: Policy, arms: Sequence[ArmRewards], floor: float, rng: np.random.Generator) -> tuple[float, ...]:
    """The share of the keys for each arm, at least `floor` each and together 1: `policy` divides what the floors leave.
    Raises ValueError without arms, or when the floors are more than there is."""
    if not arms:
        raise ValueError("there is no arm to give traffic to")
    if not 0 <= floor * len(arms) <= 1:
        raise ValueError(f"a floor of {floor:g} for each of {len(arms)} arms is more than all traffic, or negative")
    wanted = policy.shares(arms, rng)
    shares = floor + (1 - floor * len(arms)) * wanted / wanted.sum()
    return tuple(float(share) for share in shares)


def _means(arms: Sequence[ArmRewards]) -> Shares:
    """Means; infinite without rewards, so that every arm is tried."""
    return np.array([arm.total / arm.n if arm.n else np.inf for arm in arms])


def _best(values: Shares) -> NDArray[np.bool_]:
    return np.asarray(values == values.max())


def _even(chosen: NDArray[np.bool_]) -> Shares:
    return np.asarray(chosen / chosen.sum(), dtype=np.float64)
