"""What is known about each column after fitting, and how its values become numbers.

Every encoder has two doors, one for a column of Arrow data and one for single Python values. Arithmetic on numbers
happens in one function, `standardise`; categories and calendar parts are integers, found by lookup.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairlead.errors import TransformError
from fairlead.features.categories import category_array, category_text
from fairlead.features.hashing import stable_hash
from fairlead.features.instants import PART_FIRST, PART_SIZES, part_array, part_of, wall_clock, wall_clock_array
from fairlead.features.logarithm import signed_log

# No number of the training split is further than sqrt(rows) standard deviations from its mean; beyond a million all
# are the same to a network, and products of float32 stay finite.
STANDARD_LIMIT = 1e6
PLAIN_LIMIT = float(np.finfo(np.float32).max)
_PLAIN_NUMBERS = frozenset({float, int, bool, type(None)})


def standardise(
    values: np.ndarray,
    impute: np.ndarray | float,
    low: np.ndarray | float,
    high: np.ndarray | float,
    mean: np.ndarray | float,
    std: np.ndarray | float,
    limit: np.ndarray | float,
    *,
    logs: np.ndarray | bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """float64 [..., F] with NaN for missing -> (float32 [..., F], missing bool [..., F]); the rest broadcasts. `logs`:
    whether the logarithm is taken, or the positions on the last axis where it is."""
    missing = np.isnan(values)
    filled = np.where(missing, impute, values)
    clipped = np.minimum(np.maximum(filled, low), high)
    if logs is True:
        clipped = signed_log(clipped)
    elif isinstance(logs, np.ndarray) and len(logs):
        clipped[..., logs] = signed_log(clipped[..., logs])
    with np.errstate(over="ignore"):
        scaled = (clipped - mean) / std
    return np.minimum(np.maximum(scaled, -limit), limit).astype(np.float32), missing


def numbers_of_array(array: pa.Array, name: str) -> np.ndarray:
    """float64 [N] of a numeric column, NaN where missing. Raises TransformError for other types."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        array = array.dictionary_decode()
        kind = array.type
    if pa.types.is_decimal(kind):
        # Arrow's own conversion is not correctly rounded, Python's is; the two doors must agree.
        values: np.ndarray = np.array([np.nan if v is None else float(v) for v in array.to_pylist()], np.float64)
    elif pa.types.is_boolean(kind):
        values = array.cast(pa.uint8()).cast(pa.float64()).to_numpy(zero_copy_only=False)
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind):
        values = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    else:
        raise TransformError(f"column {name} holds {kind}, not numbers")
    return values


