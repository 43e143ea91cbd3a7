"""Reports of drift: two windows side by side, and days watched one after another."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairlead.features.categories import category_array
from fairlead.features.encoders import numbers_of_array
from fairlead.records.data import LinkDrift
from fairlead.records.drift import ColumnDrift, DriftOverTime, Measure, WindowDrift
from fairlead.reports.model import (
    Badge,
    BarChart,
    Block,
    Callout,
    Cell,
    Histogram,
    IntervalRow,
    Intervals,
    KeyValues,
    Report,
    Section,
    Table,
    Text,
)
from fairlead.watch.distance import MISSING

_MOST_CHARTS = 12
_MOST_ROWS = 60
_BARS = 30
_MOST_VALUES = 10
_MEANING = {
    "none": "nothing moved",
    "covariate": "covariate shift",
    "label": "label shift",
    "concept": "concept drift",
    "mixed": "several shifts at once",
    "unknown": "features moved; what their labels do is not known",
}


def drift_report(drift: WindowDrift, reference: pa.Table | None = None, live: pa.Table | None = None) -> Report:
    """Causes first, then the ranking, the kind of shift, and how the moved features are spread; the rows are needed for
    the last only."""
    sections = [
        Section("What moved", _summary(drift)),
        Section("Kind of shift", _shift(drift)),
        *([Section("Links between columns", _links(drift.links))] if drift.links else []),
        Section("Distances", [_intervals(drift), *_distances(drift)]),
    ]
    if reference is not None and live is not None:
        charts = [chart for one in drift.moved for chart in _spread(one, drift, reference, live)]
        if charts:
            sections.append(Section("How they are spread", charts[:_MOST_CHARTS]))
    return Report("Drift between two windows", f"{drift.live} against {drift.reference}", sections)


def over_time_report(drift: DriftOverTime) -> Report:
    """The alarms in the order of their days, and what they rest on."""
    blocks: list[Block] = [Callout("warn", _sentence(text)) for text in drift.warnings]
    if drift.alarms:
        rows = [
            (
                one.day,
                one.feature,
                Badge(one.direction),
                one.since,
                round(one.evidence, 2),
                one.what,
                one.again,
                one.last,
            )
            for one in drift.alarms
        ]
        names = ("Alarm", "Feature", "", "Since about", "Evidence / threshold", "What", "Again", "Last")
        blocks.append(
            Table(names, rows, note="Level and spread: of the ranks among the rows of the reference, 0 to 1.")
        )
    else:
        blocks.append(Text("No alarm."))
    blocks.append(
        KeyValues(
            (
                ("Reference", drift.reference),
                ("Days of reference", drift.reference_days),
                ("Days watched", drift.days),
                ("Features", drift.features),
                ("False alarms in 30 days, at most", drift.budget),
                ("Threshold of a detector", drift.threshold),
                ("Compared with the same weekday", ", ".join(drift.same_weekday) or "none"),
            )
        )
    )
    return Report("Drift over time", f"{drift.days:,} days against {drift.reference}", [Section("Alarms", blocks)])


def _summary(drift: WindowDrift) -> list[Block]:
    blocks: list[Block] = [Callout("warn", _sentence(text)) for text in drift.warnings]
    for one in drift.columns:
        if one.cause:
            blocks.append(Callout("fail" if one.moved else "warn", f"{_name(one)}: {one.cause_kind}", one.cause))
    moved = drift.moved
    if not moved:
        blocks.append(Text("No feature moved beyond the declared distance and chance."))
    else:
        rows = [(_name(one), round(one.distance, 3), _number(one.impact), one.what, one.cause) for one in moved]
        blocks.append(Table(("Feature", "Distance", "Impact", "What", "Cause"), rows, note=f"By {drift.ranked_by}."))
    blocks.append(
        KeyValues(
            (
                ("Reference", f"{drift.reference} ({drift.reference_rows:,} rows)"),
                ("Live", f"{drift.live} ({drift.live_rows:,} rows)"),
                ("Compared", "a random sample of each" if drift.sampled else "all rows"),
            )
        )
    )
    return blocks


def _links(links: Sequence[LinkDrift]) -> list[Block]:
    one = len(links) == 1
    rows = [(link.first, link.second, round(link.before, 2), round(link.now, 2)) for link in links[:_MOST_ROWS]]
    return [
        Callout(
            "warn",
            f"{len(links)} {'link' if one else 'links'} between two columns changed",
            f"Most of all: {links[0].what}. Seasons do that, too; so do rows joined to the wrong rows.",
        ),
        Table(("Column", "With", "Rank correlation before", "Now"), rows, note="Largest change first."),
    ]


def _shift(drift: WindowDrift) -> list[Block]:
    kind = drift.shift.kind
    tone = "info" if kind in ("none", "unknown") else "warn"
    blocks: list[Block] = [
        Callout("warn" if tone == "warn" else "info", _MEANING[kind].capitalize(), _sentence(drift.shift.why))
    ]
    if drift.shift.measures:
        rows = [IntervalRow(_spoken(m), m.low, m.value, m.high) for m in drift.shift.measures]
        blocks.append(Intervals(rows, "difference of rates, 95 % interval"))
    return blocks


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _spoken(measure: Measure) -> str:
    return {"label_rate": "label rate", "answers": "label rate of rows alike"}.get(measure.name, measure.name)


_MEASURES = {
    "wasserstein": "Wasserstein / std",
    "jensen_shannon": "Jensen-Shannon",
    "psi": "PSI",
    "cohens_d": "Cohen's d",
}


def _distances(drift: WindowDrift) -> list[Block]:
    """The numbers, and their intervals in a table of their own."""
    points: list[tuple[Cell, ...]] = []
    ranges: list[tuple[Cell, ...]] = []
    shown = [one for one in drift.columns if one.part != MISSING or one.distance > one.chance]
    for one in shown[:_MOST_ROWS]:
        measures = {m.name: m for m in one.measures}
        verdict = Badge("moved", "warn") if one.moved else Badge("as before", "ok")
        found = [measures.get(name) for name in _MEASURES]
        values = [None if m is None else round(m.value, 3) for m in found]
        points.append(
            (_name(one), verdict, round(one.distance, 3), round(one.chance, 3), *values, _number(one.importance))
        )
        if any(found):
            ranges.append((_name(one), *(None if m is None else f"{m.low:.3f} to {m.high:.3f}" for m in found)))
    note = (
        "Shares of missing values stand here where they differ. Distance: Kolmogorov-Smirnov, or the largest "
        "difference of a share. Chance: what sampling explains, for all features together."
    )
    names = _MEASURES.values()
    return [
        Table(("Feature", "", "Distance", "Chance", *names, "Importance"), points, note=note),
        Table(("Feature", *names), ranges, title="95 % intervals"),
    ]


def _intervals(drift: WindowDrift) -> Intervals:
    rows = []
    for one in drift.columns[:_MOST_CHARTS]:
        first = one.measures[0] if one.measures else None
        if first is not None:
            rows.append(IntervalRow(_name(one), first.low, first.value, first.high, one.bound))
    return Intervals(rows, "distance, 95 % interval", "The largest impacts")


def _number(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")


def _name(one: ColumnDrift) -> str:
    return f"{one.column} ({one.part})" if one.part else one.column


def _spread(one: ColumnDrift, drift: WindowDrift, reference: pa.Table, live: pa.Table) -> list[Block]:
    if one.part or one.column not in live.column_names:
        return []
    sides = reference[one.column].combine_chunks(), live[one.column].combine_chunks()
    names = f"reference: {drift.reference}", f"live: {drift.live}"
    if one.kind in ("int", "float"):
        values = [numbers_of_array(side, one.column) for side in sides]
        values = [side[np.isfinite(side)] for side in values]
        ends = np.array([np.quantile(side, [0.005, 0.995]) for side in values])
        low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
        if not high > low:
            return []
        edges = np.linspace(low, high, _BARS + 1)
        counts = {
            name: np.histogram(np.clip(side, low, high), edges)[0].astype(float).tolist()
            for name, side in zip(names, values, strict=True)
        }
        return [Histogram(edges.tolist(), counts, title=one.column)]
    shares: dict[str, dict[str, float | None]] = {}
    for name, side in zip(names, sides, strict=True):
        texts = category_array(side).drop_null()
        for item in pc.value_counts(texts).to_pylist():
            shares.setdefault(item["values"], dict.fromkeys(names, 0.0))[name] = item["counts"] / len(texts)
    ordered = sorted(shares.items(), key=lambda item: -max(share or 0.0 for share in item[1].values()))
    return [BarChart(ordered[:_MOST_VALUES], "share of the rows", one.column)]
