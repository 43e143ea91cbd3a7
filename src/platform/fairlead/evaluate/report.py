"""The evaluation as a report: the verdict first, then what it rests on."""

from collections.abc import Sequence

from fairlead.evaluate.metrics import LOWER_IS_BETTER, PRIMARY
from fairlead.evaluate.slices import badness_key, worst_slice
from fairlead.records.evaluation import Evaluation, MetricValue
from fairlead.records.evidence import Interval, Verdict
from fairlead.reports.model import (
    Block,
    Callout,
    Cell,
    IntervalRow,
    Intervals,
    KeyValues,
    LineChart,
    Matrix,
    Report,
    Section,
    Table,
    Text,
)

_MAX_SLICES = 25
_MAX_MATRIX = 25
# A random split that claims this much more than the declared one is worth a warning.
_NOTABLE_CLAIM = 0.005


def evaluation_report(evaluation: Evaluation, title: str = "Evaluation", run: str = "", split_by: str = "") -> Report:
    """The report of one evaluation. `run` names the pipeline run, `split_by` how the test rows were split off."""
    sections = [
        Section("Verdict", _headline(evaluation)),
        Section("Gates", _gates(evaluation)),
        Section("Metrics", _metrics(evaluation)),
        Section("Compared with less, on the same rows", _baselines(evaluation)),
        Section("Against the champion", _champion(evaluation)),
        Section("What a random split would have claimed", _random_split(evaluation, split_by)),
        Section("Curves", _curves(evaluation)),
        Section("Confusion", _confusion(evaluation)),
        Section("Slices", _slices(evaluation)),
    ]
    subtitle = f"{evaluation.rows:,} {evaluation.split} rows, {evaluation.task}" + (f", run {run}" if run else "")
    return Report(title, subtitle, [section for section in sections if section.blocks], verdict(evaluation))


def verdict(evaluation: Evaluation) -> Verdict:
    """PASS when every gate passed, else FAIL."""
    return Verdict.PASS if evaluation.passed else Verdict.FAIL


def _headline(evaluation: Evaluation) -> list[Block]:
    failed = [gate for gate in evaluation.gates if gate.verdict is not Verdict.PASS]
    if failed:
        text = "\n\n".join(f"{gate.name}: {gate.why}" for gate in failed)
        head = Callout("fail", f"{len(failed)} of {len(evaluation.gates)} gates failed", text)
    elif not evaluation.gates:
        head = Callout("warn", "No gates are declared", "Nothing was demanded of this version, so it passes as it is.")
    else:
        head = Callout("ok", f"All {len(evaluation.gates)} gates passed")
    primary = PRIMARY[evaluation.task]
    facts: list[tuple[str, Cell]] = []
    if primary in evaluation.metrics:
        facts.append((primary, _with_interval(evaluation.metrics[primary])))
    boosted = evaluation.baselines.get("gradient_boosting", {}).get(primary)
    if boosted is not None:
        facts.append((f"{primary} of gradient boosting", _with_interval(boosted)))
    champion = evaluation.baselines.get("champion", {}).get(primary)
    if evaluation.effective_rows is not None:
        facts.append(("rows count by their weight", weighted_words(evaluation)))
    facts.append((f"{primary} of the champion", _with_interval(champion) if champion else "there is no champion"))
    worst = worst_slice(evaluation.slices, primary)
    if worst is not None:
        facts.append((f"worst slice by {primary}", f"{worst.slice}: {_with_interval(worst)} on {worst.rows:,} rows"))
    return [head, KeyValues(facts)]


def weighted_words(evaluation: Evaluation) -> str:
    """What the weights make of the rows; "" where all count alike."""
    if evaluation.effective_rows is None:
        return ""
    rows, worth = f"{evaluation.rows:,} {evaluation.split} rows", f"{evaluation.effective_rows:,.0f}"
    return f"{rows} are worth {worth} equally weighted ones, in every metric, slice, gate and baseline"


def _gates(evaluation: Evaluation) -> list[Block]:
    if not evaluation.gates:
        return [Text("None declared. Add evaluate.gates to the project file to have versions refused.")]
    rows: list[Sequence[Cell]] = [
        (gate.name, gate.verdict, gate.observed, _words(gate.interval), gate.bound, gate.why)
        for gate in evaluation.gates
    ]
    note = (
        "A gate judges the end of the interval that is worse for the model, not the point. A gate that cannot be "
        "computed fails. Gates against another model judge the difference on the same rows."
    )
    return [Table(("gate", "verdict", "observed", "interval", "bound", "why"), rows, note=note)]


