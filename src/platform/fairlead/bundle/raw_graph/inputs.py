"""What the raw graph takes: one input a column, one entry a row; and raw rows in that form.

    a number             FP64    NaN where missing
    a category           BYTES   its spelling ("1545" for 1545), "" where missing
    a point in time      INT64   microseconds since 1970-01-01 on the wall clock as written, -2^63 where missing
    a picture            FP32    its numbers

Operators of ONNX cannot hash or split a text. So a category with hash buckets (encode: hash, or more than one bucket
out of vocabulary) comes as `<name>.index` INT64 and a text as `<name>.tokens` INT64 [max_tokens], as the transform has
them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from fairlead.bundle.raw_graph.calendar import MISSING
from fairlead.errors import TransformError
from fairlead.features.categories import category_array
from fairlead.features.columns import Columns
from fairlead.features.encoders import CategoricalColumn, numbers_of_array, refuse_infinite
from fairlead.features.instants import wall_clock_array


@dataclass(frozen=True, slots=True)
class RawInput:
    """One input of the graph. `datatype` is an Open Inference Protocol datatype, `shape` is per row; `raw` is False for
    indices that the caller has to find."""

    name: str
    column: str
    datatype: str
    shape: tuple[int, ...] = ()
    raw: bool = True


def is_hashed(column: CategoricalColumn) -> bool:
    """Whether a category needs a hash."""
    return column.buckets > 1


def inputs_of(columns: Columns) -> tuple[RawInput, ...]:
    """The inputs, in the order of the columns."""
    found = [RawInput(name, name, "FP64") for name in columns.numbers]
    for category in columns.categorical:
        name = category.name
        hashed = is_hashed(category)
        found.append(RawInput(f"{name}.index", name, "INT64", raw=False) if hashed else RawInput(name, name, "BYTES"))
    found += [RawInput(moment.name, moment.name, "INT64") for moment in columns.datetime]
    if columns.image is not None:
        found.append(RawInput(columns.image.name, columns.image.name, "FP32", columns.image.shape))
    found += [RawInput(f"{t.name}.tokens", t.name, "INT64", (t.max_tokens,), raw=False) for t in columns.text]
    return tuple(found)


def raw_arrays(columns: Columns, table: pa.Table) -> dict[str, np.ndarray]:
    """The rows of a table as the graph takes them. Raises TransformError."""
    found: dict[str, np.ndarray] = {}
    for name in columns.numbers:
        found[name] = numbers_of_array(_column(table, name), name)
        refuse_infinite(found[name], (name,))
    for category in columns.categorical:
        array = _column(table, category.name)
        if is_hashed(category):
            found[f"{category.name}.index"] = category.indices(array)
        else:
            found[category.name] = np.array(category_array(array).fill_null("").to_pylist(), dtype=object)
    for moment in columns.datetime:
        clock = wall_clock_array(_column(table, moment.name))
        found[moment.name] = np.where(np.isnat(clock), MISSING, clock.astype(np.int64))
    if columns.image is not None:
        image = columns.image
        found[image.name] = _pixels(_column(table, image.name), image.shape, table.num_rows)
    for text in columns.text:
        found[f"{text.name}.tokens"] = text.of_array(_column(table, text.name))
    return found


def _pixels(array: pa.Array, shape: Sequence[int], rows: int) -> np.ndarray:
    while pa.types.is_list(array.type) or pa.types.is_large_list(array.type) or pa.types.is_fixed_size_list(array.type):
        array = array.flatten()
    return np.asarray(array.cast(pa.float32()).to_numpy(zero_copy_only=False)).reshape(rows, *shape)


def _column(table: pa.Table, name: str) -> pa.Array:
    if name not in table.column_names:
        raise TransformError(f"column {name} is missing")
    return table[name].combine_chunks()
