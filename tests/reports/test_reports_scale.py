"""Axes, ticks, thinning, and numbers as words."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fairlead.records.evidence import Verdict
from fairlead.reports.model import BarChart, Table
from fairlead.reports.scale import Axis, axis_over, thin, tick_label, time_ticks
from fairlead.reports.words import clean, elapsed_seconds, format_cell, format_elapsed, format_interval, format_number

FINITE = st.floats(-1e12, 1e12)


@given(st.lists(FINITE, min_size=1, max_size=30))
def test_all_values_stand_on_the_axis_and_ticks_within_it(values: list[float]) -> None:
    axis = axis_over(values, 0, 100)
    assert axis.low <= min(values)
    assert max(values) <= axis.high
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 12
    slack = (axis.high - axis.low) * 1e-6
    assert all(axis.low - slack <= tick <= axis.high + slack for tick in ticks)


@given(FINITE, FINITE)
def test_ticks_have_labels_that_differ(low: float, high: float) -> None:
    assume(high - low > max(abs(low), abs(high)) * 1e-3 and high - low > 1e-3)
    axis = Axis(low, high, 0, 100)
    ticks = axis.ticks()
    labels = [tick_label(tick, ticks) for tick in ticks]
    assert len(set(labels)) == len(labels)


@given(st.lists(st.tuples(FINITE, FINITE), max_size=2000), st.integers(10, 200))
def test_thinning_keeps_the_ends_and_the_extremes(points: list[tuple[float, float]], limit: int) -> None:
    kept = thin(points, limit)
    assert len(kept) <= max(limit, min(len(points), limit))
    assert [p for p in points if p in kept][:1] == kept[:1]
    if points:
        assert kept[0] == points[0]
        assert kept[-1] == points[-1]
        assert min(p[1] for p in kept) == min(p[1] for p in points)
        assert max(p[1] for p in kept) == max(p[1] for p in points)


def test_time_ticks_are_whole_minutes() -> None:
    assert time_ticks(Axis(0, 480, 0, 1)) == [0, 120, 240, 360, 480]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0"), (1234567, "1,234,567"), (0.72134, "0.7213"), (12345.678, "12,346"), (1234.5, "1,234.5"),
        (-0.1, "−0.1"),
        (1e-7, "1e-07"), (math.nan, "not a number"), (-math.inf, "−∞"), (3.0, "3"), (2.5e12, "2.5e+12"),
    ],
)  # fmt: skip
def test_numbers_read_well(value: float, words: str) -> None:
    assert format_number(value) == words


def test_cells_read_well() -> None:
    assert format_cell(None) == "n/a"
    assert format_cell(True) == "yes"
    assert format_cell(Verdict.NOT_ENOUGH_EVIDENCE) == "NOT ENOUGH EVIDENCE"
    assert format_cell("a\x00b") == "a\ufffdb"
    assert clean("abcdef", 4) == "abc…"


def test_intervals_and_times_read_well() -> None:
    assert format_interval(0.1, 0.2, 0.3) == "0.2 [0.1, 0.3]"
    assert format_interval(None, 0.2, None) == "0.2"
    assert format_interval(None, None, 0.3) == "n/a [−∞, 0.3]"
    assert format_elapsed(90) == "90 s"
    assert format_elapsed(7200) == "2 h"


def test_elapsed_time_needs_instants_in_order() -> None:
    assert elapsed_seconds(["2024-01-01T00:00:00", "2024-01-01T00:01:00"]) == [0, 60]
    assert elapsed_seconds(["2024-01-01T00:01:00", "2024-01-01T00:00:00"]) is None
    assert elapsed_seconds(["2024-01-01T00:01:00Z", "2024-01-02T00:00:00"]) is None
    assert elapsed_seconds(["start", "end"]) is None


def test_columns_of_numbers_stand_right() -> None:
    assert Table(["a", "b", "c"], [["x", 1, True], ["y", None, False]]).alignment() == ("left", "right", "left")
    assert Table(["a", "b"], [], align=["center"]).alignment() == ("center", "left")


def test_single_bars_are_groups_without_a_name() -> None:
    assert BarChart([("a", 1.0)]).grouped() == (("a", {"": 1.0}),)
