"""Dynamic batching: the requests that already wait are answered in one call of the network.

The queue is bounded (full: `Refusal` 429). A model whose call takes less than a millisecond runs in the event loop,
where handing it to a thread would cost more than the call; any other runs in one daemon thread, so that a call that
never returns can hold neither the loop nor the end of the process.
"""

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

from fairlead.errors import FairleadError, PredictionFailed
from fairlead.serve.model import Answer, Item
from fairlead.serve.refusals import overloaded

Outcomes = list[Answer | FairleadError]
"""One answer or error per request."""

PredictMany = Callable[[Sequence[Item]], Outcomes]

INLINE_LIMIT_SECONDS = 0.001
THREAD_PREFIX = "fairlead-model-"
_SWEEP_SECONDS = 0.01
_MOST_LOOKS = 4
"""Turns of the loop that a batch is gathered for, as long as each one brings more: some 0.2 ms under full load, none
for who comes alone."""
_FAST_CALLS = 32
_HICCUP_CALLS = 8
_LEARN, _FORGET, _MARGIN = 0.2, 0.9, 1.5
"""How fast the expected length of a call follows the calls, how fast it is forgotten while nothing is called, and how
much more than it must be left to a request."""


class DeadlinePassed(Exception):
    """Nobody answered in time."""


class ModelThread:
    """Runs calls one after the other in a daemon thread and hands results back to the event loop."""

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], object], asyncio.Future[object]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, call: Callable[[], object]) -> "asyncio.Future[object]":
        """A future of the running loop that gets what `call` returns or raises."""
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._calls.put((call, future))
        return future

    def close(self) -> None:
        """Let the thread end after the calls that wait."""
        self._calls.put(None)

    def _run(self) -> None:
        while (entry := self._calls.get()) is not None:
            call, future = entry
            try:
                result, error = call(), None
            except Exception as raised:  # whatever the call raises belongs to whoever waits for it
                result, error = None, raised
            try:
                future.get_loop().call_soon_threadsafe(_settle, future, result, error)
            except RuntimeError:
                return  # the loop is closed: nobody waits any more


