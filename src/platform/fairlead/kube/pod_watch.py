"""Saying why pods do not run while somebody waits for them, and giving up when they never will."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from fairlead.errors import PodsCannotRun
from fairlead.kube.client import Cluster
from fairlead.kube.kinds import EVENTS, PODS
from fairlead.kube.waiting import Obstacle, obstacles

_REPEAT_SECONDS = 60.0
_PERMANENT_SECONDS = 30.0


class PodWatch:
    """Says each new reason once, then every minute.

    What a person has to change (an image, a policy) is given up after half a minute; what may pass (no node has room,
    the quota is used up) after `patience` seconds. `name`: whose pods they are, for the error."""

    def __init__(
        self, cluster: Cluster, name: str, patience: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cluster, self._name, self._patience, self._clock = cluster, name, patience, clock
        self._began: float | None = None
        self._said_at = float("-inf")
        self._said = ""
        self._permanent_since: float | None = None

    @property
    def waited(self) -> float:
        """Seconds since the first look, or since the last `restart`."""
        now = self._clock()
        self._began = now if self._began is None else self._began
        return now - self._began

    def restart(self) -> None:
        """All is well, or it is not the pods that are waited for: patience begins anew."""
        self._began = self._permanent_since = None

    def look(self, labels: str, owner: str) -> list[Obstacle]:
        """What holds up the pods with these labels; `owner`: the object whose events tell of pods that could not be
        made. Raises PodsCannotRun when it is hopeless."""
        pods = self._cluster.list(PODS, labels=labels)
        events = self._cluster.list(EVENTS, fields=f"involvedObject.name={owner}")
        # An event is history: once its pod exists, it no longer matters.
        wanted = [event for event in events if not _is_past(event, pods)]
        found = obstacles(pods, wanted, self._cluster.namespace)
        self._give_up_when_hopeless(found)
        return found

    def news(self, sentence: str) -> str:
        """The sentence when it is to be said now, else ""."""
        now = self._clock()
        if not sentence or (sentence == self._said and now - self._said_at < _REPEAT_SECONDS):
            return ""
        self._said, self._said_at = sentence, now
        return sentence

    def _give_up_when_hopeless(self, found: list[Obstacle]) -> None:
        now, waited = self._clock(), self.waited
        permanent = [obstacle for obstacle in found if obstacle.permanent]
        if not permanent:
            self._permanent_since = None
        elif self._permanent_since is None:
            self._permanent_since = now
        if self._permanent_since is not None and now - self._permanent_since >= _PERMANENT_SECONDS:
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


def _is_past(event: Mapping[str, Any], pods: list[dict[str, Any]]) -> bool:
    at = str(event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp") or "")
    newest = max((str(pod["metadata"].get("creationTimestamp") or "") for pod in pods), default="")
    return bool(at and newest and newest > at)