def numbers_of_values(values: Sequence[object] | np.ndarray, name: str) -> np.ndarray:
    """float64 [N] of Python values of one column, NaN for None."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiub":
        return values.astype(np.float64)
    return np.array([number_of_value(value, name) for value in values], np.float64)


def number_of_value(value: object, name: str) -> float:
    """One Python value as a float, NaN for None. Raises TransformError for anything that is no number."""
    if value is None:
        return np.nan
    if type(value) in _PLAIN_NUMBERS or isinstance(value, (int, float, np.number, np.bool_)):
        return _float(value, name)
    from decimal import Decimal

    if isinstance(value, Decimal):
        return _float(value, name)
    raise TransformError(f"column {name}: {type(value).__name__} {_short(value)} is not a number")


def _float(value: object, name: str) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (OverflowError, ValueError, TypeError) as error:
        raise TransformError(f"column {name}: {_short(value)} does not fit a 64-bit float") from error


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def refuse_infinite(values: np.ndarray, names: Sequence[str]) -> None:
    """Raise TransformError when float64 [N, F] (or [N] for one name) holds an infinity."""
    infinite = np.isinf(values)
    if infinite.any():
        column = int(np.argwhere(infinite)[0][-1]) if values.ndim > 1 else 0
        raise TransformError(f"column {names[column]}: an infinite number", fix="send a finite number or null")


@dataclass(frozen=True, slots=True)
class NumericColumn:
    """A number: (x - mean) / std of the imputed, clipped value, or of its logarithm. What stands for mean and deviation
    is up to the scaling; `standard` is False when there is none. `low` and `high` are None without clipping; with
    `indicator` a second column marks missing values."""

    name: str
    kind: str
    impute: float
    mean: float
    std: float
    standard: bool
    low: float | None = None
    high: float | None = None
    indicator: bool = False
    log: bool = False

    @property
    def limit(self) -> float:
        """Results are kept within plus and minus this."""
        return STANDARD_LIMIT if self.standard else PLAIN_LIMIT


@dataclass(frozen=True, slots=True)
class CategoricalColumn:
    """A category: index 0 is missing; then the vocabulary, most frequent first; then the hash buckets for the rest."""

    name: str
    kind: str
    values: tuple[str, ...]
    buckets: int
    missing_seen: bool = False
    _index: dict[str, int] = field(init=False, repr=False, compare=False)
    _arrow: pa.Array = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_index", {value: i for i, value in enumerate(self.values, start=1)})
        object.__setattr__(self, "_arrow", pa.array(self.values, pa.string()))

    @property
    def cardinality(self) -> int:
        """Number of indices."""
        return 1 + len(self.values) + self.buckets

    def index(self, value: object) -> int:
        """The index of one Python value. Raises TransformError for a type that cannot be a category."""
        if type(value) is not str:
            try:
                value = category_text(value)
            except TypeError as error:
                raise TransformError(f"column {self.name}: {error}") from error
            if value is None:
                return 0
        found = self._index.get(value)
        return found if found is not None else self._bucket(value)

    def indices(self, array: pa.Array) -> np.ndarray:
        """The indices of a column: int64 [N]."""
        try:
            texts = category_array(array)
        except TypeError as error:
            raise TransformError(f"column {self.name}: {error}") from error
        if not self.values:
            result = np.full(len(texts), -1, np.int64)
        else:
            result = pc.index_in(texts, value_set=self._arrow).fill_null(-1).to_numpy().astype(np.int64)
        result += 1
        missing = texts.is_null().to_numpy(zero_copy_only=False)
        unknown = (result == 0) & ~missing
        if unknown.any():
            rest = pc.dictionary_encode(texts.filter(pa.array(unknown)))
            codes = np.array([self._bucket(text) for text in rest.dictionary.to_pylist()], np.int64)
            result[unknown] = codes[rest.indices.to_numpy()]
        return result

    def _bucket(self, text: str) -> int:
        first = 1 + len(self.values)
        return first if self.buckets == 1 else first + stable_hash(text) % self.buckets


@dataclass(frozen=True, slots=True)
class DatetimeColumn:
    """A point in time: each calendar part is a category of its own, index 0 is missing; or a point on a circle; or
    both (`encode`: category, cyclic, both)."""

    name: str
    kind: str
    parts: tuple[str, ...]
    missing_seen: bool = False
    encode: str = "category"

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Number of indices of each part."""
        return tuple(PART_SIZES[part] + 1 for part in self.parts)

    def codes(self, value: object) -> list[int]:
        """The indices of one Python value, one a part."""
        try:
            clock = wall_clock(value)
        except (TypeError, ValueError) as error:
            raise TransformError(f"column {self.name}: {error}") from error
        if clock is None:
            return [0] * len(self.parts)
        return [part_of(clock, part) + 1 - PART_FIRST[part] for part in self.parts]

    def columns(self, array: pa.Array) -> list[np.ndarray]:
        """The indices of a column, int64 [N] for each part."""
        try:
            clock = wall_clock_array(array)
        except (TypeError, ValueError) as error:
            raise TransformError(f"column {self.name}: {error}") from error
        missing = np.isnat(clock)
        return [np.where(missing, 0, part_array(clock, part) + 1 - PART_FIRST[part]) for part in self.parts]


@dataclass(frozen=True, slots=True)
class ImageColumn:
    """A block of numbers of a fixed shape. It is never imputed: a missing one is refused."""

    name: str
    shape: tuple[int, ...]
    scale: float

    def of_values(self, values: Sequence[object]) -> np.ndarray:
        """float32 [N, *shape] of N nested or flat sequences of numbers."""
        out = np.empty((len(values), *self.shape), np.float32)
        for i, value in enumerate(values):
            if value is None:
                raise TransformError(f"column {self.name}: missing", fix=f"send numbers of shape {list(self.shape)}")
            try:
                block = np.asarray(value)
                block = block.astype(np.float64) if block.dtype.kind in "fiub" else np.array(None)
            except ValueError:
                block = np.array(None)
            if block.dtype != np.float64 or block.shape not in (self.shape, (int(np.prod(self.shape)),)):
                raise TransformError(f"column {self.name}: not numbers of shape {list(self.shape)}")
            out[i] = self._scaled(block.reshape(self.shape))
        return out

    def of_array(self, array: pa.Array) -> np.ndarray:
        """float32 [N, *shape] of a column of (nested) lists."""
        rows = len(array)
        is_list: Callable[[pa.DataType], bool] = lambda kind: (  # noqa: E731
            pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        )
        if not is_list(array.type):
            raise TransformError(f"column {self.name} holds {array.type}, not lists of numbers")
        while is_list(array.type):
            lengths = pc.unique(pc.list_value_length(array))
            if array.null_count or len(lengths) > 1:
                raise TransformError(f"column {self.name}: a block that is missing or not of shape {list(self.shape)}")
            array = pc.list_flatten(array)
        numbers = numbers_of_array(array, self.name)
        if numbers.size != rows * int(np.prod(self.shape)):
            raise TransformError(f"column {self.name}: not numbers of shape {list(self.shape)}")
        return self._scaled(numbers.reshape(rows, *self.shape))

    def _scaled(self, block: np.ndarray) -> np.ndarray:
        if not np.isfinite(block).all():
            raise TransformError(f"column {self.name}: a number that is missing or not finite")
        limit = PLAIN_LIMIT
        return np.minimum(np.maximum(block / self.scale, -limit), limit).astype(np.float32)
