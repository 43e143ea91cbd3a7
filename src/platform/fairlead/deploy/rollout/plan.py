"""From what a person declared to the plan that a rollout follows."""

from collections.abc import Sequence

from fairlead.deploy.statistics.budget import HARD_SHARE, Budget
from fairlead.records.evidence import MOST_VALUES
from fairlead.records.rollout import RolloutPlan
from fairlead.spec.deploy import Latency, Rollout, Shadow
from fairlead.spec.serve import Serve

_FREE_SHARE = 0.25
"""Share of the deadline by which a latency may grow where nothing is declared."""


def plan_from_spec(rollout: Rollout, serve: Serve, slices: Sequence[str] = ()) -> RolloutPlan:
    """The plan of `deploy.rollout`, with the latency bound from `serve.deadline_ms` where none is declared. How the
    error budget is split, `statistics.budget` says. ``shadow: off`` gives a shadow share of 0. `slices`: columns that
    are compared by value (`Project.rollout_slices`)."""
    shadow = rollout.shadow if isinstance(rollout.shadow, Shadow) else None
    bounds = shadow or Shadow.model_validate({})
    canary = rollout.canary
    latency = canary.latency if isinstance(canary.latency, Latency) else None
    extra_ms = latency.min_increase_ms if latency else None
    return RolloutPlan(
        shadow_percent=shadow.percent if shadow else 0.0,
        shadow_min_requests=shadow.min_requests if shadow else 0,
        steps=tuple(float(percent) for percent in rollout.steps),
        min_requests=canary.min_requests,
        error_budget=rollout.error_budget,
        max_error_rate_increase=canary.max_error_rate_increase,
        max_flip_rate=bounds.max_flip_rate,
        max_score_difference=bounds.max_score_difference,
        score_difference_factor=bounds.score_difference_factor,
        max_loss_increase=canary.max_loss_increase,
        latency_bound_ms=canary.latency_bound_ms or serve.deadline_ms,
        max_slow_rate=canary.max_slow_rate,
        healthy_failure_rate=canary.healthy_failure_rate,
        bad_failure_rate=canary.bad_failure_rate,
        abort_error=rollout.error_budget * HARD_SHARE,
        max_seconds=rollout.max_hours * 3600,
        no_data_seconds=rollout.no_data,
        watch_seconds=rollout.watch,
        latency_quantiles=latency.quantiles if latency else (),
        max_latency_increase=latency.max_increase if latency else 1.0,
        min_latency_increase_ms=serve.deadline_ms * _FREE_SHARE if extra_ms is None else extra_ms,
        label_horizon_seconds=rollout.label_horizon,
        slices=tuple(slices) if shadow else (),
        slice_factor=bounds.slice_factor,
    )


def budget_of(plan: RolloutPlan) -> Budget:
    """How the plan's error budget is split."""
    return Budget(
        error_budget=plan.error_budget,
        abort_error=plan.abort_error,
        steps=len(plan.steps),
        shadow=plan.shadow_percent > 0,
        watch=plan.watch_seconds > 0,
        quantiles=len(plan.latency_quantiles),
        slices=len(plan.slices) * (MOST_VALUES + 1),
    )
