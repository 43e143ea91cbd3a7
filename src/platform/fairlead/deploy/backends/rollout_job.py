"""The Job that hosts a rollout inside of the cluster, as a manifest. Pure: nothing is read, nothing is created."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fairlead.errors import EXIT_NOT_ENOUGH_EVIDENCE, EXIT_VERDICT_FAIL

IDENTITY = 10001
METRICS_PORT = 8080
_TOKEN_FOLDER = "/etc/fairlead/token"
_ENDED = (EXIT_VERDICT_FAIL, EXIT_NOT_ENOUGH_EVIDENCE, 2, 5, 6, 7)
"""Exit codes that another try would not change: verdicts, and errors of what was asked."""


@dataclass(frozen=True, slots=True)
class JobPlace:
    """Where a rollout runs. `command` is what the pod runs, `environment` what it is told in the open, `env_secrets`
    name Secrets whose keys it gets as environment, `token_secret` the one with the servers' token."""

    release: str
    namespace: str
    image: str
    service_account: str
    version: int
    digest: str
    command: Sequence[str]
    token_secret: str
    environment: Mapping[str, str] = field(default_factory=dict)
    env_secrets: Sequence[str] = ()


def job_name(release: str, version: int, digest: str) -> str:
    """The same for the same candidate: a second start finds the first."""
    return f"{release}-rollout-{version}-{digest.removeprefix('sha256:')[:8]}"


def render_job(place: JobPlace) -> dict[str, Any]:
    """The Job. Its pods may be killed at any moment: the next one goes on from the stored record."""
    labels = {
        "app.kubernetes.io/name": "fairlead-rollout",
        "app.kubernetes.io/instance": place.release,
        "app.kubernetes.io/part-of": "fairlead",
        "app.kubernetes.io/managed-by": "fairlead",
        "fairlead.dev/version": str(place.version),
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(place.release, place.version, place.digest),
            "namespace": place.namespace,
            "labels": labels,
            "annotations": {"fairlead.dev/model-digest": place.digest},
        },
        "spec": {
            "backoffLimit": 50,
            "ttlSecondsAfterFinished": 7 * 24 * 3600,
            # A verdict is an answer, not a failure to be repeated; a pod that was evicted costs no try.
            "podFailurePolicy": {
                "rules": [
                    {
                        "action": "FailJob",
                        "onExitCodes": {"containerName": "rollout", "operator": "In", "values": sorted(_ENDED)},
                    },
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                ]
            },
            "template": {"metadata": {"labels": labels}, "spec": _pod(place)},
        },
    }


def _pod(place: JobPlace) -> dict[str, Any]:
    environment = {
        "HOME": "/tmp/home",  # Helm keeps caches there, and the image's root is read-only
        "FAIRLEAD_TOKEN_FILE": f"{_TOKEN_FOLDER}/token",
        **place.environment,
    }
    return {
        "restartPolicy": "Never",
        "serviceAccountName": place.service_account,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 30,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": IDENTITY,
            "runAsGroup": IDENTITY,
            "fsGroup": IDENTITY,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": "rollout",
                "image": place.image,
                "imagePullPolicy": "IfNotPresent",
                "command": list(place.command),
                "env": [{"name": name, "value": value} for name, value in environment.items()],
                "ports": [{"name": "metrics", "containerPort": METRICS_PORT}],
                "envFrom": [{"secretRef": {"name": name}} for name in place.env_secrets],
                "resources": {
                    "requests": {"cpu": "100m", "memory": "256Mi"},
                    "limits": {"cpu": "1", "memory": "1Gi"},
                },
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [
                    {"name": "tmp", "mountPath": "/tmp"},
                    {"name": "base", "mountPath": "/var/fairlead"},
                    {"name": "token", "mountPath": _TOKEN_FOLDER, "readOnly": True},
                ],
            }
        ],
        "volumes": [
            {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
            {"name": "base", "emptyDir": {"sizeLimit": "4Gi"}},
            {"name": "token", "secret": {"secretName": place.token_secret, "defaultMode": 0o440}},
        ],
    }
