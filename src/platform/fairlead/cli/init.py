"""`fairlead init`: a commented project file from a data file."""

import argparse
import dataclasses
import json
import os
import re
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairlead.data.proposal import Proposal

HELP = "write a commented fairlead.yaml from a data file"
EXAMPLES = """
fairlead init --from data.csv --label churned
fairlead init --from 'data/*.parquet' --label price --dir prices
fairlead init --from export.csv --delimiter ';' --label price
"""

_WIDTH = 110
_PLAIN = re.compile(r"(?:\.{0,2}/)?[A-Za-z_][A-Za-z0-9_./%()-]*(?: [A-Za-z0-9_./%()-]+)*")
_RESERVED = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the data is and what is predicted."""
    parser.add_argument(
        "--from", dest="source", metavar="FILE", required=True, help="data: file, folder, glob or s3://"
    )
    parser.add_argument("--label", metavar="COLUMN", required=True, help="the column to predict")
    parser.add_argument("--dir", metavar="FOLDER", default=".", help="the project's folder (default: here)")
    parser.add_argument("--name", default="", help="the project's name (default: from the file's name)")
    parser.add_argument(
        "--format", choices=("auto", "parquet", "csv", "jsonl"), default="auto", help="format of the data"
    )
    parser.add_argument(
        "--delimiter", metavar="CHAR", help="what separates the fields of a CSV file (default: as its header shows)"
    )
    parser.add_argument("--force", action="store_true", help="replace an existing project file")


def run(args: argparse.Namespace) -> int:
    """Look at the data, write the file, say what was decided."""
    from fairlead.atomic import write_atomic
    from fairlead.cli.output import emit
    from fairlead.data.proposal import propose
    from fairlead.errors import UsageError
    from fairlead.spec.data import parse_delimiter
    from fairlead.spec.load import load_text

    folder = Path(args.dir)
    path = folder / Path(args.file).name
    if path.exists() and not args.force:
        raise UsageError(f"{path} exists", where=str(path), fix="--force replaces it; --dir FOLDER writes elsewhere")
    try:
        delimiter = parse_delimiter(args.delimiter)
    except ValueError as error:
        raise UsageError(f"{args.delimiter!r} is no delimiter", where="--delimiter", fix=str(error)) from error
    proposal = propose(args.source, args.label, Path.cwd(), args.name, args.format, delimiter)
    if not args.source.startswith("s3://"):
        # The file is read from its own folder later on, not from here.
        proposal = dataclasses.replace(proposal, source=os.path.relpath(args.source, folder))
    schema = "schema.yaml"
    if (folder / schema).exists():
        # The schema of other data must not judge this one.
        schema = f"{proposal.project}.schema.yaml"
    text = render(proposal, schema)
    project = load_text(text, path.name)
    write_atomic(path, text.encode())
    value = {
        "path": str(path),
        "project": project.project,
        "task": proposal.task,
        "rows": proposal.rows,
        "features": list(project.features.names()),
        "excluded": proposal.excluded,
        "split": proposal.split_by,
        "time": proposal.time,
        "entity": proposal.entity,
    }
    emit(args, value, _summary(path, proposal))
    return 0


def _summary(path: Path, proposal: "Proposal") -> str:
    count = len(proposal.numeric) + len(proposal.categorical) + len(proposal.datetime)
    lines = [
        f"wrote {path}: predicts {proposal.label} ({proposal.task}) from {count} features, split by {proposal.split_by}"
    ]
    lines += [f"  left out {name}: {why}" for name, why in proposal.excluded.items()]
    where = "" if path.parent == Path(".") else f"cd {path.parent} && "
    lines.append(f"next: {where}fairlead run" + ("" if path.name == "fairlead.yaml" else f" -f {path.name}"))
    return "\n".join(lines)


# --- the text --------------------------------------------------------------------------------------------------------
def render(proposal: "Proposal", schema: str = "schema.yaml") -> str:
    """The project file's text."""
    about = "" if proposal.exact else "about "
    lines = [
        f"# Written by `fairlead init` from {_comment(proposal.source)} ({about}{proposal.rows:,} rows). Edit it:",
        "# `fairlead explain FIELD` describes a field, `fairlead validate` checks this file, `fairlead run` uses it.",
        f"project: {scalar(proposal.project)}",
        "",
        *_data(proposal, schema),
        "",
        *_features(proposal),
        "",
        *_train(proposal),
        "",
        *_evaluate(proposal),
        "",
        *_serve(proposal),
    ]
    return "\n".join(lines) + "\n"


