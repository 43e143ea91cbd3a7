"""Hostile files end in a coded error with its place, in quarantine, or in the values that were written.

The cases are in hostile/; `make hostile` writes their table.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hostile.all_cases import FEWEST, by_family
from hostile.cases import Case, Refused
from hostile.running import FEATURES, differences, run_case

from fairlead.cli import main
from fairlead.data.proposal import propose
from fairlead.errors import FairleadError
from fairlead.testing.full_disk import unfinished

FAMILIES = by_family()
HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "hostile-files.md"
# Beside what a small file needs: blocks and batches under way, a line of 64 MiB, half a million values of a category.
MOST_MIB = 450


def test_there_are_many_cases_and_each_has_a_name_of_its_own() -> None:
    names = [f"{case.family}: {case.name}" for cases in FAMILIES.values() for case in cases]
    assert len(names) >= FEWEST
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_the_page_has_every_family_with_as_many_cases() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert [name for name, cases in FAMILIES.items() if f"| {name} | {len(cases)} |" not in page] == []


@pytest.mark.parametrize("family", FAMILIES)
def test_each_case_ends_as_it_must(family: str, tmp_path: Path) -> None:
    found = {}
    for number, case in enumerate(FAMILIES[family]):
        folder = tmp_path / str(number)
        folder.mkdir()
        seen = run_case(case, folder)
        if unlike := differences(case, seen, folder):
            found[case.name] = unlike
    assert found == {}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_project_is_proposed_or_refused_with_a_code(family: str, tmp_path: Path) -> None:
    """`fairlead init` looks at a sample: it may see less, but must not fail otherwise."""
    for number, case in enumerate(FAMILIES[family][::5]):
        folder = tmp_path / str(number)
        folder.mkdir()
        case.write(folder)
        said = ""
        try:
            rows = propose(case.source, "late", folder).rows
        except FairleadError as error:
            rows, said = 0, f"{error.what} {error.where}"
        assert rows or said, case.name


def refused_at_once(cases: list[Case]) -> list[Case]:
    """The first that needs nothing but its files, and is refused."""
    return [
        case for case in cases if isinstance(case.outcome, Refused) and not (case.known or case.meddle or case.data)
    ][:1]


SAMPLE = [case for cases in FAMILIES.values() for case in refused_at_once(cases)]


@pytest.mark.parametrize("case", SAMPLE, ids=[case.family.replace(" ", "-") for case in SAMPLE])
def test_the_command_says_the_same(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(case.outcome, Refused)
    case.write(tmp_path)
    project = {
        "project": "hostile",
        "data": {"source": case.source, "label": {"column": "late"}, "validate": {"schema": "schema.yaml"}},
        "features": FEATURES,
    }
    (tmp_path / "fairlead.yaml").write_text(json.dumps(project))
    code = main(["data", "validate", "-f", str(tmp_path / "fairlead.yaml"), "-o", "json"])
    error = json.loads(capsys.readouterr().out)["error"]
    assert (code, error["code"]) == (3, case.outcome.code)
    assert all(word in json.dumps(error, ensure_ascii=False) for word in case.outcome.words)
    assert unfinished(tmp_path) == []


@pytest.mark.slow
def test_large_files_need_little_memory(tmp_path: Path) -> None:
    """In a process of its own, so that its peak is that of these files."""
    done = subprocess.run(
        [sys.executable, "-m", "hostile.large", str(tmp_path)], cwd=HERE, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {line["name"]: line["differences"] for line in lines if line["differences"]} == {}
    assert lines[-1]["peak_mib"] - lines[0]["peak_mib"] < MOST_MIB, lines
