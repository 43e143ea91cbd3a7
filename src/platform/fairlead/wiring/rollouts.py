"""Hosting a rollout: the loop of deploy/rollout, fed with live evidence and acting on the running servers."""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import pyarrow as pa

from fairlead.clock import SystemClock
from fairlead.deploy.backends.serving import ServingEffects, ServingObserver
from fairlead.deploy.rollout.lease import LOOK_SECONDS, LeaseWatch
from fairlead.deploy.rollout.loop import Observe, RolloutLoop
from fairlead.deploy.rollout.newer import make_way
from fairlead.deploy.rollout.plan import plan_from_spec
from fairlead.deploy.rollout.start import list_rollouts, load, new_rollout, open_rollout, send_command
from fairlead.deploy.rollout.why import explain, explain_text
from fairlead.errors import RolloutError
from fairlead.features.statistics import StatisticsBuilder
from fairlead.records.codec import to_value
from fairlead.records.data import SkewFinding, Statistics
from fairlead.records.registry import Version
from fairlead.records.rollout import Decision, Observation, Phase, RolloutRecord
from fairlead.reports.model import Report
from fairlead.watch.skew import attribute
from fairlead.wiring.context import Context
from fairlead.wiring.logged_inputs import LoggedInputs
from fairlead.wiring.models import LoadedVersion, arm_of, champion, load_version
from fairlead.wiring.serving import client as serving_client
from fairlead.wiring.serving import on_cluster

_SKEW_ROWS = 20_000
_SKEW_EVERY_SECONDS = 1.0
_COMMAND_SECONDS = 30.0


class LiveFeatures:
    """Compares the inputs of live requests with both models' training statistics, at most once a second.

    It does so in a thread of its own, so that a look at the candidate's failures never waits for it; a call gives what
    was found last."""

    def __init__(self, context: Context, champion: LoadedVersion, candidate: LoadedVersion, since: str) -> None:
        self._context, self._champion, self._candidate = context, champion, candidate
        self._inputs = LoggedInputs(context.store, context.project.project, since, _SKEW_ROWS)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fairlead-skew")
        self._running: Future[tuple[SkewFinding, ...]] | None = None
        self._findings: tuple[SkewFinding, ...] = ()
        self._looked_at = 0.0

    def __call__(self, record: RolloutRecord) -> tuple[SkewFinding, ...]:
        if self._running is not None and self._running.done():
            self._findings, self._running = self._running.result() or self._findings, None
        now = time.monotonic()
        if self._running is None and now - self._looked_at >= _SKEW_EVERY_SECONDS:
            self._looked_at = now
            self._running = self._thread.submit(self._compare)
        return self._findings

    def _compare(self) -> tuple[SkewFinding, ...]:
        spec = self._context.project.watch.skew
        rows = self._inputs.newest()
        if rows is None or rows.num_rows < spec.min_rows:
            return ()
        return attribute(
            live_for_champion=live_statistics(rows, self._champion),
            live_for_candidate=live_statistics(rows, self._candidate),
            champion=self._champion.bundle.statistics,
            candidate=self._candidate.bundle.statistics,
            spec=spec,
            champion_digest=self._champion.bundle.digest,
            candidate_digest=self._candidate.bundle.digest,
        )


def live_statistics(rows: pa.Table, version: LoadedVersion) -> Statistics:
    """Statistics of live inputs on the histogram edges of a version's training statistics."""
    reference = version.bundle.statistics
    names = [name for name in rows.column_names if name in reference.columns]
    builder = StatisticsBuilder(names, reference=reference)
    for batch in rows.select(names).to_batches():
        builder.update(batch)
    return builder.finish()


def begin_rollout(
    context: Context,
    current: Version,
    candidate: Version,
    actor: str = "pipeline",
    say: Callable[[str], None] = lambda text: None,
) -> RolloutRecord:
    """A new rollout of `candidate` against the champion, or the open one of the same candidate taken up again. One of
    another candidate is waited for or superseded first, as `deploy.rollout.newer` declares; `say` is told so. Raises
    RolloutError when the candidate is the champion by then."""
    model, rollout, arm = context.project.project, context.project.deploy.rollout, arm_of(candidate)
    plan = plan_from_spec(rollout, context.project.serve, context.project.rollout_slices())
    clock = SystemClock()
    said: set[str] = set()

    def waiting(open_one: RolloutRecord) -> None:
        if open_one.id not in said:
            said.add(open_one.id)
            verb = "waiting for" if rollout.newer == "queue" else "superseding"
            say(f"{verb} rollout {open_one.id} of version {open_one.candidate.version}: {open_one.status}")

    while True:
        host = partial(host_rollout, context)
        make_way(context.store, model, arm, rollout.newer, actor, clock, host=host, on_wait=waiting)
        record = open_rollout(context.store, model)
        if record is None:
            now = champion(context) or current  # another one may have become it meanwhile
            try:
                record = new_rollout(context.store, model, plan, arm_of(now), arm, clock, actor)
            except RolloutError:
                if open_rollout(context.store, model) is None:
                    raise
                continue  # somebody else who waited was faster
        if record.candidate.digest == candidate.digest:
            context.registry().set_alias("candidate", candidate.number, actor=actor, why=f"rollout {record.id}")
            return record


