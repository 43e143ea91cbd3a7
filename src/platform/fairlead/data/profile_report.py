"""The profile as people read it: warnings first, then the rows, the columns in one table, each column in a card."""

from collections.abc import Sequence

import numpy as np

from fairlead.data.profile_leak_report import leak_badge, leak_blocks
from fairlead.data.profile_record import ColumnProfile, GroupOfRows, LeakOfColumn, Profile, Value
from fairlead.reports.html import fits
from fairlead.reports.model import (
    Align,
    Badge,
    BarChart,
    Block,
    Boxes,
    Callout,
    Card,
    Cell,
    Histogram,
    KeyValues,
    Report,
    Ribbon,
    Section,
    Shares,
    Table,
    Text,
)

_CARDS = (80, 60, 40, 20, 10, 0)
_ALL = "All columns: fairlead data profile -o json."
_ALIGN: tuple[Align, ...] = ("left", "left", "right", "right", "right", "right", "right", "left")
_BARS = 6
_SHARES = 4
_MIB = 2**20
_FIVE = ("0.05", "0.25", "0.5", "0.75", "0.95")
_DRIFT_SHOWN = 0.1
_MOST_EXACT = 256
_SPLITS = ("train", "validation", "test")

Panel = tuple[str, Histogram | BarChart | Boxes | Shares]


def profile_report(profile: Profile) -> Report:
    """All of it, with as many columns drawn as fit the page; which are not is said there."""
    report = _report(profile, _CARDS[0])
    for cards in _CARDS[1:]:
        if fits(report):
            break
        report = _report(profile, cards)
    return report


def _report(profile: Profile, most: int) -> Report:
    sections = [Section("Overview", [*_warnings(profile), _overview(profile)])]
    if leaks := leak_blocks(profile):
        sections.append(Section("Leaks", leaks))
    sections.append(Section("Columns", [_table(profile)]))
    if profile.against is not None:
        sections.append(Section("Side by side", _side_by_side(profile)))
    if profile.label is not None:
        sections.append(Section("Label", _label(profile)))
    if ribbon := _ribbon(profile):
        sections.append(Section("Drift by month", ribbon))
    sections.append(Section("Missing", _missing(profile)))
    sections.append(Section("Distributions", _cards(profile, most)))
    files = "1 file" if profile.files == 1 else f"{profile.files:,} files"
    subtitle = f"{profile.source}: {profile.rows:,} rows, {len(profile.columns):,} columns, {files}"
    if profile.against is not None:
        subtitle += f"; beside {profile.against.source}, {profile.against.rows:,} rows"
    return Report(f"Profile of {profile.project}", subtitle, sections)


def _warnings(profile: Profile) -> list[Block]:
    return [Callout(finding.severity, finding.what, finding.why) for finding in profile.warnings]


def _overview(profile: Profile) -> KeyValues:
    total = sum(column.rows for column in profile.columns)
    missing = sum(column.missing for column in profile.columns)
    kinds: dict[str, int] = {}
    for column in profile.columns:
        kinds[column.kind] = kinds.get(column.kind, 0) + 1
    facts: list[tuple[str, Cell]] = [
        ("Rows", profile.rows),
        ("Columns", ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))),
        ("Missing values", f"{missing / total:.2%}" if total else None),
        ("Complete rows", f"{profile.rows_complete:,} ({profile.rows_complete / profile.rows:.1%})"),
    ]
    if profile.time is not None:
        clock = next(column for column in profile.columns if column.name == profile.time)
        facts.append((f"Time ({profile.time})", f"{clock.minimum} to {clock.maximum}"))
    if profile.memory_peak_bytes and profile.memory_limit_bytes:
        peak, limit = profile.memory_peak_bytes / _MIB, profile.memory_limit_bytes / _MIB
        facts.append(("Memory", f"{peak:,.0f} MiB at most, reading bounded by {limit:,.0f} MiB"))
    error = max((column.rank_error for column in profile.columns), default=0.0)
    distinct = max((column.distinct_error for column in profile.columns), default=0.0)
    sketched = [f"quantiles within ± {error:.2%} of the rows"] if error else []
    sketched += [f"numbers of different values marked ≈ within ± {2 * distinct:.0%}"] if distinct else []
    facts.append(("Exact", "all" if not sketched else f"all but {', '.join(sketched)}"))
    if profile.seconds:
        facts.append(("Time taken", f"{profile.seconds:.1f} s"))
    return KeyValues(facts)


