"""A fitted transform at rest: every constant as JSON, floats with every bit."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any

import orjson

from fairlead.errors import TransformError
from fairlead.features.columns import Columns
from fairlead.features.crosses import CrossColumn
from fairlead.features.encoders import CategoricalColumn, DatetimeColumn, ImageColumn, NumericColumn
from fairlead.features.ranges import RangeColumn
from fairlead.features.words import TextColumn

# 1 knows numbers, categories, points in time and one picture. 2 adds what `_LATER` and `_LATER_KINDS` name. A transform
# that has none of it is written as 1: bundles keep their digests, and older versions can read it.
_FORMATS = (1, 2)
_LATER = {NumericColumn: ("log",), DatetimeColumn: ("encode",)}
_KINDS: dict[str, type[Any]] = {"numeric": NumericColumn, "categorical": CategoricalColumn, "datetime": DatetimeColumn}
_LATER_KINDS: dict[str, type[Any]] = {"ranges": RangeColumn, "crosses": CrossColumn, "text": TextColumn}


def to_json(columns: Columns) -> bytes:
    """UTF-8 JSON; equal columns give equal bytes."""
    value: dict[str, Any] = {name: [_plain(c) for c in getattr(columns, name)] for name in _KINDS}
    value["image"] = None if columns.image is None else _plain(columns.image)
    later = {name: [_plain(c) for c in getattr(columns, name)] for name in _LATER_KINDS if getattr(columns, name)}
    grown = any(key in c for kind, keys in _LATER.items() for key in keys for c in value[_name(kind)])
    value |= later | {"format": 2 if later or grown else 1}
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)


def from_json(data: bytes | str) -> Columns:
    """Read what `to_json` wrote. Raises TransformError when it is something else, or written by a later version."""
    try:
        value = orjson.loads(data)
        if value["format"] not in _FORMATS:
            known = " and ".join(map(str, _FORMATS))
            raise TransformError(
                f"transform of format {value['format']}, this version reads {known}",
                fix="use the version of fairlead that wrote it, or a later one",
            )
        image = value["image"]
        return Columns(
            **{name: tuple(_column(kind, c) for c in value[name]) for name, kind in _KINDS.items()},
            **{name: tuple(_column(kind, c) for c in value.get(name, ())) for name, kind in _LATER_KINDS.items()},
            image=None if image is None else _column(ImageColumn, image),
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise TransformError("not a fitted transform", why=str(error)) from error


def _plain(column: Any) -> dict[str, object]:
    """The constants of a column by name; later ones only where they are not the default."""
    later = _LATER.get(type(column), ())
    constants = [constant for constant in fields(column) if constant.init]
    return {
        constant.name: getattr(column, constant.name)
        for constant in constants
        if constant.name not in later or getattr(column, constant.name) != constant.default
    }


def _column(kind: type[Any], value: Mapping[str, Any]) -> Any:
    known = {constant.name: constant.default is MISSING for constant in fields(kind) if constant.init}
    _refuse(kind, "lacks", [name for name, required in known.items() if required and name not in value])
    _refuse(kind, "has the unknown", [name for name in value if name not in known])
    return kind(**{name: tuple(entry) if isinstance(entry, list) else entry for name, entry in value.items()})


def _refuse(kind: type[Any], what: str, names: Sequence[str]) -> None:
    if names:
        raise TypeError(f"a {kind.__name__} {what} {', '.join(names)}")


def _name(kind: type[Any]) -> str:
    return next(name for name, known in _KINDS.items() if known is kind)
