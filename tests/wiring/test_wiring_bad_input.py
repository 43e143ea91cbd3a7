"""What is refused, with which code, and that nothing half-written is left behind."""

import http.server
import json
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from wiring_world import World, rows

from fairlead.cli import main
from fairlead.errors import GatesFailed
from fairlead.wiring.serving import read_state

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch", "ignore::DeprecationWarning:onnxscript")
Cap = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> World:
    """One registered version, nothing served."""
    world = World.make(tmp_path_factory.mktemp("bad") / "orders", count=1000)
    world.version("first", "train.epochs=2", noise=False)
    return world


@pytest.fixture
def world(registered: World, tmp_path: Path) -> World:
    return registered.copy(tmp_path / "orders")


class _Foreign(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"hello"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def web_server(world: World) -> Iterator[None]:
    """Somebody else's web server on the project's port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", world.context().project.serve.port), _Foreign)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield
    server.shutdown()
    server.server_close()
    thread.join(10)


def test_a_port_with_another_web_server_is_named_and_not_used(world: World, web_server: None, capsys: Cap) -> None:
    code, said = world.cli(capsys, "deploy", "--version", "1")
    assert (code, said["error"]["code"]) == (6, "FL-601"), said
    assert str(world.context().project.serve.port) in said["error"]["where"]
    assert read_state(world.context()) is None


def test_a_port_where_nobody_speaks_http_is_named_too(world: World, capsys: Cap) -> None:
    with socket.create_server(("127.0.0.1", world.context().project.serve.port)):
        code, said = world.cli(capsys, "deploy", "--version", "1")
        assert (code, said["error"]["code"]) == (6, "FL-601"), said
        assert main(["serve", "--version", "1", "-f", str(world.file)]) == 6
        assert "FL-601" in capsys.readouterr().err
    assert read_state(world.context()) is None


@pytest.mark.parametrize("name", ["model.onnx", "calibration.json", "manifest.json"])
def test_a_bundle_with_one_changed_byte_is_not_loaded(world: World, name: str, capsys: Cap) -> None:
    file = next((world.base / ".fairlead").glob(f"bundles/orders/*/{name}"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    # As on a machine that has no verified copy of its own yet.
    shutil.rmtree(world.base / ".fairlead" / "cache" / "bundles", ignore_errors=True)
    for words in (["deploy", "--version", "1"], ["model", "show", "1"], ["model", "promote", "1", "--why", "x"]):
        code, said = world.cli(capsys, *words)
        assert (code, said["error"]["code"]) == (5, "FL-501"), (words, said)
        assert name in json.dumps(said["error"])
    assert world.context().registry().aliases().get("champion") is None
    assert read_state(world.context()) is None


def test_failed_gates_exit_with_a_verdict_and_register_nothing(world: World, capsys: Cap) -> None:
    before = world.context().registry().versions()
    gates = 'evaluate.gates=[{"metric": "auc", "min": 0.999}]'
    code, judged = world.cli(capsys, "evaluate", "--set", gates, "--set", "train.retraining_noise=false")
    assert (code, judged["passed"]) == (10, False)
    with pytest.raises(GatesFailed) as refused:
        world.version("strict", gates, "train.epochs=2", noise=False)
    assert refused.value.exit_code == 10
    assert "auc" in (refused.value.why or "")
    error = json.loads((world.base / ".fairlead/runs/strict/error.json").read_bytes())
    assert (error["step"], error["code"]) == ("register", "FL-401")
    assert world.context().registry().versions() == before


def test_too_many_bad_rows_exit_with_3_and_nothing_is_prepared(world: World, capsys: Cap) -> None:
    prepared = sorted(p for p in world.base.rglob("prepared/*") if p.is_dir())
    good = rows(1000, 5).to_pydict()
    good["plan"] = ["gold" if number % 10 == 0 else plan for number, plan in enumerate(good["plan"])]
    good["distance"] = [float("inf") if number % 10 == 1 else value for number, value in enumerate(good["distance"])]
    pq.write_table(pa.table(good), world.base / "rows.parquet")
    code, said = world.cli(capsys, "data", "split")
    assert (code, said["error"]["code"]) == (3, "FL-205"), said
    assert "distance" in json.dumps(said["error"])
    assert sorted(p for p in world.base.rglob("prepared/*") if p.is_dir()) == prepared
    quarantines = list(world.base.rglob("quarantine.parquet"))
    assert len(quarantines) == 1
    assert {row["column"] for row in pq.read_table(quarantines[0]).to_pylist()} >= {"distance"}
    assert not [path for path in world.base.rglob("*") if path.name.endswith((".partial", ".tmp"))]


def test_rollback_without_an_earlier_champion_is_refused(world: World, capsys: Cap) -> None:
    code, said = world.cli(capsys, "model", "rollback", "--why", "x")
    assert (code, said["error"]["code"]) == (5, "FL-503")


def test_a_rollout_without_a_champion_says_what_to_do(world: World, capsys: Cap) -> None:
    code, said = world.cli(capsys, "rollout", "start", "--version", "1")
    assert (code, said["error"]["code"]) == (7, "FL-700")
    assert "fairlead model promote 1" in said["error"]["fix"]
