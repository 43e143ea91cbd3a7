"""Live features of real September flights against models trained on the first half of the year."""

import functools
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from flights_data import COLUMNS, months

from fairlead.features.statistics import StatisticsBuilder
from fairlead.records.data import SkewFinding, Statistics
from fairlead.spec.watch import Skew
from fairlead.watch.skew import attribute, compare

SPEC = Skew()


def statistics_of(table: pa.Table, reference: Statistics | None = None) -> Statistics:
    builder = StatisticsBuilder(table.column_names if reference is None else list(reference.columns), reference)
    builder.update(table)
    return builder.finish()


@functools.cache
def trained(last: int, *, utc: bool = False) -> Statistics:
    return statistics_of(months(1, last, utc=utc))


@functools.cache
def september() -> pa.Table:
    return months(9, 9)


def sample(rows: int, seed: int) -> pa.Table:
    chosen = np.random.default_rng(seed).choice(september().num_rows, rows, replace=False)
    return september().take(np.sort(chosen))


def findings(live: pa.Table, champion: Statistics, candidate: Statistics, spec: Skew = SPEC) -> tuple[SkewFinding, ...]:
    return attribute(
        statistics_of(live, champion),
        statistics_of(live, candidate),
        champion,
        candidate,
        spec,
        "champion",
        "candidate",
    )


def named(found: tuple[SkewFinding, ...]) -> dict[tuple[str, str], SkewFinding]:
    """What a rollout holds against the candidate: its finding is skewed and the champion's at the same place is not."""
    champion = {(f.feature, f.part): f for f in found if f.digest == "champion"}
    candidate = {(f.feature, f.part): f for f in found if f.digest == "candidate"}
    assert champion.keys() == candidate.keys()
    return {place: f for place, f in candidate.items() if f.skewed and not champion[place].skewed}


@pytest.mark.parametrize("rows", [500, 2000, 20_000])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_candidate_trained_on_utc_times_is_named_with_the_time_zone_as_its_cause(rows: int, seed: int) -> None:
    found = named(findings(sample(rows, seed), trained(6), trained(6, utc=True)))
    assert set(found) == {("scheduled_at", "hour")}
    assert "moved by about +4 hours: a time zone?" in found[("scheduled_at", "hour")].why


@pytest.mark.parametrize("rows", [1000, 1500, 2000])
def test_it_is_named_on_any_stretch_of_a_day_or_two(rows: int) -> None:
    """Half days spread hours unevenly, whoever is right; 25 stretches that begin anywhere."""
    for start in np.random.default_rng(8).integers(0, september().num_rows - rows, 25):
        live = september().slice(int(start), rows)
        assert ("scheduled_at", "hour") in named(findings(live, trained(6), trained(6, utc=True))), start


@pytest.mark.parametrize("candidate", [5, 7, 8])
def test_an_honest_candidate_is_never_named_though_the_season_has_changed(candidate: int) -> None:
    """200 random samples and 40 stretches of consecutive rows, from half a day to three days long."""
    champion, other = trained(6), trained(candidate)
    lives = [sample(1000, seed) for seed in range(200)]
    starts = np.random.default_rng(9).integers(0, september().num_rows - 3000, 40)
    lives += [
        september().slice(int(start), int(rows))
        for start, rows in zip(starts, [500, 1000, 2000, 3000] * 10, strict=True)
    ]
    assert [place for live in lives for place in named(findings(live, champion, other))] == []


def test_the_change_of_season_is_told_as_drift_of_both() -> None:
    found = findings(sample(2000, 1), trained(6), trained(7))
    drift = {(f.feature, f.digest) for f in found if f.skewed}
    assert {("temp", "champion"), ("temp", "candidate"), ("dewp", "candidate")} <= drift
    temperature = next(f for f in found if f.skewed and f.feature == "temp" and f.digest == "candidate")
    assert "drift" in temperature.why


