"""The steps of the pipeline, one function each: open the context, do the work, leave a record.

A component's body calls one of these and nothing else. Each returns a JSON-able dict: the facts that the next steps
need, plus `metrics`, `report_html` (a path or ""), `report_markdown` and `summary` (one line for a person). Each writes
its result to the run's folder, a StepRecord to the store, and, when it fails on purpose, the error for `fairlead run`
to show first.
"""

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fairlead.atomic import DISK_FULL, write_atomic
from fairlead.clock import Clock, SystemClock
from fairlead.errors import FairleadError, GatesFailed, NotEnoughDisk
from fairlead.records.lineage import StepRecord
from fairlead.registry.environment import code_version, environment_facts
from fairlead.registry.lineage import write_step
from fairlead.reports.html import render_html
from fairlead.reports.markdown import render_markdown
from fairlead.reports.model import Report
from fairlead.wiring.context import Context, context_from_json
from fairlead.wiring.progress import StepProgress

STEPS = ("validate", "prepare", "train", "evaluate", "register", "deploy")


@dataclass
class Outcome:
    """What the body of a step hands back. `facts` go to the next steps and into the step's record."""

    facts: dict[str, Any]
    summary: str
    reads: Mapping[str, list[str]] = field(default_factory=dict)
    writes: Mapping[str, list[str]] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    report: Report | None = None
    seed: int | None = None


def validate(context: str) -> dict[str, Any]:
    """Check the source against its schema."""
    from fairlead.wiring.data import run_validate

    return _run("validate", context, run_validate)


def prepare(context: str, source_fingerprint: str) -> dict[str, Any]:
    """Split, scan for leaks, fit the transform, write prepared data."""
    from fairlead.wiring.data import run_prepare

    return _run("prepare", context, lambda c, p: run_prepare(c, p, source_fingerprint))


def train(context: str, fingerprint: str) -> dict[str, Any]:
    """Fit the network and leave a draft of the bundle."""
    from fairlead.wiring.train import run_train

    return _run("train", context, lambda c, p: run_train(c, p, fingerprint))


def evaluate(context: str, fingerprint: str, draft: str) -> dict[str, Any]:
    """Calibrate, judge on held-out rows, seal and publish the bundle."""
    from fairlead.wiring.evaluate import run_evaluate

    return _run("evaluate", context, lambda c, p: run_evaluate(c, p, fingerprint, draft))


def register(context: str, bundle_uri: str, digest: str, fingerprint: str) -> dict[str, Any]:
    """Give the bundle a version number. Raises GatesFailed when its evaluation did not pass."""
    from fairlead.wiring.release import run_register

    return _run("register", context, lambda c, p: run_register(c, p, bundle_uri, digest, fingerprint))


def deploy(context: str, version: int) -> dict[str, Any]:
    """Bring the version to traffic: bootstrap when there is no champion, else a rollout."""
    from fairlead.wiring.release import run_deploy

    return _run("deploy", context, lambda c, p: run_deploy(c, p, version))


def _run(step: str, context_json: str, body: Callable[[Context, StepProgress], Outcome]) -> dict[str, Any]:
    clock = SystemClock()
    context = context_from_json(context_json)
    folder = context.run_folder
    progress = StepProgress(folder / "progress.jsonl", step, lambda line: context.tell("progress.json", line))
    context.tell("progress.json", json.dumps({"step": step, "message": "", "share": None}).encode())
    started = clock.now()
    try:
        return _succeed(context, step, started, clock, body(context, progress))
    except FairleadError as error:
        _fail(context, step, started.isoformat(), error)
        raise
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        where = str(error.filename) if error.filename else str(context.home)
        full = NotEnoughDisk(
            "the disk is full", where=where, why=str(error), fix="free some space and run the same command again"
        )
        _fail(context, step, started.isoformat(), full)
        raise full from error
    finally:
        progress.flush()


def _succeed(context: Context, step: str, started: datetime, clock: Clock, outcome: Outcome) -> dict[str, Any]:
    folder = context.run_folder
    seconds = (clock.now() - started).total_seconds()
    result = {
        **outcome.facts,
        "metrics": {name: float(value) for name, value in outcome.metrics.items()},
        "report_html": "",
        "report_markdown": "",
        "summary": outcome.summary,
        "seconds": round(seconds, 2),
    }
    if outcome.report is not None:
        html = folder / "reports" / f"{step}.html"
        write_atomic(html, render_html(outcome.report).encode())
        context.store.write(
            f"reports/{context.project.project}/{context.run or 'manual'}/{step}.html", html.read_bytes()
        )
        result["report_html"] = str(html)
        result["report_markdown"] = render_markdown(outcome.report)
    context.leave(f"results/{step}.json", json.dumps(result, indent=1).encode())
    _record(context, step, started.isoformat(), clock.now().isoformat(), "succeeded", outcome)
    return result


def _fail(context: Context, step: str, started: str, error: FairleadError) -> None:
    # On a full disk none of this may work; the error itself counts.
    with contextlib.suppress(OSError, NotEnoughDisk):
        context.leave("error.json", json.dumps({"step": step, **error.as_dict()}).encode())
        _record(context, step, started, SystemClock().now().isoformat(), "failed", Outcome({}, error.what))


def _record(context: Context, step: str, started: str, ended: str, status: str, outcome: Outcome) -> None:
    write_step(
        context.store,
        StepRecord(
            run=context.run or "manual",
            step=step,
            project=context.project.project,
            started_at=started,
            ended_at=ended,
            status=status,
            reads=outcome.reads,
            writes=outcome.writes,
            code_version=code_version(context.base),
            config_sha256=context.loaded.sha256,
            environment=environment_facts(),
            seed=outcome.seed,
            facts={"summary": outcome.summary, **{k: v for k, v in outcome.facts.items() if _is_small(v)}},
        ),
    )


def _is_small(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) < 500)


__all__ = ["STEPS", "GatesFailed", "Outcome", "deploy", "evaluate", "prepare", "register", "train", "validate"]