def _metrics(evaluation: Evaluation) -> list[Block]:
    rows: list[Sequence[Cell]] = [
        (name, metric.value, _words(metric.interval), "lower" if name in LOWER_IS_BETTER else "higher", metric.why)
        for name, metric in evaluation.metrics.items()
    ]
    level = next((m.interval.level for m in evaluation.metrics.values() if m.interval), None)
    how = "exact for proportions (Clopper-Pearson), DeLong for the AUC, else bootstrap"
    if evaluation.effective_rows is not None:
        how = "bootstrap, as rows count by their weight"
    note = f"Intervals at {level:.0%}: {how}. They treat rows as independent." if level else ""
    blocks: list[Block] = [Table(("metric", "value", "interval", "better", "note"), rows, note=note)]
    facts: list[tuple[str, Cell]] = list(evaluation.calibration.items())
    if evaluation.threshold is not None:
        facts.insert(0, ("threshold", evaluation.threshold))
    if facts:
        blocks.append(KeyValues(facts))
    return blocks


def _baselines(evaluation: Evaluation) -> list[Block]:
    if not evaluation.baselines:
        return [Text("No baselines were computed.")]
    primary = PRIMARY[evaluation.task]
    named = {"this version": evaluation.metrics, **evaluation.baselines}
    chart = [IntervalRow(name, *_ends(metrics.get(primary))) for name, metrics in named.items() if metrics.get(primary)]
    columns = [name for name, metric in evaluation.metrics.items() if metric.interval is not None]
    rows: list[Sequence[Cell]] = [
        (name, *(metrics[column].value if column in metrics else None for column in columns))
        for name, metrics in named.items()
    ]
    missing = sorted(
        {
            f"{name}: {metric.why}"
            for name, metrics in evaluation.baselines.items()
            for metric in metrics.values()
            if metric.value is None and all(other.value is None for other in metrics.values())
        }
    )
    return [
        Intervals(chart, x_label=primary),
        Table(("model", *columns), rows, note="; ".join(missing)),
    ]


def _champion(evaluation: Evaluation) -> list[Block]:
    if evaluation.champion is None:
        return [Text("There is no champion. A version that passes its gates becomes the first (the bootstrap rule).")]
    differences = evaluation.differences.get("champion")
    if differences is None:
        why = next((metric.why for metric in evaluation.baselines.get("champion", {}).values() if metric.why), "")
        return [Callout("warn", f"{evaluation.champion} could not be compared", why)]
    theirs = evaluation.baselines.get("champion", {})
    rows: list[Sequence[Cell]] = [
        (
            name,
            evaluation.metrics[name].value,
            theirs[name].value if name in theirs else None,
            change.value,
            _words(change.interval),
            _reading(change),
        )
        for name, change in differences.items()
    ]
    note = "Differences: this version minus the champion, same rows. An interval that holds 0 shows no difference."
    columns = ("metric", "this version", evaluation.champion, "difference", "interval", "reading")
    return [Table(columns, rows, note=note)]


def _reading(change: MetricValue) -> str:
    if change.value is None or change.interval is None:
        return change.why
    if change.interval.low <= 0 <= change.interval.high:
        return "no difference shown"
    return "better" if (change.value > 0) != (change.name in LOWER_IS_BETTER) else "worse"


def _random_split(evaluation: Evaluation, split_by: str) -> list[Block]:
    claimed = evaluation.random_split_auc
    honest = evaluation.baselines.get("gradient_boosting", {}).get("auc")
    if claimed is None or honest is None or honest.value is None:
        return []
    how = f"split by {split_by}" if split_by else "split as the project declares"
    text = (
        "Gradient boosting, trained and tested on the same rows but mixed and split at random, would have claimed an "
        f"AUC of {claimed:.4f}. On the test rows as they are here ({how}) it reaches {honest.value:.4f}."
    )
    gap = claimed - honest.value
    reason = (
        "The claim does not count. A random split puts rows of the same hours, days and entities on both sides: "
        "the model is asked about days of which it has already seen the answers. In use it meets days that it has "
        "never seen, as the test rows here are."
    )
    if gap > _NOTABLE_CLAIM:
        return [Text(f"{text} The difference of {gap:+.4f} is not quality.\n\n{reason}")]
    return [Text(f"{text} For these rows it makes little difference ({gap:+.4f}).\n\n{reason}")]


