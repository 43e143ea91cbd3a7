"""Bounds on a batch as a whole: shares of missing values, means, numbers of rows. They refuse no row.

A mean is outside its bound when the bound lies further from it than z standard errors, z the quantile of the normal
distribution at `FALSE_ALARM`; a share (the mean of booleans), when the binomial distribution brings one so far beyond
the bound with a probability of at most `FALSE_ALARM`, which is exact. The former rests on the central limit theorem:
enough rows (`LEAST_ROWS`) and no long tails. To first order a skewed column errs more often on the side of its short
tail by skewness * (2 z^2 + 1) * phi(z) / (6 sqrt(rows)), phi the normal density (Edgeworth's expansion of the
studentised mean; Hall 1992, "The Bootstrap and Edgeworth Expansion"). Both want independent rows.
"""

import math
from collections.abc import Iterator, Mapping
from statistics import NormalDist

from scipy import special

from fairlead.data.schema import ColumnRule
from fairlead.data.suggestions import change_text
from fairlead.records.data import ColumnStatistics, Statistics
from fairlead.records.drift import Anomaly
from fairlead.spec.data import Validate

FALSE_ALARM = 0.001
LEAST_ROWS = 100


def beyond_bounds(rules: Mapping[str, ColumnRule], statistics: Statistics | None) -> tuple[Anomaly, ...]:
    """Columns whose share of missing values or whose mean is not as the schema says."""
    columns = {} if statistics is None else statistics.columns
    found: list[Anomaly] = []
    for name, rule in rules.items():
        column = columns.get(name)
        if column is not None:
            found += [*_missing(name, rule, column), *_mean(name, rule, column)]
    return tuple(found)


def _missing(name: str, rule: ColumnRule, column: ColumnStatistics) -> Iterator[Anomaly]:
    share = column.missing / max(1, column.count + column.missing)
    if rule.max_missing is None or share <= rule.max_missing:
        return
    what = f"{share:.1%} of the values are missing, {rule.max_missing:.1%} are allowed"
    fix = "look at what fills the column, or raise max_missing in the schema"
    change = change_text({name: {"max_missing": math.ceil(share * 1000) / 1000}})
    yield Anomaly(name, "missing", True, share, what, (), fix, column.missing, change=change)


def _mean(name: str, rule: ColumnRule, column: ColumnStatistics) -> Iterator[Anomaly]:
    mean = column.mean
    if mean is None or column.count < LEAST_ROWS:
        return
    for key, bound in (("min_mean", rule.min_mean), ("max_mean", rule.max_mean)):
        if bound is None or not _outside(column, mean, bound, below=key == "min_mean"):
            continue
        side = "below" if key == "min_mean" else "above"
        what = f"the mean is {mean:.6g}, {side} {bound:g} by more than chance explains"
        change = change_text({name: {key: float(f"{mean:.6g}")}})
        fix = f"look at what fills the column, or change {key} in the schema"
        kind = "low_mean" if key == "min_mean" else "high_mean"
        yield Anomaly(name, kind, True, None, what, (), fix, change=change)


def _outside(column: ColumnStatistics, mean: float, bound: float, *, below: bool) -> bool:
    """Is the mean beyond the bound, and chance at `FALSE_ALARM` no explanation?"""
    if not (mean < bound if below else mean > bound):
        return False
    if column.kind == "bool":
        if not 0 <= bound <= 1:
            return True
        hits = round(mean * column.count)
        chance = special.bdtr(hits, column.count, bound) if below else special.bdtrc(hits - 1, column.count, bound)
        return float(chance) <= FALSE_ALARM
    error = NormalDist().inv_cdf(1 - FALSE_ALARM) * (column.std or 0.0) / math.sqrt(column.count)
    return abs(mean - bound) > error


def volume(spec: Validate, rows: int) -> tuple[Anomaly, ...]:
    """Fewer or more rows than ``data.validate.min_rows`` and ``max_rows`` allow."""
    for key, bound, outside in (
        ("min_rows", spec.min_rows, spec.min_rows is not None and rows < spec.min_rows),
        ("max_rows", spec.max_rows, spec.max_rows is not None and rows > spec.max_rows),
    ):
        if outside:
            word = "at least" if key == "min_rows" else "at most"
            fix = f"look at what delivers the data, or change data.validate.{key}"
            return (
                Anomaly(
                    "", "volume", True, None, f"there are {rows:,} rows, {word} {bound:,} were agreed", (), fix, rows
                ),
            )
    return ()
