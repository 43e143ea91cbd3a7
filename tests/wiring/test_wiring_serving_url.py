"""Where commands here reach the servers of a cluster."""

from pathlib import Path

import pytest

from fairlead.errors import ServeError
from fairlead.wiring.cluster import serving_url
from fairlead.wiring.context import Context, open_context

PROJECT = """
project: orders
data: {source: rows.parquet, label: {column: late}}
features: {numeric: [weight]}
deploy: {on: cluster, cluster: {namespace: team}}
"""


def context(folder: Path, *overrides: str) -> Context:
    file = folder / "fairlead.yaml"
    file.write_text(PROJECT)
    return open_context(file, overrides)


def test_the_address_in_the_project_file_wins(tmp_path: Path) -> None:
    assert serving_url(context(tmp_path, "deploy.cluster.url=http://127.0.0.1:31811")) == "http://127.0.0.1:31811"


def test_from_outside_a_service_needs_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ServeError, match="cannot be reached from outside") as refused:
        serving_url(context(tmp_path))
    assert "port-forward svc/orders-serve-svc" in str(refused.value.fix)
