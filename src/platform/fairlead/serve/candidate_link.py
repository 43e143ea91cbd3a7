"""The ingress' side of the wire: one connection to a candidate, many calls in flight, and no trust.

A candidate may refuse connections, hang, answer garbage or 100 MB, or die. Each call then ends with an error within
its time, what it may hold is bounded, and the connection is made anew for a later call.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import cast

from fairlead.errors import FairleadError, PredictionFailed
from fairlead.records.model import Signature
from fairlead.serve.candidate import CandidateDied
from fairlead.serve.model import Answer, Item
from fairlead.serve.wire import (
    Frames,
    FrameTooLarge,
    GarbledFrame,
    block_fields,
    decode_reply,
    encode_call,
    reply_limit,
)

MAX_IN_FLIGHT = 64
"""What one replica leaves with a candidate at a time: as many requests, and never more calls."""

_UNSENT_BYTES = 1 << 20
_CONNECT_SECONDS = 2.0
_PATIENCE_SECONDS = 0.25
"""A call waits this long for a connection, whatever time it has: the champion is better off with the rest."""

_BACKOFF_SECONDS = 0.2
_MAX_BACKOFF_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where a candidate listens: a TCP port of `host`, or the Unix socket `path` when that is not empty."""

    secret: bytes
    host: str = ""
    port: int = 0
    path: str = ""


Resolve = Callable[[], Awaitable[Address]]
"""Finds out where the candidate listens now; may raise anything."""


