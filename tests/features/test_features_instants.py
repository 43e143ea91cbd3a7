"""Calendar parts of columns equal those of single values, over all of history."""

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.features.instants import (
    PARTS,
    instant,
    instant_array,
    part_array,
    part_of,
    readable_instants,
    wall_clock,
    wall_clock_array,
)

offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)), min_size=1, max_size=5))
def test_every_part_of_a_column_is_what_python_says(clocks: list[datetime]) -> None:
    for array in (pa.array(clocks, pa.timestamp("us")), pa.array([clock.isoformat() for clock in clocks])):
        column = wall_clock_array(array)
        for part in PARTS:
            assert part_array(column, part).tolist() == [part_of(clock, part) for clock in clocks]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=offsets), min_size=1, max_size=5))
def test_instants_of_text_respect_the_offset_and_wall_clocks_ignore_it(moments: list[datetime]) -> None:
    texts = [moment.isoformat() for moment in moments]
    expected = [moment.astimezone(UTC) for moment in moments]
    assert [instant(text) for text in texts] == expected
    found = instant_array(pa.array(texts)).astype(datetime)
    assert [moment.replace(tzinfo=UTC) for moment in found] == expected
    assert [wall_clock(text) for text in texts] == [moment.replace(tzinfo=None) for moment in moments]


@pytest.mark.parametrize("text", ["", "2013", "2013-1-1", "2013-02-30", "0000-01-01", "2013-01-01T24:00", "20130101", "2013-01-01x", "2013-01-01\n", "٢٠١٣-01-01"])  # fmt: skip  # noqa: E501
def test_other_texts_are_refused_by_both_doors(text: str) -> None:
    with pytest.raises(ValueError):
        wall_clock(text)
    with pytest.raises(ValueError):
        wall_clock_array(pa.array(["2013-01-01", text]))
    assert readable_instants(pa.array(["2013-01-01", text, None])).tolist() == [True, False, False]


def test_missing_values_stay_missing() -> None:
    for array in (pa.array([None, "2013-01-01"]), pa.array([None, datetime(2013, 1, 1)]), pa.nulls(2)):
        assert np.isnat(wall_clock_array(array))[0]
