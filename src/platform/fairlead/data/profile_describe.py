"""From a summary to the record that people and programs read."""

from collections.abc import Mapping, Sequence

import numpy as np

from fairlead.data.profile_record import (
    Apart,
    Bins,
    ColumnProfile,
    GroupOfRows,
    Lengths,
    Pattern,
    Profile,
    Tie,
    Value,
)
from fairlead.data.summary.compare import Distance, associate, distance
from fairlead.data.summary.frequent import FrequentItems
from fairlead.data.summary.groups import GroupColumn
from fairlead.data.summary.numbers import NumberSummary
from fairlead.data.summary.quantiles import QuantileSketch
from fairlead.data.summary.table import Summary, TableSummary
from fairlead.spec.project import Project

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_BINS = 30
_TOP = 20
_GROUP_TOP = 12
_PATTERNS = 20


def describe(project: Project, summary: TableSummary, source: str, files: int) -> Profile:
    """The record of a summary, without warnings."""
    train = summary.groups["split"].groups.get("train") if "split" in summary.groups else None
    columns = tuple(_column(project, summary, name, column, train) for name, column in summary.columns.items())
    listed = summary.patterns.top(_PATTERNS)
    return Profile(
        project=project.project,
        source=source,
        files=files,
        rows=summary.rows,
        label=project.data.label.column if project.data.label.column in summary.columns else None,
        time=project.data.time if project.data.time in summary.columns else None,
        reference="train" if train else "all rows",
        columns=columns,
        patterns=tuple(Pattern(columns=tuple(str(key).split("\x1f")), rows=count) for key, count in listed),
        patterns_error=summary.patterns.count_error,
        rows_complete=summary.rows - summary.patterns.total,
    )


def with_distances(profile: Profile, summary: TableSummary, other: TableSummary, against: Profile) -> Profile:
    """The record with the distance of each column from that of another set."""
    columns, others = [], {column.name: column for column in against.columns}
    for column in profile.columns:
        mine, twin = summary.columns[column.name], other.columns.get(column.name)
        update: dict[str, object] = {"drift": _apart(None if twin is None else distance(mine, twin))}
        if isinstance(mine, NumberSummary) and isinstance(twin, NumberSummary) and mine.count and twin.count:
            edges = _edges(mine, twin)
            update["bins"] = _bins(mine, edges)
            others[column.name] = others[column.name].model_copy(update={"bins": _bins(twin, edges)})
        columns.append(column.model_copy(update=update))
    against = against.model_copy(update={"columns": tuple(others.values())})
    return profile.model_copy(update={"columns": tuple(columns), "against": against})


def _bins(column: NumberSummary, edges: np.ndarray) -> Bins:
    return Bins(edges=tuple(edges.tolist()), counts=tuple(_counts(column.quantiles, edges, column.count)))


def _column(
    project: Project, table: TableSummary, name: str, column: Summary, train: Mapping[str, GroupColumn] | None
) -> ColumnProfile:
    distinct, error = column.num_distinct
    facts = ColumnProfile(
        name=name,
        kind=column.kind,
        rows=column.rows,
        missing=column.missing,
        unreadable=table.unreadable.get(name, 0),
        distinct=distinct,
        distinct_error=error,
        top=_top(column.frequent, _TOP, column.kind),
        top_error=column.frequent.count_error,
        tie=_tie(project, table, name),
    )
    edges = None
    if isinstance(column, NumberSummary):
        edges = _edges(column) if column.quantiles.weight else None
        facts = facts.model_copy(update=_numbers(column, edges))
    elif column.lengths is not None and column.count:
        low, total, high = column.lengths
        facts = facts.model_copy(update={"lengths": Lengths(minimum=low, mean=total / column.count, maximum=high)})
    reference = train.get(name) if train else column
    groups = {}
    for dimension, parts in table.groups.items():
        binned = edges if dimension in ("split", "label") else None
        groups[dimension] = {
            key: _group(columns[name], facts, binned, reference if dimension == "month" else None)
            for key, columns in sorted(parts.groups.items(), key=lambda item: _order(dimension, item[0]))
            if name in columns
        }
    return facts.model_copy(update={"groups": groups})


def _order(dimension: str, key: str) -> tuple[int, str]:
    names = ("train", "validation", "test")
    return (names.index(key) if dimension == "split" and key in names else 9, key)


