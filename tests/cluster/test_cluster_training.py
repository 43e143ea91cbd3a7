"""Training in pods on a real cluster: refused, waiting, trained, adopted, handed over, interrupted, killed."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from training_world import IMAGE, has_image, messages, prepare, rayjobs, trainers, until, write_project

from fairlead.cli import main
from fairlead.errors import ClusterConflict, ClusterRefused, PodsCannotRun, TrainError
from fairlead.kube import Cluster
from fairlead.kube.kinds import NODES, PODS, QUOTAS, RAYJOBS, SECRETS, SERVICE_ACCOUNTS, Kind
from fairlead.store import open_store
from fairlead.testing.seaweedfs import S3Server
from fairlead.wiring import steps
from fairlead.wiring.context import Context

# Long enough to be disturbed in: some thousand steps.
LONG = ("train.epochs=250", "train.checkpoint.every_steps=100")


@pytest.fixture(scope="session")
def image(any_cluster: Cluster) -> str:
    """The platform image, which a node must have: there is no registry to pull from."""
    if not has_image(any_cluster, any_cluster.list(NODES)):
        pytest.skip(f"no node has the image {IMAGE}: make images builds it, FAIRLEAD_TEST_IMAGE names another")
    return IMAGE


def train(context: Context, fingerprint: str) -> dict[str, Any]:
    """The train step in this process."""
    return steps.train(context.to_json(), fingerprint)


# A shell starts what it puts into the background with SIGINT ignored, and a child inherits that.
_LAUNCH = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from fairlead.wiring import steps
steps.train(sys.argv[1], sys.argv[2])
"""


