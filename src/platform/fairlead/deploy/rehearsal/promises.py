"""What a policy cannot keep, and the smallest change that would make it: each change is tried before it is named."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from fairlead.deploy.rehearsal.grid import Rehearsal, Result
from fairlead.deploy.rehearsal.play import Outcome, play
from fairlead.deploy.rehearsal.world import BaseRates, Effect
from fairlead.deploy.rollout.latency import EXPECTED_BEYOND, is_required
from fairlead.records.rollout import RolloutPlan

KEPT = 0.9
"""A policy should decide on a healthy and on a clearly bad candidate in this share of rollouts."""
_TRIES = 400
_LONGEST = 2**14


@dataclass(frozen=True, slots=True)
class Broken:
    """A promise that is not kept: in a sentence, and changes that would keep it, tried, each with what it brings."""

    what: str
    fixes: tuple[str, ...]


def broken_promises(rehearsal: Rehearsal) -> tuple[Broken, ...]:
    """What a person should know before this policy is used."""
    return tuple(_broken(rehearsal))


def _broken(rehearsal: Rehearsal) -> Iterator[Broken]:
    plan, base, seed = rehearsal.plan, rehearsal.base, rehearsal.seed
    yield from _silence(plan, base)
    for result in rehearsal.results:
        scenario = result.scenario
        if scenario.size == "none":
            yield from _healthy(plan, base, result, seed)
        elif scenario.size == "margin" and result.promoted > _allowed(plan.error_budget, result.rollouts):
            yield _at_margin(plan, base, result)
        elif scenario.size == "large" and scenario.effect.share == 1.0 and result.promoted > 1 - KEPT:
            yield _missed(rehearsal, result)


def _allowed(budget: float, rollouts: int) -> float:
    """The budget and three standard errors of a share of so many rollouts."""
    return budget + 3 * math.sqrt(budget * (1 - budget) / rollouts)


def _healthy(plan: RolloutPlan, base: BaseRates, result: Result, seed: int) -> Iterator[Broken]:
    if result.rolled_back > _allowed(plan.error_budget, result.rollouts):
        yield Broken(
            f"It takes back {result.rolled_back:.1%} of healthy candidates; the budget is {plan.error_budget:.1%}.",
            tuple(_bounds_over_base(plan, base)) or ("look at which metric fails: fairlead rollout rehearse -o json",),
        )
    if result.promoted < KEPT:
        yield Broken(
            f"It promotes only {result.promoted:.0%} of healthy candidates within {plan.max_seconds / 3600:g} h; "
            f"{result.undecided:.0%} are still undecided then.",
            tuple(_faster(plan, base, seed)),
        )


def _bounds_over_base(plan: RolloutPlan, base: BaseRates) -> Iterator[str]:
    """Bounds that the champion itself does not meet with room to spare."""
    pairs = (
        ("deploy.rollout.canary.healthy_failure_rate", base.failure_rate, plan.healthy_failure_rate, 1.0),
        ("deploy.rollout.canary.max_slow_rate", base.slow_rate, plan.max_slow_rate, 0.8),
        ("deploy.rollout.shadow.max_flip_rate", base.flip_rate, plan.max_flip_rate, 0.8),
    )
    for field, usual, bound, room in pairs:
        if usual > room * bound:
            yield f"{field}={min(1.0, 2 * usual):.2g}: the champion itself is at {usual:.2g}, the bound at {bound:.2g}"
    scores = plan.max_score_difference or (plan.score_difference_factor * base.noise if base.noise else None)
    if plan.shadow_percent and scores is not None and base.difference > 0.9 * scores:
        yield (
            f"deploy.rollout.shadow.max_score_difference={1.5 * base.difference:.2g}: honest models already differ by "
            f"{base.difference:.2g}, the bound is {scores:.2g}"
        )
    if plan.shadow_percent and scores is None:
        yield "declare deploy.rollout.shadow.max_score_difference: without it and without a measured noise it pauses"


def _faster(plan: RolloutPlan, base: BaseRates, seed: int) -> Iterator[str]:
    """Changes after which nine healthy rollouts in ten are promoted."""
    standing = list(_bounds_over_base(plan, base))
    if standing:
        yield from standing
        return
    seconds = _needed_seconds(plan, base, seed)
    if seconds is None:
        yield "no time suffices: look at which metric does not pass (fairlead rollout rehearse -o json)"
        return
    longer = replace(plan, max_seconds=seconds)
    yield f"deploy.rollout.max_hours={seconds / 3600:.3g}: then {_promoted(longer, base, seed):.0%} are promoted"
    rate = base.per_second * seconds / plan.max_seconds
    for _ in range(8):
        share = _promoted(plan, replace(base, per_second=rate), seed)
        if share >= KEPT:
            yield f"{rate:.3g} requests a second in place of {base.per_second:.3g}: then {share:.0%} are promoted"
            break
        rate *= 1.15
    for first in range(1, len(plan.steps)):
        fewer = replace(plan, steps=plan.steps[first:])
        share = _promoted(fewer, base, seed)
        if share >= KEPT:
            steps = ", ".join(f"{step:g}" for step in fewer.steps)
            yield f"deploy.rollout.steps=[{steps}]: then {share:.0%} are promoted"
            break


def _promoted(plan: RolloutPlan, base: BaseRates, seed: int) -> float:
    return play(plan, base, Effect(), runs=_TRIES, seed=seed + 501).share(Outcome.PROMOTED)


def _needed_seconds(plan: RolloutPlan, base: BaseRates, seed: int) -> float | None:
    """The shortest deadline that suffices, to two digits upwards; None when none does."""
    factor = 4.0
    while factor <= _LONGEST:
        played = play(
            replace(plan, max_seconds=plan.max_seconds * factor), base, Effect(), runs=_TRIES, seed=seed + 501
        )
        promoted = np.sort(played.seconds[played.outcome == Outcome.PROMOTED]) - plan.watch_seconds
        if len(promoted) >= KEPT * _TRIES:
            needed = float(promoted[math.ceil(KEPT * _TRIES) - 1]) * 1.05
            digits = 10 ** (math.floor(math.log10(needed / 3600)) - 1)
            return float(math.ceil(needed / 3600 / digits) * digits * 3600)
        factor *= 4
    return None


def _at_margin(plan: RolloutPlan, base: BaseRates, result: Result) -> Broken:
    what = (
        f"It promotes {result.promoted:.1%} of candidates with {result.scenario.name}; "
        f"the budget is {plan.error_budget:.1%}."
    )
    if result.scenario.effect.kind == "loss":
        wanted = max(0.5, plan.min_requests / max(plan.shadow_min_requests, 1))
        fix = (
            f"labels only block while at least {wanted:.0%} of the shadow's pairs get one in time (now "
            f"{base.labelled:.0%}, {base.label_seconds:.0f} s later): bring labels sooner, or make the shadow longer "
            "with deploy.rollout.shadow.min_requests"
        )
        return Broken(what, (fix,))
    vetoing = [q for q in plan.latency_quantiles if not is_required(plan, q)]
    if result.scenario.effect.kind == "latency" and vetoing:
        enough = math.ceil(EXPECTED_BEYOND / (1 - max(vetoing)) - 1e-6)
        named = ", ".join(f"p{100 * q:g}" for q in vetoing)
        fix = f"deploy.rollout.canary.min_requests={enough}: with fewer, {named} only vetoes, and need not pass"
        return Broken(what, (fix,))
    return Broken(what, ("a lower deploy.rollout.error_budget, or a margin that is meant to be crossed",))


def _missed(rehearsal: Rehearsal, result: Result) -> Broken:
    plan, base, effect = rehearsal.plan, rehearsal.base, result.scenario.effect
    what = f"It promotes {result.promoted:.0%} of candidates with {result.scenario.name}."
    if effect.kind == "loss" and effect.onset == "sudden":
        return Broken(what, _at_margin(plan, base, result).fixes)
    if effect.kind == "loss" and plan.shadow_percent:
        what += " With a shadow, losses are compared on its pairs; what begins later shows in failures and latency."
        return Broken(what, ())
    if effect.kind == "difference":
        what += " Score differences are only looked at in the shadow; what begins later shows in failures and latency."
        return Broken(what, ())
    watch = max(30.0, 2 * plan.watch_seconds)
    while watch <= 86_400:
        longer = replace(plan, watch_seconds=watch)
        played = play(
            longer, base, effect, runs=_TRIES, seed=rehearsal.seed + 502, usual_seconds=rehearsal.usual_seconds
        )
        if played.share(Outcome.PROMOTED) <= 1 - KEPT:
            share = played.share(Outcome.ROLLED_BACK)
            return Broken(what, (f"deploy.rollout.watch={watch:g}s: then {share:.0%} of them are rolled back",))
        watch *= 2
    return Broken(what, ("no watch up to a day changes that",))


def _silence(plan: RolloutPlan, base: BaseRates) -> Iterator[Broken]:
    """Gaps between requests that are longer than the policy waits: with random arrivals, n exp(-rate x wait) of them in
    n requests."""
    parts = [plan.shadow_percent] if plan.shadow_percent else []
    smallest = min([*parts, *plan.steps]) / 100 * base.per_second
    number = max(plan.min_requests, 1)
    gaps = number * math.exp(-min(smallest * plan.no_data_seconds, 700.0))
    if gaps > 0.1:
        wait = math.log(number / 0.01) / smallest
        yield Broken(
            f"At {smallest:.3g} requests a second for the candidate, gaps longer than "
            f"deploy.rollout.no_data={plan.no_data_seconds:g}s come about {gaps:.2g} times in a step: it pauses.",
            (f"deploy.rollout.no_data={math.ceil(wait)}s, or a larger first step",),
        )
