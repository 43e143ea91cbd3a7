"""The candidate's side of the wire: a stream server around one loaded model, in a process of its own.

Who connects says a secret first, which only the replicas of the same served model know; anything else is hung up on.
"""

import asyncio
import hmac
import time
from collections.abc import Sequence
from typing import cast

from fairlead.errors import PredictionFailed
from fairlead.serve.batcher import Batcher, DeadlinePassed, Outcomes
from fairlead.serve.model import Item, LoadedModel
from fairlead.serve.refusals import Refusal
from fairlead.serve.wire import Frames, FrameTooLarge, GarbledFrame, block_fields, decode_call, encode_reply

SECRET_BYTES = 32

Call = tuple[int, float, list[Item]]
"""Its number, the seconds that it may take, and its items."""

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

    def answer(self, transport: asyncio.WriteTransport, calls: Sequence[Call]) -> None:
        """Answer calls that arrived together: at once where the model is fast, otherwise when their items are done."""
        begun = time.perf_counter()
        answers = self._batcher.answer_now([item for _, _, items in calls for item in items])
        if answers is None:
            for call, seconds, items in calls:
                self._answer_later(transport, call, seconds, items)
            return
        took, start, replies = time.perf_counter() - begun, 0, []
        for call, _, items in calls:
            replies.append(encode_reply(call, took, answers[start : start + len(items)]))
            start += len(items)
        if not transport.is_closing():
            transport.write(b"".join(replies))

    def _answer_later(self, transport: asyncio.WriteTransport, call: int, seconds: float, items: list[Item]) -> None:
        begun = time.perf_counter()
        if not items:
            _reply(transport, call, begun, [])
            return
        try:
            answers = self._batcher.submit_group(items, begun + seconds)
        except Refusal as refusal:
            failed = PredictionFailed("the candidate does not keep up", why=refusal.message)
            _reply(transport, call, begun, [failed] * len(items))
            return
        answers.add_done_callback(lambda done: _reply(transport, call, begun, _outcomes(done, len(items))))


def _outcomes(done: "asyncio.Future[Outcomes]", items: int) -> Outcomes:
    error = done.exception()
    if error is None:
        return done.result()
    late = isinstance(error, DeadlinePassed)
    why = "the candidate did not answer in time" if late else f"{type(error).__name__}: {error}"
    return [PredictionFailed(why)] * items


def _reply(transport: asyncio.WriteTransport, call: int, begun: float, answers: Outcomes) -> None:
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
        calls: list[Call] = []
        try:
            for call, body in self._frames.feed(data):
                calls.append((call, *decode_call(body, self._server.blocks)))
        except (FrameTooLarge, GarbledFrame):
            self._transport.abort()
            return
        if calls:
            self._server.answer(self._transport, calls)
