"""Reports of the data steps: what the rows look like, what was refused and why, what knows the answer, who is where."""

from collections.abc import Sequence

import numpy as np

from fairlead.data.prepare import PrepareResult
from fairlead.data.validation import ValidationResult
from fairlead.dataset.files import LABEL
from fairlead.records.data import SPLITS, ColumnStatistics, LeakFinding, Statistics
from fairlead.records.drift import Anomaly
from fairlead.reports.model import (
    Badge,
    BarChart,
    Block,
    Callout,
    Cell,
    Histogram,
    KeyValues,
    Report,
    Section,
    Table,
    Text,
)
from fairlead.spec.project import Project

_MAX_COLUMNS = 60
_MAX_BARS = 12
_MAX_ANOMALIES = 100
_BARS = 30
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def validation_report(project: Project, result: ValidationResult) -> Report:
    """The data profile: warnings first, then the rows, what was rejected, and every column."""
    blocks: list[Block] = [*_callouts(result.anomalies)]
    if result.rows_rejected:
        share = result.rows_rejected / result.rows_read
        where = "quarantine.parquet of this run lists" if result.quarantine else "the quarantine file lists"
        blocks.append(
            Callout(
                "warn", f"{result.rows_rejected:,} rows ({share:.3%}) were rejected", f"{where} each with its reason."
            )
        )
    blocks.append(_rows(result))
    if result.schema_inferred:
        path = result.schema_path.name if result.schema_path else "data.validate.schema"
        blocks.append(
            Text(
                f"The schema was inferred from this data. {path} holds it: read it once, later data is held against it."
            )
        )
    sections = [Section("Rows", blocks)]
    if result.found:
        sections.append(Section("Anomalies", _anomalies(result.found)))
    if result.reasons:
        sections.append(Section("Rejected", [_reasons(result)]))
    sections.append(Section("Files", [_files(result)]))
    if result.statistics is not None:
        sections.append(Section("Columns", _columns(result.statistics)))
    return Report(f"Data of {project.project}", f"{len(result.source.files):,} files, {result.source.format}", sections)


def prepare_report(project: Project, result: PrepareResult) -> Report:
    """Splits, label, leak scan, and the training split's columns."""
    manifest = result.manifest
    sections = [
        Section("Splits", [*_callouts(result.warnings), *_splits(result)]),
        Section("How alike the splits are", _differences(result)),
        Section("Leak scan", _leaks(result.leaks, project.data.leaks.max_auc)),
        Section("Transform", [_transform(result)]),
        Section("Training split", _columns(result.statistics)),
    ]
    return Report(f"Prepared data of {project.project}", f"fingerprint {manifest.fingerprint[:16]}", sections)


def _callouts(texts: Sequence[str]) -> list[Block]:
    return [Callout("warn", text[:1].upper() + text[1:]) for text in texts]


def _rows(result: ValidationResult) -> KeyValues:
    return KeyValues(
        (
            ("Rows read", result.rows_read),
            ("Rejected", result.rows_rejected),
            ("Without a label", result.rows_unlabelled),
            ("Usable", result.rows_read - result.rows_rejected - result.rows_unlabelled),
            ("Columns", len(result.schema.columns)),
            ("Schema", result.schema_path.name if result.schema_path else "inferred, not kept"),
        )
    )


def _anomalies(found: Sequence[Anomaly]) -> list[Block]:
    rows: list[tuple[Cell, ...]] = [
        (
            one.column or "(whole)",
            one.kind,
            Badge("severe", "fail") if one.severe else Badge("warning", "warn"),
            one.count,
            None if one.share is None else f"{one.share:.3%}",
            one.what,
            one.change,
        )
        for one in found[:_MAX_ANOMALIES]
    ]
    names = ("Column", "Kind", "", "Rows", "Share", "What", "The schema would have to say")
    note = "fairlead data schema accept --change '...' makes such a change, where the values are right."
    blocks: list[Block] = [Table(names, rows, note=note)]
    places: list[tuple[Cell, ...]] = [
        (one.column or "(whole)", one.kind, place.file, place.row, place.value)
        for one in found[:_MAX_ANOMALIES]
        for place in one.places
    ]
    if places:
        blocks.append(Table(("Column", "Kind", "File", "Row", "Value"), places, title="The first places"))
    return blocks


