"""Features that say which row it is rather than what it is like: identifiers, and clocks in disguise.

Neither is refused: an identifier harms the model, not the truth of its evaluation, unless it also ranks the label,
which the scan of single features finds. *Identifier*: a category, text or whole number of which at least 95 % of the
values are different; whole numbers count only when they also fill their range densely or reach beyond what is measured
(8 digits), since amounts may all be different, too. Of more training rows than the scan looks at, all are asked whether
the values repeat (`repeats`). *Clock*: a number whose rank correlation with the time of the row
is above 0.98, such as a running number or a year with decimals: later rows lie outside of what was learnt.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import stats

from fairlead.data.leaks.pairs import Columns
from fairlead.features.instants import instant_array
from fairlead.features.kinds import kind_of
from fairlead.spec.features import Features

_MIN_ROWS = 100
UNIQUE = 0.95
_DENSE = 0.2
_DIGITS = 1e8
CLOCK = 0.98


def identifiers(rows: pa.Table, features: Features, num_rows: int) -> Iterator[tuple[str, float, str]]:
    """(feature, share of different values, evidence). `rows` are a sample of `num_rows`."""
    if rows.num_rows < _MIN_ROWS:
        return
    for name in (*features.categorical, *features.text, *features.numeric):
        column = rows[name].combine_chunks()
        kind = kind_of(column.type)
        present = len(column) - column.null_count
        if kind not in ("int", "string") or present < _MIN_ROWS:
            continue
        share = pc.count_distinct(column).as_py() / present
        if share < UNIQUE or (kind == "int" and not _numbered(column, num_rows)):
            continue
        # Long texts are all different because they are texts.
        if kind == "string" and (pc.mean(pc.utf8_length(column)).as_py() or 0) > 60:
            continue
        yield name, share, f"{share:.1%} of its values are different: it names the row and cannot be learnt from"


def clocks_in_disguise(rows: pa.Table, columns: Columns, time: str | None) -> Iterator[tuple[str, float, str]]:
    """(feature, |rank correlation with the row's time|, evidence)."""
    if time is None or time not in rows.column_names or rows.num_rows < _MIN_ROWS:
        return
    instants = instant_array(rows[time].combine_chunks())
    known_time = ~np.isnat(instants)
    for (name, part), column in columns.items():
        if part or name == time or column.dtype.kind == "i":
            continue
        known = known_time & ~np.isnan(column)
        if known.sum() < _MIN_ROWS or len(np.unique(column[known])) < 20:
            continue
        score = abs(float(stats.spearmanr(instants[known].astype(np.int64), column[known]).statistic))
        if score > CLOCK:
            yield name, score, f"it grows with {time} (rank correlation {score:.3f}): later rows have values never seen"


def _numbered(column: pa.Array, num_rows: int) -> bool:
    """Do whole numbers look counted out rather than measured?"""
    extremes = pc.min_max(column)
    low, high = extremes["min"].as_py(), extremes["max"].as_py()
    return bool(low >= 0 and (high >= _DIGITS or num_rows / (high - low + 1) >= _DENSE))
