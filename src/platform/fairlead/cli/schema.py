"""`fairlead schema`: the project file's format for editors and programs."""

import argparse

HELP = "print the project file's JSON schema"
EXAMPLES = """
fairlead schema > fairlead.schema.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(args: argparse.Namespace) -> int:
    """Print it; with ``-o text`` as well, because JSON is what it is."""
    from fairlead.cli.output import print_json
    from fairlead.spec.schema import json_schema

    print_json(json_schema())
    return 0
