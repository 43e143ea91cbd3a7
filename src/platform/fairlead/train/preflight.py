"""Refusing what cannot work before it costs anything: shapes, a finite loss, one batch overfitted, room on the disk."""

import copy
import math
import shutil
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fairlead.errors import FairleadError, NotEnoughDisk, PreflightFailed
from fairlead.train.feed import MicroBatch
from fairlead.train.objective import Objective

SAMPLE_ROWS = 64
_STEPS = 120
_LEARNING_RATE = 0.01
_CLOSED_SHARE = 0.3
_NOTHING_TO_LEARN = 0.01


def check_network(network: nn.Module, objective: Objective, batch: MicroBatch, *, seed: int, shared: bool) -> None:
    """Let a copy of the network overfit one small batch, in float32.

    What can be learnt is bounded from below: rows with equal inputs cannot get different answers. The network must
    close a part of the distance from the best constant answer to that bound. `shared`: gradients are averaged over
    workers, so every parameter must take part. Raises PreflightFailed."""
    trial = copy.deepcopy(network).train()
    with torch.random.fork_rng(devices=[batch.labels.device] if batch.labels.device.type == "cuda" else []):
        torch.manual_seed(seed)
        first = _loss(trial, objective, batch)
        if not math.isfinite(first.item()):
            raise PreflightFailed(
                f"the loss of the first batch is {first.item()}",
                why=_strange_inputs(batch) or "The network's first answers are not finite.",
                fix="Look at the features' values, or at how the network's weights are drawn.",
            )
        first.backward()
        _check_gradients(trial, shared)
        constant, floor = _bounds(objective, batch)
        if constant - floor < _NOTHING_TO_LEARN * max(1.0, constant):
            return
        target = constant - _CLOSED_SHARE * (constant - floor)
        optimizer = torch.optim.Adam(trial.parameters(), lr=_LEARNING_RATE)
        loss = first.item()
        for _ in range(_STEPS):
            optimizer.zero_grad(set_to_none=True)
            now = _loss(trial, objective, batch)
            now.backward()
            optimizer.step()
            loss = now.item()
            if loss <= target:
                return
        raise PreflightFailed(
            f"the network does not learn even one batch of {batch.rows} rows",
            why=f"after {_STEPS} steps its loss is {loss:.4f}; the best constant answer has {constant:.4f}, and these "
            f"rows allow {floor:.4f}",
            fix="Check the model builder: does it use its inputs? train.preflight: false skips this check.",
        )


def check_disk(network: nn.Module, folder: Path, keep: int) -> None:
    """Room for all checkpoints of a run, two networks of it, and the exports. Raises NotEnoughDisk."""
    size = sum(tensor.nbytes for tensor in network.state_dict().values())
    # Per checkpoint: weights, their average, the best ones, two numbers per weight of the optimizer.
    needed = 2 * (keep + 2) * 5 * size + 6 * size + (1 << 20)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise NotEnoughDisk(
            "the disk is too full for the checkpoints of this run",
            where=str(folder),
            why=f"needed {needed:,} bytes, free {free:,}",
            fix="Free some space, or keep fewer with train.checkpoint.keep.",
        )


def _loss(network: nn.Module, objective: Objective, batch: MicroBatch) -> torch.Tensor:
    try:
        return objective.loss(network(**batch.tensors), batch.labels).mean()
    except FairleadError as error:
        raise PreflightFailed(error.what, why=error.why, fix=error.fix) from error
    except Exception as error:  # a network of the user's own may raise anything
        shapes = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in batch.tensors.items())
        raise PreflightFailed(
            "the network cannot be applied to the first batch",
            where=f"tensors {shapes}",
            why=f"{type(error).__name__}: {error}",
            fix="The network is called with these tensors by name.",
        ) from error


def _check_gradients(network: nn.Module, shared: bool) -> None:
    unused = [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]
    if unused and shared:
        raise PreflightFailed(
            f"{len(unused)} parameters take no part in the answer, {unused[0]} for one",
            why="Workers that share their gradients wait for every parameter.",
            fix="Remove them, set requires_grad to False, or train with one worker.",
        )
    broken = [n for n, p in network.named_parameters() if p.grad is not None and not bool(p.grad.isfinite().all())]
    if broken:
        raise PreflightFailed(
            f"the gradient of {broken[0]} is not finite", fix="Look for a division or a root of zero in the network."
        )


def _bounds(objective: Objective, batch: MicroBatch) -> tuple[float, float]:
    """Losses of the best constant answer, and of the best answer that depends on the inputs alone."""
    columns = [tensor.detach().cpu().numpy().reshape(batch.rows, -1) for tensor in batch.tensors.values()]
    rows = np.ascontiguousarray(np.concatenate([c.astype(np.float64) for c in columns], axis=1))
    _, groups = np.unique(rows, axis=0, return_inverse=True)
    labels = batch.labels.detach().cpu().numpy().astype(np.float64)
    if objective.task == "regression":
        labels = (labels - objective.offset[0]) / objective.scale
    return _best(objective, labels, np.zeros(len(labels), np.int64)), _best(objective, labels, groups.reshape(-1))


def _best(objective: Objective, labels: np.ndarray, groups: np.ndarray) -> float:
    total = 0.0
    for group in np.unique(groups):
        here = labels[groups == group]
        if objective.task == "regression":
            total += float(((here - here.mean()) ** 2).sum())
        else:
            counts = np.unique(here, return_counts=True)[1]
            total -= float((counts * np.log(counts / len(here))).sum())
    return total / len(labels)


def _strange_inputs(batch: MicroBatch) -> str:
    strange = [n for n, t in batch.tensors.items() if t.is_floating_point() and not bool(t.isfinite().all())]
    return f"The tensors {', '.join(strange)} hold numbers that are not finite." if strange else ""
