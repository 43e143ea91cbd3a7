"""The ``evaluate`` section: what a version must show before it may be registered."""

from typing import Literal, Self

from pydantic import Field, model_validator

from fairlead.spec.quantities import Section

MetricName = Literal[
    "auc", "average_precision", "accuracy", "f1", "precision", "recall", "log_loss", "brier", "ece",
    "macro_f1", "mae", "rmse", "r2", "latency_ms", "size_mb",
]  # fmt: skip


class Gate(Section):
    """One condition. Exactly one of min, max, not_worse_than."""

    metric: MetricName = Field(description="What is measured on the test split.")
    min: float | None = Field(None, description="The lower end of the interval must be at least this.")
    max: float | None = Field(None, description="The upper end of the interval must be at most this.")
    not_worse_than: Literal["champion", "random", "majority", "one_rule", "gradient_boosting"] | None = Field(
        None, description="The interval of the paired difference must stay within the margin."
    )
    margin: float = Field(0.0, ge=0, description="How much worse is still accepted, in the metric's unit.")
    slice: str | None = Field(None, description="A column: the condition must hold for each of its values.")
    judge: Literal["interval", "point"] = Field("interval", description="What is compared with the bound.")

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if sum(bound is not None for bound in (self.min, self.max, self.not_worse_than)) != 1:
            raise ValueError("give exactly one of min, max, not_worse_than")
        return self


class Slices(Section):
    """Parts of the test rows that are judged on their own."""

    columns: tuple[str, ...] = Field((), description="Columns whose values make slices.")
    min_rows: int = Field(200, ge=10, description="Smaller slices are reported as too small, not judged.")


class Evaluate(Section):
    """Metrics, slices, baselines, calibration, gates."""

    gates: tuple[Gate, ...] = Field((), description="What a version must show.")
    slices: Slices = Field(default_factory=Slices, description="Parts judged on their own.")
    calibration: Literal["temperature", "isotonic", "none"] = Field("temperature", description="Fitted on validation.")
    threshold: Literal["f1", "youden"] | float = Field(
        "f1", description="Binary: how the threshold is chosen on validation."
    )
    baselines: bool = Field(True, description="Compare with random, majority, one rule and gradient boosting.")
    bootstrap: int = Field(200, ge=50, description="Resamples for intervals.")
    level: float = Field(0.95, gt=0.5, lt=1, description="Level of the intervals.")
    seed: int = Field(7, ge=0, description="Seed of the resampling.")
