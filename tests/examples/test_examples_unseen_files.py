"""Two commands, `init` and `run`, on files that the code has never seen: a registered version each, nothing edited."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from unseen_files import policies, rentals


class Folder:
    """A project folder, seen through the command line as a process of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])

    def fairlead(self, *words: str) -> Any:
        """The JSON result of a command that has to succeed."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        done = subprocess.run(
            [sys.executable, "-m", "fairlead.cli", *words, "-o", "json"],
            capture_output=True, text=True, cwd=self.path, env=clean, timeout=280, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)

    def run(self, *words: str) -> dict[str, Any]:
        """The whole pipeline on a free port; gives the only version."""
        before = (self.path / "fairlead.yaml").read_bytes()
        result = self.fairlead("run", "--set", f"serve.port={self.port}", *words)
        assert (result["exit_code"], result["steps"]["deploy"]["outcome"]) == (0, "bootstrap")
        assert (self.path / "fairlead.yaml").read_bytes() == before
        (version,) = self.fairlead("model", "list")
        assert (version["number"], version["aliases"], version["run"]) == (1, ["champion"], result["run"])
        return dict(version)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    """Whatever is started in it is stopped."""
    made = Folder(tmp_path)
    yield made
    if (tmp_path / "fairlead.yaml").exists():
        made.fairlead("down")


@pytest.mark.slow
def test_a_csv_with_two_classes_becomes_a_version(folder: Folder) -> None:
    policies(folder.path / "policies.csv")
    decided = folder.fairlead("init", "--from", "policies.csv", "--label", "renewed")
    assert (decided["task"], decided["split"], decided["time"]) == ("binary", "time", "signed")
    assert set(decided["features"]) == {"income", "claims", "channel", "town", "signed"}
    assert set(decided["excluded"]) == {"policy"}
    version = folder.run()
    assert (version["facts"]["task"], version["facts"]["test_rows"]) == ("binary", 405)  # days are not cut in two
    assert version["facts"]["metrics"]["auc"] > 0.65


@pytest.mark.slow
def test_a_parquet_file_with_amounts_becomes_a_version(folder: Folder) -> None:
    rentals(folder.path / "rentals.parquet")
    decided = folder.fairlead("init", "--from", "rentals.parquet", "--label", "minutes")
    assert (decided["task"], decided["split"], decided["time"]) == ("regression", "time", "started")
    assert set(decided["features"]) == {"station", "warmth", "member", "bike", "started"}
    assert set(decided["excluded"]) == {"note"}
    version = folder.run()
    assert (version["facts"]["task"], version["facts"]["test_rows"]) == ("regression", 400)
    assert version["facts"]["metrics"]["r2"] > 0.2


@pytest.mark.ray
@pytest.mark.slow
def test_a_larger_file_trains_and_is_served_on_ray_unedited(folder: Folder) -> None:
    rentals(folder.path / "rentals.parquet", count=60_000)
    folder.fairlead("init", "--from", "rentals.parquet", "--label", "minutes")
    text = (folder.path / "fairlead.yaml").read_text()
    assert "workers: 2" in text
    assert "backend: ray" in text
    version = folder.run("--set", "train.retraining_noise=false")  # a second fit, as the small files have it
    assert version["facts"]["metrics"]["r2"] > 0.5
