"""From what a person declared to the plan that a rollout follows."""

import math
from collections.abc import Sequence

from fairlead.deploy.statistics.budget import HARD_SHARE, Budget
from fairlead.records.evidence import MOST_VALUES
from fairlead.records.rollout import RolloutPlan
from fairlead.records.trial import AB_TEST, BANDIT, LOSS, OutcomeRule, TrialPlan
from fairlead.spec.deploy import Latency, Rollout, Shadow
from fairlead.spec.serve import Serve
from fairlead.spec.trials import Trial

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
    trial = _trial_plan(rollout)
    return RolloutPlan(
        shadow_percent=shadow.percent if shadow else 0.0,
        shadow_min_requests=shadow.min_requests if shadow else 0,
        steps=_steps(rollout),
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
        max_seconds=max(rollout.max_hours * 3600, trial.max_seconds if trial else 0.0),
        no_data_seconds=rollout.no_data,
        watch_seconds=rollout.watch,
        latency_quantiles=latency.quantiles if latency else (),
        max_latency_increase=latency.max_increase if latency else 1.0,
        min_latency_increase_ms=serve.deadline_ms * _FREE_SHARE if extra_ms is None else extra_ms,
        label_horizon_seconds=rollout.label_horizon,
        trial=trial,
        slices=tuple(slices) if shadow else (),
        slice_factor=bounds.slice_factor,
    )


def _steps(rollout: Rollout) -> tuple[float, ...]:
    """Shares in percent: those of the canary, or the one that a trial begins with."""
    if rollout.ab_test is not None:
        return (100 * rollout.ab_test.candidate_share,)
    if rollout.bandit is not None:
        return (100 * rollout.bandit.first_share,)
    return () if rollout.steps == "off" else tuple(float(percent) for percent in rollout.steps)


def _trial_plan(rollout: Rollout) -> TrialPlan | None:
    test, bandit, horizon = rollout.ab_test, rollout.bandit, rollout.label_horizon or 0.0
    if test is not None:
        return TrialPlan(
            kind=AB_TEST,
            outcome=_outcome_rule(test, horizon),
            higher_is_better=test.higher_is_better,
            max_keys=test.max_keys,
            max_seconds=test.max_hours * 3600,
            promotes=test.promote == "winner",
            alpha=test.error_budget,
            split_alpha=test.split_error,
            smallest_effect=test.smallest_effect,
            expected_rate=test.expected_rate,
        )
    if bandit is not None:
        return TrialPlan(
            kind=BANDIT,
            outcome=_outcome_rule(bandit, horizon),
            higher_is_better=bandit.higher_is_better,
            max_keys=bandit.max_keys,
            max_seconds=bandit.max_hours * 3600,
            promotes=bandit.promote == "best",
            policy=bandit.policy,
            epsilon=bandit.epsilon,
            floor=bandit.floor,
            every_seconds=bandit.every,
        )
    return None


def _outcome_rule(trial: Trial, horizon_seconds: float) -> OutcomeRule:
    low, high = trial.bounds
    binary = trial.range is None and trial.metric != LOSS
    return OutcomeRule(trial.metric, horizon_seconds, low, high, binary, trial.counts_missing)


def budget_of(plan: RolloutPlan) -> Budget:
    """How the plan's error budget is split."""
    return Budget(
        error_budget=plan.error_budget,
        abort_error=plan.abort_error,
        steps=_windows(plan),
        shadow=plan.shadow_percent > 0,
        watch=plan.watch_seconds > 0,
        quantiles=len(plan.latency_quantiles),
        slices=len(plan.slices) * (MOST_VALUES + 1),
    )


def _windows(plan: RolloutPlan) -> int:
    """How often live counting may start anew before the promotion: canary steps, or a bandit's allocations."""
    trial = plan.trial
    if trial is not None and trial.kind == BANDIT:
        return math.ceil(trial.max_seconds / trial.every_seconds) + 1
    return len(plan.steps)
