"""`fairlead serve --pod`: one version in a container, told by the environment."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Bundles
from server_process import free_port
from tiny_models import MODEL, ROW

from fairlead.errors import ServeError
from fairlead.records.codec import to_value
from fairlead.records.release import Arm, Release
from fairlead.serve.client import ServingClient
from fairlead.serve.pod import POD_VARIABLE, read_settings
from fairlead.serve.release_store import ReleaseStore


def _told(bundles: Bundles, arm: Arm, base: Path, port: int) -> dict[str, Any]:
    serve = {"backend": "process", "host": "127.0.0.1", "port": port}
    store = f"file://{bundles.base / 'store'}"
    return {"model": MODEL, "store": store, "base": str(base), "serve": serve, "arm": to_value(arm)}


def test_a_pod_serves_its_version_whatever_the_store_says_is_live(bundles: Bundles, tmp_path: Path) -> None:
    live = Release(MODEL, 9, bundles.first)
    ReleaseStore(bundles.store, MODEL).write(live)
    port, base = free_port(), tmp_path / "pod"
    base.mkdir()
    environment = {**os.environ, POD_VARIABLE: json.dumps(_told(bundles, bundles.second, base, port))}
    environment.pop("FAIRLEAD_TOKEN_FILE", None)
    command = [sys.executable, "-m", "fairlead.cli", "serve", "--pod"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment) as process:
        try:
            deadline = time.monotonic() + 60
            with ServingClient(f"http://127.0.0.1:{port}", model=MODEL) as client:
                while not client.ready():
                    assert process.poll() is None, process.stdout.read().decode() if process.stdout else ""
                    assert time.monotonic() < deadline, "the pod did not come up"
                    time.sleep(0.05)
                assert client.infer([ROW])["parameters"]["model_digest"] == bundles.second.digest
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert ReleaseStore(bundles.store, MODEL).read() == live, "a pod must not touch the release of the others"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "is not set"),
        ("no json", "cannot be understood"),
        ({"arm": None}, "cannot be served"),
        ({"serve": {"prot": 1}}, "cannot be understood"),
        ({"arm": {"version": 1, "bundle_uri": "b", "digest": "sha256:1"}}, "cannot be served"),
    ],
)
def test_what_cannot_be_served_is_told(bundles: Bundles, tmp_path: Path, change: Any, message: str) -> None:
    told = _told(bundles, bundles.first, tmp_path, 9000)
    text = json.dumps({**told, **change}) if isinstance(change, dict) else change
    with pytest.raises(ServeError, match=message):
        read_settings({} if text is None else {POD_VARIABLE: text})
