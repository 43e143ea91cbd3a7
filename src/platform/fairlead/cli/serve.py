"""`fairlead serve`: one server process."""

import argparse

from fairlead.cli.output import say
from fairlead.cli.stages import new_context

HELP = "serve a model over HTTP in one process"
EXAMPLES = """
fairlead serve
fairlead serve --version 2 --set serve.port=9000
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `fairlead serve`."""
    parser.add_argument(
        "--version", default=None, help="a version number or alias (default: the release, else champion)"
    )
    parser.add_argument(
        "--pod", action="store_true", help="serve what the variable FAIRLEAD_POD says, as containers of the chart do"
    )


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted."""
    if args.pod:
        import os

        from fairlead.serve.pod import read_settings, run_pod

        settings = read_settings(os.environ)
        say(f"version {settings.arm.version} at http://{settings.serve.host}:{settings.serve.port}")
        run_pod(settings)
        return 0
    from fairlead.errors import VersionNotFound
    from fairlead.records.release import Release
    from fairlead.serve.http_app import run_process_server
    from fairlead.wiring.models import arm_of, champion
    from fairlead.wiring.serving import wanted_release

    context = new_context(args)
    release = wanted_release(context)
    if args.version is not None or release is None:
        version = context.registry().get(args.version) if args.version else champion(context)
        if version is None:
            raise VersionNotFound("there is no champion to serve", fix="fairlead run, or name one with --version")
        generation = release.generation + 1 if release else 1
        release = Release(context.project.project, generation, arm_of(version), note="fairlead serve")
    say(f"version {release.champion.version} at http://{context.project.serve.host}:{context.project.serve.port}")
    run_process_server(context.project.serve, release, context.project.store, context.base)
    return 0
