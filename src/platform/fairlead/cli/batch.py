"""`fairlead batch`: score a data set."""

import argparse
from pathlib import Path

from fairlead.cli.output import emit, say
from fairlead.cli.stages import new_context

HELP = "score a data set with a registered model"
EXAMPLES = """
fairlead batch --data 'live/*.parquet' --output-file scores.parquet
fairlead batch --data new.parquet --output-file scores.parquet --version 2
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `fairlead batch`."""
    parser.add_argument("--data", required=True, help="Parquet files: a path, a folder or a glob")
    parser.add_argument("--output-file", required=True, type=Path, help="the Parquet file to write")
    parser.add_argument("--version", default="champion", help="a version number or alias (default: champion)")


def run(args: argparse.Namespace) -> int:
    """Score and write; the file appears whole or not at all."""
    from fairlead.serve.batch import score_files
    from fairlead.wiring.models import load_version

    context = new_context(args)
    loaded = load_version(context, context.registry().get(args.version))
    result = score_files(loaded.bundle, args.data, args.output_file, base=context.base, progress=say)
    emit(args, result, f"{result.rows:,} rows scored with version {loaded.version} into {args.output_file}")
    return 0
