"""The scan of features, one by one and in pairs, on a sample of the training split."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa

from fairlead.data.leaks.columns import clocks_of, feature_columns
from fairlead.data.leaks.findings import Findings
from fairlead.data.leaks.identity import CLOCK, UNIQUE, clocks_in_disguise, identifiers
from fairlead.data.leaks.pairs import JOINT_GAIN, alike, difference, joint_pairs, joint_strengths
from fairlead.data.leaks.presence import SURELY, MissingCounts, written_by_outcome
from fairlead.data.leaks.strength import Target
from fairlead.records.data import LeakFinding
from fairlead.spec.features import Features

_NEAR = 0.1


def scan_leaks(
    rows: pa.Table,
    labels: np.ndarray,
    features: Features,
    task: str,
    *,
    missing: Mapping[str, MissingCounts],
    max_auc: float,
    allow: Mapping[str, str] | Sequence[str],
    time: str | None = None,
    num_rows: int | None = None,
    repeated: Collection[str] = (),
) -> tuple[LeakFinding, ...]:
    """Findings on a sample of the training split, worst first.

    `rows` holds the features (and `time`, the column of the row's time), `labels` int64 [N] class codes or float64 [N];
    `num_rows` is the size of the split, `repeated` names what is no identifier by all of its rows. A finding is severe
    when its score is above the bound; those of single features within 0.1 below it are listed as well.
    """
    scan = _Scan(rows, labels, features, task, max_auc, Findings(_reasons(allow)))
    scan.single(missing)
    scan.presence()
    scan.differences()
    scan.combinations()
    for name, score, why in identifiers(rows, features, num_rows or rows.num_rows):
        if name not in repeated:
            scan.findings.note(name, "identifier", score, UNIQUE, why, severe=False)
    for name, score, why in clocks_in_disguise(rows, scan.columns, time):
        scan.findings.note(name, "clock", score, CLOCK, why, severe=False)
    return scan.findings.ranked()


class _Scan:
    """The rules, in the order in which the next needs the last."""

    def __init__(
        self, rows: pa.Table, labels: np.ndarray, features: Features, task: str, max_auc: float, findings: Findings
    ) -> None:
        self.rows, self.labels, self.features, self.task = rows, labels, features, task
        self.max_auc, self.findings = max_auc, findings
        self.target = Target(labels, task, max_auc)
        self.columns = feature_columns(rows, features)
        self.clocks = clocks_of(rows, features, self.columns)
        self.pairs = alike(self.columns, tuple(features.numeric), self.clocks)
        self.looks = max(1, len(self.columns) + len(self.pairs) + len(joint_pairs(self.columns)))
        self.target.looks = self.looks
        self.own: dict[str, float] = {}
        self.late: dict[str, float] = {}

    def single(self, missing: Mapping[str, MissingCounts]) -> None:
        """Each feature by itself, and its being there when the label is."""
        parts: dict[str, str] = {}
        for (name, part), column in self.columns.items():
            score = self.target.score(column)
            if score > self.own.get(name, 0.0):
                self.own[name], parts[name] = score, f"its {part}" if part else "it"
        for name, score in self.own.items():
            self._note(
                name,
                "strength",
                score,
                self.target.bound,
                f"{parts[name]} alone ranks the label with {self.target.words(score)}",
            )
        for name, counts in missing.items():
            self.late[name] = counts.auc()
            self._note(name, "known with the label", self.late[name], self.max_auc, counts.words())

    def presence(self) -> None:
        """Features that one outcome writes."""
        if self.task == "regression":
            return
        for name in self.features.names():
            array = self.rows[name].combine_chunks()
            missing = array.is_null(nan_is_null=True) if pa.types.is_floating(array.type) else array.is_null()
            flags = np.asarray(missing.to_numpy(zero_copy_only=False))
            for score, why in written_by_outcome(flags, self.labels, len(self.features.names())):
                self.findings.note(name, "written by the outcome", score, SURELY, why, severe=True)

    def differences(self) -> None:
        """Pairs by their difference. The blame is on the one that is also known with the label only, else on the one
        that says more by itself: an outcome carries its plan and the deviation from it."""
        for first, second in self.pairs:
            if self._blamed(first, second):
                continue
            score = self.target.score(difference(first, second, self.columns, self.clocks))
            if score <= self.target.bound:
                continue
            both = self.clocks if first in self.clocks and second in self.clocks else None
            strength = {
                name: (self.late.get(name, 0.5), self.target.score(both[name] if both else self.columns[name, ""]))
                for name in (first, second)
            }
            guilty, other = sorted(strength, key=lambda name: strength[name], reverse=True)
            why = f"its difference to {other} ranks the label with {self.target.words(score)}"
            self._note(guilty, "difference", score, self.target.bound, why)

    def combinations(self) -> None:
        """Pairs by their combination; the blame is on the one that says more by itself."""
        severe = {finding.feature for finding in self.findings.ranked() if finding.severe}
        gain = JOINT_GAIN / 10 if self.target.regression else JOINT_GAIN
        found = joint_strengths(self.columns, self.labels, self.task, self.max_auc, self.looks)
        for first, second, score, alone in found:
            if score <= self.target.bound or score - alone <= gain or severe & {first, second}:
                continue
            guilty, other = sorted((first, second), key=lambda name: -self.own.get(name, 0.0))
            why = (
                f"together with {other} it ranks the label with {self.target.words(score)}; the better one alone has "
                f"{alone:.3f}"
            )
            self._note(guilty, "combination", score, self.target.bound, why)

    def _blamed(self, first: str, second: str) -> bool:
        return max(self.own.get(first, 0.0), self.own.get(second, 0.0)) > self.target.bound

    def _note(self, name: str, kind: str, score: float, bound: float, why: str) -> None:
        if score > bound - _NEAR:
            self.findings.note(name, kind, score, bound, why, severe=score > bound)


def _reasons(allow: Mapping[str, str] | Sequence[str]) -> Mapping[str, str]:
    return allow if isinstance(allow, Mapping) else dict.fromkeys(allow, "")
