"""The whole graph: raw columns, transform, network, calibration, label."""

from dataclasses import dataclass

import onnx
from onnx import TensorProto, compose, helper

from fairlead.bundle.bundle import Bundle
from fairlead.bundle.graph_check import check_graph
from fairlead.bundle.layout import MODEL
from fairlead.bundle.raw_graph.answer import add_answer
from fairlead.bundle.raw_graph.columns import add_transform
from fairlead.bundle.raw_graph.inputs import RawInput, inputs_of
from fairlead.bundle.raw_graph.ops import Ops
from fairlead.errors import ExportMismatch
from fairlead.features.columns import Columns

_TENSOR = "transform/"
_NETWORK = "network/"
_OLDEST_OPSET = 17
_ML_OPSET = 3
_TYPES = {
    "FP64": TensorProto.DOUBLE,
    "FP32": TensorProto.FLOAT,
    "INT64": TensorProto.INT64,
    "BYTES": TensorProto.STRING,
}


@dataclass(frozen=True, slots=True)
class RawGraph:
    """The content of an ONNX file and what it takes."""

    content: bytes
    inputs: tuple[RawInput, ...]


def raw_graph(bundle: Bundle) -> RawGraph:
    """A bundle as one graph whose outputs are those of its signature. Raises ExportMismatch when its network is written
    for an ONNX operator set that is too old."""
    columns = bundle.transform.columns
    _check_names(bundle, columns)
    network = onnx.load_from_string(bundle.read(MODEL))
    opset = next((entry.version for entry in network.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < _OLDEST_OPSET:
        raise ExportMismatch(
            f"the network is written for ONNX operator set {opset}",
            where=str(bundle.folder / MODEL),
            fix=f"export it for {_OLDEST_OPSET} or later",
        )
    network = compose.add_prefix(network, _NETWORK)
    taken = {entry.name.removeprefix(_NETWORK) for entry in network.graph.input}
    before = _transform_model(columns, opset, network.ir_version, taken)
    given = [(f"{_TENSOR}{name}", f"{_NETWORK}{name}") for name in sorted(taken)]
    _import_ml(network)
    joined = compose.merge_models(before, network, io_map=given, outputs=[network.graph.output[0].name])
    ops = Ops("answer")
    add_answer(ops, network.graph.output[0].name, bundle.signature, bundle.calibration)
    joined.graph.node.extend(ops.nodes)
    joined.graph.initializer.extend(ops.constants)
    del joined.graph.output[:]
    for output in bundle.signature.outputs:
        shape = ["rows", *output.shape]
        joined.graph.output.append(helper.make_tensor_value_info(output.name, _TYPES[output.datatype], shape))
    del joined.graph.value_info[:]
    joined.graph.name = bundle.manifest.model
    joined.producer_name = "fairlead"
    joined.metadata_props.add(key="fairlead.bundle", value=bundle.digest)
    content: bytes = joined.SerializeToString(deterministic=True)
    check_graph(content, MODEL)
    return RawGraph(content, inputs_of(columns))


def transform_graph(columns: Columns, opset: int = 20) -> bytes:
    """The transform alone, for other tools: its tensors are the outputs `transform/<name>`."""
    content: bytes = _transform_model(columns, opset, 9, set()).SerializeToString(deterministic=True)
    return content


def _transform_model(columns: Columns, opset: int, ir_version: int, taken: set[str]) -> onnx.ModelProto:
    """With the tensors `taken` as outputs, or all of them."""
    ops = Ops("transform/step")
    tensors = add_transform(ops, columns, _TENSOR)
    types = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}
    specs = {spec.name: spec for spec in columns.tensors}
    inputs = [
        helper.make_tensor_value_info(entry.name, _TYPES[entry.datatype], ["rows", *entry.shape])
        for entry in inputs_of(columns)
    ]
    outputs = [
        helper.make_tensor_value_info(output, types[specs[name].dtype], ["rows", *specs[name].shape])
        for name, output in tensors.items()
        if not taken or name in taken
    ]
    graph = helper.make_graph(ops.nodes, "transform", inputs, outputs, ops.constants)
    model: onnx.ModelProto = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", _ML_OPSET)],
        ir_version=ir_version,
    )
    return model


def _check_names(bundle: Bundle, columns: Columns) -> None:
    """One name, one thing: a graph cannot have an input and an output of the same name."""
    names = [entry.name for entry in inputs_of(columns)] + [output.name for output in bundle.signature.outputs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ExportMismatch(
            f"a graph cannot have {', '.join(twice)} twice among its inputs and outputs",
            where=str(bundle.folder),
            fix="name the column differently in the data",
        )


def _import_ml(model: onnx.ModelProto) -> None:
    if all(entry.domain != "ai.onnx.ml" for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid("ai.onnx.ml", _ML_OPSET))
