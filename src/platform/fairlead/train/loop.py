"""The training loop: plain PyTorch, one file, the same for one worker in this process and for many under Ray.

Everything random is a function of (seed, rank, step), the order of rows of (seed, epoch), the learning rate of the
step. A checkpoint therefore needs the tensors, the step and the sums of the running epoch, and going on after a kill
gives the weights that an undisturbed run gives, bit for bit on a CPU.
"""

import math
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from fairlead.errors import LossNotFinite
from fairlead.spec.train import Train
from fairlead.train.checkpoint import CheckpointStore, Snapshot
from fairlead.train.feed import Feed, StepBatch
from fairlead.train.objective import Objective, auc
from fairlead.train.precision import Precision
from fairlead.train.progress import SideFile, TrainProgress
from fairlead.train.workers import Workers

_CHECK_EVERY_ON_GPU = 16
_EMA_WARMUP = 10


@dataclass(slots=True)
class Epoch:
    """Sums of the running epoch, over this worker's rows."""

    loss_sum: float = 0.0
    rows: int = 0
    steps: int = 0
    grad_norm_sum: float = 0.0
    data_wait_seconds: float = 0.0
    compute_seconds: float = 0.0


@dataclass(slots=True)
class Trained:
    """A trained network. `weights` are the exported ones, on the host; `times` are wall-clock seconds of events."""

    weights: dict[str, torch.Tensor]
    history: list[dict[str, float]]
    steps: int
    resumed_from_step: int | None
    notes: tuple[str, ...]
    times: dict[str, float] = field(default_factory=dict)


