"""The same loop on an NVIDIA GPU: NCCL, bf16, fp16 with its scaler, going on after a stop."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from train_world import job, prepared, train_spec

from fairlead.dataset import PreparedData
from fairlead.train.checkpoint import CheckpointStore
from fairlead.train.fit import fit
from fairlead.train.loop import Loop
from fairlead.train.request import FitRequest, FitResult
from fairlead.train.worker import Job, read_trained, work
from fairlead.train.workers import Workers

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="not run on a GPU: this machine has none"),
]

LEARNING: dict[str, Any] = {"epochs": 6, "learning_rate": 0.02, "model_options": {"dropout": 0.0}, "global_batch": 128}


class Stop(BaseException):
    """The end of the process, as far as the loop can tell."""


def fitted(folder: Path, **changes: Any) -> FitResult:
    data = prepared(folder / "data", rows=2000)
    classes = len(PreparedData(data).manifest.label_classes)
    request = FitRequest(
        train_spec(**LEARNING | {"use_gpu": "yes"} | changes), data, "binary", classes, folder / "run", folder
    )
    return fit(request, lambda _: None)


def trained_on_gpu(job: Job) -> dict[str, Any]:
    work(job, Workers(0, 1, torch.device("cuda", 0)))
    facts = read_trained(job.run / "main")
    assert facts is not None
    return facts


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_each_precision_learns_and_exports_what_a_cpu_can_run(tmp_path: Path, precision: str) -> None:
    result = fitted(tmp_path, precision=precision)
    assert result.device == torch.cuda.get_device_name(0)
    assert result.history[-1]["validation_auc"] > 0.9
    assert result.parity_max_abs < 1e-4
    weights = safetensors.torch.load_file(str(result.weights))
    assert all(tensor.dtype == torch.float32 for tensor in weights.values() if tensor.is_floating_point())


@pytest.mark.ray
def test_a_worker_under_ray_uses_nccl(tmp_path: Path) -> None:
    result = fitted(tmp_path, launcher="ray", workers=1, precision="bf16")
    assert result.device == torch.cuda.get_device_name(0)
    assert result.history[-1]["validation_auc"] > 0.9


def test_the_scaler_is_saved_and_a_stopped_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = prepared(tmp_path / "data", rows=2000)
    undisturbed = trained_on_gpu(job(tmp_path / "undisturbed", data, precision="fp16", **LEARNING))
    stopped = job(tmp_path / "stopped", data, precision="fp16", **LEARNING)
    real = Loop._step

    def until(loop: Loop, batch: Any) -> None:
        if loop.step == 50:
            loop.checkpoints.flush()
            raise Stop
        real(loop, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_step", until)
        with pytest.raises(Stop):
            trained_on_gpu(stopped)
    newest = CheckpointStore(stopped.run / "main" / "checkpoints", 2).load_newest()[0]
    assert newest is not None
    assert newest.state["scaler"]["scale"] > 0
    again = trained_on_gpu(stopped)
    assert again["resumed_from_step"] == 48
    losses = [[epoch["validation_loss"] for epoch in facts["history"]] for facts in (again, undisturbed)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.02)
