"""Columns whose numbers were computed from rows that they must not know: before the split, or from the label.

*Scaled before the split*: over all rows the mean is 0 and the deviation 1, or the smallest value 0 and the largest 1,
to the last digits, and the training split alone does not have them. *Filled before the split*: the most frequent value
is the mean of all rows to the last digits. A column of independent normal values is taken for scaled by chance with a
probability below 1e-7. These are told, not refused.

*Encoded with its own label*: for each of its values, the mean label of the rows that have it equals the value, or is
drawn from it towards the overall mean by a factor that depends on the number of rows only (a constant prior, or any
other function of the count). Rates from earlier rows or from other folds scatter around the mean label on both sides;
an encoding that was fitted on these very rows does not. 20 different values are the least that is judged.
"""

from dataclasses import dataclass

import numpy as np

SCALED = 1e-6
_MIN_ROWS = 200
_MIN_VALUES = 20
_AGREE = 0.99
_EXACT = 1e-4


@dataclass
class Moments:
    """Count, mean, squared deviation, smallest and largest of a column, mergeable (Chan, Golub, LeVeque 1979,
    "Updating formulae and a pairwise algorithm for computing sample variances")."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    low: float = np.inf
    high: float = -np.inf
    missing: int = 0

    def add(self, values: np.ndarray) -> None:
        """Take float64 [N]; NaN and infinite ones count as missing."""
        known = values[np.isfinite(values)]
        self.missing += len(values) - len(known)
        if not len(known):
            return
        count, mean = len(known), float(known.mean())
        total = self.count + count
        self.squares += float(((known - mean) ** 2).sum()) + (mean - self.mean) ** 2 * self.count * count / total
        self.mean += (mean - self.mean) * count / total
        self.count = total
        self.low, self.high = min(self.low, float(known.min())), max(self.high, float(known.max()))

    def std(self, less: int = 0) -> float:
        """Deviation with denominator count - less."""
        return float(np.sqrt(self.squares / max(self.count - less, 1)))


def scaled_before_split(everything: Moments, train: Moments, sample: np.ndarray) -> str:
    """Evidence that a column was scaled on all rows, or ""; `sample` are values of the training split."""
    if everything.count < _MIN_ROWS or train.count < _MIN_ROWS or train.count == everything.count:
        return ""
    values = sample[np.isfinite(sample)]
    if not len(values) or len(np.unique(values)) < min(100, 0.2 * len(values)):
        return ""
    unit = min(abs(everything.std(less) - 1) for less in (0, 1))
    own = abs(train.mean) > 100 * SCALED or abs(train.std() - 1) > 100 * SCALED
    if abs(everything.mean) < SCALED and unit < SCALED and own:
        return (
            f"over all rows its mean is 0 and its deviation 1 to six digits, in the training split {train.mean:.3g} "
            f"and {train.std():.4g}: it was scaled before the split"
        )
    ends = float(np.mean((values == 0) | (values == 1)))
    if everything.low == 0 and everything.high == 1 and ends < 0.001 and (train.low > 0 or train.high < 1):
        return (
            "over all rows it reaches from 0 to 1 exactly, in the training split only from "
            f"{train.low:.4g} to {train.high:.4g}: it was scaled before the split"
        )
    return ""


def filled_before_split(everything: Moments, train: Moments, sample: np.ndarray) -> str:
    """Evidence that missing values were filled with the mean of all rows, or ""."""
    values = sample[np.isfinite(sample)]
    if everything.count < _MIN_ROWS or len(values) < _MIN_ROWS or everything.std() == 0:
        return ""
    distinct, counts = np.unique(values, return_counts=True)
    most = int(np.argmax(counts))
    mode, times = float(distinct[most]), int(counts[most])
    if times < max(5, 0.002 * len(values)) or mode == round(mode) or len(distinct) < 50:
        return ""
    off = abs(mode - everything.mean) / everything.std()
    if off < SCALED and abs(mode - train.mean) / everything.std() > 10 * SCALED:
        return (
            f"{times / len(values):.1%} of its values are {mode:.6g}, the mean of all rows; the training split alone "
            f"has {train.mean:.6g}: missing values were filled before the split"
        )
    return ""


def encoded_label(values: np.ndarray, label: np.ndarray, in_train: np.ndarray) -> str:
    """Evidence that a column is the mean label of groups of these rows, or "".

    `values` float64 [N], whole groups of rows that share a value; `label` float64 [N], 0 or 1 or an amount."""
    for chosen, whose in ((in_train, "the training split"), (np.ones(len(values), bool), "all rows")):
        known = chosen & np.isfinite(values)
        if known.sum() < _MIN_ROWS:
            continue
        why = _encoded(values[known], label[known])
        if why:
            return f"{why} {whose}, each row's own label included: it was encoded without folds"
    return ""


def _encoded(values: np.ndarray, label: np.ndarray) -> str:
    distinct, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(distinct) < _MIN_VALUES or len(distinct) > 0.5 * len(values):
        return ""
    means = np.bincount(inverse, label) / counts
    overall, spread = float(label.mean()), float(label.std())
    if spread == 0:
        return ""
    if np.mean(np.abs(distinct - means) < _EXACT * spread) >= _AGREE:
        return f"each of its {len(distinct):,} values is the mean label of the rows that have it, in"
    far = np.abs(means - overall) > 1e-9 * spread
    factors = (distinct[far] - overall) / (means[far] - overall)
    if len(factors) < _MIN_VALUES or np.mean((factors > 0) & (factors < 1 + 1e-6)) < _AGREE:
        return ""
    few = len(np.unique(np.round(factors, 5))) <= len(factors) / 3
    prior = counts[far] * (1 / factors - 1)
    constant = np.mean(np.abs(prior / np.median(prior) - 1) < 1e-3) >= _AGREE if np.median(prior) > 0 else False
    if few or constant:
        return f"its {len(distinct):,} values are mean labels, drawn towards the overall mean by the number of rows, in"
    return ""
