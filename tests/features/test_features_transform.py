"""One code path for a batch, for columns and for single rows: the same bits everywhere."""

import math
import pickle
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.errors import TransformError
from fairlead.features.transform import Tensors, Transform
from fairlead.spec.features import Features

FEATURES = Features.model_validate(
    {
        "numeric": {
            "plain": {},
            "clipped": {"clip": [0.05, 0.95], "impute": "mean"},
            "raw": {"scale": "none", "impute": 3.5},
            "whole": {"impute": "zero"},
        },
        "categorical": {
            "carrier": {"oov_buckets": 3},
            "rare": {"max_values": 2, "min_count": 2},
            "hashed": {"encode": "hash", "buckets": 16},
            "code": {},
        },
        "datetime": {"at": {"parts": ["hour", "minute", "weekday", "day", "month", "dayofyear", "week"]}},
    }
)
SCHEMA = pa.schema(
    [
        ("plain", pa.float64()),
        ("clipped", pa.float64()),
        ("raw", pa.float64()),
        ("whole", pa.int64()),
        ("carrier", pa.string()),
        ("rare", pa.string()),
        ("hashed", pa.string()),
        ("code", pa.int64()),
        ("at", pa.timestamp("us")),
    ]
)


def training_table(rows: int = 500, seed: int = 7) -> pa.Table:
    rng = np.random.default_rng(seed)
    start = datetime(2013, 1, 1)
    return pa.Table.from_pydict(
        {
            "plain": pa.array(rng.normal(5, 3, rows), mask=rng.random(rows) < 0.1),
            "clipped": rng.exponential(100, rows),
            "raw": rng.normal(size=rows),
            "whole": pa.array(rng.integers(-50, 50, rows), mask=rng.random(rows) < 0.2),
            "carrier": pa.array(rng.choice(["AA", "B6", "UA"], rows), mask=rng.random(rows) < 0.05),
            "rare": rng.choice(["x", "y", "z"], rows, p=[0.6, 0.3, 0.1]),
            "hashed": [f"id{value}" for value in rng.integers(0, 400, rows)],
            "code": rng.integers(0, 9, rows),
            "at": [start + timedelta(minutes=int(m)) for m in rng.integers(0, 525_600, rows)],
        },
        schema=SCHEMA,
    )


@pytest.fixture(scope="module")
def transform() -> Transform:
    return Transform.fit(training_table().to_batches(max_chunksize=64), FEATURES)


def same_bits(first: Tensors, second: Tensors) -> bool:
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype
        and first[name].shape == second[name].shape
        and first[name].tobytes() == second[name].tobytes()
        for name in first
    )


numbers = st.one_of(st.none(), st.floats(allow_infinity=False), st.floats(-1e3, 1e3), st.just(1.7e308))
words = st.one_of(st.none(), st.sampled_from(["AA", "B6", "UA", "x", "y", "id3"]), st.text(max_size=6))
row = st.fixed_dictionaries(
    {
        "plain": numbers,
        "clipped": numbers,
        "raw": numbers,
        "whole": st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
        "carrier": words.filter(lambda text: text is None or text.isprintable()),
        "rare": words.filter(lambda text: text is None or text.isprintable()),
        "hashed": words.filter(lambda text: text is None or text.isprintable()),
        "code": st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
        "at": st.one_of(st.none(), st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31))),
    }
)


@settings(max_examples=300, deadline=None)
@given(st.lists(row, min_size=1, max_size=6))
def test_table_rows_and_columns_agree_bit_for_bit_also_after_json(rows: list[dict[str, object]]) -> None:
    fitted = _FITTED
    again = Transform.from_json(fitted.to_json())
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    from_table = fitted.apply_table(table)
    columns = {name: [one[name] for one in rows] for name in SCHEMA.names}
    assert same_bits(from_table, fitted.apply_rows(rows))
    assert same_bits(from_table, fitted.apply_columns(columns, len(rows)))
    singles = [fitted.apply_rows([one]) for one in rows]
    assert same_bits(from_table, {k: np.concatenate([one[k] for one in singles]) for k in from_table})
    assert same_bits(from_table, again.apply_table(table))
    assert same_bits(from_table, again.apply_rows(rows))
    assert np.isfinite(from_table["numeric"]).all()


_FITTED = Transform.fit(training_table().to_batches(), FEATURES)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 500), st.integers(1, 500))
def test_fitting_does_not_depend_on_how_categories_arrive_in_batches(first: int, second: int) -> None:
    table = training_table()
    one = Transform.fit(table.to_batches(max_chunksize=first), FEATURES)
    two = Transform.fit(table.to_batches(max_chunksize=second), FEATURES)
    assert [c.values for c in one.categorical] == [c.values for c in two.categorical]
    for left, right in zip(one.numeric, two.numeric, strict=True):
        assert left.impute == pytest.approx(right.impute, abs=1e-12)
        assert left.mean == pytest.approx(right.mean, abs=1e-9)
        assert left.std == pytest.approx(right.std, rel=1e-9)


