"""Count, mean, variance and extremes of numbers, the same to the last bit in whatever grouping they are merged."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# Sums are whole multiples of 2**-1075, sums of squares of 2**-2150: every float64, and every square of one, is such.
_SUM = 1075
_SQUARE = 2 * _SUM
_SCALED = 600


class ExactMoments:
    """Running count, mean, standard deviation, minimum and maximum.

    Each batch gives its count, mean and sum of squared deviations as floats; they are joined by the formula of Chan,
    Golub, LeVeque (1983), "Algorithms for computing the sample variance", in whole numbers of any size. Nothing is
    rounded there, so the same batches in another order or grouping give the same bits.
    """

    __slots__ = ("_means", "_squares", "_within", "count", "maximum", "minimum")

    def __init__(self) -> None:
        self.count = 0
        self.minimum = math.inf
        self.maximum = -math.inf
        self._means = 0  # sum of count * mean
        self._squares = 0  # sum of count * mean ** 2
        self._within = 0  # sum of the batches' own squared deviations

    @classmethod
    def of(cls, values: np.ndarray) -> "ExactMoments":
        """Of one batch: float64 [N], all finite."""
        made = cls()
        count = len(values)
        if not count:
            return made
        made.count, made.minimum, made.maximum = count, float(values.min()), float(values.max())
        peak = max(abs(made.minimum), abs(made.maximum))
        shift = 0
        if peak > 1e150 or 0 < peak < 1e-150:  # squares of such numbers have no float
            shift = -_SCALED if peak > 1 else _SCALED
            values = np.ldexp(values, shift)
        mean = float(values.mean())
        within = 0.0
        if made.minimum < made.maximum:
            within = float(pc.variance(pa.array(values)).as_py()) * count
        exact = _whole(mean, _SUM)
        made._means = _shifted(count * exact, -shift)
        made._squares = _shifted(count * exact * exact, -2 * shift)
        made._within = _shifted(_whole(within, _SQUARE), -2 * shift)
        return made

    def merge(self, other: "ExactMoments") -> None:
        """Add what `other` saw."""
        self.count += other.count
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)
        self._means += other._means
        self._squares += other._squares
        self._within += other._within

    @property
    def mean(self) -> float:
        """0 before the first number."""
        return self._means / (self.count << _SUM) if self.count else 0.0

    @property
    def std(self) -> float:
        """The population standard deviation; 0 before the first number."""
        if not self.count or not self.minimum < self.maximum:
            return 0.0
        squares = self.count * (self._within + self._squares) - self._means * self._means
        return math.isqrt(max(squares, 0) << 128) / (self.count << (_SUM + 64))

    def to_value(self) -> dict[str, Any]:
        """JSON: whole numbers as hexadecimal digits and a power of two."""
        if not self.count:
            return {"count": 0}
        sums = [_packed(number) for number in (self._means, self._squares, self._within)]
        return {"count": self.count, "min": self.minimum, "max": self.maximum, "sums": sums}

    @classmethod
    def from_value(cls, value: dict[str, Any]) -> "ExactMoments":
        """What `to_value` gave."""
        made = cls()
        if value["count"]:
            made.count, made.minimum, made.maximum = value["count"], float(value["min"]), float(value["max"])
            made._means, made._squares, made._within = (_unpacked(text) for text in value["sums"])
        return made


def _whole(number: float, bits: int) -> int:
    top, bottom = number.as_integer_ratio()
    return top << (bits - bottom.bit_length() + 1)


def _shifted(number: int, bits: int) -> int:
    return number << bits if bits >= 0 else number >> -bits


def _packed(number: int) -> str:
    if not number:
        return "0"
    zeros = (number & -number).bit_length() - 1
    return f"{number >> zeros:x}p{zeros}"


def _unpacked(text: str) -> int:
    digits, _, zeros = text.partition("p")
    return int(digits, 16) << int(zeros or 0)