def _data(proposal: "Proposal", schema: str) -> list[str]:
    label = {"column": proposal.label, "task": proposal.task}
    if proposal.positive is not None:
        label["positive"] = proposal.positive  # type: ignore[assignment]
    about = f"  # the rarest class has {proposal.rare_label:.1%} of the rows" if proposal.rare_label else ""
    lines = ["data:", f"  source: {scalar(proposal.source)}"]
    if proposal.format:
        lines.append(f"  format: {proposal.format}")
    if proposal.delimiter != ",":
        lines.append(f"  delimiter: {scalar(proposal.delimiter)}  # what separates the fields of the CSV files")
    lines.append(f"  label: {flow(label)}{about}")
    if proposal.time:
        others = [name for name in proposal.time_candidates if name != proposal.time]
        note = f"  # other candidates: {_names(others)}" if others else ""
        lines.append(f"  time: {scalar(proposal.time)}{note}")
    elif proposal.time_candidates:
        lines.append(f"  # time: {scalar(proposal.time_candidates[0])}")
    if proposal.entity:
        lines.append(f"  entity: {scalar(proposal.entity)}")
    elif proposal.entity_candidates:
        lines.append(
            f"  # Who or what a row is about, for a split by group; candidates: {_names(proposal.entity_candidates)}"
        )
        lines.append(f"  # entity: {scalar(proposal.entity_candidates[0])}")
    lines.append(f"  # {_comment(proposal.split_why)}")
    lines.append(f"  split: {{by: {proposal.split_by}, validation: 20%, test: 20%}}")
    rejected = "1%" if proposal.unreadable < 0.005 else f"{min(round(proposal.unreadable * 300) + 1, 20)}%"
    lines.append("  # The schema is inferred on the first run and written to that file; then it is yours to edit.")
    lines.append(f"  validate: {{schema: {scalar(schema)}, max_rejected: {rejected}}}")
    if proposal.allow:
        names = ", ".join(f"{_comment(scalar(n))} {v:.2f}" for n, v in list(proposal.allow.items())[:5])
        more = ", ..." if len(proposal.allow) > 5 else ""
        lines += wrap(
            f"These predict the label well by themselves ({names}{more}); check that they are known in time.", "  # "
        )
        reason = scalar("found by fairlead init; write here why it is known in time")
        lines += ["  leaks:", "    allow:", *(f"      {scalar(name)}: {reason}" for name in proposal.allow)]
    return lines


def _features(proposal: "Proposal") -> list[str]:
    lines = ["features:"]
    if proposal.numeric:
        lines += sequence("numeric", proposal.numeric, "  ")
    if proposal.categorical and not any(proposal.categorical.values()) and not _noted(proposal, proposal.categorical):
        lines += sequence("categorical", proposal.categorical, "  ")
    elif proposal.categorical:
        lines.append("  categorical:")
        for name, options in proposal.categorical.items():
            note = f"  # {_comment(proposal.notes[name])}" if name in proposal.notes else ""
            lines.append(f"    {scalar(name)}: {flow(options)}{note}")
    if proposal.datetime:
        lines.append("  datetime:")
        lines += [f"    {scalar(n)}: {{parts: [{', '.join(parts)}]}}" for n, parts in proposal.datetime.items()]
    if proposal.excluded:
        lines.append("  # Left out, and why:")
        for name, why in proposal.excluded.items():
            lines += wrap(f"{_comment(scalar(name))}: {_comment(why)}", "  #   ")
    return lines


