"""The local Ray: one per project, behind a token, on loopback, gone without a trace."""

import contextlib
import dataclasses
import http.client
import json
import os
import shutil
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fairlead.errors import RayUnavailable
from fairlead.serve.ray_settings import FIXED_PORTS
from fairlead.wiring import local_ray as rays
from fairlead.wiring import processes

_ENSURE = """
import sys
from pathlib import Path
from fairlead.wiring.local_ray import ensure_local_ray
print(ensure_local_ray(Path(sys.argv[1])))
"""
_TASK = """
import os, sys
from pathlib import Path
from fairlead.wiring.local_ray import connect
ray = connect(Path(sys.argv[1]), start=False)
assert connect(Path(sys.argv[1])) is ray

@ray.remote
def where() -> str:
    return os.environ["RAY_AUTH_MODE"]

print(ray.get(where.remote()), ray.cluster_resources()["CPU"])
"""
_NO_TOKEN = "import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False)"
_LATE = """
import sys, ray
from pathlib import Path
from fairlead.errors import RayUnavailable
from fairlead.wiring.local_ray import ensure_local_ray
try:
    ensure_local_ray(Path(sys.argv[1]))
except RayUnavailable as error:
    print(error.what)
"""


def python(program: str, *arguments: str, **variables: str) -> "subprocess.Popen[str]":
    """A program in an environment without the settings of this session's Ray."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**clean, **variables},
    )  # fmt: skip


def said(process: "subprocess.Popen[str]") -> str:
    """What it printed; it has to succeed."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out.strip()


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    """A project folder with a name that tempts shells; its Ray is stopped at the end."""
    base = tmp_path / "my 'own' project"
    base.mkdir()
    yield base
    if base.is_dir():
        rays.stop_local_ray(base)


pytestmark = pytest.mark.ray


class TestSharedRay:
    """What can be seen from outside of a running one."""

    def test_it_is_known_by_its_folder(self, local_ray: str, local_ray_base: Path) -> None:
        assert found(local_ray_base).address == local_ray

    def test_asking_again_gives_the_same_one_at_once(self, local_ray: str, local_ray_base: Path) -> None:
        started = time.monotonic()
        assert said(python(_ENSURE, str(local_ray_base))) == local_ray
        assert time.monotonic() - started < 5

    def test_a_process_with_the_token_gets_in_and_runs_a_task(self, local_ray: str, local_ray_base: Path) -> None:
        mode, cpus = said(python(_TASK, str(local_ray_base))).split()
        assert mode == "token"
        assert float(cpus) >= 8

    def test_a_process_without_the_token_is_refused(self, local_ray: str) -> None:
        process = python(_NO_TOKEN, local_ray, RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0")
        assert process.stderr is not None
        try:
            line = next((line for line in process.stderr if "auth" in line.lower()), "it got in")
            assert "Unauthenticated" in line
        finally:
            process.kill()
            process.communicate()

    def test_without_the_token_http_gives_numbers_of_prometheus_and_nothing_else(
        self, local_ray: str, local_ray_base: Path
    ) -> None:
        ray = found(local_ray_base)
        members = rays.session_of(local_ray_base, ray)
        ports = {each.port for each in processes.listeners(members)}
        assert len(ports) > 3
        answers = {
            (port, path): answer_of(f"http://127.0.0.1:{port}{path}")
            for port in ports
            for path in ("/api/version", "/api/jobs/", "/api/job_agent/jobs/", "/api/actors")
        }
        assert 401 in {status for status, _ in answers.values()}
        given = {place: text for place, (status, text) in answers.items() if status == 200}
        assert {text[:6] for text in given.values()} <= {"# HELP"}, given

    def test_every_port_is_on_loopback(self, local_ray: str, local_ray_base: Path) -> None:
        ray = found(local_ray_base)
        members = rays.session_of(local_ray_base, ray)
        # Once Ray Serve has run there, HAProxy's pages of numbers stay open; it binds them to every address.
        settings = processes.environment_of(ray.pid)
        numbers = {int(settings.get(name, FIXED_PORTS[name])) for name in FIXED_PORTS if "HAPROXY" in name}
        everywhere = {each.port for each in processes.listeners(members) if each.address != "127.0.0.1"}
        assert everywhere <= numbers

    def test_nobody_else_reads_token_state_or_sessions(self, local_ray: str, local_ray_base: Path) -> None:
        folder = rays.ray_folder(local_ray_base)
        secret = [folder / "token", folder / "local.json", folder / "head.log"]
        assert {stat.S_IMODE(path.stat().st_mode) for path in secret} == {0o600}
        private = [folder, rays.temp_dir_of(local_ray_base)]
        assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o700}

    def test_stopping_another_project_leaves_it_alone(
        self, local_ray: str, local_ray_base: Path, tmp_path: Path
    ) -> None:
        assert not rays.stop_local_ray(tmp_path)
        assert found(local_ray_base).address == local_ray

    def test_a_process_that_imported_ray_too_early_is_told(self, local_ray: str, local_ray_base: Path) -> None:
        assert "imported ray before" in said(python(_LATE, str(local_ray_base)))


