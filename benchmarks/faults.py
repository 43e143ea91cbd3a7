"""What clients see when something breaks: replicas, candidates, shadows, load. Real Ray Serve, two replicas, open loop.

    make faults                                                  # all of it, about 25 minutes
    .venv/bin/python benchmarks/faults.py --only serving         # one part: serving, candidate, shadow, load

Failed: an answer other than 2xx, or none within 10 s. Late: a good answer after more than a second. Requests are sent
at a fixed rate, whether or not earlier ones were answered. Results go to benchmarks/faults.json and docs/faults.md.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "serve"))

from fault_world import FAULTS, MODEL, FaultWorld, Seen, two_replicas  # noqa: E402
from server_process import free_port, server_process  # noqa: E402
from tiny_models import ROW, write_bundle  # noqa: E402

from fairlead.records.release import Release  # noqa: E402
from fairlead.spec.serve import RequestLog, Serve  # noqa: E402
from fairlead.wiring.local_ray import ensure_local_ray, stop_local_ray, use_environment  # noqa: E402

PARTS = ("serving", "candidate", "shadow", "load")
WEIGHT = 25.0
Row = dict[str, Any]
Say = Callable[[str], None]


def row_of(name: str, seen: Seen, **more: Any) -> Row:
    """One line of the table."""
    line: Row = {
        "what": name,
        "requests": seen.requests,
        "failed": seen.failed,
        "late": seen.late,
        "fallbacks": seen.fallbacks,
        "p50 ms": round(seen.p50_ms, 2),
        "p99 ms": round(seen.p99_ms, 2),
        "max ms": round(seen.max_ms, 1),
    }
    if seen.failures:
        line["failures"] = seen.failures
    return line | more


# --- replicas ---------------------------------------------------------------------------------------------------------
def serving(world: FaultWorld, rate: float, requests: int, say: Say) -> list[Row]:
    """What happens to the servers themselves."""
    seconds = requests / rate
    freeze = 30.0 if requests >= 3000 else 5.0
    stories: dict[str, tuple[Callable[[], object] | None, float]] = {
        "nothing happens": (None, rate),
        "replica killed, 5 times": (lambda: world.kill_replicas(5, seconds / 20), min(rate, requests / 40)),
        f"replica frozen for {freeze:g} s": (lambda: world.freeze_replica(freeze), requests / (1.4 * freeze)),
        "rolling update": (lambda: world.redeploy(2, f"v{time.time():.0f}"), rate),
        "model swapped, 10 times": (lambda: world.swap_models(10, seconds / 20), rate),
        "replicas 2 -> 4 -> 1": (lambda: world.scale((4, 1), seconds / 5), rate),
    }
    found = []
    for name, (happens, per_second) in stories.items():
        world.settle()
        seen = world.during(happens, rate=per_second, requests=requests)
        found.append(row_of(name, seen, **{"requests / s": round(per_second)}))
        say(_line(found[-1]))
    world.redeploy(2, "scaled")
    world.settle()
    return found


# --- candidates -------------------------------------------------------------------------------------------------------
def candidate(world: FaultWorld, rate: float, requests: int, say: Say) -> list[Row]:
    """A candidate that answers a quarter of the keys, and what it does to them and to everybody else."""
    return _with_faults(world, rate, requests, say, weight=WEIGHT, shadow=0.0)


def shadow(world: FaultWorld, rate: float, requests: int, say: Say) -> list[Row]:
    """A candidate that gets a copy of every request."""
    return _with_faults(world, rate, requests, say, weight=0.0, shadow=100.0)


def _with_faults(world: FaultWorld, rate: float, requests: int, say: Say, *, weight: float, shadow: float) -> list[Row]:
    found = []
    for fault in ("", *FAULTS):
        # What it is compared with is taken just before: the machine may change from one minute to the next.
        alone = world.during(None, rate=rate, requests=requests // 4)
        arm = world.new_version()
        world.put(world.first, arm, weight, shadow)
        if fault:
            world.spoil(arm, fault)
        data = world.poisoned() if fault == "dies" else ""
        memory = _replica_mib(world)
        seen = world.during(None, rate=rate, requests=requests, data=data)
        p50, p99 = seen.of_champion_keys(arm.digest, weight)
        p50_alone, p99_alone = alone.of_champion_keys(arm.digest, weight)
        evidence = world.evidence()
        calls, pairs = evidence.candidate, evidence.pairs
        line = row_of(
            fault or "healthy",
            seen,
            **{
                "champion p50 ms": round(p50, 2),
                "alone p50 ms": round(p50_alone, 2),
                "champion p99 ms": round(p99, 2),
                "alone p99 ms": round(p99_alone, 2),
                "candidate keys failed": calls.failures.events if calls and weight else None,
                "candidate keys": calls.failures.n if calls and weight else None,
                "copies failed": pairs.shadow_failures.events if pairs and shadow else None,
                "copies dropped": pairs.dropped if pairs and shadow else None,
                "replica MiB": f"{memory:.0f} -> {_replica_mib(world):.0f}",
            },
        )
        if fault == "dies":
            line["kept away"] = world.counted("fairlead_candidate_kept_away_total")
        found.append({key: value for key, value in line.items() if value is not None})
        say(_line(found[-1]))
        world.put(world.first)
    return found


def _replica_mib(world: FaultWorld) -> float:
    """The largest resident memory of a replica."""
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in world.replicas()]
    return max(pages, default=0) * os.sysconf("SC_PAGE_SIZE") / 2**20


# --- load -------------------------------------------------------------------------------------------------------------
def load(base: Path, address: str, port: int, say: Say, seconds: float) -> list[Row]:
    """Four times what a slow model can do, on a replica of its own; and a server that is told to end."""
    spec = Serve(
        port=port,
        replicas=1,
        max_batch=1,
        max_queue=16,
        deadline_ms=1000,
        fallback="none",
        sticky="header:x-fairlead-key",
        log=RequestLog(rotate_seconds=1),
    )
    world = FaultWorld(base, address, spec, trips=round(0.012 / loop_seconds(base)))
    try:
        world.during(None, rate=20, requests=100)
        capacity = _capacity(world)
        say(f"capacity {capacity:.0f} requests per second")
        calm = world.during(None, rate=0.5 * capacity, requests=round(2.5 * capacity))
        rate = 4 * capacity
        begun = time.monotonic()
        seen = world.during(None, rate=rate, requests=round(rate * seconds))
        ended = begun + seconds
        good = sum(1 for sent, came, _, _ in seen.answers if begun <= came <= ended)
        after = world.during(None, rate=0.5 * capacity, requests=round(2.5 * capacity))
        refused = {status: count for status, count in seen.by_status.items() if status != "200"}
        line = row_of(
            f"4 x overload for {seconds:g} s",
            seen,
            **{
                "refused": refused,
                "goodput / capacity": round(good / seconds / capacity, 3),
                "retry-after": _retry_after(world, rate),
                "p99 ms before": round(calm.p99_ms, 1),
                "p99 ms in the 5 s after": round(after.p99_ms, 1),
                "failed after": after.failed,
            },
        )
        # Refusals with 429 or 503 are the point here.
        line["failed"] = sum(count for status, count in refused.items() if status not in ("429", "503"))
        line.pop("failures", None)
    finally:
        world.close()
    say(_line(line))
    return [line, _told_to_end(say)]


def loop_seconds(base: Path) -> float:
    """How long one turn of the slow graph's loop takes here."""
    from fairlead.serve.model import load_model
    from fairlead.store.opening import open_store

    store, turns = open_store("calibration", base), 20_000
    arm = write_bundle(store, base / "calibration-drafts", version=1, fault="hangs", trips=turns)
    return load_model(store, arm, base / "calibration-cache").measure_seconds() / turns


