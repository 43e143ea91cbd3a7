"""The transform: raw columns in, tensors out, the same numbers for a training batch and for one request."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa

from fairlead.errors import TransformError
from fairlead.features import frozen
from fairlead.features.columns import Columns, TensorSpec, crossed
from fairlead.features.crosses import CrossColumn
from fairlead.features.cycles import circle
from fairlead.features.encoders import (
    CategoricalColumn,
    DatetimeColumn,
    ImageColumn,
    NumericColumn,
    number_of_value,
    numbers_of_array,
    numbers_of_values,
    refuse_infinite,
    standardise,
)
from fairlead.features.fitting import CategoricalFit, DatetimeFit, ImageFit, NumericFit, TextFit
from fairlead.features.ranges import RangeColumn
from fairlead.features.words import TextColumn
from fairlead.records.model import Field
from fairlead.spec.features import Features

__all__ = ["TensorSpec", "Tensors", "Transform", "TransformFitter"]

Tensors = dict[str, np.ndarray]

_CHUNK_ROWS = 16_384
_FEW_ROWS = 4
_PLAIN = {float, int, bool, type(None)}


class TransformFitter:
    """Fits a transform batch by batch: `update` with each batch of the training split, then `finish`."""

    def __init__(self, features: Features) -> None:
        if len(features.image) > 1:
            raise TransformError(f"one image column at most, not {', '.join(features.image)}")
        self._crosses = features.crosses
        self._fits: list[NumericFit | CategoricalFit | DatetimeFit | ImageFit | TextFit] = [
            *(NumericFit(name, options) for name, options in features.numeric_options().items()),
            *(CategoricalFit(name, options) for name, options in features.categorical_options().items()),
            *(DatetimeFit(name, options) for name, options in features.datetime_options().items()),
            *(ImageFit(name, options) for name, options in features.image.items()),
            *(TextFit(name, options) for name, options in features.text_options().items()),
        ]

    def update(self, batch: pa.RecordBatch | pa.Table) -> None:
        """Take one batch of the training split. Raises TransformError naming the column that cannot be used."""
        for fit in self._fits:
            fit.update(_column(batch, fit.name))

    def finish(self) -> "Transform":
        """The transform with its constants frozen."""
        found = [column for fit in self._fits for column in fit.finish()]
        columns = Columns(
            numeric=tuple(column for column in found if isinstance(column, NumericColumn)),
            categorical=tuple(column for column in found if isinstance(column, CategoricalColumn)),
            datetime=tuple(column for column in found if isinstance(column, DatetimeColumn)),
            image=next((column for column in found if isinstance(column, ImageColumn)), None),
            ranges=tuple(column for column in found if isinstance(column, RangeColumn)),
            text=tuple(column for column in found if isinstance(column, TextColumn)),
        )
        crosses = tuple(
            CrossColumn(name, options.of, crossed(columns, options.of, name), options.buckets)
            for name, options in self._crosses.items()
        )
        return Transform(replace(columns, crosses=crosses))


class Transform:
    """Fitted constants and the three ways to apply them, which give the same tensors bit for bit:

    `numeric` float32 [N, F + I + S]: the F numbers, an indicator for each number that was missing in training, then
    sine and cosine of cyclic calendar parts;
    `categorical` int64 [N, C]: an index for each category, calendar part, range of a number, and cross;
    `image` float32 [N, *shape];
    `text` int64 [N, T]: the indices of each text's words.
    """

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self.numeric, self.categorical, self.datetime = columns.numeric, columns.categorical, columns.datetime
        self.ranges, self.crosses, self.text, self.image = columns.ranges, columns.crosses, columns.text, columns.image
        self._constants = _constants(self.numeric)
        self._logs = np.array([i for i, column in enumerate(self.numeric) if column.log], np.int64)
        self._indicators = np.array([i for i, column in enumerate(self.numeric) if column.indicator], np.int64)
        self._names = columns.numbers
        self._numbers_of = itemgetter(*self._names) if self._names else None
        self._range_at = [self._names.index(column.name) for column in self.ranges]
        # Codes are found for all categories and all calendar parts; those of cyclic parts are looked up on the circle.
        parts = [(column, part) for column in self.datetime for part in column.parts]
        first = len(self.categorical)
        self._num_codes = first + len(parts)
        kept = [first + i for i, (column, _) in enumerate(parts) if column.encode != "cyclic"]
        self._kept = [*range(first), *kept]
        turned = [(first + i, circle(part)) for i, (c, part) in enumerate(parts) if c.encode != "category"]
        self._turned = [(at, table, table.tolist()) for at, table in turned]
        names = list(columns.cardinalities)
        self._cross_at = [[names.index(part) for part in cross.of] for cross in self.crosses]
        self._num_categories = len(names)
        self._all_kept = self._num_categories == self._num_codes == len(self._kept)
        self._width = len(self.numeric) + len(self._indicators) + 2 * len(self._turned)

    @classmethod
    def fit(cls, batches: Iterable[pa.RecordBatch], features: Features) -> "Transform":
        """Fit in one pass over the batches of the training split; memory does not grow with their number."""
        fitter = TransformFitter(features)
        for batch in batches:
            fitter.update(batch)
        return fitter.finish()

    # --- apply -------------------------------------------------------------------------------------------------------
    def apply_table(self, table: pa.Table | pa.RecordBatch) -> Tensors:
        """Tensors of N rows of Arrow data."""
        out: Tensors = {}
        rows = table.num_rows
        codes = [column.indices(_column(table, column.name)) for column in self.categorical]
        for moment in self.datetime:
            codes += moment.columns(_column(table, moment.name))
        ranges = [np.empty(rows, np.int64) for _ in self.ranges]
        if self._width or ranges:
            numeric = np.empty((rows, self._width), np.float32)
            for start in range(0, rows, _CHUNK_ROWS):
                stop = start + _CHUNK_ROWS
                part = table.slice(start, _CHUNK_ROWS)
                self._numeric_columns(part, numeric[start:stop], [found[start:stop] for found in ranges])
            for i, (place, points, _) in enumerate(self._turned):
                first = self._width - 2 * len(self._turned) + 2 * i
                numeric[:, first : first + 2] = points[codes[place]]
            if self._width:
                out["numeric"] = numeric
        if self._num_categories:
            categories = [codes[at] for at in self._kept] + ranges
            for cross, places in zip(self.crosses, self._cross_at, strict=True):
                categories.append(cross.indices([categories[i] for i in places]))
            out["categorical"] = _side_by_side(categories)
        if self.image is not None:
            out["image"] = self.image.of_array(_column(table, self.image.name))
        if self.text:
            out["text"] = np.concatenate([c.of_array(_column(table, c.name)) for c in self.text], axis=1)
        return out

    def apply_rows(self, rows: Sequence[Mapping[str, object]]) -> Tensors:
        """Tensors of N rows, each a mapping from column to a Python value. Made for a few rows at a time."""
        try:
            numbers = self._gather(rows)
            codes = np.empty((len(rows), self._num_codes), np.int64)
            if self._num_codes:
                for i, row in enumerate(rows):
                    line = [column.index(row[column.name]) for column in self.categorical]
                    for moment in self.datetime:
                        line += moment.codes(row[moment.name])
                    codes[i] = line
            out = self._assembled(numbers, codes)
            if self.image is not None:
                name = self.image.name
                out["image"] = self.image.of_values([row[name] for row in rows])
            if self.text:
                out["text"] = np.concatenate([c.of_values([row[c.name] for row in rows]) for c in self.text], axis=1)
        except KeyError as error:
            raise _absent(str(error.args[0])) from None
        except TypeError as error:
            raise TransformError("a row is not a mapping from column names to values", why=str(error)) from error
        return out

    def apply_columns(self, columns: Mapping[str, Sequence[object] | np.ndarray], rows: int) -> Tensors:
        """Tensors of `rows` rows given as a sequence of values per column."""
        numbers = np.empty((rows, len(self._names)), np.float64)
        for i, name in enumerate(self._names):
            numbers[:, i] = numbers_of_values(_values(columns, name, rows), name)
        codes = np.empty((rows, self._num_codes), np.int64)
        for i, column in enumerate(self.categorical):
            codes[:, i] = [column.index(value) for value in _values(columns, column.name, rows)]
        at = len(self.categorical)
        for moment in self.datetime:
            parts = [moment.codes(value) for value in _values(columns, moment.name, rows)]
            codes[:, at : at + len(moment.parts)] = np.array(parts, np.int64).reshape(rows, len(moment.parts))
            at += len(moment.parts)
        out = self._assembled(numbers, codes)
        if self.image is not None:
            out["image"] = self.image.of_values(_values(columns, self.image.name, rows))
        if self.text:
            out["text"] = np.concatenate([c.of_values(_values(columns, c.name, rows)) for c in self.text], axis=1)
        return out

    def _gather(self, rows: Sequence[Mapping[str, object]]) -> np.ndarray:
        """float64 [N, F] of the rows' numbers."""
        take = self._numbers_of
        if take is None:
            return np.empty((len(rows), 0))
        lines: list[Sequence[Any]] = [take(row) for row in rows] if len(self._names) > 1 else [(take(r),) for r in rows]
        for i, line in enumerate(lines):
            if not set(map(type, line)) <= _PLAIN:
                lines[i] = [number_of_value(value, name) for value, name in zip(line, self._names, strict=True)]
        try:
            return np.array(lines, np.float64).reshape(len(rows), len(self._names))
        except OverflowError:
            pairs = [zip(line, self._names, strict=True) for line in lines]
            return np.array([[number_of_value(value, name) for value, name in line] for line in pairs])

    def _numeric_columns(self, table: pa.Table | pa.RecordBatch, out: np.ndarray, ranges: Sequence[np.ndarray]) -> None:
        """Fill float32 [N, F + I + S] but for its last S and int64 [N] of each range, column by column; N is small
        enough for the processor's cache."""
        mark = len(self.numeric)
        for i, name in enumerate(self._names):
            values = numbers_of_array(_column(table, name), name)
            refuse_infinite(values, (name,))
            if i < len(self.numeric):
                column = self.numeric[i]
                constants = [constant[i] for constant in self._constants]
                out[:, i], missing = standardise(values, *constants, logs=column.log)
                if column.indicator:
                    out[:, mark] = missing
                    mark += 1
            for column_of_range, at, found in zip(self.ranges, self._range_at, ranges, strict=True):
                if at == i:
                    found[:] = column_of_range.indices(values)

    def _assembled(self, numbers: np.ndarray, codes: np.ndarray) -> Tensors:
        """`numeric` and `categorical` of float64 [N, F] raw numbers and int64 [N, K] codes."""
        out: Tensors = {}
        if self._names:
            refuse_infinite(numbers, self._names)
        if self._width:
            out["numeric"] = self._numeric(numbers, codes)
        if self._num_categories:
            out["categorical"] = codes if self._all_kept else self._categorical(numbers, codes)
        return out

    def _numeric(self, numbers: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """float32 [N, F + I + S]."""
        used = len(self.numeric)
        scaled, missing = standardise(numbers[:, :used], *self._constants, logs=self._logs)
        if self._width == used:
            return np.ascontiguousarray(scaled)
        out = np.empty((len(numbers), self._width), np.float32)
        out[:, :used] = scaled
        at = used + len(self._indicators)
        if at > used:
            out[:, used:at] = missing[:, self._indicators]
        for place, points, listed in self._turned:
            few = len(numbers) <= _FEW_ROWS
            out[:, at : at + 2] = [listed[code] for code in codes[:, place]] if few else points[codes[:, place]]
            at += 2
        return out

    def _categorical(self, numbers: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """int64 [N, C]."""
        if len(numbers) <= _FEW_ROWS:
            pairs = zip(numbers.tolist(), codes.tolist(), strict=True)
            return np.array([self._line(values, found) for values, found in pairs], np.int64).reshape(len(numbers), -1)
        out = np.empty((len(numbers), self._num_categories), np.int64)
        at = len(self._kept)
        out[:, :at] = codes[:, self._kept]
        for column, place in zip(self.ranges, self._range_at, strict=True):
            out[:, at] = column.indices(numbers[:, place])
            at += 1
        for cross, places in zip(self.crosses, self._cross_at, strict=True):
            out[:, at] = cross.indices([out[:, place] for place in places])
            at += 1
        return out

    def _line(self, numbers: list[float], codes: list[int]) -> list[int]:
        """One row of the same; for a few rows faster than arrays."""
        line = [codes[at] for at in self._kept]
        line += [column.index(numbers[at]) for column, at in zip(self.ranges, self._range_at, strict=True)]
        for cross, places in zip(self.crosses, self._cross_at, strict=True):
            line.append(cross.index([line[place] for place in places]))
        return line

    # --- what it takes and gives -------------------------------------------------------------------------------------
    @property
    def fields(self) -> tuple[Field, ...]:
        """The raw inputs. A field is required when it was never missing in the training split."""
        return self.columns.fields

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        """The tensors that `apply_*` gives, in the order numeric, categorical, image, text."""
        return self.columns.tensors

    # --- at rest -----------------------------------------------------------------------------------------------------
    def to_json(self) -> bytes:
        """UTF-8 JSON; floats keep every bit, equal transforms give equal bytes."""
        return frozen.to_json(self.columns)

    @classmethod
    def from_json(cls, data: bytes | str) -> "Transform":
        """Read what `to_json` wrote. Raises TransformError when it is something else."""
        return cls(frozen.from_json(data))


def _constants(columns: Sequence[NumericColumn]) -> tuple[np.ndarray, ...]:
    """impute, low, high, mean, std, limit: float64 [F] each."""
    return (
        np.array([c.impute for c in columns]),
        np.array([-np.inf if c.low is None else c.low for c in columns]),
        np.array([np.inf if c.high is None else c.high for c in columns]),
        np.array([c.mean for c in columns]),
        np.array([c.std for c in columns]),
        np.array([c.limit for c in columns]),
    )


def _side_by_side(columns: Sequence[np.ndarray]) -> np.ndarray:
    """int64 [N] each as int64 [N, C]; some rows at a time, because a matrix of many rows fits into no cache."""
    rows = len(columns[0])
    out = np.empty((rows, len(columns)), np.int64)
    for start in range(0, rows, _CHUNK_ROWS):
        part = out[start : start + _CHUNK_ROWS]
        for i, column in enumerate(columns):
            part[:, i] = column[start : start + _CHUNK_ROWS]
    return out


def _absent(name: str) -> TransformError:
    return TransformError(f"column {name} is missing", fix=f"send {name}, or null where its value is unknown")


def _column(table: pa.Table | pa.RecordBatch, name: str) -> pa.Array:
    index = table.schema.get_field_index(name)
    if index < 0:
        raise _absent(name)
    column = table.column(index)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _values(columns: Mapping[str, Sequence[object] | np.ndarray], name: str, rows: int) -> Any:
    try:
        values: Any = columns[name]
    except KeyError:
        raise _absent(name) from None
    if isinstance(values, (str, bytes)) or not hasattr(values, "__len__") or len(values) != rows:
        raise TransformError(f"column {name}: not a sequence of {rows} values")
    return values
