"""The verbs validate, schema, explain, and how results are printed."""

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table

from fairlead.cli import main
from fairlead.cli.output import emit, say
from fairlead.records.evidence import Verdict
from fairlead.reports.model import Report, Section, Text

GOOD = "project: flights\ndata: {source: a.parquet, label: {column: late}}\nfeatures: {numeric: [distance]}\n"


@pytest.fixture
def project(tmp_path: Path) -> str:
    path = tmp_path / "fairlead.yaml"
    path.write_text(GOOD)
    return str(path)


def test_validate_says_what_the_file_describes(project: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "-f", project]) == 0
    assert capsys.readouterr().out == (
        "fairlead.yaml is valid: project flights, label late, 1 features, split by random, 0 gates\n"
    )
    assert main(["validate", "-f", project, "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["valid"] is True


def test_validate_lists_all_problems_as_text_and_as_json(project: str, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = ["validate", "-f", project, "--set", "train.epoch=3", "--set", "serve.port=0"]
    assert main(wrong) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "--set 1  train.epoch: unknown key; did you mean epochs?" in shown.err
    assert "--set 2  serve.port: expected a whole number, at least 1, at most 65535; got 0" in shown.err
    assert main([*wrong, "-o", "json"]) == 2
    found = json.loads(capsys.readouterr().out)["error"]["problems"]
    assert [(p["place"], p["path"]) for p in found] == [("--set 1", "train.epoch"), ("--set 2", "serve.port")]


def test_schema_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["required"] == ["project", "data", "features"]


def test_explain_prints_a_field(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "train.precision"]) == 0
    assert capsys.readouterr().out == (
        "train.precision\n"
        "  bf16: autocast; fp16: autocast and gradient scaler.\n"
        "  type:     one of fp32, bf16, fp16\n"
        "  default:  fp32\n"
        "  example:  --set train.precision=fp16\n"
    )


def test_explain_prints_a_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "FL-601"]) == 0
    assert capsys.readouterr().out == "FL-601 PortInUse, exit code 6\n  Another process listens on the port.\n"


def test_explain_is_json_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "deploy.rollout", "-o", "json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["fields"][0]["path"] == "deploy.rollout"
    assert "deploy.rollout.shadow" in [field["path"] for field in value["below"]]


# --- output ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Fact:
    name: str
    value: float
    verdict: Verdict


def _args(output: str) -> argparse.Namespace:
    return argparse.Namespace(output=output)


def test_json_knows_records_and_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    emit(_args("json"), {"fact": _Fact("a", math.nan, Verdict.PASS), "list": [math.inf, 1.5]})
    assert json.loads(capsys.readouterr().out) == {
        "fact": {"name": "a", "value": None, "verdict": "PASS"}, "list": [None, 1.5],
    }  # fmt: skip


def _table() -> Table:
    table = Table("a", box=None)
    table.add_row("x" * 150)
    return table


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain [bold]", "plain [bold]\n"),
        (Report("title", "", [Section("one", [Text("words")])]), "words"),
        (lambda screen: screen.print("from a function"), "from a function"),
        (_table(), "x" * 150),
    ],
)
def test_text_is_printed_whatever_makes_it(text: Any, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    emit(_args("text"), {}, text)
    assert shown in capsys.readouterr().out


def test_progress_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    say("step 1")
    assert capsys.readouterr() == ("", "step 1\n")


def test_the_reference_names_the_files_that_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import importlib.util

    path = Path(__file__).parents[2] / "docs" / "generate.py"
    spec = importlib.util.spec_from_file_location("generate", path)
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    generate.FOLDER = tmp_path
    assert generate.main(["--check"]) == 1
    assert "docs/reference/spec.md" in capsys.readouterr().err
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
    (tmp_path / "errors.md").write_text("edited by hand")
    assert generate.main(["--check"]) == 1
    capsys.readouterr()
    assert "| `epochs` | whole number, at least 1 | `5` | passes |" in (tmp_path / "spec.md").read_text()
    assert "## fairlead init" in (tmp_path / "cli.md").read_text()
