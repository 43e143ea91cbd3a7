"""A small project that trains in pods: two workers on generated rows, as little memory as Ray allows."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import fairlead
from fairlead.kube import Cluster
from fairlead.kube.kinds import PODS, RAYJOBS
from fairlead.wiring import steps
from fairlead.wiring.context import Context, open_context

IMAGE = os.environ.get("FAIRLEAD_TEST_IMAGE", f"localhost/fairlead-platform:{fairlead.__version__}")
PROJECT = """
project: orders
store: STORE
data:
  source: rows.parquet
  label: {column: late, task: binary, positive: "yes"}
  split: {by: random, validation: 20%, test: 25%}
  validate: {schema: schema.yaml, max_rejected: 1%}
features: {numeric: [weight, distance], categorical: {plan: {}}}
train:
  launcher: rayjob
  workers: 2
  global_batch: 64
  epochs: 3
  preflight: false
  retraining_noise: false
  checkpoint: {every_steps: 10, keep: 2}
  rayjob:
    image: IMAGE
    namespace: NAMESPACE
    env_secrets: [store]
    start_deadline: 300
    deadline: 15m
    ttl: 0
    head: {cpu: 0.2, memory: 3GiB, shared_memory: 128MiB}
    worker: {cpu: 0.2, memory: 2GiB, shared_memory: 128MiB}
evaluate: {baselines: false, bootstrap: 50}
"""


def write_project(base: Path, store: str, cluster: Cluster, image: str = IMAGE, rows: int = 1600) -> Path:
    """The project's folder with its rows; returns the project file."""
    base.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    weight, distance = rng.gamma(2.0, 3.0, rows), rng.normal(50, 20, rows)
    plan = rng.choice(("basic", "plus", "pro"), rows, p=[0.5, 0.3, 0.2])
    odds = 0.4 * (weight - 6) + 0.05 * (distance - 50) - 1.5 * (plan == "pro") + rng.logistic(0, 0.8, rows)
    table = {"weight": weight, "distance": distance, "plan": plan, "late": np.where(odds > 0, "yes", "no")}
    pq.write_table(pa.table(table), base / "rows.parquet")
    text = PROJECT.replace("STORE", store).replace("IMAGE", image).replace("NAMESPACE", cluster.namespace)
    file = base / "fairlead.yaml"
    file.write_text(text)
    return file


def prepare(file: Path, run: str, *overrides: str) -> tuple[Context, str]:
    """Validate and prepare; the context of the run and the fingerprint that training starts from."""
    context = open_context(file, overrides, run)
    source = steps.validate(context.to_json())["source_fingerprint"]
    return context, str(steps.prepare(context.to_json(), source)["fingerprint"])


def messages(context: Context) -> Iterator[str]:
    """What the train step has told so far."""
    file = context.run_folder / "progress.jsonl"
    for line in file.read_text().splitlines() if file.exists() else ():
        event = json.loads(line)
        if event["step"] == "train":
            yield str(event["message"])


def rayjobs(cluster: Cluster) -> list[dict[str, Any]]:
    """All RayJobs of the namespace."""
    return cluster.list(RAYJOBS)


def trainers(cluster: Cluster, role: str) -> list[dict[str, Any]]:
    """The running pods of a role (head or worker)."""
    pods = cluster.list(PODS, labels=f"ray.io/node-type={role}")
    return [
        pod for pod in pods if pod["status"].get("phase") == "Running" and not pod["metadata"].get("deletionTimestamp")
    ]


def has_image(cluster: Cluster, nodes: list[Mapping[str, Any]], image: str = IMAGE) -> bool:
    """Whether a node has the image: there is no registry to pull from."""
    return any(image in (found.get("names") or ()) for node in nodes for found in node["status"].get("images") or ())


def until(condition: Callable[[], Any], seconds: float, wait: Callable[[float], None]) -> Any:
    """What `condition` gives once it is true; AssertionError when it stays false."""
    for _ in range(int(seconds / 0.5)):
        found = condition()
        if found:
            return found
        wait(0.5)
    raise AssertionError(f"it did not happen within {seconds:.0f} s")
