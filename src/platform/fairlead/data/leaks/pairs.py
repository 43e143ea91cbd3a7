"""Pairs of features that know the answer together: by their difference, or by their combination.

A difference is looked at for numbers that move together (correlation above 0.8), and for clock times (integers that
read as HHMM, and the time of day of points in time): dep_time says little, and so does sched_dep_time, but their
difference is the delay. A combination is a table of 10 by 10 cells (categories: their ten most frequent values), ranked
by the label's mean out of fold: two halves of a key, or the two operands of an exclusive or. Two honest features that
are independent and normal within each class add at most 0.083 to the AUC of the better one (the largest value of
Phi(d) - Phi(d / sqrt 2)), so a combination counts only when it adds more than 0.1.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from fairlead.data.leaks.strength import Target

PAIR_ROWS = 20_000
_DIFFERENCE_COLUMNS = 60
_CORRELATION = 0.8
_JOINT_COLUMNS = 40
_CELLS = 10
JOINT_GAIN = 0.1

Columns = Mapping[tuple[str, str], np.ndarray]


def alike(columns: Columns, numeric: tuple[str, ...], clocks: Mapping[str, np.ndarray]) -> list[tuple[str, str]]:
    """Pairs of features of the same unit, whose difference may mean something."""
    found = []
    names = list(clocks)
    for i, first in enumerate(names):
        found += [(first, second) for second in names[i + 1 :]]
    numbers = list(numeric)[:_DIFFERENCE_COLUMNS]
    for i, first in enumerate(numbers):
        for second in numbers[i + 1 :]:
            both_clocks = first in clocks and second in clocks
            a, b = columns[first, ""][:PAIR_ROWS], columns[second, ""][:PAIR_ROWS]
            if not both_clocks and _correlation(a, b) > _CORRELATION:
                found.append((first, second))
    return found


def difference(first: str, second: str, columns: Columns, clocks: Mapping[str, np.ndarray]) -> np.ndarray:
    """float64 [N], NaN where one of the two is missing."""
    if first in clocks and second in clocks:
        # Around midnight: from 23:50 to 00:10 it is 20 minutes.
        return np.asarray((clocks[first] - clocks[second] + 720) % 1440 - 720)
    return np.asarray(columns[first, ""] - columns[second, ""])


def joint_pairs(columns: Columns) -> list[tuple[tuple[str, str], tuple[str, str]]]:
    """Pairs of columns of different features whose combination is looked at."""
    keys = list(columns)[:_JOINT_COLUMNS]
    return [(a, b) for i, a in enumerate(keys) for b in keys[i + 1 :] if a[0] != b[0]]


def joint_strengths(
    columns: Columns, labels: np.ndarray, task: str, max_auc: float, looks: int
) -> Iterator[tuple[str, str, float, float]]:
    """(feature, other feature, score together, score of the better one alone), on the first 20,000 rows."""
    target = Target(labels[:PAIR_ROWS], task, max_auc)
    pairs = joint_pairs(columns)
    target.looks = max(1, looks)
    cells = {key: _cells(columns[key][:PAIR_ROWS]) for key in {key for pair in pairs for key in pair}}
    alone = {key: target.score(codes) for key, codes in cells.items()}
    for first, second in pairs:
        score = target.score(cells[first] * (_CELLS + 2) + cells[second])
        yield first[0], second[0], score, max(alone[first], alone[second])


def _cells(column: np.ndarray) -> np.ndarray:
    """int64 [N] codes below 12; 0 is missing."""
    if column.dtype.kind == "i":
        counts = np.bincount(column)
        frequent = np.argsort(-counts, kind="stable")[: _CELLS + 1]
        table = np.full(len(counts), _CELLS + 1, np.int64)
        table[frequent] = np.arange(len(frequent))
        return np.asarray(table[column])
    known = ~np.isnan(column)
    if not known.any():
        return np.zeros(len(column), np.int64)
    edges = np.unique(np.quantile(column[known], np.linspace(0, 1, _CELLS + 1)[1:-1]))
    return np.where(known, np.searchsorted(edges, column, side="right") + 1, 0).astype(np.int64)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    known = ~np.isnan(a) & ~np.isnan(b)
    a, b = a[known], b[known]
    if len(a) < 30:
        return 0.0
    # Ranks would let different units pass; plain correlation of comparable magnitudes is wanted.
    spread_a, spread_b = float(a.std()), float(b.std())
    if min(spread_a, spread_b) <= 0 or max(spread_a, spread_b) > 3 * min(spread_a, spread_b):
        return 0.0
    return float(np.mean((a - a.mean()) * (b - b.mean())) / (spread_a * spread_b))
