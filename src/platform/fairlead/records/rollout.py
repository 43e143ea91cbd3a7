"""A rollout: the plan, what was observed, the durable record. The engine in deploy/rollout is a pure function of these."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from fairlead.records.data import SkewFinding
from fairlead.records.evidence import MetricVerdict, RunningMean, RunningRate
from fairlead.records.release import Arm, Release


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    """How a candidate meets traffic. Percents 0..100, rates 0..1, times in seconds.

    error_budget: the probability of a wrong decision (false promotion, false rollback) over the whole rollout.
    max_error_rate_increase: margin on candidate minus champion failure rate.
    max_flip_rate, max_score_difference: shadow bounds; None for the score difference means "from retraining noise"
    (`score_difference_factor` times the larger noise of the two bundles).
    latency_bound_ms / max_slow_rate: at most this share of candidate requests may take longer than the bound.
    max_loss_increase: margin on the paired Brier (or squared-error) difference once labels arrive.
    min_requests: candidate requests (or pairs) per step before a PASS may count.
    """

    shadow_percent: float
    shadow_min_requests: int
    steps: tuple[float, ...]
    min_requests: int
    error_budget: float
    max_error_rate_increase: float
    max_flip_rate: float
    max_score_difference: float | None
    score_difference_factor: float
    max_loss_increase: float
    latency_bound_ms: float
    max_slow_rate: float
    healthy_failure_rate: float
    bad_failure_rate: float
    abort_error: float
    max_seconds: float
    no_data_seconds: float
    watch_seconds: float


@dataclass(frozen=True, slots=True)
class ArmEvidence:
    """What the router counted for one model digest since it got this digest. `failures`: calls of the model that
    raised, timed out or answered garbage, whether or not a user saw it. `slow`: calls over the latency bound.
    `loss`: Brier or squared error per labelled request."""

    digest: str
    requests: int = 0
    failures: RunningRate = field(default_factory=RunningRate)
    slow: RunningRate = field(default_factory=RunningRate)
    loss: RunningMean = field(default_factory=RunningMean)
    latency_p50_ms: float | None = None
    latency_p99_ms: float | None = None


@dataclass(frozen=True, slots=True)
class PairEvidence:
    """Champion and candidate on the same request. `difference` is |score_c - score_b| in [0, 1]; `loss_difference`
    (candidate minus champion, in [-1, 1]) once the label arrived; `dropped` shadow copies count, and never delay."""

    champion_digest: str
    candidate_digest: str
    flips: RunningRate = field(default_factory=RunningRate)
    difference: RunningMean = field(default_factory=RunningMean)
    loss_difference: RunningMean = field(default_factory=lambda: RunningMean(low=-1.0, high=1.0))
    shadow_failures: RunningRate = field(default_factory=RunningRate)
    shadow_slow: RunningRate = field(default_factory=RunningRate)
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Observation:
    """The world as re-read before each step. `release` is what the servers say they apply (None: unreachable), `error`
    why something could not be read; evidence is only valid when its digests are the rollout's own.
    `user_failures` counts answers with status >= 500 that a user saw since the rollout began."""

    release: Release | None
    candidate_ready: bool
    champion: ArmEvidence | None
    candidate: ArmEvidence | None
    pairs: PairEvidence | None
    skew: tuple[SkewFinding, ...] = ()
    retraining_noise: float | None = None
    requests_per_second: float = 0.0
    user_failures: int = 0
    error: str = ""


class Phase(enum.StrEnum):
    """Where a rollout is.

    STARTING: the candidate is being brought up, gets nothing yet.
    SHADOW: it gets copies, its answers decide nothing.
    CANARY: it answers the share of keys that the step says.
    PROMOTING: intent to promote is written; registry and servers follow.
    WATCHING: promoted, the old champion is warm and can come back at once.
    ABORTING: intent to roll back is written; servers follow.
    PAUSED: held for a person (`pause_reason`); weights stay as they are.
    PROMOTED, ABORTED: ended.
    """

    STARTING = "starting"
    SHADOW = "shadow"
    CANARY = "canary"
    PROMOTING = "promoting"
    WATCHING = "watching"
    ABORTING = "aborting"
    PAUSED = "paused"
    PROMOTED = "promoted"
    ABORTED = "aborted"


TERMINAL = frozenset({Phase.PROMOTED, Phase.ABORTED})


@dataclass(frozen=True, slots=True)
class Decision:
    """One thing that was decided, with the evidence at that moment. `actor`: "engine", or a person's name."""

    at: str
    generation: int
    actor: str
    phase_before: Phase
    phase_after: Phase
    weight_before: float
    weight_after: float
    sentence: str
    metrics: tuple[MetricVerdict, ...] = ()
    skew: tuple[SkewFinding, ...] = ()
    evidence: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RolloutRecord:
    """The durable state of one rollout, written with compare-and-swap before anything is done (write-ahead).

    `rollback_target` is recorded at the start and never inferred. `applied_generation` is the last release generation
    that the servers confirmed. `command` is a person's wish not yet taken up (pause, resume, promote, abort)."""

    id: str
    model: str
    plan: RolloutPlan
    champion: Arm
    candidate: Arm
    rollback_target: Arm
    phase: Phase
    generation: int
    step: int
    weight: float
    shadow_percent: float
    started_at: str
    phase_since: str
    decisions: tuple[Decision, ...] = ()
    resume_phase: Phase | None = None
    pause_reason: str = ""
    applied_generation: int = 0
    command: str = ""
    command_by: str = ""
    step_baseline: Mapping[str, int] = field(default_factory=dict)
    last_metrics: tuple[MetricVerdict, ...] = ()
    last_requests: int = 0
    last_data_at: str = ""
