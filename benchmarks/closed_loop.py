"""A client that asks again as soon as it is answered: requests per second and latency, or just so many requests.

It reads no more of an answer than it must, so that the server is what is slow.
"""

import asyncio
import time
from typing import Any

import numpy as np
import orjson

ROW = {"distance": 812.0, "wind": 11.5, "carrier": "AA"}
BODY = orjson.dumps({"instances": [ROW]})


def is_whole(head: bytes, body: bytes) -> bool:
    """Did all of an answer come? `head` in lower case."""
    length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return len(body) >= int(length) if length else body.endswith(b"0\r\n\r\n")


class Connection(asyncio.Protocol):
    """Sends the same request again as soon as the answer is whole."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.latencies: list[float] = []
        self.statuses: dict[int, int] = {}
        self.running = True
        self.left: list[int] | None = None
        self._came = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self._send()

    def _send(self) -> None:
        if self.left is not None:
            if self.left[0] <= 0:
                self.running = False
            self.left[0] -= 1
        if not self.running:
            self.transport.close()
            return
        self._begun = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        came = self._came + data
        head, found, body = came.partition(b"\r\n\r\n")
        if not found or not is_whole(head.lower(), body):
            self._came = came
            return
        self._came = b""
        self.latencies.append(time.perf_counter() - self._begun)
        status = int(head[9:12])
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.running:
            self.running = False
            self.statuses[0] = self.statuses.get(0, 0) + 1


def _request(path: str) -> bytes:
    headers = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(BODY)}"
    return f"POST {path} HTTP/1.1\r\n{headers}\r\n\r\n".encode() + BODY


async def _connect(port: int, path: str, connections: int, left: list[int] | None = None) -> list[Connection]:
    def make() -> Connection:
        made = Connection(_request(path))
        made.left = left
        return made

    loop = asyncio.get_running_loop()
    return [(await loop.create_connection(make, "127.0.0.1", port))[1] for _ in range(connections)]


async def drive(port: int, path: str, connections: int, seconds: float) -> dict[str, float]:
    """Requests per second, and latencies in milliseconds. Ends the program at any answer but 200."""
    made = await _connect(port, path, connections)
    await asyncio.sleep(0.3)
    for connection in made:
        connection.latencies.clear()
    started = time.perf_counter()
    await asyncio.sleep(seconds)
    elapsed = time.perf_counter() - started
    latencies = np.concatenate([np.array(connection.latencies) for connection in made]) * 1000
    for connection in made:
        connection.running = False
    await asyncio.sleep(0.1)
    bad = {status: n for connection in made for status, n in connection.statuses.items() if status != 200}
    if bad or not len(latencies):
        raise SystemExit(f"port {port} {path}: answers other than 200: {bad or 'none came'}")
    return {
        "rps": len(latencies) / elapsed,
        "p50_ms": float(np.quantile(latencies, 0.5)),
        "p99_ms": float(np.quantile(latencies, 0.99)),
    }


async def send(port: int, path: str, connections: int, requests: int) -> dict[int, int]:
    """So many requests: answers by status."""
    made = await _connect(port, path, connections, [requests])
    while any(connection.running for connection in made):
        await asyncio.sleep(0.005)
    statuses: dict[int, int] = {}
    for connection in made:
        for status, count in connection.statuses.items():
            statuses[status] = statuses.get(status, 0) + count
    return statuses
