"""The frame of the command line: what is loaded, how failures read, exit codes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fairlead.cli import frame, main
from fairlead.cli.verbs import EXIT_CODES, VERBS, SubVerb
from fairlead.errors import (
    EXIT_BUG,
    EXIT_NOT_ENOUGH_EVIDENCE,
    EXIT_OK,
    EXIT_VERDICT_FAIL,
    LeakFound,
    all_errors,
)

HEAVY = (
    "torch",
    "ray",
    "kfp",
    "kubernetes",
    "pandas",
    "pydantic",
    "numpy",
    "rich",
    "pyarrow",
    "scipy",
    "boto3",
    "yaml",
    "orjson",
)
PRESENT = [verb for verb in VERBS if frame._load(verb) is not None]


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


# --- what is loaded --------------------------------------------------------------------------------------------------
def loaded_by(*words: str) -> set[str]:
    """The packages that a command line has loaded when it is done."""
    code = f"""
import sys
from fairlead.cli import main
assert main({list(words)!r}) == 0
print("\\n" + " ".join(sorted({{name.split(".")[0] for name in sys.modules}})))
"""
    return set(run_python(code).splitlines()[-1].split())


@pytest.mark.parametrize("words", [("--help",), ("--version",), ()])
def test_the_top_level_help_loads_nothing_heavy(words: tuple[str, ...]) -> None:
    assert loaded_by(*words) & set(HEAVY) == set()


@pytest.mark.parametrize("verb", PRESENT)
def test_the_help_of_a_verb_loads_nothing_heavy_and_only_its_own_module(verb: str) -> None:
    code = f"""
