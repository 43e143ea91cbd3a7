"""Statistics in one pass agree with those of the whole, however the rows are cut into batches."""

import math
from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.features import statistics as module
from fairlead.features.moments import Moments
from fairlead.features.samples import BoundedSample
from fairlead.features.statistics import StatisticsBuilder
from fairlead.records.codec import from_json, to_json
from fairlead.records.data import Statistics


def described(table: pa.Table, rows: int = 1000, **options: object) -> Statistics:
    builder = StatisticsBuilder(table.column_names, **options)  # type: ignore[arg-type]
    for batch in table.to_batches(max_chunksize=rows):
        builder.update(batch)
    return builder.finish()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=200), st.integers(1, 50))
def test_numbers_are_described_as_numpy_does(values: list[float | None], rows: int) -> None:
    found = described(pa.table({"x": pa.array(values, pa.float64())}), rows).columns["x"] if values else None
    present = np.array([value for value in values if value is not None])
    if found is None or not len(present):
        return
    assert (found.count, found.missing) == (len(present), len(values) - len(present))
    assert found.distinct == len(np.unique(present))
    assert found.mean == pytest.approx(present.mean(), abs=1e-6)
    assert found.std == pytest.approx(present.std(), abs=1e-5)
    assert (found.minimum, found.maximum) == (present.min(), present.max())
    assert found.quantiles["0.5"] == np.quantile(present, 0.5)
    assert sum(found.counts) == len(present)
    assert len(found.edges) == len(found.counts) + 1
    assert list(found.edges) == sorted(set(found.edges))


def test_values_that_come_later_than_the_first_sample_widen_the_histogram(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_SAMPLE", 1000)
    rng = np.random.default_rng(7)
    values = np.concatenate([rng.normal(0, 1, 5000), rng.normal(20, 1, 5000)])
    found = described(pa.table({"x": values}), 500).columns["x"]
    true = np.searchsorted(np.sort(values), found.edges[1:-1]) / len(values)
    said = np.cumsum(found.counts)[:-1] / len(values)
    assert np.abs(true - said).max() < 1e-9
    assert found.edges[-1] == values.max()


def test_categories_count_top_values_and_the_rest() -> None:
    values = [f"v{i}" for i in range(300) for _ in range(300 - i)] + [None] * 5
    found = described(pa.table({"c": values})).columns["c"]
    assert (found.count, found.missing, found.distinct) == (len(values) - 5, 5, 300)
    assert found.top["v0"] == 300
    assert len(found.top) == module.TOP_VALUES
    assert sum(found.top.values()) + found.other == found.count


def test_different_values_are_counted_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_DISTINCT", 100)
    found = described(pa.table({"c": [f"v{i}" for i in range(5000)]})).columns["c"]
    assert found.distinct == 100
    assert sum(found.top.values()) + found.other == 5000


@pytest.mark.parametrize("rows", [137, 5000])
def test_frequent_numbers_are_kept_within_their_bound_among_any_number_of_others(rows: int) -> None:
    rng = np.random.default_rng(11)
    values = rng.normal(size=20_000)
    values[:4000], values[4000:4300], values[4300:4400] = -999.0, 0.25, 7.0
    rng.shuffle(values)
    found = described(pa.table({"x": values}), rows).columns["x"].top
    assert list(found) == ["-999.0", "0.25"], "7.0 is half of what counts as frequent"
    assert found["-999.0"] == pytest.approx(4000, abs=50)
    assert found["0.25"] == pytest.approx(300, abs=50)
    few = described(pa.table({"x": np.repeat([1, 2, 3], [50, 30, 20])}), rows).columns["x"]
    assert few.top == {"1.0": 50, "2.0": 30, "3.0": 20}, "exact while they are few"


def test_points_in_time_have_parts_whether_typed_or_text() -> None:
    moments = [datetime(2013, 7, 1, 5), datetime(2013, 7, 1, 5), datetime(2013, 8, 4, 23)]
    typed = described(pa.table({"at": moments})).columns["at"]
    builder = StatisticsBuilder({"at": "timestamp"})
    builder.update(pa.table({"at": [*(moment.isoformat() for moment in moments), "soon", None]}))
    text = builder.finish().columns["at"]
    assert typed.parts == text.parts
    assert (typed.parts["hour"]["5"], typed.parts["weekday"]["6"], typed.parts["month"]["8"]) == (2, 1, 1)
    assert (text.count, text.missing) == (3, 2)


def test_live_rows_are_counted_in_the_bins_and_values_of_the_reference() -> None:
    rng = np.random.default_rng(7)
    train = pa.table({"x": rng.normal(size=5000), "c": rng.choice(["a", "b"], 5000), "k": rng.integers(0, 5, 5000)})
    builder = StatisticsBuilder({"x": "float", "c": "string", "k": "string"})
    builder.update(train)
    reference = builder.finish()
    live = StatisticsBuilder(["x", "c", "k", "gone"], reference)
    live.update(pa.table({"x": [-1e9, 0.0, 1e9, None], "c": ["a", "new", "new", None], "k": [1.0, 1.0, 7.0, None]}))
    found = live.finish()
    assert found.columns["x"].edges == reference.columns["x"].edges
    assert (found.columns["x"].counts[0], found.columns["x"].counts[-1], sum(found.columns["x"].counts)) == (1, 1, 3)
    assert found.columns["c"].top.keys() == reference.columns["c"].top.keys()
    assert (found.columns["c"].top["a"], found.columns["c"].other) == (1, 2)
    assert (found.columns["k"].top["1"], found.columns["k"].other) == (2, 1)
    assert found.columns["gone"].missing == 4


def test_infinite_numbers_and_values_of_another_type_count_as_missing() -> None:
    builder = StatisticsBuilder({"x": "float", "y": "float"})
    builder.update(pa.table({"x": [1.0, math.inf, math.nan, None], "y": ["a", "b", "c", "d"]}))
    found = builder.finish()
    assert (found.columns["x"].count, found.columns["x"].missing) == (1, 3)
    assert (found.columns["y"].count, found.columns["y"].missing) == (0, 4)
    assert from_json(Statistics, to_json(found)) == found


def test_a_bounded_sample_is_exact_while_it_fits_and_close_beyond() -> None:
    rng = np.random.default_rng(7)
    values = rng.normal(size=200_000)
    small, large = BoundedSample("x", 1000), BoundedSample("x", 1000)
    small.update(values[:1000])
    assert small.exact
    assert np.array_equal(small.values(), np.sort(values[:1000]))
    for part in np.split(values, 200):
        large.update(part)
    assert not large.exact
    sample = large.values()
    assert len(sample) == 1000
    rank = np.searchsorted(np.sort(values), np.quantile(sample, [0.1, 0.5, 0.9])) / len(values)
    assert np.abs(rank - [0.1, 0.5, 0.9]).max() < math.sqrt(math.log(2 / 1e-6) / 2000)


def test_moments_do_not_lose_digits_far_from_zero() -> None:
    values = 1e9 + np.random.default_rng(7).normal(size=10_000)
    moments = Moments()
    for part in np.split(values, 100):
        moments.update(part)
    assert moments.std == pytest.approx(values.std(), rel=1e-7)
