"""The model card: what a person must know before relying on a version, in Markdown (after Mitchell et al. 2019, "Model
cards for model reporting")."""

from collections.abc import Iterable, Mapping, Sequence

from fairlead.evaluate.metrics import LOWER_IS_BETTER, PRIMARY
from fairlead.evaluate.slices import badness_key, worst_slice
from fairlead.records.data import SPLITS, DatasetManifest
from fairlead.records.evaluation import Evaluation, MetricValue
from fairlead.records.evidence import Interval

_MAX_SLICES = 15


def model_card(
    model: str,
    evaluation: Evaluation,
    manifest: DatasetManifest,
    lineage: Mapping[str, object],
    noise: float | None = None,
    numeric_noise: float | None = None,
) -> str:
    """The card of one version of `model`: data, metrics with intervals, baselines, slices, gates, limits, lineage.
    `noise` is the mean absolute difference of scores between two trainings that differ by their seed, `numeric_noise`
    that of the model from itself."""
    parts = [
        f"# {model}",
        _purpose(manifest, evaluation),
        "## Data",
        _data(manifest),
        f"## Metrics on {evaluation.rows:,} {evaluation.split} rows",
        _metrics(evaluation),
        "## Compared with less",
        _baselines(evaluation),
        "## Slices",
        _slices(evaluation),
        "## Gates",
        _gates(evaluation),
        "## Limits",
        _limits(evaluation, manifest, noise, numeric_noise),
        "## Lineage",
        _lineage(lineage, manifest),
    ]
    return "\n\n".join(parts) + "\n"


def _purpose(manifest: DatasetManifest, evaluation: Evaluation) -> str:
    classes = f" Classes: {', '.join(map(_code, manifest.label_classes))}." if manifest.label_classes else ""
    at = (
        f" A row counts as positive from a score of {evaluation.threshold:.4f}."
        if evaluation.threshold is not None
        else ""
    )
    return f"Predicts {_code(manifest.label)} ({manifest.task}) from {len(manifest.features)} features.{classes}{at}"


def _data(manifest: DatasetManifest) -> str:
    bounds = ", ".join(f"{name} from {value}" for name, value in manifest.boundaries.items())
    facts: list[tuple[str, object]] = [
        ("fingerprint", _code(manifest.fingerprint)),
        ("sources", f"{len(manifest.sources)} files, {sum(file.rows for file in manifest.sources):,} rows"),
        ("rows", ", ".join(f"{split} {manifest.rows(split):,}" for split in SPLITS)),
        ("split", f"by {manifest.split_by}" + (f" ({bounds})" if bounds else "")),
        ("rejected", f"{manifest.rows_rejected:,} rows broke the schema"),
        ("unlabelled", f"{manifest.rows_unlabelled:,} rows had no label"),
        ("features", ", ".join(map(_code, manifest.features))),
    ]
    return _table(("fact", "value"), facts)


def _metrics(evaluation: Evaluation) -> str:
    rows = [(name, _value(metric), _interval(metric.interval), _why(metric)) for name, metric in _sorted(evaluation)]
    text = _table(("metric", "value", _level(evaluation), "note"), rows)
    if evaluation.effective_rows is None:
        return text
    worth = f"worth {evaluation.effective_rows:,.0f} equally weighted ones (Kish 1965)"
    return f"{text}\n\nRows count by their weight; these are {worth}. Intervals are bootstrapped."


def _baselines(evaluation: Evaluation) -> str:
    if not evaluation.baselines:
        return "No baselines were computed, so these numbers compare with nothing."
    shown = [name for name, metric in _sorted(evaluation) if metric.interval is not None][:4]
    names = {"this version": evaluation.metrics, **evaluation.baselines}
    rows = [
        (_called(name, evaluation), *(_value(metrics[m]) if m in metrics else "not available" for m in shown))
        for name, metrics in names.items()
    ]
    return _table(("on the same rows", *shown), rows)