class CandidateLink:
    """A `CandidatePort` over a socket. Lives in one event loop."""

    def __init__(self, resolve: Resolve, signature: Signature, *, max_in_flight: int = MAX_IN_FLIGHT) -> None:
        """`signature`: the champion's, which the candidate's answers must fit."""
        self._resolve = resolve
        self._max_in_flight = max_in_flight
        self._blocks = block_fields(signature)
        self._classes = len(signature.classes)
        self._channel: _Channel | None = None
        self._connecting: asyncio.Task[_Channel] | None = None
        self._not_before = 0.0
        self._garbled = 0

    def predict(self, items: Sequence[Item], timeout_seconds: float) -> Awaitable[list[Answer | FairleadError]]:
        """See CandidatePort. Raises CandidateDied when the connection broke while the call was in flight."""
        channel = self._channel
        if channel is None or channel.closed:
            return self._connect_and_call(channel, items, timeout_seconds)
        return self._call(channel, items, timeout_seconds)

    async def _connect_and_call(
        self, broken: "_Channel | None", items: Sequence[Item], timeout_seconds: float
    ) -> list[Answer | FairleadError]:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        if broken is not None and broken is self._channel:
            self._channel = None
            self._hung_up(broken, begun)
        async with asyncio.timeout(min(timeout_seconds, _PATIENCE_SECONDS)):
            channel = await asyncio.shield(self._connect(begun))
        return await self._call(channel, items, timeout_seconds - (loop.time() - begun))

    def _call(
        self, channel: "_Channel", items: Sequence[Item], timeout_seconds: float
    ) -> "asyncio.Future[list[Answer | FairleadError]]":
        if len(channel.calls) >= self._max_in_flight or channel.unsent > _UNSENT_BYTES:
            raise PredictionFailed("too many calls wait for the candidate")
        rows = sum(map(len, items))
        return channel.call(items, timeout_seconds, self._blocks, reply_limit(rows, self._classes))

    async def leave(self) -> None:
        """See CandidatePort. Hangs up."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        if self._channel is not None:
            self._channel.break_off()

    def _hung_up(self, channel: "_Channel", now: float) -> None:
        """Wait longer and longer for a candidate that answers garbage: it eats what others could use."""
        if not channel.refused:
            return
        self._garbled = 1 if channel.answered else self._garbled + 1
        self._not_before = now + min(_BACKOFF_SECONDS * 2**self._garbled, _MAX_BACKOFF_SECONDS)

    def _connect(self, now: float) -> "asyncio.Task[_Channel]":
        """The one attempt to connect that all calls of the moment share."""
        if self._connecting is None:
            if now < self._not_before:
                raise PredictionFailed("the candidate cannot be reached")
            self._connecting = asyncio.get_running_loop().create_task(self._open())
            self._connecting.add_done_callback(self._opened)
        return self._connecting

    async def _open(self) -> "_Channel":
        async with asyncio.timeout(_CONNECT_SECONDS):
            address = await self._resolve()
            loop = asyncio.get_running_loop()
            if address.path:
                _, channel = await loop.create_unix_connection(_Channel, address.path)
            else:
                _, channel = await loop.create_connection(_Channel, address.host, address.port)
        channel.life = blake2b(address.secret, digest_size=8).digest()
        channel.transport.write(address.secret)
        return channel

    def _opened(self, task: "asyncio.Task[_Channel]") -> None:
        self._connecting = None
        if task.cancelled() or task.exception() is not None:
            self._not_before = asyncio.get_running_loop().time() + _BACKOFF_SECONDS
        else:
            self._channel = task.result()


class _Call:
    __slots__ = ("deadline", "future", "items", "limit")

    def __init__(
        self, future: "asyncio.Future[list[Answer | FairleadError]]", items: int, limit: int, deadline: float
    ) -> None:
        self.future, self.items, self.limit, self.deadline = future, items, limit, deadline


class _Channel(asyncio.Protocol):
    """One connection. After it broke it stays broken."""

    def __init__(self) -> None:
        self.calls: dict[int, _Call] = {}
        self.life = b""  # of the candidate: each process has a secret of its own
        self.closed = False
        self.refused = False
        self.answered = False
        self._frames = Frames(reply_limit(0, 1))
        self._next = 0
        self._sweeper: asyncio.TimerHandle | None = None
        self._sweeps_at = math.inf

    @property
    def unsent(self) -> int:
        """Bytes that the candidate has not taken in yet."""
        return self.transport.get_write_buffer_size()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)

    def call(
        self,
        items: Sequence[Item],
        seconds: float,
        blocks: tuple[tuple[str, tuple[int, ...]], ...],
        limit: int,
    ) -> "asyncio.Future[list[Answer | FairleadError]]":
        loop = asyncio.get_running_loop()
        number = self._next = (self._next + 1) & 0xFFFFFFFF
        future: asyncio.Future[list[Answer | FairleadError]] = loop.create_future()
        deadline = loop.time() + max(seconds, 0.0)
        self.calls[number] = _Call(future, len(items), limit, deadline)
        if deadline < self._sweeps_at:
            self._sweep_at(deadline)
        if limit > self._frames.limit:
            self._frames.limit = limit
        self.transport.write(encode_call(number, seconds, items, blocks))
        return future

    def data_received(self, data: bytes) -> None:
        call: _Call | None = None
        try:
            for number, body in self._frames.feed(data):
                call = self.calls.pop(number, None)
                if call is None:
                    continue  # came too late
                if len(body) > call.limit:
                    raise FrameTooLarge(f"{len(body)} bytes of reply")
                answers = decode_reply(body)
                if len(answers) != call.items:
                    raise GarbledFrame(f"{len(answers)} answers to {call.items} requests")
                self.answered = True
                if not call.future.done():
                    call.future.set_result(answers)
        except (FrameTooLarge, GarbledFrame) as error:
            if call is not None and not call.future.done():
                call.future.set_exception(PredictionFailed("the candidate answered garbage", why=str(error)))
            self.break_off()

    def _sweep_at(self, moment: float) -> None:
        """One timer for all calls: nearly all are answered long before, and a timer each costs more than a call."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._sweeps_at = moment
        self._sweeper = asyncio.get_running_loop().call_at(moment, self._sweep)

    def _sweep(self) -> None:
        self._sweeper, self._sweeps_at = None, math.inf
        now = asyncio.get_running_loop().time()
        for number, call in list(self.calls.items()):
            if call.deadline <= now:
                del self.calls[number]
                if not call.future.done():
                    call.future.set_exception(PredictionFailed("the candidate did not answer in time"))
        if self.calls:
            self._sweep_at(min(call.deadline for call in self.calls.values()))

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        calls, self.calls = self.calls, {}
        if self._sweeper is not None:
            self._sweeper.cancel()
        for call in calls.values():
            if call.future.done():
                continue
            if self.refused:
                call.future.set_exception(PredictionFailed("the connection to the candidate was given up"))
            else:
                call.future.set_exception(CandidateDied(self.life))

    def break_off(self) -> None:
        """Hang up: nothing that still comes is read."""
        self.closed = self.refused = True
        self.transport.abort()
