"""CPU microseconds per request of a serving process, by what it is asked to do: what depends least on who else uses the
machine.

    .venv/bin/python benchmarks/serve_cpu.py --rounds 5
    .venv/bin/python benchmarks/serve_cpu.py --only granian      # where granian is installed
    .venv/bin/python benchmarks/serve_cpu.py --ray               # Ray Serve instead: one replica behind HAProxy

`fairlead serve` with a tiny ONNX model, and a second version beside it; a closed loop of 16 connections from here. Read
from /proc before and after: time on a core of the server's event loop (its busiest thread), of its other threads, of
the candidate's process, and of HAProxy. Each figure is the median over interleaved rounds. `loop ratio`: the loop's
time against that of `alone` in the same round; where the loop has a core of its own, its inverse is the ratio of
requests per second. `refused`: one request may wait, for 0.1 s, so that nearly all are answered 429. `granian`: the
same application under granian instead of uvicorn; what it does outside Python runs in other threads.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import uvloop

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from closed_loop import send  # noqa: E402
from serve import MODEL, PROCESSES, Steering, children, free_port, role_process, set_up  # noqa: E402

PATH = f"/v2/models/{MODEL}/predict"
CONNECTIONS = 16
_MARK = "FAIRLEAD_SERVE_CPU"


# --- roles ------------------------------------------------------------------------------------------------------------
def run_role(role: str, base: Path, port: int) -> None:
    """Serve until SIGTERM."""
    from fairlead.records.codec import from_json
    from fairlead.records.release import Release
    from fairlead.serve.http_app import run_process_server
    from fairlead.spec.serve import Serve

    release = from_json(Release, (base / "release.json").read_bytes())
    if role == "refused":
        run_process_server(Serve(port=port, max_queue=1, batch_wait_ms=100, deadline_ms=1000), release, "store", base)
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_granian(Serve(port=port, deadline_ms=1000), release, base))


async def _granian(spec: Any, release: Any, base: Path) -> None:
    from granian.constants import HTTPModes, Interfaces  # type: ignore[import-not-found]
    from granian.server.embed import Server  # type: ignore[import-not-found]

    from fairlead.serve.garbage import spare_what_stays
    from fairlead.serve.http_app import running_app
    from fairlead.store.opening import open_store

    async with running_app(spec, release, open_store("store", base), base / "cache", "token") as app:
        spare_what_stays()
        server = Server(
            app,
            port=spec.port,
            interface=Interfaces.ASGINL,
            http=HTTPModes.http1,
            websockets=False,
            log_enabled=False,
        )
        await server.serve()


# --- measuring --------------------------------------------------------------------------------------------------------
def on_core(process: int) -> dict[int, float]:
    """Seconds on a core of each thread of a process."""
    found = {}
    for task in Path(f"/proc/{process}/task").iterdir():
        with suppress(OSError):  # it ended
            found[int(task.name)] = int((task / "schedstat").read_text().split()[0]) / 1e9
    return found


Parts = Callable[[], tuple[int, list[int], list[int]]]
"""The process that serves, its candidates, and the proxies before it."""


def of_process(port: int) -> Parts:
    """A server of one process."""
    return lambda: (PROCESSES[port], children(PROCESSES[port]), [])


def of_ray() -> tuple[int, list[int], list[int]]:
    """The processes of the Ray that was started from here."""
    found: dict[str, list[int]] = {"ingress": [], "model": [], "haproxy": []}
    mark = f"{_MARK}={os.getpid()}".encode()
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if not entry.name.isdigit() or mark not in (entry / "environ").read_bytes():
                continue
            title = (entry / "cmdline").read_bytes().split(b"\0")[0].decode()
            kind = title.rsplit(":", 1)[-1] if title.startswith("ray::ServeReplica:fairlead-") else ""
            if (entry / "comm").read_text().strip() == "haproxy":
                kind = "haproxy"
            if kind in found:
                found[kind].append(int(entry.name))
    return found["ingress"][0], found["model"], found["haproxy"]


def measure(port: int, requests: int, parts: Parts) -> dict[str, float]:
    """CPU microseconds per request of each part."""
    server, candidates, proxies = parts()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(send(port, PATH, CONNECTIONS, 500))
        before = {process: on_core(process) for process in (server, *candidates, *proxies)}
        began = time.perf_counter()
        statuses = runner.run(send(port, PATH, CONNECTIONS, requests))
        took = time.perf_counter() - began
        time.sleep(0.5)  # what it still has to write belongs to them
    after = {process: on_core(process) for process in before}
    spent = {
        process: [seconds - before[process].get(thread, 0.0) for thread, seconds in now.items()]
        for process, now in after.items()
    }
    count = sum(statuses.values())
    if statuses.get(0):
        raise SystemExit(f"connections broke: {statuses}")
    loop = max(spent[server])
    return {
        "loop": loop / count * 1e6,
        "other threads": (sum(spent[server]) - loop) / count * 1e6,
        "candidate": sum(sum(spent[process]) for process in candidates) / count * 1e6,
        "proxy": sum(sum(spent[process]) for process in proxies) / count * 1e6,
        "loop busy": loop / took,
        "refused share": statuses.get(429, 0) / count,
    }


def compare(rounds: int, requests: int, only: list[str], ray: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """All cases in interleaved rounds."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {_MARK: str(os.getpid()), "RAY_USAGE_STATS_ENABLED": "0"}
    if ray:
        from fairlead.serve.ray_settings import FIXED_PORTS, with_ray_environment

        environment = with_ray_environment(environment | {name: str(free_port()) for name in FIXED_PORTS})
    found: dict[str, list[dict[str, float]]] = {}
    with ExitStack() as stack:

        def start(role: str, script: str) -> tuple[int, Path, Any]:
            base = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            arms = set_up(base)
            return stack.enter_context(role_process(role, base, environment, script)), base, arms

        port, base, arms = start("ray_tuned" if ray else "fairlead", str(HERE / "serve.py"))
        steer = Steering(port, base, *arms)
        weights = {"alone": (0, 0), "split 5 %": (5, 0), "split 100 %": (100, 0), "shadow 100 %": (0, 100)}
        cases: dict[str, tuple[int, Parts, Callable[[], object]]] = {
            name: (port, of_ray if ray else of_process(port), lambda w=pair: steer.to(*w))
            for name, pair in weights.items()
        }
        for role in [] if ray else ["refused", *(["granian"] if find_spec("granian") is not None else [])]:
            if not only or role in only:
                where = start(role, __file__)[0]
                cases[role] = (where, of_process(where), lambda: None)
        for number in range(rounds):
            for name, (where, parts, prepare) in cases.items():
                if not only or name in ("alone", *only):
                    prepare()
                    found.setdefault(name, []).append(measure(where, requests, parts))
            say(f"round {number + 1} of {rounds}")
    return {name: _medians(lines, found["alone"]) for name, lines in found.items()}


def _medians(lines: list[dict[str, float]], first: list[dict[str, float]]) -> dict[str, float]:
    medians = {key: round(statistics.median(line[key] for line in lines), 3) for key in lines[0]}
    ratio = statistics.median(a["loop"] / b["loop"] for a, b in zip(lines, first, strict=True))
    return medians | {"loop ratio": round(ratio, 3)}


def main() -> None:
    """The command line: a JSON object to stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=20_000, help="per case and round (default: 20,000)")
    parser.add_argument("--only", action="append", default=[], help="a case beside 'alone'; repeatable")
    parser.add_argument("--ray", action="store_true", help="Ray Serve instead of one process")
    parser.add_argument("--role", help=argparse.SUPPRESS)
    parser.add_argument("--base", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.role:
        run_role(arguments.role, arguments.base, arguments.port)
        return
    rounds, requests, only = arguments.rounds, arguments.requests, arguments.only
    found = compare(rounds, requests, only, arguments.ray, lambda line: print(line, file=sys.stderr, flush=True))
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
