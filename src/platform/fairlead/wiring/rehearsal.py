"""Rehearsing the project's policy: base rates from flags, request log and bundles, and the report on disk."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from fairlead.atomic import write_atomic
from fairlead.deploy.rehearsal.grid import Rehearsal
from fairlead.deploy.rehearsal.promises import Broken
from fairlead.deploy.rehearsal.recorded import base_from, read_recording
from fairlead.deploy.rehearsal.replay import Replay, replay
from fairlead.deploy.rehearsal.report import rehearsal_report
from fairlead.deploy.rehearsal.world import BaseRates
from fairlead.deploy.rollout.plan import plan_from_spec
from fairlead.deploy.rollout.sentences import STRATEGIES
from fairlead.errors import FairleadError, RolloutError, UsageError
from fairlead.records.codec import to_value
from fairlead.records.rollout import RolloutPlan, RolloutRecord
from fairlead.records.trial import AB_TEST
from fairlead.reports.html import render_html
from fairlead.serve.units import SPACING_SECONDS
from fairlead.wiring.context import Context
from fairlead.wiring.models import load_version

LOG_ROWS = 200_000
LATENCIES_PER_REPLICA = 1 / SPACING_SECONDS
_SHARES = frozenset({"failure_rate", "slow_rate", "flip_rate", "difference", "noise", "labelled"})


def plan_of(context: Context) -> RolloutPlan:
    """The policy that the project declares now. Raises UsageError for one that cannot be played."""
    project = context.project
    plan = plan_from_spec(project.deploy.rollout, project.serve, project.rollout_slices())
    if plan.trial is not None:
        name = STRATEGIES[plan.trial.kind]
        raise UsageError(
            f"this project declares {'an' if plan.trial.kind == AB_TEST else 'a'} {name}: only shadow and canary can "
            "be played",
            why=f"what decides it are outcomes of {plan.trial.outcome.metric}, which no request log and no base rate "
            "tells beforehand",
            fix="docs/strategies.md says how many keys which difference takes; --set deploy.rollout."
            f"{plan.trial.kind}=null plays the rollout without it",
        )
    return plan


def base_rates(context: Context, plan: RolloutPlan, flags: Mapping[str, float | None]) -> tuple[BaseRates, str]:
    """The world to rehearse in, and where it comes from: flags before the request log before usual values. Raises
    UsageError for a rate that is none."""
    base, sources = _assumed(BaseRates(), plan), ["assumed"]
    recording = read_recording(context.store, context.project.project, most=LOG_ROWS)
    if recording is not None:
        base = base_from(recording, plan.latency_bound_ms, base)
        sources = [f"the newest {len(recording):,} rows of the request log"]
    noise = _measured_noise(context)
    if noise is not None:
        base = replace(base, noise=noise, difference=noise)
        sources.append("the retraining noise of the newest versions")
    base = replace(base, latencies_per_second=LATENCIES_PER_REPLICA * context.project.serve.replicas)
    given = {name: value for name, value in flags.items() if value is not None}
    for name, value in given.items():
        if name in _SHARES and not 0 <= value < 1:
            raise UsageError(f"--{name.replace('_', '-')} {value:g}: a share, from 0 to below 1")
        if name == "per_second" and value <= 0:
            raise UsageError(f"--rate {value:g}: requests a second, above 0")
    if given:
        sources.append("flags")
    return replace(base, **given), ", ".join(sources)


def _assumed(base: BaseRates, plan: RolloutPlan) -> BaseRates:
    """Without any measurement: honest models differ by a third of a declared bound."""
    if plan.max_score_difference is not None:
        return replace(base, difference=plan.max_score_difference / 3)
    return base


def _measured_noise(context: Context) -> float | None:
    """The larger retraining noise of the champion and the newest version."""
    noises = []
    try:
        registry = context.registry()
        for version in registry.versions()[-2:]:
            noises.append(load_version(context, version).bundle.statistics.retraining_noise)
    except FairleadError:
        return None
    known = [noise for noise in noises if noise]
    return max(known) if known else None


def write_report(context: Context, rehearsal: Rehearsal, broken: tuple[Broken, ...]) -> str:
    """The rehearsal as HTML; returns its path."""
    report = rehearsal_report(rehearsal, broken, context.project.project)
    path = context.home / "rehearsals" / "rehearsal.html"
    write_atomic(path, render_html(report).encode())
    return str(path)


def as_value(rehearsal: Rehearsal, broken: tuple[Broken, ...], source: str) -> dict[str, Any]:
    """The rehearsal as JSON."""
    results = [to_value(result) for result in rehearsal.results]
    return {
        "base": {field.name: getattr(rehearsal.base, field.name) for field in fields(rehearsal.base)},
        "base_from": source,
        "plan": to_value(rehearsal.plan),
        "seed": rehearsal.seed,
        "usual_seconds": rehearsal.usual_seconds,
        "results": results,
        "broken_promises": [to_value(each) for each in broken],
    }


def replay_rollout(context: Context, record: RolloutRecord) -> Replay:
    """The present policy (with overrides) on what a rollout recorded. Raises RolloutError when none of it is logged."""
    recording = read_recording(
        context.store, context.project.project, since=record.started_at, until=record.updated_at or ""
    )
    if recording is None:
        raise RolloutError(
            f"nothing that rollout {record.id} met is in the request log",
            where=context.store.url(f"logs/{context.project.project}/requests"),
            why="a replay takes answers, latencies and scores from the log, row by row",
            fix="keep serve.log.enabled: true while a rollout runs",
        )
    positive = getattr(context.project.data.label, "positive", None)
    return replay(record, plan_of(context), recording, None if positive is None else _as_sent(positive))


def _as_sent(label: object) -> str:
    """A label of the project file as feedback spells it."""
    return str(label).lower() if isinstance(label, bool) else str(label)
