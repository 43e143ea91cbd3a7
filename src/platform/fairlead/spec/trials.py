"""``deploy.rollout.ab_test`` and ``deploy.rollout.bandit``: what takes the place of the canary steps."""

from typing import Literal, Self

from pydantic import Field, model_validator

from fairlead.spec.quantities import Seconds, Section, Share

MOST_ALLOCATIONS = 200
"""Each time the shares are set anew is a decision in the rollout's record, with its evidence."""

LABEL, LOSS = "label", "loss"


class Trial(Section):
    """What both have: a metric per key, and an end."""

    metric: str = Field(
        pattern=r"^[a-z][a-z0-9_]{0,63}$",
        description="What is compared, one value per key: a name that outcomes are posted under; `label`: the label; "
        "`loss`: the loss of the answer, once its label is known.",
    )
    range: tuple[float, float] | None = Field(
        None, description="Smallest and largest value; others are refused. Default: 0 or 1, nothing between."
    )
    better: Literal["higher", "lower"] | None = Field(
        None, description="Which end of the metric is the good one. Default: higher; of `loss`: lower."
    )
    missing: float | Literal["left out"] | None = Field(
        None,
        description="What a key counts without an outcome when its label_horizon is over, or that it is left out. "
        "Default: 0; of `label` and `loss`: left out.",
    )
    max_keys: int = Field(ge=1, description="Keys that count, of both arms together; then it ends.")
    max_hours: float = Field(gt=0, le=24 * 366, description="Then it ends, too.")

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest value."""
        return self.range or (0.0, 1.0)

    @property
    def counts_missing(self) -> float | None:
        """The value of a key without an outcome; None: it is left out."""
        if self.missing is None:
            return None if self.metric in (LABEL, LOSS) else 0.0
        return None if self.missing == "left out" else float(self.missing)

    @property
    def higher_is_better(self) -> bool:
        """Which end is the good one."""
        return self.better == "higher" if self.better else self.metric != LOSS

    @model_validator(mode="after")
    def _one_metric(self) -> Self:
        if self.metric == LOSS and (self.range, self.better, self.missing) != (None, None, None):
            raise ValueError(
                "a loss lies between 0 and 1 and is better when lower, and a key without a label has none: leave out "
                "range, better and missing"
            )
        low, high = self.bounds
        if not low < high:
            raise ValueError("range must grow")
        missing = self.counts_missing
        if missing is not None and not low <= missing <= high:
            raise ValueError(f"missing must be a value of the metric: {missing:g} is not between {low:g} and {high:g}")
        if missing is not None and self.range is None and missing not in (low, high):
            raise ValueError("missing must be 0 or 1 where the metric is one of the two; else declare its range")
        return self


class AbTest(Trial):
    """An A/B test: which of the two models is better, by one metric and a declared end."""

    candidate_share: Share = Field(0.5, gt=0, lt=1, description="Share of the keys that the candidate answers.")
    smallest_effect: float = Field(
        0.0, ge=0, description="Differences up to this are not worth having; it ends once none larger is left."
    )
    error_budget: Share = Field(0.05, gt=0, le=0.2, description="Probability of naming a winner that is none.")
    split_error: Share = Field(0.001, gt=0, le=0.05, description="Probability of calling a right split a wrong one.")
    expected_rate: Share = Field(
        0.1, gt=0, lt=1, description="About where a rate lies: it makes the test faster, not more or less valid."
    )
    promote: Literal["winner", "never"] = Field(
        "winner", description="winner: a candidate that is better becomes champion; never: it is recommended."
    )


class Bandit(Trial):
    """A bandit: most keys for whichever model seems better, now and then anew. No error rate is promised."""

    policy: Literal["thompson", "epsilon_greedy", "ucb"] = Field("thompson", description="How the keys are divided.")
    epsilon: Share = Field(0.1, gt=0, le=1, description="epsilon_greedy: this share is divided evenly.")
    floor: Share = Field(0.1, gt=0, lt=0.5, description="No arm gets less than this share of the keys.")
    first_share: Share = Field(0.5, gt=0, lt=1, description="The candidate's share until the first outcomes count.")
    every: Seconds = Field(600.0, ge=1, description="How often the shares are set anew.")
    promote: Literal["best", "never"] = Field(
        "never", description="best: at the end the better of the two is champion; never: it is recommended."
    )

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if not self.floor <= self.first_share <= 1 - self.floor:
            raise ValueError("first_share must leave each arm its floor")
        if self.max_hours * 3600 / self.every > MOST_ALLOCATIONS:
            most = self.max_hours * 3600 / MOST_ALLOCATIONS
            raise ValueError(f"every must be at least {most:.3g} s: shares are set at most {MOST_ALLOCATIONS} times")
        return self
