"""How a verb shows its result: JSON on stdout with ``-o json``, else text through rich. Progress goes to stderr."""

import argparse
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from fairlead.reports.model import Report


def wants_json(args: argparse.Namespace) -> bool:
    """True with ``-o json``."""
    return bool(args.output == "json")


def emit(args: argparse.Namespace, value: Any, text: "str | Report | Callable[[Console], None] | Any" = None) -> None:
    """Print the result of a verb.

    With ``-o json`` that is `value` (records, dataclasses and plain values; numbers that are not finite become null).
    Else `text`: a str as it is, a Report, a function that gets a console, or anything that rich can print; without
    `text`, `value` itself.
    """
    if wants_json(args):
        print_json(value)
        return
    if text is None:
        text = value
    if isinstance(text, str):
        print(text)
        return
    from fairlead.reports.model import Report
    from fairlead.reports.terminal import render_terminal

    screen = console()
    if isinstance(text, Report):
        render_terminal(text, screen)
    elif callable(text) and not hasattr(text, "__rich_console__"):
        text(screen)
    else:
        screen.print(text)


def print_json(value: Any) -> None:
    """One JSON value on stdout."""
    from fairlead.records.codec import to_value

    print(json.dumps(_finite(to_value(value)), indent=2, ensure_ascii=False, default=str))


def _finite(value: Any) -> Any:
    # JSON has no NaN; a program that reads the result should not have to know Python's dialect.
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def console(*, stderr: bool = False) -> "Console":
    """A rich console. Into a pipe or a file it is wide, so that no cell is folded."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else 200, highlight=False, soft_wrap=False)


def progress_console() -> "Console":
    """Where live progress is drawn."""
    return console(stderr=True)


def say(text: str) -> None:
    """One line of progress on stderr."""
    print(text, file=sys.stderr, flush=True)
