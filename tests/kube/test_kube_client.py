"""The client against a real HTTP server that answers as an API server does, and kubeconfigs that name nothing."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from fairlead.errors import ClusterConflict, ClusterIncomplete, ClusterRefused, ClusterUnreachable, PodsCannotRun
from fairlead.kube import Cluster, open_cluster
from fairlead.kube.kinds import PODS, RAYJOBS
from fairlead.kube.quantities import amount

FORBIDDEN = (
    'rayjobs.ray.io is forbidden: User "system:serviceaccount:team:runner" cannot create resource "rayjobs" in API '
    'group "ray.io" in the namespace "team"'
)


class Server(ThreadingHTTPServer):
    """Answers the next of `script` to each request, and keeps what was asked."""

    def __init__(self) -> None:
        self.script: list[tuple[int, Any]] = []
        self.asked: list[tuple[str, str]] = []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.command, self.path))
        status, value = self.server.script.pop(0) if self.server.script else (200, {})
        data = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PATCH = do_DELETE = answer

    def log_message(self, *_: object) -> None:
        """Quiet."""


def refusal(code: int, message: str, **details: str) -> tuple[int, dict[str, Any]]:
    return code, {"kind": "Status", "code": code, "message": message, "details": details}


def kubeconfig(folder: Path, url: str) -> Path:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "team"}}],
    }
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return file


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def cluster(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    # The library reads the variable when it is imported.
    file = kubeconfig(tmp_path, f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("KUBECONFIG", str(file))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(file))
    return open_cluster()


def test_the_context_names_the_namespace(cluster: Cluster, server: Server) -> None:
    server.script = [(200, {"items": [{"metadata": {"name": "a"}}]})]
    assert [pod["metadata"]["name"] for pod in cluster.list(PODS, labels="a=b")] == ["a"]
    assert server.asked == [("GET", "/api/v1/namespaces/team/pods?labelSelector=a%3Db")]


@pytest.mark.parametrize(
    ("answer", "expected", "words"),
    [
        (refusal(403, FORBIDDEN), ClusterRefused, "may not create rayjobs.ray.io"),
        (refusal(401, "Unauthorized"), ClusterRefused, "does not accept the credentials"),
        (refusal(403, 'pods "x" is forbidden: exceeded quota: tiny'), PodsCannotRun, "quota has no room"),
        (
            refusal(404, 'namespaces "team" not found', kind="namespaces", name="team"),
            ClusterIncomplete,
            "no namespace team",
        ),
        ((404, "404 page not found"), ClusterIncomplete, "does not know this kind of object"),
        (refusal(409, "already exists", name="x"), ClusterConflict, "has one already"),
        (refusal(422, "spec.x: Invalid value", name="x"), ClusterRefused, "does not take it"),
    ],
)
def test_refusals_say_what_was_tried_and_what_to_do(
    cluster: Cluster, server: Server, answer: tuple[int, Any], expected: type[Exception], words: str
) -> None:
    server.script = [answer]
    with pytest.raises(expected, match=words) as caught:
        cluster.create(RAYJOBS, {"metadata": {"name": "x"}})
    assert len(server.asked) == 1  # a write is not tried twice
    assert "create rayjobs.ray.io x" in str(caught.value) or "namespace" in str(caught.value)


def test_an_object_that_is_not_there_is_none_and_a_kind_that_is_not_there_is_an_error(
    cluster: Cluster, server: Server
) -> None:
    server.script = [
        refusal(404, 'rayjobs.ray.io "x" not found', name="x", group="ray.io"),
        (404, "404 page not found"),
    ]
    assert cluster.get(RAYJOBS, "x") is None
    with pytest.raises(ClusterIncomplete, match="install the CRDs"):
        cluster.get(RAYJOBS, "x")


def test_reading_is_tried_again_when_the_server_is_busy(cluster: Cluster, server: Server) -> None:
    server.script = [refusal(503, "busy"), refusal(429, "slow down"), (200, {"gitVersion": "v1.34.4"})]
    assert cluster.version() == "v1.34.4"
    assert len(server.asked) == 3


@pytest.mark.parametrize("log", ["one line\n", '{"status": "ok"}\n', '{"a": 1}\n{"b": 2}\n', ""])
def test_a_log_is_text_also_when_it_looks_like_json(cluster: Cluster, server: Server, log: str) -> None:
    server.script = [(200, log)]
    assert cluster.pod_log("p").strip() == log.strip()


def test_a_log_of_a_pod_that_has_not_begun_is_empty(cluster: Cluster, server: Server) -> None:
    server.script = [refusal(400, "container is waiting to start", name="p")]
    assert cluster.pod_log("p") == ""


def test_a_service_is_reached_through_the_api_server(cluster: Cluster, server: Server) -> None:
    server.script = [(200, {"logs": "a\nb\n"})]
    assert cluster.through_service("head", 8265, "/api/jobs/x/logs", {"X-Ray-Authorization": "Bearer t"}) == {
        "logs": "a\nb\n"
    }
    assert server.asked == [("GET", "/api/v1/namespaces/team/services/head:8265/proxy/api/jobs/x/logs")]


def test_deleting_what_is_gone_is_fine(cluster: Cluster, server: Server) -> None:
    server.script = [refusal(404, "not found", name="x"), (200, {})]
    assert not cluster.delete(RAYJOBS, "x")
    assert cluster.delete(RAYJOBS, "x")


def test_no_answer_names_context_and_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = kubeconfig(tmp_path, "http://127.0.0.1:9")
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(file))
    with pytest.raises(ClusterUnreachable, match="no cluster answers") as caught:
        open_cluster().create(PODS, {"metadata": {"name": "x"}})
    assert "here at http://127.0.0.1:9" in str(caught.value)
    assert "kubectl --context here cluster-info" in str(caught.value)


def test_an_unknown_context_lists_the_known_ones(cluster: Cluster) -> None:
    with pytest.raises(ClusterUnreachable, match="no context nowhere") as caught:
        open_cluster("nowhere")
    assert "it has: here" in str(caught.value)


def test_no_kubeconfig_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = str(tmp_path / "none")
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", missing)
    with pytest.raises(ClusterUnreachable, match="no cluster to talk to"):
        open_cluster()


@pytest.mark.parametrize(("text", "number"), [("500m", 0.5), ("2", 2), ("4Gi", 4 * 2**30), ("1e3", 1000), ("1M", 1e6)])
def test_amounts(text: str, number: float) -> None:
    assert amount(text) == number


@pytest.mark.parametrize("text", ["", "x", "4GB", "1 2"])
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(ValueError, match="no quantity"):
        amount(text)
