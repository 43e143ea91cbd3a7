"""The proof that a raw graph answers as the bundle does, on generated rows: typical, missing, unseen, extreme."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from fairlead.bundle.bundle import Bundle
from fairlead.bundle.graph import Graph
from fairlead.bundle.predictor import Predictor
from fairlead.bundle.raw_graph.graph import RawGraph
from fairlead.bundle.raw_graph.inputs import raw_arrays
from fairlead.errors import ExportMismatch
from fairlead.features.columns import Columns

TOLERANCE = 1e-5
_ROWS = 2_000
_MISSING = 0.1


@dataclass(frozen=True, slots=True)
class Parity:
    """`largest` is the largest absolute difference of a score, in units of the largest score above 1."""

    rows: int
    largest: float


def check_parity(bundle: Bundle, graph: RawGraph, rows: pa.Table | None = None, seed: int = 0) -> Parity:
    """Compare on `rows`, or on generated ones. Raises ExportMismatch above TOLERANCE, or for another label."""
    columns = bundle.transform.columns
    table = generated_rows(columns, _ROWS, seed) if rows is None else rows
    expected = Predictor(bundle).predict_table(table)
    found = Graph(graph.content, name="raw graph").run_all(raw_arrays(columns, table))
    scores = found[bundle.signature.outputs[0].name]
    unit = max(1.0, float(np.abs(expected.scores).max(initial=0.0)))
    largest = float(np.abs(scores - expected.scores).max(initial=0.0)) / unit
    if not largest <= TOLERANCE:
        raise ExportMismatch(
            f"the raw graph's scores differ from the bundle's by {largest:.2e} on {table.num_rows} rows",
            where=str(bundle.folder),
            why=f"the tolerance is {TOLERANCE:.0e}",
        )
    if expected.labels is not None:
        threshold = 0.5 if bundle.signature.threshold is None else bundle.signature.threshold
        ordered = np.sort(expected.scores, axis=-1) if expected.scores.ndim > 1 else None
        margin = ordered[:, -1] - ordered[:, -2] if ordered is not None else np.abs(expected.scores - threshold)
        other = (found["label"] != expected.labels) & (margin > 2 * TOLERANCE)
        if other.any():
            raise ExportMismatch(
                f"the raw graph gives another label for {int(other.sum())} of {table.num_rows} rows",
                where=str(bundle.folder),
            )
    return Parity(table.num_rows, largest)


def generated_rows(columns: Columns, rows: int, seed: int) -> pa.Table:
    """Rows around what the transform was fitted on, a tenth of each column missing."""
    random = np.random.default_rng(seed)

    def with_gaps(values: np.ndarray) -> pa.Array:
        return pa.array(values, mask=random.random(rows) < _MISSING)

    found: dict[str, pa.Array] = {}
    for column in columns.numeric:
        near = column.mean + 3.0 * column.std * random.normal(size=rows)
        near = np.copysign(np.expm1(np.minimum(np.abs(near), 700.0)), near) if column.log else near
        ends = [value for value in (column.low, column.high, column.impute, 0.0, -1e300, 1e300) if value is not None]
        found[column.name] = with_gaps(np.where(random.random(rows) < 0.9, near, random.choice(ends, rows)))
    for ranged in columns.ranges:
        low, high = (ranged.edges[0], ranged.edges[-1]) if ranged.edges else (0.0, 1.0)
        inside = random.uniform(low - 1.0, high + 1.0, rows)
        on_edge = random.choice(np.array(ranged.edges or (0.0,)), rows)
        found.setdefault(ranged.name, with_gaps(np.where(random.random(rows) < 0.5, inside, on_edge)))
    for category in columns.categorical:
        known = np.array([value for value in category.values if value] + ["never seen", "nor this"], dtype=object)
        found[category.name] = with_gaps(random.choice(known, rows))
    for moment in columns.datetime:
        seconds = random.integers(-2_208_988_800, 4_102_444_800, rows)  # the years 1900 to 2099
        found[moment.name] = with_gaps(seconds.astype("datetime64[s]").astype("datetime64[us]"))
    if columns.image is not None:
        size = int(np.prod(columns.image.shape))
        pixels = (random.random(rows * size) * columns.image.scale).astype(np.float32)
        found[columns.image.name] = pa.FixedSizeListArray.from_arrays(pa.array(pixels), size)
    for text in columns.text:
        known = np.array([*text.values, "unseen", "words"], dtype=object)
        lines = [" ".join(random.choice(known, random.integers(0, text.max_tokens + 3))) for _ in range(rows)]
        found[text.name] = with_gaps(np.array(lines, dtype=object))
    return pa.table(found)
