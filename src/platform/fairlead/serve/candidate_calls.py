"""Requests that a candidate answers, gathered by turn of the event loop: those that come together travel together.

A call to another process costs a write, a wake-up there and one here, whatever it carries; under load many requests
are in the same turn, and share these, as they share the champion's call of the network.
"""

import asyncio
from typing import cast

from fairlead.errors import FairleadError, PredictionFailed
from fairlead.serve.candidate import NO_ANSWER, CandidatePort
from fairlead.serve.candidate_link import MAX_IN_FLIGHT
from fairlead.serve.model import Answer, Item


class CandidateCalls:
    """Gathers the requests for one candidate. Lives in one event loop."""

    def __init__(self, port: CandidatePort, *, max_in_flight: int = MAX_IN_FLIGHT) -> None:
        """`max_in_flight`: requests that are left with the candidate at a time; beyond them the champion answers."""
        self.port = port
        self._max_in_flight = max_in_flight
        self._in_flight = 0
        self._items: list[Item] = []
        self._futures: list[asyncio.Future[Answer | FairleadError]] = []
        self._seconds = 0.0

    def submit(self, item: Item, seconds: float) -> "asyncio.Future[Answer | FairleadError]":
        """A future with the answer or an error, or with what the port raised. Requests of the same turn share the
        shortest of their `seconds`. Raises PredictionFailed when too many wait for the candidate."""
        if self._in_flight >= self._max_in_flight:
            raise PredictionFailed("too many requests wait for the candidate")
        self._in_flight += 1
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer | FairleadError] = loop.create_future()
        if not self._items:
            self._seconds = seconds
            # Runs after the other requests that arrived in this turn of the loop.
            loop.call_soon(self._send)
        elif seconds < self._seconds:
            self._seconds = seconds
        self._items.append(item)
        self._futures.append(future)
        return future

    def _send(self) -> None:
        items, self._items = self._items, []
        futures, self._futures = self._futures, []
        try:
            call = asyncio.ensure_future(self.port.predict(items, self._seconds))
        except Exception as error:  # a port may fail in any way; each request counts as failed, whatever it was
            self._failed(futures, error)
            return
        call.add_done_callback(lambda done: self._answered(futures, done))

    def _answered(
        self,
        futures: "list[asyncio.Future[Answer | FairleadError]]",
        done: "asyncio.Future[list[Answer | FairleadError]]",
    ) -> None:
        if done.cancelled():
            self._failed(futures, PredictionFailed("the call to the candidate was given up"))
            return
        error = done.exception()
        if error is not None:
            self._failed(futures, error)
            return
        self._in_flight -= len(futures)
        answers = done.result()
        for index, future in enumerate(futures):
            if not future.done():  # else: who asked has left
                future.set_result(answers[index] if index < len(answers) else NO_ANSWER)

    def _failed(self, futures: "list[asyncio.Future[Answer | FairleadError]]", error: BaseException) -> None:
        self._in_flight -= len(futures)
        for future in futures:
            if not future.done():
                future.set_exception(cast(Exception, error))
