"""Real bundles with real, tiny ONNX graphs: honest ones, one that fails for some rows, one that never ends."""

import itertools
from datetime import datetime
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
from onnx import TensorProto, helper, numpy_helper

from fairlead.bundle.bundle import publish, seal
from fairlead.bundle.calibration import Calibration
from fairlead.bundle.signature import signature_for
from fairlead.features.statistics import StatisticsBuilder
from fairlead.features.transform import Transform
from fairlead.records.codec import to_json
from fairlead.records.release import Arm
from fairlead.spec.features import Features
from fairlead.store.protocol import Store

MODEL = "delays"
CARRIERS = ("AA", "UA", "DL", "B6")
ROW = {"distance": 1089.0, "wind": 12.5, "carrier": "AA", "at": "2013-07-01T08:30:00"}

_folders = itertools.count()


def table(rows: int = 400, seed: int = 0) -> pa.Table:
    """Rows with the columns of ROW and the label."""
    random = np.random.default_rng(seed)
    return pa.table(
        {
            "distance": random.uniform(100, 2500, rows),
            "wind": pa.array([None if i % 50 == 0 else float(i % 30) for i in range(rows)]),
            "carrier": [CARRIERS[i % len(CARRIERS)] for i in range(rows)],
            "at": [datetime(2013, 1 + i % 12, 1 + i % 28, i % 24) for i in range(rows)],
            "__label__": [int(i % 4 == 0) for i in range(rows)],
        }
    )


def rows_of(count: int, seed: int = 1) -> list[dict[str, object]]:
    """Rows as a client sends them."""
    rows = table(count, seed).drop_columns(["__label__"]).to_pylist()
    return [{**row, "at": row["at"].isoformat()} for row in rows]


FEATURES = Features(numeric=("distance", "wind"), categorical=("carrier",), datetime=("at",))


def write_bundle(
    store: Store, scratch: Path, *, version: int, bias: float = 0.0, fault: str = "", trips: int = 0
) -> Arm:
    """Publish a bundle and give its arm. `fault`: "" | "fails" (for carrier AA) | "hangs" (`trips` loop turns)."""
    folder = scratch / f"draft-{next(_folders)}"
    folder.mkdir(parents=True)
    data = table()
    transform = Transform.fit(data.to_batches(), FEATURES)
    (folder / "transform.json").write_bytes(transform.to_json())
    signature = signature_for(transform.fields, "binary", ("false", "true"), threshold=0.5)
    (folder / "signature.json").write_bytes(to_json(signature))
    statistics = StatisticsBuilder(["distance", "wind", "carrier", "at", "__label__"])
    statistics.update(data)
    (folder / "statistics.json").write_bytes(to_json(statistics.finish()))
    inputs = {tensor.name: tensor.shape[0] for tensor in transform.tensors}
    aa = transform.categorical[0].index("AA")
    model = graph(inputs["numeric"], inputs["categorical"], bias=bias, fault=fault, trips=trips, bad_index=aa)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    manifest = seal(folder, MODEL, {"version": version}, Calibration(task="binary"), "# Tiny")
    return Arm(version, publish(store, folder), manifest.digest)


def graph(
    num_numeric: int, num_categorical: int, *, bias: float, fault: str = "", trips: int = 0, bad_index: int = 0
) -> onnx.ModelProto:
    """logits [N] = numeric @ w + bias + table[carrier]."""
    random = np.random.default_rng(3)
    constants = {
        "weights": random.normal(size=num_numeric).astype(np.float32),
        "bias": np.array(bias, np.float32),
        "table": np.linspace(-0.5, 0.5, 1024).astype(np.float32),
        "column": np.array(0, np.int64),
    }
    nodes = [
        helper.make_node("MatMul", ["numeric", "weights"], ["product"]),
        helper.make_node("Gather", ["categorical", "column"], ["index" if fault != "fails" else "true_index"], axis=1),
        helper.make_node("Gather", ["table", "index"], ["effect"], axis=0),
        helper.make_node("Add", ["product", "effect"], ["sum"]),
    ]
    if fault == "fails":
        constants |= {"bad_index": np.array(bad_index, np.int64), "outside": np.array(5000, np.int64)}
        nodes[2:2] = [
            helper.make_node("Equal", ["true_index", "bad_index"], ["is_bad"]),
            helper.make_node("Cast", ["is_bad"], ["bad_number"], to=TensorProto.INT64),
            helper.make_node("Mul", ["bad_number", "outside"], ["jump"]),
            helper.make_node("Add", ["true_index", "jump"], ["index"]),
        ]
    if fault == "hangs":
        constants |= {"trips": np.array(trips, np.int64), "true": np.array(True), "zero": np.array(0, np.float32)}
        nodes.append(helper.make_node("Loop", ["trips", "true", "zero"], ["endless"], body=_endless_body()))
        nodes.append(helper.make_node("Add", ["bias", "endless"], ["shift"]))
        nodes.append(helper.make_node("Add", ["sum", "shift"], ["logits"]))
    else:
        nodes.append(helper.make_node("Add", ["sum", "bias"], ["logits"]))
    return helper.make_model(
        helper.make_graph(
            nodes,
            "tiny",
            [
                helper.make_tensor_value_info("numeric", TensorProto.FLOAT, ["rows", num_numeric]),
                helper.make_tensor_value_info("categorical", TensorProto.INT64, ["rows", num_categorical]),
            ],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows"])],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )


def _endless_body() -> onnx.GraphProto:
    return helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Sin", ["state"], ["next_state"]),
        ],
        "turn",
        [
            helper.make_tensor_value_info("turn_number", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next_state", TensorProto.FLOAT, []),
        ],
    )
