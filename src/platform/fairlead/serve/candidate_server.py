"""The candidate's side of the wire: a stream server around one loaded model, in a process of its own.

Who connects says a secret first, which only the replicas of the same served model know; anything else is hung up on.
"""

import asyncio
import hmac
import time
from typing import cast

from fairlead.errors import FairleadError, PredictionFailed
from fairlead.serve.batcher import Batcher, DeadlinePassed
from fairlead.serve.model import Answer, Item, LoadedModel
from fairlead.serve.refusals import Refusal
from fairlead.serve.wire import Frames, FrameTooLarge, GarbledFrame, block_fields, decode_call, encode_reply

SECRET_BYTES = 32

_CALL_LIMIT = 1 << 28
_MAX_BATCH = 64
_MAX_QUEUE = 1024


class CandidateServer:
    """Answers calls for one model. Lives in one event loop."""

    def __init__(self, model: LoadedModel, secret: bytes, *, max_batch: int = _MAX_BATCH) -> None:
        """`secret`: SECRET_BYTES long."""
        self.secret = secret
        self.blocks = block_fields(model.signature)
        self._batcher = Batcher(
            model.predict_many,
            max_batch=max_batch,
            wait_seconds=0.0,
            max_queue=_MAX_QUEUE,
            # In a thread until it has shown that it is fast: the very first call may never return.
            inline=False,
            learn=True,
            name="candidate",
        )
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, host: str) -> int:
        """Listen on a free TCP port of `host` and give it."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), host, 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def listen_at(self, path: str) -> None:
        """Listen on a Unix socket."""
        self._server = await asyncio.get_running_loop().create_unix_server(lambda: _Connection(self), path)

    def close(self) -> None:
        """Stop listening, and end the model's thread once its calls are done."""
        if self._server is not None:
            self._server.close()
        self._batcher.close()

    def answer(self, transport: asyncio.WriteTransport, call: int, seconds: float, items: list[Item]) -> None:
        """Answer a call on its connection once its items are done."""
        begun = time.perf_counter()
        pending: list[asyncio.Future[Answer] | FairleadError] = []
        for item in items:
            try:
                pending.append(self._batcher.submit(item, begun + seconds))
            except Refusal as refusal:
                pending.append(PredictionFailed("the candidate does not keep up", why=refusal.message))
        if len(pending) == 1 and isinstance(only := pending[0], asyncio.Future):
            only.add_done_callback(lambda done: _reply(transport, call, begun, [_outcome(done)]))
            return
        task = asyncio.get_running_loop().create_task(self._gather(transport, call, begun, pending))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _gather(
        self,
        transport: asyncio.WriteTransport,
        call: int,
        begun: float,
        pending: "list[asyncio.Future[Answer] | FairleadError]",
    ) -> None:
        waiting = [entry for entry in pending if isinstance(entry, asyncio.Future)]
        if waiting:
            await asyncio.wait(waiting)
        _reply(transport, call, begun, [_outcome(e) if isinstance(e, asyncio.Future) else e for e in pending])


def _outcome(done: "asyncio.Future[Answer]") -> Answer | FairleadError:
    error = done.exception()
    if error is None:
        return done.result()
    if isinstance(error, DeadlinePassed):
        return PredictionFailed("the candidate did not answer in time")
    return error if isinstance(error, FairleadError) else PredictionFailed(f"{type(error).__name__}: {error}")


def _reply(transport: asyncio.WriteTransport, call: int, begun: float, answers: list[Answer | FairleadError]) -> None:
    if not transport.is_closing():
        transport.write(encode_reply(call, time.perf_counter() - begun, answers))


class _Connection(asyncio.Protocol):
    def __init__(self, server: CandidateServer) -> None:
        self._server = server
        self._frames = Frames(_CALL_LIMIT)
        self._greeting = b""
        self._known = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        if not self._known:
            self._greeting += data
            if len(self._greeting) < SECRET_BYTES:
                return
            given, data = self._greeting[:SECRET_BYTES], self._greeting[SECRET_BYTES:]
            if not hmac.compare_digest(given, self._server.secret):
                self._transport.abort()
                return
            self._known = True
        try:
            for call, body in self._frames.feed(data):
                seconds, items = decode_call(body, self._server.blocks)
                self._server.answer(self._transport, call, seconds, items)
        except (FrameTooLarge, GarbledFrame):
            self._transport.abort()
