"""What a step shows in the Kubeflow UI."""

from pathlib import Path
from typing import Any

import pytest
from kfp import dsl

from fairlead.wiring import artifacts


def filled(tmp_path: Path, **changes: Any) -> tuple[dsl.Metrics, dsl.HTML, dsl.Markdown]:
    page = tmp_path / "report.html"
    page.write_text("<!doctype html><title>R</title>")
    result = {
        "metrics": {"auc": 0.75, "rows": 10.0},
        "report_html": str(page),
        "report_markdown": "# Report",
        "summary": "auc 0.75",
        **changes,
    }
    metrics = dsl.Metrics(name="metrics", uri=str(tmp_path / "metrics"))
    html = dsl.HTML(name="report", uri=str(tmp_path / "deep" / "html"))
    markdown = dsl.Markdown(name="summary", uri=str(tmp_path / "deep" / "markdown"))
    artifacts.fill(result, metrics, html, markdown)
    return metrics, html, markdown


def test_metrics_page_and_summary_reach_the_artifacts(tmp_path: Path) -> None:
    metrics, html, markdown = filled(tmp_path)
    assert metrics.metadata == {"auc": 0.75, "rows": 10.0}
    assert Path(html.path).read_text() == "<!doctype html><title>R</title>"
    assert Path(markdown.path).read_text() == "auc 0.75\n\n# Report"


def test_numbers_that_json_does_not_have_are_left_out(tmp_path: Path) -> None:
    metrics, _, _ = filled(tmp_path, metrics={"loss": float("nan"), "bound": float("inf"), "auc": 0.5})
    assert metrics.metadata == {"auc": 0.5}


def test_a_step_without_a_report_has_a_page_that_says_so(tmp_path: Path) -> None:
    _, html, _ = filled(tmp_path, report_html="")
    assert "no report" in Path(html.path).read_text()


def curves_of(result: dict[str, Any]) -> dict[str, Any]:
    curves = dsl.ClassificationMetrics(name="curves", uri="unused")
    artifacts.fill_curves(result, curves)
    return curves.metadata


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    points = [i / 4999 for i in range(5000)]
    kept = curves_of({"roc": {"fpr": points, "tpr": points, "thresholds": points[::-1]}})
    readings = kept["confidenceMetrics"]
    assert len(readings) == 200
    assert readings[0]["falsePositiveRate"] == 0.0
    assert readings[-1]["falsePositiveRate"] == 1.0


def test_an_infinite_threshold_becomes_the_nearest_finite_one() -> None:
    kept = curves_of({"roc": {"fpr": [0.0, 0.5, 1.0], "tpr": [0.0, 0.8, 1.0], "thresholds": [float("inf"), 0.9, 0.1]}})
    assert [reading["confidenceThreshold"] for reading in kept["confidenceMetrics"]] == [0.9, 0.9, 0.1]


def test_a_confusion_matrix_has_its_labels() -> None:
    kept = curves_of({"confusion": {"labels": ["a", "b"], "matrix": [[3, 1], [0, 4]]}})
    matrix = kept["confusionMatrix"]
    assert [spec["displayName"] for spec in matrix["annotationSpecs"]] == ["a", "b"]
    assert [row["row"] for row in matrix["rows"]] == [[3, 1], [0, 4]]


@pytest.mark.parametrize(
    "result", [{}, {"roc": None, "confusion": None}, {"roc": {"fpr": []}, "confusion": {"matrix": []}}]
)
def test_regression_has_no_curves(result: dict[str, Any]) -> None:
    assert curves_of(result) == {}
