"""The RayJob of a fit: what is rendered, what a status means, what is done about one that is there."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from fairlead.errors import ClusterIncomplete, PodsCannotRun
from fairlead.spec.rayjob import RayJob
from fairlead.spec.train import Train
from fairlead.train.rayjob_render import DIGEST, QUEUE, Place, job_name, label_value, pods_of, render, spec_digest
from fairlead.train.rayjob_state import choose, started_at, state_of
from fairlead.train.rayjob_waiting import WaitingReport

IMAGE = "registry.example/fairlead:1.2"
PLACE = Place("flights", "k" * 24, "run-1", "s3://bucket/prefix", "fits/flights/k", "http://s3:8333", "us-east-1")


def train(**pods: Any) -> Train:
    section = {"image": IMAGE, **pods}
    return Train.model_validate({"launcher": "rayjob", "workers": 2, "rayjob": section})


def containers(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    return [pod["spec"]["containers"][0] for pod in pods_of(manifest, "team")]


def status(**values: Any) -> dict[str, Any]:
    manifest = render(train(), PLACE)
    return {**manifest, "status": values}


class TestRendering:
    def test_every_pod_is_restricted_and_every_port_wants_the_token(self) -> None:
        manifest = render(train(), PLACE)
        assert manifest["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
        for pod in pods_of(manifest, "team"):
            security = pod["spec"]["securityContext"]
            assert (security["runAsNonRoot"], security["seccompProfile"]) == (True, {"type": "RuntimeDefault"})
            assert pod["spec"]["automountServiceAccountToken"] is False
            own = pod["spec"]["containers"][0]["securityContext"]
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert (own["allowPrivilegeEscalation"], own["readOnlyRootFilesystem"]) == (False, True)
            assert "limits" in pod["spec"]["containers"][0]["resources"]

    def test_one_worker_per_pod_and_none_on_the_head(self) -> None:
        spec = render(train(), PLACE)["spec"]["rayClusterSpec"]
        (group,) = spec["workerGroupSpecs"]
        assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (2, 2, 2)
        assert (group["rayStartParams"]["num-cpus"], spec["headGroupSpec"]["rayStartParams"]["num-cpus"]) == ("1", "0")

    def test_gpus_placement_and_deadlines(self) -> None:
        manifest = render(
            train(
                worker={"gpus": 2, "gpu_type": "NVIDIA-H100", "memory": "64GiB", "shared_memory": "16GiB", "cpu": 8},
                node_selector={"pool": "train"},
                tolerations=[{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
                priority_class="batch",
                service_account="trainer",
                pull_secrets=["registry"],
                start_deadline="5m",
                deadline="2h",
                ttl="30s",
                retries=3,
            ),
            PLACE,
        )
        head, worker = (pod["spec"] for pod in pods_of(manifest, "team"))
        assert worker["containers"][0]["resources"] == {
            "requests": {"cpu": "8000m", "memory": str(64 * 2**30), "nvidia.com/gpu": "2"},
            "limits": {"memory": str(64 * 2**30), "nvidia.com/gpu": "2"},
        }
        assert worker["nodeSelector"] == {"pool": "train", "nvidia.com/gpu.product": "NVIDIA-H100"}
        assert head["nodeSelector"] == {"pool": "train"}
        assert worker["tolerations"] == [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]
        assert (worker["priorityClassName"], worker["serviceAccountName"]) == ("batch", "trainer")
        assert worker["imagePullSecrets"] == [{"name": "registry"}]
        assert {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": str(16 * 2**30)}} in worker["volumes"]
        spec = manifest["spec"]
        assert (spec["preRunningDeadlineSeconds"], spec["activeDeadlineSeconds"]) == (300, 7200)
        assert (spec["ttlSecondsAfterFinished"], spec["backoffLimit"]) == (30, 3)

    def test_a_queue_hands_the_start_to_kueue(self) -> None:
        manifest = render(train(queue="team-a"), PLACE)
        assert manifest["metadata"]["labels"][QUEUE] == "team-a"
        assert manifest["spec"]["suspend"] is True
        assert "suspend" not in render(train(), PLACE)["spec"]

    def test_credentials_are_referred_to_and_never_written(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted")
        manifest = render(train(env_secrets=["store"]), PLACE)
        assert "planted" not in str(manifest)
        for container in containers(manifest):
            assert container["envFrom"] == [{"secretRef": {"name": "store"}}]
            assert {"name": "AWS_ENDPOINT_URL", "value": "http://s3:8333"} in container["env"]

    def test_the_same_fit_is_the_same_object_and_another_request_has_another_digest(self) -> None:
        first, second = render(train(), PLACE), render(train(), PLACE)
        assert first == second
        assert first["metadata"]["annotations"][DIGEST] == spec_digest(first)
        larger = render(train(worker={"memory": "8GiB"}), PLACE)
        assert larger["metadata"]["name"] == first["metadata"]["name"]
        assert spec_digest(larger) != spec_digest(first)

    def test_a_deadline_that_was_moved_leaves_the_digest_alone(self) -> None:
        manifest = render(train(), PLACE)
        before = spec_digest(manifest)
        manifest["spec"]["activeDeadlineSeconds"] = 1
        assert spec_digest(manifest) == before

    @pytest.mark.parametrize("project", ["a", "flights", "x" * 40, "a" * 19 + "-b"])
    def test_names_are_short_deterministic_labels(self, project: str) -> None:
        name = job_name(project, "key")
        assert name == job_name(project, "key") != job_name(project, "other")
        assert len(name) <= 47
        assert label_value(name) == name == name.lower()

    @pytest.mark.parametrize(("text", "value"), [("run 1/2", "run-1-2"), ("-x-", "x"), ("y" * 80, "y" * 63)])
    def test_text_becomes_a_label_value(self, text: str, value: str) -> None:
        assert label_value(text) == value


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"image": "app:latest"}, "may mean another image tomorrow"),
        ({"image": "app"}, "may mean another image tomorrow"),
        ({"image": "a b:1"}, "no image reference"),
        ({"worker": {"gpu_type": "H100"}}, "gpu_type needs gpus"),
        ({"worker": {"cpu": 2, "cpu_limit": 1}}, "below cpu 2"),
        ({"head": {"memory": "512MiB", "shared_memory": "1GiB"}}, "has to be smaller"),
        ({"node_selector": {"a b": "c"}}, "no label key"),
        ({"node_selector": {"a": "c d"}}, "no label value"),
        ({"queue": "no queue"}, "no label value"),
        ({"tolerations": [{"operator": "Exists", "value": "x"}]}, "takes no value"),
        ({"tolerations": [{"value": "x"}]}, "needs a key"),
        ({"namespace": "Not_A_Name"}, "String should match"),
    ],
)
def test_what_kubernetes_would_refuse_is_refused_before(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        RayJob.model_validate({"image": IMAGE, **values})


@pytest.mark.parametrize(
    "image", ["app:1", "r.example:5000/a/b:1.2-x", f"app@sha256:{'a' * 64}", f"a:latest@sha256:{'a' * 64}"]
)
def test_images_that_always_mean_the_same(image: str) -> None:
    assert RayJob(image=image).image == image


def test_the_launcher_needs_its_section() -> None:
    with pytest.raises(ValidationError, match="needs the section rayjob"):
        Train.model_validate({"launcher": "rayjob"})


class TestStates:
    @pytest.mark.parametrize(
        ("values", "phase"),
        [
            ({}, "new"),
            ({"jobDeploymentStatus": "Initializing"}, "starting"),
            ({"jobDeploymentStatus": "Waiting"}, "starting"),
            ({"jobDeploymentStatus": "Retrying"}, "starting"),
            ({"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}, "running"),
            ({"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}, "succeeded"),
            ({"jobDeploymentStatus": "Complete", "jobStatus": "STOPPED"}, "stopped"),
            ({"jobDeploymentStatus": "Failed", "reason": "DeadlineExceeded"}, "failed"),
            ({"jobDeploymentStatus": "ValidationFailed"}, "invalid"),
            ({"jobDeploymentStatus": "Suspended"}, "queued"),
        ],
    )
    def test_kuberays_words_mean_one_phase(self, values: dict[str, Any], phase: str) -> None:
        assert state_of(status(**values)).phase == phase

    def test_a_queued_job_that_nobody_has_looked_at_waits_for_kueue(self) -> None:
        assert state_of(render(train(queue="a"), PLACE)).phase == "queued"

    def test_when_it_began_is_an_instant(self) -> None:
        assert started_at(status(startTime="2026-01-02T03:04:05Z")) == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        assert started_at(status()) is None

    @pytest.mark.parametrize(
        ("values", "choice"),
        [
            ({}, "adopt"),
            ({"jobDeploymentStatus": "Running"}, "adopt"),
            ({"jobDeploymentStatus": "Suspended"}, "adopt"),
            ({"jobDeploymentStatus": "Failed"}, "replace"),
            ({"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}, "replace"),
            ({"jobDeploymentStatus": "ValidationFailed"}, "replace"),
        ],
    )
    def test_the_job_of_the_same_work_is_adopted_unless_it_is_over(self, values: dict[str, Any], choice: str) -> None:
        found = status(**values)
        assert choose(found, spec_digest(found)) == choice
        assert choose(None, "x") == "create"

    def test_another_request_under_the_name_is_left_alone_until_it_is_over(self) -> None:
        assert choose(status(jobDeploymentStatus="Running"), "another") == "conflict"
        assert choose(status(jobDeploymentStatus="Failed"), "another") == "replace"

    def test_somebody_elses_is_never_touched(self) -> None:
        found = status(jobDeploymentStatus="Failed")
        found["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "somebody"
        assert choose(found, spec_digest(found)) == "conflict"

    def test_one_that_is_being_deleted_is_waited_for(self) -> None:
        found = status(jobDeploymentStatus="Running")
        found["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z"
        assert choose(found, spec_digest(found)) == "wait"


class ClusterOfPods:
    """What `WaitingReport` asks a cluster for."""

    context, namespace = "here", "team"

    def __init__(self) -> None:
        self.pods: list[dict[str, Any]] = []

    def list(self, kind: Any, **_: str) -> list[dict[str, Any]]:
        return self.pods if kind.plural == "pods" else []


def pod_waiting(**condition: str) -> dict[str, Any]:
    conditions = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", **condition}]
    return {"metadata": {"name": "w"}, "status": {"phase": "Pending", "conditions": conditions}}


def pod_without_image() -> dict[str, Any]:
    state = {"waiting": {"reason": "ErrImagePull", "message": "not found"}}
    return {
        "metadata": {"name": "w"},
        "status": {"phase": "Pending", "containerStatuses": [{"image": "a:1", "state": state}]},
    }


class TestWaiting:
    def report(self, patience: float) -> tuple[ClusterOfPods, list[float], WaitingReport]:
        cluster, now = ClusterOfPods(), [0.0]
        return cluster, now, WaitingReport(cluster, "job", patience, clock=lambda: now[0])  # type: ignore[arg-type]

    def look(self, report: WaitingReport, **values: str) -> str:
        found = status(rayClusterName="c", **values)
        return report.look(found, state_of(found))

    def watch(self, report: WaitingReport, now: list[float], seconds: int, **values: str) -> list[tuple[int, str]]:
        """What is said in these seconds, and when, until it is given up; the error counts as said last."""
        said = []
        for second in range(seconds):
            now[0] = float(second)
            try:
                sentence = self.look(report, **values)
            except (PodsCannotRun, ClusterIncomplete) as error:
                return [*said, (second, str(error))]
            if sentence:
                said.append((second, sentence))
        return said

    def test_a_reason_is_said_at_once_then_every_minute_then_given_up(self) -> None:
        cluster, now, report = self.report(patience=100)
        cluster.pods = [pod_waiting(message="0/1 nodes are available")]
        first, second, last = self.watch(report, now, 200, jobDeploymentStatus="Initializing")
        assert (first[0], second[0]) == (0, 60)
        assert 100 <= last[0] <= 103
        assert first[1] == second[1] == "w: no node has room: 0/1 nodes are available"
        assert last[1].startswith("FL-808")
        assert "kubectl describe pod w -n team" in last[1]

    def test_what_a_person_has_to_change_is_given_up_after_half_a_minute(self) -> None:
        cluster, now, report = self.report(patience=10_000)
        cluster.pods = [pod_without_image()]
        first, last = self.watch(report, now, 60, jobDeploymentStatus="Initializing")
        assert first[0] == 0
        assert 30 <= last[0] <= 35
        assert "the image cannot be pulled: a:1" in last[1]

    def test_time_in_a_queue_costs_no_patience(self) -> None:
        _, now, report = self.report(patience=50)
        for second in range(0, 5000, 10):
            now[0] = float(second)
            self.look(report, jobDeploymentStatus="Suspended")

    def test_no_operator_is_said_and_given_up(self) -> None:
        _, now, report = self.report(patience=60)
        first, last = self.watch(report, now, 100)
        assert first[1] == "no KubeRay operator has looked at the RayJob yet: does it run?"
        assert "no KubeRay operator has looked at the RayJob job for 60 s" in last[1]

    def test_a_worker_lost_while_training_starts_a_new_count(self) -> None:
        cluster, now, report = self.report(patience=50)
        for second in range(0, 500, 5):
            now[0] = float(second)
            self.look(report, jobDeploymentStatus="Running", jobStatus="RUNNING")
        cluster.pods = [pod_waiting(message="full")]
        now[0] += 5
        assert "no node has room: full" in self.look(report, jobDeploymentStatus="Running", jobStatus="RUNNING")
