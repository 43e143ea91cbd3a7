"""The simulated world: what the champion is like, and how a candidate differs from it.

Assumptions, all of them on the simulation and none on the policy: requests arrive evenly at one rate; each call fails,
is slow or changes its label independently with one probability at a time; absolute score differences follow a
Beta(1, b), loss differences of a pair a normal distribution cut to [-1, 1]; a failed candidate call is answered by the
champion. Live features look as in training, for both models.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from fairlead.deploy.rehearsal.arrays import Floats

Kind = Literal["none", "failures", "slow", "latency", "difference", "loss"]
Onset = Literal["sudden", "creeping", "late"]

LATE = 0.8
"""Share of a healthy rollout's usual duration after which a late effect begins."""


@dataclass(frozen=True, slots=True)
class BaseRates:
    """The champion, and a candidate that is as good. `per_second` requests; `difference` the mean absolute score
    difference of two honest models (0..1), `noise` the measured retraining noise that a bound may be derived from;
    `loss` the mean loss per labelled answer, `loss_spread` its standard deviation, `loss_difference_spread` that of a
    pair's difference; `latency_ms` the median latency, `latency_spread` the standard deviation of its logarithm,
    `latencies_per_second` how many of a model's latencies count as evidence at most (`serve.units` spaces them);
    `labelled` the share of answers that get a label, `label_seconds` later."""

    per_second: float = 100.0
    failure_rate: float = 0.001
    slow_rate: float = 0.005
    latency_ms: float = 20.0
    latency_spread: float = 0.25
    latencies_per_second: float = 10.0
    flip_rate: float = 0.02
    difference: float = 0.02
    noise: float | None = 0.02
    loss: float = 0.15
    loss_spread: float = 0.2
    loss_difference_spread: float = 0.05
    labelled: float = 0.0
    label_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Effect:
    """How the candidate is worse. `added` is what the effect adds where it hits: a rate for failures and slow answers,
    a share of the latency, a mean for score differences and losses. It hits `share` of the requests (a slice); the rest
    stay as they are."""

    kind: Kind = "none"
    added: float = 0.0
    onset: Onset = "sudden"
    share: float = 1.0

    def strength(self, seconds: Floats, usual_seconds: float) -> Floats:
        """How much of the effect there is, 0 to 1, this long after the rollout began. `usual_seconds`: what a healthy
        rollout takes."""
        if self.onset == "creeping":
            return np.clip(seconds / max(usual_seconds, 1e-9), 0.0, 1.0)
        if self.onset == "late":
            return (seconds >= LATE * usual_seconds).astype(np.float64)
        return np.ones_like(seconds)


@dataclass(frozen=True, slots=True)
class Candidate:
    """The candidate's rates at some instants, each an array."""

    failure_rate: Floats
    slow_rate: Floats
    difference: Floats
    loss_shift: Floats
    latency_factor: Floats
    harm: Floats
    """The share of its answers that the effect makes worse for whoever gets them."""


def candidate_at(base: BaseRates, effect: Effect, seconds: Floats, usual_seconds: float) -> Candidate:
    """The candidate this long after the rollout began."""
    strength = effect.strength(seconds, usual_seconds) * effect.share
    nothing = np.zeros_like(seconds)

    def rate(kind: Kind, usual: float) -> Floats:
        added = strength * effect.added if effect.kind == kind else nothing
        out: Floats = np.clip(usual + added, 0.0, 1.0)
        return out

    onset = effect.strength(seconds, usual_seconds)
    harm = strength * (min(effect.added, 1.0) if effect.kind in ("failures", "slow") else float(effect.kind != "none"))
    return Candidate(
        failure_rate=rate("failures", base.failure_rate),
        slow_rate=rate("slow", base.slow_rate),
        difference=np.clip(rate("difference", base.difference), 1e-6, 0.999),
        loss_shift=strength * effect.added if effect.kind == "loss" else nothing,
        latency_factor=1 + onset * effect.added if effect.kind == "latency" else nothing + 1,
        harm=harm,
    )


def hit(effect: Effect, share: float) -> Effect:
    """The same effect on a slice that makes up `share` of the requests."""
    return replace(effect, share=share)
