"""`fairlead data profile | validate | split | drift | schema`."""

import argparse

from fairlead.cli import data_drift, data_schema
from fairlead.cli.output import emit, say
from fairlead.cli.stages import manual_run_id, new_context, run_stages
from fairlead.cli.verbs import SubVerb

HELP = "look at, validate, split and compare data"


def _profile(args: argparse.Namespace) -> int:
    from fairlead.atomic import write_atomic
    from fairlead.data.prepare import validate_data
    from fairlead.data.report import validation_report
    from fairlead.reports.html import render_html

    context = new_context(args, manual_run_id())
    result = validate_data(context.project, context.base, context.run_folder / "validate")
    report = validation_report(context.project, result)
    path = context.run_folder / "reports" / "profile.html"
    write_atomic(path, render_html(report).encode())
    say(f"report: {path}")
    emit(args, result.statistics, report)
    return 0


def _validate(args: argparse.Namespace) -> int:
    return run_stages(args, "validate")


def _split(args: argparse.Namespace) -> int:
    return run_stages(args, "prepare")


SUBVERBS = {
    "profile": SubVerb(
        "statistics of every column", _profile, examples="fairlead data profile\nfairlead data profile -o json"
    ),
    "validate": SubVerb(
        "check the rows against the schema, quarantine those that break it",
        _validate,
        examples="fairlead data validate\nfairlead data validate --set data.validate.max_rejected=1%",
    ),
    "split": SubVerb(
        "write the prepared data: train, validation, test",
        _split,
        examples="fairlead data split\nfairlead data split --set data.split.by=random",
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
