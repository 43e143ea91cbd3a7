"""How well one column ranks the label: the score that every rule of the leak scan shares.

Numbers are ranked by value and, to see what is not monotone, by the label's mean in 50 bins; categories and calendar
parts by the label's mean of their value. These means are out of fold (each fifth of the rows is ranked by the other
four), otherwise an identifier with a value a row would look perfect. Missing values are a bin of their own.
"""

import numpy as np
from scipy import stats

from fairlead.features.hashing import mix

CHANCE = 1e-3
_FOLDS = 5
_BINS = 50
_MAX_CLASSES = 20


class Target:
    """The label, and how well something ranks it."""

    def __init__(self, labels: np.ndarray, task: str, max_auc: float) -> None:
        self.regression = task == "regression"
        self.bound = 1 - (1 - max_auc) / 10 if self.regression else max_auc
        self.looks = 1
        # The fold of a row depends on its place in the sample only, scrambled so that order in time plays no role.
        self.folds = (mix(np.arange(len(labels), dtype=np.uint64)) % np.uint64(_FOLDS)).astype(np.int64)
        self._ranks = stats.rankdata(labels) if self.regression else np.empty(0)
        if self.regression:
            self.targets = [labels.astype(np.float64)]
        else:
            classes, counts = np.unique(labels, return_counts=True)
            frequent = classes[np.argsort(-counts, kind="stable")[:_MAX_CLASSES]]
            chosen = classes[-1:] if task == "binary" else frequent
            self.targets = [(labels == value).astype(np.float64) for value in chosen]

    def words(self, score: float) -> str:
        """The score as a person reads it."""
        return f"a rank correlation of {score:.3f}" if self.regression else f"an AUC of {score:.3f}"

    def score(self, column: np.ndarray) -> float:
        """The best of: ranks of the value (float64 with NaN), out-of-fold means of its bins (or int64 codes)."""
        is_code = column.dtype.kind == "i"
        codes = column if is_code else binned(column)
        best = 0.0
        for target in self.targets:
            best = max(best, self._of_codes(codes, target))
            if not is_code:
                known = ~np.isnan(column)
                filled = np.where(known, column, np.median(column[known]) if known.any() else 0.0)
                best = max(best, self._strength(filled, target))
        return best

    def ranked(self, values: np.ndarray) -> float:
        """How well numbers [N] rank the label as they are, the larger the more; the last class, when there are two."""
        return max(self._strength(values, target, either_way=False) for target in self.targets)

    def _of_codes(self, codes: np.ndarray, target: np.ndarray) -> float:
        """The strength of the target's mean of each row's code over the other folds, drawn to the overall mean by ten
        rows. A row's value depends on its code and fold only, so that these few cells are sorted, not the rows."""
        size = int(codes.max()) + 1 if len(codes) else 1
        cell = self.folds * size + codes
        sums = np.bincount(cell, target, _FOLDS * size).reshape(_FOLDS, size)
        counts = np.bincount(cell, minlength=_FOLDS * size).reshape(_FOLDS, size)
        prior = 10 * target.mean() if len(target) else 0.0
        means = ((sums.sum(0) - sums + prior) / (counts.sum(0) - counts + 10)).reshape(-1)
        present = np.flatnonzero(counts.reshape(-1))
        _, group = np.unique(means[present], return_inverse=True)
        rows_of = np.bincount(group, counts.reshape(-1)[present])
        ranks_of = np.cumsum(rows_of) - (rows_of - 1) / 2
        rank_of_cell = np.zeros(_FOLDS * size)
        rank_of_cell[present] = ranks_of[group]
        return self._of_ranks(rank_of_cell[cell], target, either_way=False)

    def _strength(self, values: np.ndarray, target: np.ndarray, *, either_way: bool = True) -> float:
        """`either_way`: large values may stand for either side. Means out of fold point one way; under no association
        they point the other way a little (what a fold has more of, the others have less of), which is no strength."""
        return self._of_ranks(stats.rankdata(values), target, either_way=either_way)

    def _of_ranks(self, ranks: np.ndarray, target: np.ndarray, *, either_way: bool) -> float:
        rows = len(ranks)
        if self.regression:
            if rows < 3 or ranks.std() == 0 or self._ranks.std() == 0:
                return 0.0
            signed = float(np.corrcoef(ranks, self._ranks)[0, 1])
            correlation = abs(signed) if either_way else max(signed, 0.0)
            chance = correlation * np.sqrt(rows - 1)
        else:
            positive = target.sum()
            negative = rows - positive
            if not positive or not negative:
                return 0.5
            auc = (ranks[target > 0].sum() - positive * (positive + 1) / 2) / (positive * negative)
            correlation = max(auc, 1 - auc) if either_way else max(auc, 0.5)
            chance = (correlation - 0.5) / np.sqrt((rows + 1) / (12 * positive * negative))
        # Two sides of each of two ways of ranking, for every column and class that is looked at.
        if stats.norm.sf(chance) * 4 * self.looks * len(self.targets) > CHANCE:
            return 0.0 if self.regression else 0.5
        return float(correlation)


def binned(values: np.ndarray) -> np.ndarray:
    """Codes of at most 50 equally full bins; missing is 0."""
    known = ~np.isnan(values)
    if not known.any():
        return np.zeros(len(values), np.int64)
    edges = np.unique(np.quantile(values[known], np.linspace(0, 1, _BINS + 1)[1:-1]))
    return np.where(known, np.searchsorted(edges, values, side="right") + 1, 0).astype(np.int64)
