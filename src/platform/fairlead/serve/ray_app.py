"""The second door: Ray Serve. An ingress application with the champion in it, and a control application beside it.

Everything that may change (bundles, weights, shadow) reaches the ingress through the control, never through Ray's own
configuration: a change of that replaces or reconfigures replicas, and takes them out of the load balancer meanwhile.
"""

import asyncio
import logging
import os
import time
from pathlib import Path
from typing import Any

import ray
from ray import serve as ray_serve
from ray.serve.config import HTTPOptions
from ray.serve.schema import ApplicationStatus

from fairlead.errors import RayUnavailable, ServeError
from fairlead.logs import get_logger
from fairlead.records.release import Release
from fairlead.serve.garbage import spare_what_stays
from fairlead.serve.listening import bind
from fairlead.serve.ray_candidate import ray_candidate
from fairlead.serve.ray_control import ControlDeployment, RayControl
from fairlead.serve.ray_front import answer_directly
from fairlead.serve.ray_names import candidate_app, candidate_prefix, control_app, ingress_app
from fairlead.serve.ray_settings import LOCAL_ENVIRONMENT, PROXY_SERVER_SECONDS
from fairlead.serve.release_store import ReleaseStore
from fairlead.serve.routes import HttpApp
from fairlead.serve.server import ModelCache, Server
from fairlead.serve.token import ensure_token, read_token
from fairlead.spec.serve import Serve
from fairlead.store.opening import open_store

_log = get_logger(__name__)

_NAMESPACE = "fairlead"
_LOOK_SECONDS = 0.5
_PROXY_TIMEOUT = "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S"
_QUIET = {"enable_access_log": False}


@ray_serve.ingress()
class Ingress:
    """One replica: an ASGI application around a `Server`."""

    async def __init__(  # type: ignore[misc]  # Ray Serve awaits it
        self,
        model: str,
        spec: Serve,
        store_uri: str,
        base: str,
        token_file: str,
        wait_seconds: float = 0.0,
        record: str = "",
    ) -> None:
        folder = Path(base)
        store = open_store(store_uri, folder)
        models = ModelCache(store, folder / ".fairlead" / "cache" / "bundles")
        release = await _first_release(ReleaseStore(store, model, record), model, wait_seconds)
        self._server = Server(
            model,
            spec,
            store,
            models,
            RayControl(model),
            lambda arm, signature: ray_candidate(candidate_app(model, arm.digest), signature),
        )
        self._token = read_token(Path(token_file))
        await self._server.start(release)
        spare_what_stays()

    def __serve_build_asgi_app__(self) -> HttpApp:
        """Ray Serve asks for the application once the replica is built."""
        app = HttpApp(self._server, self._token)
        answer_directly(app, app.hot_paths, app)
        return app

    async def __del__(self) -> None:
        """Ray Serve calls this when the replica has drained."""
        server = getattr(self, "_server", None)
        if server is not None:
            await server.close()


async def _first_release(releases: ReleaseStore, model: str, wait_seconds: float) -> Release:
    """What to begin with. Waits for the control, which starts at the same time, to store the very first one."""
    deadline = time.monotonic() + wait_seconds
    while True:
        release = await asyncio.to_thread(releases.read)
        if release is not None:
            return release
        if time.monotonic() >= deadline:
            raise ServeError(f"no release of {model} is stored", fix="Promote a version first.")
        await asyncio.sleep(_LOOK_SECONDS)


def start_ray_serving(
    serve: Serve, release: Release, store_uri: str, base: Path, ray_address: str | None = None
) -> str:
    """Bring `release` up on the Ray at `ray_address` and give its URL; returns when it answers.

    What runs already stays: a server that serves this model goes on, and is only told the release. Ray must have been
    started with `ray_settings.LOCAL_ENVIRONMENT`. Raises PortInUse, RayUnavailable, ServeError.
    """
    _check_deadline(serve)
    base = base.resolve()
    model = release.model
    _connect(ray_address)
    store = open_store(store_uri, base)
    wanted = ReleaseStore(store, model).write(release)
    token_file = ensure_token(base)
    url = f"http://{serve.host}:{serve.port}"
    if _running(ingress_app(model)) and _running(control_app(model)):
        _tell(url, read_token(token_file), release, wanted)
        return url
    _start_http(serve)
    arguments = (model, wanted, store.uri, str(base))
    _run(control_deployment(ControlDeployment).bind(*arguments), control_app(model), None)
    ingress = ingress_deployment(serve).bind(model, serve, store.uri, str(base), str(token_file))
    _run(ingress, ingress_app(model), "/")
    return url


