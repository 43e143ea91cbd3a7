"""Rules that no row breaks by itself: a value that occurs again, a number or a point in time that goes back."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa

from fairlead.data.checks import Checked, problem_of
from fairlead.data.row_hashes import hash_column
from fairlead.data.schema import ColumnRule


class AcrossRows:
    """Takes every checked batch in the order of the rows, by one thread."""

    def __init__(self, rules: Mapping[str, ColumnRule]) -> None:
        self._seen: dict[str, set[int]] = {name: set() for name, rule in rules.items() if rule.unique}
        self._rising = {name: _Rising(rule.monotonic) for name, rule in rules.items() if rule.monotonic is not None}

    def check(self, checked: Checked) -> Checked:
        """Add problems for rows that do not go with those before."""
        if not (self._seen or self._rising) or not checked.batch.num_rows:
            return checked
        problems = list(checked.problems)
        bad = np.zeros(checked.batch.num_rows, bool) if checked.bad is None else checked.bad.copy()
        for name, seen in self._seen.items():
            column = checked.batch.column(name)
            again = _repeated(column, seen)
            if again.any():
                problems.append(problem_of(name, "not unique", again, column))
                bad |= again
        # Rows that break another rule neither count as the largest so far nor are told twice.
        others = bad.copy()
        for name, rising in self._rising.items():
            column = checked.batch.column(name)
            back = rising.falls(column, ~others, checked.raw.file)
            if back.any():
                problems.append(problem_of(name, "goes back", back, column))
                bad |= back
        if len(problems) == len(checked.problems):
            return checked
        return replace(checked, bad=bad, problems=tuple(problems))


def _repeated(column: pa.Array, seen: set[int]) -> np.ndarray:
    """Which values occurred before; `seen` takes 8 bytes (and a set's overhead) for each different one."""
    present = np.asarray(column.is_valid().to_numpy(zero_copy_only=False))
    again = np.zeros(len(column), bool)
    for position, value in enumerate(hash_column(column).tolist()):
        if present[position]:
            again[position] = value in seen
            seen.add(value)
    return again


class _Rising:
    """The largest value so far; constant memory."""

    def __init__(self, over: str) -> None:
        self._over = over
        self._file = -1
        self._largest: np.ndarray | None = None

    def falls(self, column: pa.Array, good: np.ndarray, file: int) -> np.ndarray:
        """Which of the good rows lie below the largest good one before them: those that are left never fall."""
        if self._over == "file" and file != self._file:
            self._file, self._largest = file, None
        back = np.zeros(len(column), bool)
        values, present = _comparable(column)
        kept = np.flatnonzero(present & good)
        if not len(kept):
            return back
        values = values[kept]
        before = values[:1] if self._largest is None else self._largest
        largest = np.maximum.accumulate(np.concatenate([before, values]))
        back[kept] = values < largest[:-1]
        self._largest = largest[-1:]
        return back


def _comparable(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """(numbers in the order of the values, which rows have one)."""
    if pa.types.is_null(column.type):
        return np.zeros(len(column)), np.zeros(len(column), bool)
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    present = np.asarray(column.is_valid().to_numpy(zero_copy_only=False))
    values = np.asarray(column.fill_null(0).to_numpy(zero_copy_only=False))
    return values, present & ~np.isnan(values) if values.dtype.kind == "f" else present
