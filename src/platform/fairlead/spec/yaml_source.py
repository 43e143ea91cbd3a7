"""YAML text to plain values, with the place of each key and value, and every oddity as a problem instead of a crash.

Plain scalars follow YAML 1.2: only true and false are booleans (so ``off``, ``no`` and ``yes`` stay words), ``12:30``
and ``2013-07-01`` stay text, ``010`` is ten, ``1e-3`` is a number. Sizes, depth and aliases are bounded, so that a file
of a few lines cannot grow into gigabytes.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_BYTES = 256 * 1024
MAX_DEPTH = 40
MAX_VALUES = 20_000

Path = tuple[str | int, ...]
_TAG = "tag:yaml.org,2002:"
_REFUSED = object()


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is written: a file's line and column (from 1), or ``--set N``."""

    name: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.name}:{self.line}:{self.column}" if self.line else self.name


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where, with which field, what, and the likely remedy."""

    place: Place
    path: str
    message: str
    suggestion: str = ""


@dataclass(slots=True)
class Document:
    """Plain values (dicts, lists, text, numbers, booleans, None) with the places of keys and of values."""

    name: str
    value: Any = None
    keys: dict[Path, Place] = field(default_factory=dict)
    values: dict[Path, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def place_of_key(self, path: Path) -> Place:
        """The place of a key; of the nearest thing around it when it is not written itself."""
        return self._nearest(self.keys, path)

    def place_of_value(self, path: Path) -> Place:
        """The place of a value; of the nearest thing around it when it is not written itself."""
        return self._nearest(self.values, path)

    def _nearest(self, places: dict[Path, Place], path: Path) -> Place:
        if path in places:
            return places[path]
        while path:
            if path in self.keys:
                return self.keys[path]
            path = path[:-1]
        return self.values.get((), Place(self.name, 1, 1))


def dotted(path: Path) -> str:
    """``("evaluate", "gates", 0, "min")`` as ``evaluate.gates[0].min``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else part)
    return text


