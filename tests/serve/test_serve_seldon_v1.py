"""Seldon's V1 messages: what is read from them, what is refused, what is answered."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fairlead.bundle.bundle import Bundle
from fairlead.bundle.calibration import Task
from fairlead.bundle.predictor import Predictor
from fairlead.records.model import Field, Signature
from fairlead.serve.parsing import RequestParser
from fairlead.serve.refusals import Refusal
from fairlead.serve.seldon_v1 import answer_array, check_feedback, class_names, metadata, read_rows
from fairlead.testing.bundles import sealed_bundle

INPUTS = (
    Field("distance", "float", "FP64"),
    Field("wind", "float", "FP64"),
    Field("carrier", "string", "BYTES"),
)
ROW = {"distance": 600.0, "wind": 10.0, "carrier": "AA"}


def parser(inputs: tuple[Field, ...] = INPUTS, **options: Any) -> RequestParser:
    return RequestParser(Signature("binary", inputs, (), ("no", "yes")), **options)


@pytest.mark.parametrize(
    "data",
    [
        {"ndarray": [[600.0, 10.0, "AA"]]},
        {"names": [], "ndarray": [[600.0, 10.0, "AA"]]},
        {"names": ["carrier", "wind", "distance"], "ndarray": [["AA", 10.0, 600.0]]},
    ],
)
def test_columns_are_named_or_in_the_models_order(data: dict[str, Any]) -> None:
    assert read_rows({"data": data}, parser()) == [ROW]


def test_a_tensor_is_cut_into_rows() -> None:
    rows = read_rows({"data": {"tensor": {"shape": [2, 2], "values": [1, 2, 3, 4]}}}, parser(INPUTS[:2]))
    assert rows == [{"distance": 1, "wind": 2}, {"distance": 3, "wind": 4}]


def test_missing_values_are_null_or_left_out() -> None:
    rows = read_rows({"data": {"names": ["carrier"], "ndarray": [[None], ["AA"]]}}, parser())
    assert rows == [{"distance": None, "wind": None, "carrier": value} for value in (None, "AA")]


@pytest.mark.parametrize(
    "data", [{"ndarray": [[[1, 2], [3, 4]]]}, {"tensor": {"shape": [1, 2, 2], "values": [1, 2, 3, 4]}}]
)
def test_a_model_of_one_block_takes_a_block_per_row(data: dict[str, Any]) -> None:
    (row,) = read_rows({"data": data}, parser((Field("image", "tensor", "FP32", (2, 2), True),)))
    np.testing.assert_array_equal(row["image"], np.asarray([[1, 2], [3, 4]], np.float32))


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (None, "invalid_json"),
        ([], "invalid_json"),
        ({}, "invalid_field"),
        ({"data": 5}, "invalid_field"),
        ({"data": {}}, "invalid_field"),
        ({"jsonData": {}}, "invalid_field"),
        ({"data": {"ndarray": {}}}, "invalid_field"),
        ({"data": {"ndarray": []}}, "no_rows"),
        ({"data": {"ndarray": [5]}}, "wrong_shape"),
        ({"data": {"ndarray": [[1, 2]]}}, "wrong_shape"),
        ({"data": {"ndarray": [[1, 2, "AA"], [1]]}}, "wrong_shape"),
        ({"data": {"ndarray": [[1, "2", "AA"]]}}, "wrong_type"),
        ({"data": {"ndarray": [[float("nan"), 2, "AA"]]}}, "not_finite"),
        ({"data": {"ndarray": [[10**400, 2, "AA"]]}}, "out_of_range"),
        ({"data": {"names": "abc", "ndarray": [[1, 2, "AA"]]}}, "invalid_field"),
        ({"data": {"names": ["wind", "wind"], "ndarray": [[1, 2]]}}, "duplicate_field"),
        ({"data": {"names": ["wind", "x"], "ndarray": [[1, 2]]}}, "unknown_field"),
        ({"data": {"tensor": {"shape": [1, 3], "values": [1]}}}, "wrong_shape"),
        ({"data": {"tensor": {"shape": [3], "values": [1, 2, 3]}}}, "wrong_shape"),
        ({"data": {"tensor": {"shape": [1, -3], "values": []}}}, "wrong_shape"),
        ({"data": {"tensor": {"shape": [2, 0], "values": []}}}, "wrong_shape"),
        ({"data": {"tensor": {"values": 3}}}, "wrong_shape"),
        ({"data": {"ndarray": [[1, 2, "AA"]] * 3}}, "too_many_rows"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_code(message: Any, code: str) -> None:
    with pytest.raises(Refusal) as refused:
        read_rows(message, parser(max_rows=2))
    assert refused.value.code == code
    assert 400 <= refused.value.status < 500
    assert refused.value.message


@pytest.mark.parametrize(
    ("task", "names"), [("binary", ["no", "yes"]), ("multiclass", ["a", "b", "c"]), ("regression", ["value"])]
)
def test_answers_have_a_column_per_class(task: Task, names: list[str], tmp_path: Path) -> None:
    sealed_bundle(tmp_path / "bundle", task=task)
    bundle = Bundle.load(tmp_path / "bundle")
    prediction = Predictor(bundle).predict_rows([ROW, {**ROW, "wind": 3.0}])
    array = answer_array(bundle.signature, prediction)
    assert class_names(bundle.signature) == names
    assert array.shape == (2, len(names))
    if task != "regression":
        np.testing.assert_allclose(array.sum(axis=1), 1.0, rtol=1e-12)
    last = array[:, -1] if task == "binary" else array.reshape(prediction.scores.shape)
    np.testing.assert_array_equal(last, prediction.scores)
    told = metadata("flights", 3, bundle.digest, bundle.signature)
    assert (told["versions"], told["custom"]["digest"]) == (["3"], bundle.digest)
    json.dumps(told)


@pytest.mark.parametrize("message", [{}, {"reward": 1}, {"reward": -0.5, "truth": {"data": {}}}])
def test_feedback_with_a_number_passes(message: dict[str, Any]) -> None:
    check_feedback(message)


@pytest.mark.parametrize("message", [None, [], {"reward": "1"}, {"reward": True}, {"reward": float("nan")}])
def test_feedback_without_a_number_is_refused(message: Any) -> None:
    with pytest.raises(Refusal):
        check_feedback(message)
