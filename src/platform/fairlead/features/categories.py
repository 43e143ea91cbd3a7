"""One spelling for each category, whatever type carries it: 1545, 1545.0 and "1545" are the same category.

A column of integers turns into floats as soon as a tool meets a missing value in it, and JSON knows no integers at all,
so the spelling must not depend on the carrier. None and NaN are missing.
"""

from datetime import date, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_EXACT = 2.0**53


def category_text(value: object) -> str | None:
    """The spelling of one value; None when it is missing. Raises TypeError for what cannot be a category."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if value != value:
            return None
        return str(int(value)) if abs(value) < _EXACT and value.is_integer() else repr(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} cannot be a category")


def category_array(array: pa.Array) -> pa.Array:
    """The same for a column: string [N], null where missing. Raises TypeError for types that are no categories."""
    kind = array.type
    if pa.types.is_string(kind):
        return array
    if pa.types.is_dictionary(kind):
        return category_array(array.dictionary).take(array.indices)
    if pa.types.is_floating(kind):
        encoded = pc.dictionary_encode(array)
        texts = pa.array([category_text(value) for value in encoded.dictionary.to_pylist()], pa.string())
        return texts.take(encoded.indices)
    plain = (pa.types.is_integer, pa.types.is_boolean, pa.types.is_large_string, pa.types.is_date32, pa.types.is_null)
    if any(check(kind) for check in plain) or kind == pa.string_view():
        return array.cast(pa.string())
    raise TypeError(f"{kind} cannot be a category")
