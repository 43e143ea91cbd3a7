"""`fairlead data schema diff | accept`: the committed schema against the present data."""

import argparse

from fairlead.cli.output import emit
from fairlead.cli.stages import manual_run_id, new_context

EXAMPLES = """fairlead data schema diff
fairlead data schema accept
fairlead data schema accept --column temp --column carrier
fairlead data schema accept --change 'columns: {temp: {min: -40}}'"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to do, and where."""
    parser.add_argument(
        "action", choices=("diff", "accept"), help="show the differences, or write schema and baseline anew"
    )
    parser.add_argument(
        "--column", metavar="NAME", action="append", default=[], help="accept this column only; may be given again"
    )
    parser.add_argument(
        "--change",
        metavar="YAML",
        action="append",
        default=[],
        help="change the schema as an anomaly suggests, without reading the data; may be given again",
    )


def run(args: argparse.Namespace) -> int:
    """Show, or write."""
    from fairlead.data.anomalies import describe
    from fairlead.errors import UsageError
    from fairlead.wiring.baseline import accept, accept_changes, diff

    context = new_context(args, manual_run_id())
    if args.change:
        if args.action == "diff" or args.column:
            raise UsageError(
                "--change says what the schema shall be",
                where="--change",
                fix="write fairlead data schema accept --change TEXT, without --column",
            )
        found = accept_changes(context, args.change)
    else:
        found = diff(context) if args.action == "diff" else accept(context, args.column)
    lines = [f"{one.column}: {one.key}: {one.says} -> {one.seen}" for one in found.changes]
    lines += [f"{'severe' if one.severe else 'warning'}: {describe(one)}" for one in found.anomalies]
    if args.change:
        lines.append(f"{found.schema} says so now; commit it")
    elif args.action == "accept":
        lines.append(f"{found.schema} and {found.baseline} hold the data as they are now; commit both")
    elif found.baseline is None:
        lines.append("units, vocabularies and default values are compared once a baseline is accepted: "
                     "fairlead data schema accept")  # fmt: skip
    emit(args, found, "\n".join(lines) or f"the data are as {found.schema} and {found.baseline} say")
    return 0
