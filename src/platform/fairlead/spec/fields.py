"""The fields of the project file as a table: path, type in words, default, unit, limits. Read from the models, so that
error messages, ``fairlead explain`` and the reference can never disagree with what is accepted."""

import functools
import json
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from fairlead.spec import quantities
from fairlead.spec.project import Project

ITEM = "[]"
NAME = "<name>"

_WORDS_OF_PARSER = {
    quantities.parse_share: "share (0.01 or 1%)",
    quantities.parse_seconds: "duration (30s, 5m, 2h, 1d, or seconds)",
    quantities.parse_bytes: "size (512MiB, or bytes)",
    quantities.parse_instant: "date (2013-07-01 or 2013-07-01T12:00:00Z)",
}
_UNIT_OF_PARSER = {
    quantities.parse_share: "share, 0 to 1",
    quantities.parse_seconds: "seconds",
    quantities.parse_bytes: "bytes",
    quantities.parse_instant: "time, UTC unless a zone is given",
}
_UNIT_OF_SUFFIX = {
    "_ms": "milliseconds", "_seconds": "seconds", "_rows": "rows", "_steps": "optimizer steps", "_hours": "hours",
    "_requests": "requests", "percent": "percent, 0 to 100", "steps": "percent, 0 to 100", "epochs": "passes",
    "global_batch": "rows", "_share": "share, 0 to 1",
}  # fmt: skip
_WORDS_OF_TYPE: dict[Any, str] = {str: "text", int: "whole number", float: "number", bool: "true or false"}
_WORD_OF_LIMIT = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


@dataclass(frozen=True, slots=True)
class FieldDoc:
    """One field. `path`: ``train.precision``, ``evaluate.gates[].metric``, ``features.numeric.<name>.clip``."""

    path: str
    words: str
    description: str
    required: bool
    default: str
    unit: str
    limits: str
    choices: tuple[str, ...]
    sections: tuple[type[BaseModel], ...]
    item: str

    @property
    def expected(self) -> str:
        """Type and limits, as an error message says them."""
        if "matching " in self.limits:  # few people read patterns; the description says the same
            return f"{self.words} ({self.description.rstrip('.')})"
        return f"{self.words}, {self.limits}" if self.limits else self.words


def all_fields(model: type[BaseModel] = Project, prefix: str = "") -> Iterator[FieldDoc]:
    """Every field below `model`, in the order in which the models declare them."""
    for name, info in model.model_fields.items():
        path = (f"{prefix}." if prefix else "") + (info.alias or name)
        doc = _describe(path, info)
        yield doc
        for suffix, section in _sections(info.annotation):
            yield from all_fields(section, path + suffix)


@functools.cache
def field_table() -> dict[str, FieldDoc]:
    """All fields by path."""
    return {doc.path: doc for doc in all_fields()}


def keys_at(path: str) -> list[str]:
    """The valid keys directly below a section's path ("" is the whole file)."""
    prefix = f"{path}." if path else ""
    rest = (p.removeprefix(prefix) for p in field_table() if p.startswith(prefix))
    return [p for p in rest if "." not in p]


def generic(path: tuple[str | int, ...], table: Mapping[str, FieldDoc] | None = None) -> str:
    """The path of the table (by default: of all fields) for a path in a document: indices become ``[]``, names of
    columns ``<name>``."""
    table = field_table() if table is None else table
    text = ""
    for part in path:
        if isinstance(part, int):
            text += ITEM
            continue
        direct = f"{text}.{part}" if text else part
        named = f"{text}.{NAME}"
        under_names = any(p.startswith(f"{named}.") for p in table)
        text = named if under_names and direct not in table else direct
    return text


def _describe(path: str, info: FieldInfo) -> FieldDoc:
    annotation = info.annotation
    if any(isinstance(m, BeforeValidator) for m in info.metadata):
        annotation = Annotated[(info.annotation, *info.metadata)]  # type: ignore[assignment]
    return FieldDoc(
        path=path,
        words=type_words(annotation),
        description=info.description or "",
        required=info.is_required(),
        default="" if info.is_required() else _default_words(info),
        unit=_unit(path, annotation),
        limits=_limits(info),
        choices=tuple(_choices(annotation)),
        sections=tuple(section for _, section in _sections(info.annotation)),
        item=_item_words(info.annotation),
    )


