"""`fairlead data profile | validate | split | sample | drift | schema`."""

import argparse
from collections.abc import Callable

from fairlead.cli import data_drift, data_sample, data_schema
from fairlead.cli.anomaly_lines import anomaly_lines
from fairlead.cli.output import emit, say
from fairlead.cli.stages import manual_run_id, new_context, run_stages
from fairlead.cli.verbs import SubVerb

HELP = "look at, validate, split, sample and compare data"


def _profile_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--against", metavar="FILES", help="set this source beside data.source")
    parser.add_argument(
        "--memory", default="1GiB", metavar="SIZE", help="what reading may take beside the program (default: 1GiB)"
    )
    parser.add_argument(
        "--workers", type=int, default=0, metavar="N", help="as N tasks on the project's local Ray (default: here)"
    )
    parser.add_argument("--no-cache", action="store_true", help="read every file, also those seen before")
    parser.add_argument("--no-leaks", action="store_true", help="do not scan the features for leaks")
    parser.add_argument("--html", metavar="PATH", help="where to write the report (default: in the run's folder)")


def _profile(args: argparse.Namespace) -> int:
    from pathlib import Path

    from fairlead.atomic import write_atomic
    from fairlead.data.profile import ProfileOptions, profile_data
    from fairlead.data.profile_report import profile_report
    from fairlead.reports.html import render_html
    from fairlead.spec.quantities import parse_bytes
    from fairlead.wiring.ray_summary import ray_engine

    try:
        memory = int(parse_bytes(args.memory))
    except ValueError as error:
        raise _usage(f"--memory {args.memory}", str(error)) from error
    context = new_context(args, manual_run_id())
    options = ProfileOptions(memory, not args.no_cache, leaks=not args.no_leaks, against=args.against)
    engine = ray_engine(context.base, args.workers) if args.workers else None
    profile = profile_data(context.project, context.base, options, _tell(), engine)
    report = profile_report(profile)
    path = Path(args.html) if args.html else context.run_folder / "reports" / "profile.html"
    write_atomic(path, render_html(report).encode())
    say(f"report: {path}")
    emit(args, profile.model_dump(mode="json"), report)
    return 0


def _tell() -> Callable[[str, float | None], None]:
    return lambda message, share: say(f"  {message}" if share is None else f"  {share:>4.0%}  {message}")


def _usage(what: str, why: str) -> Exception:
    from fairlead.errors import UsageError

    return UsageError(f"{what} is no size", why=why, fix="write for instance --memory 512MiB")


def _validate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--environment",
        choices=("training", "serving"),
        help="what the rows are for: at serving the label is not looked for (default: data.validate.environment)",
    )


def _validate(args: argparse.Namespace) -> int:
    if args.environment:
        args.set = [*args.set, f"data.validate.environment={args.environment}"]
    return run_stages(args, "validate", anomaly_lines)


def _split(args: argparse.Namespace) -> int:
    return run_stages(args, "prepare")


SUBVERBS = {
    "profile": SubVerb(
        "statistics of every column",
        _profile,
        _profile_arguments,
        examples="fairlead data profile\nfairlead data profile -o json\n"
        "fairlead data profile --memory 512MiB --workers 4\n"
        "fairlead data profile --against data/2013-09.parquet --html september.html",
    ),
    "validate": SubVerb(
        "check the rows against the schema, quarantine those that break it",
        _validate,
        _validate_arguments,
        examples="fairlead data validate\nfairlead data validate --set data.validate.max_rejected=1%\n"
        "fairlead data validate --environment serving --set data.source=live",
    ),
    "split": SubVerb(
        "write the prepared data: train, validation, test",
        _split,
        examples="fairlead data split\nfairlead data split --set data.split.by=random",
    ),
    "sample": SubVerb(
        "draw rows from the source into one file: simple, stratified, weighted, importance",
        data_sample.run,
        data_sample.add_arguments,
        data_sample.EXAMPLES,
    ),
    "drift": SubVerb(
        "which features moved between two windows, and why; or day by day, with few false alarms",
        data_drift.run,
        data_drift.add_arguments,
        data_drift.EXAMPLES,
    ),
    "schema": SubVerb(
        "where the data and the committed schema disagree, and accepting it",
        data_schema.run,
        data_schema.add_arguments,
        data_schema.EXAMPLES,
    ),
}
