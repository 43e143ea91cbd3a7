"""Workers under a real Ray: the same rows per step, and nothing lost when something is killed."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from train_world import ALONE, job, prepared, train_spec

from fairlead.errors import RayUnavailable
from fairlead.train.ray_launcher import launch
from fairlead.train.worker import work

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

HERE = Path(__file__).parent
DEADLINE_SECONDS = 180.0

# A network without anything random, which leaves word of the processes that build it.
BUILDER = """
import os
from pathlib import Path
from torch import nn

class Net(nn.Module):
    def __init__(self, inputs, poison):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, 1))
        self.poison, self.calls = poison, 0

    def forward(self, numeric, categorical):
        self.calls += self.training
        answer = self.body(numeric)[:, 0]
        bad = self.poison and self.calls > 30 and os.environ.get("RANK") == "1"
        return answer * float("nan") if bad else answer

def build(tensors, task, num_classes, options):
    if "RANK" in os.environ:
        marks = Path(__file__).parent / "processes"
        marks.mkdir(exist_ok=True)
        (marks / f"{os.environ['RANK']}-{os.getpid()}").touch()
    return Net(tensors[0].shape[0], options.get("poison", False))
"""

HOLDER = """
import ray, sys
context = ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
print(context.address_info["gcs_address"], flush=True)
sys.stdin.read()
"""

TRAIN: dict[str, Any] = {
    "model": "model:build",
    "model_options": {},
    "workers": 2,
    "global_batch": 32,
    "epochs": 6,
    "learning_rate": 0.003,
    "checkpoint": {"every_steps": 25, "keep": 2},
}
STEPS = 6 * 125


@dataclass(frozen=True)
class Cluster:
    """A real local Ray in processes of its own, and the environment that lets one in."""

    address: str
    environment: dict[str, str]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4, "RAY_USAGE_STATS_ENABLED": "0"}
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        address = holder.stdout.readline().strip()
        assert address, "the local Ray did not start"
        yield Cluster(address, environment)
        holder.communicate()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("data") / "prepared", rows=4000, row_group_rows=500)


class Step:
    """One training step as a process of its own, as a pipeline runs it."""

    def __init__(self, folder: Path, data: Path, cluster: Cluster, **changes: Any) -> None:
        self.folder, self.cluster = folder, cluster
        folder.mkdir(exist_ok=True)
        (folder / "model.py").write_text(BUILDER)
        asked = {
            "train": train_spec(**TRAIN | changes).model_dump(mode="json"),
            "data": str(data),
            "run": str(folder / "run"),
            "project": str(folder),
            "address": cluster.address,
        }
        (folder / "request.json").write_text(json.dumps(asked))

    @contextlib.contextmanager
    def running(self) -> Iterator[subprocess.Popen[str]]:
        """The process, killed at the end when it is still there."""
        command = [sys.executable, str(HERE / "fit_process.py"), str(self.folder / "request.json")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=self.cluster.environment, text=True) as process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()

    def run(self) -> dict[str, Any]:
        """Run to the end and give what it says."""
        with self.running() as process:
            return said(process)

    def wait_for_step(self, step: int, process: subprocess.Popen[str]) -> None:
        """Until a checkpoint of `step` or later is on disk."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        checkpoints = self.folder / "run" / "main" / "checkpoints"
        while not any(int(path.name[5:]) >= step for path in checkpoints.glob("step-*")):
            assert process.poll() is None, "the step ended before it could be killed"
            assert time.monotonic() < deadline, f"no checkpoint of step {step} in time"
            time.sleep(0.005)  # between two looks at another process

    def newest_worker(self, rank: int) -> int:
        """The process of the worker of this rank that was started last."""
        marks = (self.folder / "processes").glob(f"{rank}-*")
        return int(max(marks, key=lambda path: path.stat().st_mtime_ns).name.split("-")[1])

    def attempts(self) -> int:
        """How often workers were started."""
        return len(list((self.folder / "processes").glob("0-*")))


def show(what: str, facts: dict[str, Any], undisturbed: dict[str, Any]) -> None:
    """The digests, for people (`pytest -s`)."""
    print(f"\n{what}: resumed from step {facts['resumed_from_step']}, weights sha256 {facts['weights_sha256']}")
    print(f"undisturbed: weights sha256 {undisturbed['weights_sha256']}")


