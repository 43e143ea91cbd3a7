"""`fairlead model ...`: versions, champion, history, lineage."""

import argparse
from typing import Any

from fairlead.cli.output import emit, say
from fairlead.cli.stages import new_context
from fairlead.cli.verbs import SubVerb

HELP = "versions, champion, history, lineage"


def _version_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("version", nargs="?", default="champion", help="number, alias or digest prefix")


def _why_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--why", required=True, help="the reason, for the history")


def _list(args: argparse.Namespace) -> int:
    from fairlead.wiring.overview import version_rows, version_tree

    context = new_context(args)
    rows = version_rows(context)
    if args.tree:
        emit(args, rows, version_tree(context))
        return 0
    from rich.table import Table

    table = Table("version", "alias", "digest", "registered", "test metrics", box=None, pad_edge=False)
    for row in rows:
        table.add_row(
            str(row["number"]), ", ".join(row["aliases"]), row["digest"][:19], row["at"][:19], row["headline"]
        )
    emit(args, rows, table if rows else "no versions yet: fairlead run")
    return 0


def _list_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tree", action="store_true", help="with rollouts and reigns, as a tree")


def _show(args: argparse.Namespace) -> int:
    from fairlead.wiring.overview import version_details

    details = version_details(new_context(args), args.version)

    def text(screen: Any) -> None:
        from rich.table import Table

        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for name, value in details.items():
            if isinstance(value, dict):
                value = "\n".join(f"{key}: {item}" for key, item in value.items())
            elif isinstance(value, list):
                value = "\n".join(str(item) for item in value)
            table.add_row(name.replace("_", " "), str(value))
        screen.print(table)

    emit(args, details, text)
    return 0


def _compare(args: argparse.Namespace) -> int:
    from fairlead.wiring.overview import version_details

    context = new_context(args)
    left, right = version_details(context, args.left), version_details(context, args.right)
    names = sorted({*left["metrics"], *right["metrics"]})
    rows = [{"metric": n, "left": left["metrics"].get(n), "right": right["metrics"].get(n)} for n in names]

    def text(screen: Any) -> None:
        from rich.table import Table

        table = Table("", f"version {left['number']}", f"version {right['number']}", "difference", box=None)
        for key in ("data_fingerprint", "code_version", "config_sha256", "seed", "test_rows"):
            same = left.get(key) == right.get(key)
            table.add_row(key, str(left.get(key))[:19], str(right.get(key))[:19], "same" if same else "differs")
        for row in rows:
            a, b = row["left"], row["right"]
            difference = f"{b - a:+.4f}" if a is not None and b is not None else ""
            shown = ["" if value is None else f"{value:.4f}" for value in (a, b)]
            table.add_row(row["metric"], *shown, difference)
        screen.print(table)
        if left.get("data_fingerprint") != right.get("data_fingerprint"):
            screen.print("The versions were tested on different rows: the metrics are not a comparison.")

    emit(args, {"left": left, "right": right, "metrics": rows}, text)
    return 0


def _compare_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("left", help="number, alias or digest prefix")
    parser.add_argument("right", help="number, alias or digest prefix")


def _history(args: argparse.Namespace) -> int:
    from rich.table import Table

    context = new_context(args)
    registry = context.registry()
    registry.verify()
    entries = registry.history()
    table = Table("#", "at", "who", "what", "why", box=None, pad_edge=False)
    for entry in entries:
        table.add_row(str(entry.sequence), entry.at[:19], entry.actor, _what(entry), entry.why)
    emit(args, entries, table)
    say(f"{len(entries)} entries; the chain of hashes is whole")
    return 0


def _what(entry: Any) -> str:
    change = entry.change
    if entry.action == "alias":
        return f"{change['alias']}: {change['before'] or 'none'} -> {change['after'] or 'none'}"
    if entry.action == "register":
        return f"register version {change['version']['number']}"
    return str(entry.action)


def _register(args: argparse.Namespace) -> int:
    from fairlead.wiring.release import register_bundle

    version = register_bundle(new_context(args), args.bundle, args.why)
    emit(args, version, f"version {version.number}: {version.digest}")
    return 0


def _register_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help="folder of a sealed bundle")
    _why_argument(parser)


def _promote(args: argparse.Namespace) -> int:
    from fairlead.wiring.overview import make_champion

    context = new_context(args)
    version = make_champion(context, context.registry().get(args.version), args.why)
    emit(args, version, f"version {version.number} is champion")
    return 0


def _promote_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("version", help="number, alias or digest prefix")
    _why_argument(parser)


def _rollback(args: argparse.Namespace) -> int:
    from fairlead.wiring.overview import make_champion, previous_champion

    context = new_context(args)
    version = make_champion(context, previous_champion(context), args.why)
    emit(args, version, f"version {version.number} is champion again")
    return 0


def _export(args: argparse.Namespace) -> int:
    from fairlead.wiring.models import export_version

    told = export_version(new_context(args), args.version, args.output_file)
    lines = [f"{told['file']}: version {told['version']}, {told['bytes']:,} bytes, raw columns to scores and labels"]
    lines += [f"  {entry['name']}  {entry['datatype']} {['rows', *entry['shape']]}" for entry in told["inputs"]]
    lines.append(f"same answers as the bundle on {told['rows_compared']:,} generated rows, to {told['largest']:.1e}")
    if told["not_raw"]:
        lines.append(f"ONNX cannot hash: {', '.join(told['not_raw'])} take indices (docs/features.md)")
    emit(args, told, "\n".join(lines).replace("'", ""))
    return 0


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    _version_argument(parser)
    parser.add_argument("--output-file", default="model.onnx", help="where to write it (default: model.onnx)")


def _lineage(args: argparse.Namespace) -> int:
    from fairlead.registry.lineage import forward

    context = new_context(args)
    found = forward(context.store, args.source)
    text = (
        "\n".join(f"{v.model} version {v.number}, {v.digest}, run {v.run}" for v in found)
        if found
        else f"no version was made from {args.source}"
    )
    emit(args, found, text)
    return 0


def _lineage_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="a source file as the project names it, or its sha256")


SUBVERBS = {
    "list": SubVerb("all versions", _list, _list_arguments, "fairlead model list\nfairlead model list --tree"),
    "show": SubVerb(
        "one version: where it comes from, what it showed", _show, _version_argument, "fairlead model show 2"
    ),
    "compare": SubVerb("two versions side by side", _compare, _compare_arguments, "fairlead model compare 1 champion"),
    "history": SubVerb("who changed what, when, why", _history, examples="fairlead model history"),
    "register": SubVerb(
        "register a sealed bundle as a version",
        _register,
        _register_arguments,
        'fairlead model register ./bundle --why "re-exported with a newer opset"',
    ),
    "promote": SubVerb(
        "make a version the champion, without a rollout",
        _promote,
        _promote_arguments,
        'fairlead model promote 3 --why "urgent fix, agreed with the team"',
    ),
    "rollback": SubVerb(
        "make the previous champion the champion again",
        _rollback,
        _why_argument,
        'fairlead model rollback --why "complaints from the night shift"',
    ),
    "export": SubVerb(
        "one ONNX file from raw columns to scores and labels, for any server",
        _export,
        _export_arguments,
        "fairlead model export\nfairlead model export 3 --output-file late-flights.onnx",
    ),
    "lineage": SubVerb(
        "from a source file to every version made from it",
        _lineage,
        _lineage_arguments,
        "fairlead model lineage data/flights-2013-03.parquet",
    ),
}
