"""An A/B test or a bandit: what is declared, and what servers count for it, key by key."""

from dataclasses import dataclass, field

from fairlead.records.evidence import RunningMean

AB_TEST, BANDIT = "ab_test", "bandit"

LABEL, LOSS = "label", "loss"
"""Metrics that come with the labels: the label itself, and the loss of the answer that was given."""

WORDS = ("joined", "unknown", "duplicate", "changed", "late", "out_of_range", "not_declared")
"""What becomes of an outcome that is posted. Only joined ones are evidence (see `fairlead.serve.trial`)."""


@dataclass(frozen=True, slots=True)
class OutcomeRule:
    """What servers count for each key. `metric`: its name in feedback, `label` or `loss`. Values lie in [low, high];
    `binary`: they are one of the two. A key counts `horizon_seconds` after its first exposure, with the outcome that
    came until then, or with `missing`; None: without one it is left out."""

    metric: str
    horizon_seconds: float
    low: float = 0.0
    high: float = 1.0
    binary: bool = True
    missing: float | None = None


@dataclass(frozen=True, slots=True)
class KeyOutcomes:
    """One model's keys. `exposed`: met this model first. `ripe`: of those, the ones whose horizon is over. `arrived`:
    of those, the ones with an outcome in time. `values`: what counts, one value per key."""

    exposed: int = 0
    ripe: int = 0
    arrived: int = 0
    values: RunningMean = field(default_factory=RunningMean)


@dataclass(frozen=True, slots=True)
class TrialPlan:
    """What takes the place of the canary steps. `kind`: "ab_test" or "bandit". It ends after `max_keys` keys that
    count, or `max_seconds`. `promotes`: the candidate becomes champion by itself when it wins (an A/B test), when it is
    best at the end (a bandit).

    A/B test: `alpha` is the probability of a winner that is none, `split_alpha` of calling a right split wrong,
    `smallest_effect` the smallest difference worth having (0: none is too small), `expected_rate` about where a rate
    lies. Bandit: `policy` is "thompson", "epsilon_greedy" (with `epsilon`) or "ucb"; shares (0 to 1) are set anew every
    `every_seconds`, none below `floor`."""

    kind: str
    outcome: OutcomeRule
    higher_is_better: bool
    max_keys: int
    max_seconds: float
    promotes: bool
    alpha: float = 0.05
    split_alpha: float = 0.001
    smallest_effect: float = 0.0
    expected_rate: float = 0.1
    policy: str = ""
    epsilon: float = 0.1
    floor: float = 0.0
    every_seconds: float = 0.0