def test_fitted_constants_are_those_of_the_training_split() -> None:
    table = pa.table({"a": [1.0, 2.0, 3.0, None], "b": [0.0, 10.0, 20.0, 1000.0]})
    features = Features.model_validate({"numeric": {"a": {}, "b": {"clip": [0.0, 0.5], "scale": "none"}}})
    fitted = Transform.fit(table.to_batches(), features)
    a, b = fitted.numeric
    assert (a.impute, a.mean, a.indicator) == (2.0, 2.0, True)
    assert a.std == pytest.approx(math.sqrt(2 / 3))
    assert (b.low, b.high, b.indicator) == (0.0, 15.0, False)
    tensors = fitted.apply_rows([{"a": None, "b": 500}])
    assert tensors["numeric"].tolist() == [[0.0, 15.0, 1.0]]
    assert fitted.tensors[0].columns == ("a", "b", "a is missing")


def test_vocabulary_keeps_the_frequent_and_missing_has_an_index_of_its_own(transform: Transform) -> None:
    carrier, rare, hashed, _ = transform.categorical
    assert sorted(carrier.values) == ["AA", "B6", "UA"]
    assert carrier.cardinality == 1 + 3 + 3
    assert rare.values == ("x", "y")
    assert hashed.cardinality == 17
    assert carrier.index(None) == 0
    assert {carrier.index(f"new{i}") for i in range(200)} == {4, 5, 6}
    assert rare.index("z") == 3


def test_equal_counts_are_ordered_by_spelling() -> None:
    table = pa.table({"c": ["b", "a", "c", "c"]})
    fitted = Transform.fit(table.to_batches(), Features(categorical=("c",)))
    assert fitted.categorical[0].values == ("c", "a", "b")


@pytest.mark.parametrize("value", [7, 7.0, "7", np.int32(7), np.float32(7)])
def test_a_category_is_the_same_whatever_type_carries_it(value: object, transform: Transform) -> None:
    expected = 1 + transform.categorical[3].values.index("7")
    assert transform.categorical[3].index(value) == expected
    array = pa.array([value.item() if isinstance(value, np.generic) else value])
    assert transform.categorical[3].indices(array).tolist() == [expected]


@pytest.mark.parametrize(
    "value",
    [
        datetime(2013, 7, 1, 23, 45),
        datetime(2013, 7, 1, 23, 45, tzinfo=timezone(timedelta(hours=-5))),
        "2013-07-01T23:45",
        "2013-07-01 23:45:59.123456789Z",
        "2013-07-01T23:45:00-05:00",
        "2013-07-01T23:45:00+0530",
        np.datetime64("2013-07-01T23:45"),
    ],
)
def test_calendar_parts_are_those_of_the_wall_clock_as_written(value: object, transform: Transform) -> None:
    hour, minute, weekday, day, month, dayofyear, week = transform.datetime[0].codes(value)
    assert (hour - 1, minute - 1, weekday - 1, day, month, dayofyear, week) == (23, 45, 0, 1, 7, 182, 27)


def test_a_timestamp_column_with_a_zone_reads_as_the_clocks_of_that_zone(transform: Transform) -> None:
    instants = pa.array([datetime(2013, 7, 1, 12, tzinfo=UTC)], pa.timestamp("us", "America/New_York"))
    assert transform.datetime[0].columns(instants)[0].tolist() == [8 + 1]


def test_dates_and_other_units_of_timestamps_are_taken(transform: Transform) -> None:
    column = transform.datetime[0]
    expected = column.codes(date(2016, 2, 29))
    for array in (pa.array([date(2016, 2, 29)]), pa.array(["2016-02-29"]), pa.array([1456704000], pa.timestamp("s"))):
        assert [part.tolist() for part in column.columns(array)] == [[code] for code in expected]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"plain": "1.5"}, "plain"),
        ({"plain": [1.0]}, "plain"),
        ({"plain": float("inf")}, "plain"),
        ({"whole": 10**400}, "whole"),
        ({"carrier": {"a": 1}}, "carrier"),
        ({"carrier": datetime(2013, 1, 1)}, "carrier"),
        ({"at": "yesterday"}, "at"),
        ({"at": "2013-02-30"}, "at"),
        ({"at": "2013-02-03T25:00"}, "at"),
        ({"at": 1372636800}, "at"),
    ],
)
def test_a_wrong_value_is_refused_with_the_name_of_its_column(
    change: dict[str, object], named: str, transform: Transform
) -> None:
    good = dict.fromkeys(SCHEMA.names)
    transform.apply_rows([good])
    with pytest.raises(TransformError, match=f"column {named}"):
        transform.apply_rows([good, {**good, **change}])
    with pytest.raises(TransformError, match=f"column {named}"):
        transform.apply_columns({name: [{**good, **change}[name]] for name in SCHEMA.names}, 1)


