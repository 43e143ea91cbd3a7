"""Links between columns that are not what they were, though no column's own distribution need have moved.

A link is the rank correlation (Spearman 1904) of two columns of numbers, or of a number and the label. That of the
label with a feature turning round is concept drift that rates alone do not show; that of two features falling apart is
a join that went wrong, or a sensor that answers for another. Two windows of n and m rows are compared by Fisher's
transformation z = artanh r, whose variance for ranks is 1.06 / (n - 3) (Fieller, Hartley, Pearson 1957, "Tests for rank
correlation coefficients"); the level is shared by all pairs (Bonferroni). That variance is for monotone links of a
normal kind; ties and heavy tails change it a little, dependence among the rows much more.
"""

import math
from collections.abc import Mapping
from itertools import combinations

import numpy as np
from scipy import stats

from fairlead.records.data import LinkDrift

_MIN_ROWS = 200
_MAX_COLUMNS = 60
_MAX_ROWS = 50_000
_LEAST = 0.1
_VARIANCE = 1.06
# Beyond, artanh grows without end and a tie more or less decides.
_MOST = 0.999


def moved_links(
    reference: Mapping[str, np.ndarray],
    live: Mapping[str, np.ndarray],
    *,
    false_alarm: float = 0.001,
    least: float = _LEAST,
) -> tuple[LinkDrift, ...]:
    """Pairs of columns whose correlation moved by more than `least` and by more than chance explains, largest first.

    Columns of both windows by name, float64 [N] and [M] with NaN for missing; a label of two values as 0 and 1.
    `false_alarm`: the probability of naming any pair when none moved."""
    names = [name for name in reference if name in live][:_MAX_COLUMNS]
    pairs = list(combinations(names, 2))
    if not pairs:
        return ()
    z_level = float(stats.norm.isf(false_alarm / (2 * len(pairs))))
    before, now = _correlations(reference, names), _correlations(live, names)
    found = []
    for first, second in pairs:
        (r, rows), (s, live_rows) = before[first, second], now[first, second]
        if min(rows, live_rows) < _MIN_ROWS:
            continue
        error = math.sqrt(_VARIANCE / (rows - 3) + _VARIANCE / (live_rows - 3))
        apart = abs(math.atanh(max(-_MOST, min(_MOST, r))) - math.atanh(max(-_MOST, min(_MOST, s))))
        if apart > z_level * error and abs(r - s) > least:
            what = f"rank correlation of {first} and {second}: {s:+.2f}, {r:+.2f} before"
            found.append(LinkDrift(first, second, r, s, z_level * error, what))
    return tuple(sorted(found, key=lambda link: (-abs(link.before - link.now), link.first, link.second)))


def _correlations(columns: Mapping[str, np.ndarray], names: list[str]) -> dict[tuple[str, str], tuple[float, int]]:
    """(correlation of midranks, rows) of each pair over the rows that have both; 0 where one is constant."""
    values = np.stack([np.asarray(columns[name], np.float64)[:_MAX_ROWS] for name in names])
    known = np.isfinite(values)
    ranks = np.zeros_like(values)
    for row, there, target in zip(values, known, ranks, strict=True):
        target[there] = stats.rankdata(row[there])
    both = known.astype(np.float64)
    rows = both @ both.T
    with np.errstate(divide="ignore", invalid="ignore"):
        # Means and spreads over the rows that both columns of a pair have.
        mean = (ranks @ both.T) / rows
        square = (np.square(ranks) @ both.T) / rows - np.square(mean)
        product = (ranks @ ranks.T) / rows - mean * mean.T
        correlation = product / np.sqrt(square * square.T)
    correlation[~np.isfinite(correlation)] = 0.0
    index = {name: number for number, name in enumerate(names)}
    return {
        (a, b): (float(correlation[index[a], index[b]]), int(rows[index[a], index[b]]))
        for a, b in combinations(names, 2)
    }
