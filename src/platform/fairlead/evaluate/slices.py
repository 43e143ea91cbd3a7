"""Parts of the test rows, judged on their own: one average hides who it is wrong for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fairlead.errors import EvaluationError
from fairlead.evaluate.metrics import LOWER_IS_BETTER, PRIMARY, Scored
from fairlead.evaluate.scoring import Resampling, measure
from fairlead.records.evaluation import MetricValue

# Numbers with more values than this become ranges of equal numbers of rows.
_MAX_NUMERIC_VALUES = 30
_NUMERIC_RANGES = 5
# Small slices beyond this many per column are told as one, so that an identifier as a slice column stays readable.
_MAX_SMALL_SLICES = 20
MISSING = "(missing)"


@dataclass(frozen=True)
class Slice:
    """The rows [K] (positions) where `column` has one value; `name` is "column=value"."""

    column: str
    name: str
    rows: NDArray[np.intp]


def cut(columns: Mapping[str, NDArray[np.generic]], num_rows: int) -> dict[str, tuple[Slice, ...]]:
    """The slices of each column, largest first. Missing values are a slice of their own. Raises EvaluationError when a
    column has another number of rows than there are labels."""
    found: dict[str, tuple[Slice, ...]] = {}
    for column, values in columns.items():
        if len(values) != num_rows:
            raise EvaluationError(
                f"the slice column {column} has {len(values)} rows, the labels {num_rows}",
                fix="take both from the same table",
            )
        named = _named(np.asarray(values))
        order = np.argsort(named, kind="stable")
        distinct, starts = np.unique(named[order], return_index=True)
        parts = np.split(order, starts[1:]) if len(distinct) else []
        slices = [Slice(column, f"{column}={v}", rows) for v, rows in zip(distinct, parts, strict=True)]
        found[column] = tuple(sorted(slices, key=lambda s: (-len(s.rows), s.name)))
    return found


def measure_slices(
    model: Scored, slices: Mapping[str, Sequence[Slice]], min_rows: int, how: Resampling
) -> tuple[MetricValue, ...]:
    """Every metric on every slice of at least `min_rows` rows. A smaller slice is reported without a value, once,
    under the task's first metric; beyond twenty of a column, the rest together."""
    values: list[MetricValue] = []
    for column, parts in slices.items():
        small = [part for part in parts if len(part.rows) < min_rows]
        for part in parts:
            if len(part.rows) >= min_rows:
                values.extend(measure(model.part(part.rows), how, part.name).values())
        for part in small[:_MAX_SMALL_SLICES]:
            values.append(_too_small(model.task, part.name, len(part.rows), min_rows))
        if len(small) > _MAX_SMALL_SLICES:
            rest = small[_MAX_SMALL_SLICES:]
            name = f"{column}=({len(rest)} more values)"
            values.append(_too_small(model.task, name, sum(len(p.rows) for p in rest), min_rows))
    return tuple(values)


def worst_slice(values: Sequence[MetricValue], metric: str) -> MetricValue | None:
    """The slice with the worst value of `metric`; None when no slice has one. A small slice is worst by luck more
    easily than a large one: read its interval."""
    known = [value for value in values if value.name == metric and value.slice and value.value is not None]
    return min(known, key=lambda value: badness_key(metric, value.value), default=None)


def badness_key(metric: str, value: float | None) -> float:
    """Sorts worst first, unknown last."""
    if value is None:
        return float("inf")
    return -value if metric in LOWER_IS_BETTER else value


def _too_small(task: str, name: str, rows: int, min_rows: int) -> MetricValue:
    return MetricValue(PRIMARY[task], None, None, rows, name, f"too small: {rows} rows, {min_rows} needed")


def _named(values: NDArray[np.generic]) -> NDArray[np.str_]:
    """Each row's slice value as text."""
    if values.dtype.kind in "iuf":
        numbers = values.astype(np.float64)
        known = numbers[np.isfinite(numbers)]
        if len(np.unique(known)) > _MAX_NUMERIC_VALUES:
            return _ranges(numbers, known)
        names = np.array([f"{number:g}" for number in numbers], dtype=object)
        return np.where(np.isfinite(numbers), names, MISSING).astype(str)
    return np.array([MISSING if _is_missing(value) else str(value) for value in values.tolist()], dtype=str)


def _ranges(numbers: NDArray[np.float64], known: NDArray[np.float64]) -> NDArray[np.str_]:
    edges = np.unique(np.quantile(known, np.linspace(0, 1, _NUMERIC_RANGES + 1)))
    index = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, len(edges) - 2)
    last = len(edges) - 2
    names = np.array([f"[{a:g}, {b:g}{']' if i == last else ')'}" for i, (a, b) in enumerate(pairwise(edges))])
    return np.where(np.isfinite(numbers), names[index], MISSING)


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and not np.isfinite(value)) or value != value