def _check_deadline(serve: Serve) -> None:
    waits = int(os.environ.get(_PROXY_TIMEOUT, PROXY_SERVER_SECONDS))
    if serve.deadline_ms / 1000 > waits - 0.5:
        raise ServeError(
            f"serve.deadline_ms is {serve.deadline_ms:g}, but Ray's proxy waits {waits} s for a replica",
            why="It would ask another replica while the first one still has time to answer.",
            fix=f"Lower the deadline, or set {_PROXY_TIMEOUT} to more seconds and start Ray anew.",
        )


def stop_ray_serving(model: str, ray_address: str | None = None) -> None:
    """Take a served model down: ingress, control and candidates. Nothing happens when nothing runs."""
    _connect(ray_address)
    names = [ingress_app(model), control_app(model)]
    running = ray_serve.status().applications
    names += [name for name in running if name.startswith(candidate_prefix(model))]
    for name in names:
        if name in running:
            ray_serve.delete(name)


def serving_models(ray_address: str | None = None) -> list[str]:
    """The models that are served there."""
    _connect(ray_address)
    suffix = control_app("")[len(ingress_app("")) :]
    names = [name for name in ray_serve.status().applications if name.endswith(suffix)]
    return sorted(name[len(ingress_app("")) : -len(suffix)] for name in names)


def _connect(address: str | None) -> None:
    for name, value in LOCAL_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    if ray.is_initialized():
        return
    try:
        ray.init(address=address, namespace=_NAMESPACE, log_to_driver=False, logging_level="warning")
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise RayUnavailable(
            "Ray cannot be reached", where=address or "a new local Ray", why=str(error)[:500], fix="Run `fairlead up`."
        ) from error


def _running(name: str) -> bool:
    status = ray_serve.status().applications.get(name)
    return status is not None and status.status == ApplicationStatus.RUNNING


def _tell(url: str, token: str, release: Release, wanted: Release) -> None:
    from fairlead.serve.client import ServingClient

    if wanted == release:
        with ServingClient(url, token) as client:
            client.put_release(release)


def _start_http(serve: Serve) -> None:
    """Start Ray Serve's front on the host and port, unless Ray Serve runs already."""
    if not ray_serve.status().proxies:
        bind(serve.host, serve.port).close()
    ray_serve.start(
        proxy_location="HeadOnly", http_options=HTTPOptions(host=serve.host, port=serve.port), logging_config=_QUIET
    )


def control_deployment(control: type[ControlDeployment], num_cpus: float = 0.0) -> Any:
    """The control's deployment, to be bound. `num_cpus`: what Ray reserves for a replica."""
    return ray_serve.deployment(control).options(
        name="control",
        num_replicas=1,
        max_ongoing_requests=1000,
        ray_actor_options={"num_cpus": num_cpus},
        graceful_shutdown_timeout_s=2,
        logging_config=_QUIET,
    )


def ingress_deployment(serve: Serve, num_cpus: float = 0.0) -> Any:
    """The ingress' deployment, to be bound. `num_cpus`: what Ray reserves for a replica."""
    return ray_serve.deployment(Ingress).options(
        name="ingress",
        num_replicas=serve.replicas,
        # Our own queue is bounded and answers 429; Ray's must not stand in front of it.
        max_ongoing_requests=max(4 * serve.max_queue, 1000),
        ray_actor_options={"num_cpus": num_cpus},
        graceful_shutdown_timeout_s=10,
        logging_config=_QUIET,
    )


def _run(application: Any, name: str, route_prefix: str | None) -> None:
    try:
        ray_serve.run(application, name=name, route_prefix=route_prefix, blocking=False)
    except Exception as error:  # Ray tells a failed start in several ways; all mean the same here
        status = ray_serve.status().applications.get(name)
        message = ""
        if status is not None:
            message = " ".join([status.message, *(d.message for d in status.deployments.values() if d.message)])
        raise ServeError("the server did not start", where=name, why=(message.strip() or str(error))[-2000:]) from error
