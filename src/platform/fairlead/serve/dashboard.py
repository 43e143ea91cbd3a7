"""A Grafana dashboard with a panel per metric of a server, drawn from the collectors that it registers."""

import json
from typing import Any

from prometheus_client import Counter, Histogram
from prometheus_client.metrics import MetricWrapperBase

from fairlead.serve.metrics import Metrics

MODEL = "__MODEL__"
"""Stands for the model's name, until the chart knows it."""

_WIDTH, _HEIGHT, _COLUMNS = 12, 8, 24
_UNITS = {"_seconds": "s", "_percent": "percent", "_bytes": "bytes"}


def dashboard_file() -> str:
    """The dashboard as Grafana imports it (schema 39), the same text for the same metrics."""
    collectors = [c for c in vars(Metrics("model")).values() if isinstance(c, MetricWrapperBase)]
    panels = [_panel(collector, number) for number, collector in enumerate(collectors)]
    value = {
        "uid": f"fairlead-{MODEL}",
        "title": f"Fairlead: {MODEL}",
        "tags": ["fairlead"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [{"name": "datasource", "type": "datasource", "query": "prometheus"}]},
        "panels": panels,
    }
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def _panel(collector: MetricWrapperBase, number: int) -> dict[str, Any]:
    metric = next(iter(collector.describe()))
    labels = [label for label in collector._labelnames if label != "model"]
    legend = " ".join(f"{{{{{label}}}}}" for label in labels) or MODEL
    selector = f'{{model="{MODEL}"}}'
    unit = next((unit for suffix, unit in _UNITS.items() if metric.name.endswith(suffix)), "short")
    by = f" by ({', '.join(labels)})" if labels else ""
    if isinstance(collector, Histogram):
        bucket = f"{metric.name}_bucket{selector}"
        groups = ", ".join(["le", *labels])
        queries = [
            (f"histogram_quantile({q}, sum by ({groups}) (rate({bucket}[$__rate_interval])))", f"p{q * 100:g} {legend}")
            for q in (0.5, 0.99)
        ]
    elif isinstance(collector, Counter):
        queries = [(f"sum{by} (rate({metric.name}_total{selector}[$__rate_interval]))", legend)]
        unit = "ops"
    else:
        queries = [(f"max{by} ({metric.name}{selector})", legend)]
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": metric.documentation.rstrip("."),
        "description": metric.name,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "gridPos": {
            "x": number * _WIDTH % _COLUMNS,
            "y": number * _WIDTH // _COLUMNS * _HEIGHT,
            "w": _WIDTH,
            "h": _HEIGHT,
        },
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + index), "expr": expression, "legendFormat": legend_format}
            for index, (expression, legend_format) in enumerate(queries)
        ],
    }
