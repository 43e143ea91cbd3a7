"""Saying why a RayJob does not start yet, and giving up when it never will."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from fairlead.errors import ClusterIncomplete, PodsCannotRun
from fairlead.kube import Cluster
from fairlead.kube.kinds import EVENTS, PODS
from fairlead.kube.waiting import Obstacle, obstacles
from fairlead.train.rayjob_render import QUEUE
from fairlead.train.rayjob_state import State

_LOOK_SECONDS = 3.0
_REPEAT_SECONDS = 60.0
_OPERATOR_SECONDS = 20.0
_PERMANENT_SECONDS = 30.0


class WaitingReport:
    """Looks at pods and events while a RayJob is not running, and says each new reason once, then every minute.

    What a person has to change (an image, a policy) is given up after half a minute; what may pass (no node has room,
    the quota is used up) after `patience` seconds."""

    def __init__(
        self, cluster: Cluster, name: str, patience: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cluster, self._name, self._patience, self._clock = cluster, name, patience, clock
        self._began: float | None = None
        self._looked = self._said_at = float("-inf")
        self._said = ""
        self._permanent_since: float | None = None

    def look(self, rayjob: Mapping[str, Any], state: State) -> str:
        """A sentence to be said now, or "". Raises PodsCannotRun, ClusterIncomplete."""
        now = self._clock()
        if state.phase == "running":
            self._began = self._permanent_since = None
        if self._began is None:
            self._began = now
        if now - self._looked < _LOOK_SECONDS:
            return ""
        self._looked = now
        if state.phase == "queued":
            # Kueue's own decision, which may take days: no reason to give up.
            self._began = now
            queue = (rayjob["metadata"].get("labels") or {}).get(QUEUE, "")
            return self._say(now, f"waiting for Kueue to admit the RayJob (queue {queue})" if queue else "suspended")
        if state.phase == "new":
            return self._without_operator(now, now - self._began)
        found = self._obstacles(state)
        self._give_up_when_hopeless(now, found)
        if not found:
            return self._say(now, "" if state.phase == "running" else "waiting for pods to start")
        return self._say(now, "; ".join(obstacle.sentence() for obstacle in found))

    def _obstacles(self, state: State) -> list[Obstacle]:
        if not state.ray_cluster:
            return []
        pods = self._cluster.list(PODS, labels=f"ray.io/cluster={state.ray_cluster}")
        events = self._cluster.list(EVENTS, fields=f"involvedObject.name={state.ray_cluster}")
        # An event is history: once its pod exists, it no longer matters.
        wanted = [event for event in events if not _is_past(event, pods)]
        return obstacles(pods, wanted, self._cluster.namespace)

    def _give_up_when_hopeless(self, now: float, found: list[Obstacle]) -> None:
        permanent = [obstacle for obstacle in found if obstacle.permanent]
        self._permanent_since = (self._permanent_since or now) if permanent else None
        waited = now - (self._began if self._began is not None else now)
        if permanent and self._permanent_since is not None and now - self._permanent_since >= _PERMANENT_SECONDS:
            raise self._never(permanent, now - self._permanent_since)
        if found and waited >= self._patience:
            raise self._never(found, waited)

    def _never(self, found: list[Obstacle], seconds: float) -> PodsCannotRun:
        return PodsCannotRun(
            f"the pods of {self._name} do not run: {found[0].sentence()}",
            where=", ".join((self._cluster.context, f"namespace {self._cluster.namespace}", *found[0].pods)),
            why="; ".join(each.sentence() for each in found[1:]) or f"it has been so for {seconds:.0f} s",
            fix=found[0].fix,
        )

    def _without_operator(self, now: float, seconds: float) -> str:
        if seconds >= self._patience:
            raise ClusterIncomplete(
                f"no KubeRay operator has looked at the RayJob {self._name} for {seconds:.0f} s",
                where=self._cluster.context,
                fix="kubectl get pods -A -l app.kubernetes.io/component=kuberay-operator; fairlead doctor --on cluster",
            )
        late = seconds >= _OPERATOR_SECONDS
        return self._say(now, "no KubeRay operator has looked at the RayJob yet: does it run?" if late else "")

    def _say(self, now: float, sentence: str) -> str:
        if not sentence or (sentence == self._said and now - self._said_at < _REPEAT_SECONDS):
            return ""
        self._said, self._said_at = sentence, now
        return sentence


def _is_past(event: Mapping[str, Any], pods: list[dict[str, Any]]) -> bool:
    at = str(event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp") or "")
    newest = max((str(pod["metadata"].get("creationTimestamp") or "") for pod in pods), default="")
    return bool(at and newest and newest > at)
