"""uvicorn's side of a connection with two changes that a small model's requests feel.

One write: uvicorn writes the head of a response and its body apart, which are two calls of the system, two packets, and
two wake-ups of whoever waits. Here the head waits for the body.

A door: while the server is overloaded, inference requests are refused as soon as their head is read, with bytes that
are ready: no task, no scope, no body. What is refused must cost a fraction of what is answered, or refusing takes the
time that answers need.
"""

import asyncio
from typing import Any, Protocol, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fairlead.serve.refusals import Refusal, overloaded


class Door(Protocol):
    """Who decides at the head of a request. Why this method: only the application knows its paths and its queue."""

    def turns_away(self, method: bytes, target: bytes) -> bool:
        """True, and counted, when the request is refused unread."""


class _HeldHead:
    """A transport that keeps the head of a response until the body is written, or nothing more comes."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 1"):
            self._head = data
            return
        self._transport.write(data)

    def flush(self) -> None:
        """Write a head that has no body."""
        if self._head:
            data, self._head = self._head, b""
            self._transport.write(data)

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _Refused:
    """Stands where uvicorn keeps the request that it answers now: this one is answered."""

    response_complete = True
    keep_alive = True

    def __init__(self) -> None:
        self.message_event = asyncio.Event()


_ANSWERED = _Refused()


class OneWriteProtocol(HttpToolsProtocol):
    """One connection. A subclass says which door it has."""

    def door(self) -> Door | None:
        """Who may turn requests away."""
        return None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """See asyncio.Protocol."""
        self._held = _HeldHead(transport)
        super().connection_made(cast(asyncio.Transport, self._held))

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        door = self.door()
        idle = self.cycle is None or self.cycle.response_complete
        if door is None or not idle or not door.turns_away(self.parser.get_method(), self.url):
            super().on_headers_complete()
            return
        keep = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
        self.cycle = cast(Any, _ANSWERED)
        # The body, if one is still to come, is read and forgotten by uvicorn: the request is answered.
        self._held.write(_TOO_MANY if keep else _TOO_MANY_AND_CLOSE)
        self.on_response_complete()
        if not keep:
            self.transport.close()

    def on_response_complete(self) -> None:
        """Called when a response is whole."""
        self._held.flush()
        super().on_response_complete()


def protocol_with(door: Door) -> type[OneWriteProtocol]:
    """The protocol of a server with one application."""

    class WithDoor(OneWriteProtocol):
        def door(self) -> Door:
            return door

    return WithDoor


def _raw(refusal: Refusal, *more: tuple[bytes, bytes]) -> bytes:
    """The whole answer."""
    body = refusal.body()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *refusal.headers(),
        *more,
    ]
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    return b"HTTP/1.1 429 Too Many Requests\r\n" + lines + b"\r\n" + body


_TOO_MANY = _raw(overloaded())
_TOO_MANY_AND_CLOSE = _raw(overloaded(), (b"connection", b"close"))
