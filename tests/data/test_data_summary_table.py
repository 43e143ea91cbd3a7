"""Summaries of tables: what they hold is true, merging is one pass, JSON keeps all, and nothing about types crashes."""

import decimal
import itertools
import json
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.data.summary.draw import draw_rows
from fairlead.data.summary.groups import Codes
from fairlead.data.summary.numbers import NumberSummary
from fairlead.data.summary.project_groups import by_month, by_value
from fairlead.data.summary.table import TableSummary
from fairlead.data.summary.values import ValueSummary

WHOLE = draw_rows(1, 0, 0, None)


def rows(count: int, seed: int) -> pa.Table:
    """Every kind of column, with gaps."""
    rng = np.random.default_rng(seed)
    gap = rng.random(count) < 0.2
    stamps = np.datetime64("2024-01-01", "us") + rng.integers(0, 90 * 86_400, count).astype("timedelta64[s]")
    return pa.table(
        {
            "number": pa.array(rng.normal(size=count), mask=gap),
            "count": pa.array(rng.integers(-5, 300, count), mask=rng.random(count) < 0.1),
            "many": pa.array(rng.integers(0, 10**12, count)),
            "text": pa.array([f"town {i}" for i in rng.integers(0, 40, count)], pa.string(), mask=gap),
            "id": pa.array([f"id-{seed}-{i}" for i in range(count)]),
            "flag": pa.array(rng.random(count) < 0.3, pa.bool_(), mask=rng.random(count) < 0.05),
            "at": pa.array(stamps),
        }
    )


def summary_of(table: pa.Table, start: int = 0) -> TableSummary:
    """One batch's, grouped by month and flag."""
    batch = table.combine_chunks().to_batches()[0]
    flags = by_value(batch.column("flag"))
    assert flags is not None
    stamps = batch.column("at").to_numpy().astype("datetime64[us]")
    coded = {"month": by_month(stamps), "label": flags}
    return TableSummary.of(batch, draw_rows(batch.num_rows, start, 1, None), 1, coded)


def exact_part(summary: TableSummary) -> dict[str, Any]:
    """Everything that has no sketch in it."""
    columns: dict[str, Any] = {}
    for name, column in summary.columns.items():
        facts: dict[str, Any] = {"rows": column.rows, "missing": column.missing, "distinct": column.distinct.to_value()}
        if isinstance(column, NumberSummary):
            facts |= {"infinite": column.infinite, "moments": column.moments.to_value()}
        else:
            facts["lengths"] = column.lengths
        if column.frequent.exact:
            facts["values"] = sorted(column.frequent.counts.items())
        columns[name] = facts
    groups = {
        f"{dimension} {key} {name}": (part.rows, part.missing, sorted(part.frequent.counts.items()))
        for dimension, parts in summary.groups.items()
        for key, members in parts.groups.items()
        for name, part in members.items()
        if part.frequent.exact
    }
    patterns = sorted(summary.patterns.counts.items())
    return {"rows": summary.rows, "columns": columns, "groups": groups, "patterns": patterns}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 400), min_size=2, max_size=7), st.integers(0, 2**32 - 1))
def test_merging_in_any_grouping_is_one_pass(sizes: list[int], seed: int) -> None:
    batches = [rows(size, number) for number, size in enumerate(sizes)]
    whole = TableSummary()
    for batch in batches:
        whole.merge(summary_of(batch))
    parts = [summary_of(batch) for batch in batches]
    rng = np.random.default_rng(seed)
    while len(parts) > 1:
        first = parts.pop(int(rng.integers(len(parts))))
        parts[int(rng.integers(len(parts)))].merge(TableSummary.from_json(first.to_json()))
    assert exact_part(parts[0]) == exact_part(whole)
    table = pa.concat_tables(batches)
    numbers = np.sort(table["number"].drop_null().to_numpy())
    column = parts[0].columns["number"]
    assert isinstance(column, NumberSummary)
    if len(numbers):
        median = column.quantiles.quantiles([0.5])[0]
        low, high = (np.searchsorted(numbers, median, side=side) / len(numbers) for side in ("left", "right"))
        error = column.quantiles.rank_error + 1 / len(numbers)
        assert low - error <= 0.5 <= high + error


