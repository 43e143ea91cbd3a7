"""The Ray that training and serving share on one machine: started on demand, guarded by a token, on loopback only.

One Ray per project folder. It lives in a session of its own below a supervisor (`local_ray_head`), and is known by
``.fairlead/ray/local.json``; it ends when that file goes, so a deleted project leaves nothing behind. Other Rays of the
machine are never touched.

Ray reads its environment when it is imported: `ensure_local_ray` or `connect` must come before the first
``import ray`` of a process.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import importlib.util
import json
import os
import secrets
import select
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairlead.atomic import write_atomic
from fairlead.errors import ExtraMissing, NotEnoughDisk, RayUnavailable
from fairlead.serve.ray_settings import FIXED_PORTS, LOCAL_ENVIRONMENT
from fairlead.wiring import processes

_MIB = 2**20
_START_SECONDS = 120.0
_STOP_SECONDS = 5.0
_MIN_DISK_BYTES = 1024 * _MIB
_MIN_LOGICAL_CPUS = 8
_LOG_LINES = 12
# Below the ports that systems give to outgoing connections, above those that Ray gives to its workers.
_FIRST_PORT = 20_000
_PORTS = 5_000
# What the project's own Ray must not inherit from a program that itself runs below some other Ray.
_FOREIGN = ("RAY_ADDRESS", "RAY_NAMESPACE", "RAY_JOB_ID", "RAY_RAYLET_PID", "RAY_JOB_CONFIG_JSON_ENV_VAR", "TMPDIR")


@dataclass(frozen=True, slots=True)
class LocalRay:
    """A running local Ray. `pid` is the supervisor, whose session holds all processes of this Ray."""

    address: str
    pid: int
    process_start: str
    started_at: str
    temp_dir: str
    num_cpus: int
    object_store_bytes: int


@dataclass(frozen=True, slots=True)
class RaySize:
    """What a local Ray is given. Its CPUs are logical: two training workers, replicas and controllers share the cores
    of a laptop, and Ray only counts them. The object store is small, because rows never travel through it."""

    num_cpus: int
    object_store_bytes: int


def default_size() -> RaySize:
    """At least 8 logical CPUs; an object store of 128 to 512 MiB, within what shared memory has."""
    shared = shutil.disk_usage("/dev/shm").free if os.path.isdir("/dev/shm") else 1024 * _MIB
    store = max(128 * _MIB, min(512 * _MIB, shared // 3))
    return RaySize(num_cpus=max(_MIN_LOGICAL_CPUS, os.cpu_count() or 1), object_store_bytes=store)


def ray_folder(base: Path) -> Path:
    """Where state, token, lock and log of the project's Ray are."""
    return base.resolve() / ".fairlead" / "ray"


def token_file(base: Path) -> Path:
    """The token of the project's Ray: mode 0600."""
    return ray_folder(base) / "token"


def log_file(base: Path) -> Path:
    """What the supervisor says."""
    return ray_folder(base) / "head.log"


def environment(base: Path) -> dict[str, str]:
    """The variables that every process needs that uses the project's Ray, before it imports ray."""
    serve = {name: os.environ.get(name, value) for name, value in LOCAL_ENVIRONMENT.items()}
    return serve | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_file(base)),
        "RAY_USAGE_STATS_ENABLED": "0",
        # Despite its name it works everywhere: off, a node's address is 127.0.0.1 and all of Ray's ports bind there;
        # on, Ray replaces 127.0.0.1 by the address that the network sees.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # Workers without a GPU of their own keep what they see of the machine, and Ray does not warn about it.
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }


