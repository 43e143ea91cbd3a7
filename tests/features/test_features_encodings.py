"""Every step of the transform: what it fits, and the same bits through every door and after JSON."""

import json
import math

import numpy as np
import pyarrow as pa
import pytest
from every_step import FEATURES, FITTED, SCHEMA, row, training_table
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.errors import TransformError
from fairlead.features.crosses import CrossColumn
from fairlead.features.cycles import circle
from fairlead.features.instants import PART_SIZES
from fairlead.features.logarithm import signed_log
from fairlead.features.ranges import RangeColumn
from fairlead.features.transform import Tensors, Transform
from fairlead.spec.features import Features


def same_bits(first: Tensors, second: Tensors) -> bool:
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype
        and first[name].shape == second[name].shape
        and first[name].tobytes() == second[name].tobytes()
        for name in first
    )


@settings(max_examples=300, deadline=None)
@given(st.lists(row, min_size=1, max_size=7))
def test_all_doors_give_the_same_bits_also_after_json(rows: list[dict[str, object]]) -> None:
    again = Transform.from_json(FITTED.to_json())
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    from_table = FITTED.apply_table(table)
    columns = {name: [one[name] for one in rows] for name in SCHEMA.names}
    for transform in (FITTED, again):
        assert same_bits(from_table, transform.apply_table(table))
        assert same_bits(from_table, transform.apply_rows(rows))
        assert same_bits(from_table, transform.apply_columns(columns, len(rows)))
        singles = [transform.apply_rows([one]) for one in rows]
        assert same_bits(from_table, {k: np.concatenate([one[k] for one in singles]) for k in from_table})
    for spec in FITTED.tensors:
        found = from_table[spec.name]
        assert (found.dtype, found.shape) == (np.dtype(spec.dtype), (len(rows), *spec.shape))
        assert np.isfinite(found).all()
        if spec.cardinalities:
            assert (found >= 0).all()
            assert (found < np.array(spec.cardinalities)).all()


def test_a_long_table_gives_the_bits_of_its_rows() -> None:
    table = training_table(40_000, seed=5)
    whole = FITTED.apply_table(table)
    rows = table.slice(16_380, 9).to_pylist()
    assert same_bits({name: tensor[16_380:16_389] for name, tensor in whole.items()}, FITTED.apply_rows(rows))


def test_json_keeps_every_bit_and_says_which_format_it_is() -> None:
    data = FITTED.to_json()
    assert json.loads(data)["format"] == 2
    assert Transform.from_json(data).to_json() == data
    plain = Transform.fit(training_table().to_batches(), Features(numeric=("plain",), categorical=("carrier",)))
    assert json.loads(plain.to_json())["format"] == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 3}, "format 3, this version reads 1 and 2"),
        ({"crosses": [{"name": "x"}]}, "not a fitted transform"),
        ({"ranges": [{"name": "x", "kind": "float", "edges": [1.0], "edge": 2}]}, "not a fitted transform"),
    ],
)
def test_a_transform_of_a_later_version_is_refused(change: dict[str, object], words: str) -> None:
    value = json.loads(FITTED.to_json()) | change
    with pytest.raises(TransformError, match=words):
        Transform.from_json(json.dumps(value))


# --- numbers ---------------------------------------------------------------------------------------------------------
def fit_one(options: dict[str, object], values: list[float | None]) -> tuple[Transform, np.ndarray]:
    table = pa.table({"x": pa.array(values, pa.float64())})
    fitted = Transform.fit(table.to_batches(), Features.model_validate({"numeric": {"x": options}}))
    return fitted, fitted.apply_table(table)["numeric"]


def test_minmax_goes_from_zero_to_one_and_never_beyond() -> None:
    fitted, found = fit_one({"scale": "minmax"}, [3.0, 5.0, 11.0])
    assert found.tolist() == [[0.0], [0.25], [1.0]]
    assert fitted.apply_rows([{"x": -1e300}, {"x": 1e300}])["numeric"].tolist() == [[0.0], [1.0]]


def test_robust_is_centred_on_the_median_and_scaled_by_the_quartiles() -> None:
    fitted, found = fit_one({"scale": "robust"}, [0.0, 10.0, 20.0, 30.0, 1e6])
    assert found[:4, 0].tolist() == [-1.0, -0.5, 0.0, 0.5]
    # Quartiles that coincide say nothing of the spread; the deviation does.
    fitted, found = fit_one({"scale": "robust"}, [0.0] * 9 + [10.0])
    assert fitted.numeric[0].std == pytest.approx(3.0)


