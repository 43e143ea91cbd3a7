"""What a field or an error code means, from the models and the error classes themselves."""

import difflib
import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fairlead.errors import UsageError, all_errors
from fairlead.spec.fields import ITEM, NAME, FieldDoc, field_table, generic


@dataclass(frozen=True, slots=True)
class ErrorDoc:
    """One error code. `family` names the class above it."""

    code: str
    name: str
    text: str
    exit_code: int
    family: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """What was found for a word: one field with the fields below it, several fields of that name, or an error code."""

    fields: tuple[FieldDoc, ...] = ()
    below: tuple[FieldDoc, ...] = ()
    about: str = ""
    error: ErrorDoc | None = None


def explain(word: str, more: Iterable[FieldDoc] = ()) -> Explanation:
    """Explain ``train.precision``, ``precision``, ``evaluate.gates[0].min``, ``features.numeric.distance.clip`` or
    ``FL-205``; `more` are fields of other files. Raises UsageError with the nearest match for anything else."""
    word = word.strip()
    if re.fullmatch(r"(?i)fl-?\d+", word):
        return Explanation(error=_error(word))
    table = field_table() | {doc.path: doc for doc in more}
    path = _path_of(word, table)
    if path in table:
        return _explain_field(table[path], table)
    last = path.rsplit(".", 1)[-1].removesuffix(ITEM)
    named = [doc for p, doc in table.items() if p == path or p.endswith(f".{path}")]
    # A key below columns of any name: schema.columns.monotonic.
    named = named or [doc for p, doc in table.items() if f".{NAME}." in p and p.replace(f".{NAME}", "") == word]
    if len(named) == 1:
        return _explain_field(named[0], table)
    if named:
        return Explanation(fields=tuple(named))
    by_class = [doc for doc in error_docs() if doc.name.lower() == word.lower()]
    if by_class:
        return Explanation(error=by_class[0])
    close = difflib.get_close_matches(path, table, n=1, cutoff=0.7)
    if not close:
        names = {p.rsplit(".", 1)[-1]: p for p in reversed(table)}
        close = [names[n] for n in difflib.get_close_matches(last, names, n=1)]
    fix = f"did you mean {close[0]}?" if close else "fairlead schema prints all fields; codes look like FL-205"
    raise UsageError(f"there is no field or error code {word}", fix=fix)


def error_docs() -> tuple[ErrorDoc, ...]:
    """All error codes, in order."""
    return tuple(
        ErrorDoc(cls.code, cls.__name__, _paragraph(cls), cls.exit_code, cls.__bases__[0].__name__)
        for cls in all_errors()
        if "code" in vars(cls)
    )


def describe(doc: FieldDoc) -> list[tuple[str, str]]:
    """A field as facts for a person."""
    facts = [("type", doc.expected), ("unit", doc.unit), ("default", "required" if doc.required else doc.default)]
    if (
        not doc.sections
        and doc.default not in ("", "none")
        and ITEM not in doc.path
        and NAME not in doc.path
        and doc.path in field_table()
    ):
        facts.append(("example", f"--set {doc.path}={doc.choices[-1] if doc.choices else doc.default}"))
    return [(name, text) for name, text in facts if text]


def section_words(doc: FieldDoc) -> str:
    """What the section behind a field is for; "" for a plain field."""
    return " ".join(_paragraph(section) for section in doc.sections)


def _explain_field(doc: FieldDoc, table: Mapping[str, FieldDoc]) -> Explanation:
    prefixes = (f"{doc.path}.", f"{doc.path}{ITEM}.", f"{doc.path}.{NAME}.")
    below = []
    for path, other in table.items():
        rest = next((path.removeprefix(p) for p in reversed(prefixes) if path.startswith(p)), "")
        if rest and "." not in rest:
            below.append(other)
    return Explanation(fields=(doc,), below=tuple(below), about=section_words(doc))


def _path_of(word: str, table: Mapping[str, FieldDoc]) -> str:
    parts: list[str | int] = []
    for part in re.sub(r"\[(\d*)\]", r".\1", word).split("."):
        parts.append(0 if part == "" or part.isdecimal() else part)
    return generic(tuple(parts), table)


def _error(code: str) -> ErrorDoc:
    number = re.sub(r"(?i)fl-?", "", code)
    docs = {doc.code: doc for doc in error_docs()}
    wanted = f"FL-{number.zfill(3)}"
    if wanted in docs:
        return docs[wanted]
    near = [c for c in docs if c[:4] == wanted[:4]] or list(docs)
    raise UsageError(f"there is no error code {wanted}", fix=f"codes near it: {', '.join(near[:12])}")


def _paragraph(cls: type) -> str:
    text = inspect.getdoc(cls) or ""
    return " ".join(text.replace("``", "").split())
