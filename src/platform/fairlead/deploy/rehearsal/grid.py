"""The grid of true effects that a policy is rehearsed on, and what came of each."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from fairlead.deploy.rehearsal.play import Outcome, Played, play
from fairlead.deploy.rehearsal.world import BaseRates, Effect, Kind, Onset
from fairlead.deploy.rollout.latency import latency_limit
from fairlead.records.rollout import RolloutPlan

SLICE = 0.2
"""Share of the requests that an effect on one slice hits."""
_SMALL = 0.25
_BETWEEN = (0.5, 0.75, 1.25, 1.5, 2.0)
_LARGE = 3.0
_KINDS: dict[Kind, str] = {
    "failures": "failures", "slow": "slow answers", "latency": "latency", "difference": "score difference",
    "loss": "loss by labels",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scenario:
    """One true effect. `size`: none, small, margin (just at the bound, so it must not be promoted) or large."""

    name: str
    size: str
    effect: Effect


@dataclass(frozen=True, slots=True)
class Result:
    """What became of the rollouts of one scenario: shares of how they ended, seconds to the decision of those that
    decided, and answers to users that the effect made worse."""

    scenario: Scenario
    promoted: float
    rolled_back: float
    undecided: float
    seconds_median: float | None
    seconds_p90: float | None
    requests_median: float | None
    harmed_mean: float
    harmed_p99: float
    rollouts: int


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A policy, the world it was played in, and what came of it. `usual_seconds`: what a healthy rollout takes."""

    plan: RolloutPlan
    base: BaseRates
    results: tuple[Result, ...]
    usual_seconds: float
    seed: int
    decided: tuple[tuple[str, tuple[tuple[float, float], ...]], ...]
    """For the curve: by scenario, (seconds, share of rollouts that are decided by then)."""
    power: tuple[tuple[str, tuple[tuple[float, float, float], ...]], ...] = ()
    """By kind of effect: (size in margins, share promoted, share rolled back)."""


def gaps(plan: RolloutPlan, base: BaseRates) -> dict[Kind, float]:
    """How much worse than the champion a candidate is that stands just at the bound, by kind of effect."""
    found: dict[Kind, float] = {
        "failures": plan.max_error_rate_increase,
        "slow": plan.max_slow_rate - base.slow_rate,
    }
    if plan.latency_quantiles:
        limit = latency_limit(plan)
        usual = [base.latency_ms / 1000 * math.exp(base.latency_spread * ndtri(q)) for q in plan.latency_quantiles]
        found["latency"] = min(limit.of(seconds) / seconds for seconds in usual) - 1
    bound = plan.max_score_difference
    if bound is None and base.noise:
        bound = plan.score_difference_factor * base.noise
    if plan.shadow_percent and bound is not None:
        found["difference"] = bound - base.difference
    if base.labelled:
        found["loss"] = plan.max_loss_increase
    return {kind: max(gap, 1e-4) for kind, gap in found.items()}


def scenarios(plan: RolloutPlan, base: BaseRates) -> Iterator[Scenario]:
    """None; and of each kind small, at the margin, large; the large one also creeping, on one slice, and late."""
    yield Scenario("none", "none", Effect())
    for kind, gap in gaps(plan, base).items():
        large = min(_LARGE * gap, 0.9) if kind != "latency" else _LARGE * gap
        if kind == "failures":
            large = max(large, 2 * plan.bad_failure_rate)
        sizes = (("small", _SMALL * gap), ("margin", gap), ("large", large))
        for size, added in sizes:
            yield Scenario(f"{_KINDS[kind]}, {_word(size)}", size, Effect(kind, added))
        shapes: tuple[tuple[str, Onset, float], ...] = (
            ("creeping", "creeping", 1.0), ("on one slice", "sudden", SLICE), ("after 80 %", "late", 1.0),
        )  # fmt: skip
        for name, onset, share in shapes:
            yield Scenario(f"{_KINDS[kind]}, large, {name}", "large", Effect(kind, large, onset, share))


