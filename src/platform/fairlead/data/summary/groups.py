"""The same columns within the rows of each split, month or label."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from fairlead.data.summary.draw import Draw
from fairlead.data.summary.frequent import FrequentItems
from fairlead.data.summary.quantiles import GROUP_K, QuantileSketch
from fairlead.data.summary.values import encode
from fairlead.features.hashing import stable_hash

MAX_GROUPS = {"split": 4, "month": 120, "label": 20}
_LIMIT, _KEEP = 256, 64
_MAX_CELLS = 262_144
_MOST_WAITING = 16 * GROUP_K


@dataclass(frozen=True)
class Codes:
    """Which group each row of a batch is in: int64 [N] into `names`, -1 for none."""

    codes: np.ndarray
    names: Sequence[str]


Grouping = Callable[[pa.RecordBatch], Mapping[str, Codes]]


class GroupColumn:
    """One column within one group: exact counts of rows and missing values; quantiles from `GROUP_K` numbers; the
    values of strings, exact up to 256 different ones."""

    __slots__ = ("frequent", "missing", "quantiles", "rows")

    def __init__(self, seed: int = 0) -> None:
        self.rows = 0
        self.missing = 0
        self.quantiles = QuantileSketch(seed, GROUP_K)
        self.frequent = FrequentItems(_LIMIT, _KEEP)

    @property
    def count(self) -> int:
        """Present values."""
        return self.rows - self.missing

    def merge(self, other: "GroupColumn") -> None:
        """Add what `other` saw."""
        self.rows += other.rows
        self.missing += other.missing
        self.quantiles.merge(other.quantiles)
        self.frequent.merge(other.frequent)

    def to_value(self) -> dict[str, Any]:
        """JSON."""
        parts = {"quantiles": self.quantiles.to_value(), "frequent": self.frequent.to_value()}
        return {"rows": self.rows, "missing": self.missing, **parts}

    @classmethod
    def from_value(cls, value: dict[str, Any]) -> "GroupColumn":
        """What `to_value` gave."""
        made = cls()
        made.rows, made.missing = value["rows"], value["missing"]
        made.quantiles = QuantileSketch.from_value(value["quantiles"])
        made.frequent = FrequentItems.from_value(value["frequent"])
        return made


class Groups:
    """All columns within each group of one dimension ("split", "month", "label").

    With more groups than the dimension may have it is given up (`too_many`): each would hold next to nothing."""

    def __init__(self, dimension: str) -> None:
        self.dimension = dimension
        self.groups: dict[str, dict[str, GroupColumn]] = {}
        self.too_many = False

    def merge(self, other: "Groups") -> None:
        """Add what `other` saw."""
        self.too_many |= other.too_many
        if not self.too_many:
            for key, columns in other.groups.items():
                mine = self.groups.setdefault(key, {})
                for name, column in columns.items():
                    if name in mine:
                        mine[name].merge(column)
                    else:
                        mine[name] = column
        if self.too_many or len(self.groups) > MAX_GROUPS[self.dimension]:
            self.too_many, self.groups = True, {}

    def to_value(self) -> dict[str, Any]:
        """JSON."""
        groups = {key: {n: c.to_value() for n, c in columns.items()} for key, columns in self.groups.items()}
        return {"dimension": self.dimension, "too_many": self.too_many, "groups": groups}

    @classmethod
    def from_value(cls, value: dict[str, Any]) -> "Groups":
        """What `to_value` gave."""
        made = cls(value["dimension"])
        made.too_many = value["too_many"]
        for key, columns in value["groups"].items():
            made.groups[key] = {name: GroupColumn.from_value(column) for name, column in columns.items()}
        return made


class GroupedBatch:
    """The rows of one batch by group, to be asked column by column; with `rest` each column's sketches are brought to
    rest at once."""

    def __init__(self, dimension: str, coded: Codes, draw: Draw, seed: int, rest: bool = False) -> None:
        self.made, self._rest = Groups(dimension), rest
        self._codes, self._names, self._draw, self._seed = coded.codes, coded.names, draw, seed
        self._number = len(coded.names)
        if self._number > MAX_GROUPS[dimension]:
            self.made.too_many = True
            return
        self._rows = self._count(self._codes)
        drawn = draw.of(self._codes)
        self._order = np.argsort(drawn, kind="stable")
        self._bounds = np.searchsorted(drawn[self._order], np.arange(self._number + 1))
        self.made.groups = {name: {} for name, rows in zip(self._names, self._rows, strict=True) if rows}

    def _count(self, codes: np.ndarray) -> np.ndarray:
        return np.bincount(codes[codes >= 0], minlength=self._number)

    def add_numbers(self, name: str, values: np.ndarray) -> None:
        """A column of float64 [N] with NaN where missing."""
        if self.made.too_many:
            return
        bad = ~np.isfinite(values)
        missing = self._count(self._codes[bad])
        drawn = self._draw.of(values)[self._order]
        for index, column in self._columns(name, missing):
            part = drawn[self._bounds[index] : self._bounds[index + 1]]
            part = part[np.isfinite(part)] if missing[index] else part
            # What may wait is copied: a view would keep the whole batch's column.
            column.quantiles.add(part if len(part) > _MOST_WAITING else part.copy(), self._draw.level)
            if self._rest:
                column.quantiles.settle()

    def add_values(self, name: str, array: pa.Array) -> None:
        """A column of strings or booleans."""
        if self.made.too_many:
            return
        if pa.types.is_boolean(array.type):
            array = array.cast(pa.int8()).dictionary_encode()
            texts, indices = encode(pa.DictionaryArray.from_arrays(array.indices, _truths(array.dictionary)))
        else:
            texts, indices = encode(array)
        missing = self._count(self._codes[indices < 0])
        counts = None
        if 0 < len(texts) * self._number <= _MAX_CELLS:
            cells = indices * self._number + self._codes
            cells = cells[(indices >= 0) & (self._codes >= 0)]
            counts = np.bincount(cells, minlength=len(texts) * self._number).reshape(len(texts), self._number)
        shown = texts.to_pylist() if counts is not None else []
        for index, column in self._columns(name, missing):
            if counts is not None:
                present = np.flatnonzero(counts[:, index])
                column.frequent.add([shown[i][:200] for i in present], counts[present, index])
            else:
                column.frequent.add_rest(column.count, column.count)

    def _columns(self, name: str, missing: np.ndarray) -> list[tuple[int, GroupColumn]]:
        made = []
        for index, key in enumerate(self._names):
            if self._rows[index]:
                column = GroupColumn(self._seed ^ stable_hash(f"{self.made.dimension}\0{key}\0{name}"))
                column.rows, column.missing = int(self._rows[index]), int(missing[index])
                self.made.groups[key][name] = column
                made.append((index, column))
        return made


def _truths(values: pa.Array) -> pa.Array:
    return pa.array(["true" if value else "false" for value in values.to_pylist()], pa.string())
