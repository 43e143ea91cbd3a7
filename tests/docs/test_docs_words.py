"""What the documentation names is there: files behind links, verbs, options, targets of make, error codes, fields."""

import importlib
import re
from pathlib import Path

import pytest

from fairlead.cli.frame import build_parser
from fairlead.cli.verbs import VERBS
from fairlead.errors import all_errors
from fairlead.spec.fields import all_fields

REPOSITORY = Path(__file__).parents[2]
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted((REPOSITORY / "docs").rglob("*.md")),
    *sorted((REPOSITORY / "examples").rglob("*.md")),
]
_CODE = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
_LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))


def code_of(page: Path) -> list[str]:
    """All inline code of a page, with line ends as blanks."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [" ".join(found.split()) for found in _CODE.findall(text)]


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    targets = [target for target, _ in _LINK.findall(page.read_text(encoding="utf-8")) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


@each_page
def test_commands_in_running_text_exist(page: Path) -> None:
    for code in code_of(page):
        words = code.split()
        if words[0] != "fairlead" or len(words) == 1 or words[1].startswith("-") or words[1].isupper():
            continue
        verb, below = words[1], VERBS[words[1]].below if words[1] in VERBS else None
        assert below is not None, code
        rest = [word for word in words[2:] if re.fullmatch(r"[a-z]+", word)]
        assert not below or not rest or rest[0] in below, code
        options = {word for word in words if re.fullmatch(r"--[a-z-]+", word)}
        if options and not below:
            parser = build_parser(verb, importlib.import_module(f"fairlead.cli.{verb}"))
            assert options <= set(parser.option_names()), code


@each_page
def test_targets_of_make_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE))
    named = {code.split()[1] for code in code_of(page) if re.fullmatch(r"make [a-z-]+", code)}
    assert named <= targets


@each_page
def test_codes_and_fields_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert set(re.findall(r"FL-\d{3}", text)) <= {error.code for error in all_errors()}
    named = {code for code in code_of(page) if re.fullmatch(r"(data|train|evaluate|serve|deploy)(\.[a-z_]+)+", code)}
    files = {name for name in named if name.endswith(".py")}
    assert named - files <= {doc.path for doc in all_fields()}
