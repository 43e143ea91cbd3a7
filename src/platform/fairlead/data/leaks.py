"""Features that know the answer: looked for one by one, on the training split, before anything is trained.

Three rules, each with the bound `data.leaks.max_auc`:

1. *Own strength.* The feature alone ranks the rows by label with an AUC above the bound. Numbers are ranked by value
   and, to see what is not monotone, by the label's mean in 50 bins; categories and calendar parts by the label's mean
   of their value. These means are out of fold (each fifth of the rows is ranked by the other four), otherwise an
   identifier with a value a row would look perfect. Missing values are a bin of their own.
2. *Difference of two features.* dep_time says little, and so does sched_dep_time, but their difference is the delay.
   Pairs of numbers that move together (correlation above 0.8), and pairs of clock times (integers that read as HHMM,
   and the time of day of points in time), are ranked by their difference. The blame is on the one that is also known
   late by rule 3, else on the one that says more by itself: an outcome carries its plan and the deviation from it.
3. *Known only with the label.* The feature is there when the label is there and missing when it is missing. The AUC of
   "is missing" between labelled and unlabelled rows is above the bound, so both are recorded by the same event, after
   the moment of prediction (a flight that never landed has neither an arrival delay nor an air time).

For several classes an AUC is the largest of one class against the rest. For regression the score is |rank correlation|
and the bound 1 - (1 - max_auc) / 10, since honest predictors of amounts do correlate by 0.9. A score counts only when
chance among all that was looked at explains it with less than one in a thousand (normal approximation of the
Mann-Whitney statistic, Mann and Whitney 1947, Bonferroni).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import stats

from fairlead.errors import LeakFound
from fairlead.features.categories import category_array
from fairlead.features.encoders import numbers_of_array
from fairlead.features.hashing import mix
from fairlead.features.instants import part_array, wall_clock_array
from fairlead.records.data import LeakFinding
from fairlead.spec.features import Features

SAMPLE_ROWS = 100_000
_FOLDS = 5
_BINS = 50
_MAX_CLASSES = 20
_PAIR_ROWS = 20_000
_PAIR_COLUMNS = 60
_PAIR_CORRELATION = 0.8
_MIN_UNLABELLED = 30
_CHANCE = 1e-3
_NEAR = 0.1


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


def scan_leaks(
    rows: pa.Table,
    labels: np.ndarray,
    features: Features,
    task: str,
    *,
    missing: Mapping[str, MissingCounts],
    max_auc: float,
    allow: Sequence[str],
) -> tuple[LeakFinding, ...]:
    """Findings on a sample of the training split, worst first.

    `rows` holds the features, `labels` int64 [N] class codes or float64 [N]. A finding is severe when its score is
    above the bound; those within 0.1 below it are listed as well.
    """
    target = _Target(labels, task, max_auc)
    columns = _feature_columns(rows, features)
    clocks = _clocks(rows, features, columns)
    pairs = _pairs(columns, features, clocks)
    target.looks = max(1, len(columns) + len(pairs))
    own: dict[str, tuple[float, str]] = {}
    for (name, part), column in columns.items():
        score = target.score(column)
        if score > own.get(name, (0.0, ""))[0]:
            own[name] = (score, f"its {part}" if part else "it")
    found: dict[str, LeakFinding] = {}

    def note(name: str, score: float, bound: float, why: str) -> None:
        finding = LeakFinding(name, round(score, 6), bound, score > bound, name in allow, why)
        if score > bound - _NEAR and (name not in found or score - bound > found[name].score - found[name].bound):
            found[name] = finding

    for name, (score, who) in own.items():
        note(name, score, target.bound, f"{who} alone ranks the label with {target.words(score)}")
    late = {name: counts.auc() for name, counts in missing.items()}
    for name, score in late.items():
        counts = missing[name]
        note(
            name,
            score,
            max_auc,
            f"missing in {_percent(counts.unlabelled_missing, counts.unlabelled)} of the rows without a label and "
            f"{_percent(counts.labelled_missing, counts.labelled)} of those with one (AUC {score:.3f}), so it is "
            "recorded by the event that makes the label known",
        )
    for first, second in pairs:
        if max(own.get(first, (0.0, ""))[0], own.get(second, (0.0, ""))[0]) > target.bound:
            continue
        score = target.score(_difference(first, second, columns, clocks))
        if score > target.bound:
            alike = clocks if first in clocks and second in clocks else {n: columns[n, ""] for n in (first, second)}
            strength = {name: (late.get(name, 0.5), target.score(alike[name])) for name in (first, second)}
            guilty, other = sorted(strength, key=lambda name: strength[name], reverse=True)
            note(guilty, score, target.bound, f"its difference to {other} ranks the label with {target.words(score)}")
    return tuple(sorted(found.values(), key=lambda finding: (-finding.severe, -finding.score, finding.feature)))


def refuse_leaks(findings: Sequence[LeakFinding]) -> None:
    """Raises LeakFound naming every severe finding that is not allowed."""
    leaks = [finding for finding in findings if finding.severe and not finding.allowed]
    if leaks:
        names = ", ".join(finding.feature for finding in leaks)
        raise LeakFound(
            f"{len(leaks)} feature{'s know' if len(leaks) > 1 else ' knows'} the answer: {names}",
            where="features",
            why="; ".join(f"{finding.feature}: {finding.why}" for finding in leaks),
            fix=f"drop them from features, or, when they are known at prediction time, set data.leaks.allow: [{names}]",
        )


class _Target:
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
        codes = column if is_code else _binned(column)
        best = 0.0
        for target in self.targets:
            candidates = [_out_of_fold(codes, target, self.folds)]
            if not is_code:
                known = ~np.isnan(column)
                filled = np.where(known, column, np.median(column[known]) if known.any() else 0.0)
                candidates.append(filled)
            best = max(best, *(self._strength(values, target) for values in candidates))
        return best

    def _strength(self, values: np.ndarray, target: np.ndarray) -> float:
        ranks = stats.rankdata(values)
        rows = len(ranks)
        if self.regression:
            if rows < 3 or ranks.std() == 0 or self._ranks.std() == 0:
                return 0.0
            correlation = abs(float(np.corrcoef(ranks, self._ranks)[0, 1]))
            chance = correlation * np.sqrt(rows - 1)
        else:
            positive = target.sum()
            negative = rows - positive
            if not positive or not negative:
                return 0.5
            auc = (ranks[target > 0].sum() - positive * (positive + 1) / 2) / (positive * negative)
            correlation = max(auc, 1 - auc)
            chance = (correlation - 0.5) / np.sqrt((rows + 1) / (12 * positive * negative))
        if stats.norm.sf(chance) * 2 * self.looks * len(self.targets) > _CHANCE:
            return 0.0 if self.regression else 0.5
        return float(correlation)


def _binned(values: np.ndarray) -> np.ndarray:
    """Codes of at most 50 equally full bins; missing is 0."""
    known = ~np.isnan(values)
    if not known.any():
        return np.zeros(len(values), np.int64)
    edges = np.unique(np.quantile(values[known], np.linspace(0, 1, _BINS + 1)[1:-1]))
    return np.where(known, np.searchsorted(edges, values, side="right") + 1, 0).astype(np.int64)


def _out_of_fold(codes: np.ndarray, target: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """float64 [N]: the target's mean of each row's code over the other folds, drawn to the overall mean by ten rows."""
    size = int(codes.max()) + 1 if len(codes) else 1
    sums = np.zeros((_FOLDS, size))
    counts = np.zeros((_FOLDS, size))
    np.add.at(sums, (folds, codes), target)
    np.add.at(counts, (folds, codes), 1)
    prior = 10 * target.mean() if len(target) else 0.0
    other_sums, other_counts = sums.sum(0) - sums, counts.sum(0) - counts
    means = (other_sums + prior) / (other_counts + 10)
    return np.asarray(means[folds, codes])


def _feature_columns(rows: pa.Table, features: Features) -> dict[tuple[str, str], np.ndarray]:
    """(feature, derived part or "") -> float64 [N] numbers with NaN, or int64 [N] codes."""
    columns: dict[tuple[str, str], np.ndarray] = {}
    for name in features.numeric:
        columns[name, ""] = numbers_of_array(rows[name].combine_chunks(), name)
    for name in features.categorical:
        encoded = pc.dictionary_encode(category_array(rows[name].combine_chunks()))
        columns[name, ""] = encoded.indices.fill_null(-1).to_numpy().astype(np.int64) + 1
    for name, options in features.datetime_options().items():
        clock = wall_clock_array(rows[name].combine_chunks())
        missing = np.isnat(clock)
        for part in options.parts:
            columns[name, part] = np.where(missing, 0, part_array(clock, part) + 1)
    return columns


def _clocks(rows: pa.Table, features: Features, columns: Mapping[tuple[str, str], np.ndarray]) -> dict[str, np.ndarray]:
    """Features that are a time of day: minutes after midnight, float64 [N] with NaN."""
    clocks = {}
    for name in features.numeric:
        values = columns[name, ""]
        known = values[~np.isnan(values)]
        whole = len(known) > 0 and bool(np.all((known >= 0) & (known <= 2400) & (known == np.floor(known))))
        if whole and np.all(known % 100 < 60) and known.max() >= 1300 and len(np.unique(known)) >= 24:
            clocks[name] = np.floor(values / 100) * 60 + values % 100
    for name in features.datetime:
        clock = wall_clock_array(rows[name].combine_chunks())
        minutes = part_array(clock, "hour") * 60.0 + part_array(clock, "minute")
        clocks[name] = np.where(np.isnat(clock), np.nan, minutes)
    return clocks


def _pairs(
    columns: Mapping[tuple[str, str], np.ndarray], features: Features, clocks: Mapping[str, np.ndarray]
) -> list[tuple[str, str]]:
    """Pairs of features of the same unit."""
    found = []
    names = list(clocks)
    for i, first in enumerate(names):
        found += [(first, second) for second in names[i + 1 :]]
    numbers = list(features.numeric)[:_PAIR_COLUMNS]
    for i, first in enumerate(numbers):
        for second in numbers[i + 1 :]:
            both_clocks = first in clocks and second in clocks
            a, b = columns[first, ""][:_PAIR_ROWS], columns[second, ""][:_PAIR_ROWS]
            if not both_clocks and _correlation(a, b) > _PAIR_CORRELATION:
                found.append((first, second))
    return found


def _difference(
    first: str, second: str, columns: Mapping[tuple[str, str], np.ndarray], clocks: Mapping[str, np.ndarray]
) -> np.ndarray:
    """float64 [N], NaN where one of the two is missing."""
    if first in clocks and second in clocks:
        # Around midnight: from 23:50 to 00:10 it is 20 minutes.
        return np.asarray((clocks[first] - clocks[second] + 720) % 1440 - 720)
    return np.asarray(columns[first, ""] - columns[second, ""])


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    known = ~np.isnan(a) & ~np.isnan(b)
    a, b = a[known], b[known]
    if len(a) < 30:
        return 0.0
    # Ranks would let different units pass; plain correlation of comparable magnitudes is wanted.
    spread_a, spread_b = float(a.std()), float(b.std())
    if min(spread_a, spread_b) <= 0 or max(spread_a, spread_b) > 3 * min(spread_a, spread_b):
        return 0.0
    return float(np.mean((a - a.mean()) * (b - b.mean())) / (spread_a * spread_b))


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.3g} %" if whole else "none"
