"""Step by step: do a table, single rows, JSON and ONNX give the same bits? Counts of values, compared and different.

    python benchmarks/transform_steps.py                    # the table of docs/features.md, half a minute
    python benchmarks/transform_steps.py --rows 2000

Every step has a transform of its own, fitted on ordinary rows, and is asked about others: typical, missing, unseen and
extreme ones. `doors` counts the values of
the single rows, of the columns, and of the table after JSON that have other bits than the table's; `ONNX` those of the
same transform as a graph in ONNX Runtime. Exit code 1 when a value differs that should not (logarithms may, in ONNX).
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa

from fairlead.bundle.graph import Graph
from fairlead.bundle.raw_graph.graph import transform_graph
from fairlead.bundle.raw_graph.inputs import inputs_of, raw_arrays
from fairlead.features.transform import Transform
from fairlead.spec.features import Features

Made = Callable[[np.random.Generator, int, bool], pa.Array]
_EXTREME = [-1.7e308, -1.0, -0.0, 0.0, 5e-324, 1e-17, 1.7e308]
_FIT_ROWS, _ROWS, _MISSING, _ODD = 20_000, 10_000, 0.1, 0.05


@dataclass(frozen=True)
class Count:
    """Values of one step: how many a table has, and how many of them have other bits elsewhere."""

    step: str
    compared: int
    doors: int
    in_onnx: int
    note: str


def number(random: np.random.Generator, rows: int, odd: bool) -> pa.Array:
    """Log-normal, a tenth missing; odd: also extreme."""
    values = random.lognormal(2, 1, rows)
    if odd:
        values = np.where(random.random(rows) < _ODD, random.choice(_EXTREME, rows), values)
    return pa.array(values, mask=random.random(rows) < _MISSING)


def category(random: np.random.Generator, rows: int, odd: bool) -> pa.Array:
    """A hundred words; odd: also missing and never seen."""
    words = [f"word {i}" for i in random.integers(0, 120 if odd else 100, rows)]
    return pa.array(words, mask=random.random(rows) < _MISSING if odd else None)


def moment(random: np.random.Generator, rows: int, odd: bool) -> pa.Array:
    """A year; odd: also missing, and from year 1 to year 9999."""
    seconds = random.integers(0, 366 * 86_400, rows) + np.datetime64("2024-01-01", "s").astype(np.int64)
    if odd:
        ends = [int((datetime(year, 1, 1) - datetime(1970, 1, 1)).total_seconds()) for year in (1, 1600, 2100, 9999)]
        seconds = np.where(random.random(rows) < _ODD, random.choice(ends, rows), seconds)
    gone = random.random(rows) < _MISSING if odd else None
    return pa.array(seconds.astype("datetime64[s]").astype("datetime64[us]"), mask=gone)


def text(random: np.random.Generator, rows: int, odd: bool) -> pa.Array:
    """Up to eight of two hundred words; odd: also missing, empty and of words never seen."""
    sizes = random.integers(0 if odd else 1, 9, rows)
    most = 250 if odd else 200
    lines = [" ".join(f"w{i}" for i in random.integers(0, most, size)) for size in sizes]
    return pa.array(lines, mask=random.random(rows) < _MISSING if odd else None)


def picture(random: np.random.Generator, rows: int, odd: bool) -> pa.Array:
    """Two by three pixels of 0 to 255; a picture is never missing."""
    flat = pa.array(random.integers(0, 256, rows * 6).astype(np.float32) - (1e30 if odd else 0))
    return pa.FixedSizeListArray.from_arrays(flat, 6)


STEPS: dict[str, tuple[dict[str, object], dict[str, Made]]] = {
    "impute, standardise": ({"numeric": {"x": {}}}, {"x": number}),
    "impute by a value, no scale": ({"numeric": {"x": {"impute": 3.5, "scale": "none"}}}, {"x": number}),
    "clip": ({"numeric": {"x": {"clip": [0.01, 0.99]}}}, {"x": number}),
    "robust": ({"numeric": {"x": {"scale": "robust"}}}, {"x": number}),
    "min-max": ({"numeric": {"x": {"scale": "minmax"}}}, {"x": number}),
    "log": ({"numeric": {"x": {"log": True}}}, {"x": number}),
    "quantile buckets": ({"numeric": {"x": {"encode": "buckets", "buckets": 20}}}, {"x": number}),
    "vocabulary": ({"categorical": {"c": {}}}, {"c": category}),
    "vocabulary with hash buckets": ({"categorical": {"c": {"oov_buckets": 8}}}, {"c": category}),
    "hashing": ({"categorical": {"c": {"encode": "hash", "buckets": 64}}}, {"c": category}),
    "crosses": (
        {"categorical": ["c", "d"], "crosses": {"cd": {"of": ["c", "d"], "buckets": 4096}}},
        {"c": category, "d": category},
    ),
    "date parts": (
        {"datetime": {"at": {"parts": ["minute", "hour", "weekday", "day", "month", "dayofyear", "week"]}}},
        {"at": moment},
    ),
    "cyclic parts": ({"datetime": {"at": {"parts": ["hour", "month"], "encode": "cyclic"}}}, {"at": moment}),
    "text to token ids": ({"text": {"t": {"max_tokens": 6, "oov_buckets": 4}}}, {"t": text}),
    "image to tensor": ({"image": {"i": {"shape": [1, 2, 3], "scale": 255.0}}}, {"i": picture}),
}
_OWN_LOGARITHM = "log"


def count(step: str, rows: int, seed: int) -> Count:
    """Fit the step, ask all doors, compare bits."""
    spec, columns = STEPS[step]
    random = np.random.default_rng(seed)

    def table(size: int, odd: bool) -> pa.Table:
        return pa.table({name: make(random, size, odd) for name, make in columns.items()})

    fitted = Transform.fit(table(_FIT_ROWS, odd=False).to_batches(), Features.model_validate(spec))
    asked = table(rows, odd=True)
    expected = fitted.apply_table(asked)
    again = Transform.from_json(fitted.to_json())
    single = [again.apply_rows([request]) for request in asked.to_pylist()]
    doors = (
        {name: np.concatenate([one[name] for one in single]) for name in expected},
        fitted.apply_columns(asked.to_pydict(), asked.num_rows),
        again.apply_table(asked),
    )
    graph = Graph(transform_graph(fitted.columns), name="transform").run_all(raw_arrays(fitted.columns, asked))
    return Count(
        step,
        sum(tensor.size for tensor in expected.values()),
        sum(_different(expected[name], door[name]) for door in doors for name in expected),
        sum(_different(tensor, graph[f"transform/{name}"]) for name, tensor in expected.items()),
        _note(step, fitted),
    )


def _note(step: str, fitted: Transform) -> str:
    found = [entry.name for entry in inputs_of(fitted.columns) if not entry.raw]
    if found:
        return "ONNX cannot hash or split: takes the index"
    return "its logarithm is its own: the last bit may differ" if step == _OWN_LOGARITHM else ""


def _different(one: np.ndarray, other: np.ndarray) -> int:
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return one.size
    bits = f"u{one.itemsize}"
    return int((np.ascontiguousarray(one).view(bits) != np.ascontiguousarray(other).view(bits)).sum())


def lines_of(counts: list[Count]) -> list[str]:
    """A Markdown table."""
    lines = [
        "| step | values | other bits: rows, columns, JSON | other bits: ONNX | |",
        "|---|---:|---:|---:|---|",
    ]
    lines += [f"| {c.step} | {c.compared:,} | {c.doors} | {c.in_onnx} | {c.note} |" for c in counts]
    return lines


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=_ROWS, help=f"rows that are asked about (default: {_ROWS:,})")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    counts = [count(step, options.rows, options.seed) for step in STEPS]
    print("\n".join(lines_of(counts)))
    bad = [c.step for c in counts if c.doors or (c.in_onnx and c.step != _OWN_LOGARITHM)]
    if bad:
        print(f"differ and should not: {', '.join(bad)}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
