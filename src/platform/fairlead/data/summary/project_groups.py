"""By what a project's rows are grouped: the month of their time, the split they fall into, their label."""

from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from fairlead.data.row_hashes import hash_column
from fairlead.data.summary.groups import MAX_GROUPS, Codes
from fairlead.data.summary.values import encode
from fairlead.features.categories import category_array
from fairlead.features.hashing import mix
from fairlead.features.kinds import kind_of
from fairlead.records.data import SPLITS
from fairlead.spec.data import Data, Split

DIMENSIONS = ("split", "month", "label")


class ProjectGroups:
    """The groups of a batch. A split that needs all rows at once (random, stratified, shares in time order) is only
    known after `data split`, so there are no groups by split then."""

    def __init__(self, data: Data) -> None:
        self._time, self._label, self._entity, self._split = data.time, data.label.column, data.entity, data.split

    def __call__(self, batch: pa.RecordBatch) -> Mapping[str, Codes]:
        found: dict[str, Codes] = {}
        stamps = None
        if self._time is not None:
            array = _column(batch, self._time, "timestamp")
            if array is not None:
                stamps = array.cast(pa.timestamp("us", getattr(array.type, "tz", None)), safe=False)
                stamps = stamps.cast(pa.int64()).fill_null(np.iinfo(np.int64).min).to_numpy(zero_copy_only=False)
                found["month"] = by_month(stamps.view("datetime64[us]"))
        splits = self._by_split(batch, stamps)
        if splits is not None:
            found["split"] = splits
        label = _column(batch, self._label)
        if label is not None:
            codes = by_value(label)
            if codes is not None:
                found["label"] = codes
        return found

    def _by_split(self, batch: pa.RecordBatch, stamps: np.ndarray | None) -> Codes | None:
        split = self._split
        if split.by == "time":
            return None if stamps is None else _by_instant(split, stamps)
        entity = None if self._entity is None else _column(batch, self._entity)
        if split.by != "group" or entity is None:
            return None
        position = mix(hash_column(entity), split.seed).astype(np.float64) / 2.0**64
        train = 1 - float(split.validation) - float(split.test)  # type: ignore[arg-type]
        cuts = np.array([train, train + float(split.validation)]) - 1e-9  # type: ignore[arg-type]
        return Codes(np.searchsorted(cuts, position, side="right"), SPLITS)


def by_month(stamps: np.ndarray) -> Codes:
    """Of datetime64[us] [N]; NaT is in no group."""
    known = ~np.isnat(stamps)
    if not known.any():
        return Codes(np.full(len(stamps), -1), ())
    low, high = stamps[known].min().astype("datetime64[M]"), stamps[known].max().astype("datetime64[M]")
    months = np.arange(low, high + 1)
    if len(months) > 10 * MAX_GROUPS["month"]:  # an instant far off: too many to name them all
        return Codes(np.zeros(len(stamps), np.int64), [str(i) for i in range(MAX_GROUPS["month"] + 1)])
    if len(months) == 1:
        codes = np.zeros(len(stamps), np.int64)
    else:
        codes = (stamps.astype("datetime64[M]") - low).astype(np.int64)
    return Codes(codes if known.all() else np.where(known, codes, -1), [str(month) for month in months])


def by_value(array: pa.Array) -> Codes | None:
    """Of a column with few different values; None for types that are no categories."""
    if pa.types.is_floating(array.type) and len(array) and len(array.slice(0, 1000).unique()) > MAX_GROUPS["label"]:
        return Codes(np.zeros(len(array), np.int64), [str(i) for i in range(MAX_GROUPS["label"] + 1)])
    try:
        texts, codes = encode(category_array(array))
    except TypeError:
        return None
    return Codes(codes, [text[:200] for text in texts.to_pylist()])


def _by_instant(split: Split, stamps: np.ndarray) -> Codes | None:
    if not isinstance(split.validation, datetime) or not isinstance(split.test, datetime):
        return None
    begins = [_microseconds(split.validation), _microseconds(split.test)]
    codes = (stamps >= begins[0]).astype(np.int64) + (stamps >= begins[1])
    codes[stamps == np.iinfo(np.int64).min] = -1
    if split.until is not None:
        codes[stamps >= _microseconds(split.until)] = len(SPLITS)
    return Codes(codes, (*SPLITS, "(later)"))


def _microseconds(instant: datetime) -> int:
    return int(np.datetime64(instant.astimezone(UTC).replace(tzinfo=None), "us").astype(np.int64))


def _column(batch: pa.RecordBatch, name: str, kind: str | None = None) -> pa.Array | None:
    index = batch.schema.get_field_index(name)
    if index < 0 or (kind is not None and kind_of(batch.schema.field(index).type) != kind):
        return None
    return batch.column(index)