def _word(size: str) -> str:
    return {"small": "a quarter of the margin", "margin": "at the margin"}.get(size, size)


def rehearse(
    plan: RolloutPlan,
    base: BaseRates,
    *,
    rollouts: int = 1000,
    seed: int = 1,
    on_result: Callable[[Result], None] | None = None,
) -> Rehearsal:
    """Play the whole grid, `rollouts` of each scenario."""
    results, curves = [], []
    usual = plan.max_seconds
    for number, scenario in enumerate(scenarios(plan, base)):
        played = play(plan, base, scenario.effect, runs=rollouts, seed=seed + number, usual_seconds=usual)
        if scenario.size == "none":
            usual = usual_duration(plan, played)
        result = summarized(scenario, played)
        results.append(result)
        if scenario.effect.onset == "sudden" and scenario.effect.share == 1.0:
            curves.append((scenario.name, _curve(played)))
        if on_result is not None:
            on_result(result)
    power = _power(plan, base, results, rollouts=max(rollouts // 2, 50), seed=seed + 100)
    return Rehearsal(plan, base, tuple(results), usual, seed, tuple(curves), power)


def _power(
    plan: RolloutPlan, base: BaseRates, results: list[Result], *, rollouts: int, seed: int
) -> tuple[tuple[str, tuple[tuple[float, float, float], ...]], ...]:
    """How promotions and rollbacks change with the size of the effect, around the margin."""
    healthy = next(result for result in results if result.scenario.size == "none")
    out = []
    for kind, gap in gaps(plan, base).items():
        points = [(0.0, healthy.promoted, healthy.rolled_back)]
        for result in results:
            effect = result.scenario.effect
            if effect.kind == kind and effect.onset == "sudden" and effect.share == 1.0:
                points.append((effect.added / gap, result.promoted, result.rolled_back))
        for number, size in enumerate(_BETWEEN):
            played = play(plan, base, Effect(kind, size * gap), runs=rollouts, seed=seed + number)
            points.append((size, played.share(Outcome.PROMOTED), played.share(Outcome.ROLLED_BACK)))
        out.append((_KINDS[kind], tuple(sorted(point for point in points if point[0] <= _LARGE + 1e-9))))
    return tuple(out)


def usual_duration(plan: RolloutPlan, played: Played) -> float:
    """The median seconds of promoted rollouts without the watch; the policy's whole time when none was."""
    promoted = played.outcome == Outcome.PROMOTED
    if not promoted.any():
        return plan.max_seconds
    return float(np.median(played.seconds[promoted])) - plan.watch_seconds


def summarized(scenario: Scenario, played: Played) -> Result:
    """The shares and quantiles of one scenario."""
    decided = played.outcome != Outcome.UNDECIDED
    seconds, requests = played.seconds[decided], played.requests[decided]
    return Result(
        scenario=scenario,
        promoted=played.share(Outcome.PROMOTED),
        rolled_back=played.share(Outcome.ROLLED_BACK),
        undecided=played.share(Outcome.UNDECIDED),
        seconds_median=float(np.median(seconds)) if len(seconds) else None,
        seconds_p90=float(np.quantile(seconds, 0.9)) if len(seconds) else None,
        requests_median=float(np.median(requests)) if len(requests) else None,
        harmed_mean=float(played.harmed.mean()),
        harmed_p99=float(np.quantile(played.harmed, 0.99)),
        rollouts=len(played.outcome),
    )


def _curve(played: Played, points: int = 60) -> tuple[tuple[float, float], ...]:
    decided = np.sort(played.seconds[played.outcome != Outcome.UNDECIDED])
    if not len(decided):
        return ((0.0, 0.0),)
    share = np.arange(1, len(decided) + 1) / len(played.outcome)
    chosen = np.unique(np.linspace(0, len(decided) - 1, points).astype(int))
    return ((0.0, 0.0), *((float(decided[index]), float(share[index])) for index in chosen))