def _reasons(result: ValidationResult) -> Table:
    ordered = sorted(result.reasons.items(), key=lambda item: (-item[1], item[0]))
    rows = [
        (column or "(whole row)", reason, count, f"{count / result.rows_read:.3%}")
        for (column, reason), count in ordered
    ]
    return Table(("Column", "Reason", "Rows", "Share"), rows, note="A row may break several rules.")


def _files(result: ValidationResult) -> Table:
    rows = [
        (file.uri, count, round(file.size_bytes / 1e6, 3))
        for file, count in zip(result.source.files, result.rows_of_file, strict=True)
    ]
    shown = rows[:200]
    note = f"and {len(rows) - len(shown):,} more" if len(rows) > len(shown) else ""
    return Table(("File", "Rows", "MB"), shown, note=note)


def _splits(result: PrepareResult) -> list[Block]:
    manifest = result.manifest
    total = sum(manifest.rows(split) for split in SPLITS)
    rows = [(split, manifest.rows(split), f"{manifest.rows(split) / total:.1%}") for split in SPLITS]
    facts: list[tuple[str, str | int | None]] = [
        ("Fingerprint", manifest.fingerprint),
        ("Task", manifest.task),
        ("Label", manifest.label),
        ("Split by", manifest.split_by),
        *(
            (f"From ({name})" if manifest.split_by.startswith("time") and name in SPLITS else name, at)
            for name, at in manifest.boundaries.items()
        ),
        ("Rows read", manifest.rows_read),
        ("Rejected", manifest.rows_rejected),
        ("Without a label", manifest.rows_unlabelled),
        ("Duplicates dropped", manifest.rows_duplicate),
        ("Outside of all splits", manifest.rows_left_out),
    ]
    blocks: list[Block] = [Table(("Split", "Rows", "Share"), rows), KeyValues(facts)]
    label = result.statistics.columns.get(LABEL)
    if label is not None and label.top:
        shares = [(name, count / label.count) for name, count in label.top.items()]
        blocks.append(BarChart(shares[:_MAX_BARS], "share of training rows", f"Label: {manifest.label}"))
    return blocks


def _leaks(findings: Sequence[LeakFinding], bound: float) -> list[Block]:
    if not findings:
        return [Text(f"No feature comes near the bound (AUC {bound:g}) by itself, in a pair, or by being missing.")]
    rows = [
        (
            finding.feature,
            finding.kind,
            finding.score,
            finding.bound,
            Badge("allowed", "warn") if finding.allowed else Badge("leak", "fail") if finding.severe else Badge("told"),
            finding.why + (f" (allowed: {finding.reason})" if finding.allowed and finding.reason else ""),
        )
        for finding in findings
    ]
    return [Table(("Feature", "Kind", "Score", "Bound", "", "Why"), rows)]


def _differences(result: PrepareResult) -> list[Block]:
    shown = [d for d in result.differences if d.differs][:_MAX_BARS]
    if not result.differences:
        return [Text("Too few rows to compare.")]
    if not shown:
        return [Text("No column of validation or test differs from the training split by more than chance explains.")]
    rows = [(d.split, _named(d.column, result), round(d.distance, 4), round(d.bound, 4), d.why) for d in shown]
    more = sum(d.differs for d in result.differences) - len(shown)
    note = "Largest difference of frequencies, and what chance explains when rows are independent."
    return [
        Table(("Split", "Column", "Distance", "Chance", "Most"), rows, note=note + (f" {more} more." if more else ""))
    ]


def _named(column: str, result: PrepareResult) -> str:
    return f"{result.manifest.label} (the label)" if column == LABEL else column