def _capacity(world: FaultWorld) -> float:
    """Answers per second of a few clients who ask again as soon as they are answered."""
    from fairlead.serve.client import ServingClient

    counts: list[int] = []
    until = time.monotonic() + 5

    def ask() -> None:
        done = 0
        with ServingClient(world.client.url, model=MODEL) as client:
            while time.monotonic() < until:
                client.infer([ROW])
                done += 1
        counts.append(done)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / 5


def _retry_after(world: FaultWorld, rate: float) -> str:
    """What the header of a refusal says while there are too many requests."""
    import http.client

    found: list[str | None] = []

    def look() -> None:
        host = world.client.url.removeprefix("http://")
        body = json.dumps({"instances": [ROW]})
        until = time.monotonic() + 10
        while not found and time.monotonic() < until:
            connection = http.client.HTTPConnection(host, timeout=10)
            connection.request("POST", f"/v2/models/{MODEL}/predict", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            if answer.status in (429, 503):
                found.append(answer.headers.get("retry-after"))
            connection.close()

    world.during(look, rate=rate, requests=round(4 * rate))
    return str(found[0]) if found else "no refusal seen"


def _told_to_end(say: Say) -> Row:
    """SIGTERM to `fairlead serve` while 20 requests of about two seconds are in flight, five times."""
    from fairlead.serve.client import ServingClient
    from fairlead.store.opening import open_store

    sent = answered = 0
    with tempfile.TemporaryDirectory() as folder:
        turn = loop_seconds(Path(folder))
    for _ in range(5):
        with tempfile.TemporaryDirectory() as folder:
            base = Path(folder)
            store = open_store("store", base)
            arm = write_bundle(store, base / "d", version=1, fault="hangs", trips=round(2 / turn))
            spec = Serve(port=free_port(), deadline_ms=9000, fallback="none", log=RequestLog(rotate_seconds=1))
            answers: list[int] = []
            with server_process(spec, Release(MODEL, 1, arm), base) as (client, process):

                def ask(url: str, answers: list[int]) -> None:
                    with ServingClient(url, model=MODEL, timeout_seconds=20) as asking:
                        asking.infer([ROW])
                        answers.append(1)

                threads = [threading.Thread(target=ask, args=(client.url, answers)) for _ in range(20)]
                for thread in threads:
                    thread.start()
                time.sleep(0.5)
                process.send_signal(signal.SIGTERM)
                for thread in threads:
                    thread.join()
            sent, answered = sent + 20, answered + len(answers)
    line = {"what": "SIGTERM, 20 in flight, 5 times", "requests": sent, "failed": sent - answered, "late": answered}
    say(_line(line))
    return line


# --- the whole --------------------------------------------------------------------------------------------------------
@contextmanager
def local_ray() -> Iterator[tuple[Path, str]]:
    """A Ray of its own, and the folder that it belongs to."""
    with tempfile.TemporaryDirectory(prefix="fairlead-faults-") as folder:
        base = Path(folder)
        use_environment(base)
        try:
            yield base, ensure_local_ray(base)
        finally:
            stop_local_ray(base)


def _line(row: Row) -> str:
    rest = "  ".join(f"{key} {value}" for key, value in row.items() if key != "what")
    return f"{row['what']:<32} {rest}"


def document(results: dict[str, Any]) -> str:
    """docs/faults.md."""
    lines = [
        "# What clients see when something breaks",
        "",
        "Written by `make faults` (benchmarks/faults.py) from benchmarks/faults.json; do not edit. Real Ray Serve on",
        "one machine with two replicas of the ingress, HAProxy in front. Requests are sent at a fixed rate, whether or",
        "not earlier ones were answered. Failed: an answer other than 2xx, or none within 10 s (under overload: other",
        "than 429 and 503). Late: a good answer after more than a second. No failure in N requests means fewer than",
        "3 / N of them at 95 % confidence.",
        "",
    ]
    total = sum(row["requests"] for part in results.values() for row in part["rows"])
    failed = sum(row["failed"] for part in results.values() for row in part["rows"])
    lines += [f"In all: {total:,} requests, {failed:,} failed.", ""]
    for name, part in results.items():
        columns = list(dict.fromkeys(key for row in part["rows"] for key in row if key != "failures"))
        lines += [
            f"## {name}",
            "",
            f"Taken at {part['at']} on {part['cores']} cores with `{part['command']}`. On average {part['load']} "
            "processes wanted a core: with more of them than cores, the times below tell of waiting for one.",
            "",
            "| " + " | ".join(columns) + " |",
            "|---|" + "---:|" * (len(columns) - 1),
        ]
        lines += ["| " + " | ".join(str(row.get(column, "")) for column in columns) + " |" for row in part["rows"]]
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """The command line. Exit code 1 when a request failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, action="append", help="one part; repeatable")
    parser.add_argument("--requests", type=int, default=10_000, help="per row (default: 10,000)")
    parser.add_argument("--rate", type=float, default=300.0, help="per second (default: 300)")
    parser.add_argument("--seconds", type=float, default=30.0, help="of overload (default: 30)")
    arguments = parser.parse_args()
    target = HERE / "faults.json"
    results: dict[str, Any] = json.loads(target.read_text()) if target.exists() else {}

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def keep(part: str, rows: list[Row]) -> None:
        options = f"--requests {arguments.requests} --rate {arguments.rate:g}"
        if part == "load":
            options = f"--seconds {arguments.seconds:g}"
        results[part] = {
            "rows": rows,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "cores": os.cpu_count(),
            "load": round(os.getloadavg()[1]),
            "command": f"benchmarks/faults.py --only {part} {options}",
        }
        ordered = {name: results[name] for name in PARTS if name in results}
        target.write_text(json.dumps(ordered, indent=2) + "\n")
        (HERE.parent / "docs" / "faults.md").write_text(document(ordered))

    wanted = arguments.only or PARTS
    with local_ray() as (base, address):
        port = free_port()
        if set(wanted) - {"load"}:
            world = FaultWorld(base, address, two_replicas(port))
            for name, part in (("serving", serving), ("candidate", candidate), ("shadow", shadow)):
                if name in wanted:
                    say(f"{name}:")
                    keep(name, part(world, arguments.rate, arguments.requests, say))
            world.close()
        if "load" in wanted:
            say("load:")
            keep("load", load(base / "load", address, port, say, arguments.seconds))
    raise SystemExit(any(row["failed"] for name in wanted for row in results[name]["rows"]))


if __name__ == "__main__":
    main()