# --- the table -------------------------------------------------------------------------------------------------------
def _table(profile: Profile) -> Table:
    names = ("Column", "Type", "Missing", "Different", "Min", "Median", "Max", "Most frequent")
    rows = [
        (
            column.name,
            column.kind,
            _percent(column.missing, column.rows),
            _different(column),
            _short(column.minimum),
            _short(column.quantiles.get("0.5")),
            _short(column.maximum),
            _most_frequent(column),
        )
        for column in profile.columns
    ]
    return Table(names, rows, _ALIGN, note=_ALL if len(rows) > _CARDS[0] else "")


def _percent(part: int, whole: int) -> str | None:
    if not whole:
        return None
    return "" if not part else "< 0.1%" if part / whole < 0.001 else f"{part / whole:.1%}"


def _different(column: ColumnProfile) -> str:
    about = "≈ " if column.distinct_error else ""
    number = float(f"{column.distinct:.3g}") if column.distinct_error else column.distinct
    return f"{about}{number:,.0f}"


def _short(value: float | str | None) -> str:
    if value is None or isinstance(value, str):
        return "" if value is None else value[:10]
    return f"{value:,.0f}" if abs(value) >= 10_000 and value == int(value) else f"{value:.4g}"


def _most_frequent(column: ColumnProfile) -> str:
    if not column.top or column.distinct < 2 or column.kind == "timestamp":
        return _value(column.top[0]) if column.top and column.distinct < 2 else ""
    share = column.top[0].count / max(column.rows - column.missing, 1)
    return f"{_value(column.top[0])} ({share:.1%})"


def _value(item: Value) -> str:
    if isinstance(item.value, float):
        return f"{item.value:.6g}"
    return _name(item.value)


# --- label, drift, missing -------------------------------------------------------------------------------------------
def _label(profile: Profile) -> list[Block]:
    column = next(column for column in profile.columns if column.name == profile.label)
    blocks: list[Block] = []
    panels = [("share of rows", _value_bars(column))] if column.top else _panels(profile, column)[:1]
    by_month = _month_panel(column)
    facts: list[tuple[str, Cell]] = [("rows with a label", column.rows - column.missing), ("without", column.missing)]
    blocks.append(Card(column.name, facts, [*panels, *([by_month] if by_month else [])]))
    ties = [column for column in profile.columns if column.tie is not None]
    ties.sort(key=lambda item: -max(item.tie.auc or 0.0, item.tie.missing_auc) if item.tie else 0.0)
    rows: list[tuple[Cell, ...]] = []
    for item in ties[:40]:
        assert item.tie is not None
        verdict = leak_badge(_leak_of(profile, item.name))
        area = "" if item.tie.auc is None else f"{item.tie.auc:.3f}"
        rows.append((item.name, area, f"{item.tie.missing_auc:.3f}", item.tie.label, verdict or ""))
    note = (
        "Area under the ROC curve of the column alone over all rows: 0.5 tells nothing, 1 tells all. The scan of leaks "
        "looks at the training rows, also at pairs and at what is only known afterwards."
    )
    columns = ("Column", "Area by value", "Area by being missing", "Best told label", "")
    if rows:
        title = "What each column alone says of the label"
        blocks.append(Table(columns, rows, ("left", "right", "right", "left", "left"), title, note))
    return blocks


def _leak_of(profile: Profile, column: str) -> LeakOfColumn | None:
    found = profile.leaks.columns if profile.leaks is not None else ()
    return next((entry for entry in found if entry.column == column), None)


def _ribbon(profile: Profile) -> list[Block]:
    months = sorted({month for column in profile.columns for month in column.groups.get("month", {})})
    if len(months) < 2:
        return []
    rows = []
    for column in profile.columns:
        parts = column.groups.get("month", {})
        values = [parts[m].drift.value if m in parts and parts[m].drift else None for m in months]  # type: ignore[union-attr]
        if column.name != profile.time and any(value is not None for value in values):
            rows.append((column.name, values))
    rows.sort(key=lambda row: -max(value or 0.0 for value in row[1]))
    reference = "the training split" if profile.reference == "train" else "all rows"
    note = (
        f"Each month against {reference}: the largest difference of cumulative shares (numbers, Kolmogorov-Smirnov) or "
        f"of shares (values, L-infinity). Marked from {_DRIFT_SHOWN:g} on. Seasons show here as drift does."
    )
    return [Ribbon(months, rows, full=0.5, bound=_DRIFT_SHOWN, note=note)]


