"""The steps of a fitted transform as ONNX operators, in 64-bit floats as numpy does them."""

from collections.abc import Sequence

import numpy as np

from fairlead.bundle.raw_graph.calendar import MISSING, Clock
from fairlead.bundle.raw_graph.inputs import is_hashed
from fairlead.bundle.raw_graph.ops import Name, Ops
from fairlead.features.columns import Columns
from fairlead.features.crosses import PRIME, CrossColumn
from fairlead.features.cycles import circle
from fairlead.features.encoders import PLAIN_LIMIT, CategoricalColumn, ImageColumn, NumericColumn
from fairlead.features.instants import PART_FIRST
from fairlead.features.ranges import RangeColumn


def add_transform(ops: Ops, columns: Columns, tensor: str) -> dict[str, Name]:
    """Add the steps; gives the names of the tensors, which begin with `tensor`."""
    out: dict[str, Name] = {}
    circles: list[Name] = []
    codes: dict[str, Name] = {}
    for category in columns.categorical:
        codes[category.name] = f"{category.name}.index" if is_hashed(category) else _category(ops, category)
    for moment in columns.datetime:
        clock = Clock(ops, moment.name)
        missing = ops.op("Equal", moment.name, MISSING)
        for part in moment.parts:
            code = ops.op("Where", missing, 0, ops.op("Add", clock.part(part), 1 - PART_FIRST[part]))
            if moment.encode != "cyclic":
                codes[f"{moment.name}.{part}"] = code
            if moment.encode != "category":
                circles.append(ops.op("Gather", circle(part), code, axis=0))
    for column in columns.ranges:
        codes[column.name] = _range(ops, column)
    for cross in columns.crosses:
        codes[cross.name] = _cross(ops, cross, [codes[part] for part in cross.of])
    parts = [*(_numbers(ops, columns.numeric) if columns.numeric else ()), *circles]
    if parts:
        out["numeric"] = ops.joined(parts, output=f"{tensor}numeric")
    if codes:
        out["categorical"] = ops.joined(
            [ops.column(codes[n]) for n in columns.cardinalities], output=f"{tensor}categorical"
        )
    if columns.image is not None:
        out["image"] = _image(ops, columns.image, f"{tensor}image")
    if columns.text:
        out["text"] = ops.joined([f"{text.name}.tokens" for text in columns.text], output=f"{tensor}text")
    return out


def _numbers(ops: Ops, columns: Sequence[NumericColumn]) -> list[Name]:
    """float32 [N, F], and the indicators float32 [N, I] where there are any."""
    values = ops.joined([ops.column(column.name) for column in columns])
    missing = ops.op("IsNaN", values)
    filled = ops.op("Where", missing, np.array([column.impute for column in columns]), values)
    lows = np.array([-np.inf if column.low is None else column.low for column in columns])
    highs = np.array([np.inf if column.high is None else column.high for column in columns])
    clipped = ops.op("Min", ops.op("Max", filled, lows), highs)
    if any(column.log for column in columns):
        logged = np.array([column.log for column in columns])
        clipped = ops.op("Where", logged, _signed_log(ops, clipped), clipped)
    centred = ops.op("Sub", clipped, np.array([column.mean for column in columns]))
    scaled = ops.op("Div", centred, np.array([column.std for column in columns]))
    limits = np.array([column.limit for column in columns])
    bounded = ops.op("Min", ops.op("Max", scaled, -limits), limits)
    out = [ops.cast(bounded, "float32")]
    marked = np.array([i for i, column in enumerate(columns) if column.indicator], np.int64)
    if len(marked):
        out.append(ops.op("Gather", ops.cast(missing, "float32"), marked, axis=1))
    return out


def _signed_log(ops: Ops, values: Name) -> Name:
    """See `fairlead.features.logarithm`; the logarithm itself is the runtime's."""
    size = ops.op("Abs", values)
    total = ops.op("Add", size, 1.0)
    part = ops.op("Sub", total, size)
    lost = ops.op("Add", ops.op("Sub", size, ops.op("Sub", total, part)), ops.op("Sub", 1.0, part))
    logarithm = ops.op("Add", ops.op("Log", total), ops.op("Div", lost, total))
    return ops.op("Mul", ops.op("Sign", values), logarithm)


def _category(ops: Ops, column: CategoricalColumn) -> Name:
    indices = {"": 0} | {value: i for i, value in enumerate(column.values, start=1)}
    return ops.op(
        "LabelEncoder",
        column.name,
        domain="ai.onnx.ml",
        keys_strings=list(indices),
        values_int64s=list(indices.values()),
        default_int64=1 + len(column.values),
    )


def _range(ops: Ops, column: RangeColumn) -> Name:
    above = ops.op("GreaterOrEqual", ops.column(column.name), np.array(column.edges, np.float64))
    counted = ops.op("ReduceSum", ops.cast(above, "int64"), np.array([1], np.int64), keepdims=0)
    return ops.op("Where", ops.op("IsNaN", column.name), 0, ops.op("Add", counted, 1))


def _cross(ops: Ops, column: CrossColumn, parts: Sequence[Name]) -> Name:
    missing = ops.op("Equal", parts[0], 0)
    for part in parts[1:]:
        missing = ops.op("Or", missing, ops.op("Equal", part, 0))
    products = [
        ops.op("Mul", ops.op("Sub", part, 1), multiplier)
        for part, multiplier in zip(parts, column.multipliers, strict=True)
    ]
    if not column.exact:
        products = [ops.op("Mod", product, PRIME) for product in products]
    total = products[0]
    for product in products[1:]:
        total = ops.op("Add", total, product)
    if not column.exact:
        total = ops.op("Mod", ops.op("Mod", total, PRIME), column.buckets)
    return ops.op("Where", missing, 0, ops.op("Add", total, 1))


def _image(ops: Ops, column: ImageColumn, output: Name) -> Name:
    scaled = ops.op("Div", ops.cast(column.name, "float64"), column.scale)
    bounded = ops.op("Min", ops.op("Max", scaled, -PLAIN_LIMIT), PLAIN_LIMIT)
    return ops.cast(bounded, "float32", output=output)
