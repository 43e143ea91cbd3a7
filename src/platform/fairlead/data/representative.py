"""How representative a split is: each column of the later sides against the training split.

The distance is the largest difference of the two cumulative frequencies (numbers, times; Kolmogorov and Smirnov) or of
the frequencies themselves (categories). Its bound is what sampling explains with a probability of 1 - 0.001 over all
columns and both sides: sqrt(ln(2 m / 0.001) / 2) sqrt(1/a + 1/b) for a and b rows, m distances (Dvoretzky, Kiefer,
Wolfowitz 1956, with the constant of Massart 1990 for each of the two samples; a difference of frequencies of any set of
values is no larger than twice that of cumulative ones, so that of one category is bounded with twice the constant).
Rows are taken to be independent; by time or by group they are not, and more columns differ. That is what the table is
for, and no reason to refuse: it says on what the evaluation rests.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairlead.dataset.files import LABEL
from fairlead.features.categories import category_array
from fairlead.features.instants import instant_array
from fairlead.features.kinds import kind_of
from fairlead.records.data import SPLITS, SplitDifference
from fairlead.spec.project import Project

_LEVEL = 1e-3
_MIN_ROWS = 20


def split_differences(samples: Sequence[pa.Table], project: Project) -> tuple[SplitDifference, ...]:
    """Of validation and test against training, the largest excess over its bound first; the label is under LABEL."""
    train = samples[0]
    names = [name for name in train.column_names if name not in project.features.image and name != project.data.entity]
    compared = 2 * len(names)
    found = []
    for side in (1, 2):
        other = samples[side]
        if min(train.num_rows, other.num_rows) < _MIN_ROWS:
            continue
        for name in names:
            difference = _difference(train[name].combine_chunks(), other[name].combine_chunks(), name, side, compared)
            if difference is not None:
                found.append(difference)
    return tuple(sorted(found, key=lambda d: (d.bound - d.distance, d.split, d.column)))


def _difference(train: pa.Array, other: pa.Array, name: str, side: int, compared: int) -> SplitDifference | None:
    kind = kind_of(train.type)
    few = kind in ("string", "bool") or (name == LABEL and kind == "int")
    if kind is None or kind == "tensor" or min(len(train), len(other)) < _MIN_ROWS:
        return None
    bound = float(np.sqrt(np.log(2 * compared / _LEVEL) / 2) * np.sqrt(1 / len(train) + 1 / len(other)))
    if few:
        distance, why = _of_categories(category_array(train), category_array(other))
        bound *= 2
    else:
        distance, why = _of_numbers(_ordered(train, kind), _ordered(other, kind))
    return SplitDifference(SPLITS[side], name, distance, bound, distance > bound, why)


def _of_categories(train: pa.Array, other: pa.Array) -> tuple[float, str]:
    def shares(array: pa.Array) -> dict[str | None, float]:
        counted = pc.value_counts(array).to_pylist()
        return {item["values"]: item["counts"] / len(array) for item in counted}

    left, right = shares(train), shares(other)
    both = {value: abs(left.get(value, 0.0) - right.get(value, 0.0)) for value in left.keys() | right.keys()}
    worst = max(both, key=lambda value: (both[value], str(value)))
    unseen = sum(share for value, share in right.items() if value not in left)
    told = f"; {unseen:.1%} have a value that does not train" if unseen > 0 else ""
    shown = "missing" if worst is None else str(worst)[:40]
    return both[worst], f"{shown}: {left.get(worst, 0.0):.1%} train, {right.get(worst, 0.0):.1%} here{told}"


def _of_numbers(train: np.ndarray, other: np.ndarray) -> tuple[float, str]:
    points = np.unique(np.concatenate([train, other]))
    below = [np.searchsorted(np.sort(values), points, side="right") / len(values) for values in (train, other)]
    gaps = np.abs(below[0] - below[1])
    worst = int(np.argmax(gaps))
    outside = float(np.mean((other < train.min()) | (other > train.max())))
    told = f"; {outside:.1%} lie outside of what trains" if outside > 0 else ""
    share = (float(below[0][worst]), float(below[1][worst]))
    return float(gaps[worst]), f"up to {_shown(points[worst])}: {share[0]:.1%} train, {share[1]:.1%} here{told}"


def _ordered(array: pa.Array, kind: str) -> np.ndarray:
    """float64 [N] in the order of the values; missing ones are below all others."""
    if kind == "timestamp":
        instants = instant_array(array)
        return np.where(np.isnat(instants), -np.inf, instants.astype("datetime64[us]").astype(np.int64) / 1e6)
    values = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return np.where(np.isnan(values), -np.inf, values)


def _shown(value: float) -> str:
    return "missing" if np.isneginf(value) else f"{value:.6g}"