def type_words(annotation: Any) -> str:
    """A type as a person says it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        for extra in arguments[1:]:
            if isinstance(extra, BeforeValidator) and extra.func in _WORDS_OF_PARSER:
                return _WORDS_OF_PARSER[extra.func]
        return type_words(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(type_words(a) for a in arguments if a is not type(None)))
    if origin is Literal:
        return ("one of " if len(arguments) > 1 else "") + ", ".join(str(a) for a in arguments)
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return f"list of {_plural(type_words(arguments[0]))}"
        return f"list of {len(arguments)} {_plural(type_words(arguments[0]))}"
    if origin is list:
        return f"list of {_plural(type_words(arguments[0])).removeprefix('one of ')}"
    if origin is dict:
        return "mapping of names to " + _plural(type_words(arguments[1])).replace("mappings", "options")
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping"
    return _WORDS_OF_TYPE.get(annotation, str(annotation))


def _item_words(annotation: Any) -> str:
    """One item of a list, in words; "" where no list is accepted."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is tuple:
        return type_words(arguments[0])
    return next((words for words in map(_item_words, arguments) if words), "")


def _plural(words: str) -> str:
    return {"whole number": "whole numbers", "number": "numbers", "mapping": "mappings", "text": "texts"}.get(
        words, words
    )


def _sections(annotation: Any) -> Iterator[tuple[str, type[BaseModel]]]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield "", annotation
    elif origin in (typing.Union, types.UnionType, Annotated):
        for argument in arguments:
            yield from _sections(argument)
    elif origin is tuple:
        yield from ((ITEM + suffix, section) for suffix, section in _sections(arguments[0]))
    elif origin is dict:
        yield from ((f".{NAME}" + suffix, section) for suffix, section in _sections(arguments[1]))


def _choices(annotation: Any) -> Iterator[str]:
    if get_origin(annotation) is Literal:
        yield from (str(a) for a in get_args(annotation))
    elif not isinstance(annotation, type) or get_origin(annotation) is not None:
        # What a mapping may be keyed by is no choice of its value.
        for argument in get_args(annotation)[1 if get_origin(annotation) is dict else 0 :]:
            yield from _choices(argument)


def _limits(info: FieldInfo) -> str:
    words = []
    for extra in info.metadata:
        for name, word in _WORD_OF_LIMIT.items():
            bound = getattr(extra, name, None)
            if bound is not None:
                words.append(f"{word} {bound:g}" if isinstance(bound, float) else f"{word} {bound}")
        if getattr(extra, "min_length", None):
            words.append(f"at least {extra.min_length} of them")
        if getattr(extra, "max_length", None):
            words.append(f"at most {extra.max_length} of them")
        if getattr(extra, "pattern", None):
            words.append(f"matching {extra.pattern}")
    return ", ".join(words)


def _unit(path: str, annotation: Any) -> str:
    units = list(dict.fromkeys(_units(annotation)))
    if units:
        return " or ".join(units)
    name = path.rsplit(".", 1)[-1]
    return next((unit for suffix, unit in _UNIT_OF_SUFFIX.items() if name.endswith(suffix)), "")


def _units(annotation: Any) -> Iterator[str]:
    if get_origin(annotation) is Annotated:
        for extra in get_args(annotation)[1:]:
            if isinstance(extra, BeforeValidator) and extra.func in _UNIT_OF_PARSER:
                yield _UNIT_OF_PARSER[extra.func]
    elif get_origin(annotation) in (typing.Union, types.UnionType):
        for argument in get_args(annotation):
            yield from _units(argument)


def _default_words(info: FieldInfo) -> str:
    default = info.get_default(call_default_factory=True)
    if isinstance(default, BaseModel):
        return "the defaults of its fields"
    if default is None:
        return "none"
    return json.dumps(default, ensure_ascii=False) if not isinstance(default, str) else default or '""'
