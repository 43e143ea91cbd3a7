"""Training in pods on a real cluster: refused, waiting, trained, adopted, cancelled, killed."""

import time
from pathlib import Path

import pytest
from training_world import messages, prepare, rayjobs, write_project

from fairlead.errors import PodsCannotRun
from fairlead.kube import Cluster
from fairlead.kube.kinds import QUOTAS
from fairlead.wiring import steps

WITHIN_SECONDS = 30.0


class TestWhatCannotRun:
    """A RayJob whose pods never come up: the reason is said within half a minute, and nothing is left."""

    def test_an_image_that_nobody_has_is_named_and_given_up(
        self, cluster: Cluster, cluster_store: str, tmp_path: Path
    ) -> None:
        file = write_project(tmp_path / "p", cluster_store, cluster, image="localhost/nobody-has-this:1")
        context, fingerprint = prepare(file, "no-image")
        began = time.monotonic()
        with pytest.raises(PodsCannotRun, match=r"cannot be pulled.*localhost/nobody-has-this:1") as caught:
            steps.train(context.to_json(), fingerprint)
        assert time.monotonic() - began < 75
        assert "kubectl describe pod" in str(caught.value.fix)
        assert any("cannot be pulled" in message for message in messages(context))
        assert rayjobs(cluster) == [] or rayjobs(cluster)[0]["metadata"].get("deletionTimestamp")

    def test_too_large_pods_wait_with_the_schedulers_reason(
        self, cluster: Cluster, cluster_store: str, tmp_path: Path
    ) -> None:
        file = write_project(tmp_path / "p", cluster_store, cluster)
        context, fingerprint = prepare(file, "large", "train.rayjob.worker.cpu=64", "train.rayjob.start_deadline=30")
        with pytest.raises(PodsCannotRun, match=r"no node has room: 0/1 nodes are available.*Insufficient cpu"):
            steps.train(context.to_json(), fingerprint)
        assert any("Insufficient cpu" in message for message in messages(context))

    def test_a_full_quota_is_named(self, cluster: Cluster, cluster_store: str, tmp_path: Path) -> None:
        quota = {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "tiny"},
            "spec": {"hard": {"pods": "0"}},
        }
        cluster.create(QUOTAS, quota)
        try:
            file = write_project(tmp_path / "p", cluster_store, cluster)
            context, fingerprint = prepare(file, "quota", "train.rayjob.start_deadline=30")
            with pytest.raises(PodsCannotRun, match=r"the quota is used up: exceeded quota: tiny"):
                steps.train(context.to_json(), fingerprint)
        finally:
            cluster.delete(QUOTAS, "tiny")

    def test_a_secret_that_is_not_there_is_named(self, cluster: Cluster, cluster_store: str, tmp_path: Path) -> None:
        file = write_project(tmp_path / "p", cluster_store, cluster, image="localhost/python:3.11-slim")
        context, fingerprint = prepare(file, "secret", "train.rayjob.env_secrets=[nobody-made-this]")
        with pytest.raises(PodsCannotRun, match=r'secret "nobody-made-this" not found'):
            steps.train(context.to_json(), fingerprint)