# The safe loader with the scalar rules of YAML 1.2.
_CoreLoader: Any = type("_CoreLoader", (yaml.SafeLoader,), {"yaml_implicit_resolvers": {}})
_CoreLoader.add_implicit_resolver(_TAG + "bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_CoreLoader.add_implicit_resolver(_TAG + "null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_CoreLoader.add_implicit_resolver(
    _TAG + "int", re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"), list("-+0123456789")
)
_CoreLoader.add_implicit_resolver(
    _TAG + "float",
    re.compile(
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+.0123456789"),
)


def read_yaml(text: str, name: str, *, in_file: bool = True) -> Document:
    """Parse `text`. Never raises for bad text: what is wrong stands in `problems`, and the rest is still read.

    `name` is the file's name, or ``--set N`` (then `in_file` is False and places have no line).
    """
    document = Document(name)
    try:
        _check_shape(text)
        node = yaml.compose(text, Loader=_CoreLoader)
    except yaml.MarkedYAMLError as error:
        document.problems.append(_syntax_problem(error, text, name, in_file))
        return document
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        place = Place(name, before.count("\n") + 1, error.position - (before.rfind("\n") + 1) + 1)
        message = f"the character U+{int(error.character):04X} is not allowed in YAML"
        document.problems.append(Problem(place if in_file else Place(name), "", message))
        return document
    if node is not None:
        document.value = _Converter(document, in_file).convert(node, (), 0)
        if document.value is _REFUSED:
            document.value = None
    return document


def _check_shape(text: str) -> None:
    # The composer recurses; the parser does not. Depth is therefore measured on events first.
    depth = 0
    for event in yaml.parse(text, Loader=_CoreLoader):
        if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            depth += 1
            if depth > MAX_DEPTH:
                raise yaml.MarkedYAMLError(None, None, f"nested deeper than {MAX_DEPTH} levels", event.start_mark)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            depth -= 1


def _syntax_problem(error: yaml.MarkedYAMLError, text: str, name: str, in_file: bool) -> Problem:
    mark = error.problem_mark or error.context_mark
    place = Place(name, mark.line + 1, mark.column + 1) if mark and in_file else Place(name, 1 if in_file else 0, 1)
    message = " ".join(str(part) for part in (error.context, error.problem) if part) or "not YAML"
    suggestion = ""
    lines = text.splitlines()
    if mark and mark.line < len(lines) and "\t" in lines[mark.line][: mark.column + 1]:
        message = "a tab where YAML needs spaces"
        suggestion = "indent with spaces"
    elif "mapping values are not allowed" in message:
        suggestion = "put a text that contains ': ' in quotes, or check the indentation"
    elif "could not find expected ':'" in message:
        suggestion = "write key: value, with a space after the colon"
    elif "expected a single document" in message:
        message, suggestion = "a second document begins here (---)", "keep one document"
    elif "undefined alias" in message:
        suggestion = "put a text that begins with * in quotes"
    return Problem(place, "", message, suggestion)


class _Converter:
    """Turns nodes into values, counting, so that aliases cannot blow up."""

    def __init__(self, document: Document, in_file: bool) -> None:
        self.document = document
        self.in_file = in_file
        self.count = 0

    def convert(self, node: yaml.Node, path: Path, depth: int) -> Any:
        """The value of `node`, or _REFUSED after a problem was noted."""
        self.count += 1
        self.document.values.setdefault(path, self._place(node))
        if depth > MAX_DEPTH or self.count > MAX_VALUES:
            # Said once: after the first report everything else is refused silently.
            if self.count <= MAX_VALUES + 1:
                self.count = MAX_VALUES + 1
                message = f"aliases expand to more than {MAX_VALUES} values or {MAX_DEPTH} levels"
                self._problem(node, path[:4], message, "write the values out")
            return _REFUSED
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            items = [self.convert(item, (*path, index), depth + 1) for index, item in enumerate(node.value)]
            return [item for item in items if item is not _REFUSED]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        return self._problem(node, path, f"the tag {_short(node.tag)} is not allowed", "remove the tag")

    def _mapping(self, node: yaml.MappingNode, path: Path, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._problem(key_node, path, "a key must be plain text", "write key: value")
                continue
            key = key_node.value
            here = (*path, key)
            if key == "<<" and key_node.style is None:
                self._problem(key_node, path, "merge keys (<<) are not supported", "write the values out")
                continue
            if key in result:
                first = self.document.keys[here]
                where = f"line {first.line}" if first.line else "before"
                self._problem(key_node, here, f"the key is written twice (first: {where})", "remove one")
                continue
            self.document.keys[here] = self._place(key_node)
            value = self.convert(value_node, here, depth + 1)
            if value is not _REFUSED:
                result[key] = value
        return result

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        text = node.value
        kind = node.tag.removeprefix(_TAG)
        try:
            match kind:
                case "str":
                    return text
                case "null":
                    return None
                case "bool" if text.lower() in ("true", "false"):
                    return text.lower() == "true"
                case "int":
                    return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
                case "float":
                    number = float(text.replace(".inf", "inf").replace(".nan", "nan").replace(".NaN", "nan").lower())
                    if not math.isfinite(number):
                        return self._problem(node, path, f"{text[:40]} is not a finite number")
                    return number
        except ValueError:
            return self._problem(
                node, path, f"{text[:40]} cannot be read as a number", "write it in quotes if it is text"
            )
        return self._problem(node, path, f"the tag {_short(node.tag)} is not allowed", "remove the tag")

    def _place(self, node: yaml.Node) -> Place:
        if not self.in_file:
            return Place(self.document.name)
        return Place(self.document.name, node.start_mark.line + 1, node.start_mark.column + 1)

    def _problem(self, node: yaml.Node, path: Path, message: str, suggestion: str = "") -> object:
        self.document.problems.append(Problem(self._place(node), dotted(path), message, suggestion))
        return _REFUSED


def _short(tag: str) -> str:
    return (("!!" + tag.removeprefix(_TAG)) if tag.startswith(_TAG) else tag)[:60]


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every scalar with its path."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    else:
        yield path, value