def _missing(profile: Profile) -> list[Block]:
    gaps = sorted((c for c in profile.columns if c.missing), key=lambda column: -column.missing)
    if not gaps:
        return [Text("No value is missing.")]
    months = sorted({month for column in gaps for month in column.groups.get("month", {})})
    blocks: list[Block] = []
    if len(months) > 1:
        rows = []
        for column in gaps[:40]:
            parts = column.groups["month"]
            shares = [parts[m].missing / parts[m].rows if m in parts else None for m in months]
            rows.append((column.name, shares))
        blocks.append(Ribbon(months, rows, full=1.0, title="Share missing by month"))
    else:
        bars = [(column.name, column.missing / column.rows) for column in gaps[:30]]
        blocks.append(BarChart(bars, "share missing"))
    shown = [
        (pattern.rows, f"{pattern.rows / profile.rows:.1%}", ", ".join(pattern.columns)) for pattern in profile.patterns
    ]
    exact = "" if not profile.patterns_error else f"Counts are off by at most {profile.patterns_error:,}."
    blocks.append(Table(("Rows", "Share", "Missing together"), shown, title="Missing together", note=exact))
    return blocks


# --- side by side ----------------------------------------------------------------------------------------------------
def _side_by_side(profile: Profile) -> list[Block]:
    assert profile.against is not None
    theirs = {column.name: column for column in profile.against.columns}
    pairs = [(column, theirs.get(column.name)) for column in profile.columns]
    pairs.sort(key=lambda pair: -(pair[0].drift.value if pair[0].drift else -1.0))
    rows: list[tuple[Cell, ...]] = []
    for mine, other in pairs:
        if other is None:
            rows.append((mine.name, None, Badge("only here", "warn"), None, None, None, None))
            continue
        apart = mine.drift
        word = "" if apart is None or not apart.sure else Badge("differs", "warn")
        missing = (f"{mine.missing / mine.rows:.1%}", f"{other.missing / other.rows:.1%}")
        value = None if apart is None else round(apart.value, 3)
        rows.append((mine.name, value, word, _middle(mine), _middle(other), *missing))
    ours = {column.name for column in profile.columns}
    absent = [name for name in theirs if name not in ours]
    rows += [(name, None, Badge("only there", "warn"), None, None, None, None) for name in absent]
    names = ("Column", "Distance", "", "Here", "There", "Missing here", "There")
    note = "Numbers by their median, values by the most frequent. Distance: Kolmogorov-Smirnov, L-infinity."
    return [Table(names, rows, note=note)]


def _middle(column: ColumnProfile) -> str:
    return _short(column.quantiles["0.5"]) if "0.5" in column.quantiles else _most_frequent(column)


# --- cards -----------------------------------------------------------------------------------------------------------
def _cards(profile: Profile, most: int) -> list[Block]:
    """The label's, those of columns that a warning names, then the first; all in their order."""
    named = {profile.label, *(finding.column for finding in profile.warnings)}
    places = sorted(range(len(profile.columns)), key=lambda place: (profile.columns[place].name not in named, place))
    drawn = sorted(places[:most])
    blocks: list[Block] = []
    if len(drawn) < len(places):
        left = _runs([profile.columns[place].name for place in range(len(places))], set(drawn))
        words = (
            f"{len(drawn):,} of {len(places):,} columns are drawn: the label, those that a warning names, the first."
        )
        blocks.append(Text(f"{words} Not drawn: {left}. {_ALL}"))
    return [*blocks, *(_card(profile, profile.columns[place]) for place in drawn)]


def _runs(names: Sequence[str], drawn: set[int]) -> str:
    """The names that are not drawn, neighbours as "first to last"."""
    runs: list[list[str]] = []
    for place, name in enumerate(names):
        if place in drawn:
            continue
        if place and place - 1 not in drawn and runs:
            runs[-1][1:] = [_name(name)]
        else:
            runs.append([_name(name)])
    return ", ".join(" to ".join(run) for run in runs)


def _name(name: str) -> str:
    return name if len(name) <= 28 else name[:27] + "…"