def _numbers(column: NumberSummary, edges: np.ndarray | None) -> dict[str, object]:
    moments = column.moments
    facts: dict[str, object] = {"infinite": column.infinite, "rank_error": column.quantiles.rank_error}
    if not column.count:
        return facts
    clock = column.kind == "timestamp"
    show = _instant if clock else float
    facts |= {"minimum": show(moments.minimum), "maximum": show(moments.maximum), "mean": show(moments.mean)}
    facts["std"] = moments.std / (1e6 if clock else 1)
    if edges is not None:
        values = column.quantiles.quantiles(list(QUANTILES)).tolist()
        facts["quantiles"] = {f"{q:g}": show(value) for q, value in zip(QUANTILES, values, strict=True)}
        facts["bins"] = _bins(column, edges)
    return facts


def _instant(microseconds: float) -> str:
    return str(np.datetime64(int(microseconds), "us").astype("datetime64[s]"))


def _edges(*columns: NumberSummary) -> np.ndarray:
    """Bins of equal width over the middle 99 %, widened to the ends where they are near; few integers: their own."""
    middle = np.array([column.quantiles.quantiles([0.005, 0.995]) for column in columns])
    near, far = float(middle[:, 0].min()), float(middle[:, 1].max())
    low = min(column.moments.minimum for column in columns)
    high = max(column.moments.maximum for column in columns)
    if all(column.kind == "int" for column in columns) and high - low <= _BINS:
        return np.arange(low - 0.5, high + 1)
    room = (far - near) / 4
    low, high = max(low, near - room), min(high, far + room)
    if not high > low:
        low, high = low - 0.5, low + 0.5
    return np.linspace(low, high, _BINS + 1)


def _counts(sketch: QuantileSketch, edges: np.ndarray, rows: int) -> list[float]:
    at = sketch.shares_up_to(np.nextafter(edges, -np.inf))
    at[0], at[-1] = 0.0, 1.0
    return [round(count, 1) for count in (np.diff(at) * rows).tolist()]


def _top(items: FrequentItems, number: int, kind: str) -> tuple[Value, ...]:
    # A count that is within its own error says nothing.
    found = [(value, count) for value, count in items.top(number) if count > items.count_error]
    if kind == "timestamp":
        found = [(_instant(float(value)), count) for value, count in found]
    return tuple(Value(value=value, count=count) for value, count in found)


def _group(column: GroupColumn, whole: ColumnProfile, edges: np.ndarray | None, reference: object) -> GroupOfRows:
    quantiles: dict[str, float] = {}
    counts: Sequence[float] = ()
    if column.quantiles.weight:
        values = column.quantiles.quantiles(list(QUANTILES)).tolist()
        quantiles = {f"{q:g}": value for q, value in zip(QUANTILES, values, strict=True)}
        if edges is not None:
            counts = _counts(column.quantiles, edges, column.count)
    apart = None if reference is None else distance(column, reference)  # type: ignore[arg-type]
    counts_ = column.frequent.counts
    top = (
        ()
        if not column.frequent.exact
        else tuple(
            Value(value=item.value, count=counts_[item.value])
            for item in whole.top[:_GROUP_TOP]
            if item.value in counts_
        )
    )
    return GroupOfRows(
        rows=column.rows,
        missing=column.missing,
        quantiles=quantiles,
        counts=tuple(counts),
        top=top,
        drift=_apart(apart),
    )


def _apart(apart: Distance | None) -> Apart | None:
    if apart is None:
        return None
    return Apart(value=apart.value, error=apart.error, noise=apart.noise, sure=apart.sure)


def _tie(project: Project, table: TableSummary, name: str) -> Tie | None:
    groups = table.groups.get("label")
    if groups is None or groups.too_many or name == project.data.label.column:
        return None
    found = associate({key: columns[name] for key, columns in groups.groups.items() if name in columns})
    if found is None:
        return None
    leaks = project.data.leaks
    above = max(found.auc or 0.0, found.missing_auc) - found.error > leaks.max_auc
    return Tie(
        label=found.label,
        auc=found.auc,
        missing_auc=found.missing_auc,
        error=found.error,
        severe=above and name not in leaks.allow,
    )
