"""Calling a candidate that is not trusted yet, and copying requests to it without ever delaying one."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from fairlead.errors import FairleadError, PredictionFailed
from fairlead.serve.batcher import Batcher, DeadlinePassed
from fairlead.serve.exchange import Exchange
from fairlead.serve.model import Answer, Item, LoadedModel, fits
from fairlead.serve.refusals import Refusal

_BATCH_ROWS = 4096
"""Rows of one copy at most, unless a single request has more."""

_GATHER_SECONDS = 0.005
"""Copies wait for others this long: nobody waits for them, and a batch costs little more than one."""


class CandidateDied(Exception):
    """The candidate went away while it had a request."""


class CandidatePort(Protocol):
    """A candidate wherever it runs, so that a process of its own and a thread look the same."""

    async def predict(self, items: Sequence[Item], timeout_seconds: float) -> list[Answer | FairleadError]:
        """One answer, or error, per item. Raises CandidateDied, FairleadError, or whatever the transport raises."""

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
        deadline = time.perf_counter() + timeout_seconds
        try:
            futures = [self._batcher.submit(item, deadline) for item in items]
        except Refusal as error:
            raise PredictionFailed("the candidate does not keep up", why=error.message) from error
        answers: list[Answer | FairleadError] = []
        for future in futures:
            try:
                answers.append(await future)
            except DeadlinePassed:
                answers.append(PredictionFailed("the candidate did not answer in time"))
            except FairleadError as error:
                answers.append(error)
        return answers

    async def leave(self) -> None:
        """See CandidatePort."""

    def close(self) -> None:
        """End its thread."""
        self._batcher.close()


class Shadow:
    """Copies of requests wait here for the candidate. Full: dropped and counted. Lives in one event loop."""

    def __init__(
        self,
        finish: Callable[[Exchange], None],
        *,
        max_waiting: int = 512,
        max_waiting_bytes: int = 1 << 25,
        max_batch: int = 64,
        workers: int = 2,
    ) -> None:
        """`finish` gets every exchange exactly once: with the copy's answer, or marked as failed or dropped.
        `max_waiting_bytes` bounds the bodies of the requests that wait."""
        self._finish = finish
        self._max_waiting, self._max_batch, self._max_workers = max_waiting, max_batch, workers
        self._max_waiting_bytes, self._waiting_bytes = max_waiting_bytes, 0
        self._waiting: deque[tuple[Exchange, CandidatePort, float]] = deque()
        self._workers: set[asyncio.Task[None]] = set()

    def offer(self, exchange: Exchange, candidate: CandidatePort, timeout_seconds: float) -> None:
        """Copy a request that the champion answered."""
        if exchange.quarantined():
            exchange.shadow_failed, exchange.shadow_seconds = True, timeout_seconds
            self._done(exchange)
            return
        size = len(exchange.body)
        if len(self._waiting) >= self._max_waiting or self._waiting_bytes + size > self._max_waiting_bytes:
            exchange.shadow_dropped = True
            self._done(exchange)
            return
        self._waiting_bytes += size
        self._waiting.append((exchange, candidate, timeout_seconds))
        if len(self._workers) < self._max_workers:
            task = asyncio.get_running_loop().create_task(self._work())
            self._workers.add(task)
            task.add_done_callback(self._workers.discard)

    def _done(self, exchange: Exchange) -> None:
        exchange.body = b""
        self._finish(exchange)

    def _take(self) -> Exchange:
        exchange = self._waiting.popleft()[0]
        self._waiting_bytes -= len(exchange.body)
        return exchange

    async def _work(self) -> None:
        while self._waiting:
            if len(self._waiting) < self._max_batch:
                await asyncio.sleep(_GATHER_SECONDS)
                if not self._waiting:
                    return
            _, candidate, timeout_seconds = self._waiting[0]
            batch = [self._take()]
            rows = len(batch[0].rows)
            while self._waiting and len(batch) < self._max_batch and self._waiting[0][1] is candidate:
                rows += len(self._waiting[0][0].rows)
                if rows > _BATCH_ROWS:
                    break
                batch.append(self._take())
            await self._copy(batch, candidate, timeout_seconds)

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
        except CandidateDied:
            for exchange in batch:
                exchange.suspect()
        except Exception:  # a candidate may fail in any way; the copy counts as failed, whatever it was
            answers = ()
        waited = time.perf_counter() - start
        for index, exchange in enumerate(batch):
            answer = answers[index] if index < len(answers) else None
            if isinstance(answer, Answer) and fits(answer, exchange.model.signature, len(exchange.rows)):
                exchange.shadow_answer = answer
                exchange.shadow_seconds = answer.seconds if answer.seconds >= 0 else waited
            else:
                exchange.shadow_failed = True
                exchange.shadow_seconds = waited
            self._done(exchange)

    async def close(self) -> None:
        """Stop copying. What waits counts as dropped."""
        while self._waiting:
            exchange = self._take()
            exchange.shadow_dropped = True
            self._done(exchange)
        for task in list(self._workers):
            task.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
