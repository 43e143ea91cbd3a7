"""Leaks as a profile lists them: one entry a column, from the scan of the features and from the ties of all columns.

One scale: "fail" is what `fairlead data split` refuses, "warn" what it tells and what a column that is no feature would
be refused for, "info" what is allowed by name or lies near its bound.
"""

from collections.abc import Iterable

from fairlead.data.leaks import NEAR_KINDS
from fairlead.data.leaks.identity import UNIQUE
from fairlead.data.profile_leaks import Scan
from fairlead.data.profile_record import ColumnProfile, LeakEvidence, LeakOfColumn, LeakScan, Profile
from fairlead.records.data import LeakFinding
from fairlead.spec.project import Project

_ORDER = {"fail": 0, "warn": 1, "info": 2}
_OVER_ALL = "over all rows"


def leak_list(project: Project, profile: Profile, scan: Scan) -> LeakScan:
    """The scan's findings and what it did not look at, ranked."""
    found: dict[str, list[LeakFinding]] = {}
    repeated = set() if scan.whole else {column.name for column in profile.columns if _repeats(column)}
    for finding in scan.findings:
        if finding.kind != "identifier" or finding.feature not in repeated:
            found.setdefault(finding.feature, []).append(finding)
    listed = [_scanned(column, findings) for column, findings in found.items()]
    features = set(project.features.names())
    reasons = project.data.leaks.reasons()
    for column in profile.columns:
        if column.name not in found and (evidence := _tied(project, column)) is not None:
            feature, allowed = column.name in features, column.name in reasons
            fails = feature and bool(scan.not_done)
            listed.append(
                LeakOfColumn(
                    column=column.name,
                    severity="info" if allowed else "fail" if fails else "warn",
                    feature=feature,
                    allowed=allowed,
                    reason=reasons.get(column.name, ""),
                    evidence=(evidence,),
                )
            )
    return LeakScan(
        rows=scan.rows,
        training_rows=scan.training,
        whole=scan.whole,
        not_done=scan.not_done,
        columns=tuple(sorted(listed, key=_rank)),
    )


def _rank(entry: LeakOfColumn) -> tuple[int, bool, float, str]:
    worst = entry.evidence[0]
    return (_ORDER[entry.severity], not entry.allowed, worst.bound - worst.score, entry.column)


def _scanned(column: str, findings: Iterable[LeakFinding]) -> LeakOfColumn:
    """`findings` of one column, the worst first."""
    every = tuple(findings)
    refused = any(finding.severe and not finding.allowed for finding in every)
    told = any(not finding.severe and finding.kind not in NEAR_KINDS for finding in every)
    allowed = any(finding.severe and finding.allowed for finding in every)
    return LeakOfColumn(
        column=column,
        severity="fail" if refused else "warn" if told and not allowed else "info",
        feature=True,
        allowed=allowed,
        reason=next((finding.reason for finding in every if finding.reason), "") if allowed else "",
        evidence=tuple(
            LeakEvidence(kind=f.kind, score=f.score, bound=f.bound, severe=f.severe, why=f.why) for f in every
        ),
    )


def _repeats(column: ColumnProfile) -> bool:
    """Values that repeat in all rows look all different in few of them."""
    return column.distinct * (1 + 2 * column.distinct_error) < UNIQUE * (column.rows - column.missing)


def _tied(project: Project, column: ColumnProfile) -> LeakEvidence | None:
    """What a column alone says of the label over all rows, when that is more than its bound."""
    tie, bound = column.tie, project.data.leaks.max_auc
    if tie is None or max(tie.auc or 0.0, tie.missing_auc) - tie.error <= bound:
        return None
    by_value = tie.auc is not None and tie.auc >= tie.missing_auc
    area = tie.auc if by_value and tie.auc is not None else tie.missing_auc
    how = "ranks" if by_value else "by being missing ranks"
    why = f"it alone {how} the rows with {tie.label} above the others with an AUC of {area:.3f}, {_OVER_ALL}"
    return LeakEvidence(kind="strength", score=round(area, 6), bound=bound, severe=True, why=why)
