"""The client of a server's control routes, and the connection that it keeps."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fairlead.serve.client import RequestRefused, ServingClient


@contextmanager
def proxy(first: int, later: int) -> Iterator[tuple[str, list[int]]]:
    """Answers `first` to the first request of a connection and `later` to all others. Gives what was answered."""
    answered: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        seen = 0

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            status = later if self.seen else first
            self.seen += 1
            answered.append(status)
            body = b'{"joined": 1}' if status == 200 else b"Internal Server Error"
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", answered
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_kept_connection_to_a_proxy_that_was_replaced_is_given_up() -> None:
    with proxy(first=200, later=500) as (url, answered), ServingClient(url) as client:
        for _ in range(2):
            assert client.feedback([("id", "yes")]) == {"joined": 1}
    assert answered == [200, 500, 200]


def test_what_a_new_connection_is_answered_counts() -> None:
    with proxy(first=500, later=200) as (url, answered), ServingClient(url) as client:
        with pytest.raises(RequestRefused, match="500"):
            client.feedback([("id", "yes")])
        assert client.feedback([("id", "yes")]) == {"joined": 1}
    assert answered == [500, 200]
