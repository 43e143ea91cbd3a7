"""``python -m crash_sweep``: every run, or one of them by its name. Exit code 1 when an invariant does not hold."""

import argparse
import logging
import sys
import time
from collections import Counter
from collections.abc import Iterator

from crash_sweep import runs
from crash_sweep.invariants import Violation
from crash_sweep.scenarios import SCENARIOS
from crash_sweep.violations import violated_on_all_cores

PAIRS, STALE = 1000, 400


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="crash_sweep", description=__doc__)
    parser.add_argument("--replay", metavar="NAME", help="one run, as a violation names it, with the story of it")
    parser.add_argument("--only", default="", help="runs whose name holds this")
    parser.add_argument("--seed", type=int, default=1, help="what pairs of faults are drawn with (default: 1)")
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    return _replay(asked.replay) if asked.replay else _sweep(asked.only, asked.seed)


def _sweep(only: str, seed: int) -> int:
    started = time.perf_counter()
    references = runs.references()
    groups: dict[str, Iterator[runs.Run]] = {
        "every write x every way": runs.every_write(references),
        "pairs of faults": runs.pairs(references, PAIRS, seed),
        "two hosts": runs.two_hosts(references),
        "stale answers": runs.stale_reads(references, STALE),
        "clock set by an hour": runs.clocks(references),
    }
    total, violations = 0, 0
    print(f"{len(SCENARIOS)} scenarios, {len(references)} with their backends")
    for name, group in groups.items():
        begun, chosen = time.perf_counter(), [run for run in group if only in run.name]
        found = violated_on_all_cores(chosen)
        print(f"{name:<26} {len(chosen):>6,} runs {time.perf_counter() - begun:>7.1f} s {len(found):>4} violations")
        for run, why in found:
            print(f"  {why}\n    make sweep ARGS=\"--replay '{run.name}'\"")
        total, violations = total + len(chosen), violations + len(found)
    print(f"{'together':<26} {total:>6,} runs {time.perf_counter() - started:>7.1f} s {violations:>4} violations")
    return 1 if violations else 0


def _replay(name: str) -> int:
    run = runs.parse(name)
    reference = runs.reference(run.scenario, run.backend)
    try:
        world = runs.check(run, {(run.scenario, run.backend): reference}, told=_say)
    except Violation as error:
        print(f"VIOLATION {error}")
        return 1
    for decision in world.load().decisions:
        print(f"{decision.at[11:21]} #{decision.generation} {decision.phase_after.value}: {decision.sentence[:120]}")
    print(f"ended {world.load().phase.value}, {world.hosts} hosts, writes: {dict(Counter(world.faults.log))}")
    return 0


def _say(line: str) -> None:
    print(line)


if __name__ == "__main__":
    sys.exit(main())
