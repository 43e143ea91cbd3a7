"""The ```console blocks of a document: lines after "$ " are commands, the others are what they print."""

import re
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Command:
    """A command and what the document shows of its output."""

    text: str
    shown: tuple[str, ...]


def commands_of(document: Path) -> list[Command]:
    """All commands of all console blocks, in order. Raises ValueError for a block that does not begin with one."""
    found: list[Command] = []
    for language, body in _FENCE.findall(document.read_text(encoding="utf-8")):
        if language != "console":
            continue
        lines = body.splitlines()
        if not lines or not lines[0].startswith("$ "):
            raise ValueError(f"a console block of {document.name} does not begin with a command: {body!r}")
        for line in lines:
            if line.startswith("$ "):
                found.append(Command(line[2:], ()))
            elif line.strip():
                found[-1] = Command(found[-1].text, (*found[-1].shown, line))
    return found


def languages_of(document: Path) -> set[str]:
    """The languages of a document's fenced blocks; "" where none is named."""
    return {language for language, _ in _FENCE.findall(document.read_text(encoding="utf-8"))}


def missing_lines(shown: tuple[str, ...], printed: str) -> list[str]:
    """The lines that the document shows and the command did not print. Numbers, digests and blanks may differ."""
    there = {_substance(line) for line in printed.splitlines()}
    return [line for line in shown if _substance(line) not in there]


def _substance(line: str) -> str:
    words = re.sub(r"[0-9a-f]{8,}|\d[\d.,:-]*", "0", line).split()
    return " ".join(words)
