"""What rows that count differently are worth."""

import numpy as np
from numpy.typing import NDArray


def effective_rows(weights: NDArray[np.floating]) -> float:
    """How many equally weighted rows are worth as much: (sum w)^2 / sum w^2 (Kish 1965, "Survey sampling")."""
    total = float(np.square(weights).sum())
    return float(weights.sum()) ** 2 / total if total else 0.0


def unless_alike(weights: NDArray[np.floating]) -> NDArray[np.float64] | None:
    """The weights; None where all rows count as much as each other (to the twelfth digit), whatever the weight is:
    then they need none."""
    values = np.asarray(weights, dtype=np.float64)
    same = not len(values) or (values[0] > 0 and bool((np.abs(values - values[0]) <= 1e-12 * values[0]).all()))
    return None if same else values
