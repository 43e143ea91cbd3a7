"""The end of a run on a cluster: kept in the store, and told on one page."""

import json
from typing import Any

from fairlead.clock import SystemClock
from fairlead.errors import KeyMissing
from fairlead.wiring.context import Context, context_from_json, run_key
from fairlead.wiring.steps import STEPS

ENDED = "ended.json"


def finish(context_json: str, state: str, message: str) -> str:
    """Write `state` and Kubeflow's `message` to the store; the run as Markdown."""
    context = context_from_json(context_json)
    error = _told(context, "error.json")
    ended = {"state": state, "message": message, "at": SystemClock().now().isoformat(), "error": error}
    context.leave(ENDED, json.dumps(ended, indent=1).encode())
    lines = [f"# Run {context.run or 'manual'} of {context.project.project}: {state}", ""]
    lines += ["| step | seconds | what came out |", "| --- | ---: | --- |"]
    for step in STEPS:
        result = _told(context, f"results/{step}.json")
        if result is not None:
            lines.append(f"| {step} | {result.get('seconds', '')} | {_cell(result.get('summary', ''))} |")
        elif error is not None and error.get("step") == step:
            lines.append(f"| {step} | | **{error.get('code')}: {_cell(error.get('what', ''))}** |")
        else:
            lines.append(f"| {step} | | not in this run: taken from Kubeflow's cache, or never reached |")
    if error is not None and state != "SUCCEEDED":
        lines += ["", *(f"- {name}: {error[name]}" for name in ("where", "why", "fix") if error.get(name))]
    return "\n".join(lines) + "\n"


def _told(context: Context, name: str) -> dict[str, Any] | None:
    try:
        value = json.loads(context.store.read(run_key(context.project.project, context.run, name)))
    except (KeyMissing, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _cell(text: object) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")
