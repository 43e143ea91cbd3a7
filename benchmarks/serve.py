"""Requests per second and latency of both doors beside bare Starlette and Ray Serve, all with one tiny ONNX model.

    python benchmarks/serve.py --rounds 5 --seconds 2

Peers answer plain JSON rows with handwritten code that does the least: parse, standardise two numbers, look one
category up, run the network, apply a sigmoid, respond. No validation, no queue, no deadline, no log, no routing.
Fairlead does all of these, with its request log on. `starlette`: uvicorn, one process. `ray_default`: Ray Serve as it
comes. `ray_tuned`: Ray Serve with Fairlead's own settings (`fairlead.serve.ray_settings`, access log off).

All servers run at the same time; each round measures one after the other, closed loop, with 1 and 16 connections; a
ratio is the median over rounds of the ratio within a round. `_split_5`: a candidate answers 5 % of the keys,
`_shadow_100`: it gets a copy of every request, both on whatever cores there are. `_apart`: the server is held on one
core, and its candidate and the client on the others, so that only what the server itself does for a copy is seen.

What a candidate costs is a few percent, less than what else happens to a machine within a round. So the requests per
second with and without one are compared in more and shorter rounds of their own, in turn forwards and backwards.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parent))

from closed_loop import drive
from serve_peers import ray_peer, starlette_app

MODEL = "flights"
CONNECTIONS = (1, 16)
COST_ROUNDS, COST_SECONDS = 15, 0.7
RAY_CPUS = 2


# --- roles: one process each ------------------------------------------------------------------------------------------
def run_role(role: str, base: Path, port: int) -> None:
    """Serve until SIGTERM."""
    from fairlead.records.codec import from_json
    from fairlead.records.release import Release
    from fairlead.spec.serve import Serve

    folder = str(base / "draft-1")
    spec = Serve(port=port, deadline_ms=1000)
    release = from_json(Release, (base / "release.json").read_bytes())
    if role == "starlette":
        import uvicorn

        uvicorn.run(
            starlette_app(folder), port=port, loop="uvloop", http="httptools", access_log=False, log_level="warning"
        )
        return
    if role == "fairlead":
        from fairlead.serve.http_app import run_process_server

        run_process_server(spec, release, "store", base)
        return
    import ray
    from ray import serve

    ray.init(num_cpus=RAY_CPUS, include_dashboard=False, log_to_driver=False, logging_level="error")
    if role == "ray_default":
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        serve.run(ray_peer(folder, quiet=False), name="peer", route_prefix="/predict")
    else:
        from fairlead.serve.ray_app import start_ray_serving

        start_ray_serving(spec, release, "store", base, ray.get_runtime_context().gcs_address)
        serve.run(ray_peer(folder, quiet=True), name="peer", route_prefix="/predict")
    (base / f"{role}.ready").touch()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()


PROCESSES: dict[int, int] = {}
"""Process ids by port."""


def pin(process: int, cores: set[int]) -> None:
    """Hold all threads of a process on these cores."""
    for task in Path(f"/proc/{process}/task").iterdir():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(task.name), cores)


def children(process: int) -> list[int]:
    """The processes that it started."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1]) == process:
                found.append(int(entry.name))
    return found


def apart(process: int) -> Callable[[], None]:
    """Give a server a core of its own, and all else that takes part the others; the result undoes it."""
    cores = os.sched_getaffinity(0)
    first, rest = min(cores), cores - {min(cores)} or cores
    others = [os.getpid(), *children(process)]
    pin(process, {first})
    for other in others:
        pin(other, rest)

    def undo() -> None:
        for each in (process, *others):
            pin(each, cores)

    return undo


@contextmanager
def role_process(role: str, base: Path, environment: dict[str, str], script: str = __file__) -> Iterator[int]:
    """The role's process, and its port. `script` knows the role."""
    port = free_port()
    command = [sys.executable, script, "--role", role, "--base", str(base), "--port", str(port)]
    log = (base / f"{role}.log").open("wb")
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    PROCESSES[port] = process.pid
    try:
        deadline = time.monotonic() + 120
        ready = base / f"{role}.ready"
        while not (ready.exists() if role.startswith("ray") else _listens(port)):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{role} did not start:\n{(base / f'{role}.log').read_text()[-3000:]}")
            time.sleep(0.1)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
        log.close()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# --- the comparison ---------------------------------------------------------------------------------------------------
