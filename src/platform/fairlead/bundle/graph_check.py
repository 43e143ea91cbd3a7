"""What an ONNX file may contain before a runtime is allowed to open it.

A graph can name files outside itself (external data) and operators that only a native library provides. Both are
refused by reading the protobuf wire format directly: the check needs no ONNX package, copies no weights and runs before
the runtime sees a byte. Field numbers are those of onnx/onnx.proto3 (ONNX project, IR version 10).
"""

from collections.abc import Iterator

from fairlead.errors import BundleDamaged

STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
# Messages inside messages; a graph inside a node's attribute is three of them.
MAX_NESTING = 40

_MODEL_GRAPH, _MODEL_TRAINING, _MODEL_FUNCTION = 7, 20, 25
_EXTERNAL = 1

# message -> {field number: message of that field}; fields that are not listed hold nothing that could reference
# something foreign.
_CHILDREN: dict[str, dict[int, str]] = {
    "model": {_MODEL_GRAPH: "graph", _MODEL_TRAINING: "training", _MODEL_FUNCTION: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}

Value = int | memoryview


class _Malformed(ValueError):
    """The bytes are no protobuf message."""


def check_graph(data: bytes, name: str) -> None:
    """Refuse `data` (the content of the file `name`) unless it is an ONNX model that is complete in itself.

    Raises BundleDamaged for external data, operators outside the standard domains (functions that the model defines
    itself are fine), nesting deeper than MAX_NESTING, and bytes that are no ONNX model.
    """
    view = memoryview(data)
    try:
        top = list(_fields(view))
        if not any(number == _MODEL_GRAPH for number, _ in top):
            raise _Malformed("it holds no graph")
        own = {_text(value, 10) for number, value in top if number == _MODEL_FUNCTION and isinstance(value, memoryview)}
        _check(view, "model", own, name, 0)
    except _Malformed as error:
        raise BundleDamaged(
            f"{name} is no ONNX model", where=name, why=str(error), fix="Export the model again."
        ) from error


def _check(message: memoryview, kind: str, own_domains: set[str], name: str, depth: int) -> None:
    if depth > MAX_NESTING:
        raise BundleDamaged(
            f"{name} nests graphs deeper than {MAX_NESTING} levels", where=name, fix="Export a flat model."
        )
    if kind == "tensor":
        _check_tensor(message, name)
        return
    if kind == "node":
        domain = _text(message, 7)
        if domain not in STANDARD_DOMAINS and domain not in own_domains:
            raise BundleDamaged(
                f"{name} uses the custom operator {domain}::{_text(message, 4)}",
                where=f"{name}, node {_text(message, 3) or '(unnamed)'}",
                why="Custom operators need native libraries, and a bundle carries none.",
                fix="Express the model in standard ONNX operators.",
            )
    children = _CHILDREN[kind]
    for number, value in _fields(message):
        if number in children and isinstance(value, memoryview):
            _check(value, children[number], own_domains, name, depth + 1)


def _check_tensor(message: memoryview, name: str) -> None:
    tensor_name = ""
    external = False
    for number, value in _fields(message):
        if number == 8 and isinstance(value, memoryview):
            tensor_name = bytes(value).decode(errors="replace")
        external = external or number == 13 or (number == 14 and value == _EXTERNAL)
    if external:
        raise BundleDamaged(
            f"{name} keeps the tensor {tensor_name or '(unnamed)'} in another file",
            where=name,
            why="A model that names other files could name any file of the machine, and the digest would not cover it.",
            fix="Export with the weights inside (torch.onnx.export(..., external_data=False)).",
        )


def _text(message: Value, field: int) -> str:
    """The last string under `field` of a message, "" when there is none (as protobuf reads it)."""
    found = b""
    if isinstance(message, memoryview):
        for number, value in _fields(message):
            if number == field and isinstance(value, memoryview):
                found = bytes(value)
    return found.decode(errors="replace")


def _fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """(field number, value) of one message: int for varints, a view for everything with a length."""
    position, end = 0, len(message)
    while position < end:
        tag, position = _varint(message, position)
        number, wire = tag >> 3, tag & 7
        # A larger tag is cut to 32 bits by some readers, and then names another field than it does here.
        if number == 0 or tag > 0xFFFFFFFF:
            raise _Malformed(f"field number {number} at byte {position}")
        if wire == 0:
            value, position = _varint(message, position)
            yield number, value
            continue
        if wire == 2:
            length, position = _varint(message, position)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise _Malformed(f"wire type {wire} at byte {position}")
        if position + length > end:
            raise _Malformed(f"it ends inside field {number}")
        yield number, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    result = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            raise _Malformed("it ends inside a number")
        byte = message[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return result, position
    raise _Malformed(f"a number longer than ten bytes at byte {position}")