class Launcher:
    """The train step in a process of its own, to be killed."""

    def __init__(self, context: Context, fingerprint: str) -> None:
        words = [sys.executable, "-c", _LAUNCH, context.to_json(), fingerprint]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def end(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end; the exit code, negative for a signal that was not handled."""
        self.process.send_signal(number)
        try:
            self.process.communicate(timeout=60)
        finally:
            self.process.kill()
            self.process.communicate()
        return self.process.returncode


def at_step(context: Context, least: int) -> bool:
    """Whether the pods have left a checkpoint of this step or a later one."""
    keys = [key for key in context.store.list("fits/") if key.endswith("manifest.json")]
    return any(int(key.split("/step-")[1].split("/")[0]) >= least for key in keys)


@dataclass
class Fit:
    """An undisturbed fit."""

    result: dict[str, Any]
    context: Context
    fingerprint: str
    seconds: float


@pytest.fixture(scope="module")
def undisturbed(
    cluster: Cluster, cluster_s3: S3Server, image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fit]:
    """One fit that nobody disturbs, to compare the others with."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cluster_s3.environment.items():
            patch.setenv(name, value)
        base = tmp_path_factory.mktemp("undisturbed")
        file = write_project(base, f"s3://{cluster_s3.bucket}/undisturbed-{time.time_ns()}", cluster)
        context, fingerprint = prepare(file, "undisturbed", *LONG)
        began = time.monotonic()
        yield Fit(train(context, fingerprint), context, fingerprint, time.monotonic() - began)


class TestWhatCannotRun:
    """A RayJob whose pods never come up: the reason is said within half a minute, and nothing is left."""

    def test_an_image_that_nobody_has_is_named_and_given_up(
        self, cluster: Cluster, cluster_store: str, tmp_path: Path
    ) -> None:
        file = write_project(tmp_path / "p", cluster_store, cluster, image="localhost/nobody-has-this:1")
        context, fingerprint = prepare(file, "no-image")
        began = time.monotonic()
        with pytest.raises(PodsCannotRun, match=r"cannot be pulled.*localhost/nobody-has-this:1") as caught:
            train(context, fingerprint)
        assert time.monotonic() - began < 75
        assert "kubectl describe pod" in str(caught.value.fix)
        assert any("cannot be pulled" in message for message in messages(context))
        assert all(job["metadata"].get("deletionTimestamp") for job in rayjobs(cluster))

    def test_too_large_pods_wait_with_the_schedulers_reason(
        self, cluster: Cluster, cluster_store: str, tmp_path: Path
    ) -> None:
        file = write_project(tmp_path / "p", cluster_store, cluster)
        context, fingerprint = prepare(file, "large", "train.rayjob.worker.cpu=64", "train.rayjob.start_deadline=30")
        with pytest.raises(PodsCannotRun, match=r"no node has room: 0/1 nodes are available.*Insufficient cpu"):
            train(context, fingerprint)
        assert any("Insufficient cpu" in message for message in messages(context))

    def test_a_full_quota_is_named(self, cluster: Cluster, cluster_store: str, tmp_path: Path) -> None:
        hard = {"hard": {"pods": "0"}}
        cluster.create(
            QUOTAS, {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "tiny"}, "spec": hard}
        )
        try:
            file = write_project(tmp_path / "p", cluster_store, cluster)
            context, fingerprint = prepare(file, "quota", "train.rayjob.start_deadline=30")
            with pytest.raises(PodsCannotRun, match=r"the quota is used up: exceeded quota: tiny"):
                train(context, fingerprint)
        finally:
            cluster.delete(QUOTAS, "tiny")

    def test_a_priority_class_that_is_not_there_is_refused_before_anything_is_created(
        self, cluster: Cluster, cluster_store: str, tmp_path: Path
    ) -> None:
        file = write_project(tmp_path / "p", cluster_store, cluster)
        context, fingerprint = prepare(
            file, "priority", "train.rayjob.priority_class=nobody-made-this", "train.seed=11"
        )
        before = {job["metadata"]["uid"] for job in rayjobs(cluster)}
        with pytest.raises(ClusterRefused, match="no PriorityClass with name nobody-made-this"):
            train(context, fingerprint)
        assert {job["metadata"]["uid"] for job in rayjobs(cluster)} <= before

    def test_somebody_elses_rayjob_of_this_name_is_left_alone(
        self, cluster: Cluster, cluster_store: str, tmp_path: Path
    ) -> None:
        from fairlead.train.rayjob_render import job_name
        from fairlead.wiring.train import train_key

        file = write_project(tmp_path / "p", cluster_store, cluster)
        context, fingerprint = prepare(file, "foreign", "train.seed=12")
        name = job_name("orders", train_key(context, fingerprint))
        theirs = {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": {"name": name}}
        # A queue that nobody empties: it stays, and makes no pods.
        cluster.create(RAYJOBS, {**theirs, "spec": {"suspend": True, "entrypoint": "true", "rayClusterSpec": CLUSTER}})
        with pytest.raises(ClusterConflict, match=f"another RayJob {name}"):
            train(context, fingerprint)
        found = cluster.get(RAYJOBS, name)
        assert found is not None
        assert not found["metadata"].get("deletionTimestamp")
        cluster.delete(RAYJOBS, name)

    def test_a_secret_that_is_not_there_is_named(
        self, cluster: Cluster, cluster_store: str, tmp_path: Path, image: str
    ) -> None:
        file = write_project(tmp_path / "p", cluster_store, cluster)
        context, fingerprint = prepare(file, "secret", "train.rayjob.env_secrets=[nobody-made-this]")
        with pytest.raises(PodsCannotRun, match=r'secret "nobody-made-this" not found'):
            train(context, fingerprint)

    def test_wrong_credentials_in_the_pods_are_said_as_such(
        self, cluster: Cluster, cluster_store: str, tmp_path: Path, image: str
    ) -> None:
        keys = {"AWS_ACCESS_KEY_ID": "fairlead-test", "AWS_SECRET_ACCESS_KEY": "wrong"}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "wrong"}, "stringData": keys}
        cluster.create(SECRETS, secret)
        file = write_project(tmp_path / "p", cluster_store, cluster)
        overrides = ("train.rayjob.env_secrets=[wrong]", "train.rayjob.retries=0")
        context, fingerprint = prepare(file, "credentials", *overrides)
        with pytest.raises(TrainError, match="failed") as caught:
            train(context, fingerprint)
        assert "the store refuses these credentials" in str(caught.value.why)


CLUSTER = {
    "headGroupSpec": {
        "rayStartParams": {},
        "template": {"spec": {"containers": [{"name": "ray-head", "image": "localhost/nobody-has-this:1"}]}},
    }
}