def _transform(result: PrepareResult) -> Table:
    transform = result.transform
    rows: list[tuple[str, str, str]] = []
    for number in transform.numeric:
        clip = (
            "" if number.low is None or number.high is None else f", clipped to {number.low:.4g} .. {number.high:.4g}"
        )
        mark = ", with an indicator" if number.indicator else ""
        x = "±ln(1 + |x|)" if number.log else "x"
        scale = f"({x} - {number.mean:.4g}) / {number.std:.4g}" if number.standard else x if number.log else "as it is"
        rows.append((number.name, "number", f"missing -> {number.impute:.4g}{mark}{clip}; {scale}"))
    for ranged in transform.ranges:
        rows.append((ranged.name, "range", f"{len(ranged.edges) + 1} ranges, edges {_edges(ranged.edges)}"))
    for category in transform.categorical:
        how = f"{len(category.values):,} values and " if category.values else ""
        buckets = "1 bucket" if category.buckets == 1 else f"{category.buckets:,} buckets"
        rows.append((category.name, "category", f"{how}{buckets} by hash"))
    ways = {"category": "", "cyclic": " as points on circles", "both": " as categories and points on circles"}
    rows += [(m.name, "point in time", ", ".join(m.parts) + ways[m.encode]) for m in transform.datetime]
    for text in transform.text:
        rows.append((text.name, "text", f"{text.max_tokens} words of {len(text.values):,}, the rest by hash"))
    for cross in transform.crosses:
        how = "each combination" if cross.exact else "combinations by hash"
        rows.append((cross.name, "cross", f"{' x '.join(cross.of)}: {cross.cardinality - 1:,} indices, {how}"))
    if transform.image is not None:
        rows.append((transform.image.name, "image", f"{list(transform.image.shape)} / {transform.image.scale:g}"))
    return Table(("Feature", "Kind", "Becomes"), rows)


def _edges(edges: Sequence[float]) -> str:
    shown = [f"{edge:.4g}" for edge in edges]
    return ", ".join(shown if len(shown) <= 6 else [*shown[:3], "…", *shown[-3:]]) or "none"


def _columns(statistics: Statistics) -> list[Block]:
    columns = [column for name, column in statistics.columns.items() if name != LABEL]
    rows = [_summary(column) for column in columns]
    names = ("Column", "Type", "Present", "Missing", "Different", "Min", "Mean", "Max", "Std")
    blocks: list[Block] = [Table(names, rows)]
    for column in columns[:_MAX_COLUMNS]:
        blocks += _distribution(column)
    if len(columns) > _MAX_COLUMNS:
        blocks.append(Text(f"Distributions of the first {_MAX_COLUMNS} of {len(columns)} columns."))
    return blocks


def _summary(column: ColumnStatistics) -> tuple[str | int | float | None, ...]:
    total = column.count + column.missing
    missing = f"{column.missing / total:.2%}" if total else None
    numbers = (column.minimum, column.mean, column.maximum, column.std)
    if column.kind == "timestamp":
        numbers = (None, None, None, None)
    return (column.name, column.kind, column.count, missing, column.distinct, *(_rounded(n) for n in numbers))


def _rounded(number: float | None) -> float | None:
    return None if number is None else float(f"{number:.6g}")


def _distribution(column: ColumnStatistics) -> list[Block]:
    if len(column.counts) > 1:
        edges, heights = _equal_widths(column)
        return [Histogram(edges, {"": heights}, title=column.name)]
    if column.top and column.distinct > 1:
        items = list(column.top.items())[:_MAX_BARS]
        rest = column.count - sum(count for _, count in items)
        note = f"{rest:,} rows have other values" if rest else ""
        return [BarChart([(name, float(count)) for name, count in items], "rows", column.name, note=note)]
    blocks: list[Block] = []
    for part, counts in column.parts.items():
        if part in ("hour", "weekday", "month"):
            labels = {str(i): name for i, name in enumerate(_WEEKDAYS)} if part == "weekday" else {}
            bars = [(labels.get(value, value), float(count)) for value, count in counts.items()]
            blocks.append(BarChart(bars, "rows", f"{column.name}: {part}"))
    return blocks


def _equal_widths(column: ColumnStatistics) -> tuple[list[float], list[float]]:
    """The histogram on bins of equal width, as the eye expects; within a bin rows are taken to be spread evenly.

    The range is that of the middle 98 %, widened to the ends when they are near; outliers fall into the last bins.
    """
    low, high = column.edges[0], column.edges[-1]
    near = column.quantiles.get("0.01", low), column.quantiles.get("0.99", high)
    width = near[1] - near[0]
    if width > 0:
        low, high = max(low, near[0] - width / 4), min(high, near[1] + width / 4)
    if not high > low:
        return list(column.edges), [float(count) for count in column.counts]
    below = np.concatenate([[0.0], np.cumsum(column.counts)])
    edges = np.linspace(low, high, _BARS + 1)
    at = np.interp(edges, column.edges, below)
    at[0], at[-1] = 0.0, below[-1]
    return edges.tolist(), np.diff(at).tolist()
