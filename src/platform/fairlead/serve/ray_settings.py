"""The environment that Ray must be started with so that Ray Serve is fast. Imports nothing heavy.

Ray reads these in the raylet, the Serve controller, the proxies and the replicas, all of which inherit the environment
of ``ray start``: set in a driver alone they would do little.
"""

from collections.abc import Mapping

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


def with_ray_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` plus the settings above; what is set there already wins."""
    return {**RAY_ENVIRONMENT, **environment}
