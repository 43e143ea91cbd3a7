"""Rows of many days held against those of a reference: which features raise an alarm, when, since when."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fairlead.features.hashing import stable_hash
from fairlead.features.instants import wall_clock_array
from fairlead.records.drift import DriftAlarm, DriftOverTime
from fairlead.watch.alarms import ChannelAlarm, ChannelWatch, threshold
from fairlead.watch.day_channels import Channels, channels_of
from fairlead.watch.leaning import novelties

Floats = NDArray[np.float64]

LEAST_REFERENCE_DAYS = 14
LEAST_DAYS_OF_A_WEEKDAY = 4


@dataclass(frozen=True, slots=True)
class _Days:
    """The days that have rows, in order, and where the rows of each lie."""

    days: NDArray[np.int64]
    starts: NDArray[np.int64]
    order: NDArray[np.int64]

    def rows(self, index: int) -> NDArray[np.int64]:
        end = self.starts[index + 1] if index + 1 < len(self.starts) else len(self.order)
        return self.order[self.starts[index] : end]


def watch_days(
    rows: pa.Table,
    time: str,
    until: np.datetime64,
    kinds: Mapping[str, str],
    *,
    false_alarms_per_month: float = 1.0,
    same_weekday: Sequence[str] = (),
    least_rows: int = 50,
) -> DriftOverTime:
    """Watch the days from `until` on, against those before it. A day with fewer than `least_rows` rows says nothing.

    `kinds` names the features (see `windows.compare_windows`); those in `same_weekday` are compared with days of the
    same weekday only. Where days lean on the day before, what is new in each is watched (`leaning`). Rows without a
    time are left out."""
    found = _days(rows, time)
    boundary = int(until.astype("datetime64[D]").astype(np.int64))
    before = int((found.days < boundary).sum())
    warnings = _too_few(before, len(found.days) - before, same_weekday)
    watched: dict[str, Channels] = {}
    measured: dict[str, Floats] = {}
    for name, kind in kinds.items():
        column = rows[name].combine_chunks() if name in rows.column_names else pa.nulls(rows.num_rows)
        reference = np.concatenate([found.rows(i) for i in range(before)]) if before else np.empty(0, np.int64)
        channels = channels_of(column.take(pa.array(reference)), kind)
        if channels is None:
            warnings.append(f"{name} has no value in the reference, and is not watched")
            continue
        watched[name] = channels
        measured[name] = _measured(found, column, channels, least_rows)
    number = sum(len(channels.names) for channels in watched.values())
    level = threshold(max(1, number), false_alarms_per_month)
    alarms: list[DriftAlarm] = []
    if not any(text.startswith("only") for text in warnings):
        for name, channels in watched.items():
            weekday = name in same_weekday
            alarm = _alarm_of(name, channels, measured[name], found, before, level, weekday)
            alarms += [alarm] if alarm is not None else []
    return DriftOverTime(
        reference=_span(found.days[:before]),
        reference_days=before,
        days=len(found.days) - before,
        features=len(watched),
        budget=false_alarms_per_month,
        threshold=level,
        same_weekday=tuple(name for name in same_weekday if name in watched),
        alarms=tuple(sorted(alarms, key=lambda one: (one.day, -one.evidence, one.feature))),
        warnings=tuple(warnings),
    )


def _days(rows: pa.Table, time: str) -> _Days:
    clock = wall_clock_array(rows[time].combine_chunks())
    known = np.flatnonzero(~np.isnat(clock))
    numbers = clock[known].astype("datetime64[D]").astype(np.int64)
    order = np.argsort(numbers, kind="stable")
    days, starts = np.unique(numbers[order], return_index=True)
    return _Days(days, starts, known[order])


def _too_few(before: int, after: int, same_weekday: Sequence[str]) -> list[str]:
    if before < LEAST_REFERENCE_DAYS:
        return [f"only {before} days of reference; {LEAST_REFERENCE_DAYS} are needed to say anything"]
    if not after:
        return ["only days of the reference: none to watch"]
    if same_weekday and before < 7 * LEAST_DAYS_OF_A_WEEKDAY:
        return [f"{before} days of reference are {before // 7} of each weekday: alarms will be slow"]
    return []


def _measured(found: _Days, column: pa.Array, channels: Channels, least_rows: int) -> Floats:
    result = np.full((len(found.days), len(channels.names)), np.nan)
    for index in range(len(found.days)):
        rows = found.rows(index)
        if len(rows) >= least_rows:
            result[index] = channels.of(column.take(pa.array(rows)))
    return result


def _alarm_of(
    name: str, channels: Channels, measured: Floats, found: _Days, before: int, level: float, weekday: bool
) -> DriftAlarm | None:
    """The first alarm of a feature, with what came after."""
    groups = (found.days + 3) % 7 if weekday else np.zeros(len(found.days), np.int64)
    new, _ = novelties(measured, before, groups)
    watch = ChannelWatch(new[:before], level, groups[:before].tolist(), seed=stable_hash(name))
    first: ChannelAlarm | None = None
    days: list[int] = []
    for index in range(before, len(found.days)):
        raised = watch.update(new[index], int(groups[index]))
        if raised:
            days.append(index)
            first = first or max(raised, key=lambda alarm: alarm.evidence)
    if first is None:
        return None
    channel = channels.names[first.channel]
    since, day = before + first.since, before + first.day
    usual = float(np.nanmean(measured[:before, first.channel]))
    now = float(np.nanmean(measured[since : day + 1, first.channel]))
    return DriftAlarm(
        feature=name,
        day=_day(found.days[day]),
        since=_day(found.days[since]),
        channel=channel,
        direction="up" if first.up else "down",
        evidence=first.evidence,
        change=now - usual,
        what=f"{channel} {now:.3g} since then, {usual:.3g} in the reference",
        again=len(days) - 1,
        last=_day(found.days[days[-1]]),
    )


def _day(number: int) -> str:
    return str(np.datetime64(int(number), "D"))


def _span(days: NDArray[np.int64]) -> str:
    return f"{_day(days[0])} to {_day(days[-1])}" if len(days) else "nothing"
