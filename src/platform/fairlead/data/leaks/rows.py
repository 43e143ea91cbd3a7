"""Rows on two sides of a split that are not independent: twins, near twins, and entities.

*Twins* agree in all features and the label. Coarse data has twins by coincidence; they count as copies only when
independent columns would give a test row less than a thousandth of a twin (the number of training rows times the
product of each column's probability that two rows agree). Columns that depend on each other make coincidences more
likely than that, so twins are refused only in a split by group, where copies have another group, and told otherwise.

*Near twins* agree in all features and the label but one, exactly, or after text is reduced to its letters and digits in
lower case and numbers are rounded to three significant digits. The same bound holds for each set of columns that is
left.

*Entities* on both sides: refused in a random or stratified split when the mean training label of the entity alone ranks
the test rows' labels better than the bound, told otherwise. By time an entity may well live on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairlead.data.leaks.strength import Target
from fairlead.data.row_hashes import hash_column
from fairlead.features.hashing import mix
from fairlead.features.kinds import kind_of

COINCIDENCE = 1e-3
_DIGITS = 3
_MAX_CLASSES = 20


@dataclass(frozen=True)
class Twins:
    """Share of the looked-at rows that have a twin, and a near twin, among the training rows looked at. None where the
    columns are too coarse to tell a copy from a coincidence."""

    exact: float | None
    near: float | None
    rows: int


def content_hashes(columns: Sequence[pa.Array]) -> np.ndarray:
    """uint64 [2, columns, N]: a hash of each value as it is, and of what near twins agree in; each column with its own
    seed."""
    return np.stack(
        [
            np.stack([mix(hash_column(change(column)), seed) for seed, column in enumerate(columns)])
            for change in (_as_it_is, _plain)
        ]
    )


def agreement(hashes: np.ndarray) -> np.ndarray:
    """float64 [2, columns]: the probability that two rows which are no twins agree in a column.

    Pairs that agree in all columns but one are what is looked for, and are taken off: otherwise copies would hide
    themselves by making every column look coarse."""
    rows = hashes.shape[2]
    pairs = max(rows * (rows - 1) / 2, 1.0)
    result = np.ones(hashes.shape[:2])
    for which, matrix in enumerate(hashes):
        with np.errstate(over="ignore"):
            total = matrix.sum(axis=0, dtype=np.uint64)
            but_one = [_equal_pairs(total - column) for column in matrix]
        exact = _equal_pairs(total)
        for index, column in enumerate(matrix):
            twins = sum(but_one) - but_one[index] - (len(matrix) - 2) * exact  # those that agree in this column, too
            result[which, index] = (max(_equal_pairs(column) - twins, 0.0) + 1) / pairs
    return np.minimum(result, 1.0)


def _equal_pairs(values: np.ndarray) -> float:
    counts = np.unique(values, return_counts=True)[1].astype(np.float64)
    return float((counts * (counts - 1)).sum()) / 2


def left_out_keys(hashes: np.ndarray, chances: np.ndarray, num_rows: int) -> Iterator[np.ndarray]:
    """uint64 [N] for each column that may differ, of `content_hashes` as they are and plain: equal where all others
    agree. Only where independent columns would give a row less than a thousandth of a partner among `num_rows`."""
    for matrix, chance in zip(hashes, chances, strict=True):
        with np.errstate(over="ignore"):
            total = matrix.sum(axis=0, dtype=np.uint64)
        for column, others in zip(matrix, _product_without(chance), strict=True):
            if num_rows * others < COINCIDENCE / (2 * len(matrix)):
                with np.errstate(over="ignore"):
                    yield total - column


def find_twins(train: Sequence[pa.Array], other: Sequence[pa.Array]) -> Twins:
    """How many rows of `other` repeat one of `train`; the same columns on both sides, label included."""
    rows = len(other[0]) if other else 0
    num_train = len(train[0]) if train else 0
    if not rows or not num_train:
        return Twins(None, None, rows)
    exact: float | None = None
    exact_rows = np.zeros(rows, bool)
    left, right = content_hashes(train), content_hashes(other)
    chances = agreement(left)
    if num_train * float(np.prod(chances[0])) < COINCIDENCE:
        with np.errstate(over="ignore"):
            exact_rows = np.isin(right[0].sum(axis=0, dtype=np.uint64), left[0].sum(axis=0, dtype=np.uint64))
        exact = float(exact_rows.mean())
    near: float | None = None
    near_rows = np.zeros(rows, bool)
    for a, b in zip(left_out_keys(left, chances, num_train), left_out_keys(right, chances, num_train), strict=True):
        near_rows |= np.isin(b, a)
        near = 0.0
    if near is not None:
        near = float((near_rows & ~exact_rows).mean())
    return Twins(exact, near, rows)


@dataclass(frozen=True)
class EntityOverlap:
    """Of the rows of a later side: `share` whose entity also trains, and how well the mean training label of these
    entities ranks their labels (`score`, as rule 1 of the scan)."""

    share: float
    score: float
    rows: int


def entity_overlap(
    groups: np.ndarray, labels: np.ndarray, sides: np.ndarray, side: int, task: str, max_auc: float
) -> EntityOverlap:
    """`groups` uint64 [N], `labels` [N], `sides` [N] of the rows of a split (0 trains)."""
    train, other = sides == 0, sides == side
    known, inverse, counts = np.unique(groups[train], return_inverse=True, return_counts=True)
    place = np.searchsorted(known, groups[other])
    place = np.minimum(place, max(len(known) - 1, 0))
    seen = known[place] == groups[other] if len(known) else np.zeros(int(other.sum()), bool)
    share = float(seen.mean()) if len(seen) else 0.0
    if seen.sum() < 30:
        return EntityOverlap(share, 0.5, int(other.sum()))
    best = 0.5
    for value in _classes(labels[train], task):
        numbers = labels.astype(np.float64) if value is None else (labels == value).astype(np.float64)
        target = Target(numbers[other][seen], "regression" if value is None else "binary", max_auc)
        target.looks = _MAX_CLASSES
        mine = numbers[train]
        means = (np.bincount(inverse, mine, minlength=len(known)) + float(mine.mean())) / (counts + 1)
        best = max(best, target.ranked(means[place][seen]))
    return EntityOverlap(share, best, int(other.sum()))


def _classes(labels: np.ndarray, task: str) -> list[int | None]:
    """The classes whose share among an entity's rows is looked at; for amounts the mean itself."""
    if task == "regression":
        return [None]
    values, counts = np.unique(labels, return_counts=True)
    ordered: list[int | None] = values[np.argsort(-counts, kind="stable")].tolist()
    return ordered[:1] if len(ordered) == 2 else ordered[:_MAX_CLASSES]


def _product_without(chances: np.ndarray) -> np.ndarray:
    """For each column the product of all others."""
    return np.array([float(np.prod(np.delete(chances, index))) for index in range(len(chances))])


def _as_it_is(column: pa.Array) -> pa.Array:
    return column


def _plain(column: pa.Array) -> pa.Array:
    """What near twins agree in: letters and digits of text, three digits of numbers, minutes of time."""
    kind = kind_of(column.type)
    if kind == "string":
        text = pc.utf8_lower(column.cast(pa.string()))
        return pc.utf8_trim_whitespace(pc.replace_substring_regex(text, r"[^\p{L}\p{N}]+", " "))
    if kind == "float":
        numbers = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
        with np.errstate(divide="ignore", invalid="ignore"):
            size = np.floor(np.log10(np.abs(numbers)))
            scale = 10.0 ** (size - _DIGITS + 1)
            rounded = np.where((numbers == 0) | ~np.isfinite(numbers), numbers, np.round(numbers / scale) * scale)
        # 32 bits hold seven digits: what the multiplication leaves in the last bit is gone.
        return pa.array(rounded.astype(np.float32))
    if kind == "timestamp":
        return pc.floor_temporal(column, unit="minute") if pa.types.is_timestamp(column.type) else column
    return column
