"""What is watched of a feature day by day: a few channels, whose order from day to day is what `alarms` looks at.

A channel is a mean over the day's rows of a function that the reference fixes beforehand: the rank of a number among
the reference's, whether a value is one of its frequent ones. A day of more rows is measured more exactly, not
differently, and days can be exchanged, which is what the proof in `alarms` rests on.

This is not what `fairlead.data.summary` does. Its sketches describe rows without a reference and can be merged; a
channel read off them would carry their error, another one each day, into an order that must follow from the rows alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairlead.features.categories import category_array
from fairlead.features.encoders import numbers_of_array
from fairlead.features.instants import part_array, wall_clock_array

Floats = NDArray[np.float64]

NAMES_OF_NUMBERS = ("level", "spread", "low tail", "high tail", "missing")
_TAIL = 0.05
_TOP = 4
_LEVELS = 201
_PARTS_OF_DAY = ("00-06 h", "06-12 h", "12-18 h", "18-24 h")


@dataclass(frozen=True, slots=True)
class NumberChannels:
    """Ranks of numbers among those of the reference: `quantiles` [L] ascending."""

    quantiles: Floats

    @property
    def names(self) -> tuple[str, ...]:
        """What `of` measures."""
        return NAMES_OF_NUMBERS

    def of(self, array: pa.Array) -> Floats:
        """[5]; NaN without rows, and but for the missing share without a value."""
        rows = len(array)
        values = np.empty(0) if pa.types.is_null(array.type) else numbers_of_array(array, "")
        values = values[np.isfinite(values)]
        if not len(values):
            return np.append(np.full(len(NAMES_OF_NUMBERS) - 1, np.nan), 1.0 if rows else np.nan)
        return np.append(parts_of(self.ranks(values)).mean(axis=1), 1 - len(values) / rows)

    def ranks(self, values: Floats) -> Floats:
        """The share of the reference below each value, ties at their middle: [N] in 0 to 1."""
        low = np.searchsorted(self.quantiles, values, "left")
        high = np.searchsorted(self.quantiles, values, "right")
        return np.asarray((low + high) / (2 * len(self.quantiles)))


@dataclass(frozen=True, slots=True)
class ValueChannels:
    """The most frequent values of the reference, and which values it had at all."""

    top: tuple[str, ...]
    known: frozenset[str]

    @property
    def names(self) -> tuple[str, ...]:
        """What `of` measures."""
        return (*(f"share of {value!r}" for value in self.top), "new values", "missing")

    def of(self, array: pa.Array) -> Floats:
        """[len(names)]; NaN without rows, and but for the missing share without a value."""
        rows = len(array)
        if not rows:
            return np.full(len(self.top) + 2, np.nan)
        texts = pa.array([], pa.string()) if pa.types.is_null(array.type) else category_array(array).drop_null()
        counts: Mapping[str, int] = {i["values"]: i["counts"] for i in pc.value_counts(texts).to_pylist()}
        present = sum(counts.values())
        new = sum(count for value, count in counts.items() if value not in self.known)
        shares = [counts.get(value, 0) / present if present else np.nan for value in self.top]
        return np.array([*shares, new / present if present else np.nan, 1 - present / rows])


@dataclass(frozen=True, slots=True)
class ClockChannels:
    """Hours of the day, in quarters."""

    @property
    def names(self) -> tuple[str, ...]:
        """What `of` measures."""
        return (*_PARTS_OF_DAY, "missing")

    def of(self, array: pa.Array) -> Floats:
        """[5]; NaN without rows, and but for the missing share without a value."""
        if not len(array):
            return np.full(len(_PARTS_OF_DAY) + 1, np.nan)
        clock = wall_clock_array(array)
        clock = clock[~np.isnat(clock)]
        counts = np.bincount(part_array(clock, "hour") // 6, minlength=len(_PARTS_OF_DAY)).astype(np.float64)
        shares = counts / len(clock) if len(clock) else np.full(len(counts), np.nan)
        return np.append(shares, 1 - len(clock) / len(array))


Channels = NumberChannels | ValueChannels | ClockChannels


def parts_of(ranks: Floats) -> Floats:
    """What a row of rank `ranks` [N] adds to level, spread and the two tails: [4, N]."""
    return np.stack([ranks, np.abs(2 * ranks - 1), ranks < _TAIL, ranks > 1 - _TAIL]).astype(np.float64)


def channels_of(array: pa.Array, kind: str) -> Channels | None:
    """What the reference's rows of a feature fix; None for kinds without one, and without a value."""
    if pa.types.is_null(array.type):
        return None
    if kind in ("int", "float"):
        values = numbers_of_array(array, "")
        values = values[np.isfinite(values)]
        return NumberChannels(np.quantile(values, np.linspace(0, 1, _LEVELS))) if len(values) else None
    if kind in ("string", "bool"):
        found = pc.value_counts(category_array(array).drop_null()).to_pylist()
        ordered = sorted(found, key=lambda item: (-item["counts"], item["values"]))
        top = tuple(item["values"] for item in ordered[:_TOP])
        return ValueChannels(top, frozenset(item["values"] for item in ordered)) if top else None
    return ClockChannels() if kind == "timestamp" else None
