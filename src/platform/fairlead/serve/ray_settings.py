"""The environment that Ray must be started with so that Ray Serve is fast. Imports nothing heavy.

Ray reads these in the raylet, the Serve controller, the proxies and the replicas, all of which inherit the environment
of ``ray start``: set in a driver alone they would do little.
"""

import socket
from collections.abc import Mapping

CALLBACK_VARIABLE = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
CALLBACK = "fairlead.serve.ray_front.middlewares"

RAY_ENVIRONMENT: dict[str, str] = {
    # HAProxy in front, replicas listen themselves: no Python proxy between a client and the model.
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    # User code and router share the replica's event loop; request-path logs are buffered.
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # A replica that leaves drains for at least this long; the default of 30 s holds every stop up.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    # Ray runs workers at nice 15, which lets anything else on the machine starve the server.
    "RAY_worker_niceness": "0",
}

PROXY_SERVER_SECONDS = 3
"""How long HAProxy waits for a replica before it asks another one. Above every deadline that can be served."""

LOCAL_ENVIRONMENT: dict[str, str] = {
    **RAY_ENVIRONMENT,
    # Inference may be repeated: what a replica that died or froze does not answer, another one does. By itself HAProxy
    # repeats only what it could not send, and waits for ever for the rest.
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response response-timeout",
    "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": str(PROXY_SERVER_SECONDS),
    "RAY_SERVE_HAPROXY_TIMEOUT_CONNECT_S": "1",
    # A frozen replica still accepts connections; only a check that gets no answer tells. After two of them (Ray's
    # setting) it is taken out. More would spare one that is only overloaded, but a replica that drains tells HAProxy by
    # the same check, and leaves after a second: with five, requests met replicas that were gone.
    "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "1s",
    # What is to be repeated must fit into HAProxy's buffer.
    "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": "65536",
    # HAProxy tells the proxy's Python of each request, for metrics that `GET /metrics` has too: a tenth of the machine.
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    CALLBACK_VARIABLE: CALLBACK,
}
"""The same on one machine, where `fairlead up` starts Ray and the number of replicas is fixed."""

FIXED_PORTS: dict[str, int] = {
    "RAY_SERVE_HAPROXY_STATS_PORT": 8404,
    "RAY_SERVE_HAPROXY_METRICS_PORT": 9101,
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": 8500,
    "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": 9500,
}
"""Ports that each Ray with Ray Serve takes beside the one of its HTTP front. The first two bind every interface."""


def with_ray_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` plus the settings above; what is set there already wins.

    Where one of the fixed ports is taken, another is chosen, so that two Rays can serve on one machine: without it the
    second one's HAProxy would not start.
    """
    chosen = {**LOCAL_ENVIRONMENT, **environment}
    for name, port in FIXED_PORTS.items():
        if name not in chosen and not _is_free(port):
            chosen[name] = str(_free_port())
    return chosen


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port
