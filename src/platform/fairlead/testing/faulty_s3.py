"""An S3 server that fails as told: a proxy on 127.0.0.1 before a real one.

Requests are handed on as they are, with their signature; those that a `Fault` fits get an error status, a connection
that is reset in the middle of the body, or a body that ends too early.
"""

import contextlib
import http.client
import http.server
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

_CODES = {403: "AccessDenied", 404: "NoSuchKey", 500: "InternalError", 503: "SlowDown"}


@dataclass
class Fault:
    """What goes wrong with requests whose method is in `methods` and whose line holds `path`: `what` is a status, or
    the connection is reset or closed halfway in the body. Happens `times` times, then no more."""

    what: int | Literal["reset", "cut"]
    path: str = ""
    methods: tuple[str, ...] = ("GET", "HEAD")
    times: int = 1_000_000
    seen: int = 0


@dataclass
class FaultyS3:
    """Where the proxy listens, and what goes wrong now."""

    endpoint: str
    faults: list[Fault] = field(default_factory=list)

    def next_fault(self, method: str, path: str) -> Fault | None:
        """The first that fits and is not used up; counts it."""
        for fault in self.faults:
            if method in fault.methods and fault.path in path and fault.seen < fault.times:
                fault.seen += 1
                return fault
        return None


@contextlib.contextmanager
def faulty_s3(upstream: str) -> Iterator[FaultyS3]:
    """Start a proxy before the S3 server at `upstream` (http://host:port); it stops at the end."""
    target = urlsplit(upstream)
    assert target.hostname is not None
    proxy = FaultyS3("")

    class Handler(_Handler):
        host, port, shared = str(target.hostname), int(target.port or 80), proxy

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, name="faulty-s3", daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    """One request: the fault that fits, or what the real server says."""

    protocol_version = "HTTP/1.1"
    host = ""
    port = 0
    shared: FaultyS3

    def _answer(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.shared.next_fault(self.command, self.path)
        if fault is not None and isinstance(fault.what, int):
            code = _CODES[fault.what]
            body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>told so</Message></Error>".encode()
            self._send(fault.what, [("Content-Type", "application/xml")], body)
            return
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders(sent or None)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        headers = [(n, v) for n, v in answer.getheaders() if n.lower() not in ("transfer-encoding", "connection")]
        self._send(answer.status, headers, body, str(fault.what) if fault is not None else "")

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer

    def _send(self, status: int, headers: list[tuple[str, str]], body: bytes, broken: str = "") -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() != "content-length" or self.command == "HEAD":
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body[: len(body) // 2] if broken else body)
        if broken:
            self.wfile.flush()
            if broken == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: tests look at what the client says."""
