"""Why two sets of statistics of the same feature differ, where the difference has a shape that a season never has."""

import math
from dataclasses import dataclass

from fairlead.records.data import ColumnStatistics
from fairlead.watch.distance import CYCLES, cumulative_distance

# A shift explains a difference of hours when it leaves less than this share of it.
_REST_AFTER_SHIFT = 0.4
# Numbers: a scale this far from 1, or an offset of this many ranges, is no season, even without a conversion that is
# known. After scale and offset, quantiles must agree to this share of the range.
_SCALE = 3.0
_OFFSET = 2.0
_QUANTILE_ERROR = 0.25
_FACTOR_ERROR = 0.04
# Factor, zero point (b in y = factor * x + b), names.
_CONVERSIONS = (
    (1000.0, 0.0, "thousands"),
    (100.0, 0.0, "a percentage for a share, or cents"),
    (60.0, 0.0, "minutes and hours, or seconds and minutes"),
    (3600.0, 0.0, "seconds and hours"),
    (1.8, 32.0, "Celsius and Fahrenheit"),
    (1.609344, 0.0, "kilometres and miles"),
    (1.852, 0.0, "kilometres and nautical miles"),
    (2.236936, 0.0, "miles per hour and metres per second"),
    (3.6, 0.0, "kilometres per hour and metres per second"),
    (1.943844, 0.0, "knots and metres per second"),
    (3.28084, 0.0, "feet and metres"),
    (2.54, 0.0, "centimetres and inches"),
    (25.4, 0.0, "millimetres and inches"),
    (33.8639, 0.0, "hectopascal and inches of mercury"),
    (2.204623, 0.0, "pounds and kilograms"),
)


@dataclass(frozen=True, slots=True)
class Cause:
    """A recognised cause in a sentence."""

    text: str


def moved_hours(source: ColumnStatistics, target: ColumnStatistics, part: str = "hour") -> Cause | None:
    """When the target's hours (or minutes) are the source's moved on by some: a time zone. Compares the spread over the
    day for every shift; the best one must explain most of the difference."""
    if part not in ("hour", "minute") or part not in source.parts or part not in target.parts:
        return None
    size = CYCLES[part][0]
    as_is = cumulative_distance(source.parts[part], target.parts[part], size)
    moved = {k: cumulative_distance(source.parts[part], target.parts[part], size, k) for k in range(1, size)}
    best = min(moved, key=lambda k: moved[k])
    if as_is == 0 or moved[best] > _REST_AFTER_SHIFT * as_is:
        return None
    signed = best if best <= size // 2 else best - size
    return Cause(f"moved by about {signed:+d} {part}{'' if abs(signed) == 1 else 's'}: a time zone?")


def other_unit(source: ColumnStatistics, target: ColumnStatistics) -> Cause | None:
    """When the target's numbers are the source's in another unit: scaled, or moved by several times their range, with
    quantiles that agree after that."""
    known = [q for q in source.quantiles if q in target.quantiles]
    if "0.05" not in known or "0.95" not in known:
        return None
    range_of_source = source.quantiles["0.95"] - source.quantiles["0.05"]
    range_of_target = target.quantiles["0.95"] - target.quantiles["0.05"]
    if range_of_source <= 0 or range_of_target <= 0:
        return None
    scale = range_of_target / range_of_source
    offset = _middle(target) - scale * _middle(source)
    error = max(abs(target.quantiles[q] - (scale * source.quantiles[q] + offset)) for q in known) / range_of_target
    if error > _QUANTILE_ERROR:
        return None
    conversion = _conversion(scale, offset, range_of_source, range_of_target)
    if conversion or max(scale, 1 / scale) >= _SCALE:
        return Cause(f"scaled by about {scale:.3g}{conversion}: another unit?")
    if abs(_middle(target) - _middle(source)) >= _OFFSET * max(range_of_source, range_of_target):
        return Cause(f"moved by about {_middle(target) - _middle(source):.4g}: another unit or zero point?")
    return None


def other_words(source: ColumnStatistics, target: ColumnStatistics) -> Cause | None:
    """When the target names the source's values differently: most rows of each have values that the other lacks."""
    if not source.count or not target.count or not source.top or not target.top:
        return None
    strange = {value: n for value, n in target.top.items() if n and value not in source.top}
    lost = {value: n for value, n in source.top.items() if n and value not in target.top}
    if sum(strange.values()) < 0.5 * target.count or sum(lost.values()) < 0.5 * source.count:
        return None
    folded = {_fold(value) for value in lost}
    if sum(n for value, n in strange.items() if _fold(value) in folded) > 0.5 * sum(strange.values()):
        how = "differ only in case, blanks or leading zeros"
    else:
        how = "are named otherwise: another vocabulary?"
    examples = ", ".join(repr(value) for value in list(strange)[:3])
    return Cause(f"values such as {examples} where there were {', '.join(repr(v) for v in list(lost)[:3])}; they {how}")


def find_cause(source: ColumnStatistics, target: ColumnStatistics, part: str) -> Cause | None:
    """The cause that makes `target` of `source`, where one is recognised."""
    if part:
        return moved_hours(source, target, part)
    return other_unit(source, target) if target.edges else other_words(source, target)


def _middle(column: ColumnStatistics) -> float:
    return (column.quantiles["0.05"] + column.quantiles["0.95"]) / 2


def _conversion(scale: float, offset: float, range_of_source: float, range_of_target: float) -> str:
    """The known conversion, in either direction, with this scale and zero point; "" when there is none."""
    for factor, zero, name in _CONVERSIONS:
        for known_scale, known_offset in ((factor, zero), (1 / factor, -zero / factor)):
            near = abs(math.log(scale / known_scale)) < _FACTOR_ERROR
            if near and abs(offset - known_offset) < _QUANTILE_ERROR * max(
                range_of_target, known_scale * range_of_source
            ):
                return f" ({name})"
    return ""


def _fold(value: str) -> str:
    return value.strip().casefold().lstrip("0")
