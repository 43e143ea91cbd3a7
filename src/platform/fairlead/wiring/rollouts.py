"""Hosting a rollout: the loop of deploy/rollout, fed with live evidence and acting on the running servers."""

import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from fairlead.clock import SystemClock
from fairlead.deploy.backends.serving import ServingEffects
from fairlead.deploy.rollout.lease import host_of
from fairlead.deploy.rollout.loop import RolloutLoop
from fairlead.deploy.rollout.plan import plan_from_spec
from fairlead.deploy.rollout.start import list_rollouts, load, new_rollout, open_rollout, send_command
from fairlead.deploy.rollout.why import explain
from fairlead.errors import IntegrityError, ServeError
from fairlead.features.statistics import StatisticsBuilder
from fairlead.records.codec import to_value
from fairlead.records.data import SkewFinding, Statistics
from fairlead.records.registry import Version
from fairlead.records.rollout import Observation, RolloutRecord
from fairlead.reports.model import Report
from fairlead.serve.client import ServingClient
from fairlead.serve.request_log import read_inputs
from fairlead.watch.skew import attribute
from fairlead.wiring.context import Context
from fairlead.wiring.models import LoadedVersion, arm_of, load_version
from fairlead.wiring.serving import client as serving_client

_SKEW_ROWS = 20_000
_SKEW_EVERY_SECONDS = 1.0
_COMMAND_SECONDS = 30.0


class LiveWorld:
    """What the loop observes: the servers' evidence, and live features against both models' training statistics."""

    def __init__(self, context: Context, record: RolloutRecord, client: ServingClient) -> None:
        registry = context.registry()
        self._context, self._client, self._started = context, client, record.started_at
        self._champion = load_version(context, registry.get(str(record.champion.version)))
        self._candidate = load_version(context, registry.get(str(record.candidate.version)))
        noises = [v.bundle.statistics.retraining_noise for v in (self._champion, self._candidate)]
        known = [noise for noise in noises if noise is not None]
        self._noise = max(known) if known else None
        self._skew: tuple[SkewFinding, ...] = ()
        self._skew_at = 0.0

    def observe(self) -> Observation:
        """One look. What cannot be read becomes `error`, never an exception: an outage must not decide."""
        try:
            evidence = self._client.evidence()
        except (ServeError, IntegrityError) as error:
            return Observation(None, False, None, None, None, error=error.what, retraining_noise=self._noise)
        return Observation(
            release=evidence.release,
            candidate_ready=evidence.candidate_ready,
            champion=evidence.champion,
            candidate=evidence.candidate,
            pairs=evidence.pairs,
            skew=self._look_for_skew(),
            retraining_noise=self._noise,
            requests_per_second=evidence.requests_per_second,
            user_failures=evidence.user_failures,
            error=evidence.error,
            instance=evidence.instance,
            candidate_error=evidence.candidate_error,
            skew_expected=self._context.project.serve.log.enabled,
        )

    def _look_for_skew(self) -> tuple[SkewFinding, ...]:
        now = time.monotonic()
        if now - self._skew_at < _SKEW_EVERY_SECONDS:
            return self._skew
        self._skew_at = now
        rows = read_inputs(self._context.store, self._context.project.project, since=self._started, most=_SKEW_ROWS)
        if rows is None or rows.num_rows < self._context.project.watch.skew.min_rows:
            return self._skew
        self._skew = attribute(
            live_for_champion=live_statistics(rows, self._champion),
            live_for_candidate=live_statistics(rows, self._candidate),
            champion=self._champion.bundle.statistics,
            candidate=self._candidate.bundle.statistics,
            spec=self._context.project.watch.skew,
            champion_digest=self._champion.bundle.manifest.digest,
            candidate_digest=self._candidate.bundle.manifest.digest,
        )
        return self._skew


def live_statistics(rows: pa.Table, version: LoadedVersion) -> Statistics:
    """Statistics of live inputs on the histogram edges of a version's training statistics."""
    reference = version.bundle.statistics
    names = [name for name in rows.column_names if name in reference.columns]
    builder = StatisticsBuilder(names, reference=reference)
    for batch in rows.select(names).to_batches():
        builder.update(batch)
    return builder.finish()


def begin_rollout(context: Context, current: Version, candidate: Version, actor: str = "pipeline") -> RolloutRecord:
    """A new rollout of `candidate` against the champion, or the open one of the same candidate taken up again."""
    model = context.project.project
    record = open_rollout(context.store, model)
    if record is None or record.candidate.digest != candidate.digest:
        plan = plan_from_spec(context.project.deploy.rollout, context.project.serve)
        record = new_rollout(context.store, model, plan, arm_of(current), arm_of(candidate), SystemClock(), actor)
    context.registry().set_alias("candidate", candidate.number, actor=actor, why=f"rollout {record.id}")
    return record


def host_rollout(
    context: Context, record: RolloutRecord, on_tick: Callable[[RolloutRecord], None] | None = None
) -> RolloutRecord:
    """Run the loop in this process until the rollout ends or is paused for a person."""

    def told(record: RolloutRecord, observation: Observation) -> None:
        if on_tick is not None:
            on_tick(record)

    return _loop(context, record).run(on_tick=told)


def command_rollout(context: Context, record: RolloutRecord, command: str, by: str) -> RolloutRecord:
    """Leave a command for the host of a rollout; when nobody hosts it, host it until the command is carried out."""
    changed = send_command(context.store, record.model, record.id, command, by)
    clock = SystemClock()
    if host_of(context.store, record.model, record.id, clock) is None:
        return _loop(context, changed).follow_command()
    deadline = clock.monotonic() + _COMMAND_SECONDS
    while changed.command and clock.monotonic() < deadline:
        clock.sleep(0.2)
        changed = load(context.store, record.model, record.id)
    return changed


def _loop(context: Context, record: RolloutRecord) -> RolloutLoop:
    client = serving_client(context)
    world = LiveWorld(context, record, client)
    effects = ServingEffects(client, context.registry())
    return RolloutLoop(
        context.store, effects, lambda _: world.observe(), SystemClock(), model=record.model, rollout=record.id
    )


def find_rollout(context: Context, rollout: str | None) -> RolloutRecord:
    """A rollout by its id, or the newest. Raises RolloutNotFound."""
    return load(context.store, context.project.project, rollout)


def all_rollouts(context: Context) -> tuple[RolloutRecord, ...]:
    """All rollouts of the project's model, oldest first."""
    return list_rollouts(context.store, context.project.project)


def summarize(record: RolloutRecord) -> dict[str, Any]:
    """The record as JSON, with the facts that people ask for first."""
    weights = [decision.weight_after for decision in record.decisions]
    return {
        "id": record.id,
        "phase": record.phase.value,
        "champion": record.champion.version,
        "candidate": record.candidate.version,
        "weight": record.weight,
        "max_weight": max(weights, default=0.0),
        "decisions": [to_value(decision) for decision in record.decisions],
        "last_metrics": [to_value(metric) for metric in record.last_metrics],
        "record": to_value(record),
    }


def rollout_report(context: Context, record: RolloutRecord) -> Report:
    """The rollout with all its evidence."""
    return explain(record)
