"""What clients see when something breaks: replicas, candidates, shadows, load. Real Ray Serve, two replicas, open loop.

    make faults                                                  # all of it, about 25 minutes
    .venv/bin/python benchmarks/faults.py --only serving         # one part: serving, candidate, shadow, load

Failed: an answer other than 2xx, or none within 10 s. Late: a good answer after more than a second. Requests are sent
at a fixed rate, whether or not earlier ones were answered. Results go to benchmarks/faults.json and docs/faults.md.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "serve"))

from fault_world import FAULTS, FaultWorld, Seen, two_replicas  # noqa: E402
from faults_load import CALL_MS, overload, told_to_end  # noqa: E402
from server_process import free_port  # noqa: E402

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
        "3 / N of them at 95 % confidence. Load: goodput is what was answered, of what four clients were answered in",
        "a closed loop just before or after, whichever was more; recovered: until there is a second in which no more",
        "than one request in a hundred is refused, or takes longer than twice the p99 before and 50 ms. The client",
        "takes its cores from the same machine; `model waited` is the share of the overload in which the model wanted",
        "a core and had none, whoever had it.",
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
    parser.add_argument("--call-ms", type=float, action="append", help="of the model under overload (default: 12)")
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
            rows = []
            for call_ms in arguments.call_ms or [CALL_MS]:
                rows.append(overload(base / f"load-{call_ms:g}", address, port, say, arguments.seconds, call_ms))
            keep("load", [*rows, told_to_end(say)])
    raise SystemExit(any(row["failed"] for name in wanted for row in results[name]["rows"]))


if __name__ == "__main__":
    main()
