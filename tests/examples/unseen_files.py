"""Files that nobody has described: generated, with missing values, dates and columns of many values."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq


def policies(path: Path, count: int = 2000, seed: int = 11) -> None:
    """Insurance policies as CSV; `renewed` is yes or no. Dates are text, towns many, values missing."""
    rng = np.random.default_rng(seed)
    town, taste = rng.integers(0, 700, count), rng.normal(0, 0.6, 700)
    income, claims = rng.lognormal(10, 0.5, count), rng.poisson(0.7, count)
    channel = rng.choice(["web", "phone", "shop"], count)
    day = np.datetime64("2022-03-01") + rng.integers(0, 600, count).astype("timedelta64[D]")
    odds = 0.9 * (np.log(income) - 10) - 0.8 * claims + taste[town] + 0.5 * (channel == "web")
    table = pa.table(
        {
            "policy": [f"P{number:07d}" for number in rng.permutation(count)],
            "signed": [str(value) for value in day],
            "income": pa.array(income.round(2), mask=rng.random(count) < 0.08),
            "claims": claims,
            "channel": pa.array(channel, mask=rng.random(count) < 0.05),
            "town": [f"town {number}" for number in town],
            "renewed": np.where(odds + rng.logistic(0, 0.6, count) > 0, "yes", "no"),
        }
    )
    pa_csv.write_csv(table, path)


def rentals(path: Path, count: int = 2000, seed: int = 12) -> None:
    """Bicycle rentals as Parquet; `minutes` is a number. Times have a zone, stations are many, values are missing."""
    rng = np.random.default_rng(seed)
    station, far = rng.integers(0, 1500, count), rng.gamma(4, 3, 1500)
    start = np.datetime64("2023-05-01T00:00") + np.sort(rng.integers(0, 120 * 24 * 60, count)).astype("timedelta64[m]")
    warm = rng.normal(18, 6, count)
    member = rng.random(count) < 0.6
    minutes = 5 + far[station] + 0.6 * warm + np.where(member, -4, 6) + rng.normal(0, 3, count)
    table = pa.table(
        {
            "started": pa.array(start.astype("datetime64[us]"), pa.timestamp("us", tz="Europe/Berlin")),
            "station": pa.array([f"S-{number:04d}" for number in station], mask=rng.random(count) < 0.02),
            "warmth": pa.array(warm, mask=rng.random(count) < 0.1),
            "member": member,
            "bike": pa.array(rng.choice(["city", "cargo", "e-bike"], count)).dictionary_encode(),
            "note": pa.nulls(count, pa.string()),
            "minutes": minutes,
        }
    )
    pq.write_table(table, path, row_group_size=700)
