"""`max_distance`: found beyond chance, and on the bound accused no more often than stated."""

import numpy as np
import pyarrow as pa

from fairlead.records.drift import Anomaly, Baseline
from fairlead.watch.accepted_distance import FALSE_ALARM, beyond_distance
from fairlead.watch.baseline import baseline_of

SEED = 41
KINDS = {"x": "float", "c": "string"}


def baseline(rng: np.random.Generator, rows: int, move: float = 0.0, share: float = 0.5) -> Baseline:
    table = pa.table(
        {"x": rng.random(rows) + move, "c": rng.choice(["a", "b", "d"], rows, p=[share, 0.9 - share, 0.1])}
    )
    return baseline_of(table, KINDS, rows, (rows,), None, "")


def told(before: Baseline | None, now: Baseline, bound: float) -> tuple[Anomaly, ...]:
    return tuple(beyond_distance(before, now, dict.fromkeys(KINDS, bound)))


def test_a_batch_further_than_the_bound_is_told() -> None:
    rng = np.random.default_rng(SEED)
    found = told(baseline(rng, 5000), baseline(rng, 5000, move=0.3, share=0.2), 0.1)
    assert [(one.column, one.kind, one.severe) for one in found] == [("x", "distance", True), ("c", "distance", True)]
    assert abs((found[0].share or 0) - 0.3) < 0.03
    assert abs((found[1].share or 0) - 0.3) < 0.03


def test_a_process_on_the_bound_is_accused_at_most_as_often_as_stated() -> None:
    """Uniform numbers moved by 0.1 and a share moved by 0.1 are exactly 0.1 from the accepted ones."""
    rng = np.random.default_rng(SEED)
    runs = 300
    found = [told(baseline(rng, 1000), baseline(rng, 400, move=0.1, share=0.4), 0.1) for _ in range(runs)]
    accused = sum(len(one) for one in found)
    print(f"seed {SEED}: {accused} of {2 * runs} columns, {FALSE_ALARM} stated")
    assert accused <= 4  # 99.9 % quantile of the binomial distribution with 600 and 0.001


def test_small_batches_need_more_to_be_told() -> None:
    rng = np.random.default_rng(SEED)
    assert not told(baseline(rng, 5000), baseline(rng, 30, move=0.2, share=0.4), 0.05)


def test_what_cannot_be_compared_is_said() -> None:
    rng = np.random.default_rng(SEED)
    now = baseline(rng, 100)
    assert [(one.kind, one.severe) for one in told(None, now, 0.1)] == [("not_comparable", False)] * 2
    other = Baseline("", 100, {"x": now.columns["x"]})
    (found,) = told(other, now, 0.9)
    assert (found.column, found.kind) == ("c", "not_comparable")
