"""`fairlead data sample`: a part of the source as one Parquet file."""

import argparse

from fairlead.cli.output import emit, say
from fairlead.cli.stages import manual_run_id, new_context

EXAMPLES = """fairlead data sample --rows 100000 --out sample.parquet
fairlead data sample --rows 10000 --by stratified --strata carrier --out sample.parquet
fairlead data sample --rows 10000 --by importance --chance amount --seed 1 --out sample.parquet"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How many, how, where to."""
    parser.add_argument("--rows", type=int, required=True, metavar="N", help="how many rows to draw at most")
    parser.add_argument(
        "--by",
        choices=("simple", "stratified", "weighted", "importance"),
        default="simple",
        help="simple: a reservoir, every row has the same chance; stratified: each value of --strata keeps its share; "
        "weighted: chances grow with --chance; importance: the same, and the column sample_weight says how many rows "
        "each one stands for (default: simple)",
    )
    parser.add_argument(
        "--chance", metavar="COLUMN", help="weighted, importance: the column of the chances, at least 0"
    )
    parser.add_argument("--strata", metavar="COLUMN", help="stratified: the column (default: the label)")
    parser.add_argument(
        "--seed", type=int, default=7, metavar="N", help="the same seed draws the same rows (default: 7)"
    )
    parser.add_argument("--out", required=True, metavar="PATH", help="the Parquet file to write")


def run(args: argparse.Namespace) -> int:
    """Draw and write."""
    from pathlib import Path

    from pydantic import ValidationError

    from fairlead.data.sample_file import draw_sample
    from fairlead.errors import UsageError
    from fairlead.spec.data import Sample

    if args.strata and args.by != "stratified":
        raise UsageError("--strata is for --by stratified", where="--strata", fix="drop it, or add --by stratified")
    try:
        asked = Sample(rows=args.rows, by=args.by, chance=args.chance, seed=args.seed)
    except ValidationError as error:
        first = error.errors()[0]
        where = f"--{first['loc'][0]}" if first["loc"] else "--chance"
        raise UsageError(
            "that is no sample", where=where, why=first["msg"], fix="see the examples of --help"
        ) from error
    context = new_context(args, manual_run_id())

    def tell(message: str, share: float | None = None) -> None:
        say(f"  {message}" if share is None else f"  {share:>4.0%}  {message}")

    drawn = draw_sample(context.project, context.base, asked, Path(args.out), context.run_folder, args.strata, tell)
    worth = "" if drawn.effective_rows is None else f", worth {drawn.effective_rows:,.0f} equally weighted ones"
    text = f"{drawn.path}: {drawn.rows:,} of {drawn.of_rows:,} rows ({drawn.by}, seed {drawn.seed}){worth}"
    emit(args, drawn, text)
    return 0