def _settle(future: "asyncio.Future[object]", result: object, error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


class _Waiting:
    """Requests that wait together. `rows`: of all of them."""

    __slots__ = ("alone", "deadline", "future", "items", "rows")

    def __init__(self, items: Sequence[Item], future: "asyncio.Future[Any]", deadline: float, alone: bool) -> None:
        self.items, self.future, self.deadline, self.alone = items, future, deadline, alone
        self.rows = len(items[0]) if alone else sum(map(len, items))


class Batcher:
    """Collects requests for one model. Lives in one event loop."""

    def __init__(
        self,
        predict_many: PredictMany,
        *,
        max_batch: int,
        wait_seconds: float,
        max_queue: int,
        inline: bool,
        learn: bool = False,
        name: str = "model",
    ) -> None:
        """`inline`: run calls in the event loop; otherwise in a thread. `learn`: move from the thread to the loop once
        enough calls in a row were fast."""
        self._predict_many = predict_many
        self._max_batch, self._max_queue, self._wait = max_batch, max_queue, wait_seconds
        self._waiting: deque[_Waiting] = deque()
        self._inline = inline
        self._name = name
        self._thread: ModelThread | None = None
        self._busy = False
        self._scheduled = False
        self._looks = self._num_gathered = 0
        self._company = False
        self._slow_calls = 0
        self._lasts = 0.0
        self._fast_calls = 0
        self._learn = learn
        self._running: list[_Waiting] = []
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """True while no request is taken."""
        return len(self._waiting) >= self._max_queue

    @property
    def inline(self) -> bool:
        """True while calls run in the event loop."""
        return self._inline

    def submit(self, item: Item, deadline: float) -> "asyncio.Future[Answer]":
        """A future with the answer, or DeadlinePassed, or PredictionFailed.

        `deadline` is on the clock of `time.perf_counter`. Raises Refusal (429) when the queue is full.
        """
        if self.full:
            raise overloaded()
        future: asyncio.Future[Answer] = self._enqueue((item,), deadline, alone=True)
        return future

    def submit_group(self, items: Sequence[Item], deadline: float) -> "asyncio.Future[Outcomes]":
        """A future with one answer or error per item, or DeadlinePassed for all of them: they share a place in the
        queue and a call of the network. Raises Refusal (429) when the queue is full."""
        if self.full:
            raise overloaded()
        future: asyncio.Future[Outcomes] = self._enqueue(items, deadline, alone=False)
        return future

    def _enqueue(self, items: Sequence[Item], deadline: float, *, alone: bool) -> "asyncio.Future[Any]":
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting.append(_Waiting(items, future, deadline, alone))
        if not self._scheduled and not self._busy:
            self._scheduled = True
            if self._wait > 0:
                loop.call_later(self._wait, self._flush)
            else:
                # Runs after the other requests that arrived in this turn of the loop: they share the call.
                loop.call_soon(self._flush)
        return future

    def close(self) -> None:
        """End the thread once its calls are done. Waiting requests are still answered."""
        if self._thread is not None:
            self._thread.close()

    # -----------------------------------------------------------------------------------------------------------------
    def _take(self) -> list[_Waiting]:
        now = time.perf_counter()
        batch: list[_Waiting] = []
        rows = 0
        hopeless = False
        waiting = self._waiting
        while waiting and rows < self._max_batch:
            entry = waiting.popleft()
            if entry.future.done():
                continue
            if entry.deadline <= now + _MARGIN * self._lasts:
                # An answer that comes too late helps nobody, and would make the next one late, too.
                hopeless = True
                entry.future.set_exception(DeadlinePassed())
                continue
            batch.append(entry)
            rows += entry.rows
        if hopeless and not batch:
            self._lasts *= _FORGET  # or one very long call would be the last one for ever
        return batch

    def _flush(self) -> None:
        num_waiting = len(self._waiting)
        if self._company and self._looks < _MOST_LOOKS and self._num_gathered < num_waiting < self._max_batch:
            # Under load another look at the sockets makes batches larger, and costs less than a call of its own.
            self._looks, self._num_gathered = self._looks + 1, num_waiting
            asyncio.get_running_loop().call_soon(self._flush)
            return
        self._scheduled, self._looks, self._num_gathered = False, 0, 0
        if self._busy:
            return
        batch = self._take()
        if not batch:
            return
        if not self._inline:
            self._start(batch)
            return
        self._company = len(batch) > 1
        _deliver(batch, self._call_inline(_items_of(batch)))
        if self._waiting:
            # One call a turn: between two of them the loop reads, refuses, and tells HAProxy that it lives.
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def answer_now(self, items: Sequence[Item]) -> Outcomes | None:
        """One answer or error per item at once, or None where they must wait: others do, or calls run in the thread."""
        if not self._inline or self._busy or self._waiting or len(items) > self._max_batch:
            return None
        return self._call_inline(items)

    def _call_inline(self, items: Sequence[Item]) -> Outcomes:
        start = time.perf_counter()
        answers = self._call(items)
        if (time.perf_counter() - start) > 4 * INLINE_LIMIT_SECONDS:
            self._slow_calls += 1
            # One slow call is a hiccup of the machine; several mean that the model holds the loop up.
            self._inline = self._slow_calls < 8
            self._fast_calls = 0
        elif self._slow_calls:
            self._slow_calls -= 1
        return answers

    def _start(self, batch: list[_Waiting]) -> None:
        if self._thread is None:
            self._thread = ModelThread(f"{THREAD_PREFIX}{self._name}")
        self._busy = True
        self._running = batch
        items = _items_of(batch)
        call = self._thread.submit(lambda: self._timed(items))
        self._sweep()

        def finished(done: "asyncio.Future[object]") -> None:
            self._busy = False
            self._running = []
            if self._timer is not None:
                self._timer.cancel()
            answers, seconds = cast(tuple[Outcomes, float], done.result())
            self._lasts += (_LEARN if self._lasts else 1.0) * (seconds - self._lasts)
            if self._learn:
                # A slow call among fast ones is a hiccup of the machine; it only takes longer to learn then.
                fast = seconds < INLINE_LIMIT_SECONDS
                self._fast_calls = self._fast_calls + 1 if fast else max(0, self._fast_calls - _HICCUP_CALLS)
                self._inline = self._fast_calls >= _FAST_CALLS
            _deliver(batch, answers)
            self._flush()

        call.add_done_callback(finished)

    def _sweep(self) -> None:
        """While a call runs: give up on those whose time is over, in the call and in the queue behind it."""
        if not self._busy:
            return
        now = time.perf_counter()
        wake = now + _SWEEP_SECONDS
        for entry in (*self._running, *self._waiting):
            if not entry.future.done():
                if entry.deadline <= now:
                    entry.future.set_exception(DeadlinePassed())
                else:
                    wake = min(wake, entry.deadline)
        while self._waiting and self._waiting[0].future.done():
            self._waiting.popleft()
        self._timer = asyncio.get_running_loop().call_later(max(wake - now, 0.0005), self._sweep)

    def _timed(self, items: list[Item]) -> tuple[Outcomes, float]:
        begun = time.perf_counter()
        return self._call(items), time.perf_counter() - begun

    def _call(self, items: Sequence[Item]) -> Outcomes:
        try:
            return self._predict_many(items)
        except Exception as error:  # a defect in a model's code must answer its own requests, not end the server
            failure = PredictionFailed("the model raised", why=f"{type(error).__name__}: {error}"[:500])
            return [failure] * len(items)


def _items_of(batch: list[_Waiting]) -> list[Item]:
    return [item for entry in batch for item in entry.items]


def _deliver(batch: list[_Waiting], answers: Outcomes) -> None:
    start = 0
    for entry in batch:
        stop = start + len(entry.items)
        future, answer = entry.future, answers[start]
        if future.done():
            pass
        elif not entry.alone:
            future.set_result(answers[start:stop])
        elif isinstance(answer, Answer):
            future.set_result(answer)
        else:
            future.set_exception(answer)
        start = stop
