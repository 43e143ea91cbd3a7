"""What training is asked for, and what it hands back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fairlead.spec.train import Train
from fairlead.train.remote import Remote


@dataclass(frozen=True, slots=True)
class FitRequest:
    """One fit. `data` is the folder of a PreparedData; checkpoints and the result live in `run`, and the same request
    again goes on from there. `project_dir` is where a model builder of the user's own is found. `num_classes` is 0 for
    regression. `ray_address` None: a Ray of its own, for as long as the fit takes. `remote`: where pods meet that share
    no disk; `project` and `run_id` name what is trained, and in which run, for launchers that leave objects behind."""

    train: Train
    data: Path
    task: str
    num_classes: int
    run: Path
    project_dir: Path
    ray_address: str | None = None
    remote: Remote | None = None
    project: str = "model"
    run_id: str = ""


@dataclass(frozen=True, slots=True)
class FitResult:
    """A fitted network. `history` has one mapping per epoch: epoch, step, train_loss, validation_loss, validation_auc
    (binary), learning_rate, grad_norm, rows_per_second, data_wait_seconds, compute_seconds.

    `weights_sha256` is the digest of the names, shapes and bytes of all exported tensors in sorted order.
    `parity_max_abs` is the largest difference of ONNX from PyTorch, in the unit of the output.
    `resumed_from_step` is None when nothing was left of an earlier attempt; `seconds` is what this call took."""

    onnx: Path
    twin_onnx: Path | None
    weights: Path
    weights_sha256: str
    history: list[Mapping[str, float]]
    parity_max_abs: float
    steps: int
    seconds: float
    resumed_from_step: int | None
    workers: int
    device: str
    facts: Mapping[str, object] = field(default_factory=dict)
