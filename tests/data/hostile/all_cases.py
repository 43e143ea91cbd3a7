"""All small cases: those that run in process within seconds."""

from collections.abc import Iterator

from hostile import changing_cases, csv_cases, json_cases, parquet_cases, schema_cases, value_cases
from hostile.cases import Case

MODULES = (parquet_cases, schema_cases, csv_cases, json_cases, value_cases, changing_cases)
FEWEST = 300


def all_cases() -> Iterator[Case]:
    """Every case of every module; names are theirs alone."""
    for module in MODULES:
        yield from module.cases()


def by_family() -> dict[str, list[Case]]:
    """The same, family by family in the order of the first case."""
    found: dict[str, list[Case]] = {}
    for case in all_cases():
        found.setdefault(case.family, []).append(case)
    return found
