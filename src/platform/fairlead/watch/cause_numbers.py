"""What was done to a column of numbers: candidates of explanation, each applied to the source, compared by their fit.

A candidate is a known conversion of units (both ways), a factor, an offset, both, the sign, a logarithm, one value in
the place of others, or values cut off at a bound. Its fit is the distance that is left between the changed source and
the target. A candidate explains a difference when little of it is left, and when its change is one that no season
makes: temperatures of September are not those of January plus 32, even where the curves agree after that.

The distance is that of Kolmogorov, with numbers that are nearer than a hundredth of the target's range taken as equal
(the metric of Levy, 1925, in one direction), so that a conversion that was rounded still fits.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairlead.records.data import ColumnStatistics

Floats = NDArray[np.float64]

# Factor, zero point (b in y = factor * x + b), names. A factor as near to 1 as that of knots and miles per hour is
# what any season may bring, so it is not among them.
CONVERSIONS = (
    (1000.0, 0.0, "thousands: milliseconds and seconds, metres and kilometres, grams and kilograms"),
    (100.0, 0.0, "a percentage for a share, cents, centimetres and metres, or pascal and hectopascal"),
    (60.0, 0.0, "minutes and hours, or seconds and minutes"),
    (3600.0, 0.0, "seconds and hours"),
    (1.8, 32.0, "Celsius and Fahrenheit"),
    (1.0, 273.15, "Celsius and kelvin"),
    (1.8, -459.67, "kelvin and Fahrenheit"),
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

LEVELS = 400
# A candidate leaves at most this share of the difference, and at most this much of it.
_REST = 0.4
_LEFT = 0.12
_TOLERANCE = 0.01
# Without a known conversion: a factor this far from 1, an offset of this many ranges.
_FACTOR = 3.0
_OFFSET = 2.0
_SPREAD_ERROR = 0.03
_LEFT_BY_CONVERSION = 0.04
_REST_OF_CONVERSION = 0.25
NOISE_OF_HISTOGRAMS = 0.03
_SURGE = 0.05
# A value that was frequent already and is more so now is no default value: clear sight in a dry month.
_RARE = 0.5
# What a candidate with free numbers pays, so that a known conversion wins where both fit.
_PRICE_OF_ONE, _PRICE_OF_TWO = 0.02, 0.04


@dataclass(frozen=True, slots=True)
class Explanation:
    """A candidate: what it is in a word, what the target is like ("the target is ..."), and what is left."""

    kind: str
    text: str
    left: float
    price: float = 0.0


def shape_of_sample(values: Floats) -> Floats:
    """`LEVELS` quantiles of finite numbers, ascending; values that repeat stay values that occur."""
    levels = (np.arange(LEVELS) + 0.5) / LEVELS
    return np.asarray(np.quantile(values, levels, method="inverted_cdf"), np.float64)


def shape_of_statistics(column: ColumnStatistics) -> Floats | None:
    """The same from a histogram and the frequent values: these stand where they are, other rows are taken to be spread
    evenly within their bin; None without a histogram."""
    if len(column.edges) < 2 or not sum(column.counts):
        return None
    edges, rest = np.array(column.edges), np.array(column.counts, np.float64)
    values = np.array(sorted(float(value) for value in column.top))
    counts = np.array([float(column.top[repr(value)]) for value in values.tolist()])
    bins = np.clip(np.searchsorted(edges, values, "right") - 1, 0, len(rest) - 1)
    for index, (place, count) in enumerate(zip(bins.tolist(), counts.tolist(), strict=True)):
        counts[index] = min(count, rest[place])
        rest[place] -= counts[index]
    points = np.unique(np.concatenate([edges, values]))
    spread = np.interp(points, edges, np.concatenate([[0.0], np.cumsum(rest)]))
    up_to = np.concatenate([[0.0], np.cumsum(counts)])
    below = spread + up_to[np.searchsorted(values, points, "left")]
    at_most = spread + up_to[np.searchsorted(values, points, "right")]
    levels = (np.arange(LEVELS) + 0.5) / LEVELS * at_most[-1]
    return np.asarray(np.interp(levels, np.stack([below, at_most], axis=1).ravel(), np.repeat(points, 2)))


def distance_of_shapes(first: Floats, second: Floats, tolerance: float) -> float:
    """The largest difference of cumulative frequencies beyond what moving numbers by `tolerance` takes away."""
    points = np.concatenate([first, second])
    size = len(first), len(second)
    up = np.searchsorted(first, points, "right") / size[0]
    down = np.searchsorted(second, points, "right") / size[1]
    more = up - np.searchsorted(second, points + tolerance, "right") / size[1]
    less = down - np.searchsorted(first, points + tolerance, "right") / size[0]
    return float(max(0.0, more.max(), less.max()))


def sampling_noise(rows: int, other_rows: int) -> float:
    """About what two samples of one distribution differ by (the scale of Kolmogorov's distribution)."""
    return math.sqrt(1 / max(1, rows) + 1 / max(1, other_rows))


def explain_numbers(source: Floats, target: Floats, noise: float = NOISE_OF_HISTOGRAMS) -> Explanation | None:
    """The candidate that fits best among those that explain the difference; None when none does. `noise`: what shapes
    of the same numbers may differ by (`sampling_noise`). A drift can look like one of so many conversions, so these
    must fit to that."""
    range_of_target = _range(target)
    tolerance = _TOLERANCE * (range_of_target or abs(float(target[0])))
    as_is = distance_of_shapes(source, target, tolerance)
    if as_is < _SURGE:
        return None
    found = [*_replaced(source, target, tolerance)]
    if _range(source) > 0 and range_of_target > 0:
        found += [*_conversions(source, target, tolerance, noise, as_is), *_free(source, target, tolerance)]
        found += [*_sign_or_logarithm(source, target, tolerance, as_is)]
    good = [one for one in found if one.kind == "conversion" or (one.left <= _REST * as_is and one.left <= _LEFT)]
    return min(good, key=lambda one: one.left + one.price, default=None)


def _range(shape: Floats) -> float:
    """The middle nine tenths."""
    return float(shape[int(0.95 * len(shape))] - shape[int(0.05 * len(shape))])


def _middle(shape: Floats) -> float:
    return float(shape[int(0.95 * len(shape))] + shape[int(0.05 * len(shape))]) / 2


def _conversions(source: Floats, target: Floats, tolerance: float, noise: float, as_is: float) -> Iterator[Explanation]:
    scale = _range(target) / _range(source)
    found: list[tuple[float, float, float, str]] = []
    for factor, zero, name in CONVERSIONS:
        for a, b in ((factor, zero), (1 / factor, -zero / factor)):
            if abs(math.log(scale / a)) > _SPREAD_ERROR + noise:
                continue
            left = distance_of_shapes(a * source + b, target, tolerance)
            if left <= _LEFT_BY_CONVERSION + noise and left <= _REST_OF_CONVERSION * as_is:
                found.append((left, a, b, name))
    if found:
        left, a, b, _ = min(found)
        names = " or ".join(dict.fromkeys(one[3] for one in sorted(found) if _alike(one[1], a) and one[2] == b))
        moved = f" and moved by {b:+.4g}" if b else ""
        yield Explanation("conversion", f"scaled by about {a:.4g}{moved} ({names}): another unit?", left)


def _alike(first: float, second: float) -> bool:
    """Factors that samples do not tell apart."""
    return abs(math.log(first / second)) < _SPREAD_ERROR


def _free(source: Floats, target: Floats, tolerance: float) -> Iterator[Explanation]:
    scale = _range(target) / _range(source)
    offset = _middle(target) - _middle(source)
    large = max(scale, 1 / scale) >= _FACTOR
    if large:
        left = distance_of_shapes(scale * source, target, tolerance)
        yield Explanation("factor", f"scaled by about {scale:.3g}: another unit?", left, _PRICE_OF_ONE)
        zero = _middle(target) - scale * _middle(source)
        left = distance_of_shapes(scale * source + zero, target, tolerance)
        text = f"scaled by about {scale:.3g} and moved by {zero:+.4g}: another unit and zero point?"
        yield Explanation("factor", text, left, _PRICE_OF_TWO)
    if abs(offset) >= _OFFSET * max(_range(source), _range(target)):
        left = distance_of_shapes(source + offset, target, tolerance)
        text = f"moved by about {offset:.4g}: another unit or zero point?"
        yield Explanation("offset", text, left, _PRICE_OF_ONE)


def _sign_or_logarithm(source: Floats, target: Floats, tolerance: float, as_is: float) -> Iterator[Explanation]:
    negative = float((source < 0).mean())
    if not 0.05 < negative < 0.95:
        left = distance_of_shapes(-source[::-1], target, tolerance)
        yield Explanation("sign", "the same numbers with the other sign", left)
    if as_is < 0.5:
        return
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        changes = {
            "the natural logarithms of these": np.log(source),
            "the logarithms to base 10 of these": np.log10(source),
            "the logarithms of 1 + these": np.log1p(source),
            "e to the power of these": np.exp(source),
        }
    for text, changed in changes.items():
        if np.isfinite(changed).all():
            yield Explanation("logarithm", text, distance_of_shapes(changed, target, tolerance))


def _replaced(source: Floats, target: Floats, tolerance: float) -> Iterator[Explanation]:
    """One value in the place of others: a default value, or a bound at which values were cut off."""
    values, runs = np.unique(target, return_counts=True)
    before = np.searchsorted(source, values, "right") - np.searchsorted(source, values, "left")
    most = int(np.argmax(runs / len(target) - before / len(source)))
    value, of_target, of_source = (
        float(values[most]),
        float(runs[most] / len(target)),
        float(before[most] / len(source)),
    )
    share = (of_target - of_source) / max(1e-9, 1 - of_source)
    if share < _SURGE or of_source > _RARE * of_target:
        return
    replaced = round(share * LEVELS)
    rest = np.quantile(source, (np.arange(LEVELS - replaced) + 0.5) / max(1, LEVELS - replaced), method="inverted_cdf")
    left = distance_of_shapes(np.sort(np.concatenate([rest, np.full(replaced, value)])), target, tolerance)
    text = f"the same numbers but for {share:.0%} that read {value:g}: a default value?"
    yield Explanation("default_value", text, left, _PRICE_OF_ONE)
    for side, cut in (("above", np.minimum(source, value)), ("below", np.maximum(source, value))):
        left = distance_of_shapes(cut, target, tolerance)
        yield Explanation("cut_off", f"the same numbers cut off {side} {value:g}", left)
