"""The noise floor of a version's scores, measured on the validation split and stored in its bundle.

Two parts: numeric noise, how far the model is from itself when it is asked row by row and not by the table (expected:
0, or the last digits of a float), and the noise of retraining, how far a network of another seed is from it. Both in
the unit of live score differences (`serve.evidence.score_difference`), so that a shadow can be held against them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from fairlead.bundle.calibration import Calibration
from fairlead.bundle.runtime import Predictor, run_onnx
from fairlead.features.transform import Transform
from fairlead.records.codec import from_json
from fairlead.records.data import Statistics
from fairlead.records.evidence import MOST_VALUES
from fairlead.serve.model import error_scale
from fairlead.wiring.drafts import twin_path

_SINGLE_ROWS = 256
"""Rows that are asked one by one."""


@dataclass(frozen=True, slots=True)
class NoiseFloor:
    """Mean absolute differences of scores, 0 to 1; `retraining_flips` is the share of labels that another seed changes.
    None: not measured, as no second network was trained. `slices`: the noise of retraining by "column=value", of values
    with enough rows."""

    numeric: float
    retraining: float | None = None
    retraining_flips: float | None = None
    slices: Mapping[str, float] = field(default_factory=dict)


def measure_noise(
    draft: Path,
    validation: pa.Table,
    logits: np.ndarray,
    calibration: Calibration,
    *,
    threshold: float | None,
    slices: Mapping[str, np.ndarray],
    min_rows: int,
) -> NoiseFloor:
    """`logits` [N] or [N, C]: the network's on the validation rows; `slices`: column -> values [N]."""
    predictor = Predictor.of_draft(draft)
    scale = error_scale(predictor.signature, from_json(Statistics, (draft / "statistics.json").read_bytes()))
    scores = calibration.apply(logits)
    few = min(validation.num_rows, _SINGLE_ROWS)
    alone = [predictor.predict_rows([row]).logits for row in validation.slice(0, few).to_pylist()]
    numeric = float(np.mean(_apart(calibration.apply(np.concatenate(alone)), scores[:few], scale))) if alone else 0.0
    twin = twin_path(draft)
    if not twin.is_file():
        return NoiseFloor(numeric)
    transform = Transform.from_json((draft / "transform.json").read_bytes())
    answers = run_onnx(twin, transform.apply_table(validation))
    others = calibration.apply(answers.reshape(logits.shape))
    apart = _apart(others, scores, scale)
    first, second = _labels(scores, threshold, calibration.task), _labels(others, threshold, calibration.task)
    flips = None if first is None or second is None else float(np.mean(first != second))
    return NoiseFloor(numeric, float(np.mean(apart)), flips, _by_slice(apart, slices, min_rows))


def _apart(first: np.ndarray, second: np.ndarray, scale: float) -> np.ndarray:
    """`serve.evidence.score_difference` on arrays: [N]."""
    if first.ndim == 2:
        return np.asarray(0.5 * np.abs(first - second).sum(axis=1))
    return np.asarray(np.abs(first - second) / scale)


def _labels(scores: np.ndarray, threshold: float | None, task: str) -> np.ndarray | None:
    if task == "regression":
        return None
    if scores.ndim == 2:
        return np.asarray(scores.argmax(axis=1))
    return np.asarray(scores >= (0.5 if threshold is None else threshold))


def _by_slice(apart: np.ndarray, slices: Mapping[str, np.ndarray], min_rows: int) -> dict[str, float]:
    """Of each column the most frequent values, as many as a rollout compares."""
    found = {}
    for column, values in slices.items():
        names, places, counts = np.unique(values.astype(str), return_inverse=True, return_counts=True)
        for index in np.argsort(-counts, kind="stable")[:MOST_VALUES]:
            if counts[index] >= min_rows:
                found[f"{column}={names[index]}"] = float(apart[places == index].mean())
    return found
