"""The Job that hosts a rollout on a cluster: what it may, what it is told, when it is not tried again."""

import json
from pathlib import Path

import yaml

from fairlead.deploy.backends.rollout_job import METRICS_PORT, JobPlace, job_name, render_job
from fairlead.errors import EXIT_BUG, EXIT_NOT_ENOUGH_EVIDENCE, EXIT_VERDICT_FAIL

K8S = Path(__file__).parents[2] / "k8s"
DIGEST = "sha256:" + "ab" * 32
PLACE = JobPlace(
    release="flights",
    namespace="models",
    image="registry/fairlead-runner:0.1.0",
    service_account="fairlead-rollout",
    version=3,
    digest=DIGEST,
    command=("python", "-m", "fairlead.cli.archived"),
    token_secret="flights-token",
    environment={"AWS_ENDPOINT_URL": "http://s3:8333"},
    env_secrets=("store",),
)


def test_the_same_candidate_has_the_same_job() -> None:
    assert render_job(PLACE)["metadata"]["name"] == "flights-rollout-3-abababab" == job_name("flights", 3, DIGEST)


def test_a_verdict_is_not_tried_again_and_a_killed_pod_is() -> None:
    spec = render_job(PLACE)["spec"]
    final = spec["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"]
    assert {EXIT_VERDICT_FAIL, EXIT_NOT_ENOUGH_EVIDENCE} <= set(final)
    assert not {0, EXIT_BUG, 8, 137, 143} & set(final)
    assert spec["backoffLimit"] >= 10


def test_the_pod_is_restricted_and_holds_no_secret_in_the_open() -> None:
    pod = render_job(PLACE)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["envFrom"] == [{"secretRef": {"name": "store"}}]
    assert "AWS_SECRET_ACCESS_KEY" not in json.dumps(pod)
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod["volumes"]}


def test_its_metrics_can_be_scraped_by_the_name_that_monitoring_looks_for() -> None:
    (container,) = render_job(PLACE)["spec"]["template"]["spec"]["containers"]
    assert container["ports"] == [{"name": "metrics", "containerPort": METRICS_PORT}]
    monitors = [d for d in yaml.safe_load_all((K8S / "monitoring.yaml").read_text()) if d["kind"] == "PodMonitor"]
    (monitor,) = [d for d in monitors if d["metadata"]["name"] == "fairlead-rollout"]
    (wanted,) = monitor["spec"]["selector"]["matchExpressions"]
    assert render_job(PLACE)["spec"]["template"]["metadata"]["labels"][wanted["key"]] in wanted["values"]
    assert [end["port"] for end in monitor["spec"]["podMetricsEndpoints"]] == ["metrics"]
