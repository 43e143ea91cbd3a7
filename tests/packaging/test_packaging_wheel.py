"""The wheel alone, in an empty folder, far from the repository: it tells its version, writes a project and runs it."""

import json
import os
import socket
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest

from fairlead import __version__

REPOSITORY = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")


def done(*words: str | Path, cwd: Path, **variables: str) -> str:
    """What a program prints; it has to succeed."""
    ended = subprocess.run(
        words, capture_output=True, text=True, cwd=cwd, env={**os.environ, **variables}, timeout=200, check=False
    )
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    return ended.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the repository."""
    folder = tmp_path_factory.mktemp("dist")
    done(UV, "build", "-q", "--wheel", "--out-dir", folder, cwd=REPOSITORY)
    (built,) = folder.glob("*.whl")
    return built


class Installation:
    """The wheel in an empty folder, and a Python that finds its dependencies but not the repository."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.target, self.work = folder / "target", folder / "work"
        self.work.mkdir()
        # Folders on PYTHONPATH are searched as they are: the .pth file that leads to the repository does not count.
        venv.create(folder / "python")
        self.python = folder / "python" / "bin" / "python"
        self.dependencies = sysconfig.get_path("purelib")
        done(
            UV, "pip", "install", "-q", "--python", self.python, "--no-deps", "--target", self.target, wheel, cwd=folder
        )

    def code(self, program: str, *path: str | Path) -> str:
        """What a Python program prints that has `path` on PYTHONPATH."""
        return done(self.python, "-c", program, cwd=self.work, PYTHONPATH=os.pathsep.join(map(str, path)))

    def fairlead(self, *words: str) -> str:
        """What the installed command prints."""
        path = os.pathsep.join([str(self.target), self.dependencies])
        return done(self.target / "bin" / "fairlead", *words, cwd=self.work, PYTHONPATH=path)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Installed once; what was started is stopped."""
    made = Installation(tmp_path_factory.mktemp("far"), wheel)
    yield made
    if (made.work / "fairlead.yaml").exists():
        made.fairlead("down")


def test_components_pipelines_and_charts_travel_inside(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    for name in ("components", "pipelines", "helm"):
        files = [path for path in (REPOSITORY / name).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        assert files, name
        assert {f"fairlead/{path.relative_to(REPOSITORY).as_posix()}" for path in files} <= inside


def test_nothing_else_travels(wheel: Path) -> None:
    inside = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in inside} == {"fairlead", f"fairlead-{__version__}.dist-info"}
    assert not [name for name in inside if "__pycache__" in name or name.endswith(".pyc")]


def test_the_repository_is_out_of_reach_and_the_wheel_is_used(installed: Installation) -> None:
    # An editable installation leaves a folder fairlead with copies of components/ there, but no package.
    find = "import fairlead; print(fairlead.__file__)"
    assert installed.code(find, installed.dependencies).strip() == "None"
    where = (
        "import fairlead, fairlead.pipelines.train_and_release as p; from fairlead.packaged import packaged_folder;"
        "print(fairlead.__file__, p.__file__, *(packaged_folder(n) for n in ('components', 'pipelines', 'helm')))"
    )
    for path in installed.code(where, installed.target, installed.dependencies).split():
        assert Path(path).is_relative_to(installed.target), path


@pytest.mark.slow
def test_it_tells_its_version_writes_a_project_and_runs_it(installed: Installation) -> None:
    assert installed.fairlead("--version") == f"fairlead {__version__}\n"
    rng = np.random.default_rng(3)
    amount, weekday = rng.gamma(2, 20, 900), rng.choice(["mon", "tue", "sun"], 900)
    late = amount / 20 + (weekday == "sun") + rng.logistic(0, 0.6, 900) > 2.5
    table = pa.table({"amount": amount, "weekday": weekday, "late": late})
    pa_csv.write_csv(table, installed.work / "orders.csv")
    installed.fairlead("init", "--from", "orders.csv", "--label", "late")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    changes = (f"serve.port={port}", "train.epochs=3", "train.retraining_noise=false", "evaluate.baselines=false")
    words = [word for change in changes for word in ("--set", change)]
    result = json.loads(installed.fairlead("run", *words, "-o", "json"))
    assert list(result["steps"]) == ["validate", "prepare", "train", "evaluate", "register", "deploy"]
    (version,) = json.loads(installed.fairlead("model", "list", "-o", "json"))
    assert (version["number"], version["aliases"]) == (1, ["champion"])
