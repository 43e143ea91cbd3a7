"""The raw graph in a real ONNX Runtime answers as the transform and the predictor do."""

import re
from datetime import datetime
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow as pa
import pytest
from every_step import FEATURES, FITTED, NUMBERS, SCHEMA, row, training_table
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.bundle.bundle import Bundle, seal
from fairlead.bundle.calibration import Calibration, Task
from fairlead.bundle.raw_graph.graph import raw_graph, transform_graph
from fairlead.bundle.raw_graph.inputs import inputs_of, raw_arrays
from fairlead.bundle.raw_graph.parity import check_parity, generated_rows
from fairlead.errors import ExportMismatch
from fairlead.features.transform import Transform
from fairlead.spec.features import Features
from fairlead.testing.bundles import sealed_bundle, write_draft


def session(content: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


TRANSFORM_GRAPH = session(transform_graph(FITTED.columns))
LOGGED = [i for i, column in enumerate(FITTED.numeric) if column.log]


@settings(max_examples=300, deadline=None)
@given(st.lists(row, min_size=1, max_size=5))
def test_the_transform_in_onnx_gives_the_same_tensors(rows: list[dict[str, object]]) -> None:
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    check(FITTED, table)


def check(fitted: Transform, table: pa.Table, graph: onnxruntime.InferenceSession = TRANSFORM_GRAPH) -> int:
    expected = fitted.apply_table(table)
    names = [entry.name for entry in graph.get_outputs()]
    found = dict(zip(names, graph.run(None, raw_arrays(fitted.columns, table)), strict=True))
    assert {name.removeprefix("transform/") for name in found} == set(expected)
    different = 0
    for name, tensor in expected.items():
        given = found[f"transform/{name}"]
        assert (given.dtype, given.shape) == (tensor.dtype, tensor.shape)
        if name != "numeric":
            np.testing.assert_array_equal(given, tensor)
            continue
        plain = [i for i in range(tensor.shape[1]) if i not in LOGGED]
        np.testing.assert_array_equal(given[:, plain], tensor[:, plain])
        # The runtime's logarithm is its own: the last bit of a float32 may differ, and what scaling makes of it.
        np.testing.assert_allclose(given, tensor, rtol=3e-7, atol=3e-7)
        different += int((given != tensor).sum())
    return different


def test_generated_rows_have_the_same_tensors() -> None:
    table = training_table(20_000, seed=17)
    different = check(FITTED, table)
    print(f"20,000 rows, {len(NUMBERS)} numbers: {different} numbers differ in the last bit, all of them logarithms")
    assert different <= 20


@settings(max_examples=500, deadline=None)
@given(st.lists(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)), min_size=1, max_size=20))
def test_the_calendar_in_onnx_is_python_s(moments: list[datetime]) -> None:
    clocks = pa.array(moments, pa.timestamp("us"))
    table = pa.table({"at": clocks})
    parts = CALENDAR.datetime[0].columns(clocks)
    (found,) = CALENDAR_GRAPH.run(None, raw_arrays(CALENDAR.columns, table))
    np.testing.assert_array_equal(found, np.stack(parts, axis=1))


def _calendar() -> Transform:
    parts = ["hour", "minute", "weekday", "day", "month", "dayofyear", "week"]
    features = Features.model_validate({"datetime": {"at": {"parts": parts}}})
    return Transform.fit(pa.table({"at": pa.array([datetime(2013, 1, 1)])}).to_batches(), features)


CALENDAR = _calendar()
CALENDAR_GRAPH = session(transform_graph(CALENDAR.columns))


def test_every_day_of_four_hundred_years_has_its_parts() -> None:
    days = np.arange(np.datetime64("1800-01-01"), np.datetime64("2200-01-02"))
    clocks = pa.array(days.astype("datetime64[us]") + np.timedelta64(1439, "m"))
    expected = np.stack(CALENDAR.datetime[0].columns(clocks), axis=1)
    (found,) = CALENDAR_GRAPH.run(None, raw_arrays(CALENDAR.columns, pa.table({"at": clocks})))
    np.testing.assert_array_equal(found, expected)


