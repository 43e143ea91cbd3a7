"""The first door: `fairlead serve`, one process with everything in it."""

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fairlead.logs import get_logger
from fairlead.records.model import Signature
from fairlead.records.release import Arm, Release
from fairlead.records.rollout import ServingEvidence
from fairlead.serve.batcher import THREAD_PREFIX
from fairlead.serve.candidate import CandidatePort, LocalCandidate
from fairlead.serve.candidate_process import ProcessHost
from fairlead.serve.control import Control
from fairlead.serve.control_state import ControlState
from fairlead.serve.garbage import spare_what_stays
from fairlead.serve.http_protocol import protocol_with
from fairlead.serve.listening import bind
from fairlead.serve.messages import Labels, Orders, ReplicaReport
from fairlead.serve.metric_sums import MetricSums
from fairlead.serve.release_store import ReleaseStore
from fairlead.serve.routes import HttpApp
from fairlead.serve.server import ModelCache, Server
from fairlead.serve.token import ensure_token, read_token
from fairlead.serve.trial import Posted
from fairlead.spec.serve import Serve
from fairlead.store.opening import open_store
from fairlead.store.protocol import Store

_log = get_logger(__name__)


class LocalControl:
    """The control in this process, as a `ControlPort`."""

    def __init__(self, control: Control) -> None:
        self._control = control

    async def sync(self, report: ReplicaReport) -> Orders:
        """See ControlPort."""
        return self._control.state.sync(report)

    async def put(self, release: Release) -> None:
        """See ControlPort."""
        await self._control.put(release)

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


class LocalHost:
    """Candidates in threads of this process, as a `CandidateHost`."""

    def __init__(self, models: ModelCache, spec: Serve) -> None:
        self._models, self._spec = models, spec
        self._candidates: dict[str, LocalCandidate] = {}

    def start(self, arm: Arm) -> None:
        """See CandidateHost."""
        if arm.digest not in self._candidates:
            self._candidates[arm.digest] = LocalCandidate(
                self._models.get(arm), max_batch=self._spec.max_batch, max_queue=self._spec.max_queue
            )

    def surplus(self, wanted: Arm | None) -> list[str]:
        """See CandidateHost."""
        return [digest for digest in self._candidates if wanted is None or digest != wanted.digest]

    def stop(self, name: str) -> None:
        """See CandidateHost."""
        candidate = self._candidates.pop(name, None)
        if candidate is not None:
            candidate.close()

    def close(self) -> None:
        """Stop all of them."""
        for name in list(self._candidates):
            self.stop(name)

    def port(self, arm: Arm, _signature: Signature) -> CandidatePort:
        """The started candidate."""
        return self._candidates[arm.digest]


@contextlib.asynccontextmanager
async def running_app(
    spec: Serve,
    release: Release,
    store: Store,
    cache: Path,
    token: str,
    *,
    releases_in: Store | None = None,
    isolated: bool = False,
) -> AsyncIterator[HttpApp]:
    """The application of one process, following its own control, until the context ends. The release is kept in
    `releases_in`, or in `store`. `isolated`: candidates run in child processes, otherwise in threads."""
    releases = ReleaseStore(releases_in or store, release.model)
    wanted = await asyncio.to_thread(releases.write, release)
    models = ModelCache(store, cache)
    host = ProcessHost(store.uri, cache, cache) if isolated else LocalHost(models, spec)
    control = Control(ControlState(wanted), releases, host)
    server = Server(wanted.model, spec, store, models, LocalControl(control), host.port)
    await server.start(wanted)
    follower = asyncio.create_task(control.run())
    try:
        yield HttpApp(server, token)
    finally:
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)
        await server.close()
        host.close()


def run_process_server(
    serve: Serve, release: Release, store_uri: str, base: Path, *, releases: Store | None = None
) -> None:
    """Serve until SIGINT or SIGTERM; requests in flight are answered first.

    `release` is served unless the store (or `releases`) holds a newer one. `store_uri` may be relative to `base`,
    which also holds ``.fairlead/`` with the cache and the token. Raises PortInUse, BundleDamaged, StoreError.
    """
    import uvicorn

    listener = bind(serve.host, serve.port)
    store = open_store(store_uri, base)
    token = read_token(ensure_token(base))

    async def main() -> None:
        cache = base / ".fairlead" / "cache" / "bundles"
        running = running_app(serve, release, store, cache, token, releases_in=releases, isolated=True)
        async with running as app:
            spare_what_stays()
            config = uvicorn.Config(
                app,
                loop="uvloop",
                http=protocol_with(app),
                proxy_headers=False,
                lifespan="off",
                access_log=False,
                log_level="warning",
                server_header=False,
                date_header=False,
                timeout_graceful_shutdown=10,
            )
            _log.info("serving %s on http://%s:%d", release.model, serve.host, serve.port)
            server = _quiet_signals(uvicorn.Server(config))
            await server.serve(sockets=[listener])

    try:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())
    finally:
        listener.close()
        _leave_hung_calls()


def _quiet_signals(server: Any) -> Any:
    """SIGINT and SIGTERM end `server` gracefully and nothing more.

    uvicorn's own handling raises the signal once more after its shutdown, which would end the process before the
    request log and the evidence are written.
    """

    def leave() -> None:
        server.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, leave)
    server.capture_signals = contextlib.nullcontext
    return server


def _leave_hung_calls() -> None:
    """End the process here when a call of a network never returned: an interpreter that waits for native code, or
    unwinds it, would hang or abort. All that must be written is written by now."""
    hung = [t for t in threading.enumerate() if t.name.startswith(THREAD_PREFIX) and t.is_alive()]
    for thread in hung:
        thread.join(timeout=1.0)
    if any(thread.is_alive() for thread in hung):
        _log.warning("a call of a model never returned; leaving it behind")
        logging.shutdown()
        os._exit(0)
