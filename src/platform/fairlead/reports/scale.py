"""From numbers to places on paper: axes, ticks, and thinning of long lines."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Point = tuple[float, float]
_SMALLEST_SPAN = 1e-290
"""Below this a fifth of the span may be 0."""


@dataclass(frozen=True, slots=True)
class Axis:
    """Maps [low, high] of the data linearly to [start, end] of the drawing."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        """Where `value` stands; values outside the axis are held at its ends."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, about: int = 5) -> list[float]:
        """Round numbers within the axis."""
        step = _round_step((self.high - self.low) / max(about, 1))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [index * step for index in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class LogAxis:
    """Maps [low, high] of positive data logarithmically to [start, end] of the drawing."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        """Where `value` stands; values outside the axis are held at its ends."""
        held = min(max(value, self.low), self.high)
        return self.start + math.log(held / self.low) / math.log(self.high / self.low) * (self.end - self.start)

    def ticks(self, about: int = 5) -> list[float]:
        """Powers of ten with as many of their multiples as fit; the ends, when even those are too few."""
        found: list[float] = []
        for factors in ((1,), (1, 3), (1, 2, 5)):
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            denser = [factor * 10.0**power for power in powers for factor in factors]
            denser = [tick for tick in denser if self.low <= tick * (1 + 1e-9) and tick <= self.high * (1 + 1e-9)]
            if found and len(denser) > about:
                break
            found = denser
        return found if len(found) > 1 else [self.low, self.high]


def log_axis_over(values: Iterable[float], start: float, end: float) -> LogAxis:
    """A logarithmic axis that holds all finite positive `values`."""
    finite = [float(value) for value in values if math.isfinite(value) and 0 < value < 1e300]
    low, high = (min(finite), max(finite)) if finite else (1.0, 10.0)
    return LogAxis(low, high, start, end) if high > low else LogAxis(low / 2, low * 2, start, end)


def axis_over(
    values: Iterable[float],
    start: float,
    end: float,
    *,
    fixed: tuple[float, float] | None = None,
    include: float | None = None,
    padding: float = 0.0,
) -> Axis:
    """An axis that holds all finite `values` (and `include`), or exactly `fixed`."""
    if fixed is not None and math.isfinite(fixed[0]) and math.isfinite(fixed[1]) and fixed[0] < fixed[1]:
        return Axis(fixed[0], fixed[1], start, end)
    finite = [float(value) for value in values if math.isfinite(value) and abs(value) < 1e300]
    if include is not None:
        finite.append(include)
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    span = high - low
    if span <= max(abs(high) * 1e-12, _SMALLEST_SPAN):
        room = abs(high) * 0.1 or 0.5
        return Axis(low - room, high + room, start, end)
    below = 0.0 if include is not None and low == include else padding
    above = 0.0 if include is not None and high == include else padding
    return Axis(low - span * below, high + span * above, start, end)


def _round_step(raw: float) -> float:
    magnitude = 10.0 ** math.floor(math.log10(raw))
    for factor in (1, 2, 2.5, 5, 10):
        if raw <= factor * magnitude * (1 + 1e-9):
            return factor * magnitude
    return 10 * magnitude


_TIME_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


def time_ticks(axis: Axis, about: int = 6) -> list[float]:
    """Ticks for an axis in seconds: whole seconds, minutes, hours or days."""
    raw = (axis.high - axis.low) / about
    if raw < _TIME_STEPS[0] or raw > _TIME_STEPS[-1]:
        return axis.ticks(about)
    step = next(size for size in _TIME_STEPS if size >= raw)
    return [float(tick) for tick in range(math.ceil(axis.low / step) * step, math.floor(axis.high) + 1, step)]


def tick_label(value: float, ticks: Sequence[float]) -> str:
    """A tick with as many decimals as its neighbours need to differ."""
    if len(ticks) < 2:
        return f"{value:.4g}"
    step = abs(ticks[1] - ticks[0])
    largest = max(abs(ticks[0]), abs(ticks[-1]))
    if largest >= 1e6 or step < 1e-5:
        return f"{value:.4g}" if abs(value) > step * 1e-6 else "0"
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    text = f"{step:.10f}".rstrip("0")
    decimals = max(decimals, len(text.split(".")[1]) if "." in text else 0)
    return f"{value:,.{min(decimals, 6)}f}".replace("-", "−")


def finite_points(points: Iterable[Point]) -> tuple[list[Point], int]:
    """The points that can be drawn, and how many cannot."""
    kept: list[Point] = []
    dropped = 0
    for x, y in points:
        if math.isfinite(x) and math.isfinite(y) and abs(x) < 1e300 and abs(y) < 1e300:
            kept.append((float(x), float(y)))
        else:
            dropped += 1
    return kept, dropped


def thin(points: Sequence[Point], limit: int) -> list[Point]:
    """At most about `limit` points that keep the ends and every bucket's lowest and highest point, so that a spike
    survives."""
    if len(points) <= limit:
        return list(points)
    buckets = max((limit - 2) // 2, 1)
    inner = points[1:-1]
    kept = [points[0]]
    for index in range(buckets):
        part = inner[index * len(inner) // buckets : (index + 1) * len(inner) // buckets]
        if not part:
            continue
        low = min(range(len(part)), key=lambda i: part[i][1])
        high = max(range(len(part)), key=lambda i: part[i][1])
        kept.extend(part[i] for i in sorted({low, high}))
    kept.append(points[-1])
    return kept
