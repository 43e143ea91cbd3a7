"""Records to JSON values and back: dataclasses, enums, tuples, dicts, datetimes. Reading ignores unknown keys."""

import dataclasses
import enum
import functools
import types
import typing
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

import orjson

T = TypeVar("T")


def to_value(record: Any) -> Any:
    """A JSON-able value of `record`."""
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        return {f.name: to_value(getattr(record, f.name)) for f in dataclasses.fields(record)}
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
    origin = typing.get_origin(cls)
    if cls is Any or value is None:
        return value
    if origin in (typing.Union, types.UnionType):
        options = [option for option in typing.get_args(cls) if option is not type(None)]
        return from_value(options[0], value) if len(options) == 1 else value
    if origin in (tuple,):
        arguments = typing.get_args(cls)
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(from_value(arguments[0], item) for item in value)
        return tuple(from_value(kind, item) for kind, item in zip(arguments, value, strict=True))
    if origin in (list,):
        return [from_value(typing.get_args(cls)[0], item) for item in value]
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        kind = typing.get_args(cls)[1]
        return {key: from_value(kind, item) for key, item in value.items()}
    if dataclasses.is_dataclass(cls):
        hints = _hints(typing.cast(type, cls))
        known = {name: from_value(hint, value[name]) for name, hint in hints.items() if name in value}
        return typing.cast(type, cls)(**known)
    if isinstance(cls, type) and issubclass(cls, enum.Enum):
        return cls(value)
    if cls is datetime:
        return datetime.fromisoformat(value)
    if cls is float and isinstance(value, int):
        return float(value)
    return value


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}
