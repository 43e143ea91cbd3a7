"""The command line: one module per verb, and what a person sees.

A verb's module is imported only when the verb is used. It declares ``HELP``, ``EXAMPLES``, ``add_arguments(parser)``
and ``run(args) -> int``; a verb with verbs below it declares ``SUBVERBS`` instead (see `verbs.SubVerb`). Results go to
stdout through `output.emit`, progress to stderr; failures are raised as `FairleadError` and printed by `frame`.
Nothing is decided here: a verb reads its arguments, calls the library and shows what came back.
"""

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    from fairlead.cli.frame import run_command

    return run_command(argv)
