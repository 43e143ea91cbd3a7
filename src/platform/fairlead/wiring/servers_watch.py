"""Waiting for the servers of a Helm release, and saying why they do not answer yet."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fairlead.clock import Clock
from fairlead.errors import ClusterRefused, ClusterUnreachable, ServeError, ServerUnreachable
from fairlead.kube import Cluster
from fairlead.kube.kinds import RAYSERVICES
from fairlead.kube.pod_watch import PodWatch
from fairlead.serve.client import RequestRefused, ServingClient

_LOOK_SECONDS = 1.0
_OPERATOR_SECONDS = 20.0
_FAILED = frozenset({"DEPLOY_FAILED", "UNHEALTHY"})
_LINE = 400
_CODE = re.compile(r"FL-\d{3}: .*")


class ServersWatch:
    """What holds up the servers of a release: KubeRay, the pods, Ray Serve's applications.

    Raises PodsCannotRun when the pods never will."""

    def __init__(self, cluster: Cluster, release: str, patience: float, clock: Clock) -> None:
        self._cluster, self._release = cluster, release
        self._pods = PodWatch(cluster, release, patience, clock.monotonic)
        self._began, self._clock = clock.monotonic(), clock

    def reason(self) -> str:
        """Why they do not answer, as far as the cluster tells; "" when it tells nothing."""
        try:
            return self._reason()
        except ClusterUnreachable as error:
            return error.what
        except ClusterRefused as error:
            return f"why the pods wait cannot be told: {error.what}"

    def news(self, sentence: str) -> str:
        """The sentence when it is to be said now, else ""."""
        return self._pods.news(sentence)

    def _reason(self) -> str:
        service = self._cluster.get(RAYSERVICES, self._release)
        statuses = list(_statuses(service or {}))
        if not statuses:
            late = self._clock.monotonic() - self._began >= _OPERATOR_SECONDS
            return "no KubeRay operator has looked at the RayService yet: does it run?" if late and service else ""
        for status in statuses:
            name = str(status.get("rayClusterName") or "")
            found = self._pods.look(f"ray.io/cluster={name}", name) if name else []
            if found:
                return "; ".join(obstacle.sentence() for obstacle in found)
        return next((each for status in statuses for each in _failed_applications(status)), "")


def _statuses(service: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    status = service.get("status") or {}
    for which in ("pendingServiceStatus", "activeServiceStatus"):
        if status.get(which):
            yield status[which]


def _failed_applications(status: Mapping[str, Any]) -> Iterator[str]:
    for name, application in (status.get("applicationStatuses") or {}).items():
        if application.get("status") in _FAILED:
            parts = (application.get("serveDeploymentStatuses") or {}).values()
            told = [str(each.get("message") or "") for each in (*parts, application)]
            why = next(filter(None, map(_cause, told)), "no reason given")
            yield f"Ray Serve's application {name} is {application['status']}: {why}"


def _cause(message: str) -> str:
    """Of a message with tracebacks: our own error with its place and reason, else the last line."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    for index in reversed(range(len(lines))):
        if ours := _CODE.search(lines[index]):
            rest = [line for line in lines[index + 1 : index + 4] if line.startswith(("where:", "why:", "fix:"))]
            return "; ".join((ours[0], *rest))[:_LINE]
    return lines[-1][:_LINE] if lines else ""


def await_servers(
    client: ServingClient, watch: ServersWatch, seconds: float, clock: Clock, say: Callable[[str], None]
) -> None:
    """Until the servers have applied a release. Raises ServeError after `seconds`, PodsCannotRun."""
    deadline, why = clock.monotonic() + seconds, ""
    while clock.monotonic() < deadline:
        answer = _not_yet(client)
        if answer is None:
            return
        cause = watch.reason()
        why = cause or answer
        if said := watch.news(f"waiting for the servers: {cause}" if cause else ""):
            say(said)
        clock.sleep(_LOOK_SECONDS)
    raise ServeError(
        f"the servers did not answer within {seconds:.0f} s",
        where=client.url,
        why=why or "no replica confirmed a release",
        fix="kubectl describe rayservice, and get pods,events in its namespace; deploy again when the cause is gone",
    )


def _not_yet(client: ServingClient) -> str | None:
    """None when they answer with a release, else what they say."""
    try:
        view = client.release()
    except (ServerUnreachable, RequestRefused) as error:
        return str(error)
    return None if view["applied"] is not None else view["error"]
