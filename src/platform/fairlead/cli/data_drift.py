"""`fairlead data drift`: two windows of rows against each other, or days against those before."""

import argparse

from fairlead.cli.output import emit, say
from fairlead.cli.stages import manual_run_id, new_context
from fairlead.errors import EXIT_OK, EXIT_VERDICT_FAIL
from fairlead.records.drift import DriftOverTime, WindowDrift

EXAMPLES = """fairlead data drift --reference 2013-01 --live 2013-09
fairlead data drift --reference all --live-data 'live/*.parquet'
fairlead data drift --daily --reference ..2013-04-01 -o json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which rows."""
    parser.add_argument(
        "--reference",
        metavar="WINDOW",
        default="all",
        help="what rows should look like: 2013-01, 2013-01-01..2013-04-01 (to before), ..2013-04-01 or all",
    )
    parser.add_argument("--live", metavar="WINDOW", help="the rows to compare with it; with --live-data: all")
    parser.add_argument("--live-data", metavar="FILES", help="take the live rows from other files than data.source")
    parser.add_argument(
        "--daily",
        action="store_true",
        help="watch each day from the end of the reference on, within watch.drift.false_alarms_per_month",
    )
    parser.add_argument("--fail", action="store_true", help="end with exit code 10 when a feature moved or alarms")


def run(args: argparse.Namespace) -> int:
    """Compare, write the report, say what moved."""
    from fairlead.atomic import write_atomic
    from fairlead.data.windows import parse_window
    from fairlead.errors import UsageError
    from fairlead.reports.html import render_html
    from fairlead.watch.drift_report import drift_report, over_time_report
    from fairlead.wiring.drift import compare, over_time

    context = new_context(args, manual_run_id())
    reference = parse_window(args.reference)

    def progress(text: str, share: float | None) -> None:
        if args.verbose:
            say(text)

    if args.daily:
        if reference.end is None or reference.start is not None or args.live or args.live_data:
            raise UsageError(
                "--daily watches the days after the reference",
                where="--reference",
                fix="write --reference ..2013-04-01",
            )
        watched = over_time(context, reference.end, progress)
        value: WindowDrift | DriftOverTime = watched
        report, found = over_time_report(watched), bool(watched.alarms)
    else:
        if not args.live and not args.live_data:
            raise UsageError("there is nothing to compare with", where="--live", fix="give --live or --live-data")
        compared = compare(context, reference, parse_window(args.live or "all"), args.live_data, progress)
        report = drift_report(compared.drift, compared.reference, compared.live)
        value, found = compared.drift, bool(compared.drift.moved or compared.drift.links)
    path = context.run_folder / "reports" / "drift.html"
    write_atomic(path, render_html(report).encode())
    say(f"report: {path}")
    emit(args, value, report)
    return EXIT_VERDICT_FAIL if found and args.fail else EXIT_OK
