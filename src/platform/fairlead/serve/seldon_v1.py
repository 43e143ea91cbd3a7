"""Seldon's V1 protocol: messages to rows, answers to arrays. What `seldon-core` needs to host a bundle.

seldon-core itself is not imported here, because it lives in an environment of its own: see images/seldon_wrapper.
"""

import math
from typing import Any

import numpy as np

from fairlead.bundle.predictor import Prediction
from fairlead.records.model import Signature
from fairlead.serve.parsing import RequestParser, Row
from fairlead.serve.refusals import Refusal, bad_field

_EXPECTED = 'expected {"data": {"names": [...], "ndarray": [[...], ...]}} or a tensor with shape and values'


def read_rows(message: Any, parser: RequestParser) -> list[Row]:
    """The rows of a SeldonMessage (JSON), checked against the model's signature.

    Columns are the ones in `names`; without names, the model's inputs in their order. A model whose only input is a
    block, such as an image, takes one block per row, nested or flat. Raises Refusal.
    """
    if type(message) is not dict:
        raise Refusal(400, "invalid_json", "the body must be a JSON object", field="body")
    data = message.get("data")
    if type(data) is not dict:
        raise bad_field("data", _EXPECTED)
    rows = _values(data)
    inputs = parser.signature.inputs
    if len(inputs) == 1 and inputs[0].shape:
        return parser.check_rows([{inputs[0].name: row} for row in rows], "data")
    names = _names(data.get("names"), [field.name for field in inputs])
    for index, row in enumerate(rows):
        if type(row) is not list or len(row) != len(names):
            found = f"{len(row)} values" if type(row) is list else "no list of values"
            raise bad_field("data", f"row {index} has {found}; the columns are {', '.join(names)}", "wrong_shape")
    return parser.check_rows([dict(zip(names, row, strict=True)) for row in rows], "data")


def check_feedback(message: Any) -> None:
    """A reward is a finite number. What else a Feedback holds, seldon-core checks itself. Raises Refusal."""
    if type(message) is not dict:
        raise Refusal(400, "invalid_json", "the body must be a JSON object", field="body")
    reward = message.get("reward", 0)
    if type(reward) not in (int, float) or not abs(reward) <= 1.8e308:
        raise bad_field("reward", "reward must be a finite number", "wrong_type")


def class_names(signature: Signature) -> list[str]:
    """The columns of `answer_array`."""
    return list(signature.classes) or ["value"]


def answer_array(signature: Signature, prediction: Prediction) -> np.ndarray:
    """[N, C] probabilities in the order of the classes, as classifiers answer in V1, or [N, 1] values."""
    if signature.task == "binary":
        return np.column_stack([1.0 - prediction.scores, prediction.scores])
    return prediction.scores.reshape(len(prediction.scores), -1)


def metadata(model: str, version: int, digest: str, signature: Signature) -> dict[str, Any]:
    """What `init_metadata` of a Seldon model gives."""
    inputs = {"names": [field.name for field in signature.inputs]}
    return {
        "name": model,
        "versions": [str(version)],
        "platform": "onnx_onnxruntime",
        "inputs": [{"messagetype": "ndarray", "schema": inputs}],
        "outputs": [{"messagetype": "ndarray", "schema": {"names": class_names(signature)}}],
        "custom": {"digest": digest, "task": signature.task},
    }


def _values(data: dict[str, Any]) -> list[Any]:
    """One entry per row."""
    if type(data.get("ndarray")) is list:
        return list(data["ndarray"])
    tensor = data.get("tensor")
    if type(tensor) is not dict:
        raise bad_field("data", _EXPECTED)
    values, shape = tensor.get("values"), tensor.get("shape")
    if type(values) is not list:
        raise bad_field("data", "the tensor's values must be a list of numbers", "wrong_shape")
    if type(shape) is not list or len(shape) < 2 or not all(type(size) is int and size >= 0 for size in shape):
        raise bad_field("data", "the tensor's shape must be a list of at least two sizes", "wrong_shape")
    if math.prod(shape) != len(values):
        raise bad_field(
            "data", f"the tensor has {len(values)} values, its shape says {math.prod(shape)}", "wrong_shape"
        )
    width = math.prod(shape[1:])
    return [values[index : index + width] for index in range(0, len(values), width)] if width else [[]] * shape[0]


def _names(given: Any, inputs: list[str]) -> list[str]:
    if given is None or given == []:
        return inputs
    if type(given) is not list or not all(type(name) is str for name in given):
        raise bad_field("names", "names must be a list of strings")
    if len(set(given)) != len(given):
        raise bad_field("names", "a name is given twice", "duplicate_field")
    return list(given)
