"""`fairlead rollout rehearse` and `replay` on the flights project, without servers."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fairlead.cli import main

FLIGHTS = Path(__file__).parents[2] / "examples" / "flights" / "fairlead.yaml"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(FLIGHTS, tmp_path / "fairlead.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rehearse(*options: str) -> int:
    return main(["rollout", "rehearse", "--rollouts", "10", "--set", "deploy.rollout.canary.latency=off", *options])


def test_a_policy_without_time_is_told_what_would_help_without_server_data_or_log(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rehearse("--rate", "100", "--set", "deploy.rollout.max_hours=0.01") == 0
    shown = capsys.readouterr()
    assert "failures, at the margin" in shown.out
    assert "promotes only" in shown.out
    assert "would help: deploy.rollout.max_hours=" in shown.out
    assert "assumed, flags; 100 requests a second" in shown.err
    page = project / ".fairlead" / "rehearsals" / "rehearsal.html"
    assert str(page) in shown.err
    assert "Share of rollouts that are promoted" in page.read_text(encoding="utf-8")


def test_as_json_it_says_what_it_played_and_in_which_world(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        rehearse(
            "--rate", "50", "--labelled", "0.8", "--seed", "3", "--set", "deploy.rollout.max_hours=0.1", "-o", "json"
        )
        == 0
    )
    value: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (value["base"]["per_second"], value["base"]["labelled"], value["seed"]) == (50, 0.8, 3)
    assert value["plan"]["steps"] == [10.0, 50.0]
    assert {result["scenario"]["effect"]["kind"] for result in value["results"]} >= {"none", "failures", "loss"}
    first = value["results"][0]
    assert first["promoted"] + first["rolled_back"] + first["undecided"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("trial", "name"),
    [
        ("ab_test={metric: loss, max_keys: 5000, max_hours: 2}", "an A/B test"),
        ("bandit={metric: orders, max_keys: 5000, max_hours: 2}", "a bandit"),
    ],
)
def test_what_is_decided_by_outcomes_is_not_played(
    project: Path, capsys: pytest.CaptureFixture[str], trial: str, name: str
) -> None:
    horizon = ["--set", "deploy.rollout.steps=off", "--set", "deploy.rollout.label_horizon=1m"]
    assert rehearse(*horizon, "--set", f"deploy.rollout.{trial}") == 2
    told = capsys.readouterr().err
    assert f"this project declares {name}: only shadow and canary can be played" in told
    assert "docs/strategies.md" in told


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--failure-rate", "1.5"], "--failure-rate 1.5: a share"),
        (["--rate", "0"], "--rate 0: requests a second"),
        (["--rollouts", "3"], "too few"),
        (["--difference", "-0.1"], "--difference -0.1"),
    ],
)
def test_rates_that_are_none_are_refused(
    project: Path, capsys: pytest.CaptureFixture[str], options: list[str], what: str
) -> None:
    assert rehearse(*options) == 2
    assert what in capsys.readouterr().err


def test_without_a_rollout_there_is_nothing_to_replay(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollout", "replay"]) == 7
    assert "has had no rollout" in capsys.readouterr().err
