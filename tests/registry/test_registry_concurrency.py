"""Many writers at once, and writers that die: nothing acknowledged is lost."""

import json
import multiprocessing
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fairlead.registry.registry import Registry
from fairlead.store import open_store

DEADLINE_SECONDS = 120.0


def digest(*parts: object) -> str:
    import hashlib

    return "sha256:" + hashlib.sha256(repr(parts).encode()).hexdigest()


def write_many(uri: str, base: Path, worker: int, writes: int) -> None:
    """Register, tag and promote, in turns; keep what was acknowledged."""
    store = open_store(uri, base)
    registry = Registry(store, "flights")
    acknowledged = []
    mine = registry.register(f"b/{worker}", digest(worker, 0), f"run-{worker}-0", {}, f"worker-{worker}", "race")
    acknowledged.append(["register", mine.number])
    for turn in range(1, writes):
        if turn % 3 == 0:
            registry.set_tag(mine.number, "turn", str(turn), f"worker-{worker}", "race")
            acknowledged.append(["tag", mine.number, str(turn)])
        elif turn % 7 == 0:
            registry.set_tag(mine.number, "seven", str(turn), f"worker-{worker}", "race")
            acknowledged.append(["tag", mine.number, str(turn)])
        else:
            made = registry.register(f"b/{worker}", digest(worker, turn), f"run-{worker}-{turn}", {}, "w", "race")
            acknowledged.append(["register", made.number])
    store.write(f"acknowledged/{worker}.json", json.dumps(acknowledged).encode())


def race(uri: str, base: Path, workers: int, writes: int) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=write_many, args=(uri, base, worker, writes)) for worker in range(workers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(DEADLINE_SECONDS)
    assert [process.exitcode for process in processes] == [0] * workers
    store = open_store(uri, base)
    registry = Registry(store, "flights")
    # Every write is one entry, and the chain over all of them holds.
    assert registry.verify() == workers * writes
    versions = registry.versions()
    assert [version.number for version in versions] == list(range(1, len(versions) + 1))
    told = [entry for key in store.list("acknowledged/") for entry in json.loads(store.read(key))]
    numbers = [entry[1] for entry in told if entry[0] == "register"]
    assert sorted(numbers) == [version.number for version in versions]
    assert len(told) == workers * writes


@pytest.mark.slow
def test_sixteen_processes_with_fifty_writes_each_lose_nothing_in_a_folder(tmp_path: Path) -> None:
    race("store", tmp_path, workers=16, writes=50)


@pytest.mark.s3
def test_four_processes_with_ten_writes_each_lose_nothing_in_a_bucket(s3_store_uri: str, tmp_path: Path) -> None:
    race(s3_store_uri, tmp_path, workers=4, writes=10)


def test_only_one_of_racing_promotions_with_the_same_expectation_wins(tmp_path: Path) -> None:
    registry = Registry(open_store("store", tmp_path), "flights")
    for number in range(5):
        registry.register("b", digest(number), f"run-{number}", {}, "ada", "x")
    registry.set_alias("champion", 1, "ada", "bootstrap")
    context = multiprocessing.get_context("spawn")
    with context.Pool(4) as pool:
        won = pool.starmap(promote, [(tmp_path, candidate) for candidate in (2, 3, 4, 5)])
    assert sum(won) == 1
    assert registry.aliases()["champion"] == 2 + won.index(True)
    assert registry.verify() == 7


def promote(base: Path, candidate: int) -> bool:
    """Make `candidate` champion if version 1 still is."""
    from fairlead.errors import RegistryConflict

    try:
        Registry(open_store("store", base), "flights").set_alias("champion", candidate, "w", "race", expected=1)
    except RegistryConflict:
        return False
    return True


WRITER = """
import sys
from pathlib import Path
from fairlead.registry.registry import Registry
from fairlead.store import open_store
base, life = Path(sys.argv[1]), sys.argv[2]
registry = Registry(open_store("store", base), "flights")
for turn in range(100_000):
    run = f"run-{life}-{turn}"
    version = registry.register("bundles/flights/x", "sha256:" + "0" * 64, run, {}, "writer", "kill test")
    print(version.number, run, flush=True)
"""

KILLS = 24


@pytest.mark.timeout(180)
def test_a_writer_killed_at_any_moment_leaves_a_whole_registry_with_all_it_acknowledged(tmp_path: Path) -> None:
    chance = random.Random(20_260_102)
    acknowledged: dict[int, str] = {}
    for life in range(KILLS):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(life)], stdout=subprocess.PIPE, bufsize=0
        )
        assert writer.stdout is not None
        told = read_until_first_line(writer)
        # Then for some 0 to 30 ms more: in the middle of reading, staging, syncing or renaming.
        end = time.monotonic() + chance.random() * 0.03
        while time.monotonic() < end:
            told += read_available(writer)
        writer.send_signal(signal.SIGKILL)
        told += writer.stdout.read()
        writer.stdout.close()
        writer.wait()
        # A line that was cut off was not acknowledged.
        for line in told.decode().splitlines(keepends=True):
            if line.endswith("\n"):
                number, run = line.split()
                acknowledged[int(number)] = run
        registry = Registry(open_store("store", tmp_path), "flights")
        kept = {version.number: version.run for version in registry.versions()}
        assert acknowledged.items() <= kept.items()
        assert registry.verify() == len(kept)
    assert len(acknowledged) >= KILLS
    store = open_store("store", tmp_path)
    assert store.list() == ["registry/flights.json"]
    # What dead writers staged is swept by the next one.
    store.write("x", b"")
    assert list((tmp_path / "store" / ".staged").iterdir()) == []


def read_until_first_line(writer: "subprocess.Popen[bytes]") -> bytes:
    told = b""
    deadline = time.monotonic() + 60
    while b"\n" not in told and time.monotonic() < deadline:
        told += read_available(writer, 1.0)
    assert b"\n" in told
    return told


def read_available(writer: "subprocess.Popen[bytes]", wait_seconds: float = 0.001) -> bytes:
    assert writer.stdout is not None
    ready, _, _ = select.select([writer.stdout], [], [], wait_seconds)
    return writer.stdout.read(65536) or b"" if ready else b""
