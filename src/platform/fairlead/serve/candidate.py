"""Calling a candidate that is not trusted yet, and copying requests to it without ever delaying one."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from fairlead.errors import FairleadError, PredictionFailed
from fairlead.serve.batcher import Batcher, DeadlinePassed
from fairlead.serve.exchange import Exchange
from fairlead.serve.model import Answer, Item, LoadedModel
from fairlead.serve.refusals import Refusal


class CandidatePort(Protocol):
    """A candidate wherever it runs. One method, so that a process of its own and a thread look the same."""

    async def predict(self, items: Sequence[Item], timeout_seconds: float) -> list[Answer | FairleadError]:
        """One answer, or error, per item. Raises DeadlinePassed, FairleadError, or whatever the transport raises."""


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

    def close(self) -> None:
        """End its thread."""
        self._batcher.close()


class Shadow:
    """Copies of requests wait here for the candidate. Full: dropped and counted. Lives in one event loop."""

    def __init__(
        self, finish: Callable[[Exchange], None], *, max_waiting: int = 512, max_batch: int = 64, workers: int = 2
    ) -> None:
        """`finish` gets every exchange exactly once: with the copy's answer, or marked as failed or dropped."""
        self._finish = finish
        self._max_waiting, self._max_batch, self._max_workers = max_waiting, max_batch, workers
        self._waiting: deque[tuple[Exchange, CandidatePort, float]] = deque()
        self._workers: set[asyncio.Task[None]] = set()

    def offer(self, exchange: Exchange, candidate: CandidatePort, timeout_seconds: float) -> None:
        """Copy a request that the champion answered."""
        if len(self._waiting) >= self._max_waiting:
            exchange.shadow_dropped = True
            self._finish(exchange)
            return
        self._waiting.append((exchange, candidate, timeout_seconds))
        if len(self._workers) < self._max_workers:
            task = asyncio.get_running_loop().create_task(self._work())
            self._workers.add(task)
            task.add_done_callback(self._workers.discard)

    async def _work(self) -> None:
        while self._waiting:
            exchange, candidate, timeout_seconds = self._waiting.popleft()
            batch = [exchange]
            while self._waiting and len(batch) < self._max_batch and self._waiting[0][1] is candidate:
                batch.append(self._waiting.popleft()[0])
            await self._copy(batch, candidate, timeout_seconds)

    async def _copy(self, batch: list[Exchange], candidate: CandidatePort, timeout_seconds: float) -> None:
        start = time.perf_counter()
        answers: Sequence[Answer | FairleadError] = ()
        try:
            answers = await candidate.predict([exchange.rows for exchange in batch], timeout_seconds)
        except Exception:  # a candidate may fail in any way; the copy counts as failed, whatever it was
            answers = ()
        seconds = time.perf_counter() - start
        for index, exchange in enumerate(batch):
            answer = answers[index] if index < len(answers) else None
            exchange.shadow_seconds = seconds
            if isinstance(answer, Answer) and len(answer.scores) == len(exchange.rows):
                exchange.shadow_answer = answer
            else:
                exchange.shadow_failed = True
            self._finish(exchange)

    async def close(self) -> None:
        """Stop copying. What waits counts as dropped."""
        while self._waiting:
            exchange = self._waiting.popleft()[0]
            exchange.shadow_dropped = True
            self._finish(exchange)
        for task in list(self._workers):
            task.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