def said(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, out
    facts: dict[str, Any] = json.loads(out.splitlines()[-1])
    return facts


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, data: Path, cluster: Cluster) -> tuple[Step, dict[str, Any]]:
    step = Step(tmp_path_factory.mktemp("undisturbed") / "step", data, cluster)
    return step, step.run()


def test_two_workers_learn_from_the_same_rows_per_step_as_one(
    undisturbed: tuple[Step, dict[str, Any]], data: Path, tmp_path: Path
) -> None:
    step, facts = undisturbed
    assert facts["workers"] == 2
    assert facts["steps"] == STEPS
    assert facts["resumed_from_step"] is None
    (tmp_path / "model.py").write_text(BUILDER)
    alone = job(tmp_path, data, **TRAIN | {"workers": 1})
    work(alone, ALONE)
    one, two = (
        safetensors.torch.load_file(str(run / "main" / "weights.safetensors"))
        for run in (alone.run, step.folder / "run")
    )
    for name, tensor in one.items():
        # Sums of floats in another order: far from equal if only one row of one step were another.
        torch.testing.assert_close(two[name], tensor, atol=2e-4, rtol=2e-4)
    history = json.loads((alone.run / "main" / "trained.json").read_bytes())["history"]
    for mine, theirs in zip(history, facts["history"], strict=True):
        assert mine["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-4)
        assert mine["validation_auc"] == pytest.approx(theirs["validation_auc"], abs=1e-3)


def test_workers_that_are_killed_change_nothing(
    undisturbed: tuple[Step, dict[str, Any]], data: Path, cluster: Cluster, tmp_path: Path
) -> None:
    step = Step(tmp_path / "killed", data, cluster)
    with step.running() as process:
        step.wait_for_step(50, process)
        os.kill(step.newest_worker(1), signal.SIGKILL)
        step.wait_for_step(400, process)
        os.kill(step.newest_worker(0), signal.SIGKILL)
        facts = said(process)
    show("two workers killed", facts, undisturbed[1])
    assert step.attempts() == 3
    assert 400 <= facts["resumed_from_step"] < STEPS
    assert facts["weights_sha256"] == undisturbed[1]["weights_sha256"]
    assert facts["history"] == undisturbed[1]["history"]
    left = {path.name for path in (step.folder / "run" / "main" / "checkpoints").iterdir()}
    assert all(name.startswith("step-") for name in left)
    assert len(left) <= 3
    assert not (step.folder / "run" / "ray").exists()


def test_the_whole_step_killed_and_run_again_ends_with_the_same_weights(
    undisturbed: tuple[Step, dict[str, Any]], data: Path, cluster: Cluster, tmp_path: Path
) -> None:
    step = Step(tmp_path / "killed", data, cluster)
    with step.running() as process:
        step.wait_for_step(200, process)
        os.kill(process.pid, signal.SIGKILL)
    facts = step.run()
    show("the whole step killed", facts, undisturbed[1])
    assert 200 <= facts["resumed_from_step"] < STEPS
    assert facts["weights_sha256"] == undisturbed[1]["weights_sha256"]


def test_a_bad_loss_on_one_worker_names_its_rank_and_is_not_tried_again(
    data: Path, cluster: Cluster, tmp_path: Path
) -> None:
    step = Step(tmp_path / "bad", data, cluster, model_options={"poison": True})
    facts = step.run()
    assert facts["error"] == "LossNotFinite"
    assert "at step 31 on rank 1" in facts["what"]
    assert step.attempts() == 1


def test_more_workers_than_ray_has_room_for_are_refused(data: Path, cluster: Cluster, tmp_path: Path) -> None:
    facts = Step(tmp_path / "many", data, cluster, workers=64).run()
    assert facts["error"] == "RayUnavailable"
    assert "64 workers need 64 CPUs, and this Ray has 4" in facts["what"]


def test_an_address_where_no_ray_answers_is_refused_at_once(data: Path, tmp_path: Path) -> None:
    with pytest.raises(RayUnavailable, match="no Ray answers"):
        launch(job(tmp_path, data, workers=2), "127.0.0.1:1", use_gpu=False)
