"""Statistics of columns in one pass: what training data looked like, and live traffic in the same shape.

Memory is bounded: quantiles and frequent numbers come from a bounded sample (exact while it fits, see `samples`), the
number of different values is exact up to `MAX_DISTINCT` and reads that number beyond, and histograms keep their bins
while counting.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairlead.errors import TransformError
from fairlead.features.bins import Bins
from fairlead.features.categories import category_array
from fairlead.features.encoders import numbers_of_array
from fairlead.features.instants import PART_FIRST, PART_SIZES, part_array, readable_instants, wall_clock_array
from fairlead.features.kinds import kind_of
from fairlead.features.moments import Moments
from fairlead.features.samples import BoundedSample
from fairlead.records.data import ColumnStatistics, Statistics

MAX_DISTINCT = 100_000
TOP_VALUES = 100
QUANTILES = ("0.01", "0.05", "0.25", "0.5", "0.75", "0.95", "0.99")
DEFAULT_PARTS = ("hour", "weekday", "month")
FREQUENT_SHARE = 0.01

_BINS = 40
_FINE_BINS = 400
_FIRST_SAMPLE = 50_000
_SAMPLE = 20_000


class StatisticsBuilder:
    """Statistics of `columns`: names, or a mapping from name to kind (a category of any type counts as "string").

    Without a kind, it is the reference's, or follows from the type of the first batch. With a `reference` histograms
    use its edges, and its most frequent values are counted, so that the two can be compared bin by bin. Values that do
    not fit their kind count as missing: statistics describe data, they do not judge it.
    """

    def __init__(
        self,
        columns: Mapping[str, str] | Iterable[str],
        reference: Statistics | None = None,
        parts: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        kinds: dict[str, str | None] = dict(columns.items()) if isinstance(columns, Mapping) else dict.fromkeys(columns)
        known = {} if reference is None else reference.columns
        self._columns: dict[str, _ColumnBuilder | None] = {}
        self._known, self._parts = known, dict(parts or {})
        for name, given in kinds.items():
            kind = given or (known[name].kind if name in known else None)
            self._columns[name] = self._builder(name, kind) if kind else None
        self._rows = 0

    def _builder(self, name: str, kind: str) -> "_ColumnBuilder":
        reference = self._known.get(name)
        if kind in ("int", "float"):
            return _NumberBuilder(name, kind, reference)
        if kind == "timestamp":
            return _TimeBuilder(name, kind, reference, self._parts.get(name, DEFAULT_PARTS))
        if kind == "tensor":
            return _TensorBuilder(name, kind, reference)
        return _ValueBuilder(name, kind, reference)

    def update(self, batch: pa.RecordBatch | pa.Table) -> None:
        """Take a batch. Columns that it does not have count as missing."""
        self._rows += batch.num_rows
        for name, builder in self._columns.items():
            index = batch.schema.get_field_index(name)
            if index < 0:
                array = pa.nulls(batch.num_rows)
            else:
                column = batch.column(index)
                array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
            if builder is None:
                builder = self._builder(name, kind_of(array.type) or "string")
                self._columns[name] = builder
            builder.update(array)

    def finish(self) -> Statistics:
        """The statistics of all rows so far. More batches may follow."""
        found = {
            name: builder.finish() if builder is not None else ColumnStatistics(name, "string", 0, 0, 0)
            for name, builder in self._columns.items()
        }
        return Statistics(self._rows, found)


class _ColumnBuilder:
    """Counts rows and missing values; subclasses do the rest. `count` of the result is the number of present values."""

    def __init__(self, name: str, kind: str, reference: ColumnStatistics | None) -> None:
        self.name, self.kind, self.reference = name, kind, reference
        self.rows = 0
        self.missing = 0

    def update(self, array: pa.Array) -> None:
        raise NotImplementedError

    def finish(self) -> ColumnStatistics:
        raise NotImplementedError


class _Frequencies:
    """How often each value occurred, for the first `MAX_DISTINCT` different values; those of `wanted` always count."""

    def __init__(self, wanted: Iterable[str] = ()) -> None:
        self.counts: dict[str, int] = dict.fromkeys(wanted, 0)
        self.uncounted = 0

    def update(self, texts: pa.Array) -> None:
        found = pc.value_counts(texts)
        counts = self.counts
        for text, count in zip(found.field(0).to_pylist(), found.field(1).to_pylist(), strict=True):
            if text in counts:
                counts[text] += count
            elif len(counts) < MAX_DISTINCT:
                counts[text] = count
            else:
                self.uncounted += count

    @property
    def distinct(self) -> int:
        return sum(count > 0 for count in self.counts.values())

    def top(self, wanted: Sequence[str] = ()) -> tuple[dict[str, int], int]:
        """(the most frequent values, or the wanted ones, with their counts; how many rows have other values)."""
        if wanted:
            top = {text: self.counts.get(text, 0) for text in wanted}
        else:
            ordered = sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
            top = {text: count for text, count in ordered[:TOP_VALUES] if count}
        return top, sum(self.counts.values()) + self.uncounted - sum(top.values())


class _ValueBuilder(_ColumnBuilder):
    """Strings, booleans, categories."""

    def __init__(self, name: str, kind: str, reference: ColumnStatistics | None) -> None:
        super().__init__(name, kind, reference)
        self._wanted = tuple(reference.top) if reference is not None else ()
        self._frequencies = _Frequencies(self._wanted)

    def update(self, array: pa.Array) -> None:
        self.rows += len(array)
        try:
            texts = category_array(array).drop_null()
        except TypeError:
            self.missing += len(array)
            return
        self.missing += len(array) - len(texts)
        self._frequencies.update(texts)

    def finish(self) -> ColumnStatistics:
        top, other = self._frequencies.top(self._wanted)
        count = self.rows - self.missing
        mean = top.get("true", 0) / count if self.kind == "bool" and count else None
        distinct = self._frequencies.distinct
        return ColumnStatistics(self.name, self.kind, count, self.missing, distinct, mean=mean, top=top, other=other)


class _NumberBuilder(_ColumnBuilder):
    """Integers and floats. Infinite values count as missing."""

    def __init__(self, name: str, kind: str, reference: ColumnStatistics | None) -> None:
        super().__init__(name, kind, reference)
        self._moments = Moments()
        self._sample = BoundedSample(name, _SAMPLE)
        self._histogram = _Histogram(reference.edges if reference is not None else ())
        self._distinct: set[float] = set()

    def update(self, array: pa.Array) -> None:
        self.rows += len(array)
        try:
            values = numbers_of_array(array, self.name)
        except TransformError:
            self.missing += len(array)
            return
        values = values[np.isfinite(values)]
        self.missing += len(array) - len(values)
        self._moments.update(values)
        self._sample.update(values)
        self._histogram.update(values)
        if len(self._distinct) < MAX_DISTINCT:
            self._distinct.update(np.unique(values).tolist())

    def finish(self) -> ColumnStatistics:
        moments = self._moments
        distinct = min(len(self._distinct), MAX_DISTINCT)
        if not moments.count:
            return ColumnStatistics(self.name, self.kind, 0, self.missing, 0)
        sample = self._sample.values()
        quantiles = np.quantile(sample, [float(q) for q in QUANTILES])
        edges, counts = self._histogram.finish(moments.minimum, moments.maximum)
        return ColumnStatistics(
            self.name,
            self.kind,
            moments.count,
            self.missing,
            distinct,
            minimum=moments.minimum,
            maximum=moments.maximum,
            mean=moments.mean,
            std=moments.std,
            quantiles=dict(zip(QUANTILES, quantiles.tolist(), strict=True)),
            edges=edges,
            counts=counts,
            top=_frequent_numbers(sample, moments.count),
        )


def _frequent_numbers(sample: np.ndarray, total: int) -> dict[str, int]:
    """Numbers that make `FREQUENT_SHARE` of a sample of `total` values, the most frequent first, with their counts
    among all of them: exact where the sample is the whole."""
    values, counts = np.unique(sample, return_counts=True)
    often = counts >= FREQUENT_SHARE * len(sample)
    ordered = sorted(
        zip(values[often].tolist(), counts[often].tolist(), strict=True), key=lambda item: (-item[1], item[0])
    )
    return {repr(value): round(count * total / len(sample)) for value, count in ordered}


class _Histogram:
    """Counts between edges; values beyond an end count in the last bin on that side.

    With given edges they are used. Otherwise the first values lay out fine bins (equally full, with margins of equal
    width on both sides for what comes later); at the end these are merged into few bins of about equal weight.
    """

    def __init__(self, edges: Sequence[float]) -> None:
        self._given = len(edges) > 1
        self._bins = Bins(np.array(edges, np.float64), np.empty(0)) if self._given else None
        self._counts = np.zeros(max(len(edges) - 1, 0), np.int64)
        self._first: list[np.ndarray] = []
        self._num_first = 0

    def update(self, values: np.ndarray) -> None:
        if self._bins is None:
            self._first.append(values.copy())
            self._num_first += len(values)
            if self._num_first >= _FIRST_SAMPLE:
                self._lay_out()
        else:
            self._counts += np.bincount(self._bins.of(values), minlength=len(self._counts))

    def _lay_out(self) -> None:
        first = np.concatenate(self._first)
        different = np.unique(first)
        if len(different) <= _BINS:
            inner = np.concatenate([different[:1], (different[1:] + different[:-1]) / 2, different[-1:]])
        else:
            inner = np.unique(np.quantile(first, np.linspace(0, 1, _FINE_BINS + 1)))
        width = float(inner[-1] - inner[0]) or max(abs(float(inner[0])), 1.0)
        below = inner[0] - width * np.linspace(1, 0, _BINS, endpoint=False)
        above = inner[-1] + width * np.linspace(0, 1, _BINS + 1)[1:]
        edges = np.unique(np.concatenate([below, inner, above]))
        self._bins = Bins(edges, first)
        self._counts = np.bincount(self._bins.of(first), minlength=len(edges) - 1)
        self._first = []

    def finish(self, minimum: float, maximum: float) -> tuple[tuple[float, ...], tuple[int, ...]]:
        if self._bins is None:
            self._lay_out()
        if self._bins is None:
            return (), ()
        edges = self._bins.edges
        if self._given:
            return tuple(edges.tolist()), tuple(self._counts.tolist())
        filled = np.flatnonzero(self._counts)
        if not len(filled):
            return (), ()
        counts = self._counts[filled[0] : filled[-1] + 1]
        inner = edges[filled[0] : filled[-1] + 2].copy()
        inner[0], inner[-1] = min(minimum, inner[1]), max(maximum, inner[-2])
        if len(counts) > 1 and inner[-1] == inner[-2]:  # the maximum is an edge, and alone above it
            inner = np.delete(inner, -2)
            counts = np.r_[counts[:-2], counts[-2] + counts[-1]]
        if len(counts) > _BINS:
            rank = np.cumsum(counts) - counts / 2
            target = np.minimum((rank / counts.sum() * _BINS).astype(int), _BINS - 1)
            starts = np.flatnonzero(np.r_[True, target[1:] != target[:-1]])
            counts = np.add.reduceat(counts, starts)
            inner = np.r_[inner[:-1][starts], inner[-1]]
        if inner[-1] <= inner[0]:  # one value only: a bin of some width around it
            inner = np.array([inner[0] - 0.5, inner[0] + 0.5])
            counts = np.array([counts.sum()])
        return tuple(inner.tolist()), tuple(counts.tolist())


class _TimeBuilder(_ColumnBuilder):
    """Points in time: minimum and maximum in seconds since 1970 on the wall clock, and calendar parts."""

    def __init__(self, name: str, kind: str, reference: ColumnStatistics | None, parts: Sequence[str]) -> None:
        super().__init__(name, kind, reference)
        wanted = tuple(reference.parts) if reference is not None and reference.parts else tuple(parts)
        self._parts = {part: np.zeros(PART_SIZES[part], np.int64) for part in wanted}
        self._moments = Moments()
        self._distinct: set[int] = set()

    def update(self, array: pa.Array) -> None:
        self.rows += len(array)
        try:
            if kind_of(array.type) == "string":
                texts = array.cast(pa.string())
                array = texts.filter(pa.array(readable_instants(texts)))
            clock = wall_clock_array(array)
        except (TypeError, ValueError):
            clock = np.empty(0, "datetime64[us]")
        clock = clock[~np.isnat(clock)]
        self.missing = self.rows - self._moments.count - len(clock)
        for part, counts in self._parts.items():
            counts += np.bincount(part_array(clock, part) - PART_FIRST[part], minlength=len(counts))
        stamps = clock.astype(np.int64)
        self._moments.update(stamps / 1e6)
        if len(self._distinct) < MAX_DISTINCT:
            self._distinct.update(np.unique(stamps).tolist())

    def finish(self) -> ColumnStatistics:
        moments = self._moments
        parts = {
            part: {str(i + PART_FIRST[part]): int(count) for i, count in enumerate(counts)}
            for part, counts in self._parts.items()
        }
        return ColumnStatistics(
            self.name,
            self.kind,
            moments.count,
            self.missing,
            min(len(self._distinct), MAX_DISTINCT),
            minimum=moments.minimum if moments.count else None,
            maximum=moments.maximum if moments.count else None,
            parts=parts,
        )


class _TensorBuilder(_ColumnBuilder):
    """Blocks of numbers: the distribution of all their elements together."""

    def __init__(self, name: str, kind: str, reference: ColumnStatistics | None) -> None:
        super().__init__(name, kind, reference)
        self._moments = Moments()

    def update(self, array: pa.Array) -> None:
        self.rows += len(array)
        if kind_of(array.type) != "tensor":
            self.missing += len(array)
            return
        self.missing += array.null_count
        while kind_of(array.type) == "tensor":
            array = pc.list_flatten(array)
        values = numbers_of_array(array, self.name)
        self._moments.update(values[np.isfinite(values)])

    def finish(self) -> ColumnStatistics:
        moments = self._moments
        known = moments.count > 0
        return ColumnStatistics(
            self.name,
            self.kind,
            self.rows - self.missing,
            self.missing,
            0,
            minimum=moments.minimum if known else None,
            maximum=moments.maximum if known else None,
            mean=moments.mean if known else None,
            std=moments.std if known else None,
        )
