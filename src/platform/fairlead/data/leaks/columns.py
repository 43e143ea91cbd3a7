"""A sample of rows as the leak scan looks at them: numbers, codes, times of day."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairlead.features.categories import category_array
from fairlead.features.encoders import numbers_of_array
from fairlead.features.instants import part_array, wall_clock_array
from fairlead.spec.features import Features


def feature_columns(rows: pa.Table, features: Features) -> dict[tuple[str, str], np.ndarray]:
    """(feature, derived part or "") -> float64 [N] numbers with NaN, or int64 [N] codes."""
    columns: dict[tuple[str, str], np.ndarray] = {}
    for name in features.numeric:
        columns[name, ""] = numbers_of_array(rows[name].combine_chunks(), name)
    for name in features.categorical:
        encoded = pc.dictionary_encode(category_array(rows[name].combine_chunks()))
        columns[name, ""] = encoded.indices.fill_null(-1).to_numpy().astype(np.int64) + 1
    for name, options in features.datetime_options().items():
        clock = wall_clock_array(rows[name].combine_chunks())
        missing = np.isnat(clock)
        for part in options.parts:
            columns[name, part] = np.where(missing, 0, part_array(clock, part) + 1)
    return columns


def clocks_of(
    rows: pa.Table, features: Features, columns: Mapping[tuple[str, str], np.ndarray]
) -> dict[str, np.ndarray]:
    """Features that are a time of day: minutes after midnight, float64 [N] with NaN."""
    clocks = {}
    for name in features.numeric:
        values = columns[name, ""]
        known = values[~np.isnan(values)]
        whole = len(known) > 0 and bool(np.all((known >= 0) & (known <= 2400) & (known == np.floor(known))))
        if whole and np.all(known % 100 < 60) and known.max() >= 1300 and len(np.unique(known)) >= 24:
            clocks[name] = np.floor(values / 100) * 60 + values % 100
    for name in features.datetime:
        clock = wall_clock_array(rows[name].combine_chunks())
        minutes = part_array(clock, "hour") * 60.0 + part_array(clock, "minute")
        clocks[name] = np.where(np.isnat(clock), np.nan, minutes)
    return clocks


def numbers(rows: pa.Table, name: str) -> np.ndarray:
    """float64 [N] of one numeric column, NaN where missing."""
    return numbers_of_array(rows[name].combine_chunks(), name)