COSTS = (
    ("fairlead_process_split_5", "fairlead_process"),
    ("fairlead_process_shadow_100", "fairlead_process"),
    ("fairlead_ray_split_5", "fairlead_ray"),
    ("fairlead_ray_shadow_100", "fairlead_ray"),
    ("fairlead_process_shadow_100_apart", "fairlead_process_apart"),
)
"""What a candidate costs: with one, and without."""

Round = dict[str, dict[str, dict[str, float]]]
"""By target and number of connections, what was measured."""


class Bench:
    """All servers, and what was measured."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.targets: dict[str, tuple[int, str, Callable[[], Callable[[], None] | None] | None]] = {}
        self.rounds: list[Round] = []
        self.cost_rounds: list[Round] = []

    def round(self) -> None:
        """Every target once, with each number of connections."""
        self.rounds.append({name: self._measure(name, CONNECTIONS, self.seconds) for name in self.targets})

    def cost_round(self) -> None:
        """Each server with and without what a candidate may do there, for a short while, with many connections."""
        names = list(dict.fromkeys(name for pair in COSTS for name in pair))
        if len(self.cost_rounds) % 2:
            names.reverse()
        self.cost_rounds.append({name: self._measure(name, CONNECTIONS[-1:], COST_SECONDS) for name in names})

    def _measure(self, name: str, connections: Sequence[int], seconds: float) -> dict[str, dict[str, float]]:
        port, path, prepare = self.targets[name]
        undo = prepare() if prepare is not None else None
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            found = {str(count): runner.run(drive(port, path, count, seconds)) for count in connections}
        if undo is not None:
            undo()
        return found

    def medians(self) -> dict[str, Any]:
        """Medians over rounds."""
        return {
            name: {
                count: {
                    key: round(statistics.median(r[name][count][key] for r in self.rounds), 3)
                    for key in ("rps", "p50_ms", "p99_ms")
                }
                for count in map(str, CONNECTIONS)
            }
            for name in self.targets
        }

    def ratio(self, name: str, peer: str, count: int, key: str = "rps") -> float:
        """The median over rounds of name / peer within a round."""
        rounds = self.cost_rounds if (name, peer) in COSTS and count == CONNECTIONS[-1] else self.rounds
        return round(statistics.median(r[name][str(count)][key] / r[peer][str(count)][key] for r in rounds), 3)

    def longer(self, name: str, peer: str, count: int) -> float:
        """The median over rounds of how many milliseconds the p50 of name is above that of peer."""
        key, number = "p50_ms", str(count)
        return round(statistics.median(r[name][number][key] - r[peer][number][key] for r in self.rounds), 4)


def set_up(base: Path) -> tuple[Any, Any]:
    """Two bundles, a stored release, and both arms."""
    from fairlead.bundle.bundle import publish
    from fairlead.records.codec import to_json
    from fairlead.records.release import Arm, Release
    from fairlead.store.opening import open_store
    from fairlead.testing.bundles import sealed_bundle

    store = open_store("store", base)
    arms = []
    for version in (1, 2):
        manifest = sealed_bundle(base / f"draft-{version}", model=MODEL, seed=version)
        arms.append(Arm(version, publish(store, base / f"draft-{version}"), manifest.digest))
    (base / "release.json").write_bytes(to_json(Release(MODEL, 1, arms[0])))
    return arms[0], arms[1]


class Steering:
    """Sets weights on one Fairlead server and waits until they are applied."""

    def __init__(self, port: int, base: Path, champion: Any, candidate: Any) -> None:
        from fairlead.serve.client import ServingClient
        from fairlead.serve.token import read_token, token_file

        self._client = ServingClient(f"http://127.0.0.1:{port}", read_token(token_file(base)), MODEL)
        self._champion, self._candidate, self._port = champion, candidate, port

    def to(self, weight: float, shadow: float) -> None:
        from fairlead.records.release import Release

        generation = self._client.release()["wanted"].generation + 1
        self._client.put_release(Release(MODEL, generation, self._champion, self._candidate, weight, shadow))
        deadline = time.monotonic() + 60
        while True:
            status = self._client.release()
            applied = status["applied"]
            if applied is not None and applied.generation == generation and status["candidate_ready"]:
                return
            if time.monotonic() > deadline:
                raise SystemExit(f"the release was not applied: {status}")
            time.sleep(0.05)


def compare(rounds: int, seconds: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Run everything and give the results."""
    from fairlead.serve.ray_settings import FIXED_PORTS, with_ray_environment

    bench = Bench(seconds)
    path = f"/v2/models/{MODEL}/predict"
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    plain["RAY_USAGE_STATS_ENABLED"] = "0"
    tuned_environment = with_ray_environment(plain | {name: str(free_port()) for name in FIXED_PORTS})
    with ExitStack() as stack:
        # A Ray with the default settings and a tuned one cannot share a folder of the project.
        bases = {
            name: Path(stack.enter_context(tempfile.TemporaryDirectory())) for name in ("process", "default", "ray")
        }
        arms = {name: set_up(base) for name, base in bases.items()}
        say("starting the servers")
        starlette = stack.enter_context(role_process("starlette", bases["process"], plain))
        process = stack.enter_context(role_process("fairlead", bases["process"], plain))
        tuned = stack.enter_context(role_process("ray_tuned", bases["ray"], tuned_environment))
        default = stack.enter_context(role_process("ray_default", bases["default"], plain))
        doors = {"fairlead_process": (process, "process"), "fairlead_ray": (tuned, "ray")}
        bench.targets = {"starlette": (starlette, "/predict", None)}
        for name, (port, where) in doors.items():
            steer = Steering(port, bases[where], *arms[where])
            bench.targets[name] = (port, path, lambda s=steer: s.to(0, 0))
            bench.targets[f"{name}_split_5"] = (port, path, lambda s=steer: s.to(5, 0))
            bench.targets[f"{name}_shadow_100"] = (port, path, lambda s=steer: s.to(0, 100))
        steer = Steering(process, bases["process"], *arms["process"])

        def alone(shadow: float) -> Callable[[], None]:
            steer.to(0, shadow)
            return apart(PROCESSES[process])

        bench.targets["fairlead_process_apart"] = (process, path, lambda: alone(0))
        bench.targets["fairlead_process_shadow_100_apart"] = (process, path, lambda: alone(100))
        bench.targets["ray_tuned"] = (tuned, "/predict", None)
        bench.targets["ray_default"] = (default, "/predict", None)
        for number in range(rounds):
            bench.round()
            say(f"round {number + 1} of {rounds}")
        for number in range(COST_ROUNDS):
            bench.cost_round()
            say(f"round {number + 1} of {COST_ROUNDS} of what a candidate costs")
    return results(bench, rounds, seconds)


