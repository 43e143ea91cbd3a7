"""What the ports of a Ray pod answer to somebody without its token, asked through a forwarded port."""

import contextlib
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator

import grpc

_FORWARDED = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+) -> (\d+)")

DASHBOARD, AGENT, CLIENT, GCS = 8265, 52365, 10001, 6379
_HTTP = (
    ("job API", DASHBOARD, "/api/jobs/", None),
    ("job API, submit", DASHBOARD, "/api/jobs/", b'{"entrypoint": "id"}'),
    ("dashboard, cluster", DASHBOARD, "/api/cluster_status", None),
    ("dashboard, nodes", DASHBOARD, "/nodes?view=summary", None),
    ("dashboard, Serve", DASHBOARD, "/api/serve/applications/", None),
    ("dashboard, metrics", DASHBOARD, "/metrics", None),
    ("agent, Serve", AGENT, "/api/serve/applications/", None),
)
_RPC = (
    ("client", CLIENT, "/ray.rpc.RayletDriver/ClusterInfo"),
    ("client, connect", CLIENT, "/ray.rpc.RayletDriver/Init"),
    ("GCS, nodes", GCS, "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo"),
    ("GCS, jobs", GCS, "/ray.rpc.JobInfoGcsService/GetAllJobInfo"),
)


def answers_without_token(namespace: str, pod: str) -> dict[str, str]:
    """What was asked, and the status that came back: of HTTP a number, of gRPC a name."""
    found = {}
    with _forward(namespace, pod, (DASHBOARD, AGENT, CLIENT, GCS)) as ports:
        for name, port, path, body in _HTTP:
            found[f"{name} (:{port} {path})"] = _http(f"http://127.0.0.1:{ports[port]}{path}", body)
        for name, port, method in _RPC:
            found[f"{name} (:{port} {method})"] = _rpc(f"127.0.0.1:{ports[port]}", method)
    return found


@contextlib.contextmanager
def _forward(namespace: str, pod: str, ports: tuple[int, ...]) -> Iterator[dict[int, int]]:
    command = ["kubectl", "-n", namespace, "port-forward", f"pod/{pod}", *[f":{port}" for port in ports]]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        local: dict[int, int] = {}
        assert process.stdout is not None
        while len(local) < len(ports):
            line = process.stdout.readline()
            assert line, f"kubectl ended with {process.wait()}"
            if match := _FORWARDED.match(line):
                local[int(match[2])] = int(match[1])
        yield local
    finally:
        process.terminate()
        process.communicate()


def _http(url: str, body: bytes | None) -> str:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=10) as answer:
            return str(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return str(error.code)


def _rpc(address: str, method: str) -> str:
    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary(method)(b"", timeout=10)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"
