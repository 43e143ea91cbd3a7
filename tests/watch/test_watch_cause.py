"""Causes are named for what they are, and not named where there is only a season."""

import functools

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from flights_data import COLUMNS, NUMBERS, WORDS, months

from fairlead.records.drift import ColumnDrift
from fairlead.watch.cause_numbers import CONVERSIONS, Explanation, explain_numbers, sampling_noise, shape_of_sample
from fairlead.watch.cause_values import Counts, explain_values
from fairlead.watch.windows import compare_windows

SEED = 3
KINDS = {**dict.fromkeys(NUMBERS, "float"), **dict.fromkeys(WORDS, "string"), "scheduled_at": "timestamp"}


def explained(source: np.ndarray, target: np.ndarray) -> Explanation | None:
    noise = sampling_noise(len(source), len(target))
    return explain_numbers(shape_of_sample(source), shape_of_sample(target), noise)


@functools.cache
def month(number: int, *, utc: bool = False) -> pa.Table:
    return months(number, number, utc=utc)


def changed(table: pa.Table, column: str, change: object) -> pa.Table:
    return table.set_column(COLUMNS.index(column), column, change(table[column]))  # type: ignore[operator]


def named(reference: pa.Table, live: pa.Table) -> dict[tuple[str, str], ColumnDrift]:
    return {(one.column, one.part): one for one in compare_windows(reference, live, KINDS) if one.cause}


@pytest.mark.parametrize("conversion", CONVERSIONS, ids=[name for _, _, name in CONVERSIONS])
@pytest.mark.parametrize("back", [False, True])
def test_every_known_conversion_is_named_in_both_directions_though_rounded(
    conversion: tuple[float, float, str], back: bool
) -> None:
    factor, zero, name = conversion
    rng = np.random.default_rng(SEED)
    source, other = (rng.gamma(4.0, 8.0, 3000) + 20 for _ in range(2))
    target = np.round((other - zero) / factor, 3) if back else np.round(factor * other + zero, 1)
    found = explained(source, target)
    assert found is not None
    assert found.kind == "conversion"
    assert name in found.text


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        (lambda x: 7 * x, "factor", "scaled by about"),
        (lambda x: -x, "sign", "other sign"),
        (np.log1p, "logarithm", "logarithms of 1 +"),
        (np.log10, "logarithm", "base 10"),
        (lambda x: x + 5000, "offset", "moved by about 5"),
        (lambda x: np.where(np.arange(len(x)) % 5 == 0, -1.0, x), "default_value", "20% that read -1"),
        (lambda x: np.minimum(x, 60.0), "cut_off", "cut off above 60"),
    ],
)
def test_other_changes_are_named(change: object, kind: str, text: str) -> None:
    rng = np.random.default_rng(SEED)
    found = explained(rng.gamma(4.0, 8.0, 4000) + 20, change(rng.gamma(4.0, 8.0, 4000) + 20))  # type: ignore[operator]
    assert found is not None
    assert found.kind == kind
    assert text in found.text


@pytest.mark.parametrize("kind", ["normal", "gamma", "uniform", "atoms"])
def test_an_ordinary_drift_is_given_no_cause(kind: str) -> None:
    """Shifts of up to two and spreads of up to 1.6 times: 120 drifts a kind, at most two of them land where one of 34
    conversions would have brought them."""
    rng = np.random.default_rng(SEED)
    draw = {
        "normal": lambda: rng.normal(50, 10, 4000),
        "gamma": lambda: rng.gamma(3, 10, 4000),
        "uniform": lambda: rng.uniform(0, 100, 4000),
        "atoms": lambda: rng.poisson(6, 4000).astype(float),
    }[kind]
    wrong = []
    for _ in range(120):
        source, target = draw(), draw()
        middle = target.mean()
        target = middle + (target - middle) * rng.uniform(0.65, 1.5) + rng.uniform(-1.5, 1.5) * target.std()
        if kind == "atoms":
            target = np.round(target)
        found = explained(source, target)
        if found is not None:
            wrong.append(found)
    assert len(wrong) <= 2, wrong


