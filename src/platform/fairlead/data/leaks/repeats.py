"""Which features have values that repeat, over all training rows: few of many rows seldom show it.

Of values that stand twice among N rows, n drawn rows hold all but n / (2 N) once: a hundredth of the rows makes any
such column look like an identifier. Where the scan sees a part of the training rows, their different values are counted
as they stream by, in a sketch of 4,096 hashes a column. Counting ends for a column with the row from which on even rows
that are all different could not make it an identifier: categories of few values after a twentieth of the rows.
"""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from fairlead.data.leaks.identity import UNIQUE
from fairlead.data.row_hashes import hash_column
from fairlead.data.summary.distinct import DistinctSketch
from fairlead.data.summary.values import hash_array
from fairlead.features.kinds import kind_of

_LONG_TEXT = 1000  # bytes: no identifier, see `identity`
_FEWEST = 100
_ERRORS = 2


class Repeats:
    """Counts the different values of columns of text and of whole numbers; `num_rows` will be taken."""

    def __init__(self, columns: Iterable[str], num_rows: int) -> None:
        self._columns, self._num_rows = tuple(columns), num_rows
        self._present = dict.fromkeys(self._columns, 0)
        self._sketches: dict[str, DistinctSketch] = {}
        self._sure: set[str] = set()

    def take(self, rows: pa.RecordBatch) -> None:
        """Some of the rows."""
        for name in self._columns:
            column = rows.column(name)
            if name in self._sure or kind_of(column.type) not in ("int", "string"):
                continue
            column = column.drop_null()
            if column.nbytes > _LONG_TEXT * max(len(column), _FEWEST):
                self._columns = tuple(other for other in self._columns if other != name)
                self._sketches.pop(name, None)
                continue
            sketch = self._sketches.setdefault(name, DistinctSketch())
            sketch.add_many(_hashes(column))
            self._present[name] += len(column)
            if self._present[name] - _at_most(sketch) > (1 - UNIQUE) * self._num_rows:
                self._sure.add(name)
                del self._sketches[name]

    def names(self) -> frozenset[str]:
        """The columns of which less than 95 % of the values are different, by more than two standard errors."""
        bound = {name: UNIQUE * self._present[name] for name in self._sketches}
        return frozenset(
            self._sure | {name for name, sketch in self._sketches.items() if _at_most(sketch) < bound[name]}
        )


def _at_most(sketch: DistinctSketch) -> float:
    return sketch.estimate * (1 + _ERRORS * sketch.relative_error)


def _hashes(column: pa.Array) -> np.ndarray:
    if kind_of(column.type) == "int":
        return hash_column(column)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return hash_array(column.cast(pa.string()))
