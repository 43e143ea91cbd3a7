"""`fairlead up`: the local Ray that training and serving share."""

import argparse

from fairlead.cli.output import emit, say

HELP = "start the local Ray that training and serving share; `fairlead run` does it by itself when it needs one"
EXAMPLES = """
fairlead up
fairlead up --cpus 16
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `fairlead up`."""
    parser.add_argument(
        "--cpus",
        type=int,
        default=None,
        metavar="N",
        help="logical CPUs that Ray counts with (default: 8, or the cores)",
    )


def run(args: argparse.Namespace) -> int:
    """Start it, or say that it runs."""
    import dataclasses

    from fairlead.cli.project_folder import project_folder
    from fairlead.errors import UsageError
    from fairlead.wiring.local_ray import default_size, ensure_local_ray, find_local_ray

    base = project_folder(args)
    size = default_size()
    if args.cpus is not None:
        if args.cpus < 1:
            raise UsageError(f"--cpus {args.cpus}: Ray needs at least one")
        size = dataclasses.replace(size, num_cpus=args.cpus)
    found = find_local_ray(base)
    if found is None:
        say("starting Ray ...")
        ensure_local_ray(base, size)
        found = find_local_ray(base)
    if found is None:
        raise RuntimeError("Ray ended right after its start")
    if args.cpus is not None and found.num_cpus != args.cpus:
        say(f"it runs already, with {found.num_cpus} logical CPUs; fairlead down first to change that")
    emit(args, found, f"Ray is up at {found.address}: {found.num_cpus} logical CPUs, token required, loopback only")
    return 0
