"""Our side of a connection, under a real uvicorn on a real socket: one write per answer, and a door for overload."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

from fairlead.serve.http_protocol import Door, OneWriteProtocol

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[Any]]
HOT = b"/v2/models/delays/predict"


class Recording:
    """A transport that remembers what was written at a time."""

    def __init__(self, transport: asyncio.Transport, writes: list[bytes]) -> None:
        self._transport, self._writes = transport, writes

    def write(self, data: bytes) -> None:
        self._writes.append(bytes(data))
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Shut:
    """A door that is shut for HOT while `shut`, and counts."""

    def __init__(self) -> None:
        self.shut, self.turned = True, 0

    def turns_away(self, method: bytes, target: bytes) -> bool:
        away = self.shut and method == b"POST" and target == HOT
        self.turned += away
        return away


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers with what it was sent; /empty with 204, /parts in two parts."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    if scope["path"] == "/empty":
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    if scope["path"] == "/parts":
        await send({"type": "http.response.body", "body": body[:2], "more_body": True})
        body = body[2:]
    await send({"type": "http.response.body", "body": body})


def talk(story: Talk, door: Door | None = None) -> list[bytes]:
    """Run `story` on a connection; what was written, write by write."""
    writes: list[bytes] = []

    class Watched(OneWriteProtocol):
        def door(self) -> Door | None:
            return door

        def connection_made(self, transport: Any) -> None:  # type: ignore[override]
            super().connection_made(Recording(transport, writes))  # type: ignore[arg-type]

    async def main() -> None:
        config = uvicorn.Config(
            app, http=Watched, lifespan="off", log_level="error", server_header=False, date_header=False
        )
        config.load()
        server = uvicorn.Server(config)
        server.lifespan = config.lifespan_class(config)
        loop = asyncio.get_running_loop()
        listening = await loop.create_server(
            lambda: Watched(config, server.server_state, {}),
            "127.0.0.1",
            0,  # type: ignore[call-arg]
        )
        reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
        async with asyncio.timeout(20):
            await story(reader, writer)
        writer.close()
        await writer.wait_closed()
        listening.close()
        await listening.wait_closed()

    asyncio.run(main())
    return writes


def request(body: bytes = b"body", target: bytes = HOT, method: bytes = b"POST", version: bytes = b"1.1") -> bytes:
    length = b"content-length: %d\r\n" % len(body)
    return method + b" " + target + b" HTTP/" + version + b"\r\nhost: x\r\n" + length + b"\r\n" + body


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """One whole answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    return int(head[0].split()[1]), headers, await reader.readexactly(int(headers.get("content-length", 0)))


def test_head_and_body_are_one_write_and_nothing_is_held_back() -> None:
    async def story(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for target, method, body in (
            (HOT, b"POST", b"body"),
            (b"/parts", b"POST", b"body"),
            (b"/empty", b"POST", b""),
            (HOT, b"HEAD", b""),
        ):
            writer.write(request(b"body", target, method))
            status, _, given = await answer(reader) if method != b"HEAD" else (200, {}, b"")
            if method == b"HEAD":
                await reader.readuntil(b"\r\n\r\n")
            assert (status, given) == (204 if target == b"/empty" else 200, body)

    whole, first, second, empty, head = talk(story)
    assert whole.endswith(b"\r\n\r\nbody")
    assert (first[-6:], second) == (b"\r\n\r\nbo", b"dy")
    assert empty.endswith(b"\r\n\r\n")
    assert head.endswith(b"\r\n\r\n")


def test_who_asks_to_go_on_is_told_so_before_the_answer() -> None:
    async def story(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _, body = request().partition(b"\r\n\r\n")
        writer.write(head + b"\r\nexpect: 100-continue\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await answer(reader))[2] == b"body"

    talk(story)


def test_what_is_no_request_is_refused_and_hung_up_on() -> None:
    async def story(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"what is this\r\n\r\n")
        status, _, given = await answer(reader)
        assert (status, given) == (400, b"Invalid HTTP request received.")
        assert await reader.read() == b""

    talk(story)


def test_behind_a_shut_door_nothing_is_read_and_the_connection_stays() -> None:
    door = Shut()

    async def story(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for body in (b"body", b"large" * 400_000):
            writer.write(request(body))
            status, headers, given = await answer(reader)
            assert (status, headers["retry-after"], b"overloaded" in given) == (429, "1", True)
        writer.write(request(b"other", b"/elsewhere"))
        assert (await answer(reader))[2] == b"other"
        door.shut = False
        writer.write(request())
        assert (await answer(reader))[0] == 200

    talk(story, door)
    assert door.turned == 2


def test_requests_in_a_row_are_answered_in_their_order() -> None:
    door = Shut()

    async def story(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(request(b"slow", b"/elsewhere") + request() + request(b"last", b"/elsewhere"))
        found = [(await answer(reader))[::2] for _ in range(3)]
        # What is in a row behind another request has its head read while that one is answered: it is let in.
        assert found == [(200, b"slow"), (200, b"body"), (200, b"last")]

    talk(story, door)
    assert door.turned == 0


def test_an_old_client_is_turned_away_and_hung_up_on() -> None:
    async def story(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(request(version=b"1.0"))
        status, headers, _ = await answer(reader)
        assert (status, headers["connection"]) == (429, "close")
        assert await reader.read() == b""

    talk(story, Shut())
