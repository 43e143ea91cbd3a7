"""The verdict service over real HTTP: right answers, refusals with codes, a token, and never a 5xx for bad input."""

import argparse
import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.cli.rollout_verdicts import beside_rollout, port_number
from fairlead.clock import SystemClock
from fairlead.deploy.rollout.lease import Lease, lease_key
from fairlead.deploy.rollout.plan import plan_from_spec
from fairlead.deploy.rollout.start import new_rollout, record_key
from fairlead.deploy.verdict_service.app import Rollouts, VerdictApp
from fairlead.errors import PortInUse, ServeError, StoreError
from fairlead.records.codec import to_json
from fairlead.records.release import Arm
from fairlead.records.rollout import Phase, RolloutRecord
from fairlead.spec.deploy import Rollout
from fairlead.spec.serve import Serve
from fairlead.store import open_store
from fairlead.wiring.verdict_service import ensure_verdicts_token, listen, verdicts_beside

MODEL, TOKEN = "flights", "t0ken"
ONE, TWO = Arm(1, "bundles/flights/a", "sha256:a"), Arm(2, "bundles/flights/b", "sha256:b")
K8S = Path(__file__).parents[2] / "k8s"
BEARER = {"authorization": f"Bearer {TOKEN}"}


class Service:
    """The service on a free port over a store in a folder, and what a test does to the rollout in it."""

    def __init__(self, folder: Path) -> None:
        self.store = open_store(str(folder), folder)
        plan = plan_from_spec(Rollout.model_validate({}), Serve())
        self.record = new_rollout(self.store, MODEL, plan, ONE, TWO, SystemClock(), "ann")
        self.app = VerdictApp(Rollouts(self.store, MODEL, SystemClock()), TOKEN)
        self.client = httpx.Client(headers=BEARER, timeout=20)

    def put(self, **changes: Any) -> RolloutRecord:
        """Write the record as `changes` make it, by a host that lives."""
        self.record = replace(self.record, **changes)
        self.store.write(record_key(MODEL, self.record.id), to_json(self.record))
        until = (SystemClock().now() + timedelta(minutes=5)).isoformat()
        self.store.write(lease_key(MODEL, self.record.id), to_json(Lease("a", "a test", until)))
        return self.record

    def get(self, query: str = "version=2", **options: Any) -> httpx.Response:
        return self.client.get(f"{self.url}/v1/verdict?{query}", **options)

    def hook(self, name: str, metadata: dict[str, str] | None = None, **options: Any) -> httpx.Response:
        payload = {"name": "flights", "namespace": "test", "phase": "Progressing", "checksum": "85d557f47b"}
        body = {**payload, "metadata": metadata or {"version": "2"}}
        return self.client.post(f"{self.url}/v1/flagger/{name}", json=body, **options)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    found = Service(tmp_path)
    with verdicts_beside(found.app, listen("127.0.0.1", 0)) as found.url, found.client:
        yield found


# --- Argo Rollouts ---------------------------------------------------------------------------------------------------
def test_a_verdict_is_what_argo_evaluates(service: Service) -> None:
    service.put(phase=Phase.CANARY, weight=10.0, status="canary 10 %: 20 requests so far")
    reply = service.get()
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json")
    verdict = reply.json()["verdict"]
    assert (verdict["decision"], verdict["verdict"], verdict["phase"]) == ("wait", "NOT_ENOUGH_EVIDENCE", "canary")
    assert verdict["why"] == "canary 10 %: 20 requests so far"
    assert service.get("version=2&weight=10").json()["verdict"]["decision"] == "promote"
    service.put(phase=Phase.ABORTING, weight=0.0)
    assert service.get().json()["verdict"]["decision"] == "rollback"
    service.put(phase=Phase.PROMOTED, weight=100.0)
    assert service.get("digest=sha256:b").json()["verdict"]["decision"] == "promote"
    assert service.get("rollout=1").json()["verdict"]["rollout"] == "0001"


def test_a_rollout_that_nobody_hosts_only_waits(service: Service) -> None:
    service.put(phase=Phase.CANARY, weight=10.0)
    service.store.delete(lease_key(MODEL, "0001"))
    verdict = service.get("version=2&weight=1").json()["verdict"]
    assert (verdict["decision"], verdict["verdict"], verdict["reason"]) == ("wait", "ERROR", "not_hosted")


def test_the_verdict_is_on_the_candidate_that_is_asked_about(service: Service) -> None:
    service.put(phase=Phase.ABORTED, weight=0.0, applied_generation=10, release_generation=10)
    assert service.get().json()["verdict"]["decision"] == "rollback"
    three = Arm(3, "bundles/flights/c", "sha256:c")
    plan = service.record.plan
    service.record = new_rollout(service.store, MODEL, plan, ONE, three, SystemClock(), "ann")
    done = service.record.release_generation
    service.put(phase=Phase.PROMOTED, weight=100.0, applied_generation=done)
    assert service.get("version=3").json()["verdict"]["decision"] == "promote"
    assert service.get("version=2").json()["verdict"]["decision"] == "rollback"
    again = new_rollout(service.store, MODEL, plan, three, TWO, SystemClock(), "ann")
    assert service.get("version=2").json()["verdict"]["rollout"] == again.id
    missing = service.get("version=4")
    assert (missing.status_code, missing.json()["code"]) == (404, "unknown_rollout")


