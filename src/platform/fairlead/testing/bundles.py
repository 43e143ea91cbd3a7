"""Small real bundles for tests: a linear ONNX graph behind a real transform. Needs the `onnx` package."""

from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
from onnx import TensorProto, helper, numpy_helper

from fairlead.bundle.bundle import seal
from fairlead.bundle.calibration import Calibration, Task
from fairlead.bundle.layout import MODEL, SIGNATURE, STATISTICS, TRANSFORM
from fairlead.bundle.signature import signature_for
from fairlead.features.statistics import StatisticsBuilder
from fairlead.features.transform import Transform
from fairlead.records.codec import to_json
from fairlead.records.model import BundleManifest
from fairlead.spec.features import Features

CLASSES: dict[Task, tuple[str, ...]] = {"binary": ("no", "yes"), "multiclass": ("a", "b", "c"), "regression": ()}


def sample_table(rows: int = 200, seed: int = 0) -> pa.Table:
    """Rows with two numbers, one of them sometimes missing, and a category."""
    random = np.random.default_rng(seed)
    distance = [
        None if missing else float(value)
        for missing, value in zip(random.random(rows) < 0.1, random.gamma(2, 300, rows), strict=True)
    ]
    return pa.table(
        {
            "distance": pa.array(distance, pa.float64()),
            "wind": pa.array(random.normal(10, 4, rows), pa.float64()),
            "carrier": pa.array(random.choice(["AA", "B6", "UA"], rows).tolist(), pa.string()),
        }
    )


def linear_graph(transform: Transform, task: Task, seed: int = 0) -> onnx.ModelProto:
    """A graph with the transform's inputs: numbers times seeded weights, plus a seeded value per category."""
    random = np.random.default_rng(seed)
    outputs = len(CLASSES[task]) if task == "multiclass" else 1
    specs = {spec.name: spec for spec in transform.tensors}
    numbers, categories = specs["numeric"].shape[0], specs["categorical"].cardinalities
    shape = ["N", outputs] if task == "multiclass" else ["N"]
    output = "value" if task == "regression" else "logits"
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["numeric", "weights"], ["of_numbers"]),
            helper.make_node("Gather", ["categorical", "first_column"], ["category"], axis=1),
            helper.make_node("Gather", ["table", "category"], ["of_category"], axis=0),
            helper.make_node("Add", ["of_numbers", "of_category"], ["sum"]),
            helper.make_node("Reshape", ["sum", "shape"], [output]),
        ],
        "linear",
        [
            helper.make_tensor_value_info("numeric", TensorProto.FLOAT, ["N", numbers]),
            helper.make_tensor_value_info("categorical", TensorProto.INT64, ["N", len(categories)]),
        ],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
        [
            numpy_helper.from_array(random.normal(size=(numbers, outputs)).astype(np.float32), "weights"),
            numpy_helper.from_array(random.normal(size=(categories[0], outputs)).astype(np.float32), "table"),
            numpy_helper.from_array(np.asarray(0, np.int64), "first_column"),
            numpy_helper.from_array(np.asarray([-1, outputs] if task == "multiclass" else [-1], np.int64), "shape"),
        ],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return model


def write_draft(
    folder: Path,
    *,
    task: Task = "binary",
    seed: int = 0,
    table: pa.Table | None = None,
    features: Features | None = None,
) -> Path:
    """A draft of a model of `features` of `table`; by default of `sample_table`'s columns."""
    folder.mkdir(parents=True, exist_ok=True)
    table = sample_table(seed=1) if table is None else table
    features = features or Features(numeric=("distance", "wind"), categorical=("carrier",))
    transform = Transform.fit(table.to_batches(), features)
    statistics = StatisticsBuilder(table.column_names)
    for batch in table.to_batches():
        statistics.update(batch)
    (folder / TRANSFORM).write_bytes(transform.to_json())
    (folder / STATISTICS).write_bytes(to_json(statistics.finish()))
    (folder / SIGNATURE).write_bytes(to_json(signature_for(transform.fields, task, CLASSES[task])))
    (folder / MODEL).write_bytes(linear_graph(transform, task, seed).SerializeToString())
    return folder


def sealed_bundle(
    folder: Path, *, model: str = "flights", task: Task = "binary", seed: int = 0, run: str = "run-1"
) -> BundleManifest:
    """A sealed bundle; another `seed` gives other weights, hence another digest."""
    write_draft(folder, task=task, seed=seed)
    lineage = {"data_fingerprint": "f" * 64, "code_version": "test", "seed": seed, "run": run}
    calibration = Calibration(task="regression") if task == "regression" else Calibration("temperature", task, 1.5)
    return seal(folder, model, lineage, calibration, f"# {model}\n")
