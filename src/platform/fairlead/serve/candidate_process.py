"""A candidate in a child process of `fairlead serve`: what crashes, hangs or eats memory there takes nobody with it.

python -m fairlead.serve.candidate_process      reads one JSON line, answers `ready`, ends with its parent
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import orjson

from fairlead.errors import ServeError
from fairlead.records.codec import from_value, to_value
from fairlead.records.model import Signature
from fairlead.records.release import Arm
from fairlead.serve.candidate import CandidatePort
from fairlead.serve.candidate_link import Address, CandidateLink
from fairlead.serve.candidate_server import SECRET_BYTES, CandidateServer
from fairlead.serve.garbage import spare_what_stays
from fairlead.serve.model import load_model
from fairlead.store.opening import open_store

_READY = b"ready\n"
_STOP_SECONDS = 5.0


@dataclass(slots=True)
class _Child:
    process: "subprocess.Popen[bytes]"
    address: Address


class ProcessHost:
    """Candidates in child processes, as a `CandidateHost`. Safe from any thread."""

    def __init__(self, store_uri: str, base: Path, cache: Path) -> None:
        """`store_uri` may be relative to `base`; `cache` holds verified bundles."""
        self._store_uri, self._base, self._cache = store_uri, base, cache
        # Short and private: the path of a socket is limited to some 100 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="fairlead-"))
        self._children: dict[str, _Child] = {}
        self._lock = threading.Lock()
        self._closed = False

    def start(self, arm: Arm) -> None:
        """See CandidateHost. Starts one that ended again."""
        with self._lock:
            child = self._children.get(arm.digest)
            if child is not None and child.process.poll() is None:
                return
            if self._closed:
                raise ServeError("the server is closing")
            if child is not None:
                _close_pipes(child.process)
            self._children[arm.digest] = self._spawn(arm)

    def _spawn(self, arm: Arm) -> _Child:
        secret = secrets.token_bytes(SECRET_BYTES)
        path = str(self._folder / f"{secrets.token_hex(6)}.sock")
        process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        wish = {
            "arm": to_value(arm),
            "store": self._store_uri,
            "base": str(self._base),
            "cache": str(self._cache),
            "path": path,
            "secret": secret.hex(),
        }
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(orjson.dumps(wish) + b"\n")
            process.stdin.flush()
        said = process.stdout.readline()
        if said != _READY:
            process.kill()
            why = process.stderr.read()[-2000:].decode("utf-8", "replace").strip()
            process.wait()
            _close_pipes(process)
            raise ServeError("the candidate's process did not start", where=f"version {arm.version}", why=why)
        # Nobody reads it further; a child that writes much must not block on a full pipe.
        threading.Thread(target=_swallow, args=(process,), name="fairlead-candidate-stderr", daemon=True).start()
        return _Child(process, Address(secret, path=path))

    def surplus(self, wanted: Arm | None) -> list[str]:
        """See CandidateHost."""
        with self._lock:
            return [digest for digest in self._children if wanted is None or digest != wanted.digest]

    def stop(self, name: str) -> None:
        """See CandidateHost."""
        with self._lock:
            child = self._children.pop(name, None)
        if child is None:
            return
        child.process.terminate()
        try:
            child.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()
        _close_pipes(child.process)

    def close(self) -> None:
        """Stop all of them."""
        self._closed = True
        for name in self.surplus(None):
            self.stop(name)
        shutil.rmtree(self._folder, ignore_errors=True)

    def port(self, arm: Arm, signature: Signature) -> CandidatePort:
        """A connection to the candidate, which is started again when it ended meanwhile."""

        async def resolve() -> Address:
            await asyncio.to_thread(self.start, arm)
            return self._children[arm.digest].address

        return CandidateLink(resolve, signature)


def _swallow(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ValueError, OSError):  # closed while it is read
        while process.stderr is not None and process.stderr.read(65_536):
            pass


def _close_pipes(process: "subprocess.Popen[bytes]") -> None:
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


# --- in the child -----------------------------------------------------------------------------------------------------
def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


async def _serve(server: CandidateServer, path: str) -> None:
    await server.listen_at(path)
    sys.stdout.buffer.write(_READY)
    sys.stdout.buffer.flush()
    await asyncio.Event().wait()


def main() -> None:
    """The child's whole life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt of the terminal is the parent's to handle
    os.umask(0o077)
    wish = orjson.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    base = Path(wish["base"])
    model = load_model(open_store(wish["store"], base), from_value(Arm, wish["arm"]), Path(wish["cache"]))
    server = CandidateServer(model, bytes.fromhex(wish["secret"]))
    spare_what_stays()
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(server, wish["path"]))


if __name__ == "__main__":
    main()
