"""Families of rows that are nearly the same: what `data.near_duplicates: keep_together` keeps on one side.

Two rows are near twins when they agree in all features and the label but one, or do with numbers to three digits and
text by its letters and digits (`leaks.rows`); a family is what chains of near twins connect. Coarse data would become
one family: columns are left out only where independent columns would give a row less than a thousandth of a chance
partner, and families that would take more than a tenth of all rows are refused.
"""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fairlead.data.leaks.rows import agreement, left_out_keys
from fairlead.errors import SplitTooSmall

_SAMPLE = 100_000
_MOST = 0.1
_MIN_ROWS = 100


def families(hashes: np.ndarray) -> np.ndarray:
    """int64 [N] from `content_hashes` [2, columns, N]: equal numbers belong together. Raises SplitTooSmall."""
    rows = hashes.shape[2]
    chances = agreement(hashes[:, :, :_SAMPLE])
    links_row, links_key, next_key = [], [], rows
    for keys in left_out_keys(hashes, chances, rows):
        _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
        shared = counts[inverse] > 1
        links_row.append(np.flatnonzero(shared))
        links_key.append(next_key + inverse[shared])
        next_key += len(counts)
    if not links_row:
        return np.arange(rows)
    at, key = np.concatenate(links_row), np.concatenate(links_key)
    graph = coo_array((np.ones(len(at), np.int8), (at, key)), shape=(next_key, next_key))
    found = connected_components(graph, directed=False)[1][:rows]
    largest = int(np.bincount(found).max(initial=0))
    if rows >= _MIN_ROWS and largest > _MOST * rows:
        raise SplitTooSmall(
            f"{largest:,} of {rows:,} rows are connected by near duplicates, which cannot be kept on one side",
            where="data.near_duplicates: keep_together",
            why="each of them agrees with another one in all features and the label but one",
            fix="name the entity that they are about (data.entity) and split by group, or set near_duplicates: tell",
        )
    return np.asarray(found.astype(np.int64))
