"""The ``deploy`` section: how a candidate meets live traffic."""

from typing import Literal, Self

from pydantic import Field, model_validator

from fairlead.spec.quantities import Seconds, Section, Share
from fairlead.spec.trials import AbTest, Bandit

MOST_SLICE_COLUMNS = 4
"""Columns whose values a rollout compares on their own, at most: each costs memory, and a part of the error budget."""

_NAME = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"


class Shadow(Section):
    """The candidate sees copies of live requests; its answers decide nothing."""

    percent: float = Field(100, gt=0, le=100, description="Share of the requests that are copied.")
    min_requests: int = Field(2000, ge=1, description="Pairs of answers before the shadow may end.")
    max_flip_rate: Share = Field(0.15, gt=0, le=1, description="Pairs in which the label changes, at most.")
    max_score_difference: float | None = Field(
        None, gt=0, le=1, description="Mean absolute difference of scores, at most. Default: from retraining noise."
    )
    score_difference_factor: float = Field(
        2.0, ge=1, description="Without max_score_difference: the bound is this factor times the retraining noise."
    )
    slices: tuple[str, ...] | None = Field(
        None,
        max_length=MOST_SLICE_COLUMNS,
        description="Input columns whose values are compared on their own. Default: evaluate.slices.columns.",
    )
    slice_factor: float = Field(2.0, ge=1, description="The bounds of a slice are this many times those of all pairs.")

    @model_validator(mode="after")
    def _different_slices(self) -> Self:
        if self.slices is not None and len(set(self.slices)) < len(self.slices):
            raise ValueError("slices must name each column once")
        return self