@pytest.mark.parametrize("name", SCHEMA.names)
def test_an_absent_column_is_refused_by_name(name: str, transform: Transform) -> None:
    rows = [{key: None for key in SCHEMA.names if key != name}]
    with pytest.raises(TransformError, match=f"column {name} is missing"):
        transform.apply_rows(rows)
    with pytest.raises(TransformError, match=f"column {name} is missing"):
        transform.apply_table(training_table(3).drop_columns([name]))
    with pytest.raises(TransformError, match=f"column {name} is missing"):
        transform.apply_columns({key: [None] for key in rows[0]}, 1)


def test_wrong_types_of_columns_and_odd_shapes_are_refused(transform: Transform) -> None:
    table = training_table(3)
    with pytest.raises(TransformError, match="plain"):
        transform.apply_table(table.set_column(0, "plain", pa.array(["a", "b", "c"])))
    with pytest.raises(TransformError, match="at"):
        transform.apply_table(table.set_column(8, "at", pa.array([1, 2, 3])))
    with pytest.raises(TransformError, match="3 values"):
        transform.apply_columns({name: [None] for name in SCHEMA.names}, 3)
    with pytest.raises(TransformError, match="not a mapping"):
        transform.apply_rows([None])  # type: ignore[list-item]


def test_decimals_and_booleans_are_numbers_the_same_way_in_both_doors() -> None:
    decimals = pa.array([Decimal("0.1"), Decimal("123456789012345678.123"), None], pa.decimal128(30, 3))
    table = pa.table({"d": decimals, "b": [True, False, None]})
    fitted = Transform.fit(table.to_batches(), Features(numeric=("d", "b")))
    assert same_bits(fitted.apply_table(table), fitted.apply_rows(table.to_pylist()))
    assert [field.datatype for field in fitted.fields] == ["FP64", "BOOL"]


def test_images_come_nested_or_flat_and_never_missing() -> None:
    block = np.arange(12, dtype=np.float64).reshape(1, 3, 4)
    features = Features.model_validate({"image": {"pixels": {"shape": [1, 3, 4], "scale": 2.0}}})
    nested = pa.table({"pixels": pa.array([block.tolist(), block.tolist()])})
    flat = pa.table({"pixels": pa.array([block.ravel().tolist()] * 2, pa.list_(pa.float32(), 12))})
    fitted = Transform.fit(nested.to_batches(), features)
    expected = {"image": np.stack([block, block]).astype(np.float32) / np.float32(2)}
    for table in (nested, flat, nested.slice(1)):
        wanted = {"image": expected["image"][: table.num_rows]}
        assert same_bits(wanted, fitted.apply_table(table))
        assert same_bits(wanted, fitted.apply_rows(table.to_pylist()))
    for bad in (None, [[1.0]], [[["a"] * 4] * 3], [1.0, [2.0]], [float("nan")] * 12):
        with pytest.raises(TransformError, match="pixels"):
            fitted.apply_rows([{"pixels": bad}])
    with pytest.raises(TransformError, match="pixels"):
        fitted.apply_table(pa.table({"pixels": [[1.0] * 12, None]}))
    assert fitted.tensors[0].shape == (1, 3, 4)
    assert fitted.fields[0].datatype == "FP32"


def test_fields_are_required_when_training_never_missed_them(transform: Transform) -> None:
    required = {field.name: field.required for field in transform.fields}
    assert required == {
        "plain": False, "clipped": True, "raw": True, "whole": False,
        "carrier": False, "rare": True, "hashed": True, "code": True, "at": True,
    }  # fmt: skip
    kinds = {field.name: (field.kind, field.datatype) for field in transform.fields}
    assert kinds["code"] == ("int", "INT64")
    assert kinds["at"] == ("timestamp", "BYTES")


def test_tensors_say_how_many_indices_each_category_has(transform: Transform) -> None:
    numeric, categorical = transform.tensors
    assert numeric.shape == (4 + 2,)
    assert categorical.columns[:5] == ("carrier", "rare", "hashed", "code", "at.hour")
    assert categorical.cardinalities[:5] == (7, 4, 17, 11, 25)
    found = transform.apply_table(training_table())["categorical"]
    assert (found.max(axis=0) < np.array(categorical.cardinalities)).all()


def test_a_column_without_values_and_a_constant_one_give_finite_numbers() -> None:
    table = pa.table({"none": pa.array([None, None], pa.float64()), "same": [1e300, 1e300]})
    fitted = Transform.fit(table.to_batches(), Features(numeric=("none", "same")))
    assert fitted.apply_table(table)["numeric"].tolist() == [[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"[]", b'{"format": 2}', b"null", b'{"format": 1, "numeric": [{"a": 1}]}']
)
def test_what_is_no_transform_is_refused(text: bytes) -> None:
    with pytest.raises(TransformError):
        Transform.from_json(text)


def test_a_transform_survives_the_way_to_another_process(transform: Transform) -> None:
    again = pickle.loads(pickle.dumps(transform))  # noqa: S301 - as Ray sends it to its workers
    assert again.to_json() == transform.to_json()


def test_infinite_numbers_do_not_enter_the_fit() -> None:
    with pytest.raises(TransformError, match="column a"):
        Transform.fit(pa.table({"a": [1.0, float("inf")]}).to_batches(), Features(numeric=("a",)))
