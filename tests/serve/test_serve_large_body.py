"""50 MB where a few KB are expected, sent to a real server."""

import http.client
import json
import os
from collections.abc import Iterator
from pathlib import Path

from conftest import Bundles
from server_process import free_port, server_process
from tiny_models import MODEL, ROW

from fairlead.records.release import Release
from fairlead.spec.serve import RequestLog, Serve

BODY = 50_000_000


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    pages = int((Path("/proc") / str(pid) / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def pieces() -> Iterator[bytes]:
    for _ in range(BODY // 1_000_000):
        yield b" " * 1_000_000


def post(port: int, body: bytes | Iterator[bytes]) -> tuple[int, dict[str, str]]:
    """Status and answer; a server may answer and hang up before it has read everything."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(
            "POST", f"/v2/models/{MODEL}/predict", body, {"content-type": "application/json"},
            encode_chunked=not isinstance(body, bytes),
        )  # fmt: skip
    except (BrokenPipeError, ConnectionResetError):
        pass
    try:
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    except (ConnectionResetError, http.client.HTTPException):
        return 0, {}
    finally:
        connection.close()


def test_a_body_of_50_mb_is_refused_and_the_server_goes_on_without_having_kept_it(bundles: Bundles) -> None:
    spec = Serve(port=free_port(), log=RequestLog(enabled=False))
    with server_process(spec, Release(MODEL, 1, bundles.first), bundles.base) as (client, process):
        before = resident(process.pid)
        for body in (b" " * BODY, pieces()):
            status, answer = post(spec.port, body)
            assert status in (0, 413)  # 0: the connection was closed while the rest was still on its way
            if status:
                assert "body" in json.dumps(answer)
        assert resident(process.pid) - before < BODY // 2
        assert client.infer([ROW])["parameters"]["model_digest"] == bundles.first.digest
