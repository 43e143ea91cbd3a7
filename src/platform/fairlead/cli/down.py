"""`fairlead down`: the servers and the local Ray."""

import argparse
from pathlib import Path

from fairlead.cli.output import emit, say

HELP = "stop the servers and the local Ray of this project; nothing else on the machine is touched"
EXAMPLES = """
fairlead down
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(args: argparse.Namespace) -> int:
    """Servers first, so that they can write out their logs, then Ray."""
    from fairlead.cli.project_folder import project_folder
    from fairlead.wiring.local_ray import stop_local_ray

    base = project_folder(args)
    server = _stop_server(args, base)
    ray = stop_local_ray(base)
    stopped = [name for name, was in (("the server", server), ("Ray", ray)) if was]
    text = f"stopped {' and '.join(stopped)}" if stopped else "nothing was running"
    emit(args, {"server": server, "ray": ray}, text)
    return 0


def _stop_server(args: argparse.Namespace, base: Path) -> bool:
    from fairlead.cli.stages import new_context
    from fairlead.errors import FairleadError
    from fairlead.wiring.local_ray import connect, find_local_ray
    from fairlead.wiring.serving import read_state, stop_serving

    try:
        context = new_context(args)
        state = read_state(context)
        if state is not None and state.backend == "ray" and find_local_ray(base) is not None:
            ray = connect(base, start=False)
            from fairlead.serve.ray_app import stop_ray_serving

            try:
                stop_ray_serving(context.project.project, ray.get_runtime_context().gcs_address)
            finally:
                ray.shutdown()
        return stop_serving(context)
    except FairleadError as error:
        # A broken project file or store must not keep anybody from stopping what runs.
        say(f"the server was not asked to stop first: {error.what}")
        return False
