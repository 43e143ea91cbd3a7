"""From rows to a champion that was promoted on evidence, without Ray: real training, a real server, real requests."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wiring_world import World

from fairlead.cli import main
from fairlead.deploy.rollout.start import list_rollouts
from fairlead.records.rollout import Phase
from fairlead.wiring import steps
from fairlead.wiring.rollouts import begin_rollout, command_rollout, find_rollout
from fairlead.wiring.serving import client, read_state, wanted_release

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch", "ignore::DeprecationWarning:onnxscript")
Cap = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two registered versions; the first one is champion and served."""
    made = World.make(tmp_path_factory.mktemp("orders"))
    first = made.version("first")
    outcome = steps.deploy(made.context("first").to_json(), first)
    assert outcome["outcome"] == "bootstrap"
    made.version("second", "train.seed=21", noise=False)
    made.version("third", "train.seed=33", noise=False)
    yield made
    main(["down", "-f", str(made.file)])


def champion(world: World) -> int | None:
    return world.context().registry().aliases().get("champion")


def live(world: World) -> dict[str, Any]:
    return client(world.context()).release()


def test_the_first_version_is_champion_by_a_rule_that_is_written_down(world: World, capsys: Cap) -> None:
    assert champion(world) == 1
    assert live(world)["applied"].champion.version == 1
    code, history = world.cli(capsys, "model", "history")
    assert code == 0
    assert any(entry["action"] == "alias" and entry["why"].startswith("bootstrap:") for entry in history)


def test_a_second_version_is_promoted_on_the_evidence_of_real_requests(world: World, capsys: Cap) -> None:
    context = world.context("second")
    with world.traffic() as seen:
        result = steps.deploy(context.to_json(), 2)
    assert result["outcome"] == "promoted", result["summary"]
    assert seen["failed"] == 0
    assert set(seen["by_arm"]) == {"champion", "candidate"}
    assert seen["labels_joined"] > 0
    assert champion(world) == 2
    served = live(world)["applied"]
    assert (served.champion.version, served.candidate) == (2, None)

    assert main(["rollout", "why", "-f", str(world.file)]) == 0
    told = capsys.readouterr().out
    assert "version 2" in told
    assert "shadow" in told
    assert "promot" in told
    code, got = world.cli(capsys, "rollout", "get")
    assert (code, got["phase"], got["candidate"]) == (0, "promoted", 2)
    assert {step["weight_after"] for step in got["decisions"]} >= {20.0, 50.0}
    # The same again changes nothing.
    assert steps.deploy(context.to_json(), 2)["outcome"] == "champion"
    assert len(list_rollouts(context.store, "orders")) == 1


def test_a_broken_candidate_is_aborted_and_no_user_sees_an_error(world: World, capsys: Cap) -> None:
    code, shown = world.cli(capsys, "model", "show", "champion")
    assert code == 0
    broken = world.broken_bundle(Path(shown["bundle_folder"]), "basic")
    code, version = world.cli(capsys, "model", "register", str(broken), "--why", "another opset")
    assert code == 0
    before = champion(world)
    with world.traffic() as seen:
        code, ended = world.cli(
            capsys, "rollout", "start", "--version", str(version["number"]), "--set", "deploy.rollout.shadow=off"
        )
    assert (code, ended["phase"]) == (10, "aborted")
    assert seen["failed"] == 0
    assert champion(world) == before
    served = live(world)["applied"]
    assert (served.champion.version, served.candidate) == (before, None)
    assert main(["rollout", "why", "-f", str(world.file)]) == 0
    assert "fail" in capsys.readouterr().out


def test_a_killed_host_started_again_ends_where_it_would_have_ended(world: World, capsys: Cap) -> None:
    context = world.context()
    command = [sys.executable, "-m", "fairlead.cli", "rollout", "start", "--version", "3", "-f", str(world.file)]
    with world.traffic() as seen:
        host = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            record = list_rollouts(context.store, "orders")[-1]
            if record.candidate.version == 3 and record.phase is Phase.CANARY:
                break
            assert host.poll() is None
            time.sleep(0.02)
        os.kill(host.pid, signal.SIGKILL)
        host.wait()
        cut = list_rollouts(context.store, "orders")[-1]
        assert cut.phase is Phase.CANARY
        code, ended = world.cli(capsys, "rollout", "start", "--version", "3")
    assert (code, ended["phase"], ended["id"]) == (0, "promoted", cut.id)
    assert [d["sentence"] for d in ended["decisions"]][: len(cut.decisions)] == [d.sentence for d in cut.decisions]
    assert seen["failed"] == 0
    assert champion(world) == 3
    served, wanted = live(world)["applied"], wanted_release(context)
    assert wanted is not None
    assert (served.champion.version, served.candidate, served.generation) == (3, None, wanted.generation)
    promotions = [
        entry for entry in context.registry().history()
        if entry.change.get("alias") == "champion" and entry.change.get("after") == 3
    ]  # fmt: skip
    assert len(promotions) == 1


