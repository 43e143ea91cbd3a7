"""A rollout hosted by a Job in the cluster: with no more permissions than it needs, and killed again and again."""

import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from serving_world import MODEL, Served, story, write_project

from fairlead.deploy.rollout.start import list_rollouts
from fairlead.kube import Cluster
from fairlead.kube.kinds import PODS, SERVICE_ACCOUNTS, Kind
from fairlead.records.rollout import Phase
from fairlead.testing.seaweedfs import S3Server
from fairlead.wiring import steps
from fairlead.wiring.rollout_job import JOBS, start_job

PORT = 31812
IMAGE = "localhost/fairlead-runner:0.1.0"
ACCOUNT = "fairlead-rollout"
MANIFEST = Path(__file__).resolve().parents[2] / "k8s" / "rbac.yaml"
_ROLES = Kind("rbac.authorization.k8s.io", "v1", "roles")
_BINDINGS = Kind("rbac.authorization.k8s.io", "v1", "rolebindings")
_BY_KIND = {"ServiceAccount": SERVICE_ACCOUNTS, "Role": _ROLES, "RoleBinding": _BINDINGS}


@pytest.fixture(scope="module")
def served(cluster: Cluster, cluster_s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cluster_s3.environment.items():
            patch.setenv(name, value)
        folder = tmp_path_factory.mktemp("job") / "project"
        store = f"s3://{cluster_s3.bucket}/{cluster.namespace}"
        file = write_project(folder, store, cluster, cluster_s3.endpoint, PORT)
        for document in yaml.safe_load_all(MANIFEST.read_text().replace("namespace: fairlead", "namespace: NS")):
            if document and document["metadata"]["name"] == ACCOUNT:
                text = yaml.safe_dump(document).replace("namespace: NS", f"namespace: {cluster.namespace}")
                cluster.create(_BY_KIND[document["kind"]], yaml.safe_load(text))
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


def test_a_job_hosts_the_rollout_and_is_killed_again_and_again(served: Served) -> None:
    seed = 7
    print(f"\nseed {seed}")
    dice = random.Random(seed)
    second = served.register(2)
    context = served.context(f"deploy.cluster.image={IMAGE}", "deploy.cluster.env_secrets=[store]")
    with served.traffic(40) as traffic:
        job = start_job(context, second)
        assert not job.found
        assert start_job(context, second).found, "a second start finds the first"
        killed, deadline, next_kill = 0, time.monotonic() + 280, time.monotonic() + 8
        while True:
            status = (served.cluster.get(JOBS, job.name) or {}).get("status", {})
            if any(c["type"] in ("Complete", "Failed") for c in status.get("conditions") or []):
                break
            assert time.monotonic() < deadline, _logs(served, job.name)
            running = [p for p in _pods_of(served, job.name) if p["status"]["phase"] == "Running"]
            if running and killed < 3 and time.monotonic() > next_kill:
                name = running[0]["metadata"]["name"]
                command = [
                    "kubectl",
                    "-n",
                    served.cluster.namespace,
                    "delete",
                    "pod",
                    name,
                    "--force",
                    "--grace-period=0",
                ]
                subprocess.run(command, capture_output=True, check=True)
                killed += 1
                next_kill = time.monotonic() + dice.uniform(4, 12)
            time.sleep(0.5)
    (record,) = list_rollouts(context.store, MODEL)
    print(f"{story(record)}\n{served.helm('history', MODEL)}\n{_logs(served, job.name)[-1500:]}")
    result = traffic.result
    print({name: result[name] for name in ("sent", "answered", "failed", "by_arm")}, f"killed {killed} times")
    assert record.phase is Phase.PROMOTED
    assert killed >= 1
    assert (result["failed"], result["fallbacks"]) == (0, 0)
    assert context.registry().aliases()["champion"] == second.number
    told = [
        line["description"].split(":")[0] for line in served.history() if line["description"].startswith("rollout ")
    ]
    assert len(told) == len(set(told)), "no decision was told twice"
