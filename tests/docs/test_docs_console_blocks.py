"""Every command of every console block of the documentation is run, in order, as a reader would type it."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest
from console_blocks import Command, commands_of, languages_of, missing_lines

REPOSITORY = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
WITH_COMMANDS = [path for path in DOCUMENTS if commands_of(path)]
# Not run here: each of them is minutes long, and `make test` is what runs this test.
EXEMPT = ("make demo", "make test")


class Reader:
    """Somebody who follows a document in a fresh folder, with the data that it speaks of."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.installed = folder / "project", folder / "installed"
        self.folder.mkdir()
        self._wheels = folder / "dist"
        self._running: subprocess.Popen[str] | None = None
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PIP_"))}
        self._environment = clean | {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.installed),  # what `pip install` puts there comes before this repository
            "PIP_NO_INDEX": "1",
            "PIP_NO_DEPS": "1",
            "PIP_FIND_LINKS": str(self._wheels),
            "PIP_TARGET": str(self.installed),
            "PIP_ROOT_USER_ACTION": "ignore",
        }
        customers(self.folder / "customers.csv")

    def follow(self, command: Command) -> None:
        """Run one command of the document and compare what it prints."""
        if command.text in EXEMPT:
            self.run(f"make -C '{REPOSITORY}' --dry-run {command.text.removeprefix('make ')}")
            return
        for beginning, prepare in PREPARATIONS.items():
            if command.text.startswith(beginning):
                prepare(self)
        ended = self.run(command.text)
        printed = ended.stdout + ended.stderr
        assert "does not provide the extra" not in printed
        assert missing_lines(command.shown, printed) == [], printed
        if command.text.startswith("fairlead init"):
            self.make_it_quick()

    def run(self, text: str) -> "subprocess.CompletedProcess[str]":
        """Run a command line of a shell; it has to succeed."""
        ended = subprocess.run(
            ["bash", "-c", text],
            capture_output=True, text=True, cwd=self.folder, env=self._environment, timeout=200, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, f"$ {text}\n{ended.stdout}\n{ended.stderr}"
        return ended

    def make_it_quick(self) -> None:
        """Fewer passes, no second network, no baselines, a free port; the rest stays as `init` wrote it."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        file = self.folder / "fairlead.yaml"
        text = re.sub(r"epochs: \d+", "epochs: 3, retraining_noise: false", file.read_text())
        text = text.replace("evaluate:\n", "evaluate:\n  baselines: false\n")
        file.write_text(text.replace("port: 8000", f"port: {port}"))

    def build_wheel(self) -> None:
        """What a registry would have."""
        self.run(f"uv build -q --wheel --out-dir '{self._wheels}' '{REPOSITORY}'")

    def begin_second_version(self) -> None:
        """`fairlead run` again, which waits for live traffic; nobody sends any."""
        self._running = subprocess.Popen(
            ["fairlead", "run", "--from", "train", "--set", "train.seed=8"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=self.folder, env=self._environment,
        )  # fmt: skip
        deadline = time.monotonic() + 120
        while not list((self.folder / ".fairlead").glob("rollouts/*/*.json")):
            assert self._running.poll() is None, self._running.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def make_second_version_champion(self) -> None:
        """By hand, so that there is a way back."""
        assert self._running is not None
        self._running.communicate(timeout=60)
        assert self._running.returncode == 10  # the rollout was aborted
        self.run("fairlead model promote 2 --why 'it looked better'")

    def leave(self) -> None:
        """Stop what was started."""
        if self._running is not None and self._running.poll() is None:
            self._running.terminate()
            self._running.communicate(timeout=60)
        if (self.folder / "fairlead.yaml").exists():
            self.run("fairlead down")


PREPARATIONS: dict[str, Callable[[Reader], None]] = {
    "pip install 'fairlead": Reader.build_wheel,
    "fairlead rollout get": Reader.begin_second_version,
    "fairlead model rollback": Reader.make_second_version_champion,
}


def customers(path: Path, count: int = 900) -> None:
    """A file with rows and a column to predict."""
    rng = np.random.default_rng(17)
    visits, plan = rng.poisson(6, count), rng.choice(["basic", "plus", "pro"], count)
    churned = 0.5 * (6 - visits) - 1.2 * (plan == "pro") + rng.logistic(0, 0.7, count) > 0
    spent = pa.array(rng.gamma(3, 20, count).round(2), mask=rng.random(count) < 0.1)
    table = pa.table({"visits": visits, "plan": plan, "spent": spent, "churned": np.where(churned, "yes", "no")})
    pa_csv.write_csv(table, path)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """Leaves nothing running."""
    made = Reader(tmp_path)
    yield made
    made.leave()


@pytest.mark.slow
@pytest.mark.parametrize("document", WITH_COMMANDS, ids=lambda path: path.name)
def test_every_command_of_a_document_works_in_its_order(document: Path, reader: Reader) -> None:
    for command in commands_of(document):
        reader.follow(command)


def test_commands_stand_in_console_blocks_and_nowhere_else() -> None:
    assert {path.name for path in WITH_COMMANDS} >= {"README.md", "quickstart.md"}
    assert set.union(*map(languages_of, DOCUMENTS)) <= {"console", "json", "yaml", "text"}


def test_output_is_compared_in_substance() -> None:
    shown = ("version 1 is champion", "  auc   0.71")
    assert missing_lines(shown, "version 12 is champion\nauc 0.69\n") == []
    assert missing_lines(shown, "version 12 is candidate\nauc 0.69\n") == ["version 1 is champion"]