def test_drift_is_ranked_by_what_it_does_to_the_champion(world: World, capsys: Cap) -> None:
    code, found = world.cli(capsys, "data", "drift", "--live-data", "live.parquet")
    assert code == 0
    assert found["ranked_by"].startswith(f"impact on version {champion(world)}")
    weights = {one["column"]: one["importance"] for one in found["columns"]}
    assert min(weights.values()) > 0
    impacts = [one["impact"] for one in found["columns"]]
    assert impacts == sorted(impacts, reverse=True)
    assert not [one for one in found["columns"] if one["moved"]]
    assert found["shift"]["kind"] == "none"


def test_versions_can_be_listed_shown_compared_and_traced(world: World, capsys: Cap) -> None:
    code, listed = world.cli(capsys, "model", "list")
    assert code == 0
    assert [row["number"] for row in listed] == [1, 2, 3, 4]
    assert [row["number"] for row in listed if "champion" in row["aliases"]] == [champion(world)]
    code, shown = world.cli(capsys, "model", "show", "1")
    assert (code, shown["run"], shown["seed"]) == (0, "first", 7)
    assert len(shown["data_fingerprint"]) == 64
    assert [step.split()[0] for step in shown["steps"]] == ["validate", "prepare", "train", "evaluate", "register"]
    code, compared = world.cli(capsys, "model", "compare", "1", "2")
    assert code == 0
    assert "auc" in {row["metric"] for row in compared["metrics"]}
    code, found = world.cli(capsys, "model", "lineage", "rows.parquet")
    assert code == 0
    assert {1, 2, 3} <= {version["number"] for version in found}
    assert main(["model", "list", "--tree", "-f", str(world.file)]) == 0
    assert "rollout" in capsys.readouterr().out


def test_the_way_back_is_one_command_and_the_server_follows(world: World, capsys: Cap) -> None:
    before = champion(world)
    code, version = world.cli(capsys, "model", "promote", "1", "--why", "for a moment")
    assert (code, version["number"], live(world)["applied"].champion.version) == (0, 1, 1)
    code, version = world.cli(capsys, "model", "rollback", "--why", "that was wrong")
    assert (code, version["number"], live(world)["applied"].champion.version) == (0, before, before)
    code, history = world.cli(capsys, "model", "history")
    assert [entry["why"] for entry in history[-2:]] == ["for a moment", "that was wrong"]


def test_a_newer_candidate_supersedes_the_open_rollout(world: World) -> None:
    registry, said = world.context().registry(), []
    current = registry.get("champion")
    older, newer = (registry.get(number) for number in (1, 2) if number != current.number)
    first = begin_rollout(world.context(), current, older)
    context = world.context("", "deploy.rollout.newer=supersede")
    second = begin_rollout(context, current, newer, "carl", said.append)
    assert said == [f"superseding rollout {first.id} of version {older.number}: {first.status}"]
    ended = find_rollout(context, first.id)
    assert (ended.phase, ended.decisions[-2].actor) == (Phase.ABORTED, f"carl (for version {newer.number})")
    assert (second.candidate.version, second.champion.version) == (newer.number, current.number)
    assert registry.aliases() == {"champion": current.number, "candidate": newer.number}
    assert begin_rollout(context, current, newer).id == second.id, "the same candidate takes it up again"
    assert command_rollout(context, second, "abort", "ann").phase is Phase.ABORTED
    assert registry.aliases() == {"champion": current.number}


def test_an_unknown_version_is_refused_with_the_known_ones(world: World, capsys: Cap) -> None:
    for words in (["model", "show", "99"], ["model", "promote", "nobody", "--why", "x"], ["deploy", "--version", "99"]):
        code, said = world.cli(capsys, *words)
        assert (code, said["error"]["code"]) == (5, "FL-503"), words


def test_a_batch_is_scored_with_the_champion(world: World, capsys: Cap, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    code, result = world.cli(
        capsys, "batch", "--data", "live.parquet", "--output-file", str(tmp_path / "scores.parquet")
    )
    assert (code, result["rows"]) == (0, 2000)
    assert pq.read_metadata(tmp_path / "scores.parquet").num_rows == 2000


def test_a_server_that_died_is_started_again_with_what_was_live(world: World, capsys: Cap) -> None:
    state = read_state(world.context())
    assert state is not None
    assert state.pid is not None
    os.kill(state.pid, signal.SIGKILL)
    code, view = world.cli(capsys, "deploy")
    assert code == 0
    assert view["applied"]["champion"]["version"] == champion(world)