class Loop:
    """Trains one network from wherever its checkpoints stand."""

    def __init__(
        self,
        train: Train,
        network: nn.Module,
        objective: Objective,
        feed: Feed,
        workers: Workers,
        checkpoints: CheckpointStore,
        side_file: SideFile | None = None,
        phase: str = "train",
        share: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        """`network` on the worker's device, the same weights on all workers; `train.seed` is this network's seed.
        `share`: from where to where this training is of the whole fit, for progress."""
        self.train, self.objective, self.feed, self.workers = train, objective, feed, workers
        self.network, self.parallel = network, workers.parallel(network)
        self.checkpoints, self.side_file, self.phase, self.share = checkpoints, side_file, phase, share
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.optimizer = _optimizer(train, self.parameters)
        self.precision = Precision(train.precision, workers.device)
        self.average = {n: t.detach().clone() for n, t in network.state_dict().items()} if train.ema else None
        self.steps_per_epoch = feed.plan.steps_per_epoch
        self.total_steps = self.steps_per_epoch * train.epochs
        self.step = 0  # optimizer steps done since the run began
        self.epoch = Epoch()
        self.history: list[dict[str, float]] = []
        self.best: dict[str, torch.Tensor] = {}
        self.best_step: int | None = None
        self.best_loss = math.inf
        self.times: dict[str, float] = {}
        self._unchecked: list[tuple[int, torch.Tensor, torch.Tensor]] = []
        self._rate = (time.monotonic(), 0)

    def run(self) -> Trained:
        """Train to the end. Raises LossNotFinite, CheckpointDamaged, NotEnoughDisk."""
        resumed, notes = self._resume()
        for note in notes:
            self._tell(note=f"{note}; going on from step {resumed}")
        position = divmod(self.step, self.steps_per_epoch)
        waiting = time.monotonic()
        for batch in self.feed.steps(*position, epochs=self.train.epochs):
            started = time.monotonic()
            self._step(batch)
            ended = time.monotonic()
            self.epoch.data_wait_seconds += started - waiting
            self.epoch.compute_seconds += ended - started
            self.times.setdefault("first_step_at", time.time())
            self.times["last_step_at"] = time.time()
            if self.step % self.steps_per_epoch == 0:
                self._end_epoch()
                self._save(must=True)
            elif self.step % self.train.checkpoint.every_steps == 0:
                self._save()
            if self.workers.first and self.side_file is not None and self.side_file.due():
                self._tell(self._loss())
            waiting = time.monotonic()
        if self.workers.first:
            self.checkpoints.flush()
        weights = self.best if self.train.export == "best" and self.best else _host(self._answering())
        return Trained(weights, self.history, self.step, resumed, notes, self.times)

    # --- one step ----------------------------------------------------------------------------------------------------
    def _step(self, batch: StepBatch) -> None:
        self.parallel.train()
        # Dropout draws from here, so that its numbers depend on where the run is and not on how it got there.
        torch.manual_seed(((self.train.seed * 1_000_003 + self.step) * 4099 + self.workers.rank) % 2**63)
        total = torch.zeros((), device=self.workers.device)
        for number, micro in enumerate(batch.micros):
            last = number == len(batch.micros) - 1
            silent = nullcontext() if last or self.workers.world == 1 else self.parallel.no_sync()
            with silent:
                with self.precision.autocast():
                    raw = self.parallel(**micro.tensors)
                losses = self.objective.loss(raw, micro.labels)
                loss = losses.sum() if micro.weights is None else (losses * micro.weights).sum()
                # Workers average gradients; this makes the average the mean over the global batch, however it was cut.
                self.precision.backward(loss * (self.workers.world / batch.rows))
            total += loss.detach()
            self.epoch.rows += micro.rows
        self._set_rate(learning_rate(self.train, self.step, self.total_steps))
        self.precision.unscale(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.train.clip_norm or math.inf)
        self._unchecked.append((self.step + 1, total, norm.detach()))
        if self.workers.device.type == "cpu" or len(self._unchecked) >= _CHECK_EVERY_ON_GPU:
            self._check_losses()
        self.precision.step(self.optimizer)
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.epoch.steps += 1
        self._update_average()

    def _check_losses(self) -> None:
        """Add the steps since the last look to the epoch's sums; on a GPU each look waits for the device."""
        unchecked, self._unchecked = self._unchecked, []
        for step, total, norm_tensor in unchecked:
            loss, norm = float(total), float(norm_tensor)
            # Gradients are the same on all workers, so all see a bad one at the same step, without asking each other.
            if not math.isfinite(norm):
                self._refuse_bad_loss(step, loss)
            self.epoch.loss_sum += loss
            self.epoch.grad_norm_sum += norm if math.isfinite(norm) else 0.0

    def _refuse_bad_loss(self, step: int, loss: float) -> None:
        flags = self.workers.gather(np.array([0.0 if math.isfinite(loss) else 1.0], dtype=np.float32))
        ranks = [rank for rank, flag in enumerate(flags) if flag[0]]
        if self.train.precision == "fp16" and not ranks:
            return  # the scaler leaves this step out and lowers its scale
        what = f"on rank {', '.join(map(str, ranks))}" if ranks else "in the gradients of all ranks"
        raise LossNotFinite(
            f"the loss became NaN or infinite at step {step} {what}",
            where=f"epoch {(step - 1) // self.steps_per_epoch + 1}, step {step}",
            why=f"this worker (rank {self.workers.rank}) had loss {loss}",
            fix="Lower train.learning_rate, set train.clip_norm, or look for extreme values among the features.",
        )

    def _set_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _update_average(self) -> None:
        if self.average is None or self.train.ema is None:
            return
        decay = min(self.train.ema, (1 + self.step) / (_EMA_WARMUP + self.step))
        for name, tensor in self.network.state_dict().items():  # a state_dict's tensors carry no gradient
            if tensor.is_floating_point():
                self.average[name].lerp_(tensor, 1 - decay)
            else:
                self.average[name].copy_(tensor)

    # --- the end of an epoch -----------------------------------------------------------------------------------------
    def _end_epoch(self) -> None:
        self._check_losses()
        facts = self.epoch
        loss_sum, rows = self.workers.sum([facts.loss_sum, float(facts.rows)])
        validation_loss, validation_auc = self._validate()
        entry = {
            "epoch": float(len(self.history) + 1),
            "step": float(self.step),
            "train_loss": loss_sum / max(rows, 1.0),
            "learning_rate": learning_rate(self.train, self.step - 1, self.total_steps),
            "grad_norm": facts.grad_norm_sum / max(facts.steps, 1),
            "rows_per_second": rows / max(facts.data_wait_seconds + facts.compute_seconds, 1e-9),
            "data_wait_seconds": facts.data_wait_seconds,
            "compute_seconds": facts.compute_seconds,
        }
        if validation_loss is not None:
            entry["validation_loss"] = validation_loss
        if validation_auc is not None:
            entry["validation_auc"] = validation_auc
        self.history.append(entry)
        self.epoch = Epoch()
        judged = validation_loss if validation_loss is not None else entry["train_loss"]
        if judged < self.best_loss:
            self.best_loss, self.best_step = judged, self.step
            self.best = _host(self._answering()) if self.workers.first else {}

    def _validate(self) -> tuple[float | None, float | None]:
        """Loss per validation row and, for binary tasks, AUC of the weights that would be exported; None: no rows."""
        learned = None
        if self.average is not None:
            learned = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
            self.network.load_state_dict(self.average)
        self.network.eval()
        loss_sum, rows = 0.0, 0.0
        scores: list[np.ndarray] = []
        labels: list[np.ndarray] = []
        weights: list[np.ndarray] = []
        for batch in self.feed.evaluation():
            with torch.inference_mode(), self.precision.autocast():
                raw = self.network(**batch.tensors)
            # One answer per row is judged here, not the members one by one: this is what will be served.
            answer = self.objective.members(raw, batch.rows).float().mean(0)
            losses = self.objective.loss(answer, batch.labels).double()
            if batch.weights is None:
                loss_sum += float(losses.sum())
                rows += batch.rows
            else:
                loss_sum += float((losses * batch.weights).sum())
                rows += float(batch.weights.double().sum())
            if self.objective.task == "binary":
                scores.append(answer.cpu().numpy())
                labels.append(batch.labels.cpu().numpy())
                if batch.weights is not None:
                    weights.append(batch.weights.cpu().numpy())
        if learned is not None:
            self.network.load_state_dict(learned)
        loss_sum, total = self.workers.sum([loss_sum, rows])
        if not total:
            return None, None
        area = None
        if self.objective.task == "binary":
            empty = [np.empty(0, dtype=np.float32)]
            parts = (scores, labels, weights)
            gathered = [np.concatenate(self.workers.gather(np.concatenate(v or empty))) for v in parts]
            area = auc(gathered[0], gathered[1], gathered[2] if len(gathered[2]) else None)
        return loss_sum / total, area

    # --- checkpoints -------------------------------------------------------------------------------------------------
    def _save(self, *, must: bool = False) -> None:
        self._check_losses()
        # The sums of all workers go to the first one, so that a checkpoint forgets no row of the running epoch.
        sums = self.workers.sum([self.epoch.loss_sum, float(self.epoch.rows)])
        self.epoch.loss_sum, self.epoch.rows = (sums[0], int(sums[1])) if self.workers.first else (0.0, 0)
        if not self.workers.first:
            return
        tensors = {f"model.{name}": tensor for name, tensor in _host(self.network.state_dict()).items()}
        if self.average is not None:
            tensors |= {f"ema.{name}": tensor for name, tensor in _host(self.average).items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        scalars: dict[str, dict[str, float]] = {}
        for index, slots in self.optimizer.state_dict()["state"].items():
            for name, value in slots.items():
                if isinstance(value, torch.Tensor):
                    tensors[f"optimizer.{index}.{name}"] = value.detach().to("cpu", copy=True).contiguous()
                elif value is not None:
                    scalars.setdefault(str(index), {})[name] = value
        state: dict[str, Any] = {
            "seed": self.train.seed,
            "history": self.history,
            "best_step": self.best_step,
            "best_loss": self.best_loss if math.isfinite(self.best_loss) else None,
            "scaler": self.precision.state(),
            "optimizer_scalars": scalars,
            "epoch_sums": {name: getattr(self.epoch, name) for name in Epoch.__dataclass_fields__},
        }
        self.checkpoints.save(Snapshot(self.step, tensors, state), best_step=self.best_step, must=must)

    def _resume(self) -> tuple[int | None, tuple[str, ...]]:
        """Go to the newest whole checkpoint. Returns its step, None without one, and what was wrong with newer ones."""
        snapshot: Snapshot | None = None
        notes: tuple[str, ...] = ()
        if self.workers.first:
            self.checkpoints.prepare()
            snapshot, notes = self.checkpoints.load_newest()
            self.checkpoints.discard_after(snapshot.step if snapshot else 0)
        step = self.workers.told_by_first(snapshot.step if snapshot else -1)
        if step < 0:
            return None, notes
        if snapshot is None:
            snapshot = self.checkpoints.load(step)
        parts = _by_prefix(snapshot.tensors)
        self.network.load_state_dict(parts["model"])
        if self.average is not None:
            for name, tensor in parts["ema"].items():
                self.average[name].copy_(tensor)
        if self.workers.first:
            self.best = parts.get("best", {})
        self._restore_optimizer(parts.get("optimizer", {}), snapshot.state["optimizer_scalars"])
        self.precision.restore(snapshot.state["scaler"])
        self.step, self.history = step, snapshot.state["history"]
        best_loss = snapshot.state["best_loss"]
        self.best_step, self.best_loss = snapshot.state["best_step"], math.inf if best_loss is None else best_loss
        self.epoch = Epoch(**snapshot.state["epoch_sums"])
        if not self.workers.first:
            self.epoch.loss_sum, self.epoch.rows = 0.0, 0
        return step, notes

    def _restore_optimizer(self, tensors: dict[str, torch.Tensor], scalars: Mapping[str, Mapping[str, float]]) -> None:
        state: dict[int, dict[str, Any]] = {}
        for key, tensor in tensors.items():
            index, _, name = key.partition(".")
            state.setdefault(int(index), {})[name] = tensor
        for index, values in scalars.items():
            state.setdefault(int(index), {}).update(values)
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})

    def _answering(self) -> Mapping[str, torch.Tensor]:
        return self.average if self.average is not None else self.network.state_dict()

    # --- progress ----------------------------------------------------------------------------------------------------
    def _loss(self) -> float | None:
        return self.epoch.loss_sum / self.epoch.rows if self.epoch.rows else None

    def _tell(self, loss: float | None = None, note: str = "") -> None:
        if self.side_file is None or not self.workers.first:
            return
        now = time.monotonic()
        since, steps = now - self._rate[0], self.step - self._rate[1]
        per_step = since / steps if steps > 0 else None
        self._rate = (now, self.step)
        done = self.step / max(self.total_steps, 1)
        self.side_file(
            TrainProgress(
                phase=self.phase,
                share=self.share[0] + (self.share[1] - self.share[0]) * done,
                step=self.step,
                steps=self.total_steps,
                epoch=min(self.step // self.steps_per_epoch + 1, self.train.epochs),
                epochs=self.train.epochs,
                loss=loss,
                learning_rate=learning_rate(self.train, self.step, self.total_steps),
                rows_per_second=self.feed.plan.global_batch / per_step if per_step else None,
                eta_seconds=per_step * (self.total_steps - self.step) if per_step else None,
                note=note,
            )
        )


def learning_rate(train: Train, step: int, total: int) -> float:
    """The rate of `step` (0 is the first): a linear rise over the warm-up, then half a cosine to 0.

    Loshchilov, Hutter (2017), "SGDR: stochastic gradient descent with warm restarts", without restarts."""
    warm = int(train.warmup_share * total)
    if step < warm:
        return train.learning_rate * (step + 1) / warm
    return train.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(total - warm, 1)))


def _optimizer(train: Train, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    if train.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=train.learning_rate, momentum=0.9, weight_decay=train.weight_decay)
    return torch.optim.AdamW(parameters, lr=train.learning_rate, weight_decay=train.weight_decay, fused=True)


def _host(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies in host memory that nobody else changes."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def _by_prefix(tensors: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        prefix, _, name = key.partition(".")
        parts.setdefault(prefix, {})[name] = tensor
    return parts
