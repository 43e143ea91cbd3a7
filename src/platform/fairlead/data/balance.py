"""Which rows of the training split are drawn, how often, and how much each counts. Other splits are never touched."""

import numpy as np

from fairlead.data.draws import Reservoir, StratifiedReservoir
from fairlead.errors import LabelProblem
from fairlead.features.hashing import mix
from fairlead.spec.data import Balance, Sample


def drawn_rows(spec: Sample, labels: np.ndarray, chances: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """(places int64 [K] among the training rows, their weights or None) of the declared sample."""
    places = np.arange(len(labels), dtype=np.int64)
    if spec.by == "stratified":
        strata = labels if labels.dtype.kind == "i" else _fifths(labels)
        drawn = StratifiedReservoir(spec.rows, spec.seed)
        drawn.update(places, strata)
        return drawn.finish().places, None
    reservoir = Reservoir(spec.rows, spec.seed)
    reservoir.update(places, chances if spec.by in ("weighted", "importance") else None)
    found = reservoir.finish()
    return found.places, found.weights if spec.by == "importance" else None


def balanced(
    spec: Balance, labels: np.ndarray, classes: int, seed: int, column: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """(how often each training row is used, int64 [N]; its weight, float64 [N], or None).

    weights: rows of a class count n / (C n_c). effective_number: (1 - b) / (1 - b^n_c), to a mean of 1 (Cui, Jia, Lin,
    Song, Belongie 2019, "Class-balanced loss based on effective number of samples"). undersample: as many rows of
    each class as the rarest has; oversample: as many as the most frequent has, whole copies first, the rest drawn.
    Raises LabelProblem for amounts, which have no classes."""
    times = np.ones(len(labels), np.int64)
    if spec.how == "none":
        return times, None
    if labels.dtype.kind != "i" or classes < 2:
        raise LabelProblem(
            f"the label {column} has no classes to balance",
            where=f"data.balance.how: {spec.how}",
            fix="drop data.balance, or set data.label.task to binary or multiclass",
        )
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    if spec.weighs:
        there = np.maximum(counts, 1)
        worth = 1 / there if spec.how == "weights" else (1 - spec.beta) / -np.expm1(there * np.log(spec.beta))
        weights = worth[labels]
        return times, weights * (len(weights) / weights.sum())
    present = counts[counts > 0]
    goal = int(present.min() if spec.how == "undersample" else present.max())
    for value in np.flatnonzero(counts):
        members = np.flatnonzero(labels == value)
        whole, rest = divmod(goal, len(members))
        order = members[np.argsort(mix(members.astype(np.uint64), seed), kind="stable")]
        times[members] = whole
        times[order[:rest]] += 1
    return times, None


def _fifths(values: np.ndarray) -> np.ndarray:
    edges = np.unique(np.quantile(values, [0.2, 0.4, 0.6, 0.8]))
    return np.asarray(np.searchsorted(edges, values, side="right"))
