"""A deployment that cannot be: each cause is named with what to do, and nothing is left half made."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from serving_world import MODEL, Served, write_project

from fairlead.errors import ClusterConflict, ClusterRefused, FairleadError, PodsCannotRun, ServeError
from fairlead.kube import Cluster
from fairlead.kube.kinds import RAYSERVICES, SECRETS, SERVICE_ACCOUNTS
from fairlead.testing.seaweedfs import S3Server
from fairlead.wiring import steps

PORT = 31841


class Deployment:
    """A project with a registered version, and attempts to deploy it."""

    def __init__(self, folder: Path, cluster: Cluster, s3: S3Server) -> None:
        self.cluster, self.s3 = cluster, s3
        store = f"s3://{s3.bucket}/{cluster.namespace}/{folder.parent.name}"
        self.file = write_project(folder / "project", store, cluster, s3.endpoint, PORT)
        self.served = Served(self.file, cluster, f"http://127.0.0.1:{PORT}")
        self.served.register(1)

    def change(self, **values: Any) -> None:
        """Other values of the chart."""
        file = self.file.parent / "values.yaml"
        file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **values}))

    def refused(self, error: type[FairleadError], *overrides: str) -> FairleadError:
        """What the attempt is refused with."""
        with pytest.raises(error) as caught:
            steps.deploy(self.served.context(*overrides).to_json(), 1)
        print(f"\n{caught.value}")
        return caught.value

    def nothing_is_left(self) -> None:
        """Neither of Helm nor of the chart."""
        assert self.cluster.get(RAYSERVICES, MODEL) is None
        names = [secret["metadata"]["name"] for secret in self.cluster.list(SECRETS)]
        assert not [name for name in names if name.startswith("sh.helm.release")], names


@pytest.fixture
def deployment(
    cluster: Cluster, cluster_s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Deployment]:
    for name, value in cluster_s3.environment.items():
        monkeypatch.setenv(name, value)
    yield Deployment(tmp_path, cluster, cluster_s3)
    command = ["helm", "-n", cluster.namespace, "uninstall", MODEL, "--ignore-not-found", "--wait"]
    subprocess.run(command, check=True, capture_output=True)


def test_values_that_contradict(deployment: Deployment) -> None:
    deployment.change(autoscaling={"enabled": True, "minReplicas": 4, "maxReplicas": 2})
    error = deployment.refused(ClusterRefused)
    assert "minReplicas" in str(error)
    deployment.nothing_is_left()


def test_a_value_that_does_not_exist(deployment: Deployment) -> None:
    deployment.change(replicaz=3)
    error = deployment.refused(ClusterRefused)
    assert "replicaz" in str(error)
    assert "deploy.cluster.values" in str(error.fix)
    deployment.nothing_is_left()


def test_an_object_of_somebody_else(deployment: Deployment) -> None:
    theirs = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": MODEL}}
    deployment.cluster.create(SERVICE_ACCOUNTS, theirs)
    try:
        error = deployment.refused(ClusterConflict)
        assert "belong to somebody else" in str(error)
        assert "ServiceAccount" in str(error)
        deployment.nothing_is_left()
        assert deployment.cluster.get(SERVICE_ACCOUNTS, MODEL) is not None
    finally:
        deployment.cluster.delete(SERVICE_ACCOUNTS, MODEL)


def test_a_release_of_another_chart(deployment: Deployment, tmp_path: Path) -> None:
    chart = tmp_path / "other"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("{apiVersion: v2, name: other, version: 1.0.0}")
    (chart / "templates" / "c.yaml").write_text("{apiVersion: v1, kind: ConfigMap, metadata: {name: other}}")
    command = ["helm", "-n", deployment.cluster.namespace, "install", MODEL, str(chart)]
    subprocess.run(command, check=True, capture_output=True)
    error = deployment.refused(ClusterConflict)
    assert "belongs to another chart: other-1.0.0" in str(error)
    assert "deploy.cluster.release" in str(error.fix)


def test_an_account_that_may_not(deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    config["users"][0]["user"]["as"] = f"system:serviceaccount:{deployment.cluster.namespace}:default"
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    error = deployment.refused(ClusterRefused)
    assert "forbidden" in str(error).lower()
    assert "doctor --on cluster" in str(error.fix)
    monkeypatch.undo()
    deployment.nothing_is_left()


def test_an_image_that_nobody_has(deployment: Deployment) -> None:
    digest = "sha256:" + "0" * 64
    image = {"repository": "localhost/fairlead-serving", "digest": digest, "pullPolicy": "Never"}
    deployment.change(image=image)
    error = deployment.refused(PodsCannotRun)
    assert "the node does not have it" in str(error)
    assert "kubectl describe pod" in str(error.fix)


def test_a_head_whose_request_is_above_its_limit(deployment: Deployment) -> None:
    deployment.change(ray={"head": {"resources": {"requests": {"cpu": "200"}, "limits": {"cpu": "1"}}}})
    error = deployment.refused(PodsCannotRun)
    assert "must be less than or equal to cpu limit" in str(error)


def test_a_head_that_fits_no_node(deployment: Deployment) -> None:
    resources = {"requests": {"cpu": "200", "memory": "1Gi"}, "limits": {"cpu": "200", "memory": "3Gi"}}
    deployment.change(ray={"head": {"resources": resources}})
    error = deployment.refused(FairleadError, "deploy.cluster.start_deadline=45")
    assert "no node has room" in str(error)
    assert "Insufficient cpu" in str(error)


def test_a_store_that_does_not_answer(deployment: Deployment) -> None:
    deployment.change(store={"endpoint": "http://127.0.0.1:9", "existingSecret": "store"})
    error = deployment.refused(ServeError, "deploy.cluster.start_deadline=100")
    assert "the store does not answer" in str(error)
    assert "127.0.0.1:9" in str(error)


def test_a_bundle_with_another_digest(deployment: Deployment) -> None:
    context = deployment.served.context()
    version = context.registry().get("1")
    name = next(name for name in context.store.list(version.bundle_uri) if name.endswith("model.onnx"))
    context.store.write(name, context.store.read(name) + b"\0")
    error = deployment.refused(FairleadError)
    assert "model.onnx" in str(error)
    deployment.nothing_is_left()


def test_no_service_of_the_cluster_is_reached_from_here(deployment: Deployment) -> None:
    error = deployment.refused(ServeError, "deploy.cluster.url=null")
    assert "kubectl port-forward" in str(error.fix)
    deployment.nothing_is_left()
