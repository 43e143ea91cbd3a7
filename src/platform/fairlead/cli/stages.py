"""Running single stages in this process, without a pipeline: what `data`, `train` and `evaluate` share."""

import argparse
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fairlead.cli.follow import told_progress
from fairlead.cli.output import emit, say
from fairlead.errors import EXIT_OK, EXIT_VERDICT_FAIL


def new_context(args: argparse.Namespace, run: str = "") -> Any:
    """The project of the command line. Raises SpecError."""
    from fairlead.wiring.context import open_context

    return open_context(Path(args.file), args.set, run)


def manual_run_id() -> str:
    """A name for a run that is no pipeline's."""
    return f"manual-{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:4]}"


def run_stages(args: argparse.Namespace, last: str, tell: Callable[[dict[str, Any]], str] | None = None) -> int:
    """Validate, prepare, train, evaluate up to `last`; work that was done before on the same inputs is taken up. `tell`
    says more of the last result, in lines.

    Returns the exit code: a verdict when a gate failed."""
    from fairlead.wiring import steps

    opened = new_context(args, manual_run_id())
    context = opened.to_json()
    results: dict[str, dict[str, Any]] = {}

    def done(step: str, result: dict[str, Any]) -> bool:
        results[step] = result
        say(f"{step:<10} {result['summary']}  ({result['seconds']:.1f} s)")
        return step == last

    with told_progress(opened.run_folder / "progress.jsonl"):
        if not done("validate", steps.validate(context)):
            source = results["validate"]["source_fingerprint"]
            if not done("prepare", steps.prepare(context, source)):
                fingerprint = results["prepare"]["fingerprint"]
                if not done("train", steps.train(context, fingerprint)):
                    done("evaluate", steps.evaluate(context, fingerprint, results["train"]["draft"]))
    result = results[last]
    more = tell(result) if tell is not None else ""
    emit(args, result, f"{result['summary']}\n{more}report: {result['report_html']}")
    return EXIT_VERDICT_FAIL if result.get("passed") is False else EXIT_OK
