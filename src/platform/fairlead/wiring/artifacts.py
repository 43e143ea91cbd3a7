"""What a step shows in the Kubeflow UI: metrics, curves, the report as HTML and as Markdown.

The artifacts are taken by their methods and paths, so that nothing here imports kfp.
"""

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

_MAX_POINTS = 200
_EMPTY_PAGE = "<!doctype html><meta charset='utf-8'><title>No report</title><p>This step has no report.</p>\n"


class MetricsArtifact(Protocol):
    """The part of kfp's Metrics that is used here."""

    def log_metric(self, metric: str, value: float) -> None:
        """Keep one number."""


class CurvesArtifact(Protocol):
    """The part of kfp's ClassificationMetrics that is used here."""

    def log_roc_curve(self, fpr: list[float], tpr: list[float], threshold: list[float]) -> None:
        """Keep a ROC curve."""

    def log_confusion_matrix(self, categories: list[str], matrix: list[list[int]]) -> None:
        """Keep a confusion matrix: a row per true class."""


class FileArtifact(Protocol):
    """An artifact with a file, as kfp's HTML and Markdown are."""

    path: str


def fill(result: Mapping[str, Any], metrics: MetricsArtifact, report: FileArtifact, summary: FileArtifact) -> None:
    """Put the `metrics`, `report_html`, `report_markdown` and `summary` of a step's result into its artifacts.

    Numbers that are not finite are left out: the metadata of artifacts is JSON, which has none.
    """
    for name, value in result["metrics"].items():
        if math.isfinite(value):
            metrics.log_metric(name, float(value))
    html = Path(report.path)
    html.parent.mkdir(parents=True, exist_ok=True)
    if result["report_html"]:
        shutil.copyfile(result["report_html"], html)
    else:
        html.write_text(_EMPTY_PAGE, encoding="utf-8")
    markdown = Path(summary.path)
    markdown.parent.mkdir(parents=True, exist_ok=True)
    markdown.write_text(f"{result['summary']}\n\n{result['report_markdown']}", encoding="utf-8")


def fill_curves(result: Mapping[str, Any], curves: CurvesArtifact) -> None:
    """Put `roc` and `confusion` of an evaluation into its artifact, where the task has them.

    At most 200 points of the curve, its ends always among them; thresholds that are not finite (the first one of a
    curve often is) become the nearest finite one.
    """
    roc = result.get("roc") or {}
    if roc.get("fpr"):
        chosen = _thin(len(roc["fpr"]))
        thresholds = _finite(roc["thresholds"])
        curves.log_roc_curve(
            [float(roc["fpr"][i]) for i in chosen],
            [float(roc["tpr"][i]) for i in chosen],
            [thresholds[i] for i in chosen],
        )
    confusion = result.get("confusion") or {}
    if confusion.get("matrix"):
        matrix = [[int(count) for count in row] for row in confusion["matrix"]]
        curves.log_confusion_matrix([str(label) for label in confusion["labels"]], matrix)


def _thin(count: int) -> list[int]:
    if count <= _MAX_POINTS:
        return list(range(count))
    return sorted({round(i * (count - 1) / (_MAX_POINTS - 1)) for i in range(_MAX_POINTS)})


def _finite(values: Sequence[float]) -> list[float]:
    real = [value for value in values if math.isfinite(value)] or [0.0]
    return [float(min(max(value, min(real)), max(real))) for value in values]
