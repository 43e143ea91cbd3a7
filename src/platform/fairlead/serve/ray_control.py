"""The control on Ray Serve: one replica that holds the wish, counts, and brings candidates up and down."""

import asyncio
from pathlib import Path
from typing import Any

from ray import serve
from ray.serve.schema import ApplicationStatus

from fairlead.errors import ServeError
from fairlead.records.release import Arm, Release
from fairlead.records.rollout import ServingEvidence
from fairlead.serve.control import Control
from fairlead.serve.control_state import ControlState
from fairlead.serve.messages import Labels, Orders, ReleaseRefused, ReplicaReport
from fairlead.serve.metric_sums import MetricSums
from fairlead.serve.ray_candidate import CandidateModel
from fairlead.serve.ray_names import candidate_app, candidate_prefix, control_app
from fairlead.serve.release_store import ReleaseStore
from fairlead.serve.trial import Posted
from fairlead.store.opening import open_store

Refused = tuple[int, str, str]


class RayCandidateHost:
    """Candidates as applications of Ray Serve, as a `CandidateHost`."""

    def __init__(self, model: str, store_uri: str, base: str, num_cpus: float = 0.0) -> None:
        """`num_cpus`: what Ray reserves for a candidate."""
        self._model, self._store_uri, self._base, self._num_cpus = model, store_uri, base, num_cpus

    def start(self, arm: Arm) -> None:
        """See CandidateHost. A candidate that cannot start is removed again, and the reason raised."""
        name = candidate_app(self._model, arm.digest)
        status = serve.status().applications.get(name)
        if status is not None and status.status == ApplicationStatus.RUNNING:
            return
        deployment = serve.deployment(CandidateModel).options(
            name="model",
            num_replicas=1,
            max_ongoing_requests=64,
            max_queued_requests=256,
            # On a laptop serving takes what it needs when it needs it: reserving cores would keep a training run on the
            # same machine from ever starting. On a cluster a share keeps candidates off a head that has no CPUs.
            ray_actor_options={"num_cpus": self._num_cpus},
            graceful_shutdown_timeout_s=2,
            health_check_period_s=5,
            health_check_timeout_s=10,
            logging_config={"enable_access_log": False},
        )
        app = deployment.bind(arm, self._store_uri, self._base)
        try:
            serve.run(app, name=name, route_prefix=None, blocking=False)
        except Exception as error:  # Ray tells a failed start in several ways; all mean the same here
            message = self._message(name) or str(error)
            serve.delete(name, _blocking=False)
            raise ServeError("the candidate's application did not start", where=name, why=message[-2000:]) from error

    def _message(self, name: str) -> str:
        status = serve.status().applications.get(name)
        if status is None:
            return ""
        return " ".join([status.message, *(d.message for d in status.deployments.values() if d.message)]).strip()

    def surplus(self, wanted: Arm | None) -> list[str]:
        """See CandidateHost."""
        kept = candidate_app(self._model, wanted.digest) if wanted is not None else ""
        prefix = candidate_prefix(self._model)
        return [name for name in serve.status().applications if name.startswith(prefix) and name != kept]

    def stop(self, name: str) -> None:
        """See CandidateHost."""
        serve.delete(name)


class ControlDeployment:
    """The deployment: one replica, called by the ingress replicas of the same served model."""

    def __init__(self, model: str, release: Release, store_uri: str, base: str) -> None:
        releases = ReleaseStore(open_store(store_uri, Path(base)), model)
        # After a restart the store knows better than what this application was once started with.
        wanted = releases.read() or release
        self._control = Control(ControlState(wanted), releases, RayCandidateHost(model, store_uri, base))
        self._follower: asyncio.Task[None] | None = None

    def _follow(self) -> None:
        if self._follower is None or self._follower.done():
            self._follower = asyncio.create_task(self._control.run())

    async def sync(self, report: ReplicaReport) -> Orders:
        """See ControlPort. The first call of a replica starts the work on candidates."""
        self._follow()
        return self._control.state.sync(report)

    async def wanted(self) -> Release:
        """What should be live."""
        return self._control.state.wanted

    async def put(self, release: Release) -> Refused | None:
        """See ControlPort; a refusal travels as (status, code, message)."""
        try:
            await self._control.put(release)
        except ReleaseRefused as refused:
            return refused.status, refused.code, str(refused)
        return None

    async def view(self) -> dict[str, Any]:
        """See ControlPort."""
        return self._control.state.view()

    async def evidence(self) -> ServingEvidence:
        """See ControlPort."""
        return self._control.state.evidence()

    async def metrics(self) -> MetricSums:
        """See ControlPort."""
        return self._control.state.metrics()

    async def feedback(self, labels: Labels) -> dict[str, int]:
        """See ControlPort."""
        return self._control.state.feedback(labels)

    async def outcomes(self, posted: list[Posted]) -> dict[str, int]:
        """See ControlPort."""
        return self._control.state.outcomes(posted)


class RayControl:
    """A `ControlPort` over an application handle."""

    def __init__(self, model: str) -> None:
        self._handle = serve.get_app_handle(control_app(model))

    async def sync(self, report: ReplicaReport) -> Orders:
        """See ControlPort."""
        orders: Orders = await self._handle.sync.remote(report)
        return orders

    async def put(self, release: Release) -> None:
        """See ControlPort."""
        refused: Refused | None = await self._handle.put.remote(release)
        if refused is not None:
            raise ReleaseRefused(*refused)

    async def view(self) -> dict[str, Any]:
        """See ControlPort."""
        view: dict[str, Any] = await self._handle.view.remote()
        return view

    async def evidence(self) -> ServingEvidence:
        """See ControlPort."""
        evidence: ServingEvidence = await self._handle.evidence.remote()
        return evidence

    async def metrics(self) -> MetricSums:
        """See ControlPort."""
        sums: MetricSums = await self._handle.metrics.remote()
        return sums

    async def feedback(self, labels: Labels) -> dict[str, int]:
        """See ControlPort."""
        counts: dict[str, int] = await self._handle.feedback.remote(labels)
        return counts

    async def outcomes(self, posted: list[Posted]) -> dict[str, int]:
        """See ControlPort."""
        counts: dict[str, int] = await self._handle.outcomes.remote(posted)
        return counts