class TestLife:
    """Start, death and end of one."""

    def test_two_that_ask_at_once_share_one_and_a_killed_one_is_cleared_away(self, own: Path) -> None:
        first, second = python(_ENSURE, str(own)), python(_ENSURE, str(own))
        assert said(first) == said(second)
        ray = found(own)
        members = rays.session_of(own, ray)
        assert len(members) > 4

        os.kill(ray.pid, 9)
        assert wait_until(lambda: rays.find_local_ray(own) is None, 5)
        rays.stop_local_ray(own)  # its agents may outlive it, for as long as they take to notice
        assert processes.session_members(ray.pid) == []
        assert not rays.temp_dir_of(own).exists()
        assert not rays.stop_local_ray(own)

    def test_it_ends_by_itself_when_the_project_is_deleted(self, own: Path) -> None:
        said(python(_ENSURE, str(own)))
        ray = found(own)
        shutil.rmtree(own)
        assert wait_until(lambda: processes.session_members(ray.pid) == [], 30)

    def test_a_ray_that_cannot_start_says_why_and_leaves_nothing(self, own: Path) -> None:
        program = _ENSURE.replace("(sys.argv[1])", "(sys.argv[1]), RaySize(8, 1)").replace(
            "import ensure", "import RaySize, ensure"
        )
        process = python(program, str(own))
        _, err = process.communicate(timeout=60)
        assert process.returncode != 0
        assert "FL-801: the local Ray did not start" in err
        assert "ValueError" in err
        assert rays.find_local_ray(own) is None
        assert not (rays.ray_folder(own) / "local.json").exists()
        mine = str(rays.token_file(own))
        left = [pid for pid in processes.all_pids() if processes.environment_of(pid).get("RAY_AUTH_TOKEN_PATH") == mine]
        assert left == []


class TestRecords:
    """What is read from the state file is checked before it is believed."""

    @pytest.fixture
    def state(self, own: Path) -> Path:
        rays.ray_folder(own).mkdir(parents=True)
        return rays.ray_folder(own) / "local.json"

    def test_a_process_that_has_the_old_number_is_not_touched(self, own: Path, state: Path) -> None:
        with subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True
        ) as other:
            record = rays.LocalRay("127.0.0.1:1", other.pid, "1", "then", "/nowhere", 8, 1)
            state.write_text(json.dumps(dataclasses.asdict(record)))
            assert rays.find_local_ray(own) is None
            assert not rays.stop_local_ray(own)
            assert other.poll() is None
            other.kill()

    @pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"address": 3}'])
    def test_a_damaged_state_file_is_no_ray(self, own: Path, state: Path, text: str) -> None:
        state.write_text(text)
        assert rays.find_local_ray(own) is None
        assert not rays.stop_local_ray(own)

    def test_a_folder_that_another_made_is_refused(self, own: Path, tmp_path: Path) -> None:
        trap = rays.temp_dir_of(own)
        trap.symlink_to(tmp_path)
        try:
            with pytest.raises(RayUnavailable, match="belongs to somebody else"):
                rays.make_private(trap)
        finally:
            trap.unlink()

    def test_a_token_with_a_wide_mode_is_closed_again(self, own: Path, state: Path) -> None:
        token = rays.token_file(own)
        token.write_text("secret")
        token.chmod(0o644)
        said(python("import sys; from pathlib import Path; from fairlead.wiring.local_ray import use_environment;"
                    "use_environment(Path(sys.argv[1]))", str(own)))  # fmt: skip
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
        assert token.read_text() == "secret"


def found(base: Path) -> rays.LocalRay:
    """The project's Ray, which has to run."""
    ray = rays.find_local_ray(base)
    assert ray is not None
    return ray


def answer_of(url: str) -> tuple[int, str]:
    """The HTTP status without a token and how the body begins; 0 for no HTTP."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return int(answer.status), answer.read(200).decode(errors="replace")
        except urllib.error.HTTPError as error:
            return error.code, ""
    return 0, ""
