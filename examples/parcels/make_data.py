"""Generate parcels as one Parquet file: numbers with gaps and long tails, lanes, times, notes.

python make_data.py data
"""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_DEPOTS = ("Antwerp", "Bremen", "Cork", "Dijon", "Essen", "Faro")
_SERVICES = ("economy", "express", "standard")
_NOTES = (
    "",
    "Leave with the neighbour",
    "Ring twice",
    "Do NOT bend",
    "fragile, handle with care",
    "gate code at the desk",
)


def parcels(count: int, seed: int = 5) -> pa.Table:
    """Rows whose `late` depends on weight, lane, hour and weekday together, and the note."""
    rng = np.random.default_rng(seed)
    origin, destination = rng.integers(0, len(_DEPOTS), (2, count))
    minutes = rng.integers(0, 365 * 24 * 60, count)
    ordered = np.datetime64("2024-01-01T00:00", "us") + minutes.astype("timedelta64[m]")
    hour, weekday = minutes // 60 % 24, minutes // 1440 % 7
    weight, note = rng.lognormal(0.5, 1.2, count), rng.integers(0, len(_NOTES), count)
    service = rng.choice(3, count, p=[0.3, 0.2, 0.5])
    busy = rng.normal(0, 1.0, (len(_DEPOTS), len(_DEPOTS)))[origin, destination]
    odds = (
        0.8 * np.log(weight) + busy + 1.2 * ((hour >= 17) & (weekday == 4)) + 1.0 * (note == 1) - 1.5 * (service == 1)
    )
    customer = (rng.pareto(1.2, count) * 40).astype(np.int64) % 3000
    return pa.table(
        {
            "stops": rng.poisson(3, count),
            "weight": pa.array(weight.round(3), mask=rng.random(count) < 0.05),
            "value": pa.array(rng.lognormal(3, 1.5, count).round(2), mask=rng.random(count) < 0.2),
            "distance": pa.array(rng.gamma(3, 150, count).round(1)),
            "service": pa.array(np.array(_SERVICES)[service]),
            "origin": np.array(_DEPOTS)[origin],
            "destination": np.array(_DEPOTS)[destination],
            "customer": customer,
            "ordered_at": pa.array(ordered),
            "promised_on": pa.array((ordered + np.timedelta64(3, "D")).astype("datetime64[D]")),
            "note": pa.array(np.array(_NOTES)[note], mask=rng.random(count) < 0.1),
            "late": np.where(odds + rng.logistic(0, 0.7, count) > 0.8, "yes", "no"),
        }
    )


def write_parcels(folder: Path, count: int = 20_000) -> Path:
    """Write them; gives the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "parcels.parquet"
    pq.write_table(parcels(count), path)
    return path


if __name__ == "__main__":
    print(write_parcels(Path(sys.argv[1] if len(sys.argv) > 1 else "data")))