# --- Flagger ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("phase", "weight", "allowed"),
    [
        (Phase.SHADOW, 0.0, []),
        (Phase.CANARY, 10.0, ["confirm-traffic-increase"]),
        (Phase.PROMOTED, 100.0, ["confirm-traffic-increase", "confirm-promotion"]),
        (Phase.ABORTED, 0.0, ["rollback"]),
    ],
)
def test_flagger_goes_on_halts_or_rolls_back(service: Service, phase: Phase, weight: float, allowed: list[str]) -> None:
    service.put(phase=phase, weight=weight)
    asked = {"version": "2", "weight": "10"}
    for name in ("confirm-traffic-increase", "confirm-promotion", "rollback"):
        reply = service.hook(name, asked)
        assert reply.status_code == (200 if name in allowed else 409), name
        assert reply.json()["verdict"]["phase"] == phase.value
        assert name in allowed or reply.json()["code"].startswith("decision_")


def test_flagger_has_no_headers_so_its_token_is_in_the_metadata(service: Service) -> None:
    service.put(phase=Phase.PROMOTED, weight=100.0)
    bare = {"authorization": ""}
    assert service.hook("confirm-promotion", {"version": "2", "token": TOKEN}, headers=bare).status_code == 200
    for metadata in ({"version": "2", "token": "wrong"}, {"version": "2"}, {"version": "2", "token": "t0ken\u00e9"}):
        assert service.hook("confirm-promotion", metadata, headers=bare).status_code == 401


# --- the examples ----------------------------------------------------------------------------------------------------
def test_the_example_for_argo_gets_a_verdict(service: Service) -> None:
    service.put(phase=Phase.CANARY, weight=10.0)
    template = next(yaml.safe_load_all((K8S / "argo-analysis-template.yaml").read_text()))
    web = template["spec"]["metrics"][0]["provider"]["web"]
    url = web["url"].replace("http://fairlead-verdicts.fairlead", service.url)
    for weight, decision in (("5", "promote"), ("100", "wait")):
        asked = url.replace("{{args.version}}", "2").replace("{{args.weight}}", weight)
        headers = {h["key"]: h["value"].replace("{{args.token}}", TOKEN) for h in web["headers"]}
        reply = httpx.get(asked, headers=headers)
        assert reply.status_code == 200
        assert web["jsonPath"] == "{$.verdict}"
        assert reply.json()["verdict"]["decision"] == decision


def test_the_example_for_flagger_gets_answers(service: Service) -> None:
    service.put(phase=Phase.CANARY, weight=10.0)
    canary = yaml.safe_load((K8S / "flagger-canary.yaml").read_text())
    answers = {}
    for webhook in canary["spec"]["analysis"]["webhooks"]:
        url = webhook["url"].replace("http://fairlead-verdicts.fairlead", service.url)
        payload = {"name": "flights-frontend", "namespace": "fairlead", "phase": "Progressing", "checksum": "1"}
        metadata = {**webhook["metadata"], "version": "2", "token": TOKEN}
        answers[webhook["type"]] = httpx.post(url, json={**payload, "metadata": metadata}).status_code
    assert answers == {"confirm-traffic-increase": 200, "confirm-promotion": 409, "rollback": 409}


