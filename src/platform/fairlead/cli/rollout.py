"""`fairlead rollout ...`: a candidate meets live traffic."""

import argparse
import time
from typing import Any

from fairlead.cli import rollout_rehearsal
from fairlead.cli.output import emit, say
from fairlead.cli.rollout_verdicts import beside_rollout, metrics_arguments, run_verdicts, verdicts_arguments
from fairlead.cli.stages import manual_run_id, new_context
from fairlead.cli.verbs import SubVerb

_SAY_SECONDS = 3.0

HELP = "bring a candidate to live traffic on evidence"


def _id_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", nargs="?", default=None, help="the rollout (default: the newest)")


def _start_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--version", default="candidate", help="the candidate: number or alias (default: candidate)")
    parser.add_argument(
        "--in-cluster",
        action="store_true",
        help="host it in a Job of the cluster, and return (needs deploy.on: cluster)",
    )
    metrics_arguments(parser)


def _start(args: argparse.Namespace) -> int:
    from fairlead.deploy.rollout.sentences import phase_of
    from fairlead.errors import EXIT_NOT_ENOUGH_EVIDENCE, EXIT_VERDICT_FAIL, RolloutError
    from fairlead.wiring.models import arm_of, champion
    from fairlead.wiring.release import actor, finish_rollout
    from fairlead.wiring.rollouts import begin_rollout, deciding_sentence, host_rollout, outcome_of
    from fairlead.wiring.serving import ensure_serving

    context = new_context(args, manual_run_id())
    candidate, current = context.registry().get(args.version), champion(context)
    if current is None:
        raise RolloutError(
            "there is no champion to compare with", fix=f"fairlead model promote {candidate.number} --why ..."
        )
    if current.number == candidate.number:
        raise RolloutError(f"version {candidate.number} is the champion already", fix="name another with --version")
    if args.in_cluster:
        return _start_in_cluster(args, context, candidate)
    ensure_serving(context, arm_of(current), say)
    record = begin_rollout(context, current, candidate, actor(), say)
    say(f"rollout {record.id}: version {candidate.number} against champion {current.number}")
    told, said_at = len(record.decisions), 0.0

    def tell(record: Any) -> None:
        nonlocal told, said_at
        for decision in record.decisions[told:]:
            say(f"  {phase_of(record.plan, decision.phase_after):<9} {decision.sentence}")
        if len(record.decisions) == told and time.monotonic() - said_at > _SAY_SECONDS:
            say(f"  {phase_of(record.plan, record.phase):<9} {record.status}")
            said_at = time.monotonic()
        told = len(record.decisions)

    with beside_rollout(args, context):
        ended = host_rollout(context, record, tell)
    report = finish_rollout(context, ended)
    emit(args, ended, f"{deciding_sentence(ended)}\nreport: {report}")
    return {"promoted": 0, "aborted": EXIT_VERDICT_FAIL}.get(outcome_of(ended), EXIT_NOT_ENOUGH_EVIDENCE)


def _start_in_cluster(args: argparse.Namespace, context: Any, candidate: Any) -> int:
    from fairlead.errors import UsageError
    from fairlead.wiring.rollout_job import start_job
    from fairlead.wiring.serving import on_cluster

    if not on_cluster(context):
        raise UsageError("--in-cluster is for servers on a cluster", fix="--set deploy.on=cluster")
    job = start_job(context, candidate)
    verb = "runs already" if job.found else "is started"
    follow = f"kubectl -n {job.namespace} logs -f job/{job.name}"
    emit(args, job, f"job {job.name} {verb} in namespace {job.namespace}\nfollow it: {follow}\nfairlead rollout get")
    return 0


def _load(args: argparse.Namespace) -> Any:
    from fairlead.wiring.rollouts import find_rollout

    context = new_context(args)
    return context, find_rollout(context, args.id)


def _get(args: argparse.Namespace) -> int:
    from fairlead.deploy.rollout.sentences import phase_of
    from fairlead.wiring.rollouts import summarize

    _, record = _load(args)
    summary = summarize(record)

    def text(screen: Any) -> None:
        from rich.table import Table

        screen.print(
            f"rollout {record.id}: version {record.candidate.version} against champion {record.champion.version}, "
            f"[bold]{phase_of(record.plan, record.phase)}[/bold], weight {record.weight:g} %, "
            f"shadow {record.shadow_percent:g} %"
        )
        if record.pause_reason:
            screen.print(f"paused: {record.pause_reason}")
        if record.status:
            screen.print(record.status)
        if record.recommends:
            screen.print(f"recommended: {record.recommends}")
        table = Table("metric", "verdict", "observed", "bound", "requests", "why", box=None, pad_edge=False)
        for metric in record.last_metrics:
            observed = "" if metric.observed is None else f"{metric.observed:.4g}"
            bound = "" if metric.bound is None else f"{metric.bound:.4g}"
            table.add_row(metric.metric, metric.verdict.value, observed, bound, f"{metric.n:,}", metric.why)
        screen.print(table)

    emit(args, summary, text)
    return 0


def _why(args: argparse.Namespace) -> int:
    from fairlead.wiring.release import finish_rollout
    from fairlead.wiring.rollouts import rollout_text

    context, record = _load(args)
    emit(args, record, rollout_text(record))
    say(f"report: {finish_rollout(context, record)}")
    return 0


def _command(command: str) -> Any:
    def run(args: argparse.Namespace) -> int:
        from fairlead.wiring.release import actor
        from fairlead.wiring.rollouts import command_rollout

        context, record = _load(args)
        changed = command_rollout(context, record, command, actor())
        last = changed.decisions[-1].sentence if changed.decisions else changed.status
        emit(args, changed, f"rollout {changed.id}: {command} ({changed.phase.value}). {last}")
        return 0

    return run


SUBVERBS = {
    "start": SubVerb(
        "start the rollout of a candidate, or take up the open one: a canary, an A/B test or a bandit, as declared",
        _start,
        _start_arguments,
        "fairlead rollout start --version 3\nfairlead rollout start --version 4 --set deploy.rollout.shadow=off\n"
        "fairlead rollout start --version 4 --set deploy.rollout.steps=off --set deploy.rollout.label_horizon=1m "
        "--set 'deploy.rollout.ab_test={metric: loss, max_keys: 50000, max_hours: 2}'",
    ),
    "get": SubVerb("where a rollout is", _get, _id_argument, "fairlead rollout get\nfairlead rollout get -o json"),
    "why": SubVerb("explain its decisions from the stored evidence", _why, _id_argument, "fairlead rollout why"),
    "pause": SubVerb("hold it for a person", _command("pause"), _id_argument, "fairlead rollout pause"),
    "resume": SubVerb("let it go on", _command("resume"), _id_argument, "fairlead rollout resume"),
    "promote": SubVerb("promote the candidate by hand", _command("promote"), _id_argument, "fairlead rollout promote"),
    "abort": SubVerb(
        "send all traffic back to the champion", _command("abort"), _id_argument, "fairlead rollout abort"
    ),
    "verdicts": SubVerb(
        "answer other controllers (Argo Rollouts, Flagger) and Prometheus over HTTP",
        run_verdicts,
        verdicts_arguments,
        "fairlead rollout verdicts --port 8600",
    ),
    **rollout_rehearsal.SUBVERBS,
}
