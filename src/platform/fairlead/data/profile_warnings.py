"""What a person should look at first, found in a profile."""

from collections.abc import Iterator

from fairlead.data.profile_record import ColumnProfile, Finding, LeakOfColumn, Profile
from fairlead.spec.project import Project

_MOSTLY_MISSING = 0.5
_IDENTIFIER = 0.95
_SHIFT = 0.15
_SURGE = 0.2
_MAX = 40
_MAX_EVIDENCE = 3


def findings(project: Project, profile: Profile, mixed: set[str], broken_rows: int = 0) -> tuple[Finding, ...]:
    """Warnings, the worst first."""
    used = set(project.features.names())
    found: list[Finding] = []
    if broken_rows:
        found.append(Finding(severity="warn", column="", what=f"{broken_rows:,} rows could not be split into columns"))
    found += _leaks(profile)
    for column in profile.columns:
        found += _of_column(column, used, column.name in mixed, profile)
    order = {"fail": 0, "warn": 1}
    return tuple(sorted(found, key=lambda item: order[item.severity])[:_MAX])


def _of_column(column: ColumnProfile, used: set[str], mixed: bool, profile: Profile) -> Iterator[Finding]:
    name, present = column.name, column.rows - column.missing - column.infinite

    def warn(what: str, why: str = "") -> Finding:
        return Finding(severity="warn", column=name, what=f"{name}: {what}", why=why)

    if mixed:
        yield warn("text in one file, numbers in another", "The values of the kind that came later count as missing.")
    if column.unreadable:
        yield warn(f"{column.unreadable:,} values are not of the schema's type", "They count as missing.")
    if column.infinite:
        yield warn(f"{column.infinite:,} infinite numbers", "Left out of mean, quantiles and distribution.")
    if not present:
        yield warn("no value at all")
        return
    if column.distinct == 1 and column.rows > 1 and not column.missing and column.kind not in ("tensor", "other"):
        yield warn("one value only")
    share = column.missing / column.rows
    if share > _MOSTLY_MISSING:
        yield warn(f"{share:.0%} missing")
    told = profile.leaks is not None and any(
        entry.column == name and any(item.kind == "identifier" for item in entry.evidence)
        for entry in profile.leaks.columns
    )
    if name in used and not told and column.kind == "string" and column.distinct > max(1000, _IDENTIFIER * present):
        yield warn("nearly every row has a value of its own", "As a category it tells little more than an identifier.")
    yield from _by_month(column, name in used)
    if name in used and column.drift is not None and column.drift.sure and column.drift.value > _SHIFT:
        yield warn(f"distance {column.drift.value:.2f} from the other set")


def _leaks(profile: Profile) -> Iterator[Finding]:
    """A finding a column: what is refused or to be looked at, here, and what would be refused of the other set only."""
    here = profile.leaks.columns if profile.leaks is not None else ()
    for entry in here:
        if entry.severity != "info":
            yield Finding(severity=entry.severity, column=entry.column, what=_leak_title(entry), why=_leak_why(entry))
    refused = {entry.column for entry in here if entry.severity == "fail"}
    other = profile.against
    for entry in other.leaks.columns if other is not None and other.leaks is not None else ():
        if other is not None and entry.severity == "fail" and entry.column not in refused:
            what = f"{_leak_title(entry)} in {other.source}"
            yield Finding(severity="warn", column=entry.column, what=what, why=_leak_why(entry))


def _leak_title(entry: LeakOfColumn) -> str:
    worst = entry.evidence[0]
    if not worst.severe:
        return f"{entry.column}: {worst.kind}"
    return f"{entry.column} knows the label{'' if entry.feature else ' (not a feature)'}"


def _leak_why(entry: LeakOfColumn) -> str:
    severe = [item.why for item in entry.evidence if item.severe == entry.evidence[0].severe]
    why = "; ".join(severe[:_MAX_EVIDENCE])
    fix = ""
    if entry.severity == "fail":
        fix = " Take it out, or name it in data.leaks.allow with the reason."
    elif not entry.feature:
        fix = " Do not make it a feature."
    return f"{why[:1].upper()}{why[1:]}.{fix}"


def _by_month(column: ColumnProfile, feature: bool) -> Iterator[Finding]:
    months = column.groups.get("month", {})
    share = column.missing / column.rows
    for month, group in months.items():
        if group.rows >= 100 and group.missing / group.rows > share + _SURGE:
            what = f"{column.name}: {group.missing / group.rows:.0%} missing in {month}, {share:.0%} overall"
            yield Finding(severity="warn", column=column.name, what=what)
            return
    if feature and column.kind in ("string", "bool"):
        for month, group in months.items():
            if group.drift is not None and group.drift.sure and group.drift.value > _SHIFT:
                what = f"{column.name}: other shares in {month} (distance {group.drift.value:.2f})"
                yield Finding(severity="warn", column=column.name, what=what)
                return
