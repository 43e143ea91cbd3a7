"""Bounds on a batch as a whole: shares of missing values, means, numbers of rows. They refuse no row.

A mean is outside its bound when the bound lies further from it than z standard errors, z the quantile of the normal
distribution at `FALSE_ALARM`: a batch whose process has its mean on the bound is accused in at most one of a thousand
cases by the central limit theorem, which wants independent rows, a finite variance and enough of them (`LEAST_ROWS`;
long tails want more: docs/data-schema.md).
"""

import math
from collections.abc import Iterator, Mapping
from statistics import NormalDist

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
    std = math.sqrt(mean * (1 - mean)) if column.kind == "bool" else (column.std or 0.0)
    error = NormalDist().inv_cdf(1 - FALSE_ALARM) * std / math.sqrt(column.count)
    for key, bound, outside in (
        ("min_mean", rule.min_mean, rule.min_mean is not None and mean + error < rule.min_mean),
        ("max_mean", rule.max_mean, rule.max_mean is not None and mean - error > rule.max_mean),
    ):
        if outside:
            side = "below" if key == "min_mean" else "above"
            what = f"the mean is {mean:.6g}, {side} {bound:g} by more than chance explains ({error:.3g})"
            change = change_text({name: {key: float(f"{mean:.6g}")}})
            fix = f"look at what fills the column, or change {key} in the schema"
            yield Anomaly(
                name, key.replace("min", "low").replace("max", "high"), True, None, what, (), fix, change=change
            )


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
