"""`fairlead deploy`: a version to the servers, or what they serve."""

import argparse

from fairlead.cli.follow import told_progress
from fairlead.cli.output import emit, say
from fairlead.cli.stages import manual_run_id, new_context

HELP = "put a version on the servers, or show what they serve"
EXAMPLES = """
fairlead deploy
fairlead deploy --version 3
fairlead deploy --version 3 --on cluster
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `fairlead deploy`."""
    parser.add_argument("--version", default=None, help="bring this version to traffic: bootstrap or rollout")
    parser.add_argument(
        "--on", choices=("local", "cluster"), default=None, help="where the servers are (default: deploy.on)"
    )


def run(args: argparse.Namespace) -> int:
    """Without --version: bring the servers up with the champion when they are down, and say what is live."""
    from fairlead.errors import EXIT_NOT_ENOUGH_EVIDENCE, EXIT_VERDICT_FAIL, VersionNotFound
    from fairlead.records.codec import to_value
    from fairlead.wiring import steps
    from fairlead.wiring.models import arm_of, champion
    from fairlead.wiring.serving import ensure_serving

    if args.on is not None:
        args.set = [*args.set, f"deploy.on={args.on}"]
    context = new_context(args, manual_run_id())
    if args.version is not None:
        version = context.registry().get(args.version)
        with told_progress(context.run_folder / "progress.jsonl"):
            result = steps.deploy(context.to_json(), version.number)
        emit(args, result, f"{result['summary']}\nreport: {result['report_html']}")
        return {"aborted": EXIT_VERDICT_FAIL, "paused": EXIT_NOT_ENOUGH_EVIDENCE}.get(result["outcome"], 0)
    current = champion(context)
    if current is None:
        raise VersionNotFound("there is no champion to deploy", fix="fairlead run, or fairlead deploy --version N")
    client = ensure_serving(context, arm_of(current), say)
    say(f"serving at {client.url}")
    view = client.release()
    live = view["applied"]
    text = f"champion: version {live.champion.version}" if live else "nothing is applied yet"
    if live is not None and live.candidate is not None:
        text += f"; candidate: version {live.candidate.version} at {live.candidate_weight:g} %"
    emit(args, {"url": client.url, **{name: to_value(value) for name, value in view.items()}}, text)
    return 0
