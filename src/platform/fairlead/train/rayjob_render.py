"""The RayJob of a fit, as a mapping. Pure: the same fit gives the same object, and its digest says so."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fairlead.spec.rayjob import PodSize, RayJob, WorkerPod
from fairlead.spec.train import Train
from fairlead.train.ray_environment import RAY_TRAIN_SETTINGS

DIGEST = "fairlead.dev/spec-digest"
RUN = "fairlead.dev/run-id"
QUEUE = "kueue.x-k8s.io/queue-name"
MAX_NAME = 47
USER = 10_001
BASE = "/var/fairlead"
RAY_VERSION = "2.60.0"
_TRUSTED_PORT_TOKEN = {"mode": "token"}
_STORE_SHARE = 0.8  # of /dev/shm for Ray's object store; the rest is torch's


@dataclass(frozen=True, slots=True)
class Place:
    """What the RayJob of a fit is made from, besides the spec. `key` names the fit; `store` and `prefix` are where its
    workers meet; `endpoint` is S3's address as pods reach it, "" for AWS."""

    project: str
    key: str
    run: str
    store: str
    prefix: str
    endpoint: str = ""
    region: str = ""


def job_name(project: str, key: str, step: str = "train") -> str:
    """The RayJob's name: a function of the project, the step and what the step works on.

    A step that is retried asks for the same work and finds the RayJob under its name. At most 47 characters, which
    KubeRay needs for the names that it derives."""
    digest = hashlib.sha256(f"{project} {step} {key}".encode()).hexdigest()[:10]
    return f"fl-{project[:20].rstrip('-')}-{step}-{digest}"[:MAX_NAME]


def spec_digest(manifest: Mapping[str, Any]) -> str:
    """sha256 (hex) of what the RayJob asks for; who asked is not part of it."""
    spec = {name: value for name, value in manifest["spec"].items() if name != "activeDeadlineSeconds"}
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()


def render(train: Train, place: Place) -> dict[str, Any]:
    """The RayJob, ready to be created. `train.rayjob` must be set."""
    pods = train.rayjob
    if pods is None:
        raise ValueError("train.rayjob is not set")
    labels = _labels(place)
    manifest: dict[str, Any] = {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {
            "name": job_name(place.project, place.key),
            "labels": labels | ({QUEUE: pods.queue} if pods.queue else {}),
            "annotations": {"fairlead.dev/fit": place.key, "fairlead.dev/store": f"{place.store}/{place.prefix}"},
        },
        "spec": {
            "entrypoint": f"python -m fairlead.train.rayjob_driver {place.store} {place.prefix}",
            # The operator submits the job itself: no submitter pod, whose image and rights would be one more thing.
            "submissionMode": "HTTPMode",
            "suspend": bool(pods.queue),
            "backoffLimit": pods.retries,
            "preRunningDeadlineSeconds": math.ceil(pods.start_deadline),
            "activeDeadlineSeconds": math.ceil(pods.deadline),
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": math.ceil(pods.ttl),
            "rayClusterSpec": {
                "rayVersion": RAY_VERSION,
                # Written out: left out, KubeRay starts a cluster whose job API lets anybody run code.
                "authOptions": dict(_TRUSTED_PORT_TOKEN),
                "headGroupSpec": {
                    "rayStartParams": {
                        "num-cpus": "0",
                        "num-gpus": "0",
                        "dashboard-host": "0.0.0.0",
                        "object-store-memory": _object_store(pods.head),
                    },
                    "template": _template("ray-head", pods, pods.head, place, labels),
                },
                "workerGroupSpecs": [
                    {
                        "groupName": "workers",
                        "replicas": train.workers,
                        "minReplicas": train.workers,
                        "maxReplicas": train.workers,
                        "rayStartParams": {
                            "num-cpus": "1",
                            "num-gpus": str(pods.worker.gpus),
                            "object-store-memory": _object_store(pods.worker),
                        },
                        "template": _template("ray-worker", pods, pods.worker, place, labels),
                    }
                ],
            },
        },
    }
    if not pods.queue:
        del manifest["spec"]["suspend"]
    manifest["metadata"]["annotations"][DIGEST] = spec_digest(manifest)
    return manifest


