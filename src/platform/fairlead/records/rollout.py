"""A rollout: the plan, what was observed, the durable record. The engine in deploy/rollout is pure in these."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from fairlead.records.course import CoursePart
from fairlead.records.data import SkewFinding
from fairlead.records.evidence import LabelCounts, LatencyCounts, MetricVerdict, RunningMean, RunningRate
from fairlead.records.release import Arm, Release
from fairlead.records.trial import KeyOutcomes, TrialPlan


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    """How a candidate meets traffic. Percents 0..100, rates 0..1, times in seconds.

    error_budget: the probability of a wrong decision (false promotion, false rollback) over the whole rollout.
    max_error_rate_increase: margin on candidate minus champion failure rate.
    max_flip_rate, max_score_difference: shadow bounds; None for the score difference means "from retraining noise"
    (`score_difference_factor` times the larger noise of the two bundles).
    latency_bound_ms / max_slow_rate: at most this share of candidate requests may take longer than the bound.
    latency_quantiles, max_latency_increase, min_latency_increase_ms: each of these quantiles of the candidate's latency
    may be at most the larger of champion's x max_latency_increase and champion's + min_latency_increase_ms, over the
    same minutes; no quantiles: not compared.
    max_loss_increase: margin on the paired Brier (or squared-error) difference once labels arrive.
    min_requests: candidate requests (or pairs) per step before a PASS may count.
    label_horizon_seconds: how long a label may take; an answer counts in the loss once that is over. None: at once.
    slices: columns whose values are compared on their own in the shadow, with bounds `slice_factor` times as wide.
    trial: an A/B test or a bandit in place of the canary steps; `steps` is then the share that it begins with.
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
    latency_quantiles: tuple[float, ...] = ()
    max_latency_increase: float = 1.25
    min_latency_increase_ms: float = 0.0
    label_horizon_seconds: float | None = None
    slices: tuple[str, ...] = ()
    slice_factor: float = 2.0
    trial: TrialPlan | None = None


@dataclass(frozen=True, slots=True)
class ArmEvidence:
    """What the router counted for one model digest since it got this digest. `requests`: all calls. Everything else
    counts units of evidence (see `fairlead.serve.units`): `failures`: calls of the model that raised, timed out or
    answered garbage, whether or not a user saw it, a key once per release. `attempts`: the same, a key once per minute,
    for the tests that must see a fault that starts late (None: as `failures`). `slow`: calls over the latency bound.
    `latency`: of calls that are at least the declared spacing apart. `loss`: Brier or squared error per labelled
    request whose key chose the arm, so that both arms' are of the same time; with a label horizon, of those whose
    horizon is over, which `labels` accounts for. `keys`: what an A/B test or a bandit counts (see
    `fairlead.serve.trial`)."""

    digest: str
    requests: int = 0
    failures: RunningRate = field(default_factory=RunningRate)
    slow: RunningRate = field(default_factory=RunningRate)
    loss: RunningMean = field(default_factory=RunningMean)
    latency_p50_ms: float | None = None
    latency_p99_ms: float | None = None
    latency: LatencyCounts = field(default_factory=LatencyCounts)
    attempts: RunningRate | None = None
    labels: LabelCounts = field(default_factory=LabelCounts)
    keys: KeyOutcomes | None = None

    @property
    def tried(self) -> RunningRate:
        """`attempts`, or `failures` where they are not counted apart."""
        return self.failures if self.attempts is None else self.attempts


@dataclass(frozen=True, slots=True)
class SliceEvidence:
    """Pairs of one slice, as in PairEvidence."""

    flips: RunningRate = field(default_factory=RunningRate)
    difference: RunningMean = field(default_factory=RunningMean)
    loss_difference: RunningMean = field(default_factory=lambda: RunningMean(low=-1.0, high=1.0))


@dataclass(frozen=True, slots=True)
class PairEvidence:
    """Champion and candidate on the same request, each key counted once (`requests`: all). `difference` is
    |score_c - score_b| in [0, 1]; `loss_difference` (candidate minus champion, in [-1, 1]) once the label arrived, or
    with a label horizon once that is over, which `labels` accounts for; `dropped` shadow copies count, and never
    delay. `slices`: the same pairs by "column=value" of the declared columns."""

    champion_digest: str
    candidate_digest: str
    flips: RunningRate = field(default_factory=RunningRate)
    difference: RunningMean = field(default_factory=RunningMean)
    loss_difference: RunningMean = field(default_factory=lambda: RunningMean(low=-1.0, high=1.0))
    shadow_failures: RunningRate = field(default_factory=RunningRate)
    shadow_slow: RunningRate = field(default_factory=RunningRate)
    dropped: int = 0
    requests: int = 0
    labels: LabelCounts = field(default_factory=LabelCounts)
    slices: Mapping[str, SliceEvidence] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ServingEvidence:
    """What a server answers to ``GET /fairlead/v1/evidence``.

    `release` is the Release that it applies now (not one that it still converges to). `candidate_ready` is True when
    the candidate's bundle is verified and loaded and answers; `candidate_error` says why it never will, once the
    server has given up. All counts begin with the process (or with the digest, whichever is later) and never go back
    within one `instance`, an identity that a restarted process does not share. `candidate` and `pairs` are None
    without a candidate. Calls that copy a request for the shadow count in `pairs` only, never in `candidate`.
    `split`: keys that chose an arm by their hash since the release was taken, `events` of them the candidate's.
    `feedback` counts labels: joined, unknown, duplicate, changed, late; only joined ones are evidence. `error` says
    what a replica could not do (the newest champion's bundle is damaged, say) while it keeps what it had. `outcomes`:
    what became of the outcomes of an A/B test or a bandit, by `records.trial.WORDS`.
    """

    release: Release
    candidate_ready: bool = False
    candidate_error: str = ""
    champion: ArmEvidence | None = None
    candidate: ArmEvidence | None = None
    pairs: PairEvidence | None = None
    user_failures: int = 0
    requests_per_second: float = 0.0
    instance: str = ""
    requests_total: int = 0
    replicas: int = 0
    feedback: Mapping[str, int] = field(default_factory=dict)
    error: str = ""
    split: RunningRate | None = None
    outcomes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tally:
    """Evidence as sums that can be added and subtracted: what a rollout counted of its own two digests."""

    champion: ArmEvidence = field(default_factory=lambda: ArmEvidence(""))
    candidate: ArmEvidence = field(default_factory=lambda: ArmEvidence(""))
    pairs: PairEvidence = field(default_factory=lambda: PairEvidence("", ""))
    user_failures: int = 0


