"""Raw feature tables as the matrices that baselines take. Fitted on training rows only; unknown values are handled."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairlead.errors import EvaluationError
from fairlead.evaluate.metrics import FloatArray
from fairlead.features.instants import part_array, readable_instants, wall_clock_array

# HistGradientBoosting takes categories below 255; rarer values share the last code.
MAX_CATEGORIES = 254
_MAX_IMAGE_VALUES = 4096
_DEFAULT_PARTS = ("hour", "weekday", "month")


@dataclass(frozen=True)
class BaselineData:
    """Raw features and labels of the training and test rows, in the order of the scores.

    `train` and `test` are pyarrow tables with the columns named in `numeric`, `categorical`, `datetime` and `image`
    (lists of numbers of one length); labels are class indices or floats, [N]. `datetime` may map a column to its
    calendar parts (as in the project file); else it gives hour, weekday and month. Rows may be a sample of the
    training split, never of the test split: baselines are judged on the very rows that the model is judged on.
    `train_weights` and `test_weights` [N]: how much each row counts, None: alike."""

    train: pa.Table
    train_labels: NDArray[Any]
    test: pa.Table
    test_labels: NDArray[Any]
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    datetime: tuple[str, ...] | Mapping[str, Sequence[str]] = ()
    image: tuple[str, ...] = ()
    train_weights: NDArray[Any] | None = None
    test_weights: NDArray[Any] | None = None

    def training_rows(self, kept: NDArray[np.bool_]) -> "BaselineData":
        """With only these training rows."""
        weights = None if self.train_weights is None else self.train_weights[kept]
        return replace(
            self, train=_filtered(self.train, kept), train_labels=self.train_labels[kept], train_weights=weights
        )

    def test_rows(self, kept: NDArray[np.bool_]) -> "BaselineData":
        """With only these test rows."""
        weights = None if self.test_weights is None else self.test_weights[kept]
        return replace(self, test=_filtered(self.test, kept), test_labels=self.test_labels[kept], test_weights=weights)

    def check(self, labels: FloatArray) -> None:
        """Raise EvaluationError unless the test rows are those of `labels` and the tables have the named columns."""
        for name, table, own in (("train", self.train, self.train_labels), ("test", self.test, self.test_labels)):
            if table.num_columns and table.num_rows != len(own):
                raise EvaluationError(
                    f"the baselines' {name} table has {table.num_rows} rows and {len(own)} labels",
                    fix="take both from the same split",
                )
            weights = self.train_weights if name == "train" else self.test_weights
            if weights is not None and len(weights) != len(own):
                raise EvaluationError(f"the baselines' {name} table has {len(own)} labels and {len(weights)} weights")
            wanted = (*self.numeric, *self.categorical, *self.datetime, *self.image)
            missing = [column for column in wanted if column not in table.column_names]
            if missing:
                raise EvaluationError(f"the baselines' {name} table lacks {', '.join(missing)}")
        if not np.array_equal(np.asarray(self.test_labels, dtype=np.float64), labels, equal_nan=True):
            raise EvaluationError(
                "baselines would be judged on other rows than the model",
                why="the labels of the baselines' test table differ from the model's",
            )


@dataclass(frozen=True)
class Feature:
    """One column of the encoded matrix. `source` is the raw column, with the derived part for a timestamp."""

    source: str
    categorical: bool


@dataclass(frozen=True)
class Encoded:
    """Encoded rows: `matrix` float64 [N, F], missing is NaN; a categorical column holds codes below 255."""

    matrix: FloatArray
    features: tuple[Feature, ...]

    @property
    def categorical(self) -> list[int]:
        """Positions of the categorical columns."""
        return [index for index, feature in enumerate(self.features) if feature.categorical]


def encode(data: BaselineData) -> tuple[Encoded, Encoded]:
    """The training and test rows as matrices with the same columns. Codes of categories and the kept image columns come
    from the training rows; a test value that these lack gets the code of rare values."""
    features: list[Feature] = []
    train: list[FloatArray] = []
    test: list[FloatArray] = []

    def add(name: str, categorical: bool, of_train: FloatArray, of_test: FloatArray) -> None:
        features.append(Feature(name, categorical))
        train.append(of_train)
        test.append(of_test)

    for name in data.numeric:
        add(name, False, _numbers(data.train[name]), _numbers(data.test[name]))
    for name in data.categorical:
        add(name, True, *_codes(data.train[name], data.test[name]))
    for name in data.datetime:
        wanted = data.datetime[name] if isinstance(data.datetime, Mapping) else _DEFAULT_PARTS
        of_train, of_test = _parts(data.train[name], wanted), _parts(data.test[name], wanted)
        for part, values in of_train.items():
            add(f"{name}:{part}", False, values, of_test[part])
    for name in data.image:
        a, b = _pixels(data.train[name]), _pixels(data.test[name])
        if a.shape[1] == b.shape[1] <= _MAX_IMAGE_VALUES:
            for index in range(a.shape[1]):
                add(f"{name}[{index}]", False, a[:, index], b[:, index])
    return (
        Encoded(_matrix(train, len(data.train_labels)), tuple(features)),
        Encoded(_matrix(test, len(data.test_labels)), tuple(features)),
    )


def _filtered(table: pa.Table, kept: NDArray[np.bool_]) -> pa.Table:
    return table.filter(pa.array(kept)) if table.num_columns else table


def _matrix(columns: list[FloatArray], rows: int) -> FloatArray:
    return np.column_stack(columns) if columns else np.empty((rows, 0))


def _numbers(column: pa.ChunkedArray) -> FloatArray:
    values: FloatArray = column.cast(pa.float64()).to_numpy().astype(np.float64)
    # An infinite value is out of any range; as missing, every baseline can take it.
    return np.where(np.isfinite(values), values, np.nan)


def _codes(train: pa.ChunkedArray, test: pa.ChunkedArray) -> tuple[FloatArray, FloatArray]:
    known = pc.value_counts(train.cast(pa.string()).drop_null().combine_chunks())
    order = np.argsort(-known.field("counts").to_numpy(zero_copy_only=False), kind="stable")
    frequent = known.field("values").take(pa.array(order[: MAX_CATEGORIES - 1]))

    def code(column: pa.ChunkedArray) -> FloatArray:
        text = column.cast(pa.string())
        index = pc.fill_null(pc.index_in(text, value_set=frequent), len(frequent)).to_numpy().astype(np.float64)
        return np.where(text.is_null().to_numpy(), np.nan, index)

    return code(train), code(test)


def _parts(column: pa.ChunkedArray, wanted: Sequence[str]) -> dict[str, FloatArray]:
    """Calendar parts as the transform of a model reads them. Text that is no point in time counts as missing."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_string(array.type):
        array = pc.if_else(pa.array(readable_instants(array)), array, pa.scalar(None, pa.string()))
    clock = wall_clock_array(array)
    missing = np.isnat(clock)
    return {part: np.where(missing, np.nan, part_array(clock, part).astype(np.float64)) for part in wanted}


def _pixels(column: pa.ChunkedArray) -> FloatArray:
    flat = column.combine_chunks()
    while not pa.types.is_floating(flat.type) and not pa.types.is_integer(flat.type):
        flat = flat.flatten()
    values = np.asarray(flat.to_numpy(zero_copy_only=False), dtype=np.float64)
    if len(column) == 0 or len(values) % len(column):
        raise EvaluationError("an image column holds rows of different length")
    return values.reshape(len(column), -1)