def results(bench: Bench, rounds: int, seconds: float) -> dict[str, Any]:
    """Medians, ratios and goals."""
    ratios = {
        f"{name} / {peer}, {count} connections": bench.ratio(name, peer, count)
        for name, peer in (
            ("fairlead_process", "starlette"),
            ("fairlead_ray", "ray_tuned"),
            ("fairlead_ray", "ray_default"),
            *COSTS,
        )
        for count in CONNECTIONS
    }
    goals: list[dict[str, Any]] = []
    for name, peer, bound in (
        ("fairlead_process", "starlette", 0.6),
        ("fairlead_ray", "ray_tuned", 1.0),
        ("fairlead_ray", "ray_default", 15.0),
        ("fairlead_process_split_5", "fairlead_process", 0.95),
        ("fairlead_ray_split_5", "fairlead_ray", 0.95),
        ("fairlead_process_shadow_100_apart", "fairlead_process_apart", 0.95),
    ):
        value = bench.ratio(name, peer, 16)
        goals.append(_goal(f"{name} / {peer}, 16 connections, rps", value, f">= {bound}", value >= bound))
    for peer in ("fairlead_process", "fairlead_ray"):
        value = bench.longer(f"{peer}_split_5", peer, 1)
        goals.append(_goal(f"{peer}_split_5 - {peer}, 1 connection, p50 ms", value, "<= 0.05", value <= 0.05))
    return {
        "rounds": rounds,
        "seconds_each": seconds,
        "rounds_of_costs": COST_ROUNDS,
        "medians": bench.medians(),
        "ratios": ratios,
        "goals": goals,
    }


def _goal(name: str, value: float, goal: str, met: bool) -> dict[str, Any]:
    return {"name": name, "value": value, "goal": goal, "met": met}


def main() -> None:
    """Parse arguments; a role serves, anything else compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--role", help=argparse.SUPPRESS)
    parser.add_argument("--base", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role:
        signal.pthread_sigmask(
            signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT} if args.role.startswith("ray") else set()
        )
        run_role(args.role, args.base, args.port)
        return
    found = compare(args.rounds, args.seconds, lambda line: print(line, file=sys.stderr, flush=True))
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
