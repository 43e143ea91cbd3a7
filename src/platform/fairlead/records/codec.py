"""Records to JSON values and back: dataclasses, enums, tuples, dicts, datetimes. Reading ignores unknown keys.

A rollout writes and reads its record at each decision, so what a type needs is worked out once per type."""

import dataclasses
import enum
import functools
import types
import typing
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

import orjson

T = TypeVar("T")

_PLAIN = frozenset({str, int, float, bool, type(None)})


def to_value(record: Any) -> Any:
    """A JSON-able value of `record`."""
    kind = type(record)
    if kind in _PLAIN:
        return record
    names = _names(kind)
    if names is not None:
        return {name: to_value(getattr(record, name)) for name in names}
    if isinstance(record, enum.Enum):
        return record.value
    if isinstance(record, datetime):
        return record.isoformat()
    if isinstance(record, Mapping):
        return {str(key): to_value(value) for key, value in record.items()}
    if isinstance(record, (list, tuple, set, frozenset)):
        return [to_value(value) for value in record]
    return record


def to_json(record: Any, *, indent: bool = True) -> bytes:
    """UTF-8 JSON with sorted keys: equal records give equal bytes."""
    options = orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY | (orjson.OPT_INDENT_2 if indent else 0)
    return orjson.dumps(to_value(record), option=options)


def from_json(cls: type[T], data: bytes | str) -> T:
    """Read what `to_json` wrote. Raises ValueError for what is no JSON, KeyError when a field is missing."""
    return typing.cast(T, from_value(cls, orjson.loads(data)))


def from_value(cls: Any, value: Any) -> Any:
    """Build `cls` (a dataclass, enum, container or plain type) from a JSON value."""
    return _read(_reader(cls), value)


@functools.cache
def _names(kind: type) -> tuple[str, ...] | None:
    """The fields of a dataclass, None for other types."""
    return tuple(field.name for field in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else None


def _read(reader: Callable[[Any], Any], value: Any) -> Any:
    return value if value is None else reader(value)


def _same(value: Any) -> Any:
    return value


@functools.cache
def _reader(cls: Any) -> Callable[[Any], Any]:
    """How a JSON value becomes a `cls`; never called with None, which stays None wherever it stands."""
    origin, arguments = typing.get_origin(cls), typing.get_args(cls)
    if cls is Any:
        return _same
    if origin in (typing.Union, types.UnionType):
        options = [option for option in arguments if option is not type(None)]
        return _reader(options[0]) if len(options) == 1 else _same
    if origin is tuple and not (len(arguments) == 2 and arguments[1] is Ellipsis):
        kinds = [_reader(argument) for argument in arguments]
        return lambda value: tuple(_read(kind, item) for kind, item in zip(kinds, value, strict=True))
    if origin in (tuple, list):
        each, made = _reader(arguments[0]), origin
        return lambda value: made([item if item is None else each(item) for item in value])
    if isinstance(origin, type) and issubclass(origin, Mapping):
        values = _reader(arguments[1])
        return lambda value: {key: _read(values, item) for key, item in value.items()}
    if dataclasses.is_dataclass(cls):
        return functools.partial(_read_record, typing.cast(type, cls))
    if isinstance(cls, type) and issubclass(cls, enum.Enum):
        return cls
    if cls is datetime:
        return datetime.fromisoformat
    if cls is float:
        return lambda value: value if type(value) is float or not isinstance(value, int) else float(value)
    return _same


def _read_record(cls: type, value: Mapping[str, Any]) -> Any:
    known = {}
    for name, hint in _hints(cls):
        if name in value:
            item = value[name]
            known[name] = item if item is None or hint is _same else hint(item)
    return cls(**known)


@functools.cache
def _hints(cls: type) -> tuple[tuple[str, Callable[[Any], Any]], ...]:
    hints = typing.get_type_hints(cls)
    return tuple((field.name, _reader(hints[field.name])) for field in dataclasses.fields(cls) if field.init)