@pytest.mark.parametrize(
    ("column", "change", "place", "why"),
    [
        ("temp", lambda c: pc.divide(pc.subtract(c, 32.0), 1.8), ("temp", ""), "Celsius and Fahrenheit"),
        ("distance", lambda c: pc.multiply(c, 1.609344), ("distance", ""), "kilometres and miles"),
        ("pressure", lambda c: pc.multiply(c, 100.0), ("pressure", ""), "scaled by about 100"),
        ("carrier", pc.utf8_lower, ("carrier", ""), "differ only in case"),
        ("carrier", lambda c: pc.binary_join_element_wise("airline", c, "-"), ("carrier", ""), "another vocabulary"),
        (
            "carrier",
            lambda c: pc.if_else(pa.array(np.arange(len(c)) % 3 == 0), "??", c),
            ("carrier", ""),
            r"33% that read '\?\?': a default value\?",
        ),
        (
            "distance",
            lambda c: pc.if_else(pa.array(np.arange(len(c)) % 4 == 0), 0.0, c),
            ("distance", ""),
            "25% that read 0: a default value",
        ),
        (
            "visib",
            lambda c: pc.if_else(pa.array(np.arange(len(c)) % 4 == 0), 99.0, c),
            ("visib", ""),
            r"2[456]% that read 99: a default value\?",
        ),
        ("temp", lambda c: pc.add(pc.divide(pc.subtract(c, 32.0), 1.8), 273.15), ("temp", ""), "kelvin and Fahrenheit"),
        ("visib", lambda c: pa.nulls(len(c), pa.float64()), ("visib", "missing"), "100.0% in training"),
    ],
)
def test_a_mistake_in_the_candidates_extract_is_named_with_its_cause(
    column: str, change: object, place: tuple[str, str], why: str
) -> None:
    table = months(1, 6)
    wrong = change(table[column])  # type: ignore[operator]
    candidate = statistics_of(table.set_column(COLUMNS.index(column), column, wrong))
    found = named(findings(sample(3000, 2), trained(6), candidate))
    assert set(found) == {place}
    assert re.search(why, found[place].why), found[place].why


def test_the_champions_own_mistake_is_not_held_against_the_candidate() -> None:
    found = findings(sample(2000, 3), trained(6, utc=True), trained(6))
    assert named(found) == {}
    hour = next(f for f in found if f.digest == "champion" and f.part == "hour")
    assert hour.skewed
    for start in np.random.default_rng(8).integers(0, september().num_rows - 3000, 40):
        for rows in (500, 1000, 3000):
            live = september().slice(int(start), rows)
            assert named(findings(live, trained(6, utc=True), trained(6))) == {}, (start, rows)


def test_a_new_feature_that_no_request_carries_is_named() -> None:
    table = months(1, 6)
    candidate = statistics_of(table.append_column("gate", table["origin"]))
    found = named(findings(sample(1000, 4), trained(6), candidate))
    assert set(found) == {("gate", "missing")}
    assert "live requests do not carry it" in found[("gate", "missing")].why


def test_too_few_live_rows_say_nothing() -> None:
    live = sample(400, 0)
    assert findings(live, trained(6), trained(6, utc=True)) == ()
    assert compare(statistics_of(live, trained(6)), trained(6), SPEC, "champion") == ()


def test_compare_tells_hours_that_are_moved() -> None:
    found = compare(statistics_of(sample(2000, 5), trained(6, utc=True)), trained(6, utc=True), SPEC, "d")
    hour = next(f for f in found if f.part == "hour")
    assert hour.skewed
    assert re.search(r"moved by about -[45] hours: a time zone\?", hour.why)
    assert not next(f for f in found if f.feature == "carrier" and f.part == "").skewed


def test_compare_raises_no_more_false_alarms_than_declared() -> None:
    """Rows drawn from the training rows themselves, with a bound of sampling alone, at a false-alarm rate of 10 %."""
    spec = Skew(max_distance=1e-6, false_alarm=0.1)
    training = months(1, 2)
    reference = statistics_of(training)
    rng = np.random.default_rng(6)
    alarms = 0
    for _ in range(100):
        live = statistics_of(training.take(rng.integers(0, training.num_rows, 600)), reference)
        alarms += any(f.skewed for f in compare(live, reference, spec, "d"))
    assert alarms <= 10


