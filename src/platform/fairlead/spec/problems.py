"""What pydantic found wrong, in the words of the project file: place, field, what was expected, what is there, and the
nearest valid key."""

import difflib
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import ValidationError

from fairlead.errors import SpecError
from fairlead.spec.fields import NAME, field_table, generic, keys_at
from fairlead.spec.yaml_source import Document, Path, Problem, dotted

_SECRET_KEY = re.compile(
    r"(?i)(^|[_.-])(pass(word|wd|phrase)?|secret|token|api_?key|access_?key|credentials?)($|[_.-])"
)
_SECRET_VALUE = re.compile(
    r"(AKIA|ASIA)[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY|gh[pousr]_[A-Za-z0-9]{30,}|xox[abpr]-[A-Za-z0-9-]{10,}"
    r"|://[^/\s:@]+:[^/\s@]+@"
)
_REFERENCE = re.compile(r"\$\{?\w+\}?|env:\w+")


def nearest(word: str, candidates: Iterable[str]) -> str:
    """The candidate most like `word`, or ""."""
    options = list(candidates)
    lower = {option.lower(): option for option in options}
    found = difflib.get_close_matches(word.lower(), lower, n=1, cutoff=0.6)
    return lower[found[0]] if found else ""


def looks_secret(path: Path, value: object) -> bool:
    """True for text that should never stand in a file that is shared."""
    if not isinstance(value, str) or _REFERENCE.fullmatch(value):
        return False
    key = next((part for part in reversed(path) if isinstance(part, str)), "")
    return bool(_SECRET_VALUE.search(value)) or (len(value) >= 8 and bool(_SECRET_KEY.search(key)))


def problems_of(error: ValidationError, document: Document) -> list[Problem]:
    """Each error of `error` once, in document order. Of a field that may have several shapes only the shape that was
    meant is reported."""
    alone: list[tuple[Path, Any]] = []
    unions: dict[Path, dict[str, list[tuple[Path, Any]]]] = defaultdict(lambda: defaultdict(list))
    for detail in error.errors(include_url=False):
        path, union, branch = _data_path(detail["loc"], detail["type"], document.value)
        if union is None:
            alone.append((path, detail))
        else:
            unions[union][branch].append((path, detail))
    for union, branches in unions.items():
        # A branch with errors further inside fitted the shape; it is the one that was meant.
        inside = [found for found in branches.values() if any(len(path) > len(union) for path, _ in found)]
        if inside:
            alone.extend(inside[0])
        else:
            alone.append((union, {"type": "union", "msg": "", "ctx": {}}))
    return list(dict.fromkeys(_problem(path, detail, document) for path, detail in alone))


def _data_path(loc: Sequence[str | int], kind: str, data: Any) -> tuple[Path, Path | None, str]:
    """The path in the file for pydantic's `loc`, which also holds names of union branches; and the first union."""
    path: list[str | int] = []
    union: Path | None = None
    branch = ""
    for position, part in enumerate(loc):
        last = position == len(loc) - 1
        if _has(data, part):
            data = data[part]
        elif last and kind == "missing" and isinstance(data, dict):
            pass
        else:
            if union is None:
                union, branch = tuple(path), str(part)
            continue
        path.append(part)
    return tuple(path), union, branch


def _has(data: Any, part: str | int) -> bool:
    if isinstance(part, int):
        return isinstance(data, list) and part < len(data)
    return isinstance(data, dict) and part in data


def _problem(path: Path, detail: Any, document: Document) -> Problem:
    kind, words = detail["type"], dotted(path) or "the file"
    doc = field_table().get(generic(path))
    if kind == "extra_forbidden":
        return Problem(document.place_of_key(path), words, "unknown key", _key_suggestion(path))
    if kind == "missing":
        what = f"is required: {doc.description.rstrip('.').lower()}" if doc else "is required"
        return Problem(
            document.place_of_key(path[:-1]), words, what, f"expected {_with_article(doc.expected)}" if doc else ""
        )
    value = _value_at(document.value, path)
    place = document.place_of_value(path)
    if kind == "value_error" and (isinstance(value, (dict, list)) or path == ()):
        return Problem(place, words, str(detail["msg"]).removeprefix("Value error, "))
    got = describe_value(path, value)
    in_list = isinstance(path[-1], int) if path else False
    while doc is None and path:
        path = path[:-1]
        doc = field_table().get(generic(path))
    expected = (doc.item if in_list and doc.item else doc.expected) if doc else str(detail["msg"])
    suggestion = ""
    if doc and doc.choices and isinstance(value, str):
        choice = nearest(value, doc.choices)
        suggestion = f"did you mean {choice}?" if choice else ""
    elif isinstance(value, (int, float)) and doc and "text" in doc.words and not isinstance(value, bool):
        suggestion = f'put it in quotes: "{value}"'
    return Problem(place, words, f"expected {_with_article(expected)}; got {got}", suggestion)


def _with_article(words: str) -> str:
    plain = ("text", "one of", "true or false", "off")
    return words if words.startswith(plain) else f"a {words}"


def _key_suggestion(path: Path) -> str:
    key = str(path[-1])
    siblings = [k.removesuffix("[]") for k in keys_at(generic(path[:-1])) if k != NAME]
    close = nearest(key, siblings)
    if close:
        return f"did you mean {close}?"
    elsewhere = [p for p in field_table() if p.rsplit(".", 1)[-1] == key]
    if elsewhere:
        return f"did you mean {elsewhere[0]}?"
    return f"valid here: {', '.join(siblings)}" if siblings else ""


def _value_at(data: Any, path: Path) -> Any:
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def describe_value(path: Path, value: Any) -> str:
    """A value in an error message; never a secret."""
    if looks_secret(path, value):
        return "a text that looks like a secret"
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return f"a mapping ({', '.join(map(str, list(value)[:4]))})" if value else "an empty mapping"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"


def spec_error(document: Document, problems: Sequence[Problem]) -> SpecError:
    """One error that lists all problems, in the order of the file and then of the command line."""
    ordered = sorted(
        problems, key=lambda p: (p.place.name != document.name, p.place.name, p.place.line, p.place.column)
    )
    count = "1 problem" if len(ordered) == 1 else f"{len(ordered)} problems"
    return SpecError(
        f"{document.name} has {count}",
        where=str(ordered[0].place),
        fix="fairlead explain FIELD describes a field; fairlead schema prints the whole format",
        problems=tuple(
            {"place": str(p.place), "path": p.path, "message": p.message, "suggestion": p.suggestion} for p in ordered
        ),
    )
