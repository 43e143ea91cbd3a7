"""The transform: raw columns in, tensors out, the same numbers for a training batch and for one request."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from fairlead.errors import TransformError
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
from fairlead.features.fitting import CategoricalFit, DatetimeFit, ImageFit, NumericFit
from fairlead.records.model import Field
from fairlead.spec.features import Features

Tensors = dict[str, np.ndarray]

_FORMAT = 1
_CHUNK_ROWS = 16_384
_DATATYPES = {"int": "INT64", "float": "FP64", "bool": "BOOL", "string": "BYTES", "timestamp": "BYTES"}
_PLAIN = {float, int, bool, type(None)}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor of the transform. `shape` is per row; `columns` names the last axis (empty for images);
    `cardinalities` is the number of indices of each categorical column."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    columns: tuple[str, ...] = ()
    cardinalities: tuple[int, ...] = ()


class TransformFitter:
    """Fits a transform batch by batch: `update` with each batch of the training split, then `finish`."""

    def __init__(self, features: Features) -> None:
        if len(features.image) > 1:
            raise TransformError(f"one image column at most, not {', '.join(features.image)}")
        self._fits: list[NumericFit | CategoricalFit | DatetimeFit | ImageFit] = [
            *(NumericFit(name, options) for name, options in features.numeric_options().items()),
            *(CategoricalFit(name, options) for name, options in features.categorical_options().items()),
            *(DatetimeFit(name, options) for name, options in features.datetime_options().items()),
            *(ImageFit(name, options) for name, options in features.image.items()),
        ]

    def update(self, batch: pa.RecordBatch | pa.Table) -> None:
        """Take one batch of the training split. Raises TransformError naming the column that cannot be used."""
        for fit in self._fits:
            fit.update(_column(batch, fit.name))

    def finish(self) -> "Transform":
        """The transform with its constants frozen."""
        columns = [fit.finish() for fit in self._fits]
        return Transform(
            tuple(column for column in columns if isinstance(column, NumericColumn)),
            tuple(column for column in columns if isinstance(column, CategoricalColumn)),
            tuple(column for column in columns if isinstance(column, DatetimeColumn)),
            next((column for column in columns if isinstance(column, ImageColumn)), None),
        )


class Transform:
    """Fitted constants and the three ways to apply them, which give the same tensors bit for bit:

    `numeric` float32 [N, F + I]: the F numbers, then an indicator for each number that was missing in training;
    `categorical` int64 [N, C]: the categories, then the calendar parts of each point in time;
    `image` float32 [N, *shape]. A tensor without columns is absent.

    A value that is None or NaN is missing; a column that is absent, an infinite number or a value of a wrong type
    raises TransformError naming the column. None of the methods changes the transform: threads may share one.
    """

    def __init__(
        self,
        numeric: tuple[NumericColumn, ...],
        categorical: tuple[CategoricalColumn, ...],
        datetime: tuple[DatetimeColumn, ...],
        image: ImageColumn | None,
    ) -> None:
        self.numeric, self.categorical, self.datetime, self.image = numeric, categorical, datetime, image
        self._names = tuple(column.name for column in numeric)
        self._constants = _constants(numeric)
        self._indicators = np.array([i for i, column in enumerate(numeric) if column.indicator], np.intp)
        self._num_codes = len(categorical) + sum(len(column.parts) for column in datetime)
        self._numbers_of = itemgetter(*self._names) if self._names else None

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
        if self.numeric:
            numeric = np.empty((rows, len(self.numeric) + len(self._indicators)), np.float32)
            for start in range(0, rows, _CHUNK_ROWS):
                part = table.slice(start, _CHUNK_ROWS)
                self._numeric_columns(part, numeric[start : start + _CHUNK_ROWS])
            out["numeric"] = numeric
        if self._num_codes:
            codes = [column.indices(_column(table, column.name)) for column in self.categorical]
            for moment in self.datetime:
                codes += moment.columns(_column(table, moment.name))
            out["categorical"] = np.stack(codes, axis=1)
        if self.image is not None:
            out["image"] = self.image.of_array(_column(table, self.image.name))
        return out

    def apply_rows(self, rows: Sequence[Mapping[str, object]]) -> Tensors:
        """Tensors of N rows, each a mapping from column to a Python value. Made for a few rows at a time."""
        out: Tensors = {}
        try:
            if self._numbers_of is not None:
                out["numeric"] = self._numeric(self._gather(rows))
            if self._num_codes:
                codes = np.empty((len(rows), self._num_codes), np.int64)
                for i, row in enumerate(rows):
                    line = [column.index(row[column.name]) for column in self.categorical]
                    for moment in self.datetime:
                        line += moment.codes(row[moment.name])
                    codes[i] = line
                out["categorical"] = codes
            if self.image is not None:
                name = self.image.name
                out["image"] = self.image.of_values([row[name] for row in rows])
        except KeyError as error:
            raise _absent(str(error.args[0])) from None
        except TypeError as error:
            raise TransformError("a row is not a mapping from column names to values", why=str(error)) from error
        return out

    def apply_columns(self, columns: Mapping[str, Sequence[object] | np.ndarray], rows: int) -> Tensors:
        """Tensors of `rows` rows given as a sequence of values per column."""
        out: Tensors = {}
        if self.numeric:
            values = np.empty((rows, len(self.numeric)), np.float64)
            for i, name in enumerate(self._names):
                values[:, i] = numbers_of_values(_values(columns, name, rows), name)
            out["numeric"] = self._numeric(values)
        if self._num_codes:
            codes = np.empty((rows, self._num_codes), np.int64)
            for i, column in enumerate(self.categorical):
                codes[:, i] = [column.index(value) for value in _values(columns, column.name, rows)]
            at = len(self.categorical)
            for moment in self.datetime:
                parts = [moment.codes(value) for value in _values(columns, moment.name, rows)]
                codes[:, at : at + len(moment.parts)] = np.array(parts, np.int64).reshape(rows, len(moment.parts))
                at += len(moment.parts)
            out["categorical"] = codes
        if self.image is not None:
            out["image"] = self.image.of_values(_values(columns, self.image.name, rows))
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

    def _numeric_columns(self, table: pa.Table | pa.RecordBatch, out: np.ndarray) -> None:
        """Fill float32 [N, F + I] column by column; N is small enough for the processor's cache."""
        mark = len(self.numeric)
        for i, column in enumerate(self.numeric):
            values = numbers_of_array(_column(table, column.name), column.name)
            refuse_infinite(values, (column.name,))
            out[:, i], missing = standardise(values, *(constant[i] for constant in self._constants))
            if column.indicator:
                out[:, mark] = missing
                mark += 1

    def _numeric(self, values: np.ndarray) -> np.ndarray:
        """float64 [N, F] -> float32 [N, F + I]."""
        refuse_infinite(values, self._names)
        scaled, missing = standardise(values, *self._constants)
        if len(self._indicators):
            marks = missing[:, self._indicators].astype(np.float32)
            return np.concatenate([scaled, marks], axis=1)
        return np.ascontiguousarray(scaled)

    # --- what it takes and gives -------------------------------------------------------------------------------------
    @property
    def fields(self) -> tuple[Field, ...]:
        """The raw inputs. A field is required when it was never missing in the training split."""
        numbers = [
            Field(c.name, c.kind, "BOOL" if c.kind == "bool" else "FP64", required=not c.indicator)
            for c in self.numeric
        ]
        categories = [
            Field(c.name, c.kind, _DATATYPES.get(c.kind, "BYTES"), required=not c.missing_seen)
            for c in self.categorical
        ]
        moments = [Field(c.name, c.kind, "BYTES", required=not c.missing_seen) for c in self.datetime]
        images = [Field(self.image.name, "tensor", "FP32", self.image.shape, True)] if self.image is not None else []
        return (*numbers, *categories, *moments, *images)

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        """The tensors that `apply_*` gives, in the order numeric, categorical, image."""
        out = []
        if self.numeric:
            names = (*self._names, *(f"{self._names[i]} is missing" for i in self._indicators))
            out.append(TensorSpec("numeric", "float32", (len(names),), names))
        if self._num_codes:
            names = tuple(column.name for column in self.categorical)
            sizes = tuple(column.cardinality for column in self.categorical)
            for moment in self.datetime:
                names += tuple(f"{moment.name}.{part}" for part in moment.parts)
                sizes += moment.cardinalities
            out.append(TensorSpec("categorical", "int64", (len(names),), names, sizes))
        if self.image is not None:
            out.append(TensorSpec("image", "float32", self.image.shape))
        return tuple(out)

    # --- at rest -----------------------------------------------------------------------------------------------------
    def to_json(self) -> bytes:
        """UTF-8 JSON; floats keep every bit, equal transforms give equal bytes."""
        value = {
            "format": _FORMAT,
            "numeric": [_plain(c, NUMERIC_KEYS) for c in self.numeric],
            "categorical": [_plain(c, CATEGORICAL_KEYS) for c in self.categorical],
            "datetime": [_plain(c, DATETIME_KEYS) for c in self.datetime],
            "image": None if self.image is None else _plain(self.image, IMAGE_KEYS),
        }
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)

    @classmethod
    def from_json(cls, data: bytes | str) -> "Transform":
        """Read what `to_json` wrote. Raises TransformError when it is something else."""
        try:
            value = orjson.loads(data)
            if value["format"] != _FORMAT:
                raise TransformError(f"transform of format {value['format']}, this version reads {_FORMAT}")
            image = value["image"]
            return cls(
                tuple(NumericColumn(**c) for c in value["numeric"]),
                tuple(CategoricalColumn(**{**c, "values": tuple(c["values"])}) for c in value["categorical"]),
                tuple(DatetimeColumn(**{**c, "parts": tuple(c["parts"])}) for c in value["datetime"]),
                None if image is None else ImageColumn(**{**image, "shape": tuple(image["shape"])}),
            )
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise TransformError("not a fitted transform", why=str(error)) from error


NUMERIC_KEYS = ("name", "kind", "impute", "mean", "std", "standard", "low", "high", "indicator")
CATEGORICAL_KEYS = ("name", "kind", "values", "buckets", "missing_seen")
DATETIME_KEYS = ("name", "kind", "parts", "missing_seen")
IMAGE_KEYS = ("name", "shape", "scale")


def _plain(column: object, keys: Sequence[str]) -> dict[str, object]:
    return {key: getattr(column, key) for key in keys}


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
