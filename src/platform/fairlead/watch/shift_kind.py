"""Which part of the joint distribution of features x and label y moved between two windows.

    covariate shift   P(x) moved, P(y | x) did not
    label shift       P(y) moved, P(x | y) did not
    concept drift     P(y | x) moved, P(x) did not
    mixed             more than one of them moved; the two windows alone cannot tell cause from consequence

(Moreno-Torres, Raeder, Alaiz-Rodriguez, Chawla, Herrera 2012, "A unifying view on dataset shift in classification".)

P(y | x) is compared within tenths of a score: the log-odds of the label by naive Bayes over tenths and frequent values
of the features, fitted on half of the reference rows, compared on the other half. A difference of label rates in a
tenth counts when it is above `LEAST_GAP` and above what sampling explains (Hoeffding, Bonferroni over the tenths). The
score is no sufficient summary of x, so a strong covariate shift may pass for a concept drift of a few percent; and
without labels of the live rows nothing at all is known of P(y | x), which is then said.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fairlead.features.categories import category_array
from fairlead.features.encoders import numbers_of_array
from fairlead.features.instants import part_array, wall_clock_array
from fairlead.records.drift import ColumnDrift, Measure, ShiftKind
from fairlead.watch.windows import DEFAULT, Judgement, compare_windows

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

LEAST_GAP = 0.05
_TENTHS = 10
_LEAST_ROWS = 500
_LEAST_IN_TENTH = 50
_TOP = 20
_Z = 1.959964


def tell_shift(
    reference: pa.Table,
    live: pa.Table,
    labels: tuple[Floats | None, Floats | None],
    kinds: Mapping[str, str],
    columns: Sequence[ColumnDrift],
    judgement: Judgement = DEFAULT,
) -> ShiftKind:
    """`labels`: 1 or 0 for each row of reference and live (NaN: no label yet), or None where there are none. `columns`:
    what `compare_windows` found of the features."""
    moved = [column for column in columns if column.moved]
    told = f"{len({c.column for c in moved})} features moved" if moved else "no feature moved"
    known = [np.zeros(0, bool) if side is None else np.isfinite(side) for side in labels]
    if labels[0] is None or labels[1] is None or min(side.sum() for side in known) < _LEAST_ROWS:
        few = [int(side.sum()) for side in known]
        why = (
            f"{told}; {few[0]:,} rows of the reference and {few[1]:,} live rows have a label, {_LEAST_ROWS} of each are"
            " needed: whether the label still follows from the features as it did cannot be told"
        )
        return ShiftKind("unknown" if moved else "none", why)
    reference, live = reference.filter(pa.array(known[0])), live.filter(pa.array(known[1]))
    y = labels[0][known[0]], labels[1][known[1]]
    label = _label_rate(y, judgement)
    gap = _answers(reference, live, y, kinds, judgement)
    by_label = _within_labels(reference, live, y, kinds, judgement)
    kind, why = _verdict(moved=bool(moved), label=label.moved, concept=gap.moved, within=by_label)
    within = f"; among rows of one label {len(by_label)} features moved"
    return ShiftKind(kind, f"{why} ({told}; {label.what}; {gap.what}{within})", (label.measure, gap.measure))


@dataclass(frozen=True, slots=True)
class _Part:
    """One of the compared distributions: moved or not, in words and in numbers."""

    moved: bool
    what: str
    measure: Measure


def _verdict(*, moved: bool, label: bool, concept: bool, within: Sequence[str]) -> tuple[str, str]:
    if not moved and not label and not concept:
        return "none", "nothing moved beyond chance and the declared distance"
    if concept and not moved:
        return "concept", "the same features, other labels: the answer itself changed"
    if moved and not concept:
        also = "; the label's rate moved with them" if label else ""
        return "covariate", f"other rows, but rows alike have the labels that they had{also}"
    if label and not within:
        return "label", "the label's rate moved, and among rows of one label the features did not"
    if label and not moved:
        return "label", "the label's rate moved, the features did not"
    return "mixed", "features and the label given the features moved; these windows cannot tell which came first"


def _label_rate(y: tuple[Floats, Floats], judgement: Judgement) -> _Part:
    rates = float(y[0].mean()), float(y[1].mean())
    gap = rates[1] - rates[0]
    error = _Z * math.sqrt(sum(rate * (1 - rate) / len(side) for rate, side in zip(rates, y, strict=True)))
    chance = sum(math.sqrt(math.log(4 / judgement.alarm) / (2 * len(side))) for side in y)
    what = f"label rate {rates[1]:.1%}, {rates[0]:.1%} before"
    return _Part(abs(gap) > max(LEAST_GAP, chance), what, Measure("label_rate", gap, gap - error, gap + error))


def _answers(
    reference: pa.Table, live: pa.Table, y: tuple[Floats, Floats], kinds: Mapping[str, str], judgement: Judgement
) -> _Part:
    """Label rates of rows alike: within tenths of the score."""
    fitted = np.arange(reference.num_rows) % 2 == 0
    score_of_reference, score_of_live = np.zeros(reference.num_rows), np.zeros(live.num_rows)
    for name, kind in kinds.items():
        codes = _codes(reference, live, name, kind)
        if codes is not None:
            odds = _log_odds(codes[0][fitted], y[0][fitted])
            score_of_reference += odds[codes[0]]
            score_of_live += odds[codes[1]]
    cuts = np.quantile(score_of_reference, np.linspace(0, 1, _TENTHS + 1)[1:-1])
    tenth = np.searchsorted(cuts, score_of_reference), np.searchsorted(cuts, score_of_live)
    gaps: list[tuple[float, float, int, float]] = []
    for number in range(_TENTHS):
        a, b = y[0][~fitted & (tenth[0] == number)], y[1][tenth[1] == number]
        if min(len(a), len(b)) >= _LEAST_IN_TENTH:
            chance = sum(math.sqrt(math.log(4 * _TENTHS / judgement.alarm) / (2 * len(side))) for side in (a, b))
            variance = float(a.var()) / len(a) + float(b.var()) / len(b)
            gaps.append((float(b.mean() - a.mean()), chance, len(b), variance))
    if not gaps:
        return _Part(False, "no tenth of the score has rows of both windows", Measure("answers", 0.0, -1.0, 1.0))
    weights = np.array([count for _, _, count, _ in gaps]) / sum(count for _, _, count, _ in gaps)
    mean = float(sum(w * gap for w, (gap, _, _, _) in zip(weights, gaps, strict=True)))
    error = _Z * math.sqrt(sum(w * w * v for w, (_, _, _, v) in zip(weights, gaps, strict=True)))
    worst = max(gaps, key=lambda one: abs(one[0]))
    moved = any(abs(gap) > max(LEAST_GAP, chance) for gap, chance, _, _ in gaps)
    what = f"rows alike: label rate {mean:+.1%} on average, {worst[0]:+.1%} in the tenth that differs most"
    return _Part(moved, what, Measure("answers", mean, mean - error, mean + error))


def _within_labels(
    reference: pa.Table, live: pa.Table, y: tuple[Floats, Floats], kinds: Mapping[str, str], judgement: Judgement
) -> list[str]:
    names: set[str] = set()
    for value in (0.0, 1.0):
        sides = reference.filter(pa.array(y[0] == value)), live.filter(pa.array(y[1] == value))
        if min(side.num_rows for side in sides) >= _LEAST_ROWS:
            found = compare_windows(*sides, kinds, judgement)
            names |= {column.column for column in found if column.moved}
    return sorted(names)


def _codes(reference: pa.Table, live: pa.Table, name: str, kind: str) -> tuple[Codes, Codes] | None:
    """The column in at most `_TOP` + 1 classes that the reference fixes; None when it has nothing to say."""
    if name not in reference.column_names or name not in live.column_names:
        return None
    sides = reference[name].combine_chunks(), live[name].combine_chunks()
    if kind in ("int", "float"):
        values = [numbers_of_array(side, name) for side in sides]
        finite = values[0][np.isfinite(values[0])]
        if not len(finite):
            return None
        cuts = np.unique(np.quantile(finite, np.linspace(0, 1, _TENTHS + 1)[1:-1]))
        return _pair([np.where(np.isfinite(v), np.searchsorted(cuts, v) + 1, 0).astype(np.int64) for v in values])
    if kind in ("string", "bool"):
        texts = [category_array(side) for side in sides]
        found = texts[0].value_counts().to_pylist()
        ordered = sorted((i for i in found if i["values"] is not None), key=lambda item: -item["counts"])
        index = {item["values"]: code for code, item in enumerate(ordered[:_TOP], start=1)}
        return _pair([np.array([index.get(text, 0) for text in side.to_pylist()], np.int64) for side in texts])
    if kind == "timestamp":
        clocks = [wall_clock_array(side) for side in sides]
        return _pair([np.where(np.isnat(c), 0, part_array(c, "hour") + 1).astype(np.int64) for c in clocks])
    return None


def _pair(codes: Sequence[Codes]) -> tuple[Codes, Codes]:
    return codes[0], codes[1]


def _log_odds(codes: Codes, y: Floats) -> Floats:
    """ln P(code | 1) / P(code | 0) of every code, half a row added."""
    size = 32
    positive = np.bincount(codes, weights=y, minlength=size) + 0.5
    negative = np.bincount(codes, weights=1 - y, minlength=size) + 0.5
    return np.asarray(np.log(positive / positive.sum()) - np.log(negative / negative.sum()))
