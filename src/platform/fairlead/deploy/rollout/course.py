"""The course of a rollout's evidence, kept in its record: what the report draws, bounded whatever the traffic.

Looks are kept at geometric distances in requests, so that an interval is seen to narrow from its first requests on. A
part that is full forgets every other look and from then on keeps half as many; past MAX_PARTS the oldest part is
forgotten. Nothing here is read by a decision.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from fairlead.records.course import CoursePart, Look, Point
from fairlead.records.evidence import MetricVerdict
from fairlead.records.rollout import Phase, RolloutRecord

MAX_LOOKS = 48
"""Looks of one part; with six parts of seven metrics about 80 KB of the record."""
MAX_PARTS = 24
_DIGITS = 6


def noted(record: RolloutRecord, metrics: Sequence[MetricVerdict], now: datetime) -> RolloutRecord:
    """`record` with this look in its course, when it is worth keeping. A look without new requests changes nothing."""
    if not metrics or record.last_requests <= 0 or record.phase is Phase.PAUSED:
        return record
    names = tuple(metric.metric for metric in metrics)
    parts, part = record.course, _current(record, names)
    if part is not None:
        if record.last_requests < part.looks[-1].requests * part.ratio:
            return record
        parts = parts[:-1]
    else:
        part = CoursePart(record.phase.value, record.step, record.weight, record.shadow_percent, names, ())
    seconds = max(0.0, (now - datetime.fromisoformat(record.started_at)).total_seconds())
    look = Look(round(seconds, 3), record.last_requests, tuple(point_of(metric) for metric in metrics))
    bounds = tuple(_number(metric.bound) for metric in metrics)
    part = _with_room(replace(part, bounds=bounds, looks=(*part.looks, look)))
    return replace(record, course=(*parts, part)[-MAX_PARTS:])


def point_of(metric: MetricVerdict) -> Point:
    """A verdict's numbers, to six digits. Its interval says nothing before the first observation."""
    low, high = ends_of(metric)
    return metric.n, _number(metric.observed), _number(low), _number(high), log_evidence(metric)


def ends_of(metric: MetricVerdict) -> tuple[float | None, float | None]:
    """The two ends of a metric's interval; None for one that is not known (yet)."""
    interval = metric.interval
    if interval is None or not metric.n:
        return None, None
    return interval.low, interval.high if metric.details.get("upper_known", True) else None


def log_evidence(metric: MetricVerdict) -> float | None:
    """The natural logarithm of the metric's likelihood ratio (bad over healthy), where it is judged by one."""
    value = metric.details.get("log_ratio")
    return _number(value) if isinstance(value, int | float) and metric.n else None


def _current(record: RolloutRecord, names: tuple[str, ...]) -> CoursePart | None:
    """The last part, when the present look continues it."""
    part = record.course[-1] if record.course else None
    if part is None or (part.phase, part.step, part.metrics) != (record.phase.value, record.step, names):
        return None
    return part if record.last_requests >= part.looks[-1].requests else None


def _with_room(part: CoursePart) -> CoursePart:
    if len(part.looks) <= MAX_LOOKS:
        return part
    return replace(part, looks=part.looks[::2], ratio=part.ratio**2)


def _number(value: float | None) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{_DIGITS}g}")
