"""Strings and booleans of one column, and blocks of numbers: values, lengths, different ones."""

from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairlead.data.summary.column import ColumnSummary
from fairlead.data.summary.distinct import hash_texts
from fairlead.data.summary.draw import Draw
from fairlead.data.summary.frequent import most_frequent

_LONG_TEXT = 4096


class ValueSummary(ColumnSummary):
    """A column of type string or bool; of other types ("tensor", "other") only presence and lengths.

    `lengths` are characters of a text, items of a list: (shortest, sum, longest); None where nothing has a length."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.lengths: tuple[int, int, int] | None = None

    @classmethod
    def of(cls, array: pa.Array, kind: str, draw: Draw) -> Self:
        """Of one batch."""
        made = cls(kind)
        made.rows, made.missing = len(array), array.null_count
        if kind == "bool":
            true = pc.sum(array).as_py() or 0
            counts = {"false": made.count - true, "true": true}
            made._take(pa.array([text for text in counts if counts[text]]), np.array([c for c in counts.values() if c]))
        elif kind == "string":
            encoded, indices = encode(array)
            counts_ = np.bincount(indices[indices >= 0], minlength=len(encoded)) if len(encoded) else np.empty(0, int)
            used = np.flatnonzero(counts_)
            if len(used) < len(encoded):
                encoded, counts_ = encoded.take(pa.array(used)), counts_[used]
            made._measure(pc.utf8_length(encoded), counts_)
            if draw.sketches or len(encoded) <= made.frequent.keep:
                made._take(encoded, counts_)
        elif pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
            made._measure(pc.list_value_length(array).drop_null(), np.ones(made.count, np.int64))
        return made

    def _measure(self, lengths: pa.Array, counts: np.ndarray) -> None:
        if len(counts):
            sizes = lengths.to_numpy(zero_copy_only=False).astype(np.int64)
            self.lengths = int(sizes.min()), int((sizes * counts).sum()), int(sizes.max())

    def _take(self, texts: pa.Array, counts: np.ndarray) -> None:
        if not len(texts):
            return
        chosen, cut = np.arange(len(counts)), 0
        if len(counts) > self.frequent.limit:
            chosen, cut = most_frequent(counts, self.frequent.keep)
        kept = texts.take(pa.array(chosen)) if len(chosen) < len(texts) else texts
        taken = counts[chosen] - cut
        self.frequent.add((_shown(text) for text in kept.to_pylist()), taken)
        self.frequent.add_rest(int(counts.sum() - taken.sum()), cut)
        self.distinct.add_many(hash_array(texts))

    def merge(self, other: Self) -> None:
        """Add what `other` saw."""
        super().merge(other)
        if other.lengths is not None:
            low, total, high = self.lengths or (other.lengths[0], 0, other.lengths[2])
            self.lengths = min(low, other.lengths[0]), total + other.lengths[1], max(high, other.lengths[2])

    def to_value(self) -> dict[str, Any]:
        """JSON."""
        return super().to_value() | {"lengths": None if self.lengths is None else list(self.lengths)}

    @classmethod
    def from_value(cls, value: dict[str, Any]) -> Self:
        """What `to_value` gave."""
        made = super().from_value(value)
        made.lengths = None if value["lengths"] is None else tuple(value["lengths"])
        return made


def encode(array: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """(different texts, which of them each row has: int64 [N], -1 where missing). A text may be listed unused."""
    if not pa.types.is_dictionary(array.type):
        array = pc.dictionary_encode(array)
    indices = array.indices.fill_null(-1) if array.indices.null_count else array.indices
    texts = array.dictionary if array.dictionary.type == pa.string() else array.dictionary.cast(pa.string())
    return texts, indices.to_numpy(zero_copy_only=False).astype(np.int64)


def hash_array(texts: pa.Array) -> np.ndarray:
    """uint64 [N] of strings without nulls."""
    _, offsets_buffer, data = texts.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int32, len(texts) + 1, texts.offset * 4).astype(np.int64)
    if data is None or not len(texts):
        return hash_texts(offsets, np.empty(0, np.uint8))
    first, last = int(offsets[0]), int(offsets[-1])
    return hash_texts(offsets - first, np.frombuffer(data, np.uint8, last - first, first))


def _shown(text: str) -> str:
    """Long texts are told by their beginning and a digest: no summary grows with its values."""
    if len(text) <= _LONG_TEXT // 16:
        return text
    from fairlead.features.hashing import stable_hash

    return f"{text[:200]}… ({len(text):,} characters, {stable_hash(text):016x})"
