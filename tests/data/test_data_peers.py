"""Peers of the benchmarks get environments of their own, and one that cannot be had is told in one line."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

_BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def environments(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(_BENCHMARKS))
    return importlib.import_module("peer_environments")


def test_a_peer_that_does_not_install_is_told_in_one_line_and_left_out(
    environments: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(environments.PEERS, "evidently", ("evidently", (str(tmp_path / "no-such-package"),)))
    pythons, missing = environments.peer_environments(["evidently"], tmp_path / "peers")
    assert pythons == {}
    assert missing["evidently"].startswith("evidently does not install: ")
    assert "no-such-package" in missing["evidently"]
    assert capsys.readouterr().err.splitlines() == [missing["evidently"]]


def test_without_an_installer_the_reason_is_told(
    environments: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(environments.PeerMissing, match=r"whylogs has no environment: .*uv: No such file"):
        environments.peer_environment("whylogs", tmp_path / "peers")


def test_an_environment_that_somebody_else_made_is_never_changed(environments: ModuleType, tmp_path: Path) -> None:
    python = tmp_path / "deepchecks" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho 'Traceback' >&2\necho 'ModuleNotFoundError: deepchecks' >&2\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(environments.PeerMissing, match=r"remove it.: ModuleNotFoundError: deepchecks$"):
        environments.peer_environment("deepchecks", tmp_path)
    python.write_text("#!/bin/sh\nexit 0\n")
    assert environments.peer_environment("deepchecks", tmp_path) == python
    assert [path.name for path in (tmp_path / "deepchecks").iterdir()] == ["bin"]