def head_environment(base: Path) -> dict[str, str]:
    """The variables that Ray itself is started with; what somebody set on purpose wins.

    Ray Serve's side ports and its HAProxy's files are the project's own: two Rays of one machine would take each
    other's ports, two users each other's files, and HAProxy's admin socket would be where everybody can reach it.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    haproxy = temp_dir_of(base) / "haproxy"
    own = {
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(haproxy / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(haproxy / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(haproxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(haproxy / "server-state"),
    }
    port = _FIRST_PORT + int(_digest(base), 16) % _PORTS
    for name in FIXED_PORTS:
        port = next(p for p in range(port, _FIRST_PORT + 2 * _PORTS) if processes.port_is_free("", p))
        own[name] = str(port)
        port += 1
    return own | inherited | environment(base)


def use_environment(base: Path) -> None:
    """Make this process ready to connect, and make the token when there is none.

    Raises RayUnavailable when ray was imported before without these settings: it would try for half a minute and fail.
    """
    _ensure_token(base)
    wanted = environment(base)
    late = "ray" in sys.modules and any(
        os.environ.get(name) != wanted[name] for name in ("RAY_AUTH_TOKEN_PATH", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")
    )
    if late:
        raise RayUnavailable(
            "this process imported ray before it knew of the local Ray",
            why="Ray reads token and addresses when it is imported",
            fix="call ensure_local_ray or use_environment before the first import of ray",
        )
    os.environ.update(wanted)


def find_local_ray(base: Path) -> LocalRay | None:
    """The project's Ray when it runs and answers, else None."""
    ray = _recorded(base)
    if ray is None or not processes.is_running(ray.pid, ray.process_start) or not processes.answers(ray.address):
        return None
    return ray


def ensure_local_ray(base: Path, size: RaySize | None = None, *, timeout: float = _START_SECONDS) -> str:
    """The address of the project's Ray, started when there is none; this process is ready to connect to it.

    Processes that ask at the same time get the same one. Raises RayUnavailable with the last lines of its log,
    NotEnoughDisk, ExtraMissing.
    """
    use_environment(base)
    found = find_local_ray(base)
    if found is not None:
        return found.address
    if importlib.util.find_spec("ray") is None:
        raise ExtraMissing("this needs ray, which is not installed", fix="pip install 'fairlead[train]'")
    deadline = time.monotonic() + timeout
    with _start_lock(base, deadline) as lock:
        found = find_local_ray(base)  # another process may have started it while this one waited
        if found is not None:
            return found.address
        _clear_remains(base)
        return _start(base, size or default_size(), lock, deadline)


def stop_local_ray(base: Path) -> bool:
    """Stop the project's Ray, and what is left of one that died. False when there was nothing to stop.

    Ends only processes of the session that the project's supervisor started."""
    ray = _recorded(base)
    if ray is None:
        return False
    was_running = _end_session(base, ray)
    (ray_folder(base) / "local.json").unlink(missing_ok=True)
    _remove_temp_dir(temp_dir_of(base))
    return was_running


def connect(base: Path, namespace: str | None = None, *, start: bool = True) -> Any:
    """Connect this process to the project's Ray, quietly, and give the ray module.

    `start`: start it when there is none. A connection to it that this process has already is used. Raises
    RayUnavailable.
    """
    if start:
        address = ensure_local_ray(base)
    else:
        use_environment(base)
        found = find_local_ray(base)
        if found is None:
            raise RayUnavailable("the local Ray is not running", where=str(ray_folder(base)), fix="fairlead up")
        address = found.address
    import ray

    if ray.is_initialized():
        connected = ray.get_runtime_context().gcs_address
        if connected != address:
            raise RayUnavailable(
                "this process is connected to another Ray", where=connected, fix="ray.shutdown() first"
            )
        return ray
    try:
        ray.init(address=address, namespace=namespace, log_to_driver=False, logging_level="error")
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise RayUnavailable(
            "the local Ray does not let this process in",
            where=address,
            why=str(error)[:500],
            fix="fairlead down, then up",
        ) from error
    return ray


def temp_dir_of(base: Path) -> Path:
    """A folder for Ray's own: short, because the path of a socket in it may have 107 characters at most."""
    return Path("/tmp") / f"fl-{_digest(base)}"


def _digest(base: Path) -> str:
    return hashlib.sha256(f"{os.getuid()}:{base.resolve()}".encode()).hexdigest()[:10]


