"""Features that only exist after the event: what their being missing says about the label.

Two patterns. *Known only with the label*: the feature is there when the label is there and missing when it is missing,
so both are recorded by the same event (a flight that never landed has neither an arrival delay nor an air time).
*Written by one outcome*: where the feature is present (or where it is missing), nearly all rows have one label, and
elsewhere they have not: the date of a refund is there for orders that came back. It may be rare, so that its AUC stays
small; what counts is that at least 95 % of these rows have the one label, surely 90 % (lower end of the Clopper-Pearson
interval at a thousandth, over all columns and classes), and at least 20 times the odds of other rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import stats

from fairlead.data.leaks.strength import CHANCE

_MIN_UNLABELLED = 30
_MIN_ROWS = 30
PURE, SURELY = 0.95, 0.9
_ODDS_RATIO = 20.0
_MAX_CLASSES = 20


@dataclass(frozen=True)
class MissingCounts:
    """How often a feature is missing among labelled and unlabelled rows of the training period."""

    labelled: int
    labelled_missing: int
    unlabelled: int
    unlabelled_missing: int

    def auc(self) -> float:
        """Of "is missing" as a predictor of "has no label"; 0.5 with too few unlabelled rows."""
        if self.unlabelled < _MIN_UNLABELLED or not self.labelled:
            return 0.5
        return 0.5 + 0.5 * (self.unlabelled_missing / self.unlabelled - self.labelled_missing / self.labelled)

    def words(self) -> str:
        """The evidence as a person reads it."""
        return (
            f"missing in {percent(self.unlabelled_missing, self.unlabelled)} of the rows without a label and "
            f"{percent(self.labelled_missing, self.labelled)} of those with one (AUC {self.auc():.3f}), so it is "
            "recorded by the event that makes the label known"
        )


def written_by_outcome(missing: np.ndarray, labels: np.ndarray, looks: int) -> Iterator[tuple[float, str]]:
    """(lower bound of the share of one label, evidence) for each pattern that holds; bool [N], class codes [N]."""
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) < 2:
        return
    level = CHANCE / (2 * max(looks, 1) * len(classes))
    for there, word in ((~missing, "present"), (missing, "missing")):
        rows = int(there.sum())
        if not _MIN_ROWS <= rows <= len(labels) - _MIN_ROWS:
            continue
        for value in classes[np.argsort(-counts, kind="stable")[:_MAX_CLASSES]]:
            of_class = labels == value
            hits, others = int(of_class[there].sum()), int(of_class[~there].sum())
            if hits / rows < PURE:
                continue
            low = float(stats.beta.ppf(level, hits, rows - hits + 1))
            odds = (hits + 0.5) / (rows - hits + 0.5)
            other_odds = (others + 0.5) / (len(labels) - rows - others + 0.5)
            if low > SURELY and odds > _ODDS_RATIO * other_odds:
                yield (
                    low,
                    f"{word} in {rows:,} rows, {percent(hits, rows)} of which have one label, as have "
                    f"{percent(others, len(labels) - rows)} of the others: it is written by the outcome",
                )


def percent(part: int, whole: int) -> str:
    """Three digits."""
    return f"{100 * part / whole:.3g} %" if whole else "none"
