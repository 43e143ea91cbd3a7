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
_NUMBERS = {"int": pa.int64(), "float": pa.float64()}
_LIMITS = {"int": 10**18, "float": float("inf")}
_NUMBER_BYTES = {
    kind: np.isin(np.arange(256), np.frombuffer(allowed, np.uint8))
    for kind, allowed in (("int", b"0123456789-"), ("float", b"0123456789-+.eE"))
}
_BOOL = {"true": True, "false": False, "True": True, "False": False, "TRUE": True, "FALSE": False}


def parse_text(array: pa.Array, kind: str) -> tuple[pa.Array, np.ndarray]:
    """string [N] -> (values of `kind`, null where missing or unreadable; unreadable bool [N]).

    Points in time become the wall clock as written (timestamp[us] without a zone), which is what features describe.
    """
    if kind == "string":
        return array, np.zeros(len(array), bool)
    plain = _plain_numbers(array, kind)
    if plain is not None:
        return plain, np.zeros(len(array), bool)
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


def _plain_numbers(array: pa.Array, kind: str) -> pa.Array | None:
    """The numbers of a column that holds nothing else but empty fields, as most do; None for any other column.

    Arrow's own reading takes more than `parse_text` does ("0x1F", "INF") and less ("+1"). Where all bytes are those of
    plain decimals and it refuses none, the two agree; a number beyond their common range sends the column back."""
    if kind not in _NUMBER_BYTES or array.type != pa.string():
        return None
    _, offsets_buffer, data = array.buffers()
    if data is None:
        return None
    offsets = np.frombuffer(offsets_buffer, np.int32, len(array) + 1, array.offset * 4)
    if not _NUMBER_BYTES[kind][np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]]].all():
        return None
    empty = offsets[1:] == offsets[:-1]
    try:
        values = (pc.if_else(pa.array(empty), None, array) if empty.any() else array).cast(_NUMBERS[kind])
    except pa.ArrowInvalid:
        return None
    ends = pc.min_max(values)
    low, high = ends["min"].as_py(), ends["max"].as_py()
    if low is None:
        return values
    return values if -_LIMITS[kind] < low and high < _LIMITS[kind] else None


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
