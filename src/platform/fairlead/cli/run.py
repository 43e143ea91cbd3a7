"""`fairlead run`: the pipeline, on this machine or on a cluster."""

import argparse
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from fairlead.cli.output import emit, progress_console
from fairlead.errors import UsageError

if TYPE_CHECKING:
    from fairlead.cli.local_pipeline import Event, Request
    from fairlead.errors import FairleadError
    from fairlead.wiring.context import Context

HELP = "run the pipeline: validate, prepare, train, evaluate, register, deploy"
EXAMPLES = """
fairlead run
fairlead run --set train.epochs=3
fairlead run --to evaluate
fairlead run --from evaluate
fairlead run --from evaluate --run 20260102-030405-ab12
fairlead run --on cluster --compile pipeline.yaml
fairlead run --on cluster --wait --host https://kubeflow.example/pipeline --namespace team
"""
_POLL_SECONDS = 0.1


class Followed(Protocol):
    """A run that `follow` can show: where its log is, whether it has ended (an exit code), and what has happened."""

    log: Any

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""

    def events(self) -> "Iterator[Event]":
        """What happened since the last call."""

    def failed_step(self) -> str:
        """The step that failed; empty when none did."""

    def error(self) -> dict[str, Any] | None:
        """What the failed step told of its error, when it told one."""

    def last_words(self) -> str:
        """The end of the log."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `fairlead run`."""
    from fairlead.cli.local_pipeline import STEPS

    parser.add_argument(
        "--from", dest="first", choices=STEPS, default=STEPS[0], metavar="STEP", help="start with this step"
    )
    parser.add_argument(
        "--to", dest="last", choices=STEPS, default=STEPS[-1], metavar="STEP", help="end with this step"
    )
    parser.add_argument("--run", dest="earlier", metavar="ID", help="with --from: the run whose results are taken up")
    parser.add_argument("--on", choices=("local", "cluster"), default="local", help="where it runs (default: local)")
    cluster = parser.add_argument_group("with --on cluster")
    cluster.add_argument("--wait", action="store_true", help="follow the run until it ends, and exit as it does")
    cluster.add_argument(
        "--compile", metavar="FILE", help="submit nothing: write the compiled pipeline, and say how kfp submits it"
    )
    cluster.add_argument("--host", metavar="URL", help="Kubeflow Pipelines' API (default: pipeline.host)")
    cluster.add_argument("--namespace", metavar="NAME", help="namespace of the run (default: pipeline.namespace)")


def run(args: argparse.Namespace) -> int:
    """Check everything that can be checked, run, and show the cause of a failure first."""
    if args.on == "cluster":
        from fairlead.cli.run_cluster import run_on_cluster

        return run_on_cluster(args)
    if args.wait or args.compile or args.host or args.namespace:
        raise UsageError("--wait, --compile, --host and --namespace are for runs on a cluster", fix="add --on cluster")
    return _run_here(args)


def _run_here(args: argparse.Namespace) -> int:
    from fairlead.cli.local_pipeline import LocalPipeline
    from fairlead.cli.run_display import display_for
    from fairlead.cli.run_request import prepare_request, start_ray_meanwhile, warn_of_changes

    context, request, earlier = prepare_request(args)
    warn_of_changes(context, earlier)
    results: dict[str, dict[str, Any]] = {}
    with LocalPipeline(request, context.base) as pipeline, display_for(progress_console()) as display:
        for step in earlier.steps if earlier else ():
            display.taken(step, earlier.run if earlier else "")
        ok = follow(
            request,
            pipeline,
            display,
            results,
            _POLL_SECONDS,
            lambda step: start_ray_meanwhile(context, request) if step == "prepare" else None,
        )
    if not ok:
        raise failure(pipeline)
    _show(args, context, request, results)
    return exit_code(results)


def follow(
    request: "Request",
    pipeline: Followed,
    display: Any,
    results: dict[str, dict[str, Any]],
    poll_seconds: float,
    started: Callable[[str], None] = lambda step: None,
) -> bool:
    """Show a run until it ends, and collect what its steps gave; whether all of them ended well."""
    import time

    while True:
        code = pipeline.poll()  # before the events: what the last step left is read after its end
        for event in pipeline.events():
            display.show(event)
            if event.kind == "finished" and event.result is not None:
                results[event.step] = event.result
            if event.kind == "started":
                started(event.step)
        if code is not None:
            if code == 0 and len(results) == len(request.steps):
                return True
            display.failed(pipeline.failed_step())
            return False
        time.sleep(poll_seconds)


def failure(pipeline: Followed) -> "FairleadError":
    """The error of the step that failed, as it was raised there; StepDied when it said nothing."""
    from fairlead.errors import FairleadError, StepDied, all_errors

    log = f"the full log: {pipeline.log}"
    said = pipeline.error()
    if said is None:
        return StepDied(
            f"step {pipeline.failed_step()} ended without a result", why=pipeline.last_words() or None, fix=log
        )
    kinds = {kind.code: kind for kind in all_errors()}
    kind = kinds.get(str(said.get("code")), FairleadError)
    fix = "; ".join(text for text in (said.get("fix"), log) if text)
    return kind(str(said["what"]), where=said.get("where"), why=said.get("why"), fix=fix)


def _show(args: argparse.Namespace, context: "Context", request: "Request", results: dict[str, dict[str, Any]]) -> None:
    folder = context.run_folder
    value = {"run": context.run, "folder": str(folder), "exit_code": exit_code(results), "steps": results}
    last = results[request.last]
    lines = [f"run {context.run}: {last.get('summary', '')}"]
    if any(result.get("report_html") for result in results.values()):
        lines.append(f"reports: {folder / 'reports'}")
    emit(args, value, "\n".join(lines))


def exit_code(results: dict[str, dict[str, Any]]) -> int:
    """The command's exit code: a verdict where one was reached."""
    from fairlead.errors import EXIT_NOT_ENOUGH_EVIDENCE, EXIT_OK, EXIT_VERDICT_FAIL

    if results.get("evaluate", {}).get("passed") is False:
        return EXIT_VERDICT_FAIL
    outcome = str(results.get("deploy", {}).get("outcome", ""))
    codes = {"aborted": EXIT_VERDICT_FAIL, "paused": EXIT_NOT_ENOUGH_EVIDENCE, "waiting": EXIT_NOT_ENOUGH_EVIDENCE}
    codes["ended"] = EXIT_NOT_ENOUGH_EVIDENCE
    return codes.get(outcome, EXIT_OK)
