"""What is refused before it costs anything."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from train_world import ALONE, job, prepared

from fairlead.errors import NotEnoughDisk, PreflightFailed
from fairlead.train.feed import MicroBatch
from fairlead.train.models import build_model
from fairlead.train.objective import Objective
from fairlead.train.preflight import check_network
from fairlead.train.worker import work

BINARY = Objective("binary", 2, 1.0, (0.0,))
REGRESSION = Objective("regression", 0, 1.0, (0.0,))


def batch(inputs: torch.Tensor, labels: torch.Tensor) -> MicroBatch:
    return MicroBatch({"numeric": inputs}, labels, None, len(labels))


def numbers(rows: int = 64) -> MicroBatch:
    generator = torch.Generator().manual_seed(1)
    return batch(torch.randn(rows, 3, generator=generator), (torch.rand(rows, generator=generator) < 0.5).float())


class Net(nn.Module):
    def __init__(self, kind: str = "good") -> None:
        super().__init__()
        self.kind = kind
        self.body = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 1))
        self.unused = nn.Linear(1, 1) if kind == "unused" else None

    def forward(self, numeric: torch.Tensor) -> Any:
        if self.kind == "cut off":
            return self.body(numeric.new_zeros(len(numeric), 3))[:, 0]
        if self.kind == "wrong shape":
            return self.body(numeric).expand(-1, 2)
        if self.kind == "raises":
            raise KeyError("no such thing")
        if self.kind == "not finite":
            return self.body(numeric)[:, 0] / 0
        if self.kind == "bad gradient":
            return self.body(numeric)[:, 0] + torch.sqrt(0 * self.body(numeric)[:, 0])
        return self.body(numeric)[:, 0]


def check(kind: str, sample: MicroBatch, shared: bool = False, objective: Objective = BINARY) -> None:
    torch.manual_seed(1)
    check_network(Net(kind), objective, sample, seed=1, shared=shared)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("cut off", "does not learn even one batch"),
        ("wrong shape", r"gives the shape \[64, 2\]"),
        ("raises", "cannot be applied to the first batch"),
        ("not finite", "loss of the first batch is"),
        ("bad gradient", "gradient of body.* is not finite"),
    ],
)
def test_a_network_that_cannot_work_is_refused_with_the_reason(kind: str, message: str) -> None:
    with pytest.raises(PreflightFailed, match=message):
        check(kind, numbers())


def test_a_network_that_works_is_left_as_it_was() -> None:
    torch.manual_seed(1)
    network = Net()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.get_rng_state()
    check_network(network, BINARY, numbers(), seed=1, shared=True)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_parameter_without_a_gradient_is_refused_when_workers_share_gradients() -> None:
    check("unused", numbers(), shared=False)
    with pytest.raises(PreflightFailed, match=r"unused\.weight"):
        check("unused", numbers(), shared=True)


def test_inputs_that_are_not_finite_are_named() -> None:
    inputs = torch.randn(64, 3)
    inputs[5, 1] = float("inf")
    with pytest.raises(PreflightFailed, match="numeric"):
        check("good", batch(inputs, torch.ones(64)))


@pytest.mark.parametrize("objective", [BINARY, REGRESSION])
def test_rows_that_contradict_each_other_are_no_fault_of_the_network(objective: Objective) -> None:
    same_inputs = batch(torch.zeros(64, 3), torch.arange(64) % 2.0)
    check("good", same_inputs, objective=objective)


def test_rows_of_one_class_have_nothing_to_teach() -> None:
    check("cut off", batch(torch.randn(64, 3), torch.ones(64)))


@pytest.mark.parametrize("options", [{}, {"hidden": (8,), "members": 1, "dropout": 0.5}, {"hidden": (256, 128, 64)}])
def test_the_default_network_passes_on_noise(tmp_path: Path, options: dict[str, Any]) -> None:
    class Spec:
        name, shape, cardinalities = "numeric", (3,), ()

    torch.manual_seed(1)
    network = build_model("tabular", [Spec()], "binary", 2, options, tmp_path)
    check_network(network, BINARY, numbers(), seed=1, shared=True)


def test_a_full_disk_is_found_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = job(tmp_path, prepared(tmp_path / "data"), preflight=True)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(NotEnoughDisk, match="free 1,000"):
        work(full, ALONE)
    assert not list((tmp_path / "run").glob("main/checkpoints/step-*"))
