"""A real cluster, a real S3 server that its pods reach, and a fresh restricted namespace for each module.

KUBECONFIG says which cluster; `make test-cluster` brings one up. FAIRLEAD_TEST_NAMESPACE: how the names of namespaces
begin (fl-test).
"""

import os
import uuid
from collections.abc import Iterator

import pytest

from fairlead.errors import FairleadError
from fairlead.kube import Cluster, open_cluster
from fairlead.kube.kinds import NAMESPACES, NODES, SECRETS
from fairlead.testing.seaweedfs import S3Server, seaweedfs

STORE_SECRET = "store"
_LEVEL = "pod-security.kubernetes.io/enforce"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs the cluster."""
    for item in items:
        if "tests/cluster" in item.path.as_posix():
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def any_cluster() -> Cluster:
    """The cluster, in its default namespace."""
    if "KUBECONFIG" not in os.environ:
        pytest.skip("no cluster: KUBECONFIG is not set; make test-cluster brings one up")
    try:
        cluster = open_cluster()
        cluster.version()
    except FairleadError as error:
        pytest.skip(f"no cluster: {error.what}")
    return cluster


@pytest.fixture(scope="session")
def cluster_s3(any_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server on the node's address, which pods and this machine reach."""
    addresses = any_cluster.list(NODES)[0]["status"]["addresses"]
    node = next(str(each["address"]) for each in addresses if each["type"] == "InternalIP")
    with seaweedfs(tmp_path_factory.mktemp("cluster-s3"), host=node) as server:
        yield server


@pytest.fixture(scope="module")
def cluster(any_cluster: Cluster, cluster_s3: S3Server) -> Iterator[Cluster]:
    """The cluster in a namespace of its own: restricted, with the store's credentials in the Secret `store`."""
    name = f"{os.environ.get('FAIRLEAD_TEST_NAMESPACE', 'fl-test')}-{uuid.uuid4().hex[:5]}"
    own = open_cluster(namespace=name)
    labels = {"name": name, "labels": {_LEVEL: "restricted"}}
    own.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": labels})
    try:
        keys = {key: cluster_s3.environment[key] for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": STORE_SECRET}, "stringData": keys}
        own.create(SECRETS, secret)
        yield own
    finally:
        own.delete(NAMESPACES, name)


@pytest.fixture
def cluster_store(cluster_s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A fresh ``s3://bucket/prefix``, with endpoint and credentials in the environment."""
    for name, value in cluster_s3.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{cluster_s3.bucket}/{uuid.uuid4().hex}"
