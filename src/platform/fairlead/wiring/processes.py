"""Processes of this machine: who is alive, who belongs to a session, who listens where.

A process is named by its id and its start, because ids are used again.
"""

import os
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_POLL_SECONDS = 0.05
_TCP_LISTEN = "0A"


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening TCP socket. `address` is "*" when it takes connections on every interface."""

    pid: int
    name: str
    address: str
    port: int


def start_of(pid: int) -> str | None:
    """When process `pid` started, as the system writes it; None when there is no such process, or only its remains."""
    if _PROC.is_dir():
        fields = _stat(pid)
        return None if fields is None or fields[0] in "ZX" else fields[19]
    listed = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, started = listed.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else started.strip()


def is_running(pid: int, started: str) -> bool:
    """True when `pid` is still the process that started then."""
    return start_of(pid) == started


def session_members(session: int) -> list[int]:
    """All living processes of a session. A session's id stays taken until its last process has gone."""
    found = []
    for pid in all_pids():
        try:
            if os.getsid(pid) == session and start_of(pid) is not None:
                found.append(pid)
        except (ProcessLookupError, PermissionError):
            continue
    return found


def all_pids() -> list[int]:
    """The ids of all processes that can be seen."""
    if _PROC.is_dir():
        return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal()]
    listed = subprocess.run(["ps", "-axo", "pid="], capture_output=True, text=True, check=False)
    return [int(word) for word in listed.stdout.split()]


def environment_of(pid: int) -> dict[str, str]:
    """The environment that a process was started with; empty where the system does not tell."""
    try:
        raw = (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return {}
    pairs = (item.partition(b"=") for item in raw.split(b"\0") if item)
    return {name.decode(errors="replace"): value.decode(errors="replace") for name, _, value in pairs}


def end(pids: Iterable[int], *, grace_seconds: float) -> None:
    """Ask processes to end, and after `grace_seconds` make them. Returns when all have gone."""
    waiting = {pid: started for pid in pids if (started := start_of(pid)) is not None}
    for number, patience in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, 10.0)):
        for pid in waiting:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + patience
        while waiting and time.monotonic() < deadline:
            waiting = {pid: started for pid, started in waiting.items() if is_running(pid, started)}
            if waiting:
                time.sleep(_POLL_SECONDS)


def listeners(pids: Iterable[int]) -> list[Listener]:
    """The listening TCP sockets of processes; none where the system does not tell (no /proc)."""
    sockets = _listening_sockets()
    found = set()
    for pid in pids:
        for inode in _socket_inodes(pid):
            if inode in sockets:
                address, port = sockets[inode]
                found.add((port, address, pid))
    return [Listener(pid, _name(pid), address, port) for port, address, pid in sorted(found)]


def port_is_free(host: str, port: int) -> bool:
    """True when a server could listen there."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def answers(address: str, *, timeout: float = 1.0) -> bool:
    """True when something accepts connections at ``host:port``."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=timeout):
            return True
    except (OSError, ValueError):
        return False


def _stat(pid: int) -> list[str] | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The name stands in brackets and may hold anything, brackets included; what follows the last one are plain fields.
    return text.rpartition(")")[2].split()


def _name(pid: int) -> str:
    try:
        return (_PROC / str(pid) / "comm").read_text().strip()
    except OSError:
        return "?"


def _socket_inodes(pid: int) -> set[str]:
    found = set()
    try:
        for entry in (_PROC / str(pid) / "fd").iterdir():
            try:
                target = os.readlink(entry)
            except OSError:
                continue
            if target.startswith("socket:["):
                found.add(target[len("socket:[") : -1])
    except OSError:
        return set()
    return found


def _listening_sockets() -> dict[str, tuple[str, int]]:
    found: dict[str, tuple[str, int]] = {}
    for table in ("tcp", "tcp6"):
        try:
            lines = (_PROC / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _TCP_LISTEN:
                host, _, port = fields[1].partition(":")
                found[fields[9]] = (_address(host), int(port, 16))
    return found


def _address(text: str) -> str:
    # The kernel prints addresses as 32-bit words in the machine's byte order.
    words = [int(text[i : i + 8], 16) for i in range(0, len(text), 8)]
    raw = struct.pack(f"={len(words)}I", *words)
    if not any(raw):
        return "*"
    if len(raw) == 16 and raw.startswith(b"\0" * 10 + b"\xff\xff"):
        raw = raw[12:]
    address = socket.inet_ntop(socket.AF_INET6 if len(raw) == 16 else socket.AF_INET, raw)
    return "*" if address == "0.0.0.0" else address
