"""Leaks as the profile's page shows them: one table, the worst first, on how many rows it rests."""

from fairlead.data.profile_record import LeakOfColumn, LeakScan, Profile
from fairlead.reports.model import Badge, Block, Cell, Table, Text

_MAX_ROWS = 40
_MORE_EVIDENCE = 2


def leak_blocks(profile: Profile) -> list[Block]:
    """What knows the label, here and in the set beside it; nothing where neither was looked at."""
    here = profile.leaks
    there = profile.against.leaks if profile.against is not None else None
    if here is None and there is None:
        return []
    note = _on_what(here, profile, "Looked at") if here is not None else ""
    if profile.against is not None:
        note += " There: " + (_on_what(there, profile.against, "looked at") if there else "no label.")
    mine = {entry.column: entry for entry in here.columns} if here is not None else {}
    theirs = {entry.column: entry for entry in there.columns} if there is not None else {}
    names = list(dict.fromkeys((*mine, *theirs)))
    names.sort(key=lambda name: _rank(mine.get(name), theirs.get(name)))
    if not names:
        return [Text(f"No column comes near its bound by itself, in a pair, or by being missing. {note}")]
    rows = [_row(name, mine.get(name), theirs.get(name), two=there is not None) for name in names[:_MAX_ROWS]]
    columns = ("Column", *(("Here", "There") if there is not None else ("",)), "Kind", "Score", "Bound", "Evidence")
    if len(names) > _MAX_ROWS:
        note = f"The first {_MAX_ROWS} of {len(names):,}. {note}"
    return [Table(columns, rows, note=note)]


def leak_badge(entry: LeakOfColumn | None) -> Badge | None:
    """In a word or two."""
    if entry is None:
        return None
    if entry.allowed:
        return Badge("allowed", "info")
    if entry.severity == "info":
        return Badge("near its bound", "info")
    if not entry.feature:
        return Badge("not a feature", "warn")
    return Badge("leak", "fail") if entry.severity == "fail" else Badge("to look at", "warn")


def _rank(*entries: LeakOfColumn | None) -> tuple[int, bool, float]:
    order = ("fail", "warn", "info")
    return min(
        (order.index(entry.severity), not entry.allowed, entry.evidence[0].bound - entry.evidence[0].score)
        for entry in entries
        if entry is not None
    )


def _row(name: str, mine: LeakOfColumn | None, theirs: LeakOfColumn | None, *, two: bool) -> tuple[Cell, ...]:
    shown = mine if mine is not None else theirs
    assert shown is not None
    worst, *others = shown.evidence
    why = worst.why
    if mine is None and two:
        why = f"there {why}"
    more = [f"{item.kind} {item.score:.3f}" for item in others[:_MORE_EVIDENCE]]
    if more:
        why += f" (also: {', '.join(more)})"
    if shown.allowed:
        why += f". Allowed: {shown.reason}" if shown.reason else ". Allowed without a reason"
    badges = (leak_badge(mine) or "", leak_badge(theirs) or "") if two else (leak_badge(mine),)
    return (name, *badges, worst.kind, round(worst.score, 3), round(worst.bound, 3), why)


def _on_what(scan: LeakScan, profile: Profile, word: str) -> str:
    others = "the columns that are no features, in all rows"
    if scan.not_done:
        return f"{word}: only {others}. The features were not scanned: {scan.not_done}."
    rows = "all rows" if scan.whole else f"{scan.rows:,} of {profile.rows:,} rows"
    return f"{word}: the features, in {rows} ({scan.training_rows:,} as training rows); {others}."
