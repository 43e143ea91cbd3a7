"""`make planted`: what is found of 40 kinds of anomaly, leak, skew and drift planted at known places, what is accused
falsely, by Fairlead and by the peers, which run in environments of their own. Writes docs/planted.md and .json.

    python benchmarks/planted.py                         # 3 seeds of each kind, 200 clean sets
    python benchmarks/planted.py --seeds 1 --clean 20    # a minute; writes nothing
    python benchmarks/planted.py --peers FOLDER          # and the peers, installed below FOLDER: peer_environments.py

Found means: something is said about a place where the kind was planted. Falsely accused means: something is said about
another place, or about a clean set. Every tool sees the same rows.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from peer_environments import peer_environments
from planted_leaks import LEAKS, VARIANTS, planted_leak
from planted_worlds import BATCH, WINDOWS, Case, clean, planted_windows

HERE = Path(__file__).resolve()
DOCS = HERE.parents[1] / "docs"
PEERS = ("evidently", "evidently-drift", "great-expectations", "whylogs", "tensorflow-data-validation", "deepchecks")
ROWS = 4000

Outcome = dict[str, Any]


def build(kind: str, family: str, seed: int) -> tuple[Case, ...]:
    """The case, or the two of a clean set."""
    if family == "clean":
        return clean(seed, ROWS)
    return (planted_leak(kind, seed, ROWS),) if family == "leak" else (planted_windows(kind, seed, ROWS),)


def plans(seeds: int, num_clean: int) -> Iterator[tuple[str, str, int]]:
    """(kind, family, seed) of every set."""
    for kind, (family, _) in WINDOWS.items():
        yield from ((kind, family, seed) for seed in range(seeds))
    for kind in LEAKS:
        yield from ((kind, "leak", seed) for seed in range(seeds))
    yield from (("clean", "clean", 1000 + seed) for seed in range(num_clean))


def judge(case: Case, said: dict[str, str]) -> Outcome:
    """Found, and what was accused beside it."""
    places = set(case.places)
    hits = [place for place in said if place in places]
    return {
        "kind": case.kind,
        "family": case.family,
        "setting": case.setting,
        "seed": case.seed,
        "found": bool(hits),
        "said": said[hits[0]] if hits else "",
        "others": {place: text for place, text in said.items() if place not in places},
    }


def with_fairlead(plan: tuple[str, str, int]) -> list[Outcome]:
    """One set through Fairlead."""
    from planted_fairlead import accuse

    outcomes = []
    for case in build(*plan):
        said, refused = accuse(case)
        outcomes.append({**judge(case, said), "refused": refused})
    return outcomes


# --- peers -----------------------------------------------------------------------------------------------------------
def write_cases(cases: list[Case], folder: Path) -> None:
    """The sets as Parquet: reference and current, or the training table cut in two at random (or in time)."""
    import numpy as np

    for number, case in enumerate(cases):
        place = folder / f"{number:04d}"
        place.mkdir()
        first, second = case.reference, case.current
        if case.training is not None:
            count = case.training.num_rows
            in_time = case.data["split"]["by"] == "time"
            order = np.arange(count) if in_time else np.random.default_rng(7).permutation(count)
            if "entity" in case.data and case.data["split"]["by"] == "group":
                names = case.training[case.data["entity"]].to_pylist()
                held = {name: hash_of(name) for name in set(names)}
                order = np.array(sorted(range(count), key=lambda i: held[names[i]]))
            cut = int(0.8 * count)
            first, second = case.training.take(pa.array(order[:cut])), case.training.take(pa.array(order[cut:]))
        pq.write_table(first, place / "reference.parquet")
        pq.write_table(second, place / "current.parquet")
        facts = {
            "setting": case.setting,
            "numeric": case.numeric,
            "categorical": case.categorical,
            "entity": case.data.get("entity"),
        }
        (place / "case.json").write_text(json.dumps(facts))


def hash_of(name: str) -> int:
    """An order of names that has nothing to do with them."""
    import hashlib

    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def with_peer(peer: str, python: Path, cases: list[Case], folder: Path, limit_s: float) -> tuple[list[Outcome], str]:
    """(outcomes of the cases that the peer got through in time, its version or why it could not)."""
    out = folder / f"{peer}.jsonl"
    command = [str(python), str(HERE.with_name("planted_peers.py")), peer, str(folder), str(out)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
        problem = "" if done.returncode == 0 else done.stderr.strip().splitlines()[-1][:200]
    except subprocess.TimeoutExpired:
        problem = f"stopped after {limit_s:.0f} s"
    lines = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    version = lines[0]["version"] if lines else ""
    outcomes = []
    for line in lines[1:]:
        case, said = cases[line["case"]], line["said"]
        if case.setting == "training":  # the two parts of a split are no two batches: one is smaller on purpose
            said.pop(BATCH, None)
        outcomes.append(judge(case, said))
    return outcomes, f"{version}{'; ' + problem if problem else ''}"


def order_for_peers(cases: list[Case]) -> list[Case]:
    """A clean one after every three planted ones of all families, so that a slow peer is cut off among alike sets."""
    planted = [case for case in cases if case.family != "clean"]
    planted.sort(key=lambda case: (hash_of(case.kind), case.seed))
    clean_ones = iter([case for case in cases if case.family == "clean"])
    ordered = []
    for number, case in enumerate(planted, 1):
        ordered.append(case)
        if number % 3 == 0:
            ordered += islice(clean_ones, 1)
    return [*ordered, *clean_ones]


# --- the run ---------------------------------------------------------------------------------------------------------
def main() -> int:
    """Exit code 1 when Fairlead finds fewer than 38 kinds, or accuses more clean sets than its stated rate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="sets of each kind")
    parser.add_argument("--clean", type=int, default=200, help="clean sets")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--peers", type=Path, help="folder of the peers' environments, made where missing")
    parser.add_argument("--no-peers", action="store_true", help="Fairlead alone")
    parser.add_argument("--peer-clean", type=int, default=30, help="clean sets for the peers")
    parser.add_argument("--peer-seconds", type=float, default=1500, help="time for each peer")
    parser.add_argument("--out", type=Path, help="where planted.md and planted.json go; default docs/ for a full run")
    options = parser.parse_args()
    started = time.monotonic()
    todo = list(plans(options.seeds, options.clean))
    results: dict[str, list[Outcome]] = {"fairlead": []}
    with ProcessPoolExecutor(options.processes) as pool:
        for number, outcomes in enumerate(pool.map(with_fairlead, todo, chunksize=4), 1):
            results["fairlead"] += outcomes
            if number % 20 == 0 or number == len(todo):
                print(f"{number} of {len(todo)} sets, {time.monotonic() - started:.0f} s", flush=True)
    notes: dict[str, str] = {"fairlead": f"{time.monotonic() - started:.0f} s"}
    if options.peers and not options.no_peers:
        _peers(options, results, notes)
    from planted_page import page

    text, facts = page(results, notes, WINDOWS, LEAKS, VARIANTS, options.seeds, options.clean)
    print(text)
    out = options.out or (DOCS if options.seeds >= 3 and options.clean >= 200 else None)
    if out is not None:
        (out / "planted.md").write_text(text)
        (out / "planted.json").write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
    return 0 if facts["kinds_found"] >= 38 and facts["clean_accused"] <= facts["clean_allowed"] else 1


def _peers(options: argparse.Namespace, results: dict[str, list[Outcome]], notes: dict[str, str]) -> None:
    plan = list(plans(1, 0)) + [("clean", "clean", 1000 + seed) for seed in range(options.peer_clean)]
    cases = order_for_peers([case for one in plan for case in build(*one)])
    pythons, missing = peer_environments(dict.fromkeys(peer.removesuffix("-drift") for peer in PEERS), options.peers)
    with tempfile.TemporaryDirectory() as name:
        write_cases(cases, Path(name))

        def run(peer: str) -> None:
            home = peer.removesuffix("-drift")
            if home in missing:
                notes[peer] = missing[home]
                return
            began = time.monotonic()
            results[peer], note = with_peer(peer, pythons[home], cases, Path(name), options.peer_seconds)
            seconds = time.monotonic() - began
            notes[peer] = f"{note}; {len(results[peer])} of {len(cases)} sets in {seconds:.0f} s"
            print(f"{peer}: {notes[peer]}", flush=True)

        with ThreadPoolExecutor(options.processes) as pool:
            list(pool.map(run, PEERS))


if __name__ == "__main__":
    sys.exit(main())
