"""From the network's output to what a server answers: calibration, threshold, label."""

import numpy as np

from fairlead.bundle.calibration import Calibration
from fairlead.bundle.raw_graph.ops import Name, Ops
from fairlead.records.model import Signature


def add_answer(ops: Ops, logits: Name, signature: Signature, calibration: Calibration) -> None:
    """Add the outputs that the signature names, for the network's output `logits`."""
    shape = [-1, len(signature.classes)] if signature.task == "multiclass" else [-1]
    values = ops.cast(ops.op("Reshape", logits, np.array(shape, np.int64)), "float64")
    score = signature.outputs[0].name
    if signature.task == "regression":
        ops.op("Identity", values, output=score)
        return
    classes = np.array(signature.classes, dtype=object)
    if signature.task == "multiclass":
        ops.op("Softmax", ops.op("Div", values, calibration.temperature), output=score, axis=1)
        ops.op("Gather", classes, ops.op("ArgMax", score, axis=1, keepdims=0), output="label", axis=0)
        return
    if calibration.kind == "isotonic":
        answer = _interpolated(ops, values, np.array(calibration.x), np.array(calibration.y))
    else:
        answer = _sigmoid(ops, ops.op("Div", values, calibration.temperature))
    ops.op("Identity", answer, output=score)
    threshold = 0.5 if signature.threshold is None else signature.threshold
    positive = ops.cast(ops.op("GreaterOrEqual", score, threshold), "int64")
    ops.op("Gather", classes, positive, output="label", axis=0)


def _sigmoid(ops: Ops, values: Name) -> Name:
    small = ops.op("Exp", ops.op("Neg", ops.op("Abs", values)))
    upper = ops.op("Where", ops.op("GreaterOrEqual", values, 0.0), 1.0, small)
    return ops.op("Div", upper, ops.op("Add", small, 1.0))


def _interpolated(ops: Ops, values: Name, x: np.ndarray, y: np.ndarray) -> Name:
    """Linear between the knots, constant outside."""
    inside = ops.op("Min", ops.op("Max", values, float(x[0])), float(x[-1]))
    if len(x) == 1:
        return ops.op("Add", ops.op("Mul", inside, 0.0), float(y[0]))
    above = ops.cast(ops.op("GreaterOrEqual", ops.column(inside), x[1:-1]), "int64")
    left = ops.op("ReduceSum", above, np.array([1], np.int64), keepdims=0)
    slopes = np.diff(y) / np.diff(x)
    slope, start, level = (ops.op("Gather", knots, left, axis=0) for knots in (slopes, x[:-1], y[:-1]))
    between = ops.op("Add", ops.op("Mul", slope, ops.op("Sub", inside, start)), level)
    return ops.op("Where", ops.op("GreaterOrEqual", values, float(x[-1])), float(y[-1]), between)
