"""What was tried for each part of the one-pass statistics: nanoseconds a value on one thread, as a Markdown table.

    python benchmarks/data_engines.py            # some 20 s; datasketches is left out where it is not installed

One batch of 131,072 rows, the best of some runs: of float64 from a normal distribution, of integers below 1,000,000,
of texts with 50 different values.
"""

import importlib.util
import io
import time
from collections.abc import Callable

import numpy as np
import polars
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fairlead.data.summary.distinct import DistinctSketch, hash_numbers
from fairlead.data.summary.moments import ExactMoments
from fairlead.data.summary.quantiles import QuantileSketch

ROWS = 131_072
RUNS = 15
TAKEN = "**taken**"
Way = tuple[str, str, Callable[[], object], int, str]


def nanoseconds(work: Callable[[], object], values: int) -> float:
    """A value, the best of some runs."""
    work()
    best = float("inf")
    for _ in range(RUNS):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return best / values * 1e9


def decode(table: pa.Table, dictionaries: bool) -> Callable[[], object]:
    """Reading the Parquet form of a table from memory."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    names = table.schema.names if dictionaries else None
    return lambda: pq.ParquetFile(io.BytesIO(buffer.getvalue()), read_dictionary=names).read(use_threads=False)


def tried() -> list[tuple[str, str, float, str]]:
    """(part, way, ns a value, remark)."""
    rng = np.random.default_rng(1)
    floats, integers = rng.normal(size=ROWS), rng.integers(0, 10**6, ROWS)
    array, numbers = pa.array(floats), pa.array(integers)
    texts = pa.array([f"value-{i:03d}" for i in rng.integers(0, 50, ROWS)])
    frame, whole = polars.Series(floats), polars.Series(integers)
    drawn = np.ascontiguousarray(floats[::8])

    def sketch(values: np.ndarray, level: int) -> None:
        made = QuantileSketch(1)
        made.add(np.sort(values), level)
        made.settle()

    def distinct(values: np.ndarray) -> None:
        made = DistinctSketch()
        made.add_many(hash_numbers(values))
        made.settle()

    plain, encoded = (decode(pa.table({"a": texts}), kept) for kept in (False, True))
    eighths = [share / 8 for share in range(1, 8)]
    ways: list[Way] = [
        ("text, 50 values", "Parquet to strings", plain, ROWS, "the decode alone"),
        ("text, 50 values", "Parquet to a dictionary", encoded, ROWS, TAKEN),
        ("moments", "pyarrow", lambda: (pc.min_max(array), pc.mean(array), pc.variance(array)), ROWS, ""),
        ("moments", "polars", lambda: (frame.min(), frame.max(), frame.mean(), frame.std()), ROWS, ""),
        ("moments", "numpy, pyarrow's variance, exact merge", lambda: ExactMoments.of(floats), ROWS, TAKEN),
        ("quantiles", "numpy sort of all", lambda: np.sort(floats), ROWS, "no sketch yet"),
        ("quantiles", "polars, 7 shares", lambda: [frame.quantile(q) for q in eighths], ROWS, "not mergeable"),
        ("quantiles", "own sketch, all rows", lambda: sketch(floats, 0), ROWS, f"{TAKEN} up to 500,000 rows"),
        ("quantiles", "own sketch, one row in 8", lambda: sketch(drawn, 3), ROWS, f"{TAKEN} for large files"),
        ("different", "pyarrow count_distinct", lambda: pc.count_distinct(numbers), ROWS, "not mergeable"),
        ("different", "polars approx_n_unique", whole.approx_n_unique, ROWS, "its sketch is not to be had"),
        ("different", "own sketch", lambda: distinct(integers.astype(np.float64)), ROWS, TAKEN),
        ("frequent", "pyarrow value_counts", lambda: pc.value_counts(numbers), ROWS, f"{TAKEN} for few values"),
        ("frequent", "runs, one row in 8", lambda: np.diff(np.sort(drawn)), ROWS, f"{TAKEN} for many values"),
    ]
    if importlib.util.find_spec("datasketches") is not None:
        ways += of_datasketches(floats, drawn)
    parts = [*dict.fromkeys(part for part, *_ in ways)]
    timed = [(part, way, nanoseconds(work, values), remark) for part, way, work, values, remark in ways]
    return sorted(timed, key=lambda row: parts.index(row[0]))


def of_datasketches(floats: np.ndarray, drawn: np.ndarray) -> list[Way]:
    """Apache DataSketches: its coins cannot be seeded, and all but KLL take one value at a time from Python."""
    import datasketches

    few = floats[:2000].tolist()
    words = [f"{value:.1f}" for value in few]
    kll, hll = datasketches.kll_doubles_sketch(400), datasketches.hll_sketch(12)
    items = datasketches.frequent_strings_sketch(10)
    return [
        ("quantiles", "datasketches KLL, all rows", lambda: kll.update(floats), ROWS, "differs from run to run"),
        ("quantiles", "datasketches KLL, one row in 8", lambda: kll.update(drawn), ROWS, "differs from run to run"),
        ("different", "datasketches HLL", lambda: [hll.update(v) for v in few], 2000, "a value at a time"),
        (
            "frequent",
            "datasketches frequent items",
            lambda: [items.update(w) for w in words],
            2000,
            "a value at a time",
        ),
    ]


def main() -> None:
    """Print the table."""
    print("| part | way | ns a value | |\n|---|---|---:|---|")
    for part, way, spent, remark in tried():
        print(f"| {part} | {way} | {spent:.2g} | {remark} |")


if __name__ == "__main__":
    main()
