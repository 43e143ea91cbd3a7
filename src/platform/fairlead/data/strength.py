"""How well a single column predicts the label, on a sample: to leave out what knows the answer."""

import numpy as np
import pyarrow as pa
from scipy.stats import rankdata

from fairlead.data.labels import Labels
from fairlead.features.categories import category_array

_MAX_CLASSES = 20
_MIN_ROWS = 30


def strength(values: pa.Array, kind: str, labels: Labels) -> float:
    """The AUC of the column by itself, in the better direction (several classes: of the best one against the rest); for
    regression the absolute rank correlation. Missing values are a value of their own. 0 when there is too little to
    say. Categories are scored on rows other than those that their rates come from."""
    codes = labels.codes
    if len(codes) < _MIN_ROWS:
        return 0.0
    if labels.task == "regression":
        return _correlation(values, kind, codes)
    classes = [1] if labels.task == "binary" else range(min(len(labels.classes), _MAX_CLASSES))
    return max(_auc_of(values, kind, codes == number) for number in classes)


def _auc_of(values: pa.Array, kind: str, positive: np.ndarray) -> float:
    if kind in ("int", "float", "timestamp"):
        numbers = _numbers(values)
        low = np.where(np.isnan(numbers), -np.inf, numbers)
        area = auc(low, positive)
        return max(area, 1 - area)
    half = np.arange(len(positive)) % 2 == 0
    rates = _rates(values, positive.astype(float), half)
    area = auc(rates[~half], positive[~half])
    return max(area, 1 - area)


def _correlation(values: pa.Array, kind: str, target: np.ndarray) -> float:
    if kind in ("int", "float", "timestamp"):
        numbers = _numbers(values)
        kept = ~np.isnan(numbers)
    else:
        half = np.arange(len(target)) % 2 == 0
        numbers, kept = _rates(values, target, half), ~half
    if kept.sum() < _MIN_ROWS or np.ptp(numbers[kept]) == 0 or np.ptp(target[kept]) == 0:
        return 0.0
    return float(abs(np.corrcoef(rankdata(numbers[kept]), rankdata(target[kept]))[0, 1]))


def auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """The chance that a positive row scores above a negative one (Mann and Whitney 1947); 0.5 with one class only."""
    ups, downs = int(positive.sum()), int((~positive).sum())
    if not ups or not downs:
        return 0.5
    ranks = rankdata(scores)
    return float((ranks[positive].sum() - ups * (ups + 1) / 2) / (ups * downs))


def _numbers(values: pa.Array) -> np.ndarray:
    if pa.types.is_temporal(values.type):
        values = values.cast(pa.timestamp("us")).cast(pa.int64())
    return np.asarray(values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)


def _rates(values: pa.Array, target: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    """The mean of `target` for each row's category, from the rows in `fitted` alone; the overall mean for others."""
    encoded = category_array(values).dictionary_encode(null_encoding="encode")
    index = encoded.indices.to_numpy(zero_copy_only=False)
    size = len(encoded.dictionary)
    counts = np.bincount(index[fitted], minlength=size)
    sums = np.bincount(index[fitted], weights=target[fitted], minlength=size)
    overall = target[fitted].mean()
    return np.asarray(np.where(counts > 0, sums / np.maximum(counts, 1), overall))[index]
