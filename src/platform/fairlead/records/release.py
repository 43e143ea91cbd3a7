"""What should be live: one record, whichever backend applies it."""

from dataclasses import dataclass

from fairlead.records.trial import OutcomeRule


@dataclass(frozen=True, slots=True)
class Arm:
    """A version that answers (or shadows) requests. `bundle_uri` is where to load it from, `digest` what it must be."""

    version: int
    bundle_uri: str
    digest: str


@dataclass(frozen=True, slots=True)
class Release:
    """The wish for one served model. `candidate_weight` and `shadow_percent` are percents, 0 to 100; both 0 without a
    candidate. `generation` grows with each change and fences stale controllers: an applier refuses a lower one, or an
    equal one with other content. `rollout` names who set it ("" for a person or the first deployment).
    `latency_bound_ms`: calls of a model that take longer count as slow; None: the serving deadline.
    `label_horizon_seconds`: a label may take this long, and an answer counts in the loss once it is over; None: labels
    count as they come. `slices`: input columns whose values get shadow evidence of their own.
    `outcome`: what is counted for each key of an A/B test or a bandit."""

    model: str
    generation: int
    champion: Arm
    candidate: Arm | None = None
    candidate_weight: float = 0.0
    shadow_percent: float = 0.0
    rollout: str = ""
    note: str = ""
    latency_bound_ms: float | None = None
    label_horizon_seconds: float | None = None
    slices: tuple[str, ...] = ()
    outcome: OutcomeRule | None = None
