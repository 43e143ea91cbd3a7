"""What a RayJob's status means for whoever waits for it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from os import environ
from typing import Any, Literal

from fairlead.spec.rayjob import RayJob
from fairlead.train.rayjob_render import DIGEST, QUEUE

Phase = Literal["new", "queued", "starting", "running", "succeeded", "failed", "stopped", "invalid", "leaving"]
Choice = Literal["create", "adopt", "replace", "wait", "conflict"]

_FINISHED = ("succeeded", "failed", "stopped", "invalid")


@dataclass(frozen=True, slots=True)
class State:
    """`phase`: new (no operator has looked at it), queued (Kueue has not admitted it), starting (pods come up),
    running, succeeded, failed, stopped (by somebody), invalid (KubeRay refuses it), leaving (being deleted).
    `retry` counts the clusters that were lost before this one."""

    phase: Phase
    ray_cluster: str
    reason: str
    message: str
    retry: int

    @property
    def finished(self) -> bool:
        """Whether it will not change any more."""
        return self.phase in _FINISHED


def state_of(rayjob: Mapping[str, Any]) -> State:
    """The state of a RayJob as KubeRay reports it."""
    status = rayjob.get("status") or {}
    reason, message = str(status.get("reason") or ""), str(status.get("message") or "")
    return State(_phase(rayjob, status), str(status.get("rayClusterName") or ""), reason, message, _lost(status))


def choose(rayjob: Mapping[str, Any] | None, digest: str) -> Choice:
    """What to do about the RayJob that has the name of ours: adopt one that asks for the same and is not over, replace
    one that is over, wait for one that is being deleted, and leave anything else alone."""
    if rayjob is None:
        return "create"
    metadata = rayjob["metadata"]
    state = state_of(rayjob)
    if (metadata.get("labels") or {}).get("app.kubernetes.io/managed-by") != "fairlead":
        return "conflict"
    if state.phase == "leaving":
        return "wait"
    if state.finished:
        return "replace"
    return "adopt" if (metadata.get("annotations") or {}).get(DIGEST) == digest else "conflict"


def started_at(rayjob: Mapping[str, Any]) -> datetime | None:
    """When KubeRay began with it; UTC."""
    text = (rayjob.get("status") or {}).get("startTime")
    return datetime.fromisoformat(str(text).replace("Z", "+00:00")) if text else None


def endpoint_of(pods: RayJob) -> tuple[str, str]:
    """Endpoint and region of S3 as pods are told them: the spec's, else those of this environment."""
    own = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL") or ""
    return pods.store_endpoint or own, environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or ""


def _phase(rayjob: Mapping[str, Any], status: Mapping[str, Any]) -> Phase:
    if rayjob["metadata"].get("deletionTimestamp"):
        return "leaving"
    deployment, job = status.get("jobDeploymentStatus") or "", status.get("jobStatus") or ""
    if deployment == "ValidationFailed":
        return "invalid"
    if deployment == "Failed":
        return "failed"
    if deployment == "Complete":
        return {"SUCCEEDED": "succeeded", "FAILED": "failed"}.get(job, "stopped")  # type: ignore[return-value]
    if deployment in ("Suspended", "Suspending"):
        return "queued"
    if deployment == "Running":
        return "running"
    if not deployment:
        queued = rayjob["spec"].get("suspend") and (rayjob["metadata"].get("labels") or {}).get(QUEUE)
        return "queued" if queued else "new"
    return "starting"


def _lost(status: Mapping[str, Any]) -> int:
    return int(status.get("failed") or 0)
