"""Rows per second and peak memory of one-pass statistics, beside Arrow's decode, duckdb, polars, Evidently and TFDV.

    make bench-data                                         # 10M x 20, 5 rounds, some 8 minutes on two cores
    python benchmarks/data_profile.py --rows 1000000 --rounds 3     # a short form: a minute

Each measurement is a process of its own, rounds are interleaved, medians are reported. The reference is Arrow's own
decode of the same Parquet file into batches that are thrown away, by the faster of its two streaming readers.

    basic     count, missing, min, max, mean, standard deviation, lengths (and the values of text with few of them)
    full      the same, and quantiles, different values, frequent values, of every column
    profile   full by split, month and label, with the HTML page: what `fairlead data profile` does
    duckdb    the aggregates of full in one query: count, min, max, avg, stddev_pop, approx_quantile at 7 shares,
              approx_count_distinct, approx_top_k(20)

Evidently and TFDV are installed into environments of their own below --peers (peer_environments.py); one that does not
install is told in one line and left out. Both hold all rows in pandas, so they get a tenth of them, once.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peer_environments import peer_environment

HERE = Path(__file__).resolve().parent
FORMATS = ("fairlead_csv", "polars_csv", "fairlead_jsonl", "polars_jsonl")
ENGINES = ("decode_batches", "decode_scanner", "basic", "full", "profile", "duckdb", "polars")
PEERS = {"evidently": "evidently", "tfdv": "tensorflow-data-validation"}  # measurement -> its environment
SPEC = {
    "project": "bench",
    "data": {
        "source": "rows.parquet",
        "label": {"column": "y"},
        "time": "at",
        "split": {"by": "time", "validation": "2013-09-01", "test": "2013-11-01"},
    },
    "features": {"numeric": ["x0"]},
}
SHARES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


# --- what is measured, each in a process of its own ------------------------------------------------------------------
def decode_batches(path: Path) -> int:
    """ParquetFile.iter_batches: columns of a row group in parallel."""
    import pyarrow.parquet as pq

    return sum(batch.num_rows for batch in pq.ParquetFile(path).iter_batches(131_072, use_threads=True))


def decode_scanner(path: Path) -> int:
    """The data set scanner: row groups in parallel, read ahead."""
    import pyarrow.dataset as ds

    return sum(batch.num_rows for batch in ds.dataset(path).scanner(use_threads=True).to_batches())


def _summary(path: Path, sketches: bool) -> int:
    from fairlead.data.sources import Source
    from fairlead.data.summary.stream import Question, summarise
    from fairlead.spec.data import Data

    data = Data.model_validate(SPEC["data"] | {"source": path.name})
    schema = None
    if path.suffix != ".parquet":
        from fairlead.data.schema import load_schema

        schema = load_schema(path.parent / "schema.yaml")
    return summarise(Source(data, path.parent), Question(data, schema, groups=False, sketches=sketches)).rows


def basic(path: Path) -> int:
    """The exact part only."""
    return _summary(path, sketches=False)


def full(path: Path) -> int:
    """With quantiles, different and frequent values."""
    return _summary(path, sketches=True)


def profile(path: Path) -> int:
    """Everything that the command does, without kept statistics."""
    from fairlead.data.profile import ProfileOptions, profile_data
    from fairlead.data.profile_report import profile_report
    from fairlead.reports.html import render_html
    from fairlead.spec.project import Project

    found = profile_data(Project.model_validate(SPEC), path.parent, ProfileOptions(cache=False))
    render_html(profile_report(found))
    return found.rows


def duckdb(path: Path) -> int:
    """One query."""
    import duckdb as engine

    names = [(row[0], row[1]) for row in engine.sql(f"DESCRIBE SELECT * FROM '{path}'").fetchall()]
    asked = ["count(*)"]
    for bare, kind in names:
        name = f'"{bare}"'
        asked += [f"count({name})", f"min({name})", f"max({name})", f"approx_count_distinct({name})"]
        asked.append(f"approx_top_k({name}, 20)")
        if kind in ("DOUBLE", "BIGINT"):
            asked += [f"avg({name})", f"stddev_pop({name})", f"approx_quantile({name}, {list(SHARES)})"]
        elif kind == "TIMESTAMP":
            asked.append(f"approx_quantile({name}, {list(SHARES)})")
        elif kind == "VARCHAR":
            asked += [f"min(length({name}))", f"avg(length({name}))", f"max(length({name}))"]
    row = engine.sql(f"SELECT {', '.join(asked)} FROM '{path}'").fetchall()[0]
    return int(row[0])


def polars(path: Path) -> int:
    """describe(): no distinct counts, no frequent values."""
    import polars as engine

    scan: Callable[..., Any] = {
        ".parquet": engine.scan_parquet,
        ".csv": engine.scan_csv,
        ".jsonl": engine.scan_ndjson,
    }[path.suffix]
    return int(scan(path).describe(percentiles=SHARES)["x2"][0])


def evidently(path: Path) -> int:
    """DataSummaryPreset; runs in its own environment."""
    import pandas
    from evidently import Dataset, Report
    from evidently.presets import DataSummaryPreset

    frame = pandas.read_parquet(path)
    Report([DataSummaryPreset()]).run(Dataset.from_pandas(frame), None).dict()
    return len(frame)


def tfdv(path: Path) -> int:
    """generate_statistics_from_dataframe on all cores; runs in its own environment."""
    import pandas
    import tensorflow_data_validation as engine

    frame = pandas.read_parquet(path)
    engine.generate_statistics_from_dataframe(frame, n_jobs=os.cpu_count() or 1)
    return len(frame)


WORK: dict[str, Callable[[Path], int]] = {
    "decode_batches": decode_batches,
    "decode_scanner": decode_scanner,
    "basic": basic,
    "full": full,
    "profile": profile,
    "duckdb": duckdb,
    "polars": polars,
    "evidently": evidently,
    "tfdv": tfdv,
    "fairlead_csv": full,
    "fairlead_jsonl": full,
    "polars_csv": polars,
    "polars_jsonl": polars,
}


def measure(name: str, path: Path, warm: Path) -> None:
    """Print rows, seconds of the work itself, after one on a few rows (imports, threads), and peak memory."""
    WORK[name](warm)
    started = time.perf_counter()
    rows = WORK[name](path)
    seconds = time.perf_counter() - started
    print(json.dumps({"rows": rows, "seconds": seconds, "peak_mib": _peak_bytes() / 2**20}))


def _peak_bytes() -> int:
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would begin with the size of the process that started this one
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


# --- the comparison --------------------------------------------------------------------------------------------------
def files(folder: Path, rows: int) -> dict[str, Path]:
    """The data: one Parquet file; a tenth of its rows as Parquet, CSV and JSON Lines; three links to the first."""
    from data import write_rows

    thrice = folder / "thrice"
    thrice.mkdir()
    write_rows(folder / "rows.parquet", rows)
    for number in range(3):
        os.link(folder / "rows.parquet", thrice / f"rows-{number}.parquet")
    for name, count in (("tenth", max(rows // 10, 1000)), ("few", 1000)):
        (folder / name).mkdir()
        write_rows(folder / name / "rows.parquet", count)
        _write_texts(folder / name)
    tenth = folder / "tenth" / "rows.parquet"
    return {"rows": folder / "rows.parquet", "tenth": tenth, "thrice": thrice / "*.parquet"}


def _write_texts(folder: Path) -> None:
    import polars as engine

    frame = engine.scan_parquet(folder / "rows.parquet")
    frame.sink_csv(folder / "rows.csv")
    frame.sink_ndjson(folder / "rows.jsonl")
    _write_schema(folder)


def _write_schema(folder: Path) -> None:
    from fairlead.data.inference import infer_schema
    from fairlead.data.schema import write_schema
    from fairlead.data.sources import Source
    from fairlead.spec.data import Data

    data = Data.model_validate(SPEC["data"])
    write_schema(folder / "schema.yaml", infer_schema(Source(data, folder), instants=["at"]).schema, "bench", {})


def run_once(name: str, path: Path, few: Path, python: Path = Path(sys.executable)) -> dict[str, float]:
    """One measurement; `few` is the folder with a few rows to warm up on."""
    warm = few / ("rows" + path.suffix)
    command = [str(python), str(HERE / "data_profile.py"), "--measure", name, "--path", str(path), "--warm", str(warm)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        words = [line.strip(" ^~") for line in done.stderr.splitlines() if line.strip(" ^~")]
        raise RuntimeError(f"{name}: " + "; ".join(words[-2:] or [f"exit code {done.returncode}"])[-400:])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{name:<16} {found['rows'] / found['seconds']:>14,.0f} rows/s {found['peak_mib']:>8,.0f} MiB", file=sys.stderr
    )
    return found


def compare(rows: int, rounds: int, folder: Path, peers: Path | None) -> dict[str, Any]:
    """All of it."""
    data, few = files(folder, rows), folder / "few"
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(rounds):
        for name in ENGINES:
            found.setdefault(name, []).append(run_once(name, data["rows"], few))
    for _ in range(max(rounds // 2, 1)):
        for name in FORMATS:
            path = data["tenth"].with_suffix("." + name.rsplit("_", 1)[1])
            found.setdefault(name, []).append(run_once(name, path, few))
    sizes = {"tenth": data["tenth"], "one": data["rows"], "three": data["thrice"]}
    memory = {size: run_once("full", path, few)["peak_mib"] for size, path in sizes.items()}
    told: dict[str, str] = {}
    for name, home in PEERS.items() if peers is not None else ():
        assert peers is not None
        try:
            found[name] = [run_once(name, data["tenth"], few, peer_environment(home, peers))]
        except RuntimeError as error:
            told[name] = str(error).split("\n")[0]
            print(f"{name}: {told[name]}", file=sys.stderr)
    speed = {name: statistics.median(run["rows"] / run["seconds"] for run in runs) for name, runs in found.items()}
    peak = {name: max(run["peak_mib"] for run in runs) for name, runs in found.items()}
    return {
        "name": "data_profile",
        "rows": rows,
        "columns": 20,
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "rounds": rounds,
        "rows_per_second": {name: round(value) for name, value in speed.items()},
        "peak_mib": {name: round(value) for name, value in peak.items()},
        "peak_mib_of_full": {
            f"{rows * n // 10:,} rows": round(m) for n, m in zip((1, 10, 30), memory.values(), strict=True)
        },
        "text_rows_per_second_as_a_share_of_polars_describe": {
            kind: round(speed[f"fairlead_{kind}"] / speed[f"polars_{kind}"], 2) for kind in ("csv", "jsonl")
        },
        "peers_that_did_not_run": told,
        "goals": goals(speed, peak, memory),
    }


def goals(speed: dict[str, float], peak: dict[str, float], memory: dict[str, float]) -> list[dict[str, Any]]:
    """What must show."""
    reference = max(("decode_batches", "decode_scanner"), key=lambda name: speed[name])
    wanted: list[tuple[str, float, str, float]] = [
        ("basic statistics / Arrow's decode", speed["basic"] / speed[reference], ">=", 0.9),
        ("full statistics / Arrow's decode", speed["full"] / speed[reference], ">=", 0.45),
        ("full statistics / duckdb doing the same", speed["full"] / speed["duckdb"], ">=", 2),
        ("full statistics / TFDV's 0.39M rows/s", speed["full"] / 390_000, ">=", 6),
        ("full statistics, peak memory / Arrow's decode", peak["full"] / peak[reference], "<=", 1.5),
        ("full statistics, peak memory, 30 parts / 1 part", memory["three"] / memory["tenth"], "<=", 1.25),
    ]
    if "evidently" in speed:
        wanted.append(("full statistics / Evidently", speed["full"] / speed["evidently"], ">=", 50))
    if "tfdv" in speed:
        wanted.append(("full statistics / TFDV here", speed["full"] / speed["tfdv"], ">=", 6))
    made = []
    for name, value, sign, bound in wanted:
        met = value >= bound if sign == ">=" else value <= bound
        made.append({"name": name, "value": round(value, 3), "goal": f"{sign} {bound:g}", "met": met})
    return made


def main() -> None:
    """The command line: one JSON object on stdout, progress on stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", type=Path, help="folder for the environments of Evidently and TFDV (default: none)")
    parser.add_argument("--scratch", type=Path, help="where the data is written (some 600 MB for each 5M rows)")
    parser.add_argument("--measure", choices=list(WORK), help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--warm", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure, arguments.path, arguments.warm)
        return
    with tempfile.TemporaryDirectory(prefix="fairlead-bench-", dir=arguments.scratch) as folder:
        print(json.dumps(compare(arguments.rows, arguments.rounds, Path(folder), arguments.peers), indent=2))


if __name__ == "__main__":
    main()
