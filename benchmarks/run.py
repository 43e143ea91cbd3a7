"""Every figure that the documentation quotes, each side by side with its peer in the same run.

    make bench                          # all of it, about 20 minutes on two cores
    .venv/bin/python benchmarks/run.py --only data --rounds 5

Each benchmark runs in a process of its own and prints one JSON object. The results, with the machine and the goals,
go to benchmarks/results.json, and a table to the terminal. Ratios count; absolute figures differ between machines.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PARTS = ("cli", "data", "transform", "train", "serve", "evidence")


def command_line(rounds: int) -> dict[str, Any]:
    """Seconds of `fairlead --help` as a whole process, against a bare interpreter."""
    fairlead = Path(sys.executable).parent / "fairlead"
    times: dict[str, list[float]] = {"fairlead --help": [], "python -c pass": []}
    for _ in range(rounds):
        for name, command in (
            ("fairlead --help", [fairlead, "--help"]),
            ("python -c pass", [sys.executable, "-c", "pass"]),
        ):
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            times[name].append(time.perf_counter() - started)
    medians = {name: round(statistics.median(values), 4) for name, values in times.items()}
    goal = {"name": "fairlead --help, seconds", "value": medians["fairlead --help"], "goal": "<= 0.3"}
    return {"rounds": rounds, "seconds": medians, "goals": [goal | {"met": medians["fairlead --help"] <= 0.3}]}


def part(name: str, rounds: int) -> dict[str, Any]:
    """One benchmark's JSON."""
    if name == "cli":
        return command_line(max(rounds, 5))
    command = [sys.executable, str(HERE / f"{name}.py"), "--rounds", str(rounds)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"benchmarks/{name}.py ended with exit code {done.returncode}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    cpu = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.processor())  # fmt: skip
    return {"cpu": cpu, "cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()}


def show(results: dict[str, Any]) -> None:
    """The goals as a table."""
    print(f"{'figure':<64} {'measured':>12}  {'goal':<10}")
    for result in results["parts"].values():
        for goal in result.get("goals", []):
            mark = "" if goal["met"] else "   not met"
            print(f"{goal['name']:<64} {goal['value']:>12.4g}  {goal['goal']:<10}{mark}")


def figures(name: str, value: Any) -> list[str]:
    """One entry of a result: a line, or a table when it is a mapping (of mappings)."""
    if not isinstance(value, dict) or not value:
        return [f"{name}: {value}", ""]
    value = flat(value)
    nested = all(isinstance(entry, dict) for entry in value.values())
    columns = list(next(iter(value.values()))) if nested else ["value"]
    lines = [f"| {name} | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for key, entry in value.items():
        cells = [str(entry.get(column, "")) for column in columns] if nested else [str(entry)]
        lines.append(f"| {key} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def flat(value: dict[str, Any]) -> dict[str, Any]:
    """Mappings of mappings of mappings with the outer two keys joined."""
    if not all(isinstance(e, dict) and e and all(isinstance(x, dict) for x in e.values()) for e in value.values()):
        return value
    return {f"{outer}, {inner}": entry for outer, rows in value.items() for inner, entry in rows.items()}


def document(results: dict[str, Any]) -> str:
    """docs/performance.md: every goal with what was measured, and the figures behind it."""
    where = results["machine"]
    lines = [
        "# Performance",
        "",
        "Written by `make bench` (benchmarks/run.py) from benchmarks/results.json; do not edit. Each figure was taken",
        "side by side with its peer in the same run, as the median of interleaved rounds. Ratios count; absolute",
        "figures differ between machines.",
        "",
        f"Machine: {where['cpu']}, {where['cores']} cores, Python {where['python']}.",
        "",
        "| figure | measured | goal | |",
        "|---|---:|---|---|",
    ]
    for part_name in PARTS:
        for goal in results["parts"].get(part_name, {}).get("goals", []):
            mark = "met" if goal["met"] else "**not met**"
            lines.append(f"| {goal['name']} | {goal['value']:.4g} | {goal['goal']} | {mark} |")
    for part_name in PARTS:
        result = results["parts"].get(part_name)
        if result is None:
            continue
        lines += [
            "",
            f"## {part_name}",
            "",
            f"Taken at {result['at']} with `benchmarks/run.py --only {part_name}`.",
            "",
        ]
        for key, value in result.items():
            if key not in ("goals", "at", "name"):
                lines += figures(key.replace("_", " "), value)
        tried = HERE / f"{part_name}_tried.md"
        if tried.exists():
            lines += tried.read_text().splitlines()
    return "\n".join(lines) + "\n"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: 5)")
    parser.add_argument("--only", choices=PARTS, action="append", help="one part; repeatable")
    arguments = parser.parse_args()
    target = HERE / "results.json"
    results = json.loads(target.read_text()) if target.exists() else {"parts": {}}
    for name in arguments.only or PARTS:
        print(f"{name} ...", file=sys.stderr, flush=True)
        results["parts"][name] = part(name, arguments.rounds) | {"at": datetime.now(UTC).isoformat(timespec="seconds")}
        results["machine"] = machine()
        target.write_text(json.dumps(results, indent=2) + "\n")
        (HERE.parent / "docs" / "performance.md").write_text(document(results))
    show(results)


if __name__ == "__main__":
    main()
