"""A real `fairlead serve` process on a real socket."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from fairlead.records.codec import to_json
from fairlead.records.release import Release
from fairlead.serve.client import ServingClient
from fairlead.serve.token import read_token, token_file
from fairlead.spec.serve import Serve

_CODE = """
import sys
from pathlib import Path
from fairlead.records.codec import from_json
from fairlead.records.release import Release
from fairlead.serve.http_app import run_process_server
from fairlead.spec.serve import Serve
run_process_server(Serve.model_validate_json(sys.argv[1]), from_json(Release, sys.argv[2]), "store", Path(sys.argv[3]))
"""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def server_process(
    spec: Serve, release: Release, base: Path
) -> Iterator[tuple[ServingClient, "subprocess.Popen[bytes]"]]:
    """A server for the store in `base`, and a client with its token, until the context ends."""
    command = [sys.executable, "-c", _CODE, spec.model_dump_json(), to_json(release, indent=False).decode(), str(base)]
    environment = {name: value for name, value in os.environ.items() if name != "FAIRLEAD_TOKEN_FILE"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
    url = f"http://127.0.0.1:{spec.port}"
    try:
        deadline = time.monotonic() + 30
        while not (found := ServingClient(url)).ready():
            assert process.poll() is None, process.stderr.read().decode() if process.stderr else ""
            assert time.monotonic() < deadline, "the server did not come up"
            time.sleep(0.05)
        found.close()
        with ServingClient(url, read_token(token_file(base)), release.model) as client:
            yield client, process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stderr is not None:
            process.stderr.close()
