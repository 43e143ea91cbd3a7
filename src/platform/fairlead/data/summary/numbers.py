"""Numbers and points in time of one column: exact moments, quantiles, different and frequent values."""

from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairlead.data.summary.column import ColumnSummary
from fairlead.data.summary.distinct import hash_numbers
from fairlead.data.summary.draw import Draw
from fairlead.data.summary.frequent import most_frequent
from fairlead.data.summary.moments import ExactMoments
from fairlead.data.summary.quantiles import QuantileSketch

_COUNTABLE_RANGE = 65_536
_EXACT_FLOAT = 2.0**53


class NumberSummary(ColumnSummary):
    """A column of type int, float or timestamp (microseconds since 1970). `missing` counts null and NaN; infinite
    numbers are counted and left out of everything else."""

    def __init__(self, kind: str, seed: int = 0) -> None:
        super().__init__(kind)
        self.infinite = 0
        self.moments = ExactMoments()
        self.quantiles = QuantileSketch(seed)

    @property
    def count(self) -> int:
        """Present, finite values."""
        return self.rows - self.missing - self.infinite

    @classmethod
    def of(cls, array: pa.Array, kind: str, draw: Draw, seed: int) -> Self:
        """Of one batch."""
        made = cls(kind, seed)
        made.rows = len(array)
        values = float_values(array, kind)
        dense = values
        with np.errstate(invalid="ignore", over="ignore"):
            total = values.sum()  # finite: all are; it costs a third of looking at each
        if not np.isfinite(total):
            finite = np.isfinite(values)
            dense = values[finite]
            made.infinite = int(np.isinf(values).sum())
            made.missing = len(values) - len(dense) - made.infinite
        made.moments = ExactMoments.of(dense)
        if draw.sketches and len(dense):
            drawn = draw.of(values)
            if len(dense) < len(values):
                drawn = drawn[np.isfinite(drawn)]
            drawn = np.sort(drawn)
            made.quantiles.add(drawn, draw.level)
            made._count_values(array, dense, drawn, draw.level)
        return made

    def _count_values(self, array: pa.Array, dense: np.ndarray, drawn: np.ndarray, level: int) -> None:
        low, high = self.moments.minimum, self.moments.maximum
        found: tuple[np.ndarray, np.ndarray] | None = None
        if self.kind == "int" and high - low < _COUNTABLE_RANGE and abs(low) < _EXACT_FLOAT:
            counts = np.bincount((dense - low).astype(np.int64))
            present = np.flatnonzero(counts)
            found = present + low, counts[present]
        else:
            runs = _runs(drawn)
            if not level:
                found = runs
            elif len(runs[0]) <= min(self.frequent.keep, len(drawn) // 4):
                pairs = pc.value_counts(pa.array(dense))
                found = pairs.field(0).to_numpy(), pairs.field(1).to_numpy()
        if found is not None and len(found[0]) <= self.frequent.limit:
            self.frequent.add_numbers(found[0] + 0.0, found[1])
            self.distinct.add_hashes(hash_numbers(found[0].astype(np.float64)))
            return
        self._sketch_values(*(found if found is not None else runs), 0 if found is not None else level)
        every = dense if found is None else found[0].astype(np.float64)
        if self.kind == "int" and max(-low, high) >= _EXACT_FLOAT:  # neighbours are one float there
            every = array.drop_null().cast(pa.int64(), safe=False).to_numpy()
        self.distinct.add_many(hash_numbers(every))

    def _sketch_values(self, values: np.ndarray, counts: np.ndarray, level: int) -> None:
        chosen, cut = most_frequent(counts, self.frequent.keep)
        kept = counts[chosen] - cut
        self.frequent.add_numbers(values[chosen] + 0.0, kept << level)
        self.frequent.add_rest(int(counts.sum() - kept.sum()) << level, cut << level)
        if level:
            self.frequent.exact = False
            self.frequent.variance += float(counts.sum()) * 4.0**level

    def merge(self, other: Self) -> None:
        """Add what `other` saw."""
        if other.kind == "float":
            self.kind = "float" if self.kind == "int" else self.kind
        super().merge(other)
        self.infinite += other.infinite
        self.moments.merge(other.moments)
        self.quantiles.merge(other.quantiles)

    def settle(self, most: int = 0) -> None:
        """See `ColumnSummary.settle`."""
        super().settle(most)
        self.quantiles.relax(most // 4)

    def to_value(self) -> dict[str, Any]:
        """JSON."""
        own = {"infinite": self.infinite, "moments": self.moments.to_value(), "quantiles": self.quantiles.to_value()}
        return super().to_value() | own

    @classmethod
    def from_value(cls, value: dict[str, Any]) -> Self:
        """What `to_value` gave."""
        made = super().from_value(value)
        made.infinite = value["infinite"]
        made.moments = ExactMoments.from_value(value["moments"])
        made.quantiles = QuantileSketch.from_value(value["quantiles"])
        return made


def float_values(array: pa.Array, kind: str) -> np.ndarray:
    """float64 [N], NaN where missing; points in time as microseconds since 1970."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if kind == "timestamp":
        array = array.cast(pa.timestamp("us", getattr(array.type, "tz", None)), safe=False).cast(pa.int64())
    elif pa.types.is_decimal(array.type) or not (pa.types.is_integer(array.type) or pa.types.is_float64(array.type)):
        array = array.cast(pa.float64(), safe=False)
    values = array.to_numpy(zero_copy_only=False)
    return np.asarray(values, np.float64)


def _runs(ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(different values, how often each occurs) of sorted numbers."""
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return ordered[starts], np.diff(np.append(starts, len(ordered)))