def _card(profile: Profile, column: ColumnProfile) -> Card:
    facts: list[tuple[str, Cell]] = [("type", column.kind), ("different", _different(column))]
    if column.missing:
        facts.append(("missing", f"{column.missing:,} ({column.missing / column.rows:.1%})"))
    if column.minimum is not None:
        mean = None if column.kind == "timestamp" else column.mean
        ends = (("min", column.minimum), ("mean", mean), ("max", column.maximum), ("std", column.std))
        facts += [(name, _short(value)) for name, value in ends if value is not None and column.kind != "timestamp"]
        if column.kind == "timestamp":
            facts += [("from", column.minimum), ("to", column.maximum)]
    if column.lengths is not None:
        lengths = column.lengths
        facts.append(("length", f"{lengths.minimum:,} to {lengths.maximum:,}, mean {lengths.mean:.3g}"))
    leak = leak_badge(_leak_of(profile, column.name))
    badges = [leak] if leak is not None else []
    if column.name == profile.label:
        badges.append(Badge("label", "info"))
    if not column.rows - column.missing:
        badges.append(Badge("empty", "warn"))
    return Card(column.name, facts, _panels(profile, column), badges)


def _panels(profile: Profile, column: ColumnProfile) -> list[Panel]:
    panels: list[Panel] = []
    other = None
    if profile.against is not None:
        other = next((c for c in profile.against.columns if c.name == column.name), None)
    splits = {name: column.groups["split"][name] for name in _SPLITS if name in column.groups.get("split", {})}
    if column.kind == "timestamp":
        pass
    elif column.bins is not None and column.distinct > 1:
        if other is not None and other.bins is not None and other.bins.edges == column.bins.edges:
            counts = {"here": column.bins.counts, "there": other.bins.counts}
            panels.append(("here and there", Histogram(column.bins.edges, counts)))
        elif len(splits) > 1:
            counts = {name: group.counts for name, group in splits.items() if group.counts}
            panels.append(("by split", Histogram(column.bins.edges, counts)))
        else:
            panels.append(("all rows", Histogram(column.bins.edges, {"": column.bins.counts})))
        labels = {name: group.counts for name, group in column.groups.get("label", {}).items() if group.counts}
        if 1 < len(labels) <= 4 and column.name != profile.label:
            panels.append((f"by {profile.label}", Histogram(column.bins.edges, labels)))
    elif column.top and column.distinct > 1:
        panels.append(("share of rows", _value_bars(column, splits, other)))
    by_month = _month_panel(column)
    return [*panels, *([by_month] if by_month else [])]


def _value_bars(
    column: ColumnProfile, splits: dict[str, GroupOfRows] | None = None, other: ColumnProfile | None = None
) -> BarChart:
    sides: dict[str, tuple[Sequence[Value], int]] = {"": (column.top, column.rows - column.missing)}
    if other is not None:
        sides = {"here": sides[""], "there": (other.top, other.rows - other.missing)}
    elif splits and len(splits) > 1 and column.distinct <= _MOST_EXACT:
        sides = {name: (group.top, group.rows - group.missing) for name, group in splits.items() if group.top} or sides
    items = []
    for item in column.top[:_BARS]:
        shares = {
            name: next((v.count for v in top if v.value == item.value), 0) / max(rows, 1)
            for name, (top, rows) in sides.items()
        }
        items.append((_value(item), shares))
    return BarChart(items)


def _month_panel(column: ColumnProfile) -> Panel | None:
    months = column.groups.get("month", {})
    if len(months) < 2:
        return None
    if column.kind == "timestamp":
        total = max(sum(group.rows for group in months.values()), 1)
        return ("share of rows by month", Shares(("",), [(m[2:], (g.rows / total,)) for m, g in months.items()]))
    if column.kind in ("int", "float"):
        items = [
            (month[2:], [group.quantiles[q] for q in _FIVE] if group.quantiles else None)
            for month, group in months.items()
        ]
        return ("by month: 5, 25, 50, 75, 95 %", Boxes(items)) if any(five for _, five in items) else None
    names = [item.value for item in column.top[:_SHARES]]
    if not names or not 2 <= column.distinct <= _MOST_EXACT:
        return None
    rows = []
    for month, group in months.items():
        counts = {item.value: item.count for item in group.top}
        whole = max(group.rows - group.missing, 1)
        rows.append((month[2:], np.array([counts.get(name, 0) / whole for name in names]).tolist()))
    return ("shares by month", Shares([str(name) for name in names], rows))
