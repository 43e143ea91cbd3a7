"""A model that is served by the chart on a real cluster, and what tests ask about it."""

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from onnx import numpy_helper

from fairlead.bundle.bundle import publish, seal
from fairlead.bundle.calibration import Calibration
from fairlead.kube import Cluster
from fairlead.kube.kinds import PODS, RAYSERVICES
from fairlead.records.model import BundleManifest
from fairlead.records.registry import Version
from fairlead.records.rollout import RolloutRecord
from fairlead.serve.client import ServingClient
from fairlead.serve.traffic import TrafficPlan, run_traffic
from fairlead.testing.bundles import sample_table, sealed_bundle, write_draft
from fairlead.wiring.context import Context, open_context

MODEL = "flights"
IMAGE, TAG = "localhost/fairlead-serving", os.environ.get("FAIRLEAD_TEST_TAG", "0.1.0")
ROW = {"distance": 600.0, "wind": 10.0, "carrier": "AA"}
FIELDS = ("distance", "wind", "carrier")
START_SECONDS = 240.0


def write_project(folder: Path, store: str, cluster: Cluster, endpoint: str, port: int, **values: Any) -> Path:
    """A project whose servers are a release of the chart, reached by a port of the node."""
    folder.mkdir(parents=True)
    rows = sample_table(400, seed=3)
    labels = pa.array([index % 2 == 0 for index in range(400)])
    pq.write_table(rows.append_column("late", labels), folder / "live.parquet")
    chart = {
        "image": {"repository": IMAGE, "tag": TAG, "pullPolicy": "Never"},
        "store": {"endpoint": endpoint, "existingSecret": "store"},
        "service": {"type": "NodePort", "nodePort": port},
        "ray": {"head": {"resources": {"requests": {"cpu": "200m", "memory": "1Gi"}, "limits": {"memory": "3Gi"}}}},
        "networkPolicy": {"enabled": False},
        **values,
    }
    (folder / "values.yaml").write_text(yaml.safe_dump(chart))
    project = {
        "project": MODEL,
        "store": store,
        "data": {"source": "live.parquet", "label": {"column": "late", "positive": True}},
        "features": {"numeric": ["distance", "wind"], "categorical": ["carrier"]},
        "serve": {"deadline_ms": 2000, "log": {"enabled": False}},
        "deploy": {
            "on": "cluster",
            "cluster": {"namespace": cluster.namespace, "values": "values.yaml", "url": f"http://127.0.0.1:{port}"},
            "rollout": {
                "shadow": {"percent": 100, "min_requests": 200, "max_flip_rate": 1, "max_score_difference": 1},
                "steps": [10, 50],
                "canary": {"min_requests": 100, "max_error_rate_increase": 0.1, "max_slow_rate": 0.2},
            },
        },
    }
    file = folder / "fairlead.yaml"
    file.write_text(yaml.safe_dump(project))
    return file


@dataclass
class Served:
    """The project, its cluster, and requests to it."""

    file: Path
    cluster: Cluster
    url: str
    results: list[dict[str, Any]] = field(default_factory=list)

    def context(self, *overrides: str) -> Context:
        """The project as a command sees it."""
        return open_context(self.file, overrides)

    def register(self, seed: int, *, fails: bool = False) -> Version:
        """A new version with other weights; one that `fails` raises for some rows."""
        context = self.context()
        folder = self.file.parent / f"draft-{seed}"
        if fails:
            manifest = _failing_bundle(folder, seed)
        else:
            manifest = sealed_bundle(folder, model=MODEL, seed=seed, run=f"run-{seed}")
        uri = publish(context.store, folder, MODEL)
        return context.registry().register(
            bundle_uri=uri, digest=manifest.digest, run=f"run-{seed}", facts={}, actor="tests", why="a test"
        )

    def client(self) -> ServingClient:
        """A client with the token from the cluster."""
        from fairlead.wiring.cluster import cluster_client

        client = cluster_client(self.context())
        client.model = MODEL
        return client

    def traffic(self, rate: float, **options: Any) -> "Traffic":
        """Requests in the background until stopped."""
        return Traffic(TrafficPlan(self.url, MODEL, "live.parquet", self.file.parent, FIELDS, rate, **options))

    def pods(self) -> dict[str, tuple[str, int]]:
        """Names of the pods, with their uid and restarts."""
        return {
            pod["metadata"]["name"]: (
                pod["metadata"]["uid"],
                sum(status["restartCount"] for status in pod["status"].get("containerStatuses", [])),
            )
            for pod in self.cluster.list(PODS, labels="ray.io/is-ray-node=yes")
        }

    def helm(self, *arguments: str) -> str:
        """What the program says."""
        command = ["helm", "--namespace", self.cluster.namespace, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def history(self) -> list[dict[str, Any]]:
        """The release's revisions."""
        found: list[dict[str, Any]] = json.loads(self.helm("history", MODEL, "-o", "json"))
        return found

    def service(self) -> dict[str, Any]:
        """The RayService."""
        found = self.cluster.get(RAYSERVICES, MODEL)
        assert found is not None
        return found

    def wait(self, condition: Callable[[Any], bool], seconds: float = 60.0) -> Any:
        """Until the control route shows it."""
        deadline = time.monotonic() + seconds
        with self.client() as client:
            while not condition(status := client.release()):
                assert time.monotonic() < deadline, status
                time.sleep(0.1)
        return status


def _failing_bundle(folder: Path, seed: int) -> BundleManifest:
    """A bundle whose table lacks the last category and the one for unknown values: rows with these get no answer."""
    write_draft(folder, seed=seed)
    model = onnx.load(folder / "model.onnx")
    (table,) = [tensor for tensor in model.graph.initializer if tensor.name == "table"]
    table.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(table)[:-2], "table"))
    onnx.save(model, folder / "model.onnx")
    lineage = {"data_fingerprint": "f" * 64, "code_version": "test", "seed": seed, "run": f"run-{seed}"}
    return seal(folder, MODEL, lineage, Calibration("temperature", "binary", 1.5), "# fails\n")


class Traffic:
    """A fixed rate of requests; used as a context manager, `result` is there afterwards."""

    def __init__(self, plan: TrafficPlan) -> None:
        self._plan, self._stop = plan, threading.Event()
        self.result: dict[str, Any] = {}
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self.result = run_traffic(self._plan, stop=self._stop.is_set)

    def __enter__(self) -> "Traffic":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)


def story(record: RolloutRecord) -> str:
    """A rollout's decisions, a line each."""
    return "\n".join(f"{d.at[11:19]} {d.phase_after.value:<9} {d.sentence[:110]}" for d in record.decisions)
