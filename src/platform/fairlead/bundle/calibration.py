"""From a network's raw output to the score that is served: the calibration that travels in a bundle.

Fitting is evaluation's business (on the validation split); this is what was fitted, and how it is applied.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import orjson

from fairlead.records.codec import from_value, to_json

Kind = Literal["temperature", "isotonic", "none"]
Task = Literal["binary", "multiclass", "regression"]


@dataclass(frozen=True, slots=True)
class Calibration:
    """How logits become scores.

    temperature: sigmoid(logit / T) or softmax(logits / T), T > 0 (Guo, Pleiss, Sun, Weinberger 2017, "On Calibration of
    Modern Neural Networks"). isotonic (binary only): linear interpolation between the knots (`x` = logits, rising;
    `y` = probabilities, never falling), constant outside (Zadrozny, Elkan 2002, "Transforming Classifier Scores into
    Accurate Multiclass Probability Estimates"). none: T = 1. The value of a regression passes unchanged.

    Raises ValueError when the numbers do not make a calibration.
    """

    kind: Kind = "none"
    task: Task = "binary"
    temperature: float = 1.0
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.task not in ("binary", "multiclass", "regression"):
            raise ValueError(f"unknown task {self.task!r}")
        if self.kind == "isotonic":
            self._check_knots()
        elif self.kind not in ("temperature", "none"):
            raise ValueError(f"unknown calibration {self.kind!r}")
        if self.kind != "none" and self.task == "regression":
            raise ValueError(f"a regression has no {self.kind} calibration")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"the temperature must be a finite number above 0, not {self.temperature}")

    def apply(self, logits: np.ndarray) -> np.ndarray:
        """Scores, float64, same shape: logits [N] of a binary task to probabilities of the positive class, [N, C] of a
        multiclass task to probabilities that sum to 1 per row, values [N] of a regression unchanged."""
        values = np.asarray(logits, dtype=np.float64)
        if self.task == "regression":
            return values
        if self.kind == "isotonic":
            return np.asarray(np.interp(values, self.x, self.y), dtype=np.float64)
        scaled = values / self.temperature
        return softmax(scaled) if self.task == "multiclass" else sigmoid(scaled)

    def to_json(self) -> bytes:
        """The content of ``calibration.json``."""
        return to_json(self)

    @classmethod
    def from_json(cls, data: bytes) -> "Calibration":
        """Read what `to_json` wrote. Raises ValueError, KeyError or TypeError for anything else."""
        value = orjson.loads(data)
        if not isinstance(value, dict) or not {"kind", "task"} <= value.keys():
            raise ValueError("expected a JSON object with kind and task")
        calibration: Calibration = from_value(cls, value)
        return calibration

    def _check_knots(self) -> None:
        x, y = np.asarray(self.x, dtype=np.float64), np.asarray(self.y, dtype=np.float64)
        if self.task != "binary":
            raise ValueError("an isotonic calibration is for binary tasks")
        if len(x) != len(y) or len(x) == 0:
            raise ValueError(f"an isotonic calibration needs as many x as y, not {len(x)} and {len(y)}")
        if not (np.isfinite(x).all() and np.isfinite(y).all() and y.min() >= 0 and y.max() <= 1):
            raise ValueError("knots must be finite, and probabilities between 0 and 1")
        if (np.diff(x) <= 0).any() or (np.diff(y) < 0).any():
            raise ValueError("the knots' x must rise and their y must not fall")


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)) in float64, without overflow at either end."""
    values = np.asarray(logits, dtype=np.float64)
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1.0, small) / (1.0 + small)


def softmax(logits: np.ndarray) -> np.ndarray:
    """exp(x) / sum(exp(x)) over the last axis in float64; the largest logit is taken off, so none overflows."""
    values = np.asarray(logits, dtype=np.float64)
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
