"""Requests at a fixed rate, whether or not earlier ones were answered, by a client that costs little of its own.

    .venv/bin/python benchmarks/open_loop.py --url http://127.0.0.1:8000/v2/models/delays/predict --body '{...}' \
        --phase 40:5 --phase 320:30 --phase 40:10

Each phase is RATE:SECONDS, one after the other without a break; 0 as the rate asks with 4 connections as soon as they
are answered. A request takes an idle connection or opens one; with 1,000 open ones it waits for one. Its time begins
when it was due, not when it was sent: what the client is late counts as well, and is told as `lag_ms`. Prints one JSON
object: per phase what came of the requests that were due in it, and what the client itself used of a core.
"""

import argparse
import asyncio
import json
import sys
import time
import urllib.parse
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parent))

from closed_loop import is_whole

ANSWER_SECONDS = 10.0
LATE_SECONDS = 1.0
CLOSED_CONNECTIONS = 4
_MOST_CONNECTIONS = 1000
_TICK_SECONDS = 0.001


@dataclass(slots=True)
class Sent:
    """One request. `came` is 0 while there is no answer, `status` 0 when there never was one."""

    phase: int
    due: float
    came: float = 0.0
    status: int = 0


class Connection(asyncio.Protocol):
    """One connection with at most one request in flight."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._came = b""
        self.request: Sent | None = None
        self.open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.open = True

    def send(self, request: Sent) -> None:
        self.request = request
        self.transport.write(self._client.message)

    def data_received(self, data: bytes) -> None:
        came = self._came + data
        head, found, body = came.partition(b"\r\n\r\n")
        if not found or not is_whole(head.lower(), body):
            self._came = came
            return
        self._came = b""
        request, self.request = self.request, None
        if request is not None:
            request.came, request.status = time.monotonic(), int(head[9:12])
            if request.status in (429, 503):
                self._client.retry_after.add(head.lower().partition(b"retry-after: ")[2].partition(b"\r\n")[0].decode())
        self._client.free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        self._client.closed()


class Client:
    """All connections, and everything that was sent."""

    def __init__(self, url: str, body: bytes, phases: list[tuple[float, float]]) -> None:
        parts = urllib.parse.urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        head = f"POST {parts.path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\n"
        self.message = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        self.phases = phases
        self.retry_after: set[str] = set()
        self.requests: list[Sent] = []
        self.cpu: list[float] = []
        self.ends: list[float] = []
        self.largest_lag = 0.0
        self._idle: list[Connection] = []
        self._num_open = 0
        self._unsent: deque[Sent] = deque()
        self._opening: set[asyncio.Task[None]] = set()
        self._closed_until = 0.0

    async def run(self) -> None:
        """Send all phases, and wait for the answers."""
        for number, (rate, seconds) in enumerate(self.phases):
            begun, used = time.monotonic(), time.process_time()
            await (self._at_rate(number, rate, seconds) if rate else self._closed(number, seconds))
            self.cpu.append((time.process_time() - used) / (time.monotonic() - begun))
            self.ends.append(begun + seconds)
        until = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < until and any(not request.came for request in self.requests[-20_000:]):
            await asyncio.sleep(0.05)

    async def _at_rate(self, phase: int, rate: float, seconds: float) -> None:
        begun = time.monotonic()
        count = round(rate * seconds)
        sent = 0
        while sent < count:
            now = time.monotonic()
            due = min(count, int((now - begun) * rate) + 1)
            for number in range(sent, due):
                self._send(Sent(phase, begun + number / rate))
            if due > sent:
                self.largest_lag = max(self.largest_lag, now - (begun + sent / rate))
            sent = due
            await asyncio.sleep(_TICK_SECONDS)
        await asyncio.sleep(max(0.0, begun + seconds - time.monotonic()))

    async def _closed(self, phase: int, seconds: float) -> None:
        self._closed_until = time.monotonic() + seconds
        for _ in range(CLOSED_CONNECTIONS):
            self._send(Sent(phase, time.monotonic()))
        await asyncio.sleep(seconds)
        until = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < until and any(not r.came for r in self.requests[-CLOSED_CONNECTIONS:]):
            await asyncio.sleep(0.01)

    def _send(self, request: Sent) -> None:
        self.requests.append(request)
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                connection.send(request)
                return
        if self._num_open >= _MOST_CONNECTIONS:
            self._unsent.append(request)
            return
        self._num_open += 1
        task = asyncio.create_task(self._open(request))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, request: Sent) -> None:
        try:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(lambda: Connection(self), self._host, self._port)
        except OSError:
            request.came = time.monotonic()  # refused: an answer of its kind, with no status
            self.closed()
            return
        connection.send(request)

    def closed(self) -> None:
        """A connection is gone."""
        self._num_open -= 1
        if self._unsent:
            self._send(self._unsent.popleft())

    def free(self, connection: Connection) -> None:
        """A connection may be used again."""
        if self._unsent:
            connection.send(self._unsent.popleft())
            return
        self._idle.append(connection)
        now = time.monotonic()
        if now < self._closed_until:
            self._send(Sent(self.requests[-1].phase, now))

    # -----------------------------------------------------------------------------------------------------------------
    def result(self) -> dict[str, Any]:
        """What is printed."""
        phases = [self._phase(number) for number in range(len(self.phases))]
        return {"phases": phases, "retry_after": sorted(self.retry_after), "lag_ms": round(self.largest_lag * 1000, 1)}

    def _phase(self, number: int) -> dict[str, Any]:
        requests = [request for request in self.requests if request.phase == number]
        good = [request for request in requests if request.status == 200]
        ms = np.array([request.came - request.due for request in good] or [0.0]) * 1000
        end = self.ends[number]
        seconds = self.phases[number][1]
        statuses: dict[str, int] = {}
        for request in requests:
            name = str(request.status) if request.status else "none"
            statuses[name] = statuses.get(name, 0) + 1
        return {
            "requests": len(requests),
            "statuses": statuses,
            "late": int((ms > LATE_SECONDS * 1000).sum()),
            "p50_ms": float(np.quantile(ms, 0.5)),
            "p99_ms": float(np.quantile(ms, 0.99)),
            "max_ms": float(ms.max()),
            # Good answers that came while the phase lasted, whenever they had been due.
            "good_per_second": sum(1 for r in self.requests if r.status == 200 and end - seconds <= r.came < end)
            / seconds,
            "client_cores": self.cpu[number],
            # Of each request: seconds since the phase began when it was due, its status, milliseconds.
            "trace": [(round(r.due - end + seconds, 4), r.status, round((r.came - r.due) * 1000, 2)) for r in requests],
        }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--body", required=True)
    parser.add_argument("--phase", action="append", required=True, help="RATE:SECONDS; repeatable")
    arguments = parser.parse_args()
    phases = [(float(rate), float(seconds)) for rate, seconds in (phase.split(":") for phase in arguments.phase)]
    client = Client(arguments.url, arguments.body.encode(), phases)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(client.run())
    print(json.dumps(client.result()))


if __name__ == "__main__":
    main()
