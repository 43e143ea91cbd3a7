"""``python -m hostile``: every case, and docs/hostile-files.md from what came of them.

Exit code 1 when a case does not end as it must. With ``--quick`` without the large files and without S3, and nothing is
written.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fairlead.testing.faulty_s3 import faulty_s3
from fairlead.testing.seaweedfs import seaweedfs
from hostile import large_cases, s3_cases
from hostile.all_cases import by_family
from hostile.cases import Case
from hostile.running import Seen, differences, holds_other_values, run_case

PAGE = Path(__file__).resolve().parents[3] / "docs" / "hostile-files.md"
_MOST_CHARACTERS = 330
HEAD = """# Hostile files

What `fairlead data validate` makes of files that are damaged, misnamed or not what they seem. Written by
`make hostile`, which runs {total:,} cases (tests/data/hostile, seed 6): {refused:,} end in a coded error that names the
file and, where there is one, the row, row group or column; in {quarantined:,} the bad rows are listed in the quarantine
file with file, row, column and reason, and the other rows hold the values that were written; in {used:,} all rows are
used with the values that were written. In {altered:,} cases, bits that were flipped where no checksum is, values differ
and nothing can notice it. In {failed:,} cases it was otherwise. None ended in a traceback or left a file half-written.

Nothing is guessed: a decimal comma, a date in another form or another delimiter is named with the way to mend it.
Values that no reader can tell from good ones pass: 1.234 for a thousand, a bit that flips in a Parquet page without a
checksum (`write_page_checksum=True` in pyarrow) or in the footer, which has none.

| family | cases | refused | quarantined | used | other values | for example |
|---|---:|---|---:|---:|---:|---|
"""
TAIL = """
## Memory

{count} of the cases above are large: lines, headers and rows without end, 1 GiB of NULs compressed to 1 MiB, millions
of broken rows, a million categories. They run one after another in one process; a small file needs {base:,} MiB there
with all that is imported, the large ones at most {peak:,} MiB in all.

| file | highest memory of the process so far, MiB |
|---|---:|
"""


@dataclass
class Family:
    """What came of the cases of one family."""

    codes: Counter[str] = field(default_factory=Counter)
    quarantined: int = 0
    used: int = 0
    altered: int = 0
    example: str = ""
    listed: str = ""
    failed: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.codes.values()) + self.quarantined + self.used + self.altered

    def take(self, case: Case, seen: Seen, unlike: list[str]) -> None:
        """Count one case."""
        if unlike:
            self.failed.append(f"{case.name}: {'; '.join(unlike)}")
        if seen.error is not None:
            self.codes[seen.error.code] += 1
            self.example = self.example or str(seen.error)
        elif holds_other_values(case, seen):
            self.altered += 1
        elif seen.quarantined:
            self.quarantined += 1
            (file, row), found = next(iter(seen.quarantined.items()))
            column, reason = min(found)
            self.listed = self.listed or f"quarantine: {file}, row {row}, {column or 'the whole row'}: {reason}"
        else:
            self.used += 1

    def row(self, name: str) -> str:
        """The line of the table."""
        refused = ", ".join(f"{count} {code}" for code, count in sorted(self.codes.items()))
        example = " ".join((self.example or self.listed).replace("|", "\\|").split())
        shown = example if len(example) <= _MOST_CHARACTERS else example[: _MOST_CHARACTERS - 3] + "..."
        return f"| {name} | {self.total} | {refused} | {self.quarantined} | {self.used} | {self.altered} | {shown} |"


def main() -> int:
    """Run, and write."""
    parser = argparse.ArgumentParser(prog="hostile", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the small cases only")
    quick = parser.parse_args().quick
    families = dict(_small())
    large: list[dict[str, object]] = []
    if not quick:
        families[s3_cases.FAMILY] = _s3()
        large = _large()
        families[large_cases.FAMILY] = _counted(large)
        PAGE.write_text(_page(families, large), encoding="utf-8")
    failed = [f"{name}: {text}" for name, family in families.items() for text in family.failed]
    print("\n".join(failed), end="\n" if failed else "")
    print(f"{sum(family.total for family in families.values()):,} cases, {len(failed):,} not as they must end")
    return 1 if failed else 0


def _small() -> Iterator[tuple[str, Family]]:
    for name, cases in by_family().items():
        family = Family()
        for case in cases:
            with tempfile.TemporaryDirectory(prefix="fairlead-hostile-") as folder:
                seen = run_case(case, Path(folder))
                family.take(case, seen, differences(case, seen, Path(folder)))
                family.example = family.example.replace(f"{folder}/", "")
        yield name, family


def _s3() -> Family:
    family = Family()
    with tempfile.TemporaryDirectory(prefix="fairlead-hostile-") as name:
        folder = Path(name)
        with seaweedfs(folder / "s3") as server, faulty_s3(server.endpoint) as proxy:
            for number, case in enumerate(s3_cases.cases()):
                place, uri = folder / str(number), f"s3://{server.bucket}/{number}"
                place.mkdir()
                os.environ.update(server.environment)
                case.put(place / "made", uri)
                os.environ["AWS_ENDPOINT_URL"] = proxy.endpoint
                seen = case.run(proxy, uri, place)
                family.take(case.case(uri), seen, differences(case.case(uri), seen, place))
                if seen.error is not None:
                    family.example = family.example.replace(proxy.endpoint, "ENDPOINT")
    return family


def _large() -> list[dict[str, object]]:
    with tempfile.TemporaryDirectory(prefix="fairlead-hostile-") as folder:
        command = [sys.executable, "-m", "hostile.large", folder]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def _counted(lines: list[dict[str, object]]) -> Family:
    family = Family()
    for line in lines[1:]:
        said = str(line["said"])
        if said.startswith("FL-"):
            family.codes[said[:6]] += 1
            family.example = family.example or said
        elif said == "quarantined":
            family.quarantined += 1
        else:
            family.used += 1
        if line["differences"]:
            family.failed.append(f"{line['name']}: {line['differences']}")
    return family


def _page(families: dict[str, Family], large: list[dict[str, object]]) -> str:
    found = families.values()
    head = HEAD.format(
        total=sum(family.total for family in found),
        refused=sum(sum(family.codes.values()) for family in found),
        quarantined=sum(family.quarantined for family in found),
        used=sum(family.used for family in found),
        altered=sum(family.altered for family in found),
        failed=sum(len(family.failed) for family in found),
    )
    rows = "\n".join(family.row(name) for name, family in families.items())
    tail = TAIL.format(count=len(large) - 1, base=large[0]["peak_mib"], peak=large[-1]["peak_mib"])
    return head + rows + "\n" + tail + "\n".join(f"| {line['name']} | {line['peak_mib']} |" for line in large) + "\n"


if __name__ == "__main__":
    sys.exit(main())
