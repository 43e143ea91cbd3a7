"""Turning columns of text into values: which strings are numbers, truths, points in time, and which are not."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairlead.features.instants import readable_instants, wall_clock_array

# In a column of numbers these stand for a missing value; in a column of strings only an empty field does.
MISSING_WORDS = ("", "NA", "N/A", "n/a", "#N/A", "NULL", "null", "None", "none", "NaN", "nan", "NAN")

_INT = r"^[+-]?\d{1,18}$"
_FLOAT = r"^[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[iI]nf(?:inity)?)$"
_LONG_INT = r"^\s*[+-]?\d{19,}\s*$"
_ZONE = r"(?:[Zz]|[+-]\d\d:?\d\d)\s*$"
_BOOL = {"true": True, "false": False, "True": True, "False": False, "TRUE": True, "FALSE": False}


def parse_text(array: pa.Array, kind: str) -> tuple[pa.Array, np.ndarray]:
    """string [N] -> (values of `kind`, null where missing or unreadable; unreadable bool [N]).

    Points in time become the wall clock as written (timestamp[us] without a zone), which is what features describe.
    """
    if kind == "string":
        return array, np.zeros(len(array), bool)
    trimmed = pc.utf8_trim_whitespace(array)
    words = pc.is_in(trimmed, value_set=pa.array(MISSING_WORDS))
    text = pc.if_else(words, None, trimmed)
    if kind == "timestamp":
        good = readable_instants(text)
        values = pa.array(wall_clock_array(pc.if_else(pa.array(good), text, None)))
        return values, ~good & _present(text)
    if kind == "bool":
        index = pc.index_in(text, value_set=pa.array(list(_BOOL)))
        bools = pa.array(list(_BOOL.values())).take(index)
        return bools, np.asarray(index.is_null().to_numpy(zero_copy_only=False)) & _present(text)
    good = pc.match_substring_regex(text, _INT if kind == "int" else _FLOAT).fill_null(False)
    bad = ~np.asarray(good.to_numpy(zero_copy_only=False)) & _present(text)
    text = pc.if_else(good, text, None)
    text = pc.replace_substring_regex(text, r"^\+", "")
    return text.cast(pa.int64() if kind == "int" else pa.float64()), bad


def count_zones(text: pa.Array) -> tuple[int, int]:
    """How many of these points in time say their zone, and how many do not."""
    zoned: int = pc.sum(pc.match_substring_regex(text, _ZONE)).as_py() or 0
    return zoned, len(text) - text.null_count - zoned


def _present(text: pa.Array) -> np.ndarray:
    return np.asarray(text.is_valid().to_numpy(zero_copy_only=False))


def likely_kind(array: pa.Array, share: float = 0.99) -> str:
    """The narrowest kind that at least `share` of the present strings can be read as."""
    for kind in ("bool", "int", "float", "timestamp"):
        values, bad = parse_text(array, kind)
        present = len(values) - values.null_count + int(bad.sum())
        if present and int(bad.sum()) <= (1 - share) * present:
            # Identifiers of so many digits are no floats: neighbours would become one number.
            if kind == "float" and pc.sum(pc.match_substring_regex(array, _LONG_INT)).as_py() > (1 - share) * present:
                return "string"
            return kind
    return "string"