def test_what_onnx_cannot_hash_comes_as_an_index() -> None:
    inputs = {entry.name: (entry.datatype, entry.shape, entry.raw) for entry in inputs_of(FITTED.columns)}
    assert inputs["plain"] == ("FP64", (), True)
    assert inputs["code"] == ("BYTES", (), True)
    assert inputs["carrier.index"] == ("INT64", (), False)
    assert inputs["title.tokens"] == ("INT64", (4,), False)
    assert inputs["at"] == ("INT64", (), True)
    assert [entry.name for entry in TRANSFORM_GRAPH.get_inputs()] == list(inputs)


@pytest.mark.parametrize("opset", [17, 20, 22])
def test_the_operators_are_those_of_old_and_new_runtimes(opset: int) -> None:
    check(FITTED, training_table(50, seed=2), session(transform_graph(FITTED.columns, opset)))


ISOTONIC = Calibration("isotonic", "binary", x=(-2.0, -1.0, 0.5, 3.0), y=(0.1, 0.1, 0.6, 0.9))


def sealed(folder: Path, task: Task, calibration: Calibration) -> Bundle:
    write_draft(folder, task=task, table=training_table(), features=FEATURES)
    seal(folder, "every", {}, calibration, "# every\n")
    return Bundle.load(folder)


@pytest.mark.parametrize(
    ("task", "calibration"),
    [
        ("binary", Calibration("temperature", "binary", 1.5)),
        ("binary", ISOTONIC),
        ("binary", Calibration("isotonic", "binary", x=(0.0,), y=(0.3,))),
        ("multiclass", Calibration("temperature", "multiclass", 0.7)),
        ("regression", Calibration(task="regression")),
    ],
)
def test_a_bundle_answers_raw_columns_as_the_predictor_does(
    task: Task, calibration: Calibration, tmp_path: Path
) -> None:
    bundle = sealed(tmp_path / "bundle", task, calibration)
    graph = raw_graph(bundle)
    for rows in (None, training_table(500, seed=8)):
        found = check_parity(bundle, graph, rows)
        assert found.rows in (2_000, 500)
        assert found.largest <= 1e-6
    runtime = session(graph.content)
    assert [entry.name for entry in runtime.get_inputs()] == [entry.name for entry in graph.inputs]
    assert [entry.name for entry in runtime.get_outputs()] == [entry.name for entry in bundle.signature.outputs]
    assert runtime.get_modelmeta().custom_metadata_map == {"fairlead.bundle": bundle.digest}
    assert raw_graph(bundle).content == graph.content


def test_a_graph_of_another_bundle_is_found_out(tmp_path: Path) -> None:
    for seed in (0, 1):
        sealed_bundle(tmp_path / str(seed), seed=seed)
    one, other = (Bundle.load(tmp_path / str(seed)) for seed in (0, 1))
    with pytest.raises(ExportMismatch, match=re.escape("the raw graph's scores differ")):
        check_parity(one, raw_graph(other))


def test_a_column_named_as_an_output_is_refused(tmp_path: Path) -> None:
    table = training_table(50).rename_columns([*["score"], *SCHEMA.names[1:]])
    write_draft(tmp_path / "b", table=table, features=Features(numeric=("score",), categorical=("code",)))
    seal(tmp_path / "b", "named", {}, Calibration("temperature", "binary", 1.0), "# named\n")
    with pytest.raises(ExportMismatch, match="score twice"):
        raw_graph(Bundle.load(tmp_path / "b"))


def test_generated_rows_cover_what_is_missing_unseen_and_extreme() -> None:
    rows = generated_rows(FITTED.columns, 500, seed=1)
    assert set(rows.column_names) == set(SCHEMA.names)
    assert all(rows[name].null_count > 0 for name in rows.column_names)
    tensors = FITTED.apply_table(rows)
    assert np.isfinite(tensors["numeric"]).all()
    unseen = 1 + len(FITTED.categorical[0].values)
    assert (tensors["categorical"][:, 0] >= unseen).any()
