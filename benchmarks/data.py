"""Rows per second of `fairlead data validate` beside duckdb SUMMARIZE and polars describe, with peak memory.

    python benchmarks/data.py --rows 10000000 --rounds 5

Each measurement is a process of its own (so that peak memory is its own), rounds are interleaved, medians are reported.
What is compared: Fairlead reads every value and checks type, presence, range, finiteness, domain and UTF-8 against a
schema file; duckdb and polars compute summaries of the same file. They do different work for the same question ("is
this data what I think it is?"): neither peer checks rows against rules, and Fairlead's check estimates no quantiles or
distinct counts (`profile` does, and is measured as well).
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_GROUP_ROWS = 131_072
_WORDS = [f"value-{i:03d}" for i in range(50)]
_PEERS = ("fairlead", "fairlead_profile", "duckdb", "polars")
_SPEC = {
    "project": "bench",
    "data": {"source": "rows.parquet", "label": {"column": "y"}, "validate": {"schema": "schema.yaml"}},
    "features": {"numeric": ["x0"]},
}


def write_rows(path: Path, rows: int) -> None:
    """`rows` x 20 columns: 10 floats (two with missing values), 5 integers, 3 strings, a timestamp, a boolean label."""
    rng = np.random.default_rng(7)
    writer: pq.ParquetWriter | None = None
    for start in range(0, rows, _GROUP_ROWS):
        count = min(_GROUP_ROWS, rows - start)
        columns: dict[str, pa.Array] = {}
        for i in range(10):
            missing = rng.random(count) < 0.05 if i < 2 else None
            columns[f"x{i}"] = pa.array(rng.normal(i, 1 + i, count), mask=missing)
        for i in range(5):
            columns[f"n{i}"] = pa.array(rng.integers(0, 10 ** (i + 2), count))
        for i in range(3):
            columns[f"s{i}"] = pa.DictionaryArray.from_arrays(rng.integers(0, 50, count), _WORDS).dictionary_decode()
        seconds = rng.integers(0, 31_536_000, count).astype("timedelta64[s]")
        columns["at"] = pa.array(np.datetime64("2013-01-01", "us") + seconds)
        columns["y"] = pa.array(rng.random(count) < 0.3)
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def measure(peer: str, folder: Path) -> dict[str, float]:
    """Run in a process of its own: seconds of the work itself, and the process's peak memory."""
    path = folder / "rows.parquet"
    if peer.startswith("fairlead"):
        from fairlead.data.validation import validate_data
        from fairlead.spec.project import Project

        project = Project.model_validate(_SPEC)
        started = time.perf_counter()
        result = validate_data(project, folder, folder / "work", profile=peer.endswith("profile"))
        seconds = time.perf_counter() - started
        if result.rows_rejected:
            raise SystemExit(f"{result.rows_rejected} rows were rejected")
    elif peer == "duckdb":
        import duckdb

        started = time.perf_counter()
        duckdb.sql(f"SUMMARIZE SELECT * FROM '{path}'").fetchall()
        seconds = time.perf_counter() - started
    else:
        import polars

        started = time.perf_counter()
        polars.scan_parquet(path).describe()
        seconds = time.perf_counter() - started
    # ru_maxrss is in KiB on Linux, in bytes on macOS.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"seconds": seconds, "peak_mib": peak / 2**20}


def compare(rows: int, rounds: int, folder: Path, peers: tuple[str, ...] = _PEERS) -> dict[str, object]:
    """Medians of interleaved rounds."""
    write_rows(folder / "rows.parquet", rows)
    from fairlead.data.validation import validate_data
    from fairlead.spec.project import Project

    # Writes the schema file that the measured runs check against.
    sample = folder / "sample"
    sample.mkdir()
    pq.write_table(pq.ParquetFile(folder / "rows.parquet").read_row_group(0), sample / "rows.parquet")
    validate_data(Project.model_validate(_SPEC), sample, folder / "work", profile=False)
    (sample / "schema.yaml").rename(folder / "schema.yaml")
    found: dict[str, list[dict[str, float]]] = {peer: [] for peer in peers}
    for number in range(rounds):
        for peer in peers:
            command = [sys.executable, __file__, "--measure", peer, "--folder", str(folder)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found[peer].append(json.loads(done.stdout))
            print(f"round {number + 1}: {peer} {found[peer][-1]}", file=sys.stderr)
    seconds = {peer: statistics.median(run["seconds"] for run in runs) for peer, runs in found.items()}
    result: dict[str, object] = {
        "name": "data",
        "rows": rows,
        "columns": 20,
        "file_mib": round((folder / "rows.parquet").stat().st_size / 2**20, 1),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "rounds": rounds,
        "rows_per_second": {peer: round(rows / value) for peer, value in seconds.items()},
        "peak_mib": {peer: round(max(run["peak_mib"] for run in runs)) for peer, runs in found.items()},
    }
    for peer in ("duckdb", "polars"):
        if peer in seconds:
            result[f"times_{peer}"] = round(seconds[peer] / seconds["fairlead"], 2)
    goals: list[dict[str, object]] = []
    if "duckdb" in seconds:
        ratio = round(seconds["duckdb"] / seconds["fairlead"], 2)
        goals.append(
            {"name": "schema check alone, times duckdb SUMMARIZE", "value": ratio, "goal": ">= 2", "met": ratio >= 2}
        )
        if "fairlead_profile" in seconds:
            ratio = round(seconds["duckdb"] / seconds["fairlead_profile"], 2)
            name = "data validate (schema check and statistics), times duckdb SUMMARIZE"
            goals.append({"name": name, "value": ratio, "goal": ">= 2", "met": ratio >= 2})
    peak = max(run["peak_mib"] for run in found["fairlead"])
    goals.append({"name": "data validate, peak MiB", "value": round(peak), "goal": "<= 1024", "met": peak <= 1024})
    result["goals"] = goals
    return result


def main() -> None:
    """The command line: one JSON object on stdout, progress on stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", nargs="+", default=list(_PEERS), choices=_PEERS, help="fairlead is needed")
    parser.add_argument("--measure", choices=_PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.folder)))
        return
    with tempfile.TemporaryDirectory(prefix="fairlead-bench-") as folder:
        print(json.dumps(compare(arguments.rows, arguments.rounds, Path(folder), tuple(arguments.peers)), indent=2))


if __name__ == "__main__":
    main()
