"""A rollout hosted by a Job in the cluster: with no more permissions than it needs, and killed again and again."""

import random
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from accounts import MANIFEST, create_account
from serving_world import MODEL, Served, story, write_project

from fairlead.deploy.rollout.start import list_rollouts
from fairlead.kube import Cluster
from fairlead.kube.kinds import PODS
from fairlead.records.registry import Version
from fairlead.records.rollout import Phase
from fairlead.testing.seaweedfs import S3Server
from fairlead.wiring import steps
from fairlead.wiring.rollout_job import JOBS, start_job

PORT = 31812
ACCOUNT = "fairlead-rollout"
IMAGE = "localhost/fairlead-runner:0.1.0"
KILLS, KILLS_OF_A_JOB = 10, 3


@pytest.fixture(scope="module")
def served(cluster: Cluster, cluster_s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cluster_s3.environment.items():
            patch.setenv(name, value)
        folder = tmp_path_factory.mktemp("job") / "project"
        store = f"s3://{cluster_s3.bucket}/{cluster.namespace}"
        file = write_project(folder, store, cluster, cluster_s3.endpoint, PORT)
        create_account(cluster, ACCOUNT)
        found = Served(file, cluster, f"http://127.0.0.1:{PORT}")
        found.register(1)
        steps.deploy(found.context().to_json(), 1)
        yield found


def _pods_of(served: Served, job: str) -> list[dict[str, Any]]:
    return served.cluster.list(PODS, labels=f"job-name={job}")


def _logs(served: Served, job: str) -> str:
    return "\n".join(served.cluster.pod_log(pod["metadata"]["name"]) for pod in _pods_of(served, job))


def test_the_account_may_do_what_the_table_says_and_nothing_else(served: Served) -> None:
    role = next(
        d for d in yaml.safe_load_all(MANIFEST.read_text()) if d["kind"] == "Role" and d["metadata"]["name"] == ACCOUNT
    )
    allowed = set()
    for rule in role["rules"]:
        names = [f"{each}.{group}" if group else each for group in rule["apiGroups"] for each in rule["resources"]]
        allowed |= {(verb, name) for verb in rule["verbs"] for name in names}
    who = f"system:serviceaccount:{served.cluster.namespace}:{ACCOUNT}"
    resources = [
        "pods", "pods/exec", "secrets", "configmaps", "services", "serviceaccounts", "events", "rayservices.ray.io",
        "rayjobs.ray.io", "rayclusters.ray.io", "jobs.batch", "deployments.apps", "roles.rbac.authorization.k8s.io",
        "networkpolicies.networking.k8s.io", "poddisruptionbudgets.policy",
    ]  # fmt: skip
    wrong = []
    for resource in resources:
        for verb in ("get", "list", "create", "update", "patch", "delete"):
            answer = subprocess.run(
                ["kubectl", "-n", served.cluster.namespace, "auth", "can-i", verb, resource, "--as", who, "-q"],
                capture_output=True, check=False,
            )  # fmt: skip
            if (answer.returncode == 0) != ((verb, resource) in allowed):
                wrong.append((verb, resource))
    assert wrong == []


def _kill(served: Served, pod: str) -> None:
    command = ["kubectl", "-n", served.cluster.namespace, "delete", "pod", pod, "--force", "--grace-period=0"]
    subprocess.run(command, capture_output=True, check=True)


def _hosted(served: Served, version: Version, dice: random.Random) -> tuple[int, dict[str, Any]]:
    """A rollout by a Job whose pod is deleted at random moments; how often, and what the clients saw.

    Kubernetes makes the next pod of a Job after 10, 20, 40, ... seconds, so three times is what one rollout bears."""
    context = served.context(f"deploy.cluster.image={IMAGE}", "deploy.cluster.env_secrets=[store]")
    with served.traffic(20) as traffic:
        job = start_job(context, version)
        assert not job.found
        assert start_job(context, version).found, "a second start finds the first"
        killed, deadline, next_kill = 0, time.monotonic() + 400, time.monotonic() + dice.uniform(2, 10)
        while True:
            status = (served.cluster.get(JOBS, job.name) or {}).get("status", {})
            if any(c["type"] in ("Complete", "Failed") for c in status.get("conditions") or []):
                break
            assert time.monotonic() < deadline, _logs(served, job.name)
            running = [p for p in _pods_of(served, job.name) if p["status"]["phase"] == "Running"]
            if running and killed < KILLS_OF_A_JOB and time.monotonic() > next_kill:
                _kill(served, running[0]["metadata"]["name"])
                killed += 1
                next_kill = time.monotonic() + dice.uniform(2, 12)
            time.sleep(0.2)
    result = traffic.result
    print({name: result[name] for name in ("sent", "answered", "failed", "by_arm")}, f"killed {killed} times")
    print(_logs(served, job.name)[-600:])
    return killed, result


@pytest.mark.timeout(1500)
def test_a_job_hosts_rollouts_and_is_killed_again_and_again(served: Served) -> None:
    seed = 7
    print(f"\nseed {seed}")
    dice, killed, number = random.Random(seed), 0, 1
    while killed < KILLS:
        number += 1
        version = served.register(number)
        here, result = _hosted(served, version, dice)
        killed += here
        record = next(r for r in list_rollouts(served.context().store, MODEL) if r.candidate.version == version.number)
        print(story(record))
        assert record.phase is Phase.PROMOTED
        assert result["sent"] == result["answered"]
        assert (result["failed"], result["fallbacks"]) == (0, 0)
        assert served.context().registry().aliases()["champion"] == version.number
    print(f"{killed} kills in {number - 1} rollouts\n{served.helm('history', MODEL)}")
    told = [
        line["description"].split(":")[0] for line in served.history() if line["description"].startswith("rollout ")
    ]
    assert len(told) == len(set(told)), "no decision was told twice"
