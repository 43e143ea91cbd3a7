"""The edge to kfp.local: runs a part of the pipeline on this machine, in a program of its own.

`LocalPipeline` starts the program, and tells what happens from the files that the steps leave in the run's folder. The
program (``python -m fairlead.cli.local_pipeline REQUEST``) is the only place outside of components and pipelines that
imports kfp. All that kfp and the steps print goes to the run's log.
"""

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

STEPS = ("validate", "prepare", "train", "evaluate", "register", "deploy")
# Which facts each step takes from earlier ones, and gives to later ones. A test holds this against the components.
TAKES: dict[str, tuple[str, ...]] = {
    "validate": (),
    "prepare": ("source_fingerprint",),
    "train": ("fingerprint",),
    "evaluate": ("fingerprint", "draft"),
    "register": ("bundle_uri", "digest", "fingerprint"),
    "deploy": ("version",),
}
GIVES: dict[str, tuple[str, ...]] = {
    "validate": ("source_fingerprint",),
    "prepare": ("fingerprint",),
    "train": ("draft",),
    "evaluate": ("bundle_uri", "digest"),
    "register": ("version",),
    "deploy": (),
}
_GRACE_SECONDS = 10.0
_LOG_TAIL = 4
_STEP_INDENT = "    "


@dataclass(frozen=True, slots=True)
class Request:
    """What is to run. `arguments` are the pipeline's parameters."""

    first: str
    last: str
    arguments: dict[str, str | int]
    run_folder: str

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps that run, in order."""
        return STEPS[STEPS.index(self.first) : STEPS.index(self.last) + 1]


@dataclass(frozen=True, slots=True)
class Event:
    """Something for a person: `kind` is started, message or finished."""

    kind: str
    step: str
    message: str = ""
    share: float | None = None
    result: dict[str, Any] | None = None


class LocalPipeline:
    """A pipeline that runs in a process group of its own; leaving the context ends what is left of it."""

    def __init__(self, request: Request, base: Path) -> None:
        self._request = request
        self._base = base
        self._folder = Path(request.run_folder)
        self._temp: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._read = 0
        self._announced = False
        self._done: list[str] = []
        self.log = self._folder / "pipeline.log"

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        request = self._folder / "request.json"
        request.write_text(json.dumps(asdict(self._request), indent=1), encoding="utf-8")
        # kfp leaves a folder behind for each step; this one goes with the run. Short, because sockets may be in it.
        self._temp = tempfile.mkdtemp(prefix="fl-run-")
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fairlead.cli.local_pipeline", str(request)],
                stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, cwd=self._base,
                env=_step_environment(self._temp), start_new_session=True,
            )  # fmt: skip
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        if process is not None:
            if process.poll() is None:
                _signal_group(process.pid, signal.SIGTERM)
                try:
                    process.wait(_GRACE_SECONDS)
                except subprocess.TimeoutExpired:
                    pass
            _signal_group(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdin is not None:
                process.stdin.close()
        if self._temp is not None:
            shutil.rmtree(self._temp, ignore_errors=True)

    def poll(self) -> int | None:
        """The exit code of the program, or None while it runs."""
        return self._process.poll() if self._process is not None else None

    def events(self) -> Iterator[Event]:
        """What has happened since the last call."""
        if not self._announced:
            self._announced = True
            yield from self._starts()
        yield from self._messages()
        while len(self._done) < len(self._request.steps):
            step = self._request.steps[len(self._done)]
            result = self._result(step)
            if result is None:
                return
            yield from self._messages()
            self._done.append(step)
            yield Event("finished", step, str(result.get("summary", "")), result=result)
            yield from self._starts()

    def failed_step(self) -> str:
        """The step that was running when the program ended."""
        return self._request.steps[min(len(self._done), len(self._request.steps) - 1)]

    def error(self) -> dict[str, Any] | None:
        """What the failed step said, when it failed on purpose: step, code, what, where, why, fix."""
        try:
            value = json.loads((self._folder / "error.json").read_bytes())
        except (OSError, ValueError):
            return None
        return value if isinstance(value, dict) else None

    def last_words(self) -> str:
        """The last lines that the failed step printed; what kfp has to say where it printed none."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        ends = [number for number, line in enumerate(lines) if "finished with status" in line and "FAILURE" in line]
        if ends:
            # kfp indents what a step prints, and then adds its own traceback, which says nothing about the cause.
            printed = [
                line for line in lines[: ends[0]] if line.startswith(_STEP_INDENT) and "[KFP Executor" not in line
            ]
            lines = printed or lines[: ends[0]]
        told = [line.strip() for line in lines if line.strip() and line.strip().strip("-^~ ")]
        return "\n".join(told[-_LOG_TAIL:])

    def _starts(self) -> Iterator[Event]:
        if len(self._done) < len(self._request.steps):
            yield Event("started", self._request.steps[len(self._done)])

    def _messages(self) -> Iterator[Event]:
        try:
            with (self._folder / "progress.jsonl").open("rb") as file:
                file.seek(self._read)
                text = file.read()
        except FileNotFoundError:
            return
        whole = text[: text.rfind(b"\n") + 1]  # the writer may be in the middle of a line
        self._read += len(whole)
        for line in whole.splitlines():
            try:
                value = json.loads(line)
                yield Event("message", str(value["step"]), str(value["message"]), value.get("share"))
            except (ValueError, KeyError, TypeError):
                continue

    def _result(self, step: str) -> dict[str, Any] | None:
        try:
            value = json.loads((self._folder / "results" / f"{step}.json").read_bytes())
        except (OSError, ValueError):
            return None
        return value if isinstance(value, dict) else None


def _step_environment(temp: str) -> dict[str, str]:
    # The steps run "python3": it has to be the one that Fairlead is installed in.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return {**os.environ, "PATH": path, "TMPDIR": temp, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return


# --- the program -----------------------------------------------------------------------------------------------------
def main(request_file: str) -> None:
    """Build the part of the pipeline that the request names, and run it with kfp.local. Failures are in its log."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    request = Request(**json.loads(Path(request_file).read_bytes()))
    if (Path(sys.executable).parent / "python3").exists():
        # kfp replaces "python3" by this value everywhere in a step's command, unquoted: a path with a space breaks it,
        # and so would a project below a folder whose name contains "python3". The right python3 is first on PATH.
        sys.executable = "python3"

    from kfp import local

    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(Path(request.run_folder) / "kfp"),
        # kfp's local cache does not look at contents; the steps skip work by fingerprint themselves.
        enable_caching=False,
    )
    pipelines = importlib.import_module("fairlead.pipelines.train_and_release")
    pipelines.build(request.first, request.last)(**request.arguments)


def _end_with_parent() -> None:
    # The other end of standard input is the command's: when that dies, however, nothing of its run goes on.
    # Not through sys.stdin, whose lock a thread must not hold when the interpreter ends.
    while os.read(0, 1):
        pass
    os.killpg(os.getpgrp(), signal.SIGTERM)


if __name__ == "__main__":
    main(sys.argv[1])