def pods_of(manifest: Mapping[str, Any], namespace: str) -> list[dict[str, Any]]:
    """A head pod and a worker pod as KubeRay would make them, for the API server to check before they are created."""
    cluster = manifest["spec"]["rayClusterSpec"]
    templates = {"head": cluster["headGroupSpec"]["template"], "worker": cluster["workerGroupSpecs"][0]["template"]}
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{manifest['metadata']['name']}-{role}",
                "namespace": namespace,
                **template["metadata"],
            },
            "spec": template["spec"],
        }
        for role, template in templates.items()
    ]


def _labels(place: Place) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "fairlead",
        "app.kubernetes.io/instance": place.project,
        "app.kubernetes.io/component": "trainer",
        "app.kubernetes.io/part-of": "fairlead",
        "app.kubernetes.io/managed-by": "fairlead",
        "fairlead.dev/model": place.project,
    }


def label_value(text: str) -> str:
    """`text` as a label's value: what is not allowed becomes a dash."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", text)[:63].strip("-_.")


def _object_store(size: PodSize) -> str:
    return str(max(int(size.shared_memory * _STORE_SHARE), 80 * 2**20))


def _template(container: str, pods: RayJob, size: PodSize, place: Place, labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        # KubeRay's own labels name the pods; these come on top, without what it sets itself.
        "metadata": {"labels": {name: value for name, value in labels.items() if name != "app.kubernetes.io/name"}},
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            **_placement(pods, size),
            "containers": [_container(container, pods, size, place)],
            "volumes": [
                {"name": "tmp", "emptyDir": {}},
                {"name": "fairlead", "emptyDir": {}},
                {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": str(size.shared_memory)}},
            ],
        },
    }


def _placement(pods: RayJob, size: PodSize) -> dict[str, Any]:
    selector = dict(pods.node_selector)
    if isinstance(size, WorkerPod) and size.gpu_type:
        selector[size.gpu_type_label] = size.gpu_type
    found: dict[str, Any] = {}
    if pods.service_account:
        found["serviceAccountName"] = pods.service_account
        found["automountServiceAccountToken"] = not pods.env_secrets
    if pods.pull_secrets:
        found["imagePullSecrets"] = [{"name": name} for name in pods.pull_secrets]
    if selector:
        found["nodeSelector"] = selector
    if pods.tolerations:
        found["tolerations"] = [_toleration(each.model_dump()) for each in pods.tolerations]
    if pods.priority_class:
        found["priorityClassName"] = pods.priority_class
    return found


def _toleration(values: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}


def _container(name: str, pods: RayJob, size: PodSize, place: Place) -> dict[str, Any]:
    requests = {"cpu": _cores(size.cpu), "memory": str(size.memory)}
    limits = {"memory": str(size.memory)}
    if size.cpu_limit is not None:
        limits["cpu"] = _cores(size.cpu_limit)
    if isinstance(size, WorkerPod) and size.gpus:
        requests[size.gpu_resource] = limits[size.gpu_resource] = str(size.gpus)
    container: dict[str, Any] = {
        "name": name,
        "image": pods.image,
        "imagePullPolicy": pods.pull_policy,
        "env": [{"name": key, "value": value} for key, value in sorted(_environment(size, place).items())],
        "resources": {"requests": requests, "limits": limits},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "fairlead", "mountPath": BASE},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    }
    if pods.env_secrets:
        container["envFrom"] = [{"secretRef": {"name": name}} for name in pods.env_secrets]
    return container


def _environment(size: PodSize, place: Place) -> dict[str, str]:
    values = {
        **RAY_TRAIN_SETTINGS,
        "FAIRLEAD_BASE": BASE,
        "FAIRLEAD_THREADS": str(max(1, math.ceil(size.cpu_limit or size.cpu))),
        "HOME": BASE,  # the root is read-only
        "PYTHONUNBUFFERED": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    if place.endpoint:
        values["AWS_ENDPOINT_URL"] = place.endpoint
    if place.region:
        values["AWS_REGION"] = place.region
    return values


def _cores(count: float) -> str:
    return f"{math.ceil(count * 1000)}m"
