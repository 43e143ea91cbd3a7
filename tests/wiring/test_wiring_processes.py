"""Processes: identity, sessions, listeners, ending."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from fairlead.wiring import processes

_SLEEPER = "import time; print('up', flush=True); time.sleep(60)"
_STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
)
_PARENT = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); {_SLEEPER}"


@pytest.fixture
def start() -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Starts Python programs in sessions of their own, and ends what is left of them."""
    started: list[subprocess.Popen[str]] = []

    def run(program: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        return process

    yield run
    for process in started:
        for pid in processes.session_members(process.pid):
            os.kill(pid, 9)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_a_process_is_named_by_its_id_and_its_start(start: Callable[[str], subprocess.Popen[str]]) -> None:
    process = start(_SLEEPER)
    started = processes.start_of(process.pid)
    assert started is not None
    assert processes.is_running(process.pid, started)
    assert not processes.is_running(process.pid, "1")


def test_the_remains_of_a_process_do_not_count_as_running(start: Callable[[str], subprocess.Popen[str]]) -> None:
    process = start(_SLEEPER)
    os.kill(process.pid, 9)
    deadline = time.monotonic() + 5
    while processes.start_of(process.pid) is not None and time.monotonic() < deadline:
        pass  # not waited for, so a zombie stays
    assert processes.start_of(process.pid) is None


def test_a_session_has_its_children_and_nobody_else(start: Callable[[str], subprocess.Popen[str]]) -> None:
    parent, other = start(_PARENT), start(_SLEEPER)
    members = processes.session_members(parent.pid)
    assert parent.pid in members
    assert len(members) == 2
    assert other.pid not in members


def test_ending_makes_a_process_that_ignores_being_asked(start: Callable[[str], subprocess.Popen[str]]) -> None:
    stubborn, willing = start(_STUBBORN), start(_SLEEPER)
    processes.end([stubborn.pid, willing.pid], grace_seconds=0.2)
    assert stubborn.wait(timeout=1) == -9
    assert willing.wait(timeout=1) == -15


def test_ending_what_has_ended_is_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    processes.end([process.pid], grace_seconds=0.1)


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "*"), ("::1", "::1"), ("::", "*")])
def test_listeners_tell_loopback_from_every_interface(host: str, shown: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as server:
        server.bind((host, 0))
        server.listen()
        port = server.getsockname()[1]
        found = [each for each in processes.listeners([os.getpid()]) if each.port == port]
    assert [each.address for each in found] == [shown]
    assert found[0].pid == os.getpid()


def test_a_port_that_somebody_listens_on_is_not_free() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert not processes.port_is_free("127.0.0.1", port)
        assert processes.answers(f"127.0.0.1:{port}")
    assert processes.port_is_free("127.0.0.1", port)
    assert not processes.answers(f"127.0.0.1:{port}")


def test_the_environment_of_a_process_is_the_one_it_was_started_with() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _SLEEPER], stdout=subprocess.PIPE, text=True, env={"FAIRLEAD_MARK": "a=b"}
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert processes.environment_of(process.pid)["FAIRLEAD_MARK"] == "a=b"
        process.kill()
