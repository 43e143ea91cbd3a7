"""How far two columns are from each other, and how well a column tells one group of rows from another."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fairlead.data.summary.frequent import FrequentItems
from fairlead.data.summary.groups import GroupColumn
from fairlead.data.summary.numbers import NumberSummary
from fairlead.data.summary.quantiles import QuantileSketch
from fairlead.data.summary.values import ValueSummary

Side = NumberSummary | ValueSummary | GroupColumn
MIN_ROWS = 50


@dataclass(frozen=True)
class Distance:
    """`value` of 0 to 1: for numbers the largest difference of cumulative shares (Kolmogorov, Smirnov), for values the
    largest difference of shares (L-infinity). `error`: how far off the sketches may make it; `noise`: what equal
    distributions of so many rows exceed in 1 % of the cases (numbers: Smirnov 1948; values: a bound by Hoeffding 1963
    for each of the values listed)."""

    value: float
    error: float
    noise: float

    @property
    def sure(self) -> bool:
        """More than noise and sketches explain."""
        return self.value > self.error + self.noise


def distance(one: Side, other: Side) -> Distance | None:
    """Between the present values of two columns; None when one has fewer than `MIN_ROWS`, or their kinds differ."""
    if min(one.count, other.count) < MIN_ROWS:
        return None
    pair = 1 / one.count + 1 / other.count
    first, second = _quantiles(one), _quantiles(other)
    if first is not None and second is not None:
        points = np.concatenate([first.points()[0], second.points()[0]])
        gap = np.abs(first.shares_up_to(points) - second.shares_up_to(points)).max()
        return Distance(float(gap), first.rank_error + second.rank_error, math.sqrt(-math.log(0.005) / 2 * pair))
    if (first is None) != (second is None) or not (one.frequent.total and other.frequent.total):
        return None
    values = set(one.frequent.counts) | set(other.frequent.counts)
    gaps = [abs(_share(one.frequent, value) - _share(other.frequent, value)) for value in values]
    error = sum(side.frequent.count_error / side.frequent.total for side in (one, other))
    noise = math.sqrt(-math.log(0.005 / max(len(values), 1)) / 2 * pair)
    return Distance(min(max(gaps, default=0.0), 1.0), error, noise)


def _quantiles(side: Side) -> QuantileSketch | None:
    if isinstance(side, ValueSummary):
        return None
    return side.quantiles if side.quantiles.weight else None


def _share(items: FrequentItems, value: str | float) -> float:
    count = items.counts.get(value)
    return 0.0 if count is None else (count + items.error / 2) / items.total


@dataclass(frozen=True)
class Association:
    """How well a column alone ranks rows of `label` above all others, 0.5 to 1: the area under the ROC curve of its
    values (of the shares of the label, for values without an order), and that of being missing.

    `error` is what the sketches may add or take. With few rows a value the area of values without an order is too
    large, since it is taken on the rows it was made from; None where there are fewer than 20 rows a value."""

    label: str
    auc: float | None
    missing_auc: float
    error: float


def associate(groups: Mapping[str, GroupColumn]) -> Association | None:
    """The label that the column tells best, of two the rarer one; None with fewer than two labels."""
    known = {label: column for label, column in groups.items() if column.rows >= MIN_ROWS}
    if len(known) < 2:
        return None
    asked = list(known) if len(known) > 2 else [min(known, key=lambda label: known[label].rows)]
    found = [_one_against_rest(label, known) for label in asked]
    return max(found, key=lambda item: max(item.auc or 0.0, item.missing_auc))


def _one_against_rest(label: str, groups: Mapping[str, GroupColumn]) -> Association:
    mine, rest = groups[label], [column for key, column in groups.items() if key != label]
    absent = mine.missing / mine.rows
    others = sum(column.missing for column in rest) / sum(column.rows for column in rest)
    missing_auc = 0.5 + abs(absent - others) / 2
    if mine.quantiles.weight and any(column.quantiles.weight for column in rest):
        value, error = _auc_of_numbers(mine, rest)
        return Association(label, max(value, 1 - value), missing_auc, error)
    return Association(label, _auc_of_values(mine, rest), missing_auc, 0.0)


def _auc_of_numbers(mine: GroupColumn, rest: Sequence[GroupColumn]) -> tuple[float, float]:
    values, weights = mine.quantiles.points()
    share = weights / weights.sum()
    total, area, error = sum(column.count for column in rest), 0.0, mine.quantiles.rank_error
    for column in rest:
        if column.quantiles.weight:
            below = column.quantiles.shares_up_to(np.nextafter(values, -np.inf))
            level = column.quantiles.shares_up_to(values)
            area += float((share * (below + level) / 2).sum()) * column.count / total
            error += column.quantiles.rank_error * column.count / total
    return area, error


def _auc_of_values(mine: GroupColumn, rest: Sequence[GroupColumn]) -> float | None:
    if not mine.frequent.exact or not all(column.frequent.exact for column in rest):
        return None
    ours = mine.frequent.counts
    theirs: dict[str | float, int] = {}
    for column in rest:
        for value, count in column.frequent.counts.items():
            theirs[value] = theirs.get(value, 0) + count
    values = list(set(ours) | set(theirs))
    one = np.array([ours.get(value, 0) for value in values], np.float64)
    other = np.array([theirs.get(value, 0) for value in values], np.float64)
    if not one.sum() or not other.sum() or one.sum() + other.sum() < 20 * len(values):
        return None
    order = np.argsort(one / np.maximum(one + other, 1), kind="stable")
    one, other = one[order] / one.sum(), other[order] / other.sum()
    below = np.cumsum(other) - other
    return float((one * (below + other / 2)).sum())
