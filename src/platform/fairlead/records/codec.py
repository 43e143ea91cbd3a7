"""Records to JSON values and back: dataclasses, enums, tuples, dicts, datetimes. Reading ignores unknown keys.

A rollout writes and reads its record at each decision, so what a type needs is worked out once per type."""

import dataclasses
import enum
import functools
import operator
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
    kind: Any = type(record)
    if kind in _PLAIN:
        return record
    fields = _fields(kind)
    if fields is not None:
        names, values = fields
        return {
            name: value if type(value) in _PLAIN else to_value(value)
            for name, value in zip(names, values(record), strict=True)
        }
    if isinstance(record, enum.Enum):
        return record.value
    if isinstance(record, datetime):
        return record.isoformat()
    if isinstance(record, Mapping):
        return {str(key): to_value(value) for key, value in record.items()}
    if isinstance(record, (list, tuple, set, frozenset)):
        return [value if type(value) in _PLAIN else to_value(value) for value in record]
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
def _fields(kind: type) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]] | None:
    """The names of a dataclass's fields and how to get their values, None for other types."""
    if not dataclasses.is_dataclass(kind):
        return None
    names = tuple(field.name for field in dataclasses.fields(kind))
    if len(names) < 2:  # attrgetter gives a tuple for two and more only
        return names, lambda record: tuple(getattr(record, name) for name in names)
    return names, operator.attrgetter(*names)


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
        return _record_reader(typing.cast(type, cls))
    if isinstance(cls, type) and issubclass(cls, enum.Enum):
        return cls
    if cls is datetime:
        return datetime.fromisoformat
    if cls is float:
        return lambda value: value if type(value) is float or not isinstance(value, int) else float(value)
    return _same


def _record_reader(cls: type) -> Callable[[Any], Any]:
    """How a JSON object becomes a dataclass. Its fields are looked at when the first one is read, so that a type may
    contain itself."""
    readers: list[tuple[str, Callable[[Any], Any] | None]] = []

    def read(value: Mapping[str, Any]) -> Any:
        if not readers:
            hints = typing.get_type_hints(cls)
            kinds = ((field.name, _reader(hints[field.name])) for field in dataclasses.fields(cls) if field.init)
            readers.extend((name, None if reader is _same else reader) for name, reader in kinds)
        known = {}
        for name, reader in readers:
            if name in value:
                item = value[name]
                known[name] = item if reader is None or item is None else reader(item)
        return cls(**known)

    return read