@pytest.mark.parametrize(
    ("source", "target", "kind", "text"),
    [
        ({"UA": 60, "AA": 40}, {"ua": 58, "aa": 42}, "spelling", "differ only in case"),
        ({"UA": 60, "AA": 40}, {"1": 58, "2": 42}, "vocabulary", "another vocabulary"),
        ({"a": 60, "b": 30, "c": 10}, {"a": 30, "b": 60, "c": 10}, "vocabulary", "'b' as often as 'a' was"),
        ({"a": 50, "b": 30, "c": 20}, {"a": 35, "b": 21, "c": 14, "?": 30}, "default_value", "30% that read '?'"),
    ],
)
def test_changes_of_values_are_named(source: dict[str, int], target: dict[str, int], kind: str, text: str) -> None:
    found = explain_values(Counts(source, sum(source.values())), Counts(target, sum(target.values())))
    assert found is not None
    assert found.kind == kind
    assert text in found.text


def test_a_drift_of_values_is_given_no_cause() -> None:
    assert explain_values(Counts({"a": 50, "b": 30, "c": 20}, 100), Counts({"a": 30, "b": 35, "c": 35}, 100)) is None


@pytest.mark.parametrize("live", [1, 9])
@pytest.mark.parametrize(
    ("column", "part", "change", "kind", "text"),
    [
        ("temp", "", lambda c: pc.divide(pc.subtract(c, 32.0), 1.8), "conversion", "Celsius and Fahrenheit"),
        ("distance", "", lambda c: pc.multiply(c, 1.609344), "conversion", "kilometres and miles"),
        ("scheduled_at", "hour", None, "time_zone", "as UTC is to a clock at UTC-0"),
    ],
)
def test_the_three_mistaken_extracts_of_flights_are_named_in_the_same_and_in_another_season(
    column: str, part: str, change: object, kind: str, text: str, live: int
) -> None:
    """The extract of January, or of September, against January: only what was done to it is named."""
    table = month(live, utc=True) if change is None else changed(month(live), column, change)
    found = named(month(1), table)
    assert set(found) == {(column, part)}
    one = found[column, part]
    assert one.moved
    assert one.cause_kind == kind
    assert text in one.cause


def test_a_unit_is_named_in_a_season_that_the_reference_ends_before() -> None:
    wrong = changed(month(9), "temp", lambda c: pc.divide(pc.subtract(c, 32.0), 1.8))
    found = named(months(1, 8), wrong)
    assert set(found) == {("temp", "")}
    assert (
        "Celsius and Fahrenheit): another unit? (against what the other columns lead to expect)"
        in found["temp", ""].cause
    )


def test_september_against_january_moves_with_the_season_and_nothing_is_blamed() -> None:
    found = compare_windows(month(1), month(9), KINDS)
    assert [one.column for one in found[:2]] in (["temp", "dewp"], ["dewp", "temp"])
    assert {one.column for one in found if one.moved} >= {"temp", "dewp"}
    assert not [one for one in found if one.cause]
    assert not [one for one in found if one.moved and one.column in ("carrier", "origin")]


def test_importance_decides_the_order() -> None:
    weights = {"distance": 0.5, "temp": 0.0001, "humid": 0.1}
    found = compare_windows(month(1), month(9), KINDS, importance=weights)
    assert found[0].column in ("humid", "distance")
    impacts = [one.impact for one in found]
    assert impacts == sorted(impacts, reverse=True)


def test_columns_that_were_exchanged_are_named_as_such() -> None:
    table = month(1)
    a, b = COLUMNS.index("temp"), COLUMNS.index("humid")
    swapped = table.set_column(a, "temp", table["humid"]).set_column(b, "humid", table["temp"])
    found = named(table, swapped)
    assert found["temp", ""].cause_kind == found["humid", ""].cause_kind == "swapped"


def test_a_column_that_the_live_rows_lack_is_missing_in_all_of_them() -> None:
    found = named(month(1), month(9).drop_columns(["visib"]))
    assert found["visib", "missing"].cause_kind == "missing"
    assert found["visib", "missing"].distance > 0.9