def _slices(evaluation: Evaluation) -> str:
    primary = PRIMARY[evaluation.task]
    values = [value for value in evaluation.slices if value.name == primary]
    if not values:
        return "No slices were declared: nothing is known about parts of the rows."
    known = sorted((v for v in values if v.value is not None), key=lambda v: badness_key(primary, v.value))
    small = [value for value in values if value.value is None]
    text = _table(
        ("slice", "rows", primary, _level(evaluation)),
        [(v.slice, f"{v.rows:,}", _value(v), _interval(v.interval)) for v in known[:_MAX_SLICES]],
    )
    worst = worst_slice(evaluation.slices, primary)
    lines = [f"Worst first, by {primary}."]
    if worst is not None:
        lines[0] = f"Worst by {primary}: {_code(worst.slice)} with {_value(worst)} on {worst.rows:,} rows."
    if len(known) > _MAX_SLICES:
        lines.append(f"{len(known) - _MAX_SLICES} better slices are left out.")
    if small:
        lines.append(f"Not judged: {'; '.join(f'{_code(v.slice)} ({v.why})' for v in small[:_MAX_SLICES])}.")
    return " ".join(lines) + "\n\n" + text


def _gates(evaluation: Evaluation) -> str:
    if not evaluation.gates:
        return "No gates were declared: this version had to show nothing."
    return _table(("gate", "verdict", "why"), [(gate.name, gate.verdict.value, gate.why) for gate in evaluation.gates])


def _limits(evaluation: Evaluation, manifest: DatasetManifest, noise: float | None, numeric: float | None) -> str:
    limits = [
        f"The numbers hold for rows like the {evaluation.split} rows"
        + (", which are later than all training rows" if manifest.split_by.startswith("time") else "")
        + "; other times, places or sources were not tested.",
        "Intervals treat rows as independent; rows of the same day or entity are not quite, so they are optimistic.",
    ]
    if noise is not None:
        limits.append(
            f"Training again with another seed moves a score by {noise:.4f} on average: "
            "smaller differences mean nothing."
        )
    if numeric is not None:
        limits.append(
            f"Asked row by row and all at once, it differs from itself by {numeric:.2g} on average (expected: 0)."
        )
    if evaluation.random_split_auc is not None:
        limits.append(
            f"A random split would have claimed an AUC of {evaluation.random_split_auc:.4f} for gradient boosting; "
            "it does not count, because neighbouring rows would stand on both sides."
        )
    unknown = [f"{name} ({metric.why})" for name, metric in evaluation.metrics.items() if metric.value is None]
    if unknown:
        limits.append(f"Not available: {', '.join(unknown)}.")
    return "\n".join(f"- {limit}" for limit in limits)


def _lineage(lineage: Mapping[str, object], manifest: DatasetManifest) -> str:
    rows: list[tuple[str, object]] = []
    for key, value in lineage.items():
        if isinstance(value, Mapping):
            rows.append((key, ", ".join(f"{name} {version}" for name, version in value.items())))
        elif isinstance(value, (list, tuple)):
            rows.append((key, ", ".join(map(str, value))))
        else:
            rows.append((key, "unknown" if value is None else value))
    rows.append(("transform_sha256", manifest.transform_sha256))
    return _table(("fact", "value"), rows)


def _sorted(evaluation: Evaluation) -> list[tuple[str, MetricValue]]:
    return list(evaluation.metrics.items())


def _called(name: str, evaluation: Evaluation) -> str:
    return f"champion ({evaluation.champion})" if name == "champion" else name


def _level(evaluation: Evaluation) -> str:
    for metric in evaluation.metrics.values():
        if metric.interval is not None:
            return f"{metric.interval.level:.0%} interval"
    return "interval"


def _value(metric: MetricValue) -> str:
    return "not available" if metric.value is None else f"{metric.value:.4f}"


def _why(metric: MetricValue) -> str:
    return metric.why or ("lower is better" if metric.name in LOWER_IS_BETTER else "")


def _interval(interval: Interval | None) -> str:
    return f"{interval.low:.4f} to {interval.high:.4f}" if interval else ""


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + "|".join(" --- " for _ in columns) + "|"]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: object) -> str:
    """A value that cannot break out of its cell."""
    return " ".join(str(value).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").split())


def _code(value: object) -> str:
    return "`" + " ".join(str(value).replace("`", "'").split()) + "`"
