"""What a network's outputs mean: losses, the constant part of the output, and what is measured on validation rows.

Shapes: N rows, C classes, K members of an ensemble inside one network.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from fairlead.errors import TrainError

TASKS = ("binary", "multiclass", "regression")


@dataclass(frozen=True, slots=True)
class Objective:
    """The loss of a task, and output = scale * network + offset.

    binary: offset is the log-odds of the training labels; multiclass: their log-shares; regression: scale and offset
    are their deviation and mean, so that the network itself works on standardised numbers. A network thus starts from
    the best constant answer."""

    task: str
    num_classes: int
    scale: float
    offset: tuple[float, ...]

    @property
    def outputs(self) -> int:
        """Numbers per row that the network gives."""
        return self.num_classes if self.task == "multiclass" else 1

    @property
    def label_dtype(self) -> type[np.generic]:
        """Type of the labels on their way into the loss."""
        return {"multiclass": np.int64, "regression": np.float64}.get(self.task, np.float32)

    def output(self, raw: torch.Tensor, rows: int) -> torch.Tensor:
        """Logits or value, [N] or [N, C], from the network's raw output in any of the shapes of `members`."""
        members = self.members(raw, rows)
        return self.finish(members.mean(0))

    def members(self, raw: torch.Tensor, rows: int) -> torch.Tensor:
        """[K, N] or [K, N, C]. Raises TrainError for any other shape."""
        shape = tuple(raw.shape)
        if self.task == "multiclass":
            if shape == (rows, self.num_classes):
                return raw.unsqueeze(0)
            if raw.dim() == 3 and shape[1:] == (rows, self.num_classes):
                return raw
            expected = f"[{rows}, {self.num_classes}] or [members, {rows}, {self.num_classes}]"
        else:
            if shape in ((rows,), (rows, 1)):
                return raw.reshape(1, rows)
            if raw.dim() == 2 and shape[1] == rows:
                return raw
            expected = f"[{rows}], [{rows}, 1] or [members, {rows}]"
        raise TrainError(
            f"the network gives the shape {list(shape)} for {rows} rows",
            why=f"task {self.task} needs {expected}",
            fix="Change what the model builder's module returns.",
        )

    def loss(self, raw: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Loss of each row, float32 [N]; the mean over an ensemble's members, each judged on its own."""
        members = self.finish(self.members(raw, len(labels)).float(), standardised=True)
        if self.task == "binary":
            targets = labels.expand_as(members)
            losses = F.binary_cross_entropy_with_logits(members, targets, reduction="none")
        elif self.task == "multiclass":
            count = members.shape[0]
            flat = F.cross_entropy(members.flatten(0, 1), labels.repeat(count), reduction="none")
            losses = flat.reshape(count, -1)
        else:
            # Labels are float64 up to here: a deviation much smaller than the mean would drown in float32.
            losses = (members - ((labels - self.offset[0]) / self.scale).float()) ** 2
        return losses.mean(0)

    def finish(self, outputs: torch.Tensor, *, standardised: bool = False) -> torch.Tensor:
        """The constant part added; `standardised` leaves regression in the unit of the loss."""
        if self.task == "regression":
            return outputs if standardised else outputs * self.scale + self.offset[0]
        if self.task == "binary":
            return outputs + self.offset[0]
        return outputs + torch.tensor(self.offset, dtype=outputs.dtype, device=outputs.device)


def objective_for(
    task: str, num_classes: int, labels: Iterable[np.ndarray], weights: Iterable[np.ndarray] | None = None
) -> Objective:
    """The objective for the labels of the training split, given in parts, always in the same order; `weights`: in the
    same parts, how much each row counts.

    Raises TrainError for an unknown task, labels out of range, or labels without any rows."""
    if task not in TASKS:
        raise TrainError(f"there is no task {task!r}", fix=f"One of {', '.join(TASKS)}.")
    if task == "regression":
        count, mean, spread = 0.0, 0.0, 0.0
        for part, worth in _weighted_parts(labels, weights):
            # Parts are merged as in Chan, Golub, LeVeque (1979), "Updating formulae and a pairwise algorithm".
            values = part.astype(np.float64)
            added = float(len(values)) if worth is None else float(worth.sum())
            if not added:
                continue
            here = float(values.mean() if worth is None else np.average(values, weights=worth))
            squares = (values - here) ** 2 if worth is None else worth * (values - here) ** 2
            spread += float(squares.sum()) + (here - mean) ** 2 * count * added / (count + added)
            mean, count = mean + (here - mean) * added / (count + added), count + added
        _need_rows(count)
        deviation = math.sqrt(spread / count)
        return Objective(task, 0, deviation if deviation > 1e-12 * max(1.0, abs(mean)) else 1.0, (mean,))
    classes = 2 if task == "binary" else num_classes
    counts = np.zeros(classes)
    for part, worth in _weighted_parts(labels, weights):
        if part.min() < 0 or part.max() >= classes:
            raise TrainError(
                f"a label is outside 0 to {classes - 1}",
                why=f"found {part.min()} to {part.max()}",
                fix="Prepare again.",
            )
        counts += np.bincount(part.astype(np.int64), worth, minlength=classes)
    _need_rows(float(counts.sum()))
    shares = (counts + 0.5) / (counts.sum() + 0.5 * classes)
    if task == "binary":
        return Objective(task, 2, 1.0, (float(np.log(shares[1] / shares[0])),))
    return Objective(task, classes, 1.0, tuple(float(value) for value in np.log(shares)))


class Answering(nn.Module):  # type: ignore[misc]
    """A network as it is served: tensors in a fixed order in, logits or values out."""

    def __init__(
        self, network: nn.Module, names: tuple[str, ...], objective: Objective, example: tuple[torch.Tensor, ...]
    ) -> None:
        """`example`: tensors of at least two rows, from which the layout of the network's raw output is learnt. It must
        not depend on the number of rows while the graph is traced."""
        super().__init__()
        self.network, self._names, self._objective = network, names, objective
        with torch.no_grad():
            raw = network(**dict(zip(names, example, strict=True)))
        objective.members(raw, len(example[0]))  # refuses shapes that mean nothing
        self._has_members = raw.dim() == (3 if objective.task == "multiclass" else 2)
        if objective.task != "multiclass" and tuple(raw.shape) == (len(example[0]), 1):
            self._has_members = False

    @property
    def unit(self) -> float:
        """The size of an ordinary difference in the output: 1 for logits, the label's deviation for values."""
        return self._objective.scale

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        """float32 [N] or [N, C]."""
        raw = self.network(**dict(zip(self._names, tensors, strict=True))).float()
        if self._has_members:
            return self._objective.finish(raw.mean(0))
        return self._objective.finish(raw if self._objective.task == "multiclass" else raw.reshape(-1))


def auc(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> float | None:
    """Area under the ROC curve by mid-ranks (Mann and Whitney, 1947), with `weights` the share of weighted pairs in the
    right order; None when one class is missing."""
    positive = labels > 0.5
    if weights is not None:
        return _weighted_auc(scores, positive, weights.astype(np.float64))
    wins, losses = int(positive.sum()), int((~positive).sum())
    if not wins or not losses:
        return None
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    total = float(ranks[place][positive].sum())
    return (total - wins * (wins + 1) / 2) / (wins * losses)


def _weighted_auc(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> float | None:
    values, place = np.unique(scores, return_inverse=True)
    wins, losses = (np.bincount(place, weights * side, len(values)) for side in (positive, ~positive))
    pairs = float(wins.sum()) * float(losses.sum())
    if not pairs:
        return None
    return float((wins * (np.cumsum(losses) - losses / 2)).sum()) / pairs


def _weighted_parts(
    labels: Iterable[np.ndarray], weights: Iterable[np.ndarray] | None
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """The parts that have rows, each with its weights."""
    for part, worth in zip(labels, repeat(None) if weights is None else weights, strict=False):
        if len(part):
            yield part, worth


def _need_rows(count: float) -> None:
    if not count:
        raise TrainError("the training split has no rows", fix="Check data.split.")
