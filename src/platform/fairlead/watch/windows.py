"""Two windows of rows, column by column: how far apart, beyond chance or not, and what was done to a column.

A column has moved when its distance (Kolmogorov-Smirnov for numbers, L-infinity for values, cumulative frequencies for
parts of a day or week) is above both the declared distance and what sampling explains with probability 1 - `alarm` for
all columns together (`distance.sampling_bound`, Bonferroni). That assumes rows drawn independently: flights of one hour
share their weather, so treat a small distance over few days with care; days are the unit in `alarms`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairlead.features.categories import category_array
from fairlead.features.encoders import numbers_of_array
from fairlead.features.novelty import chance_of_all_later
from fairlead.features.statistics import StatisticsBuilder
from fairlead.records.data import ColumnStatistics
from fairlead.records.drift import ColumnDrift, Measure
from fairlead.watch.cause import Cause, cause_of, moved_hours
from fairlead.watch.cause_numbers import (
    Explanation,
    distance_of_shapes,
    explain_numbers,
    sampling_noise,
    shape_of_sample,
)
from fairlead.watch.cause_values import Counts, explain_values
from fairlead.watch.distance import CYCLES, MISSING, cumulative_distance, sampling_bound
from fairlead.watch.measures import kolmogorov_distance, number_measures, value_measures
from fairlead.watch.relations import expected

Floats = NDArray[np.float64]

NUMBERS, WORDS, TIMES = ("int", "float"), ("string", "bool"), ("timestamp",)
_TOP = 200
_OTHERS = "(all others)"
_SWAPPED_LEFT = 0.08
_SWAPPED_LEAST = 0.3
_SURGE_OF_MISSING = 0.02
# What other columns lead to expect is off by a degree or two in another season.
_NOISE_OF_EXPECTED = 0.12
_LEAST_FROM_EXPECTED = 0.3


@dataclass(frozen=True, slots=True)
class Judgement:
    """What counts as moved: a distance above `distance`, at a chance of `alarm` of accusing any column of two windows
    that are alike, from `rows` rows on."""

    distance: float = 0.1
    alarm: float = 0.001
    rows: int = 50


DEFAULT = Judgement()


def compare_windows(
    reference: pa.Table,
    live: pa.Table,
    kinds: Mapping[str, str],
    judgement: Judgement = DEFAULT,
    importance: Mapping[str, float] | None = None,
) -> tuple[ColumnDrift, ...]:
    """The columns that `kinds` names (name -> int, float, string, bool, timestamp), the largest impact first. A
    category of any type is a "string". A column that one window lacks is missing in all of its rows."""
    places = sum(2 + (len(CYCLES) - 1 if kind in TIMES else 0) for kind in kinds.values())
    rule = replace(judgement, alarm=judgement.alarm / max(1, places))
    found: list[ColumnDrift] = []
    for name, kind in kinds.items():
        found += _column(name, kind, _array(reference, name), _array(live, name), rule)
    found = _by_relation(_swapped(found, reference, live), reference, live, kinds)
    return tuple(sorted((_weighted(one, importance) for one in found), key=_rank))


def _rank(one: ColumnDrift) -> tuple[float, float, str, str]:
    return (-(one.impact if one.impact is not None else one.distance), -one.distance, one.column, one.part)


def _weighted(one: ColumnDrift, importance: Mapping[str, float] | None) -> ColumnDrift:
    weight = None if importance is None else importance.get(one.column, 0.0)
    return one if weight is None else replace(one, importance=weight, impact=weight * one.distance)


def _array(table: pa.Table, name: str) -> pa.Array:
    return table[name].combine_chunks() if name in table.column_names else pa.nulls(table.num_rows)


def _column(name: str, kind: str, reference: pa.Array, live: pa.Array, rule: Judgement) -> Iterator[ColumnDrift]:
    if kind in NUMBERS:
        pair = _finite(reference, name), _finite(live, name)
        yield _missing(name, kind, (reference, live), (len(pair[0]), len(pair[1])), rule)
        if len(pair[0]) >= rule.rows and len(pair[1]) >= rule.rows:
            yield _numbers(name, kind, pair[0], pair[1], rule)
    elif kind in WORDS:
        counts = _counts(reference), _counts(live)
        yield _missing(name, kind, (reference, live), (counts[0].total, counts[1].total), rule)
        if counts[0].total >= rule.rows and counts[1].total >= rule.rows:
            yield _values(name, kind, counts[0], counts[1], rule)
    elif kind in TIMES:
        times = _times(name, reference), _times(name, live)
        yield _missing(name, kind, (reference, live), (times[0].count, times[1].count), rule)
        if times[0].count >= rule.rows and times[1].count >= rule.rows:
            yield from _cycles(name, times[0], times[1], rule)


def _finite(array: pa.Array, name: str) -> Floats:
    if pa.types.is_null(array.type):
        return np.empty(0)
    values = numbers_of_array(array, name)
    return np.sort(values[np.isfinite(values)])


def _counts(array: pa.Array) -> Counts:
    if pa.types.is_null(array.type):
        return Counts({}, 0)
    texts = category_array(array).drop_null()
    found = sorted(pc.value_counts(texts).to_pylist(), key=lambda item: (-item["counts"], item["values"]))
    return Counts({item["values"]: item["counts"] for item in found}, len(texts))


def _times(name: str, array: pa.Array) -> ColumnStatistics:
    builder = StatisticsBuilder({name: "timestamp"}, parts={name: tuple(CYCLES)})
    builder.update(pa.table({name: array}))
    return builder.finish().columns[name]


def _finding(
    name: str, part: str, kind: str, rows: tuple[int, int], distance: float, values: int, what: str, rule: Judgement
) -> ColumnDrift:
    chance = min(1.0, sampling_bound(rows[0], rule.alarm, values) + sampling_bound(rows[1], rule.alarm, values))
    bound = max(rule.distance, chance)
    return ColumnDrift(name, part, kind, *rows, distance, chance, bound, distance > bound, what)


def _missing(
    name: str, kind: str, arrays: tuple[pa.Array, pa.Array], present: tuple[int, int], rule: Judgement
) -> ColumnDrift:
    rows = len(arrays[0]), len(arrays[1])
    shares = [1 - there / max(1, of) for there, of in zip(present, rows, strict=True)]
    what = f"{shares[1]:.1%} have no value, {shares[0]:.1%} had none"
    found = _finding(name, MISSING, kind, rows, abs(shares[1] - shares[0]), 1, what, rule)
    counts = [{"present": there, MISSING: of - there} for there, of in zip(present, rows, strict=True)]
    measures = value_measures(counts[0], counts[1])[:1] if min(rows) else ()
    surge = shares[1] - shares[0] > max(_SURGE_OF_MISSING, found.chance)
    cause = (f"{shares[1]:.1%} of the values are missing, {shares[0]:.1%} were", MISSING) if surge else ("", "")
    return replace(found, measures=measures, cause=cause[0], cause_kind=cause[1])


def _numbers(name: str, kind: str, reference: Floats, live: Floats, rule: Judgement) -> ColumnDrift:
    gap, at = kolmogorov_distance(reference, live)
    what = f"{abs(gap):.1%} {'more' if gap > 0 else 'fewer'} of the values are at most {at:.6g}"
    found = _finding(name, "", kind, (len(reference), len(live)), abs(gap), 0, what, rule)
    measures = number_measures(reference, live)
    explained = None
    if found.distance > found.chance:
        noise = sampling_noise(len(reference), len(live))
        explained = explain_numbers(shape_of_sample(reference), shape_of_sample(live), noise)
    cause = cause_of(explained) or _first_negative(reference, live, rule)
    return _caused(replace(found, measures=measures), cause)


def _first_negative(reference: Floats, live: Floats, rule: Judgement) -> Cause | None:
    """Numbers below 0, more than chance brings, where the reference (both are sorted) has none."""
    count = int(np.searchsorted(live, 0.0))
    if not count or reference[0] < 0 or chance_of_all_later(count, len(reference), len(live)) > rule.alarm:
        return None
    text = (
        f"below 0 in {count:,} of {len(live):,} values, and in none of {len(reference):,} before (such as {live[0]:g})"
    )
    return Cause(text, "first_negative")


def _values(name: str, kind: str, reference: Counts, live: Counts, rule: Judgement) -> ColumnDrift:
    shown = _together(reference, live)
    gaps = {value: shown[1].share(value) - shown[0].share(value) for value in (*shown[0].top, *shown[1].top)}
    which = max(gaps, key=lambda value: abs(gaps[value]))
    what = f"{which!r}: {shown[1].share(which):.1%} of the rows, {shown[0].share(which):.1%} before"
    new = [value for value in live.top if value not in reference.top]
    if new:
        share = sum(live.top[value] for value in new) / live.total
        what += f"; {share:.1%} have one of {len(new):,} new values such as {new[0]!r}"
    rows = reference.total, live.total
    found = _finding(name, "", kind, rows, abs(gaps[which]), len(gaps), what, rule)
    measures = value_measures(shown[0].top, shown[1].top)
    explained = explain_values(reference, live) if found.distance > found.chance else None
    return _caused(replace(found, measures=measures), cause_of(explained))


def _together(reference: Counts, live: Counts) -> tuple[Counts, Counts]:
    """The most frequent values of both, all others as one."""
    both = {value: reference.share(value) + live.share(value) for value in (*reference.top, *live.top)}
    kept = sorted(both, key=lambda value: (-both[value], value))[:_TOP]
    sides = []
    for side in (reference, live):
        top = {value: side.top.get(value, 0) for value in kept}
        rest = side.total - sum(top.values())
        sides.append(Counts(top | ({_OTHERS: rest} if len(both) > len(kept) else {}), side.total))
    return sides[0], sides[1]


def _cycles(name: str, reference: ColumnStatistics, live: ColumnStatistics, rule: Judgement) -> Iterator[ColumnDrift]:
    """The hours and weekdays of points in time that span enough for all of them to have had their turn."""
    for part, (size, seconds) in CYCLES.items():
        spans = [(side.maximum or 0.0) - (side.minimum or 0.0) for side in (reference, live)]
        if part == "minute" or min(spans) < seconds * (1 - 1 / size):
            continue
        distance = cumulative_distance(live.parts[part], reference.parts[part], size)
        rows = reference.count, live.count
        found = _finding(name, part, live.kind, rows, distance, 0, f"the {part}s are spread otherwise", rule)
        cause = moved_hours(reference, live, part) if found.distance > found.chance else None
        measures = value_measures(reference.parts[part], live.parts[part])
        ks = Measure("ks", distance, max(0.0, distance - found.chance), min(1.0, distance + found.chance))
        yield _caused(replace(found, measures=(ks, *measures)), cause)


def _caused(found: ColumnDrift, cause: Cause | None) -> ColumnDrift:
    return found if cause is None else replace(found, cause=cause.text, cause_kind=cause.kind)


def _swapped(found: Sequence[ColumnDrift], reference: pa.Table, live: pa.Table) -> list[ColumnDrift]:
    """Columns of numbers that hold what another one held, and the other way round."""
    suspects = [f for f in found if f.moved and not f.part and f.kind in NUMBERS and f.distance >= _SWAPPED_LEAST]
    shapes = {}
    for one in suspects:
        pair = (_finite(_array(side, one.column), one.column) for side in (reference, live))
        shapes[one.column] = tuple(shape_of_sample(values) for values in pair)
    partner: dict[str, str] = {}
    for a in shapes:
        for b in shapes:
            if a < b and _same(shapes[a][0], shapes[b][1]) and _same(shapes[b][0], shapes[a][1]):
                partner[a], partner[b] = b, a
    return [
        replace(f, cause=f"the values that {partner[f.column]} had: columns exchanged?", cause_kind="swapped")
        if f.column in partner and not f.part
        else f
        for f in found
    ]


def _same(first: Floats, second: Floats) -> bool:
    spread = float(second[-1] - second[0])
    return distance_of_shapes(first, second, 0.01 * spread) <= _SWAPPED_LEFT


def _by_relation(
    found: Sequence[ColumnDrift], reference: pa.Table, live: pa.Table, kinds: Mapping[str, str]
) -> list[ColumnDrift]:
    """A cause for numbers that moved without one: against what the other columns lead to expect of the live rows."""
    known = [name for name in kinds if name in reference.column_names and name in live.column_names]
    unsound = {f.column for f in found if f.cause_kind not in ("", "factor", "offset")}
    numbers = [name for name in known if kinds[name] in NUMBERS and name not in unsound]
    words = [name for name in known if kinds[name] in WORDS and name not in unsound]
    done = []
    for one in found:
        unclear = one.cause_kind in ("", "factor", "offset") and one.moved and not one.part
        hoped = expected(reference, live, one.column, numbers, words) if unclear and one.kind in NUMBERS else None
        if hoped is not None:
            explained = _against(hoped, _finite(_array(live, one.column), one.column))
            one = _caused(one, cause_of(explained))
        done.append(one)
    return done


def _against(hoped: Floats, values: Floats) -> Explanation | None:
    """The conversion that makes the live values of those that the other columns lead to expect."""
    shapes = shape_of_sample(hoped), shape_of_sample(values)
    if distance_of_shapes(*shapes, tolerance=0.0) < _LEAST_FROM_EXPECTED:
        return None
    explained = explain_numbers(*shapes, _NOISE_OF_EXPECTED)
    if explained is None or explained.kind != "conversion":
        return None
    return replace(explained, text=f"{explained.text} (against what the other columns lead to expect)")
