"""`fairlead evaluate`."""

import argparse

from fairlead.cli.stages import run_stages

HELP = "judge a model on the test rows: metrics, slices, baselines, gates"
EXAMPLES = """
fairlead evaluate
fairlead evaluate --set evaluate.slices.columns='[carrier]'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(args: argparse.Namespace) -> int:
    """Everything up to the evaluation; what was trained already is not trained again."""
    return run_stages(args, "evaluate")