def make_private(folder: Path) -> None:
    """Make a folder that nobody else may enter. Raises RayUnavailable when somebody else has made it.

    Ray makes its own folders writable for everybody; they go into this one."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise RayUnavailable("Ray's folder belongs to somebody else", where=str(folder), fix="remove it")
    folder.chmod(0o700)


def session_of(base: Path, ray: LocalRay) -> list[int]:
    """The processes of a Ray, also when its supervisor has died."""
    members = processes.session_members(ray.pid)
    if processes.is_running(ray.pid, ray.process_start):
        return members
    # Without the supervisor the session's id alone proves nothing: it may be another session by now. The token's path
    # in the environment of one says that it is this project's, and a session has one owner. Asking each of them would
    # miss those that are just being started.
    mine = str(token_file(base))
    owned = any(processes.environment_of(pid).get("RAY_AUTH_TOKEN_PATH") == mine for pid in members)
    return members if owned else []


def _start(base: Path, size: RaySize, lock: int, deadline: float) -> str:
    temp_dir = temp_dir_of(base)
    make_private(temp_dir)
    free = shutil.disk_usage(temp_dir).free
    if free < _MIN_DISK_BYTES:
        raise NotEnoughDisk(f"Ray needs 1 GiB, {free // _MIB} MiB are free", where=str(temp_dir), fix="free some space")
    settings = {
        "folder": str(ray_folder(base)),
        "temp_dir": str(temp_dir / "r"),
        "num_cpus": size.num_cpus,
        "object_store_bytes": size.object_store_bytes,
    }
    reader, writer = os.pipe()
    try:
        with os.fdopen(os.open(log_file(base), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as log:
            subprocess.run(
                [sys.executable, "-m", "fairlead.wiring.local_ray_head", json.dumps(settings), str(writer), str(lock)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=base, env=head_environment(base),
                pass_fds=(writer, lock), check=False,
            )  # fmt: skip
        os.close(writer)
        writer = -1
        said = _read_lines(reader, deadline)
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)
    if "ready" in said:
        found = find_local_ray(base)
        if found is not None:
            return found.address
    _give_up(said)
    raise RayUnavailable(
        "the local Ray did not start",
        where=str(log_file(base)),
        why=_log_tail(base) or "it said nothing",
        fix="fairlead doctor checks memory, disk and shared memory of this machine",
    )


def _read_lines(reader: int, deadline: float) -> dict[str, str]:
    # The supervisor writes "pid N" at once and "ready" at the end; the end of the pipe means that it died.
    text = b""
    while b"ready" not in text:
        readable, _, _ = select.select([reader], [], [], max(0.0, deadline - time.monotonic()))
        chunk = os.read(reader, 4096) if readable else b""
        if not chunk:
            break
        text += chunk
    pairs = (line.partition(" ") for line in text.decode().splitlines())
    return {name: value for name, _, value in pairs}


def _give_up(said: dict[str, str]) -> None:
    if "pid" in said:
        processes.end(processes.session_members(int(said["pid"])), grace_seconds=1.0)


def _clear_remains(base: Path) -> None:
    ray = _recorded(base)
    if ray is not None:
        _end_session(base, ray)
        (ray_folder(base) / "local.json").unlink(missing_ok=True)
    _remove_temp_dir(temp_dir_of(base))


def _end_session(base: Path, ray: LocalRay) -> bool:
    members = session_of(base, ray)
    if processes.is_running(ray.pid, ray.process_start):
        processes.end([ray.pid], grace_seconds=_STOP_SECONDS)
    if not members:
        return False
    # What is being ended may still start others, so look again until nobody is left. The session was this project's a
    # moment ago, and its id is not given again so soon.
    deadline = time.monotonic() + _STOP_SECONDS
    while (remaining := processes.session_members(ray.pid)) and time.monotonic() < deadline:
        processes.end({*members, *remaining}, grace_seconds=0.0)
    return True


def _recorded(base: Path) -> LocalRay | None:
    try:
        value = json.loads((ray_folder(base) / "local.json").read_bytes())
        return LocalRay(**{field.name: value[field.name] for field in dataclasses.fields(LocalRay)})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _ensure_token(base: Path) -> None:
    folder = ray_folder(base)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    path = token_file(base)
    if path.is_file() and path.stat().st_size > 0:
        path.chmod(0o600)
        return
    write_atomic(path, secrets.token_hex(32).encode(), mode=0o600)


@contextlib.contextmanager
def _start_lock(base: Path, deadline: float) -> Iterator[int]:
    # The supervisor inherits the lock and keeps it until it is ready, so it holds even if the starter is killed.
    descriptor = os.open(ray_folder(base) / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise RayUnavailable(
                        "another process has been starting the local Ray for too long",
                        where=str(log_file(base)),
                        why=_log_tail(base),
                        fix="fairlead down, then fairlead up",
                    ) from None
                time.sleep(0.05)
        yield descriptor
    finally:
        os.close(descriptor)


def _remove_temp_dir(folder: Path) -> None:
    if folder.name.startswith("fl-") and folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder, ignore_errors=True)


def _log_tail(base: Path) -> str:
    try:
        lines = log_file(base).read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(line for line in lines[-_LOG_LINES:] if line.strip())
