"""Request bodies to rows: parse, then check each value against the model's signature.

A row maps each input of the signature to a plain value (None: missing) or, for blocks such as images, to a float32
array of the field's shape. What passes here is what the transform takes; everything else is a `Refusal` that names the
field.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from fairlead.features.instants import wall_clock
from fairlead.records.model import Field, Signature
from fairlead.serve.refusals import Refusal, bad_field

Row = dict[str, Any]

_INTEGERS = frozenset({"INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"})
_FLOATS = frozenset({"FP16", "BF16", "FP32", "FP64"})
_INT64_LIMIT = 2**63
_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
_MAX_ID_LENGTH = 128


@dataclass(slots=True)
class ParsedRequest:
    """One request, ready for a model. `outputs` are the names asked for (empty: all)."""

    rows: list[Row]
    id: str | None = None
    outputs: tuple[str, ...] = ()


class RequestParser:
    """Reads the bodies that a model with `signature` takes. Immutable, safe to share."""

    def __init__(self, signature: Signature, *, max_rows: int = 4096) -> None:
        self.signature = signature
        self.max_rows = max_rows
        self._fields = {field.name: field for field in signature.inputs}
        self._scalars: tuple[tuple[str, bool, Callable[[Any, str], Any]], ...] = tuple(
            (field.name, field.required, _checker(field)) for field in signature.inputs if not field.shape
        )
        self._blocks = tuple(field for field in signature.inputs if field.shape)
        self._checkers = {name: check for name, _, check in self._scalars}
        self._outputs = frozenset(output.name for output in signature.outputs)

    # --- plain JSON rows -------------------------------------------------------------------------------------------
    def parse_rows(self, body: bytes) -> ParsedRequest:
        """``{"instances": [{"field": value, ...}, ...]}``. Raises Refusal."""
        document = load_object(body)
        rows = document.get("instances")
        if type(rows) is not list:
            raise bad_field("instances", 'expected {"instances": [{"field": value, ...}, ...]}')
        for key in document:
            if key not in ("instances", "id"):
                raise bad_field(key, f"unknown key {key}", "unknown_field")
        identity = _identity(document.get("id"))
        return ParsedRequest(self.check_rows(rows, "instances"), identity)

    def check_rows(self, rows: list[Any], place: str) -> list[Row]:
        """Check rows in place; afterwards each has exactly the fields of the signature. Raises Refusal."""
        self._check_row_count(len(rows), place)
        for row in rows:
            if type(row) is not dict:
                raise bad_field(place, "each instance must be an object")
            self._check_row(row)
        return rows

    def _check_row(self, row: Row) -> None:
        """Check one row in place. Afterwards it has exactly the fields of the signature."""
        for name, required, check in self._scalars:
            value = row.get(name)
            if value is not None:
                row[name] = check(value, name)
            elif required:
                raise bad_field(name, f"{name} is missing", "missing_field")
            else:
                row[name] = None
        for field in self._blocks:
            if row.get(field.name) is None:
                raise bad_field(field.name, f"{field.name} is missing", "missing_field")
            row[field.name] = _block(row[field.name], field, field.shape)
        if len(row) != len(self._fields):
            unknown = next(name for name in row if name not in self._fields)
            raise bad_field(unknown, f"unknown field {unknown}", "unknown_field")

    # --- Open Inference Protocol V2 --------------------------------------------------------------------------------
    def parse_infer(self, body: bytes) -> ParsedRequest:
        """An Open Inference Protocol V2 inference request (JSON). Raises Refusal."""
        document = load_object(body)
        for key in document:
            if key not in ("id", "parameters", "inputs", "outputs"):
                raise bad_field(key, f"unknown key {key}", "unknown_field")
        inputs = document.get("inputs")
        if type(inputs) is not list or not inputs:
            raise bad_field("inputs", "expected a list of input tensors")
        parameters = document.get("parameters")
        if parameters is not None and type(parameters) is not dict:
            raise bad_field("parameters", "parameters must be an object")
        identity = _identity(document.get("id"))
        outputs = self._requested_outputs(document.get("outputs"))
        columns: dict[str, Any] = {}
        rows = -1
        for tensor in inputs:
            field, shape, data = self._input_header(tensor, columns)
            if field.shape:
                columns[field.name] = _block(data, field, tuple(shape))
            else:
                columns[field.name] = self._scalar_data(field, data, shape)
            if rows < 0:
                rows = shape[0]
                self._check_row_count(rows, field.name)
            elif rows != shape[0]:
                raise bad_field(field.name, f"{field.name} has {shape[0]} rows, others have {rows}", "wrong_shape")
        for name, required, _ in self._scalars:
            if name not in columns:
                if required:
                    raise bad_field(name, f"{name} is missing", "missing_field")
                columns[name] = [None] * rows
        for field in self._blocks:
            if field.name not in columns:
                raise bad_field(field.name, f"{field.name} is missing", "missing_field")
        names = tuple(columns)
        return ParsedRequest(
            [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)], identity, outputs
        )

    def _input_header(self, tensor: Any, seen: Mapping[str, Any]) -> tuple[Field, list[int], Any]:
        if type(tensor) is not dict:
            raise bad_field("inputs", "each input must be an object")
        name = tensor.get("name")
        if type(name) is not str:
            raise bad_field("inputs", "each input needs a name")
        field = self._fields.get(name)
        if field is None:
            raise bad_field(name, f"unknown input {name}", "unknown_field")
        if name in seen:
            raise bad_field(name, f"{name} is given twice", "duplicate_field")
        for key in tensor:
            if key not in ("name", "shape", "datatype", "parameters", "data"):
                raise bad_field(name, f"unknown key {key} in input {name}", "unknown_field")
        if tensor.get("parameters") is not None and type(tensor["parameters"]) is not dict:
            raise bad_field(name, f"parameters of {name} must be an object")
        datatype = tensor.get("datatype")
        if type(datatype) is not str or not _accepts(field.datatype, datatype):
            raise bad_field(name, f"{name} needs datatype {field.datatype}", "wrong_datatype")
        shape = tensor.get("shape")
        if type(shape) is not list or not shape or not all(type(size) is int and size >= 0 for size in shape):
            raise bad_field(name, f"shape of {name} must be a list of sizes", "wrong_shape")
        expected = list(field.shape)
        if shape[1:] != expected and not (not expected and shape[1:] == [1]):
            raise bad_field(name, f"shape of {name} must be {[-1, *expected]}", "wrong_shape")
        if "data" not in tensor:
            raise bad_field(name, f"{name} has no data", "missing_field")
        return field, shape, tensor["data"]

    def _scalar_data(self, field: Field, data: Any, shape: list[int]) -> list[Any]:
        name = field.name
        if type(data) is not list:
            raise bad_field(name, f"data of {name} must be a list", "wrong_shape")
        if len(shape) == 2 and data and type(data[0]) is list:
            if not all(type(item) is list and len(item) == 1 for item in data):
                raise bad_field(name, f"data of {name} does not have the shape {shape}", "wrong_shape")
            data = [item[0] for item in data]
        if len(data) != shape[0]:
            raise bad_field(name, f"{name} has {len(data)} values, its shape says {shape[0]}", "wrong_shape")
        check = self._checkers[name]
        values: list[Any] = []
        for value in data:
            if value is None:
                if field.required:
                    raise bad_field(name, f"{name} is missing", "missing_field")
                values.append(None)
            else:
                values.append(check(value, name))
        return values

    def _requested_outputs(self, outputs: Any) -> tuple[str, ...]:
        if outputs is None:
            return ()
        if type(outputs) is not list:
            raise bad_field("outputs", "outputs must be a list")
        names = []
        for output in outputs:
            name = output.get("name") if type(output) is dict else None
            if type(name) is not str:
                raise bad_field("outputs", "each output needs a name")
            if name not in self._outputs:
                raise bad_field(name, f"unknown output {name}", "unknown_output")
            names.append(name)
        return tuple(names)

    def _check_row_count(self, rows: int, field: str) -> None:
        if rows < 1:
            raise bad_field(field, "at least one row is needed", "no_rows")
        if rows > self.max_rows:
            raise Refusal(413, "too_many_rows", f"{rows} rows; at most {self.max_rows} per request", field=field)


def load_object(body: bytes) -> dict[str, Any]:
    """A JSON object. Raises Refusal for anything else."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal(400, "invalid_json", f"the body is not JSON: {error}", field="body") from None
    if type(document) is not dict:
        raise Refusal(400, "invalid_json", "the body must be a JSON object", field="body")
    return document