class Latency(Section):
    """The candidate's latency against the champion's of the same minutes, quantile by quantile."""

    quantiles: tuple[float, ...] = Field(
        (0.5, 0.95, 0.99), min_length=1, max_length=8, description="Which quantiles are compared."
    )
    max_increase: float = Field(1.25, ge=1, le=100, description="Each may be this many times the champion's.")
    min_increase_ms: float | None = Field(
        None, ge=0, description="An increase up to this never counts. Default: a quarter of the deadline."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if list(self.quantiles) != sorted(set(self.quantiles)) or not all(0 < q < 1 for q in self.quantiles):
            raise ValueError("quantiles must grow, each above 0 and below 1")
        if self.max_increase == 1 and self.min_increase_ms == 0:
            raise ValueError("max_increase 1 and min_increase_ms 0 leave no margin: no candidate could ever pass")
        return self


class Canary(Section):
    """Bounds while the candidate answers users."""

    min_requests: int = Field(300, ge=1, description="Candidate requests per step before it may pass.")
    max_error_rate_increase: Share = Field(
        0.02, gt=0, le=1, description="Margin on the failure rate over the champion's."
    )
    max_loss_increase: float = Field(
        0.02, gt=0, description="Margin on the Brier or squared error over the champion's."
    )
    latency_bound_ms: float | None = Field(None, gt=0, description="Default: the deadline.")
    max_slow_rate: Share = Field(0.05, gt=0, le=1, description="Candidate requests over the latency bound, at most.")
    latency: Latency | Literal["off"] = Field(
        default_factory=Latency, description="Latency against the champion's, or off."
    )
    healthy_failure_rate: Share = Field(0.005, gt=0, lt=1, description="A failure rate that is fine (SPRT null).")
    bad_failure_rate: Share = Field(
        0.05, gt=0, lt=1, description="A failure rate that must abort at once (SPRT alternative)."
    )


class Rollout(Section):
    """From shadow to champion, in steps, on evidence."""

    shadow: Shadow | Literal["off"] = Field(default_factory=Shadow, description="Copies first, or off.")
    steps: Literal["off"] | tuple[float, ...] = Field(
        (1, 5, 25, 50),
        description="Canary shares in percent, growing, at most 50 is usual. Off, or left out, with ab_test or bandit.",
    )
    canary: Canary = Field(default_factory=Canary, description="Bounds while the candidate answers users.")
    error_budget: Share = Field(
        0.01, gt=0, le=0.2, description="Probability of a wrong decision over the whole rollout."
    )
    max_hours: float = Field(24, gt=0, description="Then it pauses for a person.")
    no_data: Seconds = Field(600.0, gt=0, description="Without requests for this long it pauses for a person.")
    newer: Literal["queue", "supersede"] = Field(
        "queue", description="A newer candidate during a rollout: waits for its end, or takes its place."
    )
    watch: Seconds = Field(0.0, ge=0, description="After promotion the old champion stays warm for this long.")
    label_horizon: Seconds | None = Field(
        None,
        gt=0,
        description="How long a label may take. Answers count in the loss once that is over. Default: as labels come.",
    )
    ab_test: AbTest | None = Field(None, description="In place of canary steps: which model is better, by one metric?")
    bandit: Bandit | None = Field(None, description="In place of canary steps: most keys for what seems better.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        steps = () if self.steps == "off" else self.steps
        if not self.steps or list(steps) != sorted(set(steps)) or not all(0 < step <= 100 for step in steps):
            raise ValueError("steps must grow, each above 0 and at most 100")
        if self.canary.healthy_failure_rate >= self.canary.bad_failure_rate:
            raise ValueError("canary.healthy_failure_rate must be below canary.bad_failure_rate")
        if self.label_horizon is not None and self.label_horizon >= self.max_hours * 3600:
            raise ValueError(
                "label_horizon must be shorter than max_hours: else no answer's horizon is over by the deadline, and "
                "no label can ever count"
            )
        return self

    @model_validator(mode="after")
    def _one_strategy(self) -> Self:
        trial = self.ab_test or self.bandit
        if trial is None:
            if self.steps == "off":
                raise ValueError("steps: off says that no canary is wanted, but no ab_test and no bandit is declared")
            return self
        if self.ab_test is not None and self.bandit is not None:
            raise ValueError("ab_test and bandit both say who gets which keys: declare one of them")
        if self.steps != "off" and "steps" in self.model_fields_set:
            raise ValueError("steps are those of a canary: leave them out (or off) with an ab_test or a bandit")
        if self.label_horizon is None:
            raise ValueError("label_horizon is needed: a key counts when its outcome had that long to come")
        if self.label_horizon >= trial.max_hours * 3600:
            raise ValueError("label_horizon must be shorter than the trial's max_hours: else no key could ever count")
        return self


class Cluster(Section):
    """The Helm release that serves the model, with ``on: cluster``."""

    release: str | None = Field(
        None, pattern=r"^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$", description="Name of the release. Default: the project's."
    )
    namespace: str | None = Field(None, pattern=_NAME, description="Namespace; none: the context's, or the pod's own.")
    context: str | None = Field(None, description="Context of the kubeconfig; none: its current one, or the pod's own.")
    values: str | None = Field(
        None, description="Values file for the first installation: image, store, resources. Traffic is not for it."
    )
    url: str | None = Field(
        None,
        pattern=r"^http://[^/]+$",
        description="Where the servers answer from here. Default: the release's Service, which only pods reach.",
    )
    start_deadline: Seconds = Field(600.0, gt=0, description="How long servers may take until they answer.")
    image: str | None = Field(None, description="Image of the Job of `rollout start --in-cluster`: the platform image.")
    service_account: str = Field("fairlead-rollout", pattern=_NAME, description="Who that Job is.")
    env_secrets: tuple[str, ...] = Field(
        (), description="Secrets whose keys that Job gets as environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY."
    )
    store_endpoint: str | None = Field(None, description="S3 endpoint as pods reach it; none: AWS_ENDPOINT_URL here.")


class Deploy(Section):
    """How a candidate meets live traffic."""

    on: Literal["local", "cluster"] = Field(
        "local", description="local: servers that Fairlead starts here; cluster: a Helm release of fairlead-model."
    )
    cluster: Cluster = Field(default_factory=Cluster, description="The Helm release, with on: cluster.")

    rollout: Rollout = Field(default_factory=Rollout, description="From shadow to champion.")
    bootstrap: Literal["promote", "ask"] = Field(
        "promote",
        description="When there is no champion: promote a version that passed its gates, or wait for a person.",
    )
