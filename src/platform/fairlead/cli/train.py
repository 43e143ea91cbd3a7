"""`fairlead train`."""

import argparse

from fairlead.cli.stages import run_stages

HELP = "train a model on prepared data; an interrupted run of the same data and configuration is taken up"
EXAMPLES = """
fairlead train
fairlead train --set train.epochs=10 --set train.workers=1
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(args: argparse.Namespace) -> int:
    """Validate, prepare and train."""
    return run_stages(args, "train")
