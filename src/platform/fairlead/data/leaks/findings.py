"""What the scan found, ranked; and the refusal."""

from collections.abc import Mapping, Sequence

from fairlead.errors import LeakFound
from fairlead.records.data import LeakFinding

NEAR_KINDS = ("strength", "known with the label", "difference", "combination")


class Findings:
    """Collects findings: of each feature the worst of each kind, severe ones first."""

    def __init__(self, allow: Mapping[str, str]) -> None:
        self._allow = allow
        self._found: dict[tuple[str, str], LeakFinding] = {}

    def note(self, name: str, kind: str, score: float, bound: float, why: str, *, severe: bool) -> None:
        """Add a finding about a feature (or the entity, or rows)."""
        finding = LeakFinding(
            name, round(score, 6), bound, severe, name in self._allow, why, kind, self._allow.get(name, "")
        )
        before = self._found.get((name, kind))
        if before is None or (finding.severe, finding.score) > (before.severe, before.score):
            self._found[name, kind] = finding

    def ranked(self) -> tuple[LeakFinding, ...]:
        """Severe ones first, then by how far above their bound they are."""
        return rank(tuple(self._found.values()))


def rank(findings: Sequence[LeakFinding]) -> tuple[LeakFinding, ...]:
    """Severe ones first, then by how far above their bound they are."""
    return tuple(sorted(findings, key=lambda f: (-f.severe, f.bound - f.score, f.feature, f.kind)))


def refuse_leaks(findings: Sequence[LeakFinding]) -> None:
    """Raises LeakFound naming every severe finding that is not allowed."""
    leaks = [finding for finding in findings if finding.severe and not finding.allowed]
    if leaks:
        names = list(dict.fromkeys(finding.feature for finding in leaks))
        listed = ", ".join(names)
        allowed = ", ".join(f"{name}: why it is known in time" for name in names)
        raise LeakFound(
            f"{len(names)} feature{'s know' if len(names) > 1 else ' knows'} the answer: {listed}",
            where="features",
            why="; ".join(f"{finding.feature}: {finding.why}" for finding in leaks),
            fix="drop them from features, or, when they are known at prediction time, set "
            f"data.leaks.allow: {{{allowed}}}",
        )


def told_leaks(findings: Sequence[LeakFinding]) -> tuple[str, ...]:
    """What is worth a warning though nothing is refused: findings that are no scores near their bound, and allowances
    without a reason."""
    told = [f"{f.feature}: {f.why}" for f in findings if not f.severe and f.kind not in NEAR_KINDS]
    bare = sorted({f.feature for f in findings if f.severe and f.allowed and not f.reason})
    if bare:
        told.append(f"data.leaks.allow gives no reason for {', '.join(bare)}: write it as {{name: reason}}")
    return tuple(told)