@dataclass(frozen=True, slots=True)
class Detectors:
    """The restarting detectors of one step or of the watch: log R of each (see `fairlead.deploy.statistics.detector`)
    at the time `at`. `since` is when the step began: another step starts with empty ones. `latency`: one for each
    quantile of the plan. `loss`: one for each strength of `statistics.mean_shifts`, at the time `loss_at`, when the
    sums of losses were `loss_sums`; (n, total, variance) of candidate and champion, or of pairs in the watch."""

    since: str = ""
    at: str = ""
    failures: float = -1e4
    slow: float = -1e4
    blame: float = -1e4
    latency: tuple[float, ...] = ()
    loss: tuple[float, ...] = ()
    loss_at: str = ""
    loss_sums: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Observation:
    """The world as re-read before each step. `release` is what the servers say they apply (None: unreachable), `error`
    why something could not be read; evidence is only valid when its digests are the rollout's own.
    `user_failures` counts answers with status >= 500 that a user saw since the server began to count. `instance`
    changes when the counters start anew. `candidate_error`: the candidate cannot be brought up, for good.
    `split`, `outcomes`: as in ServingEvidence.
    `numeric_noise`: how far a model is from itself (expected: 0); `slice_noise`: the noise of retraining by slice,
    where it was measured.
    `skew_expected`: live features are being compared with training statistics, so a finding must come. `note`: what
    the servers complain about, beside the candidate. `foreign` names somebody else's change of traffic, where the
    backend numbers changes by itself."""

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
    instance: str = ""
    candidate_error: str = ""
    skew_expected: bool = False
    note: str = ""
    split: RunningRate | None = None
    foreign: str = ""
    slice_noise: Mapping[str, float] = field(default_factory=dict)
    numeric_noise: float | None = None
    outcomes: Mapping[str, int] = field(default_factory=dict)


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

    `rollback_target` is recorded at the start and never inferred. `generation` grows with each decision;
    `release_generation` is the generation of the last decision that changed the wished Release, and
    `applied_generation` the last one that the servers confirmed. `effects_generation` is the last release generation
    whose registry change was made, `notified` the number of decisions that were told.

    `command` is a person's wish not yet taken up (pause, resume, promote, abort). `pause_kind` is "person",
    "inconclusive", "no_data", "error" or "taken_over". `status` says in one sentence what is being waited for.

    Evidence: `seen` are the server's counters at the last look, `carried` what must be added to them (earlier server
    processes, minus what was counted before the rollout), `step_start` their sum when the step began, and
    `step_baseline` the same as plain counts. `deadline_from` restarts `max_seconds`, `trouble_since` is when reading
    first failed, `skew` what live features last looked like, `failed` what failed and awaits a cause.

    `writer` is the run of the loop that wrote it last: a write of our own whose answer was lost is told from another
    controller's by it. `hosted_since` is when that run began: what nobody looked at before is no silence. `overruled`:
    somebody else's change of traffic that the last decision was made in sight of; it is set right, where another one
    would be respected. `left_instances` are the last server processes whose counters were left for another's. `course`
    is how the evidence grew, for people only.

    An A/B test or a bandit began at `trial_since` and had lasted `trial_seconds` at the last look. The last allocation
    of a bandit was number `allocated`, made on `allocated_keys`. At its end `result` says what it found ("candidate",
    "champion", "same", "no_winner", "invalid"), `recommends` what follows."""

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
    status: str = ""
    release_generation: int = 0
    effects_generation: int = 0
    notified: int = 0
    pause_kind: str = ""
    deadline_from: str = ""
    trouble_since: str = ""
    server_instance: str = ""
    seen: Tally | None = None
    carried: Tally = field(default_factory=Tally)
    step_start: Tally = field(default_factory=Tally)
    skew: tuple[SkewFinding, ...] = ()
    failed: tuple[MetricVerdict, ...] = ()
    started_by: str = ""
    updated_at: str = ""
    detectors: Detectors = field(default_factory=Detectors)
    writer: str = ""
    hosted_since: str = ""
    overruled: str = ""
    left_instances: tuple[str, ...] = ()
    course: tuple[CoursePart, ...] = ()
    trial_since: str = ""
    trial_seconds: float = 0.0
    allocated: int = 0
    allocated_keys: int = 0
    result: str = ""
    recommends: str = ""
