"""Bringing servers up on this machine, finding them again, and speaking to them."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fairlead.atomic import write_atomic
from fairlead.clock import Clock, SystemClock
from fairlead.errors import ExtraMissing, KeyMissing, PortInUse, ServeError, ServerUnreachable
from fairlead.records.codec import from_json, to_json
from fairlead.records.release import Arm, Release
from fairlead.serve.client import RequestRefused, ServingClient
from fairlead.serve.token import ensure_token, read_token
from fairlead.wiring.context import Context
from fairlead.wiring.processes import port_is_free

_START_SECONDS = 90.0
_FOLLOW_SECONDS = 60.0
_STOP_SECONDS = 30.0
# Servers outlive the command that started them. Held here so that Python does not take them for forgotten children.
_STARTED: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class ServingState:
    """What was started here: the address, and the process when it is one server process."""

    url: str
    backend: str
    pid: int | None = None
    started_at: str = ""


def on_cluster(context: Context) -> bool:
    """Whether the servers are a Helm release, and traffic its value."""
    return context.project.deploy.on == "cluster"


def state_file(context: Context) -> Path:
    """Where the state of this project's servers is written."""
    return context.home / "serve" / "local.json"


def client(context: Context) -> ServingClient:
    """A client of this project's servers, whether or not they answer."""
    if on_cluster(context):
        from fairlead.wiring.cluster import cluster_client

        return cluster_client(context)
    serve = context.project.serve
    state = read_state(context)
    url = state.url if state else f"http://{serve.host}:{serve.port}"
    return ServingClient(url, read_token(ensure_token(context.base)))


def read_state(context: Context) -> ServingState | None:
    """What was started here last, or None."""
    try:
        return from_json(ServingState, state_file(context).read_bytes())
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def is_up(context: Context) -> bool:
    """Whether the servers answer on the control route, with our token. Raises PortInUse when they are not ours."""
    try:
        with client(context) as asked:
            view = asked.release()
    except ServerUnreachable:
        return False
    except RequestRefused as error:
        raise _taken(context, f"to this project's token it said: {error.what}") from error
    served = view["wanted"].model
    if served != context.project.project:
        raise _taken(context, f"it serves {served}")
    return True


def _taken(context: Context, why: str) -> PortInUse:
    serve = context.project.serve
    return PortInUse(
        f"another server listens on port {serve.port}",
        where=f"{serve.host}:{serve.port}",
        why=why,
        fix="stop it (fairlead down in its project), or choose another port: --set serve.port=8001",
    )


def wanted_release(context: Context) -> Release | None:
    """The release in the store, or None before the first deployment."""
    try:
        return from_json(Release, context.store.read(f"releases/{context.project.project}.json"))
    except KeyMissing:
        return None


def ensure_serving(context: Context, champion: Arm, say: Callable[[str], None]) -> ServingClient:
    """Servers that answer with `champion`; started when nothing answers. `say` is told why it takes time.

    Raises ServeError."""
    clock = SystemClock()
    if on_cluster(context):
        from fairlead.wiring.cluster import ensure_release

        return ensure_release(context, champion, clock, say)
    if is_up(context):
        return client(context)
    current = wanted_release(context)
    if current is None or current.champion.digest != champion.digest or current.candidate is not None:
        generation = current.generation + 1 if current else 1
        current = Release(context.project.project, generation, champion, note="first deployment")
        context.store.write(f"releases/{context.project.project}.json", to_json(current))
    if context.project.serve.backend == "ray":
        url = _start_on_ray(context, current)
        state = ServingState(url, "ray", None, clock.now().isoformat())
    else:
        state = _start_process(context, clock)
    write_atomic(state_file(context), to_json(state), mode=0o600)
    found = client(context)
    deadline = clock.monotonic() + _START_SECONDS
    while clock.monotonic() < deadline:
        try:
            if found.release()["applied"] is not None:
                return found
        except ServerUnreachable:
            pass
        if state.pid is not None and not _alive(state.pid):
            state_file(context).unlink(missing_ok=True)
            raise ServeError("the server process ended at its start", why=_tail(_log_file(context)), where=state.url)
        clock.sleep(0.2)
    raise ServeError(
        f"the server did not answer within {_START_SECONDS:.0f} s", where=state.url, why=_tail(_log_file(context))
    )


def await_applied(servers: ServingClient, release: Release, clock: Clock | None = None) -> None:
    """Wait until all replicas serve `release` or a newer one. Raises ServeError when they do not follow."""
    clock = clock or SystemClock()
    deadline = clock.monotonic() + _FOLLOW_SECONDS
    while True:
        view = servers.release()
        if view["applied"] is not None and view["applied"].generation >= release.generation:
            return
        if clock.monotonic() >= deadline:
            raise ServeError(
                f"the servers do not follow release {release.generation} after {_FOLLOW_SECONDS:.0f} s",
                where=servers.url,
                why=view["error"] or None,
                fix="They go on trying; fairlead deploy shows what is live.",
            )
        clock.sleep(0.1)


def stop_serving(context: Context) -> bool:
    """Stop the server process that was started here; one that this process started itself has ended then. Ray's
    applications stop with `fairlead down`'s Ray."""
    state = read_state(context)
    if state is None:
        return False
    if state.pid is not None and _alive(state.pid):
        os.kill(state.pid, signal.SIGTERM)
    _await_child(state.pid)
    state_file(context).unlink(missing_ok=True)
    return True


def _await_child(pid: int | None) -> None:
    """Nobody else can: a child that nobody waits for stays in the table of processes until its parent ends."""
    for process in [child for child in _STARTED if child.pid == pid]:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
            _STARTED.remove(process)


def _start_on_ray(context: Context, release: Release) -> str:
    from fairlead.wiring.local_ray import ensure_local_ray

    address = ensure_local_ray(context.base)  # before the first import of ray, which reads address and token
    try:
        from fairlead.serve.ray_app import start_ray_serving
    except ModuleNotFoundError as error:
        raise ExtraMissing(
            f"serving on Ray needs {error.name}, which is not installed",
            fix="pip install 'fairlead[serve]', or set serve.backend: process",
        ) from error
    return start_ray_serving(context.project.serve, release, context.project.store, context.base, address)


def _start_process(context: Context, clock: Clock) -> ServingState:
    serve = context.project.serve
    if not port_is_free(serve.host, serve.port):
        raise _taken(context, "it does not answer as a server of this project does")
    log = _log_file(context)
    log.parent.mkdir(parents=True, exist_ok=True)
    overrides = [part for override in context.overrides for part in ("--set", override)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "fairlead.cli", "serve", "-f", str(context.loaded.path), *overrides],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            cwd=context.base,
            # A step's folder for temporary files goes with its run, and the sockets of candidates in it would, too.
            env={name: value for name, value in os.environ.items() if name != "TMPDIR"},
        )
    _STARTED.append(process)
    return ServingState(f"http://{serve.host}:{serve.port}", "process", process.pid, clock.now().isoformat())


def _log_file(context: Context) -> Path:
    return context.home / "serve" / "server.log"


def _tail(path: Path, lines: int = 5) -> str:
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat")
        return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except ProcessLookupError:
        return False
