"""The way in: a project file and overrides from the command line become a checked `Project`, or one error that lists
every problem with its place."""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fairlead.errors import SpecError, SpecNotFound
from fairlead.spec.problems import describe_value, looks_secret, problems_of, spec_error
from fairlead.spec.project import Project
from fairlead.spec.yaml_source import MAX_BYTES, Document, Place, Problem, dotted, leaves, read_yaml
from fairlead.spec.yaml_source import Path as DocumentPath

DEFAULT_NAME = "fairlead.yaml"


@dataclass(frozen=True, slots=True)
class LoadedProject:
    """A checked project with where it came from.

    `base` is the folder that relative paths in the project refer to. `sha256` (hex) covers the effective values, with
    defaults and overrides: comments and order change nothing.
    """

    project: Project
    path: Path
    base: Path
    sha256: str


def load_project(path: Path | str, overrides: Sequence[str] = ()) -> LoadedProject:
    """Read and check the project file at `path` (a folder means the ``fairlead.yaml`` in it).

    `overrides` are ``a.b.c=VALUE`` with VALUE in YAML, applied in order. Raises SpecNotFound when there is no such
    file, SpecError with all problems at once when it does not describe a project.
    """
    file = Path(path)
    if os.path.isdir(file):  # Path.is_dir raises for names that are too long
        file = file / DEFAULT_NAME
    text = _read(file)
    project = load_text(text, file.name, overrides)
    return LoadedProject(project, file, file.resolve().parent, project_sha256(project))


def load_text(text: str, name: str = DEFAULT_NAME, overrides: Sequence[str] = ()) -> Project:
    """Check the text of a project file that is called `name` in messages. Raises SpecError."""
    document = read_yaml(text, name)
    if document.value is None and not document.problems:
        message = "the file is empty; fairlead init --from FILE --label COLUMN writes one"
        document.problems.append(Problem(Place(name, 1, 1), "", message))
    elif not isinstance(document.value, dict) and not document.problems:
        message = (
            f"expected a mapping of sections such as data, features, train; got {describe_value((), document.value)}"
        )
        document.problems.append(Problem(Place(name, 1, 1), "", message))
    if not isinstance(document.value, dict):
        raise spec_error(document, document.problems)
    for number, override in enumerate(overrides, 1):
        _override(document, override, Place(f"--set {number}"))
    problems = [*document.problems, *_secrets(document)]
    project = None
    try:
        # JSON, because there "strict" still lets a list become a tuple, but no longer "5" a number or true a 1.
        project = Project.model_validate_json(json.dumps(document.value), strict=True)
    except ValidationError as error:
        # A key that could not be read was reported already; that it is missing as well would only distract.
        reported = {problem.path for problem in problems}
        problems += [p for p in problems_of(error, document) if p.path not in reported]
    if problems or project is None:
        raise spec_error(document, problems)
    return project


def project_sha256(project: Project) -> str:
    """The digest of the effective values."""
    return hashlib.sha256(canonical_json(project)).hexdigest()


def canonical_json(project: Project) -> bytes:
    """All values as JSON with sorted keys, written with the names of the file."""
    values = project.model_dump(mode="json", by_alias=True)
    return json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def _read(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        beside = sorted(p.name for p in file.parent.glob("*.y*ml"))[:3] if file.parent.is_dir() else []
        fix = "fairlead init --from FILE --label COLUMN writes one; -f FILE names another"
        if beside:
            fix = f"-f {beside[0]}, or fairlead init --from FILE --label COLUMN to write one"
        raise SpecNotFound(
            f"there is no project file {file.name}", where=str(file.parent.absolute()), fix=fix
        ) from None
    except OSError as error:
        raise SpecNotFound(f"{file.name} cannot be read", where=str(file), why=error.strerror) from error
    except ValueError as error:  # a NUL in the name
        raise SpecNotFound("the name of the project file is not a name", why=str(error)) from error
    if len(data) > MAX_BYTES:
        raise SpecError(
            f"{file.name} is larger than {MAX_BYTES // 1024} KiB",
            where=str(file),
            fix="name the project file, not a data file",
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SpecError(
            f"{file.name} is not UTF-8", where=f"{file.name}:{line}", why=str(error.reason), fix="save it as UTF-8"
        ) from error


def _override(document: Document, override: str, place: Place) -> None:
    key, equals, text = override.partition("=")
    parts = _parts(key.strip())
    if not equals or not parts:
        message = f"expected KEY=VALUE such as train.epochs=3; got {describe_value((), override)}"
        document.problems.append(Problem(place, "", message))
        return
    value = read_yaml(text, place.name, in_file=False)
    if value.problems:
        document.problems.extend(
            Problem(place, dotted(parts), f"the value is not YAML: {p.message}", p.suggestion) for p in value.problems
        )
        return
    target: Any = document.value
    for index, part in enumerate(parts[:-1]):
        if isinstance(target, dict) and isinstance(part, str):
            if target.get(part) is None:
                target[part] = {}
            target = target[part]
        elif isinstance(target, list) and isinstance(part, int) and part < len(target):
            target = target[part]
        else:
            _no_such_place(document, place, parts, parts[:index], target)
            return
    if not _can_set(target, parts[-1]):
        _no_such_place(document, place, parts, parts[:-1], target)
        return
    target[parts[-1]] = value.value
    _place_below(document, parts, place)


def _can_set(target: Any, part: str | int) -> bool:
    if isinstance(part, int):
        return isinstance(target, list) and part < len(target)
    return isinstance(target, dict)


def _parts(key: str) -> DocumentPath:
    """``evaluate.gates[0].min`` or ``evaluate.gates.0.min`` as a path; () when it is none."""
    words = re.sub(r"\[(\d+)\]", r".\1", key).split(".")
    if not all(words):
        return ()
    return tuple(int(word) if word.isdecimal() and len(word) < 6 else word for word in words)


def _no_such_place(document: Document, place: Place, parts: DocumentPath, at: DocumentPath, found: object) -> None:
    message = f"cannot be set: {dotted(at) or 'the file'} is {describe_value(at, found)}"
    document.problems.append(Problem(place, dotted(parts), message))


def _place_below(document: Document, path: DocumentPath, place: Place) -> None:
    for places in (document.keys, document.values):
        for known in [p for p in places if p[: len(path)] == path]:
            del places[known]
        places[path] = place


def _secrets(document: Document) -> list[Problem]:
    return [
        Problem(
            document.place_of_value(path),
            dotted(path),
            "looks like a secret; a project file holds none",
            "credentials come from the environment, for instance AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
        for path, value in leaves(document.value)
        if looks_secret(path, value)
    ]