def test_the_logarithm_is_taken_before_scaling_and_after_clipping() -> None:
    fitted, found = fit_one({"log": True, "scale": "none", "clip": [0.0, 1.0]}, [-3.0, 0.0, math.e - 1, 100.0])
    assert found[:, 0].tolist() == pytest.approx([-math.log(4), 0.0, 1.0, math.log(101)])
    assert fitted.apply_rows([{"x": 1e9}])["numeric"][0, 0] == np.float32(math.log(101))
    fitted, found = fit_one({"log": True}, [1.0, 10.0, 100.0])
    assert (found.mean(), found.std()) == pytest.approx((0.0, 1.0), abs=1e-6)


def test_a_missing_number_becomes_what_was_asked_for_in_the_units_of_the_column() -> None:
    values: list[float | None] = [1.0, 2.0, 9.0, None]
    expected = {"mean": 4.0, "median": 2.0, "zero": 0.0, 5.5: 5.5}
    for impute, fill in expected.items():
        _, found = fit_one({"impute": impute, "scale": "none"}, values)
        assert found[3].tolist() == [fill, 1.0]
        _, found = fit_one({"impute": impute, "scale": "none", "log": True}, values)
        assert found[3, 0] == np.float32(math.log1p(fill))


@settings(max_examples=500, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_the_logarithm_is_right_to_the_last_bits(value: float) -> None:
    found = float(signed_log(np.array([value]))[0])
    assert signed_log(np.full(20, value)).tobytes() == np.full(20, found).tobytes()
    exact = math.copysign(math.log1p(abs(value)), value)
    assert math.copysign(1.0, found) == math.copysign(1.0, exact)
    assert abs(found - exact) <= 2 * math.ulp(exact)


def test_the_logarithm_has_the_same_bits_alone_and_among_others() -> None:
    seed = 3
    values = np.random.default_rng(seed).lognormal(0, 40, 10_001)
    among = signed_log(values)
    strided = signed_log(np.repeat(values, 3).reshape(-1, 3))[:, 1]
    alone = np.array([signed_log(values[i : i + 1])[0] for i in range(len(values))])
    assert among.tobytes() == strided.tobytes() == alone.tobytes(), f"seed {seed}"


def test_ranges_hold_equal_shares_and_missing_has_an_index_of_its_own() -> None:
    table = pa.table({"x": pa.array([*range(100), None], pa.float64())})
    features = Features.model_validate({"numeric": {"x": {"encode": "buckets", "buckets": 4}}})
    fitted = Transform.fit(table.to_batches(), features)
    assert fitted.ranges[0].edges == (24.75, 49.5, 74.25)
    found = fitted.apply_table(table)
    assert list(found) == ["categorical"]
    assert np.bincount(found["categorical"][:, 0]).tolist() == [1, 25, 25, 25, 25]
    codes = fitted.apply_rows([{"x": v} for v in (-1e9, 24.74, 24.75, 1e9, None)])["categorical"]
    assert codes.ravel().tolist() == [1, 1, 2, 4, 0]
    assert [(f.name, f.required) for f in fitted.fields] == [("x", False)]


@pytest.mark.parametrize("count", [0, 1, 32, 33, 200])
def test_few_and_many_ranges_are_found_alike(count: int) -> None:
    seed = 4
    edges = np.unique(np.random.default_rng(seed).normal(size=count))
    column = RangeColumn("x", "float", tuple(edges.tolist()))
    values = np.concatenate([edges, np.nextafter(edges, -np.inf), [np.nan, -1e308, 1e308, 0.0, -0.0]])
    assert column.indices(values).tolist() == [column.index(value) for value in values.tolist()]
    assert column.indices(values).max() < column.cardinality


def test_few_different_numbers_give_fewer_ranges() -> None:
    table = pa.table({"x": [0.0] * 95 + [1.0] * 5})
    features = Features.model_validate({"numeric": {"x": {"encode": "both", "buckets": 10}}})
    fitted = Transform.fit(table.to_batches(), features)
    assert fitted.ranges[0].edges == (0.0,)
    assert [spec.columns for spec in fitted.tensors] == [("x",), ("x",)]
    assert [field.name for field in fitted.fields] == ["x"]


# --- categories ------------------------------------------------------------------------------------------------------
def test_a_cross_numbers_combinations_when_they_are_few() -> None:
    cross = CrossColumn("x", ("a", "b"), (3, 4), 12)
    assert cross.exact
    seen = [cross.index((a, b)) for a in range(1, 4) for b in range(1, 5)]
    assert seen == list(range(1, 13))
    assert cross.cardinality == 13
    assert cross.index((0, 2)) == cross.index((2, 0)) == 0


def test_a_cross_of_many_shares_buckets_evenly() -> None:
    cross = CrossColumn("x", ("a", "b"), (300, 300), 64)
    assert not cross.exact
    a, b = (part.ravel() + 1 for part in np.meshgrid(np.arange(300), np.arange(300)))
    found = cross.indices([a, b])
    counts = np.bincount(found, minlength=65)
    assert counts[0] == 0
    assert counts[1:].min() > 0.8 * 90_000 / 64
    assert counts[1:].max() < 1.2 * 90_000 / 64
    assert [cross.index((int(a[i]), int(b[i]))) for i in range(0, 90_000, 997)] == found[::997].tolist()


@pytest.mark.parametrize("part", PART_SIZES)
def test_cyclic_parts_are_points_on_a_circle_the_same_on_every_machine(part: str) -> None:
    from decimal import Decimal, localcontext

    table = circle(part)
    assert table[0].tolist() == [0.0, 0.0]
    assert np.hypot(*table[1:].T) == pytest.approx(1.0, abs=1e-6)
    # A C library may be off by some units in the last place of a double: none of them may reach another float32.
    with localcontext() as context:
        context.prec = 40
        for i in range(PART_SIZES[part]):
            turn = 2 * math.pi * i / PART_SIZES[part]
            for exact, found in zip((math.sin(turn), math.cos(turn)), table[i + 1], strict=True):
                near = [exact + step * math.ulp(exact) for step in (-4, -2, 2, 4)]
                if abs(exact) > 1e-9:  # a zero of the circle is a rounding of pi, the same everywhere
                    assert {np.float32(value) for value in near} == {found}
                assert abs(Decimal(exact) - Decimal(float(found))) < Decimal("1e-7")


def test_midnight_is_as_near_to_the_hour_before_as_to_the_hour_after() -> None:
    table = circle("hour")
    before, midnight, after = table[24], table[1], table[2]
    assert np.hypot(*(midnight - before)) == pytest.approx(np.hypot(*(midnight - after)))


# --- texts -----------------------------------------------------------------------------------------------------------
def test_words_become_indices_padded_cut_and_hashed_when_unseen() -> None:
    table = pa.table({"t": ["To be, or not to be", "be quick!", None]})
    features = Features.model_validate({"text": {"t": {"max_tokens": 4, "max_values": 2}}})
    fitted = Transform.fit(table.to_batches(), features)
    assert fitted.text[0].values == ("be", "to")
    found = fitted.apply_table(table)["text"]
    assert found.tolist() == [[2, 1, 3, 3], [1, 3, 0, 0], [0, 0, 0, 0]]
    (spec,) = fitted.tensors
    assert (spec.columns, spec.cardinalities) == (("t",) * 4, (4,) * 4)
    assert [(f.name, f.datatype, f.required) for f in fitted.fields] == [("t", "BYTES", False)]


@pytest.mark.parametrize("value", [5, b"x", ["a"], {"a": 1}])
def test_what_is_no_text_is_refused_by_name(value: object) -> None:
    fitted = Transform.fit(pa.table({"t": ["a"]}).to_batches(), Features(text=("t",)))
    with pytest.raises(TransformError, match="column t"):
        fitted.apply_rows([{"t": value}])
    with pytest.raises(TransformError, match="column t"):
        fitted.apply_table(pa.table({"t": [1, 2]}))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400))
def test_vocabularies_and_ranges_do_not_depend_on_how_rows_arrive(first: int, second: int) -> None:
    table = training_table()
    one, two = (Transform.fit(table.to_batches(max_chunksize=size), FEATURES) for size in (first, second))
    assert (one.text, one.ranges, one.crosses, one.categorical) == (two.text, two.ranges, two.crosses, two.categorical)
    for left, right in zip(one.numeric, two.numeric, strict=True):
        assert (left.low, left.high) == (right.low, right.high)
        assert (left.mean, left.std) == (pytest.approx(right.mean, abs=1e-9), pytest.approx(right.std, rel=1e-9))
