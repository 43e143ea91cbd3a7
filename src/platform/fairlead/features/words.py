"""Texts as the indices of their words."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairlead.errors import TransformError
from fairlead.features.hashing import stable_hash

_WORD = re.compile(r"\w+")


def words_of(text: str, lowercase: bool) -> list[str]:
    """The words of a text: runs of letters, digits and underscores, as Unicode has them. Scripts that write no spaces
    give long words; split those before."""
    return _WORD.findall(text.lower() if lowercase else text)


def text_array(array: pa.Array, name: str) -> pa.DictionaryArray:
    """A column of texts, each different one once. Raises TransformError for other types."""
    kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_null)
    if not (any(check(kind) for check in checks) or kind == pa.string_view()):
        raise TransformError(f"column {name} holds {array.type}, not text")
    return pc.dictionary_encode(array.cast(pa.string()))


@dataclass(frozen=True, slots=True)
class TextColumn:
    """A text: `max_tokens` indices, 0 for none; then the vocabulary, most frequent first; then hash buckets for the
    rest. A missing text has no word."""

    name: str
    values: tuple[str, ...]
    max_tokens: int
    buckets: int
    lowercase: bool
    missing_seen: bool = False
    _index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_index", {value: i for i, value in enumerate(self.values, start=1)})

    @property
    def cardinality(self) -> int:
        """Number of indices."""
        return 1 + len(self.values) + self.buckets

    def of_values(self, values: Iterable[object]) -> np.ndarray:
        """int64 [N, max_tokens] of N Python values. Raises TransformError for what is no text."""
        lines = [self._line(value) for value in values]
        return np.array(lines, np.int64).reshape(len(lines), self.max_tokens)

    def of_array(self, array: pa.Array) -> np.ndarray:
        """The same for a column of Arrow data."""
        encoded = text_array(array, self.name)
        lines = self.of_values([*encoded.dictionary.to_pylist(), None])
        return np.asarray(lines[encoded.indices.fill_null(len(lines) - 1).to_numpy()])

    def _line(self, value: object) -> list[int]:
        if value is None or value != value:
            return [0] * self.max_tokens
        if not isinstance(value, str):
            raise TransformError(f"column {self.name}: {type(value).__name__} is not text")
        found = [self._of_word(word) for word in words_of(value, self.lowercase)[: self.max_tokens]]
        return found + [0] * (self.max_tokens - len(found))

    def _of_word(self, word: str) -> int:
        found = self._index.get(word)
        if found is not None:
            return found
        first = 1 + len(self.values)
        return first if self.buckets == 1 else first + stable_hash(word) % self.buckets


def columns_of(texts: Sequence[TextColumn]) -> tuple[str, ...]:
    """The name of the text at each place of the `text` tensor's last axis."""
    return tuple(text.name for text in texts for _ in range(text.max_tokens))