def test_a_summary_says_what_is_true() -> None:
    table = rows(3000, 5)
    summary = TableSummary()
    for start in range(0, 3000, 700):
        summary.merge(summary_of(table.slice(start, 700), start))
    number, text, flag, count = (summary.columns[name] for name in ("number", "text", "flag", "count"))
    assert isinstance(number, NumberSummary)
    assert isinstance(count, NumberSummary)
    assert isinstance(text, ValueSummary)
    assert summary.rows == number.rows == 3000
    assert number.missing == table["number"].null_count
    assert number.moments.mean == pytest.approx(pc.mean(table["number"]).as_py(), rel=1e-12)
    assert number.moments.std == pytest.approx(pc.stddev(table["number"]).as_py(), rel=1e-12)
    assert count.frequent.counts == Counter(float(v) for v in table["count"].drop_null().to_pylist())
    assert count.num_distinct == (pc.count_distinct(table["count"]).as_py(), 0.0)
    assert text.frequent.counts == Counter(table["text"].drop_null().to_pylist())
    lengths = [len(value) for value in table["text"].drop_null().to_pylist()]
    assert text.lengths == (min(lengths), sum(lengths), max(lengths))
    assert flag.frequent.counts == Counter("true" if v else "false" for v in table["flag"].drop_null().to_pylist())
    both = sum(
        a is None and b is None for a, b in zip(table["number"].to_pylist(), table["text"].to_pylist(), strict=True)
    )
    assert (
        sum(n for key, n in summary.patterns.counts.items() if "number\x1ftext" in str(key).replace("\x1fcount", ""))
        == both
    )
    months = summary.groups["month"].groups
    assert list(months) == ["2024-01", "2024-02", "2024-03"]
    assert sum(columns["number"].rows for columns in months.values()) == 3000
    for month, columns in months.items():
        chosen = table.filter(pa.array(np.char.startswith(table["at"].to_numpy().astype(str), month)))
        assert columns["number"].missing == chosen["number"].null_count
        assert columns["text"].frequent.counts == Counter(chosen["text"].drop_null().to_pylist())
        assert columns["number"].quantiles.quantiles([1.0])[0] <= number.moments.maximum


def test_json_holds_everything_a_summary_needs_to_go_on() -> None:
    first, second = rows(900, 1), rows(700, 2)
    one = summary_of(first)
    one.settle()
    two = TableSummary.from_json(one.to_json())
    assert two.to_json() == one.to_json()
    for summary in (one, two):
        summary.merge(summary_of(second))
    assert one.to_json() == two.to_json()


def test_a_summary_of_another_format_is_refused() -> None:
    value = json.loads(TableSummary().to_json()) | {"format": 99}
    with pytest.raises(ValueError, match="format 99"):
        TableSummary.from_value(value)


def test_columns_that_come_and_go_count_as_missing_where_they_are_not() -> None:
    whole = TableSummary()
    batches = [{"a": [1, 2]}, {"a": [3], "b": ["x"]}, {"b": ["y", None]}]
    for columns in batches:
        whole.merge(TableSummary.of(pa.RecordBatch.from_pydict(columns), WHOLE, 0))
    facts = {name: (column.rows, column.missing) for name, column in whole.columns.items()}
    assert facts == {"a": (5, 2), "b": (5, 3)}


def test_text_in_one_file_and_numbers_in_the_next_is_told() -> None:
    whole = TableSummary.of(pa.RecordBatch.from_pydict({"a": pa.nulls(2, pa.string())}), WHOLE, 0)
    whole.merge(TableSummary.of(pa.RecordBatch.from_pydict({"a": [1.5, 2.5]}), WHOLE, 0))
    assert not whole.mixed
    whole.merge(TableSummary.of(pa.RecordBatch.from_pydict({"a": ["x"]}), WHOLE, 0))
    assert whole.mixed == {"a"}
    assert (whole.columns["a"].kind, whole.columns["a"].rows, whole.columns["a"].missing) == ("float", 5, 3)


