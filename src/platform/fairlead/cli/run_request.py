"""From a command line to what runs: the project, the steps, and the earlier results that they take up."""

import argparse
import importlib.util
import json
import shutil
import threading
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fairlead.cli.local_pipeline import GIVES, STEPS, TAKES, Request
from fairlead.cli.output import say
from fairlead.cli.stages import new_context
from fairlead.errors import ExtraMissing, FairleadError, UsageError
from fairlead.registry.environment import code_version
from fairlead.wiring.context import Context

_KNOWN_RUNS = 5


@dataclass(frozen=True, slots=True)
class Earlier:
    """The run whose results stand for the steps that are not run again."""

    run: str
    steps: tuple[str, ...]
    facts: dict[str, Any]
    config: str | None


def prepare_request(args: argparse.Namespace) -> tuple[Context, Request, Earlier | None]:
    """The project, what is to run in which new run, and what it takes up.

    Raises UsageError, SpecError, ExtraMissing. Nothing has been written but the run's folder.
    """
    if STEPS.index(args.first) > STEPS.index(args.last):
        raise UsageError(f"--from {args.first} comes after --to {args.last}", fix=f"the order is {', '.join(STEPS)}")
    if args.earlier is not None and args.first == STEPS[0]:
        raise UsageError("--run says whose results to take up, and no step is left out", fix="add --from STEP")
    if importlib.util.find_spec("kfp") is None:
        raise ExtraMissing("fairlead run needs kfp, which is not installed", fix="pip install 'fairlead[pipelines]'")
    context = new_context(args, new_run_id())
    earlier = _find_earlier(context, args.first, args.earlier) if args.first != STEPS[0] else None
    chosen = STEPS[STEPS.index(args.first) : STEPS.index(args.last) + 1]
    arguments: dict[str, str | int] = {
        "context": context.to_json(),
        "code": code_version(context.base),
        "config": context.loaded.sha256,
    }
    if earlier is not None:
        arguments |= {name: earlier.facts[name] for name in _taken(chosen)}
    _open_run(context, args, earlier)
    return context, Request(args.first, args.last, arguments, str(context.run_folder)), earlier


def warn_of_changes(context: Context, earlier: Earlier | None) -> None:
    """Say when the configuration is not that of the run whose results are taken up."""
    if earlier is not None and earlier.config is not None and earlier.config != context.loaded.sha256:
        say(
            f"note: the configuration has changed since run {earlier.run}; "
            f"{', '.join(earlier.steps)} are as they were then"
        )


def start_ray_meanwhile(context: Context, request: Request) -> None:
    """Start the local Ray while the data is prepared, when a later step will want it.

    A failure is not reported here: the step that needs Ray tries again and says why."""
    train, serve = context.project.train, context.project.serve
    trains = train.launcher == "ray" or (train.launcher == "auto" and train.workers > 1)
    serves = serve.backend == "ray" and "deploy" in request.steps
    if (trains and "train" in request.steps) or serves:
        threading.Thread(target=_start_ray, args=(context.base,), daemon=True).start()


def _start_ray(base: Path) -> None:
    from fairlead.wiring.local_ray import ensure_local_ray

    try:
        ensure_local_ray(base)
    except FairleadError:
        return


def _taken(chosen: tuple[str, ...]) -> list[str]:
    given: set[str] = set()
    taken: list[str] = []
    for step in chosen:
        taken += [name for name in TAKES[step] if name not in given and name not in taken]
        given |= set(GIVES[step])
    return taken


def _find_earlier(context: Context, first: str, wanted: str | None) -> Earlier:
    before = STEPS[: STEPS.index(first)]
    runs = context.home / "runs"
    if wanted is not None and not (runs / wanted / "results").is_dir():
        known = ", ".join(folder.name for folder in _newest_first(runs, before)[:_KNOWN_RUNS])
        raise UsageError(
            f"there is no run {wanted} with results", where=str(runs), fix=f"runs that fit: {known or 'none'}"
        )
    candidates = [runs / wanted] if wanted is not None else _newest_first(runs, before)
    for folder in candidates:
        results = _results(folder, before)
        if results is not None:
            config = _read(folder / "run.json") or {}
            facts = {name: value for result in results.values() for name, value in result.items()}
            return Earlier(folder.name, before, facts, config.get("config"))
    has = f"run {wanted} does not have" if wanted is not None else "no earlier run has"
    raise UsageError(
        f"--from {first} takes up the results of {', '.join(before)}, and {has} all of them",
        where=str(runs),
        fix=f"fairlead run --to {before[-1]}",
    )


def _newest_first(runs: Path, before: tuple[str, ...]) -> list[Path]:
    marks = [path for path in runs.glob(f"*/results/{before[-1]}.json") if path.is_file()]
    folders = [path.parents[1] for path in sorted(marks, key=lambda path: path.stat().st_mtime, reverse=True)]
    return [folder for folder in folders if _results(folder, before) is not None]


def _results(folder: Path, steps: tuple[str, ...]) -> dict[str, dict[str, Any]] | None:
    found = {step: _read(folder / "results" / f"{step}.json") for step in steps}
    whole = {step: result for step, result in found.items() if result is not None and set(GIVES[step]) <= set(result)}
    return whole if len(whole) == len(steps) else None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _open_run(context: Context, args: argparse.Namespace, earlier: Earlier | None) -> None:
    folder = context.run_folder
    (folder / "results").mkdir(parents=True)
    if earlier is not None:
        source = context.home / "runs" / earlier.run
        for step in earlier.steps:
            shutil.copyfile(source / "results" / f"{step}.json", folder / "results" / f"{step}.json")
        judged = source / "evaluation.json"
        if "evaluate" in earlier.steps and judged.is_file():
            shutil.copyfile(judged, folder / "evaluation.json")
    facts = {
        "config": context.loaded.sha256,
        "overrides": list(context.overrides),
        "from": args.first,
        "to": args.last,
        "takes_up": earlier.run if earlier is not None else None,
    }
    (folder / "run.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")


def new_run_id() -> str:
    """A name for a run: when it was started, and something that no other has."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:4]}"