def _curves(evaluation: Evaluation) -> list[Block]:
    shapes = {
        "roc": ("ROC", "false positive rate", "true positive rate", True),
        "precision_recall": ("Precision and recall", "recall", "precision", False),
        "reliability": ("Reliability", "mean score", "share of positives", True),
        "predicted_actual": ("Predicted and actual", "mean predicted", "mean actual", True),
    }
    if evaluation.task == "multiclass":
        shapes["reliability"] = ("Reliability", "mean largest score", "share predicted rightly", True)
    blocks: list[Block] = []
    for kind, (title, x_label, y_label, diagonal) in shapes.items():
        series = {
            ("this version" if name == kind else name.split(":", 1)[1]): points
            for name, points in evaluation.curves.items()
            if name == kind or name.startswith(f"{kind}:")
        }
        if series:
            unit = None if kind == "predicted_actual" else (0.0, 1.0)
            blocks.append(LineChart(series, x_label, y_label, title, diagonal=diagonal, x_range=unit, y_range=unit))
    return blocks


def _confusion(evaluation: Evaluation) -> list[Block]:
    if not evaluation.confusion:
        return []
    size = len(evaluation.confusion)
    labels = evaluation.classes if len(evaluation.classes) == size else tuple(str(i) for i in range(size))
    note = f"At the threshold {evaluation.threshold:.4f}." if evaluation.threshold is not None else ""
    note += " Rows, whatever they weigh." if evaluation.effective_rows is not None else ""
    if size <= _MAX_MATRIX:
        return [Matrix(labels, evaluation.confusion, note=note)]
    pairs = [(labels[i], labels[j], evaluation.confusion[i][j]) for i in range(size) for j in range(size) if i != j]
    worst = sorted(pairs, key=lambda pair: -pair[2])[:_MAX_MATRIX]
    return [Table(("actual", "predicted", "rows"), worst, title=f"The most frequent confusions of {size} classes")]


def _slices(evaluation: Evaluation) -> list[Block]:
    primary = PRIMARY[evaluation.task]
    values = [value for value in evaluation.slices if value.name == primary]
    if not values:
        return [Text("No slices are declared. evaluate.slices.columns names columns whose values are judged apart.")]
    known = sorted((v for v in values if v.value is not None), key=lambda v: badness_key(primary, v.value))
    unknown = [value for value in values if value.value is None]
    blocks: list[Block] = []
    if known:
        overall = evaluation.metrics[primary]
        chart = [IntervalRow("all rows", *_ends(overall))]
        chart += [IntervalRow(f"{v.slice} ({v.rows:,})", *_ends(v)) for v in known[:_MAX_SLICES]]
        left = f" {len(known) - _MAX_SLICES} better slices are not drawn." if len(known) > _MAX_SLICES else ""
        note = f"Worst first. With many slices, some interval lies off by chance alone.{left}"
        blocks.append(Intervals(chart, x_label=primary, title=f"{primary} by slice", note=note))
        blocks.append(_slice_table(evaluation, known[:_MAX_SLICES]))
    if unknown:
        rows: list[Sequence[Cell]] = [(value.slice, value.rows, value.why) for value in unknown]
        blocks.append(Table(("slice", "rows", "why"), rows, title="Not judged"))
    return blocks


def _slice_table(evaluation: Evaluation, parts: Sequence[MetricValue]) -> Table:
    by_slice: dict[str, dict[str, MetricValue]] = {}
    for value in evaluation.slices:
        by_slice.setdefault(value.slice, {})[value.name] = value
    columns = [name for name, metric in evaluation.metrics.items() if metric.interval is not None]
    rows: list[Sequence[Cell]] = []
    for part in parts:
        metrics = by_slice[part.slice]
        rows.append((part.slice, part.rows, *(metrics[c].value if c in metrics else None for c in columns)))
    return Table(("slice", "rows", *columns), rows, title="All metrics by slice")


def _ends(metric: MetricValue | None) -> tuple[float | None, float | None, float | None]:
    """Low end, point, high end."""
    if metric is None:
        return None, None, None
    interval = metric.interval
    return (interval.low if interval else None, metric.value, interval.high if interval else None)


def _with_interval(metric: MetricValue) -> str:
    if metric.value is None:
        return f"not available: {metric.why}"
    return f"{metric.value:.4f}" + (f" ({_words(metric.interval)})" if metric.interval else "")


def _words(interval: Interval | None) -> str:
    return f"{interval.low:.4f} to {interval.high:.4f}" if interval else ""
