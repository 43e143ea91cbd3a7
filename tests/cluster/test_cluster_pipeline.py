"""Every step of the compiled pipeline as a pod: the IR's image, command, resources, Secret, scratch, retries."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from accounts import create_account
from fairlead.pipelines.on_cluster import build
from kfp import compiler
from training_world import IMAGE, has_image

import fairlead
from fairlead.cli import main
from fairlead.kube import Cluster
from fairlead.kube.kinds import NODES, PODS, RAYSERVICES
from fairlead.spec.pipeline import Pipeline
from fairlead.store import open_store
from fairlead.testing.fake_kubeflow import fake_kubeflow
from fairlead.testing.ir_run import Attempt, CompiledPipeline, Ended
from fairlead.testing.ir_runners import PodRunner
from fairlead.testing.seaweedfs import S3Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
STEP_IMAGE = os.environ.get("FAIRLEAD_TEST_STEP_IMAGE", IMAGE)
PROJECT = """
project: orders
store: STORE
data:
  source: rows.parquet
  label: {column: late, task: binary, positive: "yes"}
  split: {by: random, validation: 20%, test: 25%}
  validate: {schema: schema.yaml, max_rejected: 1%}
features: {numeric: [weight, distance], categorical: {plan: {}}}
train: {launcher: inprocess, workers: 1, global_batch: 64, epochs: 2, preflight: false, retraining_noise: false}
evaluate: {baselines: false, bootstrap: 50, gates: [{metric: auc, min: 0.6}]}
pipeline:
  image: IMAGE
  namespace: NAMESPACE
  env_secrets: [store]
  retries: 1
  backoff: 1s
  deadline: 10m
  step: {cpu: 0.1, memory: 1GiB}
  train: {cpu: 0.2, memory: 2GiB}
deploy:
  on: cluster
  cluster: {namespace: NAMESPACE, values: values.yaml, env_secrets: [store], store_endpoint: ENDPOINT}
"""
ACCOUNT = "fairlead-pipeline"
SERVING = f"localhost/fairlead-serving:{fairlead.__version__}"


@pytest.fixture
def project(tmp_path: Path, cluster: Cluster, cluster_store: str, cluster_s3: S3Server) -> Path:
    """A project folder with its data."""
    for image in (STEP_IMAGE, SERVING):
        if not has_image(cluster, cluster.list(NODES), image):
            pytest.skip(f"no node has {image}; make images")
    folder = tmp_path / "orders"
    folder.mkdir()
    rng = np.random.default_rng(1)
    weight, distance = rng.gamma(2.0, 3.0, 1600), rng.normal(50, 20, 1600)
    plan = rng.choice(("basic", "plus", "pro"), 1600, p=[0.5, 0.3, 0.2])
    odds = 0.4 * (weight - 6) + 0.05 * (distance - 50) - 1.5 * (plan == "pro") + rng.logistic(0, 0.8, 1600)
    columns = {"weight": weight, "distance": distance, "plan": plan, "late": np.where(odds > 0, "yes", "no")}
    pq.write_table(pa.table(columns), folder / "rows.parquet")
    text = PROJECT.replace("STORE", cluster_store).replace("IMAGE", STEP_IMAGE)
    text = text.replace("NAMESPACE", cluster.namespace).replace("ENDPOINT", cluster_s3.endpoint)
    (folder / "fairlead.yaml").write_text(text)
    repository, _, tag = SERVING.rpartition(":")
    chart = {
        "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
        "store": {"endpoint": cluster_s3.endpoint, "existingSecret": "store"},
        "ray": {"head": {"resources": {"requests": {"cpu": "200m", "memory": "1Gi"}, "limits": {"memory": "3Gi"}}}},
    }
    (folder / "values.yaml").write_text(yaml.safe_dump(chart))
    return folder / "fairlead.yaml"


def in_pods(
    cluster: Cluster, server: S3Server, began: Callable[[Attempt, str], None]
) -> Callable[[dict[str, Any], dict[str, Any], str, Ended], None]:
    told = ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")
    environment = {name: server.environment[name] for name in told}
    runner = PodRunner(cluster, service_account=ACCOUNT, environment=environment, began=began)

    def execute(spec: dict[str, Any], parameters: dict[str, Any], run: str, ended: Ended) -> None:
        root = f"s3://{server.bucket}/kfp-root"
        CompiledPipeline.submitted(spec).run(runner, parameters, run=run, root=root, ended=ended)

    return execute


def test_the_submitted_pipeline_runs_in_pods_and_a_lost_pod_is_tried_again(
    project: Path, cluster: Cluster, cluster_s3: S3Server, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    create_account(cluster, ACCOUNT)
    pods: list[str] = []

    def began(attempt: Attempt, pod: str) -> None:
        pods.append(pod)
        if attempt.task == "prepare" and attempt.number == 1:
            path = PODS.path(cluster.namespace, pod)
            cluster.request("DELETE", path, "lose a pod", body={"gracePeriodSeconds": 0})

    with fake_kubeflow(in_pods(cluster, cluster_s3, began), namespaces=(cluster.namespace,)) as kubeflow:
        words = ["run", "--on", "cluster", "--wait", "--host", kubeflow.url, "-o", "json"]
        code = main([*words, "-f", str(project)])
        said = capsys.readouterr()
    print(said.err, said.out)
    assert code == 0
    value = json.loads(said.out)
    assert value["steps"]["register"]["version"] == 1
    ended = kubeflow.ended[value["run"]]
    once = ("validate", "train", "evaluate", "register", "deploy", "finish")
    assert ended.tries == {**dict.fromkeys(once, 1), "prepare": 2}
    assert len(pods) == 8
    train = next(pod for pod in pods if pod.startswith("train"))
    shown = cluster.get(PODS, train)
    assert shown is not None
    assert shown["spec"]["containers"][0]["resources"]["limits"]["memory"] == "2Gi"
    root = open_store(f"s3://{cluster_s3.bucket}/kfp-root", tmp_path)
    page = root.read(f"train-and-release/{value['run']}/evaluate/report")
    assert b"<html" in page
    metrics = ended.artifacts["evaluate"]["metrics"]["artifacts"][0]["metadata"]
    assert metrics["auc"] > 0.6
    service = cluster.get(RAYSERVICES, "orders")
    assert service is not None
    assert service["status"]["serviceStatus"] == "Running"
    assert "champion" in value["steps"]["deploy"]["summary"]


def test_the_ir_alone_is_enough_for_a_pod(project: Path, cluster: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    place = Pipeline(image=STEP_IMAGE, env_secrets=("store",), deadline=600)
    compiler.Compiler().compile(build(place, "validate"), str(path))
    manifests: list[dict[str, Any]] = []

    def keep(attempt: Attempt) -> dict[str, Any]:
        manifests.append(PodRunner(cluster).manifest(attempt))
        cluster.create(PODS, manifests[-1], dry_run=True)
        outputs = attempt.executor_input["outputs"]["parameters"]
        return {"parameterValues": dict.fromkeys(outputs, "")}

    CompiledPipeline.parse(path.read_text()).run(keep, {"context": "{}"}, run="0123456789", root="s3://b/k")
    assert [manifest["metadata"]["name"] for manifest in manifests] == ["validate-1-01234567", "finish-1-01234567"]