class TestTraining:
    """The same fit, undisturbed and not."""

    def test_pods_train_what_evaluation_seals(self, undisturbed: Fit, cluster: Cluster) -> None:
        told = list(messages(undisturbed.context))
        assert any(message.startswith("created the RayJob") for message in told)
        assert any("training: epoch" in message for message in told)
        assert undisturbed.result["workers"] == 2
        assert undisturbed.result["resumed_from_step"] is None
        draft = undisturbed.result["draft"]
        assert draft.startswith(f"{undisturbed.context.store.uri}/drafts/")
        judged = steps.evaluate(undisturbed.context.to_json(), undisturbed.fingerprint, draft)
        assert judged["metrics"]["auc"] > 0.7
        (job,) = [
            each for each in rayjobs(cluster) if each["metadata"]["labels"]["fairlead.dev/run-id"] == "undisturbed"
        ]
        assert job["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
        print(f"a RayJob of two workers from nothing to weights: {undisturbed.seconds:.0f} s")

    def test_the_same_again_needs_no_pods(self, undisturbed: Fit, tmp_path: Path, cluster: Cluster) -> None:
        before = {job["metadata"]["uid"] for job in rayjobs(cluster)}
        again = train(undisturbed.context, undisturbed.fingerprint)
        assert again["weights_sha256"] == undisturbed.result["weights_sha256"]
        assert {job["metadata"]["uid"] for job in rayjobs(cluster)} == before

    def test_a_killed_launchers_rayjob_is_adopted_and_a_lost_worker_goes_on_from_its_checkpoint(
        self,
        undisturbed: Fit,
        cluster: Cluster,
        cluster_store: str,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        file = write_project(tmp_path / "p", cluster_store, cluster)
        context, fingerprint = prepare(file, "disturbed", *LONG)
        first = Launcher(context, fingerprint)
        until(lambda: at_step(context, 100), 240, time.sleep)
        (job,) = [each for each in rayjobs(cluster) if each["metadata"]["labels"]["fairlead.dev/run-id"] == "disturbed"]
        assert first.end(signal.SIGKILL) == -signal.SIGKILL

        lost = trainers(cluster, "worker")[0]["metadata"]["name"]
        cluster.delete(PODS, lost, grace_seconds=0)
        with caplog.at_level(logging.INFO, "fairlead"):
            result = train(context, fingerprint)
        assert any("adopted the RayJob" in message for message in messages(context))
        assert [each["metadata"]["uid"] for each in rayjobs(cluster) if at_run(each, "disturbed")] == [
            job["metadata"]["uid"]
        ]
        assert result["resumed_from_step"] >= 100
        assert result["weights_sha256"] == undisturbed.result["weights_sha256"]
        # What the driver printed in the pod came here line by line.
        assert any("training: epoch" in record.message for record in caplog.records)

    def test_told_to_leave_it_is_handed_over_and_interrupted_it_is_deleted(
        self, image: str, cluster: Cluster, cluster_store: str, tmp_path: Path
    ) -> None:
        file = write_project(tmp_path / "p", cluster_store, cluster)
        context, fingerprint = prepare(file, "leaving", *LONG)

        def ours() -> dict[str, Any] | None:
            return next((job for job in rayjobs(cluster) if at_run(job, "leaving")), None)

        first = Launcher(context, fingerprint)
        job = until(
            lambda: (found := ours()) and (found.get("status") or {}).get("startTime") and found, 60, time.sleep
        )
        assert first.end(signal.SIGTERM) == 128 + signal.SIGTERM
        handed = cluster.get(RAYJOBS, job["metadata"]["name"])
        assert handed is not None
        assert handed["spec"]["activeDeadlineSeconds"] < 180 < job["spec"]["activeDeadlineSeconds"]

        second = Launcher(context, fingerprint)
        until(lambda: ours()["spec"]["activeDeadlineSeconds"] == 900, 60, time.sleep)  # type: ignore[index]
        assert ours()["metadata"]["uid"] == job["metadata"]["uid"]  # type: ignore[index]
        assert second.end(signal.SIGINT) != 0
        until(lambda: ours() is None or ours()["metadata"].get("deletionTimestamp"), 60, time.sleep)  # type: ignore[index]
        assert open_store(context.store.uri, tmp_path).list("fits/")


def at_run(job: dict[str, Any], run: str) -> bool:
    """Whether a RayJob belongs to a run."""
    return bool((job["metadata"].get("labels") or {}).get("fairlead.dev/run-id") == run)


def account(cluster: Cluster, name: str, rules: list[dict[str, Any]], folder: Path) -> Path:
    """A kubeconfig of a service account that may do what the rules say, and nothing else."""
    rbac = "rbac.authorization.k8s.io"
    cluster.create(SERVICE_ACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
    role = {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": {"name": name}, "rules": rules}
    cluster.create(Kind(rbac, "v1", "roles"), role)
    binding = {
        "apiVersion": f"{rbac}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": cluster.namespace}],
    }
    cluster.create(Kind(rbac, "v1", "rolebindings"), binding)
    path = SERVICE_ACCOUNTS.path(cluster.namespace, name, "token")
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = cluster.request("POST", path, "ask for a token", body=request)["status"]["token"]
    config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    config["users"] = [{"name": name, "user": {"token": token}}]
    config["contexts"] = [{"name": name, "context": {"cluster": config["clusters"][0]["name"], "user": name}}]
    config["current-context"] = name
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return file


class TestDoctor:
    """`fairlead doctor --on cluster` finds what is there and what is not."""

    def findings(
        self, file: Path, capsys: pytest.CaptureFixture[str], *words: str
    ) -> tuple[int, dict[str, list[dict[str, Any]]]]:
        capsys.readouterr()
        code = main(["doctor", "--on", "cluster", "-f", str(file), "-o", "json", *words])
        found: dict[str, list[dict[str, Any]]] = {}
        for finding in json.loads(capsys.readouterr().out)["findings"]:
            found.setdefault(finding["name"], []).append(finding)
        return code, found

    def test_a_cluster_that_has_everything(
        self, cluster: Cluster, cluster_store: str, tmp_path: Path, image: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = write_project(tmp_path / "p", cluster_store, cluster)
        code, found = self.findings(file, capsys)
        assert code == 0
        names = ("cluster", "version", "namespace", "kuberay", "operator", "permissions", "storage class", "nodes")
        for name in (*names, "quota", "admission", "image", "store from a pod"):
            assert {finding["status"] for finding in found[name]} == {"ok"}, found[name]
        assert found["gpu nodes"][0]["status"] == "note"
        left = [pod["metadata"] for pod in cluster.list(PODS) if pod["metadata"]["name"].startswith("fairlead-doctor")]
        assert all(metadata.get("deletionTimestamp") for metadata in left)

    def test_what_is_wrong_is_named_with_its_fix(
        self, cluster: Cluster, cluster_store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = write_project(tmp_path / "p", cluster_store, cluster, image="localhost/nobody-has-this:1")
        code, found = self.findings(file, capsys, "--set", "train.rayjob.worker={cpu: 64, gpus: 8, memory: 2GiB}")
        assert code == 8
        for name in ("image", "gpu nodes", "worker pod"):
            assert found[name][0]["status"] == "problem", found[name]
            assert found[name][0]["fix"]

    def test_an_account_with_the_trainers_role_is_told_what_else_it_misses(
        self, cluster: Cluster, cluster_store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        rules = [{"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["get", "create", "patch", "delete"]}]
        context = account(cluster, "runner", rules, tmp_path)
        file = write_project(tmp_path / "p", cluster_store, cluster)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(context))
            code, found = self.findings(file, capsys)
        assert code == 8
        problems = {each["message"]: each["fix"] for each in found["permissions"] if each["status"] == "problem"}
        assert problems == {
            f"may not list {kind} (say why a job waits)": f"kubectl create role fairlead-{kind} -n {cluster.namespace} "
            f"--verb=list --resource={kind}, and bind it"
            for kind in ("pods", "events")
        }
        assert found["kuberay"][0]["message"].startswith("the CRD rayjobs.ray.io is installed")
        assert found["nodes"][0]["status"] == "note"
        assert "clusterrole" in found["nodes"][0]["fix"]

    def test_a_namespace_that_is_not_there(
        self, cluster: Cluster, cluster_store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = write_project(tmp_path / "p", cluster_store, cluster)
        code, found = self.findings(file, capsys, "--set", "train.rayjob.namespace=nobody-made-this")
        assert code == 8
        assert found["namespace"][0]["fix"] == "kubectl create namespace nobody-made-this"

    def test_an_unknown_context(
        self, cluster: Cluster, cluster_store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = write_project(tmp_path / "p", cluster_store, cluster)
        code, found = self.findings(file, capsys, "--set", "train.rayjob.context=nowhere")
        assert code == 8
        assert "no context nowhere" in found["cluster"][0]["message"]
