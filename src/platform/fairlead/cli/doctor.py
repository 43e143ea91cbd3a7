"""`fairlead doctor`: what this machine can and cannot do."""

import argparse
from typing import TYPE_CHECKING

from fairlead.cli.output import emit

if TYPE_CHECKING:
    from rich.console import Console

    from fairlead.wiring.doctor import Finding

HELP = "check this machine and project: Python, extras, memory, disk, ports, store, Ray, secrets"
EXAMPLES = """
fairlead doctor
fairlead doctor -o json
fairlead doctor --on cluster
"""
_MARKS = {"ok": ("✓", "green"), "note": ("i", "cyan"), "warning": ("!", "yellow"), "problem": ("✗", "bold red")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to look."""
    parser.add_argument(
        "--on", choices=("local", "cluster"), default="local", help="this machine, or the cluster of train.rayjob"
    )


def run(args: argparse.Namespace) -> int:
    """Exit code 8 when there is a problem; warnings and notes do not count."""
    from pathlib import Path

    from fairlead.errors import EXIT_OK, EnvironmentProblem

    if args.on == "cluster":
        from fairlead.wiring.doctor_cluster import examine_cluster as examine
    else:
        from fairlead.wiring.doctor import examine

    findings = examine(Path(args.file), tuple(args.set))
    problems = sum(finding.status == "problem" for finding in findings)
    code = EnvironmentProblem.exit_code if problems else EXIT_OK
    emit(args, {"ok": not problems, "findings": findings}, lambda console: _print(console, findings, problems))
    return code


def _print(console: "Console", findings: "list[Finding]", problems: int) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for finding in findings:
        mark, style = _MARKS[finding.status]
        text = Text(finding.message)
        if finding.fix and finding.status != "ok":
            text.append(f"\n→ {finding.fix}", style="dim")
        table.add_row(Text(mark, style=style), Text(finding.name), text)
    console.print(table)
    many = "problem" if problems == 1 else "problems"
    console.print(f"{problems} {many}" if problems else "nothing stands in the way")