def valid_identity(text: str) -> bool:
    """Request ids are printable and at most 128 characters."""
    return 0 < len(text) <= _MAX_ID_LENGTH and text.isprintable()


def _identity(value: Any) -> str | None:
    if value is None:
        return None
    if type(value) is not str or not valid_identity(value):
        raise bad_field("id", f"id must be a printable string of at most {_MAX_ID_LENGTH} characters")
    return value


def _accepts(wanted: str, given: str) -> bool:
    """Datatypes that hold no more than the wanted one; what they hold is checked value by value anyway."""
    if wanted == given:
        return True
    if wanted in _FLOATS:
        return given in _FLOATS or given in _INTEGERS
    return wanted in _INTEGERS and given in _INTEGERS


# --- values ----------------------------------------------------------------------------------------------------------
def _number(value: Any, name: str) -> Any:
    kind = type(value)
    if kind is float or kind is int:
        # One comparison refuses NaN, infinity and what a float32 tensor cannot hold.
        if -_LARGEST_FLOAT32 <= value <= _LARGEST_FLOAT32:
            return value
        if value - value != 0:
            raise bad_field(name, f"{name} is not a finite number", "not_finite")
        raise bad_field(name, f"{name} is out of range", "out_of_range")
    raise bad_field(name, f"{name} must be a number", "wrong_type")


