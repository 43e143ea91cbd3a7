"""Calling an ASGI application without a network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True)
class Response:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return orjson.loads(self.body)


async def call(
    app: Any,
    method: str,
    path: str,
    body: Any = None,
    headers: dict[str, str] | None = None,
    parts: list[bytes] | None = None,
) -> Response:
    """One request. `body`: bytes as they are, anything else as JSON; `parts`: the body in several messages."""
    data = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
    chunks = list(parts) if parts is not None else [data]
    sent: list[dict[str, Any]] = []
    given = {"content-type": "application/json", **(headers or {})}

    async def receive() -> dict[str, Any]:
        chunk = chunks.pop(0) if chunks else b""
        return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }
    await app(scope, receive, send)
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Response(sent[0]["status"], found, b"".join(message["body"] for message in sent[1:]))


async def until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait for something to become true."""
    import asyncio
    import time

    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.02)
    return found
