"""`fairlead explain FIELD|CODE`: what a field of the project file, of the schema file, or an error code means."""

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairlead.spec.explain import Explanation
    from fairlead.spec.fields import FieldDoc

HELP = "explain a field of the project file or the schema file, or an error code"
EXAMPLES = """
fairlead explain train.precision
fairlead explain evaluate.gates
fairlead explain schema.columns.monotonic
fairlead explain FL-205
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to explain."""
    parser.add_argument("what", metavar="FIELD|CODE", help="a field such as train.precision, or a code such as FL-205")


def run(args: argparse.Namespace) -> int:
    """Print what is known."""
    from fairlead.cli.output import emit
    from fairlead.errors import UsageError
    from fairlead.spec.explain import explain
    from fairlead.spec.fields import all_fields

    try:
        found = explain(args.what)
    except UsageError:
        # Reading and checking data takes a third of a second to import.
        from fairlead.data.schema import Schema

        found = explain(args.what, all_fields(Schema, "schema"))
    emit(args, _value(found), _text(found))
    return 0


def _value(found: "Explanation") -> dict[str, Any]:
    if found.error is not None:
        error = found.error
        return {"code": error.code, "name": error.name, "text": error.text, "exit_code": error.exit_code}
    return {"fields": [_field(doc) for doc in found.fields], "below": [_field(doc) for doc in found.below]}


def _field(doc: "FieldDoc") -> dict[str, Any]:
    return {
        "path": doc.path, "type": doc.expected, "description": doc.description, "required": doc.required,
        "default": None if doc.required else doc.default, "unit": doc.unit or None, "choices": list(doc.choices),
    }  # fmt: skip


def _text(found: "Explanation") -> str:
    from fairlead.spec.explain import describe

    if found.error is not None:
        error = found.error
        return f"{error.code} {error.name}, exit code {error.exit_code}\n  {error.text}"
    lines: list[str] = []
    for doc in found.fields:
        lines += [doc.path, f"  {doc.description}"]
        lines += [f"  {name + ':':<9} {text}" for name, text in describe(doc)]
    if found.about:
        lines.append(f"  {found.about}")
    if found.below:
        width = max(len(doc.path) for doc in found.below)
        lines += ["", *(f"  {doc.path:<{width}}  {doc.description}" for doc in found.below)]
    return "\n".join(lines)
