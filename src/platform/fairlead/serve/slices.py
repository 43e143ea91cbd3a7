"""Which slices a request is in: one of each declared input column, by its value as text."""

from collections.abc import Sequence

from fairlead.records.evidence import MOST_VALUES, OTHER_VALUES
from fairlead.serve.parsing import Row

_LONGEST = 60


def values_of(columns: Sequence[str], row: Row) -> tuple[str, ...]:
    """The values of a row, one for each column; "(missing)" for one that it has not, as evaluation says."""
    found = (row.get(column) for column in columns)
    return tuple("(missing)" if value is None else str(value)[:_LONGEST] for value in found)


class SliceNames:
    """Names of slices, "column=value". Keeps the first MOST_VALUES values of each column, whoever has them; the rest
    share one name, so that there is a bound for what is kept of all slices."""

    def __init__(self) -> None:
        self._known: dict[str, set[str]] = {}

    def of(self, columns: Sequence[str], values: Sequence[str]) -> list[str]:
        """The slices of a request; none where another release declared other columns."""
        if len(columns) != len(values):
            return []
        names = []
        for column, value in zip(columns, values, strict=True):
            known = self._known.setdefault(column, set())
            if len(known) < MOST_VALUES:
                known.add(value)
            names.append(f"{column}={value if value in known else OTHER_VALUES}")
        return names
