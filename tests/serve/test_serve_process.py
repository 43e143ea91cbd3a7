"""One real server process: sockets, signals, files, and a failing candidate in the middle of traffic."""

import signal
import socket
import stat
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import Bundles
from server_process import free_port, server_process
from tiny_models import FEATURES, MODEL, ROW, table

from fairlead.errors import PortInUse, StaleGeneration
from fairlead.records.release import Release
from fairlead.serve.http_app import run_process_server
from fairlead.serve.request_log import read_inputs
from fairlead.serve.token import token_file
from fairlead.serve.traffic import TrafficPlan, run_traffic
from fairlead.spec.serve import RequestLog, Serve

LOG = RequestLog(rotate_seconds=0.3)


def test_traffic_meets_a_split_with_labels_and_everything_is_logged(bundles: Bundles) -> None:
    rows = table(500)
    live = rows.set_column(rows.schema.get_field_index("__label__"), "late", rows["__label__"])
    pq.write_table(live, bundles.base / "live.parquet")
    spec = Serve(port=free_port(), log=LOG, deadline_ms=1000)
    release = Release(MODEL, 1, bundles.first, bundles.second, 30.0, 100.0, rollout="r")
    plan = TrafficPlan(
        url=f"http://127.0.0.1:{spec.port}",
        model=MODEL,
        data="*.parquet",
        base=bundles.base,
        fields=FEATURES.names(),
        rate=200,
        requests=400,
        label_column="late",
        label_delay=0.3,
    )
    with server_process(spec, release, bundles.base) as (client, process):
        while not client.release()["candidate_ready"]:
            pass
        result = run_traffic(plan)
        evidence = client.evidence()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert (result["sent"], result["failed"], result["labels_joined"]) == (400, 0, 400)
    assert set(result["by_arm"]) == {"champion", "candidate"}
    assert evidence.champion is not None
    assert evidence.candidate is not None
    assert evidence.pairs is not None
    assert evidence.champion.loss.n + evidence.candidate.loss.n == 400
    assert evidence.pairs.loss_difference.n > 200
    keys = bundles.store.list(f"logs/{MODEL}/requests/")
    logged = [pq.read_table(bundles.store.local_path(key)) for key in keys]
    assert sum(part.num_rows for part in logged) == 400
    assert set(logged[0]["inputs"].type.names if hasattr(logged[0]["inputs"].type, "names") else []) <= set(ROW)
    inputs = read_inputs(bundles.store, MODEL, since="2000-01-01T00:00:00+00:00", most=150)
    assert inputs is not None
    assert (inputs.num_rows, set(inputs.column_names)) == (150, set(ROW))
    assert read_inputs(bundles.store, MODEL, since="2100-01-01T00:00:00+00:00", most=150) is None
    labels = [pq.read_table(bundles.store.local_path(key)) for key in bundles.store.list(f"logs/{MODEL}/feedback/")]
    assert sum(part.num_rows for part in labels) == 400


def test_the_token_is_only_for_its_owner_and_old_generations_are_refused(bundles: Bundles) -> None:
    spec = Serve(port=free_port(), log=LOG)
    with server_process(spec, Release(MODEL, 5, bundles.first), bundles.base) as (client, _):
        mode = stat.S_IMODE(token_file(bundles.base).stat().st_mode)
        assert mode == 0o600
        with pytest.raises(StaleGeneration):
            client.put_release(Release(MODEL, 4, bundles.second))
        assert client.infer([ROW])["parameters"]["model_digest"] == bundles.first.digest


def test_a_port_in_use_is_told_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        spec = Serve(port=other.getsockname()[1])
        with pytest.raises(PortInUse):
            run_process_server(spec, None, "store", tmp_path)  # type: ignore[arg-type]
    assert not (tmp_path / ".fairlead").exists()


def test_a_hung_candidate_does_not_keep_the_process_from_ending(bundles: Bundles) -> None:
    from tiny_models import write_bundle

    endless = write_bundle(bundles.store, bundles.base / "drafts", version=9, fault="hangs", trips=10**12)
    spec = Serve(port=free_port(), log=LOG, deadline_ms=200)
    release = Release(MODEL, 1, bundles.first, endless, 100.0)
    with server_process(spec, release, bundles.base) as (client, process):
        while not client.release()["candidate_ready"]:
            pass
        for _ in range(3):
            assert client.infer([ROW])["parameters"]["arm"] == "champion"
        assert client.evidence().candidate.failures.events == 3  # type: ignore[union-attr]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    logged = sum(pq.read_metadata(bundles.store.local_path(k)).num_rows for k in bundles.store.list("logs/"))
    assert logged == 3
