"""What the other columns lead to expect of a column.

Every column of September differs from January's, and nothing is wrong. But temperature still goes with dew point and
humidity as it did. So a column of numbers is fitted on the others in the reference (least squares on numbers and
frequent values; no powers, which lead astray beyond the reference), and the fit is asked about the live rows: what it
expects of them differs from the live numbers by a change of unit though both have moved with the season. Only columns
that the others tell well count.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairlead.features.categories import category_array
from fairlead.features.encoders import numbers_of_array

Floats = NDArray[np.float64]

LEAST_R2 = 0.85
_MOST_ROWS = 20_000
_MOST_VALUES = 10
_RIDGE = 1e-3
_FEW = 200


def expected(
    reference: pa.Table, live: pa.Table, column: str, numbers: Sequence[str], words: Sequence[str]
) -> Floats | None:
    """What live rows would hold in `column` if it still went with the other columns as in the reference, with the
    spread that the fit left there; None where the others tell too little of it (R2 below `LEAST_R2`)."""
    others = [name for name in numbers if name != column]
    known, lives = _known(reference, column), _known(live, column)
    if len(known) < _FEW or len(lives) < _FEW or not others:
        return None
    design = _Design(reference.take(known), others, words)
    of_reference, of_live = design.rows(reference.take(known)), design.rows(live.take(lives))
    target = _numbers(reference.take(known), column)
    middle = float(target.mean())
    train = np.arange(len(target)) % 2 == 0
    penalty = _RIDGE * int(train.sum()) * np.eye(of_reference.shape[1])
    x = of_reference[train]
    weights = np.linalg.solve(x.T @ x + penalty, x.T @ (target[train] - middle))
    rest = target[~train] - middle - of_reference[~train] @ weights
    variance = float(np.var(target[~train]))
    if variance <= 0 or 1 - float(np.mean(np.square(rest))) / variance < LEAST_R2:
        return None
    drawn = np.random.default_rng(7).choice(rest, len(of_live))
    return np.asarray(middle + of_live @ weights + drawn)


class _Design:
    """The columns of the fit, scaled as in the reference: numbers, squares, missing marks, frequent values."""

    def __init__(self, reference: pa.Table, numbers: Sequence[str], words: Sequence[str]) -> None:
        self._scales: dict[str, tuple[float, float]] = {}
        for name in numbers:
            values = _numbers(reference, name)
            values = values[np.isfinite(values)]
            if len(values) and float(values.std()) > 0:
                self._scales[name] = float(values.mean()), float(values.std())
        self._values: dict[str, list[str]] = {}
        for name in words:
            found = pc.value_counts(_words(reference, name)).to_pylist()
            ordered = sorted((item for item in found if item["values"] is not None), key=lambda item: -item["counts"])
            self._values[name] = [item["values"] for item in ordered[:_MOST_VALUES]]

    def rows(self, table: pa.Table) -> Floats:
        parts: list[Floats] = []
        for name, (mean, std) in self._scales.items():
            values = (_numbers(table, name) - mean) / std
            gone = ~np.isfinite(values)
            values = np.where(gone, 0.0, np.clip(values, -6.0, 6.0))
            parts += [values, gone.astype(np.float64)]
        for name, listed in self._values.items():
            texts = _words(table, name)
            for value in listed:
                same = pc.equal(texts, value).fill_null(False)
                parts.append(np.asarray(same.to_numpy(zero_copy_only=False), np.float64))
        return np.stack(parts, axis=1) if parts else np.zeros((table.num_rows, 1))


def _known(table: pa.Table, column: str) -> NDArray[np.int64]:
    positions = np.flatnonzero(np.isfinite(_numbers(table, column)))
    step = max(1, len(positions) // _MOST_ROWS)
    return np.asarray(positions[::step][:_MOST_ROWS])


def _numbers(table: pa.Table, name: str) -> Floats:
    return numbers_of_array(table[name].combine_chunks(), name)


def _words(table: pa.Table, name: str) -> pa.Array:
    return category_array(table[name].combine_chunks())