import sys
from fairlead.cli import main
assert main([{verb!r}, "--help"]) == 0
print("\\n" + " ".join(sorted(sys.modules)))
"""
    modules = run_python(code).splitlines()[-1].split()
    assert {name.split(".")[0] for name in modules} & set(HEAVY) == set()
    others = {f"fairlead.cli.{other}" for other in VERBS if other != verb}
    assert others & set(modules) == set()


def test_the_top_level_help_names_every_verb_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for verb, entry in VERBS.items():
        assert f"  {verb:<10} {entry.help}" in shown
        assert all(name in shown for name in entry.below)
    assert all(f"  {code:<10} " in shown for code in EXIT_CODES)


def test_every_exit_code_is_documented() -> None:
    used = {cls.exit_code for cls in all_errors()} | {
        EXIT_OK, EXIT_BUG, EXIT_VERDICT_FAIL, EXIT_NOT_ENOUGH_EVIDENCE, frame.EXIT_INTERRUPTED,
    }  # fmt: skip
    assert used == set(EXIT_CODES)


@pytest.mark.parametrize("verb", PRESENT)
def test_every_verb_has_help_and_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    below = VERBS[verb].below
    for name in below:
        assert main([verb, name, "--help"]) == 0
        child = capsys.readouterr().out
        assert f"fairlead {verb} {name}" in child.split("examples:")[1]
    assert below or f"fairlead {verb}" in shown.split("examples:")[1]


@pytest.mark.parametrize("verb", [verb for verb in PRESENT if VERBS[verb].below])
def test_the_table_knows_the_verbs_below_each_verb(verb: str) -> None:
    module = frame._load(verb)
    assert module is not None
    assert set(module.SUBVERBS) == set(VERBS[verb].below)


# --- a verb of our own -----------------------------------------------------------------------------------------------
@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any], int]], None]:
    """Puts a function in place of the verb "doctor"."""

    def put(run: Callable[[Any], int]) -> None:
        module = ModuleType("doctor")
        module.HELP, module.EXAMPLES = "look", "fairlead doctor"  # type: ignore[attr-defined]
        module.add_arguments, module.run = lambda parser: parser.add_argument("--depth", type=int), run  # type: ignore[attr-defined]
        monkeypatch.setattr(frame, "_load", lambda name: module)

    return put


def fail(error: BaseException) -> Callable[[Any], int]:
    def run(args: Any) -> int:
        raise error

    return run


LEAK = LeakFound("1 feature knows the answer: x", where="features", why="AUC 0.99", fix="drop it")


def test_the_code_that_a_verb_returns_is_the_exit_code(verb: Any) -> None:
    verb(lambda args: 10)
    assert main(["doctor"]) == 10


def test_an_error_says_what_where_why_and_what_to_do_on_stderr(verb: Any, capsys: pytest.CaptureFixture[str]) -> None:
    verb(fail(LEAK))
    assert main(["doctor"]) == 3
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == ("FL-207: 1 feature knows the answer: x\n  where: features\n  why: AUC 0.99\n  fix: drop it\n")


@pytest.mark.parametrize(
    "words", [["doctor", "-o", "json"], ["-o", "json", "doctor"], ["doctor", "--output=json"], ["doctor", "-ojson"]]
)
def test_an_error_is_json_on_stdout_when_json_was_asked_for(
    words: list[str], verb: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    verb(fail(LEAK))
    assert main(words) == 3
    shown = capsys.readouterr()
    error = json.loads(shown.out)["error"]
    assert error == {
        "code": "FL-207", "what": "1 feature knows the answer: x", "where": "features", "why": "AUC 0.99",
        "fix": "drop it", "exit_code": 3,
    }  # fmt: skip
    assert shown.err == ""


def test_a_bug_is_one_line_without_a_traceback(verb: Any, capsys: pytest.CaptureFixture[str]) -> None:
    verb(fail(ZeroDivisionError("division\nby zero")))
    assert main(["doctor"]) == 1
    assert capsys.readouterr().err == "unexpected ZeroDivisionError: division by zero; run again with --debug\n"
    assert main(["doctor", "-o", "json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["what"] == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize("words", [["doctor", "--debug"], ["--debug", "doctor"]])
def test_debug_shows_the_traceback_of_bugs_and_of_errors(
    words: list[str], verb: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for error in (ZeroDivisionError("x"), LEAK):
        verb(fail(error))
        main(words)
        assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_an_interruption_is_quiet(verb: Any, capsys: pytest.CaptureFixture[str]) -> None:
    verb(fail(KeyboardInterrupt()))
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (OSError(28, "No space left on device", "/data/x"), 8, "FL-802: the disk is full\n  where: /data/x"),
        (PermissionError(13, "Permission denied", "/data/x"), 8, "FL-800: no permission\n  where: /data/x"),
        (ModuleNotFoundError("No module named 'torch'", name="torch.nn"), 8, "fix: pip install 'fairlead[train]'"),
        (ModuleNotFoundError("No module named 'zzz'", name="zzz"), 1, "unexpected ModuleNotFoundError"),
        (FileNotFoundError(2, "No such file", "x"), 1, "unexpected FileNotFoundError"),
    ],
)
def test_problems_of_the_machine_are_named(
    error: Exception, code: int, words: str, verb: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    verb(fail(error))
    assert main(["doctor"]) == code
    assert words in capsys.readouterr().err


def test_options_may_stand_before_and_after_the_verb(verb: Any) -> None:
    seen: list[Any] = []
    verb(lambda args: seen.append(args) or 0)
    assert main(["--set", "a=1", "-f", "x.yaml", "doctor", "--set", "b=2", "--depth", "3", "-v"]) == 0
    assert main(["doctor"]) == 0
    first, second = seen
    assert (first.set, first.file, first.depth, first.verbose, first.output) == (
        ["a=1", "b=2"],
        "x.yaml",
        3,
        True,
        "text",
    )
    assert (second.set, second.file, second.depth, second.verbose) == ([], "fairlead.yaml", None, False)


def test_options_may_stand_around_a_verb_below_a_verb(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    module = ModuleType("model")
    module.HELP = "versions"  # type: ignore[attr-defined]
    module.SUBVERBS = {"show": SubVerb("one", lambda args: seen.append(args) or 0, lambda p: p.add_argument("version"))}  # type: ignore[attr-defined, func-returns-value]
    monkeypatch.setattr(frame, "_load", lambda name: module)
    for words in (
        ["-o", "json", "model", "show", "3"],
        ["model", "-o", "json", "show", "3"],
        ["model", "show", "3", "-o", "json"],
    ):
        assert main(words) == 0
    assert [(args.output, args.version) for args in seen] == [("json", "3")] * 3


# --- words that are not understood -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["trian"], "there is no verb trian\n  fix: did you mean fairlead train?"),
        (["profile"], "there is no verb profile\n  fix: did you mean fairlead data profile?"),
        (["promte"], "fix: did you mean fairlead "),
        (["qqqqq"], "fix: fairlead --help lists the verbs"),
        (["validate", "--flie", "x"], "unrecognized: --flie x\n  fix: did you mean --file?"),
        (["validate", "-o", "jsn"], "invalid choice: 'jsn'"),
        (["validate", "-o", "jsn"], "fix: did you mean json?"),
        (["explain"], "the following arguments are required: FIELD|CODE"),
        (["--nonsense"], "unrecognized: --nonsense"),
        (["-f"], "expected one argument"),
    ],
)
def test_a_wrong_command_line_exits_with_2_and_the_nearest(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert expected in shown.err


def test_a_verb_of_another_installation_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(frame, "_load", lambda name: None)
    assert main(["up", "--help"]) == 0
    assert capsys.readouterr().out == "fairlead up: start the local Ray that training and serving share\n"
    assert main(["up"]) == 2


# --- as a process ----------------------------------------------------------------------------------------------------
def test_a_reader_that_goes_away_is_no_failure() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as gone:
        done = subprocess.run(
            [sys.executable, "-m", "fairlead.cli", "schema"], stdout=gone, stderr=subprocess.PIPE, timeout=60
        )
    assert done.stderr == b""
    assert done.returncode == frame.EXIT_PIPE


def test_the_script_runs_and_its_streams_are_apart(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fairlead.cli", "validate"], capture_output=True, text=True, cwd=tmp_path, timeout=60
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("FL-102: there is no project file fairlead.yaml\n")


def test_output_in_an_encoding_without_the_character_is_not_the_end(tmp_path: Path) -> None:
    name = tmp_path / "naïve-✓.yaml"
    done = subprocess.run(
        [sys.executable, "-m", "fairlead.cli", "validate", "-f", str(name)],
        capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert b"FL-102" in done.stderr
