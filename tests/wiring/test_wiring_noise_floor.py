"""Both parts of the noise floor, in the unit of live score differences, and by slice."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from onnx import TensorProto, helper, numpy_helper

from fairlead.bundle.calibration import Calibration
from fairlead.bundle.runtime import Predictor
from fairlead.bundle.signature import signature_for
from fairlead.features.statistics import StatisticsBuilder
from fairlead.features.transform import Transform
from fairlead.records.codec import from_json, to_json
from fairlead.records.data import Statistics
from fairlead.spec.features import Features
from fairlead.wiring.drafts import twin_path
from fairlead.wiring.noise_floor import NoiseFloor, measure_noise

FEATURES = Features(numeric=("distance",), categorical=("carrier",))
CLASSES = {"binary": ("no", "yes"), "multiclass": ("a", "b", "c"), "regression": ()}


def validation(rows: int = 400) -> pa.Table:
    """Carriers AA, twice as often as BB; label 0 to 50."""
    return pa.table(
        {
            "distance": np.linspace(0, 1, rows),
            "carrier": [("AA", "BB", "AA")[index % 3] for index in range(rows)],
            "__label__": np.linspace(0, 50, rows),
        }
    )


def network(transform: Transform, outputs: int, shift: float) -> bytes:
    """logits = the sum of the numeric columns, and `shift` more in the first."""
    width = {tensor.name: tensor.shape[0] for tensor in transform.tensors}
    weights = np.ones((width["numeric"], outputs), np.float32)
    bias = np.zeros(outputs, np.float32)
    bias[0] += shift
    nodes = [
        helper.make_node("MatMul", ["numeric", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info("numeric", TensorProto.FLOAT, ["rows", width["numeric"]]),
            helper.make_tensor_value_info("categorical", TensorProto.INT64, ["rows", width["categorical"]]),
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", outputs])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(bias, "bias")],
    )
    model: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    ).SerializeToString()
    return model


def measured(scratch: Path, task: str, *, twin: float | None = 0.5, min_rows: int = 10) -> NoiseFloor:
    """The floor of a network whose twin differs by `twin` in its first logit."""
    draft, data = scratch / "draft", validation()
    draft.mkdir()
    transform = Transform.fit(data.to_batches(), FEATURES)
    (draft / "transform.json").write_bytes(transform.to_json())
    signature = signature_for(transform.fields, task, CLASSES[task], threshold=0.5 if task == "binary" else None)
    (draft / "signature.json").write_bytes(to_json(signature))
    builder = StatisticsBuilder(["distance", "carrier", "__label__"])
    builder.update(data)
    (draft / "statistics.json").write_bytes(to_json(builder.finish()))
    outputs = 3 if task == "multiclass" else 1
    (draft / "model.onnx").write_bytes(network(transform, outputs, 0.0))
    if twin is not None:
        twin_path(draft).write_bytes(network(transform, outputs, twin))
    calibration = Calibration(task=task)  # type: ignore[arg-type]
    return measure_noise(
        draft, data, Predictor.of_draft(draft).predict_table(data).logits, calibration, threshold=signature.threshold,
        slices={"carrier": np.asarray(data["carrier"].to_pylist(), dtype=object)}, min_rows=min_rows,
    )  # fmt: skip


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_a_model_is_as_far_from_itself_as_rounding_is(tmp_path: Path, task: str) -> None:
    assert measured(tmp_path, task).numeric < 1e-6


def test_a_regressions_noise_is_in_units_of_its_labels_range_as_live_differences_are(tmp_path: Path) -> None:
    floor = measured(tmp_path, "regression")
    assert floor.retraining == pytest.approx(0.5 / 50, rel=1e-3)
    assert floor.retraining_flips is None


def test_of_several_classes_it_is_the_total_variation_as_live_differences_are(tmp_path: Path) -> None:
    """Equal logits but for the first, which the twin lifts by 0.5."""
    floor = measured(tmp_path, "multiclass")
    lifted = np.exp(0.5) / (np.exp(0.5) + 2)
    assert floor.retraining == pytest.approx(lifted - 1 / 3, rel=1e-3)
    assert floor.retraining_flips == 0


def test_another_seed_changes_labels_near_the_threshold_and_the_slices_have_noises_of_their_own(tmp_path: Path) -> None:
    floor = measured(tmp_path, "binary", min_rows=200)
    assert floor.retraining_flips is not None
    assert 0.05 < floor.retraining_flips < 0.3
    assert set(floor.slices) == {"carrier=AA"}, "BB has too few rows"
    assert floor.slices["carrier=AA"] == pytest.approx(floor.retraining, rel=0.1)


def test_without_a_second_network_only_the_numeric_part_is_known(tmp_path: Path) -> None:
    floor = measured(tmp_path, "binary", twin=None)
    assert (floor.retraining, floor.retraining_flips, floor.slices) == (None, None, {})
    assert floor.numeric < 1e-6


def test_a_bundle_keeps_both_parts_and_an_older_one_has_none() -> None:
    builder = StatisticsBuilder(["distance"])
    builder.update(validation())
    stored = replace(builder.finish(), retraining_noise=0.02, numeric_noise=1e-9, slice_noise={"carrier=AA": 0.03})
    assert from_json(Statistics, to_json(stored)) == stored
    older = to_json(stored).replace(b'"numeric_noise"', b'"else"').replace(b'"slice_noise"', b'"other"')
    assert from_json(Statistics, older).numeric_noise is None