def _noted(proposal: "Proposal", names: Iterable[str]) -> bool:
    return any(name in proposal.notes for name in names)


def _train(proposal: "Proposal") -> list[str]:
    if proposal.small:
        where = "launcher: inprocess, workers: 1"
        note = "# Small data: one process, small batches, more passes."
    else:
        where = "workers: 2"
        note = "# Batches are global: the same rows per step whatever the number of workers."
    values = f"model: tabular, {where}, global_batch: {proposal.batch}, epochs: {proposal.epochs}, seed: 7"
    return [note, f"train: {{{values}}}"]


def _evaluate(proposal: "Proposal") -> list[str]:
    margin = 0.05 if proposal.small else 0.01
    test_rows = int(proposal.rows * 0.2)
    lines = ["evaluate:"]
    if proposal.slices:
        smallest = min(max(test_rows // 20, 30), 200)
        lines.append(f"  slices: {{columns: {flow(proposal.slices)}, min_rows: {smallest}}}")
    lines.append("  gates:")
    match proposal.task:
        case "binary":
            gates = [("{metric: auc, min: 0.5}", "better than chance"), ("auc", "")]
        case "multiclass":
            gates = [("{metric: macro_f1, not_worse_than: random}", "better than chance"), ("macro_f1", "")]
        case _:
            gates = [("{metric: rmse, not_worse_than: majority}", "better than the mean"), ("r2", "")]
    chance, metric = gates[0], gates[1][0]
    lines.append(f"    - {chance[0]}  # {chance[1]}; raise it to what you need")
    lines.append(f"    - {{metric: {metric}, not_worse_than: champion, margin: {margin}}}")
    return lines


def _serve(proposal: "Proposal") -> list[str]:
    backend = "process" if proposal.small else "ray"
    note = "one server process; ray: Ray Serve" if proposal.small else "Ray Serve; process: one server process"
    return [f"serve: {{backend: {backend}, port: 8000}}  # {note}"]


# --- YAML ------------------------------------------------------------------------------------------------------------
def scalar(value: object) -> str:
    """One YAML scalar, quoted where it could be read as something else."""
    if isinstance(value, str):
        if _PLAIN.fullmatch(value) and value.lower() not in _RESERVED:
            return value
        # A JSON string is a YAML string; characters that YAML forbids are escaped.
        return re.sub(
            r"[\x7f-\x9f\ufeff\ufffe\uffff]", lambda m: f"\\u{ord(m[0]):04x}", json.dumps(value, ensure_ascii=False)
        )
    return json.dumps(value)


def flow(value: Any) -> str:
    """A mapping or sequence on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{scalar(k)}: {flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    return scalar(value)


def sequence(key: str, names: Iterable[str], indent: str) -> list[str]:
    """``key: [a, b, c]``, over several lines when it is long."""
    items = [scalar(name) for name in names]
    line = f"{indent}{key}: [{', '.join(items)}]"
    if len(line) <= _WIDTH:
        return [line]
    lines, current = [f"{indent}{key}: ["], f"{indent}  "
    for item in items:
        if len(current) + len(item) > _WIDTH and current.strip():
            lines.append(current.rstrip())
            current = f"{indent}  "
        current += f"{item}, "
    return [*lines, current.rstrip(), f"{indent}]"]


def wrap(text: str, prefix: str) -> list[str]:
    """A comment over several lines."""
    return textwrap.wrap(text, _WIDTH, initial_indent=prefix, subsequent_indent=prefix, break_long_words=False)


def _comment(text: str) -> str:
    """Text for a comment: no line end or control character may end the comment or break the file."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]", " ", text)


def _names(names: Iterable[str]) -> str:
    return ", ".join(_comment(scalar(name)) for name in list(names)[:5])
