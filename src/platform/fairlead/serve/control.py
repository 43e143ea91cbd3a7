"""The one place that knows the wish: it stores it with compare-and-swap, has the candidate brought up and torn down by
a `CandidateHost`, and keeps the state that answers replicas and people. The same for both doors.
"""

import asyncio
import contextlib
import time
from dataclasses import replace
from typing import Protocol

from fairlead.errors import BundleDamaged
from fairlead.logs import get_logger
from fairlead.records.release import Arm, Release
from fairlead.serve.control_state import ControlState
from fairlead.serve.messages import ReleaseRefused
from fairlead.serve.release_store import ReleaseStore

_log = get_logger(__name__)


class CandidateHost(Protocol):
    """Where candidates run. Why these methods: the control starts what is wanted and stops what no replica needs any
    more, and after a restart of its own it must find what still runs. All may block; they are called in a thread."""

    def start(self, arm: Arm) -> None:
        """Bring `arm` up until it answers; nothing happens when it runs. Raises when it cannot be."""

    def surplus(self, wanted: Arm | None) -> list[str]:
        """Names of candidates other than `wanted` that run."""

    def stop(self, name: str) -> None:
        """Remove one of `surplus`; nothing happens when it is gone."""


class Control:
    """The one place that knows the wish. Lives in one event loop; `run` makes the world follow it."""

    _ATTEMPTS = 3

    def __init__(self, state: ControlState, releases: ReleaseStore, host: CandidateHost, *, drain_seconds: float = 2.0):
        self.state = state
        self._releases, self._host, self._drain_seconds = releases, host, drain_seconds
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._attempts: dict[str, int] = {}
        self._settled_since: float | None = None
        self._untidy = True
        self._unstored = False

    async def put(self, release: Release) -> None:
        """Store `release` and make it the wish. Raises ReleaseRefused, or StoreError when it cannot be stored."""
        async with self._lock:
            if not self.state.check(release):
                return
            stored = await asyncio.to_thread(self._releases.write, release)
            if stored != release:
                if stored.generation > self.state.wanted.generation:
                    self.state.adopt(stored)
                raise ReleaseRefused(409, "stale_generation", f"generation {stored.generation} is stored already")
            self._adopt(release)

    def wish(self, release: Release) -> None:
        """Make `release` the wish at once, for a wish that somebody else keeps safe: `run` brings the store in step,
        and tries until it can. Neither waits nor raises."""
        self._adopt(release)
        self._unstored = True

    def _adopt(self, release: Release) -> None:
        self.state.adopt(release)
        self._attempts.clear()
        self._untidy = True
        self._wake.set()

    async def run(self) -> None:
        """Bring candidates up and down until cancelled."""
        while True:
            try:
                if self._unstored:
                    await self._store()
                await self._converge()
            except Exception as error:  # whatever the host cannot do now, it is asked again
                _log.warning("candidates cannot be changed now: %s", error)
            self._wake.clear()
            # Not wait_for: it may swallow a cancellation that arrives together with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    await self._wake.wait()

    async def _store(self) -> None:
        wanted = self.state.wanted
        stored = await asyncio.to_thread(self._releases.write, wanted)
        if self.state.wanted is not wanted:
            return
        if stored == wanted:
            self._unstored = False
        else:  # the store could not be read when the generation was chosen
            self._adopt(replace(wanted, generation=stored.generation + 1))

    async def _converge(self) -> None:
        state = self.state
        candidate = state.wanted.candidate
        if candidate is not None and not state.candidate_ready and not state.candidate_error:
            await self._start(candidate)
        if self._untidy:
            await self._tidy()

    async def _tidy(self) -> None:
        """Once every replica applies the wish, and what it was asked before has drained, remove other candidates."""
        wanted = self.state.wanted
        applied = self.state.applied()
        if applied is None or applied.generation != wanted.generation:
            self._settled_since = None
            return
        now = time.monotonic()
        if self._settled_since is None:
            self._settled_since = now
        if now - self._settled_since < self._drain_seconds:
            return
        for name in await asyncio.to_thread(self._host.surplus, wanted.candidate):
            await asyncio.to_thread(self._host.stop, name)
        self._untidy = self.state.wanted is not wanted

    async def _start(self, candidate: Arm) -> None:
        digest = candidate.digest
        problem = ""
        final = False
        try:
            await asyncio.to_thread(self._host.start, candidate)
        except BundleDamaged as error:
            problem, final = str(error), True
        except Exception as error:  # a candidate may fail in any way; none may end the control
            problem = f"{type(error).__name__}: {error}"[:1000]
        wanted = self.state.wanted.candidate
        if wanted is None or wanted.digest != digest:
            return
        if not problem:
            self.state.candidate_ready = True
            return
        self._attempts[digest] = self._attempts.get(digest, 0) + 1
        if final or self._attempts[digest] >= self._ATTEMPTS:
            self.state.candidate_error = f"version {candidate.version} cannot be brought up: {problem}"
        _log.warning("version %d cannot be brought up: %s", candidate.version, problem)