ODD = {
    "null": pa.nulls(4),
    "nan": pa.array([np.nan] * 4),
    "infinite": pa.array([np.inf, -np.inf, 1.0, None]),
    "half": pa.array(np.array([1, 2, 3, 4], np.float16)),
    "decimal": pa.array([decimal.Decimal("1.10"), None, decimal.Decimal("2.20"), decimal.Decimal("2.20")]),
    "large": pa.array([2**63 - 1, 2**63 - 2, -(2**63), 2**53 + 1]),
    "unsigned": pa.array([2**64 - 1, 2**64 - 2, 0, 1], pa.uint64()),
    "dictionary": pa.array(["a", None, "b", "a"]).dictionary_encode(),
    "dictionary of numbers": pa.array([1, None, 2, 1]).dictionary_encode(),
    "zoned": pa.array([0, 1, None, 3], pa.timestamp("us", "Europe/Berlin")),
    "date": pa.array([0, 1, None, 3], pa.date32()),
    "time": pa.array([0, 1, None, 3], pa.time32("s")),
    "bytes": pa.array([b"\xff", None, b"a", b""]),
    "list": pa.array([[1.0], None, [], [1.0, 2.0]]),
    "list of texts": pa.array([["a"], None, [], ["b", "c"]]),
    "struct": pa.array([{"a": 1}, None, {"a": 2}, {"a": 3}]),
    "wide text": pa.array(["x" * 100_000, "", None, "é\0"]),
    "large text": pa.array(["a", None, "b", "a"], pa.large_string()),
    "view": pa.array(["a", None, "b", "a"], pa.string_view()),
    "zero": pa.array([0.0, -0.0, 0.0, -0.0]),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("count", [0, 4])
def test_no_type_breaks_a_summary(name: str, count: int) -> None:
    array = ODD[name].slice(0, count)
    batch = pa.RecordBatch.from_arrays([array], [name])
    summary = TableSummary.of(batch, WHOLE, 3, {"month": Codes(np.arange(count) % 2, ["a", "b"])})
    again = TableSummary.of(batch, WHOLE, 3, {"month": Codes(np.arange(count) % 2, ["a", "b"])})
    summary.merge(again)
    column = TableSummary.from_json(summary.to_json()).columns[name]
    missing = sum(value is None or value != value for value in array.to_pylist())
    assert (column.rows, column.missing) == (2 * count, 2 * missing)
    distinct = len({str(v) for v in array.to_pylist() if v is not None and v == v and v not in (np.inf, -np.inf)})
    if column.kind in ("int", "float", "string", "timestamp") and name != "zero":
        assert column.num_distinct == (distinct, 0.0) or name in ("large", "unsigned")


def test_a_draw_takes_one_of_each_few_neighbours_and_the_same_ones_again() -> None:
    for level, file_rows in ((0, 500_000), (1, 500_001), (2, 1_500_000), (3, 5_000_000)):
        draw = draw_rows(131_072, 262_144, 7, file_rows)
        assert draw.level == level
        if draw.rows is None:
            assert level == 0
            continue
        assert (draw.rows >> level == np.arange(131_072 >> level)).all()
        offsets = np.bincount(draw.rows & (2**level - 1))
        assert len(offsets) == 2**level
        assert offsets.min() > 0.9 * len(draw.rows) / 2**level
        assert (draw_rows(131_072, 262_144, 7, file_rows).rows == draw.rows).all()
        assert (draw_rows(131_072, 262_144, 8, file_rows).rows != draw.rows).any()
    assert draw_rows(131_071, 0, 7, 10**7).level == 0


def test_what_large_files_are_drawn_from_stays_within_its_bound() -> None:
    """Quantiles, frequent values and groups of one row in eight, held against all rows."""
    rng = np.random.default_rng(11)
    outside: list[bool] = []
    for seed in range(12):
        count = 65_536
        batch = pa.RecordBatch.from_pydict(
            {"x": rng.gamma(2, 3, count), "k": np.round(rng.normal(size=count) * 3000), "m": rng.integers(0, 3, count)}
        )
        codes = Codes(batch["m"].to_numpy(), ["a", "b", "c"])
        summary = TableSummary.of(batch, draw_rows(count, 0, seed, 10**7), seed, {"month": codes})
        x, k = summary.columns["x"], summary.columns["k"]
        assert isinstance(x, NumberSummary)
        values = np.sort(batch["x"].to_numpy())
        at = values[[100, 6000, 32_768, 65_000]]
        true = np.searchsorted(values, at, side="right") / count
        outside += (np.abs(x.quantiles.shares_up_to(at) - true) > x.quantiles.rank_error).tolist()
        assert 0 < x.quantiles.rank_error < 0.05
        assert not k.frequent.exact
        found, counts = np.unique(batch["k"].to_numpy(), return_counts=True)
        real = dict(zip(found.tolist(), counts.tolist(), strict=True))
        outside += [abs(listed - real[value]) > k.frequent.count_error for value, listed in k.frequent.top(5)]
        assert k.num_distinct[0] == pytest.approx(len(found), rel=4 * k.num_distinct[1] + 1e-9)
        part = summary.groups["month"].groups["b"]["x"]
        inside = np.sort(batch["x"].to_numpy()[codes.codes == 1])
        share = np.searchsorted(inside, part.quantiles.quantiles([0.5])[0]) / len(inside)
        outside.append(abs(share - 0.5) > part.quantiles.rank_error)
    assert sum(outside) <= 3, f"{sum(outside)} of {len(outside)}"


def test_too_many_groups_are_given_up_and_stay_so() -> None:
    whole = TableSummary()
    for begin in range(0, 40, 10):
        names = [f"class {i}" for i in range(begin, begin + 10)]
        batch = pa.RecordBatch.from_pydict({"x": np.arange(10.0)})
        whole.merge(TableSummary.of(batch, WHOLE, 0, {"label": Codes(np.arange(10), names)}))
    assert whole.groups["label"].too_many
    assert TableSummary.from_json(whole.to_json()).groups["label"].too_many
    assert not whole.groups["label"].groups


def test_months_of_far_apart_instants_are_given_up() -> None:
    stamps = np.array(["0001-01-01", "9999-01-01", "NaT"], "datetime64[us]")
    summary = TableSummary.of(pa.RecordBatch.from_pydict({"x": [1, 2, 3]}), WHOLE, 0, {"month": by_month(stamps)})
    assert summary.groups["month"].too_many
    near = by_month(np.array(["2024-01-31", "NaT", "2024-03-01"], "datetime64[us]"))
    assert ([*near.names], near.codes.tolist()) == (["2024-01", "2024-02", "2024-03"], [0, -1, 2])
    assert list(itertools.chain(by_month(np.array([], "datetime64[us]")).codes)) == []
