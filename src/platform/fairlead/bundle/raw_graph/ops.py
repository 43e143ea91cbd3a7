"""Writing ONNX nodes as expressions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

Name = str
TYPES = {"float64": TensorProto.DOUBLE, "float32": TensorProto.FLOAT, "int64": TensorProto.INT64}


class Ops:
    """Collects nodes and constants; every method adds one operator and gives the name of its output.

    An operand is a name, or an array or number that becomes a constant. Operators broadcast as numpy does.
    """

    def __init__(self, prefix: str) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self._prefix, self._count = prefix, 0
        self._known: dict[tuple[Any, ...], Name] = {}

    def op(self, kind: str, *operands: Any, output: Name = "", domain: str = "", **attributes: Any) -> Name:
        """Add the operator `kind`; `output` names what it gives."""
        inputs = [operand if isinstance(operand, str) else self.constant(operand) for operand in operands]
        output = output or self._name(kind)
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, domain=domain, **attributes))
        return output

    def constant(self, value: Any) -> Name:
        """A float64, int64, float32 or string constant; equal ones are kept once."""
        array = np.asarray(value)
        words = array.tobytes() if array.dtype.kind != "O" else tuple(array.tolist())
        key = (array.dtype.str, array.shape, words)
        if key not in self._known:
            self._known[key] = self._name("constant")
            tensor = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), self._known[key])
            self.constants.append(tensor)
        return self._known[key]

    def cast(self, operand: Name, dtype: str, output: Name = "") -> Name:
        """Another type of number."""
        return self.op("Cast", operand, output=output, to=TYPES[dtype])

    def column(self, operand: Name) -> Name:
        """[N] as [N, 1]."""
        return self.op("Unsqueeze", operand, np.array([1], np.int64))

    def joined(self, operands: Sequence[Name], output: Name = "") -> Name:
        """[N, A], [N, B], ... as [N, A + B + ...]."""
        return self.op("Concat", *operands, output=output, axis=1)

    def _name(self, kind: str) -> Name:
        self._count += 1
        return f"{self._prefix}/{kind.lower()}_{self._count}"
