"""Saying why a RayJob does not start yet, and giving up when it never will."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from fairlead.errors import ClusterIncomplete
from fairlead.kube import Cluster
from fairlead.kube.pod_watch import PodWatch
from fairlead.train.rayjob_render import QUEUE
from fairlead.train.rayjob_state import State

_LOOK_SECONDS = 3.0
_OPERATOR_SECONDS = 20.0


class WaitingReport:
    """Looks at pods and events while a RayJob is not running, and says why as `PodWatch` does."""

    def __init__(
        self, cluster: Cluster, name: str, patience: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cluster, self._name, self._patience, self._clock = cluster, name, patience, clock
        self._pods = PodWatch(cluster, name, patience, clock)
        self._looked = float("-inf")

    def look(self, rayjob: Mapping[str, Any], state: State) -> str:
        """A sentence to be said now, or "". Raises PodsCannotRun, ClusterIncomplete."""
        now = self._clock()
        if state.phase == "running":
            self._pods.restart()
        waited = self._pods.waited
        if now - self._looked < _LOOK_SECONDS:
            return ""
        self._looked = now
        if state.phase == "queued":
            # Kueue's own decision, which may take days: no reason to give up.
            self._pods.restart()
            queue = (rayjob["metadata"].get("labels") or {}).get(QUEUE, "")
            said = f"waiting for Kueue to admit the RayJob (queue {queue})" if queue else "suspended"
            return self._pods.news(said)
        if state.phase == "new":
            return self._without_operator(waited)
        name = state.ray_cluster
        found = self._pods.look(f"ray.io/cluster={name}", name) if name else []
        if not found:
            return self._pods.news("" if state.phase == "running" else "waiting for pods to start")
        return self._pods.news("; ".join(obstacle.sentence() for obstacle in found))

    def _without_operator(self, seconds: float) -> str:
        if seconds >= self._patience:
            raise ClusterIncomplete(
                f"no KubeRay operator has looked at the RayJob {self._name} for {seconds:.0f} s",
                where=self._cluster.context,
                fix="kubectl get pods -A -l app.kubernetes.io/component=kuberay-operator; fairlead doctor --on cluster",
            )
        late = seconds >= _OPERATOR_SECONDS
        return self._pods.news("no KubeRay operator has looked at the RayJob yet: does it run?" if late else "")