def _integer(value: Any, name: str) -> Any:
    if type(value) is float and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if type(value) is not int:
        if type(value) is float and not math.isfinite(value):
            raise bad_field(name, f"{name} is not a finite number", "not_finite")
        raise bad_field(name, f"{name} must be an integer", "wrong_type")
    if not -_INT64_LIMIT <= value < _INT64_LIMIT:
        raise bad_field(name, f"{name} is out of range", "out_of_range")
    return value


def _text(value: Any, name: str) -> Any:
    if type(value) is not str:
        raise bad_field(name, f"{name} must be a string", "wrong_type")
    return value


def _timestamp(value: Any, name: str) -> Any:
    if type(value) is not str:
        raise bad_field(name, f"{name} must be an ISO 8601 string", "wrong_type")
    try:
        wall_clock(value)
    except ValueError:
        raise bad_field(name, f"{name} must be an ISO 8601 time such as 2013-09-01T08:30:00", "invalid_time") from None
    return value


def _boolean(value: Any, name: str) -> Any:
    if type(value) is not bool:
        raise bad_field(name, f"{name} must be true or false", "wrong_type")
    return value


def _checker(field: Field) -> Callable[[Any, str], Any]:
    if field.kind == "timestamp":
        return _timestamp
    if field.datatype in _FLOATS:
        return _number
    if field.datatype in _INTEGERS:
        return _integer
    return _boolean if field.datatype == "BOOL" else _text


def _block(value: Any, field: Field, shape: tuple[int, ...]) -> np.ndarray:
    """Nested or flat lists as float32 of `shape`."""
    name = field.name
    if type(value) is not list:
        raise bad_field(name, f"{name} must be a list of numbers", "wrong_type")
    flat: list[Any] = value
    if flat and type(flat[0]) is list:
        if len(flat) != shape[0]:
            raise bad_field(name, f"{name} does not have the shape {list(shape)}", "wrong_shape")
        for size in shape[1:]:
            if not all(type(item) is list and len(item) == size for item in flat):
                raise bad_field(name, f"{name} does not have the shape {list(shape)}", "wrong_shape")
            flat = [element for item in flat for element in item]
    if len(flat) != math.prod(shape):
        raise bad_field(name, f"{name} has {len(flat)} numbers, expected the shape {list(shape)}", "wrong_shape")
    if not all(type(element) in (int, float) for element in flat):
        raise bad_field(name, f"{name} must hold numbers only", "wrong_type")
    if not all(-_LARGEST_FLOAT32 <= element <= _LARGEST_FLOAT32 for element in flat):
        raise bad_field(name, f"{name} holds numbers that are not finite or too large", "not_finite")
    return np.asarray(flat, dtype=np.float64).astype(np.float32).reshape(shape)