def host_rollout(
    context: Context, record: RolloutRecord, on_tick: Callable[[RolloutRecord], None] | None = None
) -> RolloutRecord:
    """Run the loop in this process until the rollout ends or is paused for a person."""

    def told(record: RolloutRecord, observation: Observation) -> None:
        if on_tick is not None:
            on_tick(record)

    return _loop(context, record).run(on_tick=told, outwait=True)


def command_rollout(context: Context, record: RolloutRecord, command: str, by: str) -> RolloutRecord:
    """Leave a command for the host of a rollout; when nobody hosts it, host it until the command is carried out."""
    changed = send_command(context.store, record.model, record.id, command, by)
    clock = SystemClock()
    watch = LeaseWatch(context.store, record.model, record.id, clock)
    deadline = clock.monotonic() + _COMMAND_SECONDS
    while changed.command and clock.monotonic() < deadline:
        if watch.host() is None:
            return _loop(context, changed).follow_command()
        clock.sleep(LOOK_SECONDS)
        changed = load(context.store, record.model, record.id)
    return changed


def _loop(context: Context, record: RolloutRecord) -> RolloutLoop:
    registry, client = context.registry(), serving_client(context)
    champion = load_version(context, registry.get(record.champion.version))
    candidate = load_version(context, registry.get(record.candidate.version))
    both = [version.bundle.statistics for version in (champion, candidate)]
    compares = context.project.serve.log.enabled
    observe: Observe = ServingObserver(
        client,
        skew=LiveFeatures(context, champion, candidate, record.started_at) if compares else None,
        retraining_noise=_larger(statistics.retraining_noise for statistics in both),
        numeric_noise=_larger(statistics.numeric_noise for statistics in both),
        slice_noise={
            name: max(statistics.slice_noise.get(name, 0.0) for statistics in both)
            for name in {**both[0].slice_noise, **both[1].slice_noise}
        },
    )
    effects = ServingEffects(context.store, client, registry)
    if on_cluster(context):
        from fairlead.wiring.cluster import cluster_parts

        observe, effects = cluster_parts(context, observe, client, registry)
    return RolloutLoop(context.store, effects, observe, SystemClock(), model=record.model, rollout=record.id)


def _larger(noises: Iterable[float | None]) -> float | None:
    return max((noise for noise in noises if noise is not None), default=None)


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
        "strategy": record.plan.trial.kind if record.plan.trial is not None else "canary",
        "result": record.result,
        "recommends": record.recommends,
        "max_weight": max(weights, default=0.0),
        "candidate_requests_at_decision": _requests_at_decision(record),
        "decisions": [to_value(decision) for decision in record.decisions],
        "last_metrics": [to_value(metric) for metric in record.last_metrics],
        "record": to_value(record),
    }


def deciding(record: RolloutRecord) -> Decision | None:
    """The decision that settled (or paused) the rollout, not what was confirmed after it; None before."""
    decisive = {Phase.ABORTING, Phase.PROMOTING, Phase.PAUSED}
    return next((decision for decision in reversed(record.decisions) if decision.phase_after in decisive), None)


def deciding_sentence(record: RolloutRecord) -> str:
    """What `deciding` says; before it, the record's status."""
    decision = deciding(record)
    return decision.sentence if decision is not None else record.status


def outcome_of(record: RolloutRecord) -> str:
    """How a rollout ended: promoted, aborted, ended (a trial that found nothing against the candidate, and did not
    promote it), or paused."""
    if record.phase is Phase.ABORTED and record.result in ("candidate", "same", "no_winner"):
        return "ended"
    return {Phase.PROMOTED: "promoted", Phase.ABORTED: "aborted"}.get(record.phase, "paused")


def _requests_at_decision(record: RolloutRecord) -> int | None:
    decision = deciding(record)
    counted = [m.n for m in decision.metrics if m.metric == "failures"] if decision is not None else []
    return counted[0] if counted else None


def rollout_text(record: RolloutRecord) -> str:
    """The same as plain text, for the terminal."""
    return explain_text(record)


def rollout_report(context: Context, record: RolloutRecord) -> Report:
    """The rollout with all its evidence."""
    return explain(record)
