"""The server process outlives what started it."""

import shutil
import time
from pathlib import Path

import pytest
from wiring_world import free_port

from fairlead.bundle.bundle import publish
from fairlead.records.release import Arm, Release
from fairlead.testing.bundles import sealed_bundle
from fairlead.wiring.context import Context, open_context
from fairlead.wiring.processes import start_of
from fairlead.wiring.serving import ensure_serving, read_state, stop_serving

PROJECT = """
project: orders
data: {source: rows.parquet, label: {column: late}}
features: {numeric: [weight]}
serve: {backend: process, port: PORT}
"""


def arm(context: Context, version: int) -> Arm:
    folder = context.base / f"draft-{version}"
    manifest = sealed_bundle(folder, model="orders", seed=version)
    return Arm(version, publish(context.store, folder), manifest.digest)


def test_a_server_that_a_run_started_brings_candidates_up_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "fairlead.yaml"
    file.write_text(PROJECT.replace("PORT", str(free_port())))
    context = open_context(file)
    first, second = arm(context, 1), arm(context, 2)
    of_the_run = tmp_path / "of-the-run"
    of_the_run.mkdir()
    monkeypatch.setenv("TMPDIR", str(of_the_run))  # as a step of `fairlead run` has it
    try:
        with ensure_serving(context, first, print) as servers:
            shutil.rmtree(of_the_run)
            generation = servers.release()["wanted"].generation + 1
            servers.put_release(Release("orders", generation, first, second))
            deadline = time.monotonic() + 60
            while not (view := servers.release())["candidate_ready"]:
                assert view["error"] == ""
                assert time.monotonic() < deadline, view
                time.sleep(0.05)
    finally:
        state = read_state(context)
        stop_serving(context)
    assert state is not None
    assert state.pid is not None
    assert start_of(state.pid) is None, "it has ended, and is nobody's forgotten child"
