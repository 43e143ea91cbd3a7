"""Calling a candidate that is not trusted yet, and copying requests to it without ever delaying one."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from fairlead.errors import FairleadError, PredictionFailed
from fairlead.serve.batcher import Batcher, DeadlinePassed
from fairlead.serve.exchange import Exchange
from fairlead.serve.model import Answer, Item, LoadedModel, fits
from fairlead.serve.refusals import Refusal

_BATCH_ROWS = 4096
"""Rows of one copy at most, unless a single request has more."""

_GATHER_SECONDS = 0.01
"""Copies wait for a whole batch this long: nobody waits for them, and a batch costs little more than one."""


NO_ANSWER = PredictionFailed("the candidate did not answer")
"""What stands for an answer that a candidate left out."""


class CandidateDied(Exception):
    """The candidate went away while it had a request. `life` tells its lives apart: each process is one."""

    def __init__(self, life: bytes = b"") -> None:
        super().__init__("the candidate died")
        self.life = life


class CandidatePort(Protocol):
    """A candidate wherever it runs, so that a process of its own and a thread look the same."""

    def predict(self, items: Sequence[Item], timeout_seconds: float) -> Awaitable[list[Answer | FairleadError]]:
        """One answer, or error, per item. Raises CandidateDied, FairleadError, or whatever the transport raises, at
        once or when it is awaited."""

    async def leave(self) -> None:
        """Let go of it: nobody will call through this port any more. The candidate stays."""


class LocalCandidate:
    """A candidate in a thread of this process: for `fairlead serve`. It can be slow, but shares memory and cores."""

    def __init__(self, model: LoadedModel, *, max_batch: int, max_queue: int) -> None:
        self.model = model
        self._batcher = Batcher(
            model.predict_many,
            max_batch=max_batch,
            wait_seconds=0.0,
            max_queue=max_queue,
            inline=False,
            name="candidate",
        )

    async def predict(self, items: Sequence[Item], timeout_seconds: float) -> list[Answer | FairleadError]:
        """See CandidatePort."""
        try:
            return await self._batcher.submit_group(items, time.perf_counter() + timeout_seconds)
        except Refusal as error:
            raise PredictionFailed("the candidate does not keep up", why=error.message) from error
        except DeadlinePassed as error:
            raise PredictionFailed("the candidate did not answer in time") from error

    async def leave(self) -> None:
        """See CandidatePort."""

    def close(self) -> None:
        """End its thread."""
        self._batcher.close()


class _Run:
    """Copies that wait for the same candidate, oldest first."""

    __slots__ = ("candidate", "exchanges", "timeout_seconds")

    def __init__(self, candidate: CandidatePort, timeout_seconds: float) -> None:
        self.candidate, self.timeout_seconds = candidate, timeout_seconds
        self.exchanges: list[Exchange] = []


class Shadow:
    """Copies of requests wait here for the candidate. Full: dropped and counted. Lives in one event loop."""

    def __init__(
        self,
        finish: Callable[[Exchange], None],
        *,
        max_waiting: int = 512,
        max_waiting_bytes: int = 1 << 25,
        max_batch: int = 64,
        in_flight: int = 2,
    ) -> None:
        """`finish` gets every exchange exactly once: with the copy's answer, or marked as failed or dropped.
        `max_waiting_bytes` bounds the bodies of the requests that wait."""
        self._finish = finish
        self._max_waiting, self._max_batch, self._in_flight = max_waiting, max_batch, in_flight
        self._max_waiting_bytes, self._waiting_bytes = max_waiting_bytes, 0
        self._num_waiting = 0
        self._runs: deque[_Run] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def offer(self, exchange: Exchange, candidate: CandidatePort, timeout_seconds: float) -> None:
        """Copy a request that the champion answered."""
        if exchange.quarantined():
            exchange.shadow_failed, exchange.shadow_seconds = True, timeout_seconds
            self._done(exchange)
            return
        size = len(exchange.body)
        if self._num_waiting >= self._max_waiting or self._waiting_bytes + size > self._max_waiting_bytes:
            exchange.shadow_dropped = True
            self._done(exchange)
            return
        if not self._runs or self._runs[-1].candidate is not candidate:
            self._runs.append(_Run(candidate, timeout_seconds))
        self._runs[-1].exchanges.append(exchange)
        self._waiting_bytes += size
        self._num_waiting += 1
        if self._num_waiting >= self._max_batch:
            self._send()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_GATHER_SECONDS, self._gathered)

    def _gathered(self) -> None:
        self._timer = None
        self._send()

    def _done(self, exchange: Exchange) -> None:
        exchange.body = b""
        self._finish(exchange)

    def _take(self) -> tuple[_Run, list[Exchange]]:
        """The oldest copies that may travel together."""
        run = self._runs[0]
        exchanges = run.exchanges[: self._max_batch]
        rows = 0
        for count, exchange in enumerate(exchanges):
            rows += len(exchange.rows)
            if count and rows > _BATCH_ROWS:
                exchanges = exchanges[:count]
                break
        del run.exchanges[: len(exchanges)]
        if not run.exchanges:
            self._runs.popleft()
        self._num_waiting -= len(exchanges)
        self._waiting_bytes -= sum(len(exchange.body) for exchange in exchanges)
        return run, exchanges

    def _send(self) -> None:
        """Send what waits, as far as the candidate answered what it has."""
        while self._runs and len(self._tasks) < self._in_flight:
            run, exchanges = self._take()
            task = asyncio.get_running_loop().create_task(self._copy(exchanges, run.candidate, run.timeout_seconds))
            self._tasks.add(task)
            task.add_done_callback(self._answered)

    def _answered(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        # What gathered meanwhile goes at once when it is a whole batch, or when nobody else will send it.
        if self._num_waiting >= self._max_batch or self._timer is None:
            self._send()

    async def _copy(self, batch: list[Exchange], candidate: CandidatePort, timeout_seconds: float) -> None:
        start = time.perf_counter()
        answers: Sequence[Answer | FairleadError] = ()
        try:
            answers = await candidate.predict([exchange.rows for exchange in batch], timeout_seconds)
        except asyncio.CancelledError:  # the server ends; what the champion answered must still be recorded
            for exchange in batch:
                exchange.shadow_dropped = True
                self._done(exchange)
            raise
        except CandidateDied as died:
            for exchange in batch:
                exchange.suspect(died.life)
        except Exception:  # a candidate may fail in any way; the copy counts as failed, whatever it was
            answers = ()
        waited = time.perf_counter() - start
        if len(answers) < len(batch):
            answers = [*answers, *[NO_ANSWER] * (len(batch) - len(answers))]
        for exchange, answer in zip(batch, answers, strict=False):
            if isinstance(answer, Answer) and fits(answer, exchange.model.signature, len(exchange.rows)):
                exchange.shadow_answer = answer
                exchange.shadow_seconds = answer.seconds if answer.seconds >= 0 else waited
            else:
                exchange.shadow_failed = True
                exchange.shadow_seconds = waited
            self._done(exchange)

    async def close(self) -> None:
        """Stop copying. What waits counts as dropped."""
        if self._timer is not None:
            self._timer.cancel()
        while self._runs:
            for exchange in self._take()[1]:
                exchange.shadow_dropped = True
                self._done(exchange)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