# --- refusals --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer wrong", "bearer t0ken", "t0ken", "Basic t0ken"])
def test_without_the_token_nothing_is_told(service: Service, header: str | None) -> None:
    with httpx.Client() as client:
        headers = {} if header is None else {"authorization": header}
        reply = client.get(f"{service.url}/v1/verdict?version=2", headers=headers)
        assert (reply.status_code, reply.json()["code"]) == (401, "unauthorised")
        assert reply.headers["www-authenticate"] == "Bearer"
        assert client.get(f"{service.url}/v1/verdict?nonsense").status_code == 401
        assert client.get(f"{service.url}/metrics").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "code"),
    [
        ("GET", "/", {}, 404, "unknown_path"),
        ("GET", "/v1/verdict/", {}, 404, "unknown_path"),
        ("GET", "/v1/flagger/event", {}, 404, "unknown_hook"),
        ("GET", "/v1/flagger/rollback", {}, 405, "method_not_allowed"),
        ("PUT", "/v1/verdict?version=2", {}, 405, "method_not_allowed"),
        ("DELETE", "/metrics", {}, 405, "method_not_allowed"),
        ("GET", "/v1/verdict", {}, 400, "which_candidate"),
        ("GET", "/v1/verdict?version=two", {}, 400, "bad_parameter"),
        ("GET", "/v1/verdict?version=2&weight=NaN", {}, 400, "bad_parameter"),
        ("POST", "/v1/flagger/rollback", {"content": b"{"}, 400, "invalid_json"),
        ("POST", "/v1/flagger/rollback", {"content": b'{"metadata":{}}'}, 400, "which_candidate"),
        ("POST", "/v1/flagger/rollback", {"content": b" " * 70_000}, 413, "body_too_large"),
        ("POST", "/v1/flagger/rollback", {"content": b" " * 3_000_000}, 413, "body_too_large"),
        ("POST", "/v1/flagger/rollback", {"content": b"a=1", "headers": {"content-type": "text/plain"}}, 415,
         "unsupported_media_type"),
    ],
)  # fmt: skip
def test_what_is_asked_wrongly_is_refused_with_a_code(
    service: Service, method: str, path: str, options: dict[str, Any], status: int, code: str
) -> None:
    reply = service.client.request(method, service.url + path, **options)
    assert (reply.status_code, reply.json()["code"]) == (status, code)
    if status == 405:
        assert reply.headers["allow"]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.sampled_from(["rollback", "confirm-promotion", "x"]), st.text(max_size=40))
def test_no_input_makes_a_server_error(service: Service, body: bytes, hook: str, text: str) -> None:
    headers = {"content-type": "application/json"}
    posted = service.client.post(f"{service.url}/v1/flagger/{hook}", content=body, headers=headers)
    asked = service.client.get(f"{service.url}/v1/verdict", params={"version": text})
    metadata = service.client.post(
        f"{service.url}/v1/flagger/rollback",
        content=json.dumps({"metadata": {"version": text, text: "1"}}),
        headers=headers,
    )
    for reply in (posted, asked, metadata):
        assert 400 <= reply.status_code < 500 or reply.status_code == 200
        assert reply.status_code == 200 or reply.json()["code"]


def test_requests_that_are_no_http_do_not_stop_it(service: Service) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    for raw in (b"\x16\x03\x01\x02", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x00" * 1000):
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            assert not connection.recv(100).startswith(b"HTTP/1.1 5")
    assert service.client.get(f"{service.url}/health/live").status_code == 200


def test_a_store_that_cannot_be_read_is_no_answer(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_prefix: str) -> list[str]:
        raise StoreError("the store does not answer", where="s3://models")

    monkeypatch.setattr(service.store, "list", gone)
    for reply in (
        service.get(),
        service.hook("rollback"),
        service.client.get(f"{service.url}/metrics"),
        service.client.get(f"{service.url}/health/ready"),
    ):
        assert (reply.status_code, reply.json()["code"]) == (503, StoreError.code)
    assert service.client.get(f"{service.url}/health/live").status_code == 200


def test_metrics_are_those_of_the_newest_rollout(service: Service) -> None:
    service.put(phase=Phase.CANARY, weight=10.0)
    reply = service.client.get(f"{service.url}/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'fairlead_rollout_weight_percent{model="flights",version="2"} 10.0' in reply.text
    assert service.client.head(f"{service.url}/metrics").content == b""


# --- where it listens, and its token ---------------------------------------------------------------------------------
def test_a_port_in_use_is_told() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(PortInUse, match="cannot listen"):
        listen("127.0.0.1", taken.getsockname()[1])


def test_the_token_is_its_own_and_only_its_owner_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FAIRLEAD_VERDICTS_TOKEN_FILE", raising=False)
    path = ensure_verdicts_token(tmp_path)
    assert path.name == "verdicts.token"
    assert path.stat().st_mode & 0o777 == 0o600
    assert ensure_verdicts_token(tmp_path).read_text() == path.read_text()
    monkeypatch.setenv("FAIRLEAD_VERDICTS_TOKEN_FILE", str(tmp_path / "missing"))
    with pytest.raises(ServeError):
        ensure_verdicts_token(tmp_path)


def test_a_host_answers_beside_its_loop_and_only_while_it_runs(
    service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service.put(phase=Phase.CANARY, weight=10.0)
    context = SimpleNamespace(store=service.store, project=SimpleNamespace(project=MODEL), base=tmp_path)
    args = argparse.Namespace(metrics_port=0, metrics_host="127.0.0.1")
    with beside_rollout(args, context):
        url = capsys.readouterr().err.split()[-1]
        assert "fairlead_rollout_open" in httpx.get(url).text
        assert httpx.get(url.replace("/metrics", "/v1/verdict?version=2")).status_code == 401
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)
    with beside_rollout(argparse.Namespace(metrics_port=None), context):
        assert capsys.readouterr().err == ""


@pytest.mark.parametrize("text", ["-1", "65536", "http", "", "8_600", "٨"])
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no port"):
        port_number(text)