def test_a_small_bound_still_never_goes_below_what_sampling_explains() -> None:
    live = statistics_of(sample(600, 7), trained(6))
    for found in compare(live, trained(6), Skew(max_distance=0.001), "d"):
        assert found.bound > 0.04


def with_default(table: pa.Table, column: str, value: float, share: float, seed: int) -> pa.Table:
    """Some of the rows, at random, with one value in the place of their own."""
    chosen = np.random.default_rng(seed).random(table.num_rows) < share
    changed = pc.if_else(pa.array(chosen), pa.scalar(value, table[column].type), table[column])
    return table.set_column(table.column_names.index(column), column, changed)


DEFAULTS = [("temp", -999.0), ("temp", 0.0), ("dewp", 55.0), ("humid", 0.0), ("pressure", 0.0), ("distance", 1000.0)]


@pytest.mark.parametrize(("column", "value"), DEFAULTS)
def test_a_default_value_in_live_numbers_is_named_and_held_against_nobody(column: str, value: float) -> None:
    """Power: 20 samples of training rows, a fourth to a third of a column replaced; the value may be a usual one."""
    training, named_in = months(1, 6), 0
    half = np.random.default_rng(4).random(training.num_rows) < 0.5
    champion, candidate = trained(6), statistics_of(training.filter(pa.array(half)))
    for seed in range(20):
        rng = np.random.default_rng(seed)
        rows = training.take(rng.integers(0, training.num_rows, 2000))
        live = with_default(rows, column, value, rng.uniform(0.25, 0.35), seed)
        found = findings(live, champion, candidate)
        assert named(found) == {}, seed
        skewed = [f for f in found if (f.feature, f.part) == (column, "") and f.skewed]
        words = f"that read {value:g}: a default value?"
        named_in += {f.digest for f in skewed if words in f.why} == {"champion", "candidate"}
    assert named_in >= 19, named_in


def test_a_default_value_in_live_numbers_is_named_for_one_model_too() -> None:
    live = with_default(sample(2000, 1), "distance", 0.0, 0.2, 1)
    found = compare(statistics_of(live, trained(6)), trained(6), SPEC, "d")
    why = next(f.why for f in found if (f.feature, f.part) == ("distance", ""))
    assert re.search(r"live values are the same numbers but for (19|20|21)% that read 0: a default value\?", why)


@pytest.mark.parametrize("last", [3, 6])
def test_no_default_value_is_named_where_there_is_none_whatever_the_season(last: int) -> None:
    """100 samples and 40 stretches of September flights: they differ from the training months, honestly."""
    reference = trained(last)
    lives = [sample(1000, seed) for seed in range(100)]
    starts = np.random.default_rng(9).integers(0, september().num_rows - 3000, 40)
    lives += [september().slice(int(start), 3000) for start in starts]
    accused = [
        (f.feature, f.why)
        for live in lives
        for f in compare(statistics_of(live, reference), reference, SPEC, "d")
        if "default value" in f.why
    ]
    assert accused == []


def test_on_rows_alike_a_default_value_is_named_no_more_often_than_declared() -> None:
    """Whole numbers with frequent values, at a bound of sampling alone and a false-alarm rate of 10 %."""
    spec = Skew(max_distance=1e-6, false_alarm=0.1)
    rng = np.random.default_rng(16)
    columns = {f"n{i}": rng.poisson(2 + i, 5000).astype(np.float64) for i in range(8)}
    columns |= {f"z{i}": rng.gamma(2, 1, 5000) * (rng.random(5000) < 0.6) for i in range(8)}
    training = pa.table(columns)
    reference = statistics_of(training)
    alarms = 0
    for _ in range(120):
        live = statistics_of(training.take(rng.integers(0, 5000, 600)), reference)
        alarms += any("default value" in f.why for f in compare(live, reference, spec, "d"))
    assert alarms <= 12
