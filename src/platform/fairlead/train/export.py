"""The trained network as one ONNX file, and the proof that it gives PyTorch's numbers."""

import contextlib
import io
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fairlead.bundle.runtime import run_onnx
from fairlead.errors import ExportMismatch
from fairlead.train.objective import Answering, Objective

OPSET = 20
TOLERANCE = 1e-4
_RANDOM_ROWS = (1, 2, 257)

Arrays = dict[str, np.ndarray]


def export_onnx(
    network: torch.nn.Module, objective: Objective, tensors: Sequence[Any], path: Path, real: Arrays, seed: int
) -> float:
    """Write the network to `path` and compare it with PyTorch on `real` rows and on random ones.

    Inputs are named as the tensors, first axis free; the output is `logits` or `value`. Returns the largest absolute
    difference. Raises ExportMismatch above TOLERANCE (in units of the label's deviation for regression)."""
    example = _random_rows(tensors, 3, np.random.default_rng(seed))
    arguments = tuple(torch.from_numpy(example[spec.name]) for spec in tensors)
    answering = Answering(network.cpu().eval(), tuple(spec.name for spec in tensors), objective, arguments)
    rows = torch.export.Dim("rows", min=1)
    temporary = path.with_suffix(".partial")
    with _quiet():
        torch.onnx.export(
            answering,
            arguments,
            str(temporary),
            dynamo=True,
            opset_version=OPSET,
            input_names=[spec.name for spec in tensors],
            output_names=["value" if objective.task == "regression" else "logits"],
            dynamic_shapes=(tuple({0: rows} for _ in arguments),),  # one entry: the network takes *tensors
            external_data=False,
            verbose=False,
        )
    difference = compare(answering, tensors, temporary, real, seed)
    temporary.replace(path)
    return difference


def compare(answering: Answering, tensors: Sequence[Any], path: Path, real: Arrays, seed: int) -> float:
    """The largest absolute difference of the graph in `path` from PyTorch. Raises ExportMismatch."""
    generator = np.random.default_rng(seed)
    batches = [("real rows", real)] if len(next(iter(real.values()))) else []
    batches += [(f"{rows} random rows", _random_rows(tensors, rows, generator)) for rows in _RANDOM_ROWS]
    largest = 0.0
    for name, batch in batches:
        inputs = {spec.name: batch[spec.name] for spec in tensors}
        with torch.no_grad():
            expected = answering(*(torch.from_numpy(array) for array in inputs.values())).numpy()
        given = run_onnx(path, inputs)
        bound = TOLERANCE * max(1.0, answering.unit)
        difference = float(np.abs(given - expected).max()) if given.shape == expected.shape else float("inf")
        if not difference <= bound:
            raise ExportMismatch(
                f"the ONNX graph differs from PyTorch by {difference:.2e} on {name}",
                where=path.name,
                why=f"the tolerance is {bound:.2e}; shapes {list(given.shape)} and {list(expected.shape)}",
                fix="Look for operations in the network that behave differently while training.",
            )
        largest = max(largest, difference)
    return largest


def _random_rows(tensors: Sequence[Any], rows: int, generator: np.random.Generator) -> Arrays:
    out: Arrays = {}
    for spec in tensors:
        if spec.cardinalities:
            columns = [generator.integers(0, cardinality, rows) for cardinality in spec.cardinalities]
            out[spec.name] = np.stack(columns, axis=1).astype(np.int64)
        else:
            out[spec.name] = generator.normal(size=(rows, *spec.shape)).astype(np.float32)
    return out


@contextlib.contextmanager
def _quiet() -> Any:
    """The exporter prints its steps and logs each missing optional package; none of it is for the person who trains."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    sink = io.StringIO()
    try:
        with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
