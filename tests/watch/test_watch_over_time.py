"""Days of real flights and of made-up rows, watched one after another."""

import numpy as np
import pyarrow as pa
from flights_data import COLUMNS, months

from fairlead.watch.over_time import watch_days
from fairlead.watch.shift_kind import tell_shift
from fairlead.watch.windows import compare_windows

SEED = 13
RARE = 0.02  # so that 70 days are quiet with a probability of 95 %


def made_up(days: int, change_from: int = 10**9, weekend: float = 0.0) -> pa.Table:
    """80 rows a day: two numbers and a category, days a little unlike each other; "x" moves by 1 from a day on."""
    rng = np.random.default_rng(SEED)
    day = np.repeat(np.arange(days), 80)
    effect = rng.normal(0, 0.1, days)[day]
    x = rng.normal(0, 1, len(day)) + effect + (day >= change_from) + weekend * ((day % 7) >= 5)
    time = (np.datetime64("2024-01-01") + day).astype("datetime64[us]") + rng.integers(0, 86_400_000_000, len(day))
    words = rng.choice(["a", "b", "c"], len(day), p=[0.5, 0.3, 0.2])
    return pa.table({"t": time, "x": x, "y": rng.exponential(1, len(day)), "w": words})


KINDS = {"x": "float", "y": "float", "w": "string"}
START = np.datetime64("2024-03-31")  # day 90


def test_a_change_is_found_its_day_is_named_and_nothing_else_is() -> None:
    found = watch_days(made_up(160, change_from=120), "t", START, KINDS, false_alarms_per_month=RARE)
    assert [one.feature for one in found.alarms] == ["x"]
    assert found.reference_days == 90
    alarm = found.alarms[0]
    assert alarm.direction == "up"
    assert "2024-04-30" <= alarm.day <= "2024-05-08"
    assert "2024-04-28" <= alarm.since <= "2024-05-01"


def test_a_week_is_no_drift_where_days_are_compared_with_the_same_weekday() -> None:
    rows = made_up(200, weekend=1.5)
    assert watch_days(rows, "t", START, KINDS, false_alarms_per_month=RARE, same_weekday=["x"]).alarms == ()


def test_too_few_days_of_reference_say_so() -> None:
    found = watch_days(made_up(40), "t", np.datetime64("2024-01-08"), KINDS)
    assert found.alarms == ()
    assert "only 7 days of reference" in found.warnings[0]


def test_a_day_with_few_rows_and_rows_without_a_time_say_nothing() -> None:
    rows = made_up(160)
    extra = pa.table(
        {"t": pa.array([None] * 500, rows["t"].type), "x": [99.0] * 500, "y": [9.0] * 500, "w": ["z"] * 500}
    )
    odd = extra.slice(0, 5).set_column(0, "t", pa.array([np.datetime64("2024-07-01", "us")] * 5, rows["t"].type))
    found = watch_days(pa.concat_tables([rows, extra, odd]), "t", START, KINDS, false_alarms_per_month=RARE)
    assert found.alarms == ()


def test_utc_for_local_time_raises_an_alarm_within_days() -> None:
    rows = pa.concat_tables([months(1, 3), months(4, 4, utc=True)])
    found = watch_days(rows, "scheduled_at", np.datetime64("2013-04-01"), {"scheduled_at": "timestamp"})
    assert COLUMNS[-1] == found.alarms[0].feature
    assert found.alarms[0].day <= "2013-04-06"


def shifted(kind: str) -> tuple[tuple[pa.Table, pa.Table], tuple[np.ndarray, np.ndarray]]:
    """20,000 rows before and after a shift of the given kind; x decides the label, z does not."""
    rng = np.random.default_rng(SEED)

    def window(after: bool) -> tuple[pa.Table, np.ndarray]:
        n = 20_000
        if kind == "label":
            y = rng.random(n) < (0.6 if after else 0.3)
            x = rng.normal(np.where(y, 1.0, -1.0), 1.0)
        else:
            x = rng.normal(0.8 if after and kind in ("covariate", "mixed") else 0.0, 1.0, n)
            slope = -1.5 if after and kind in ("concept", "mixed") else 1.5
            y = rng.random(n) < 1 / (1 + np.exp(-slope * x))
        return pa.table({"x": x, "z": rng.normal(size=n)}), y.astype(float)

    (reference, before), (live, after) = window(False), window(True)
    return (reference, live), (before, after)


def test_shifts_are_told_apart_where_they_can_be() -> None:
    for kind in ("none", "covariate", "label", "concept", "mixed"):
        tables, labels = shifted(kind)
        columns = compare_windows(*tables, {"x": "float", "z": "float"})
        found = tell_shift(*tables, labels, {"x": "float", "z": "float"}, columns)
        assert found.kind == kind, found


def test_without_labels_it_is_said_that_nothing_is_known() -> None:
    tables, labels = shifted("covariate")
    columns = compare_windows(*tables, {"x": "float", "z": "float"})
    found = tell_shift(*tables, (labels[0], None), {"x": "float", "z": "float"}, columns)
    assert found.kind == "unknown"
    assert "cannot be told" in found.why
