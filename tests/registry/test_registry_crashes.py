"""Each write of the registry goes wrong in each way: afterwards it is as before, or as if nothing had gone wrong."""

import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fairlead.errors import StaleGeneration, StoreError
from fairlead.registry.registry import Registry
from fairlead.store import Store, open_store
from fairlead.testing.faults import Crash, Fault, FaultStore
from fairlead.testing.memory_store import MemoryStore


class FixedClock:
    """A clock that stands still and never waits."""

    def now(self) -> datetime:
        return datetime(2026, 1, 2, tzinfo=UTC)

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        pass


DIGEST = "sha256:" + "a" * 64
CALLS: tuple[Callable[[Registry], Any], ...] = (
    lambda registry: registry.register("b/1", DIGEST, "run-1", {}, "ada", "first"),
    lambda registry: registry.set_alias("champion", 1, "ada", "bootstrap", {"rule": "none"}, expected=None),
    lambda registry: registry.register("b/2", DIGEST, "run-2", {}, "ada", "second"),
    lambda registry: registry.set_alias("candidate", 2, "engine", "rollout", expected=None),
    lambda registry: registry.set_tag(2, "owner", "team-a", "ada", "asked"),
    lambda registry: registry.set_alias("champion", 2, "engine", "passed", expected=1),
    lambda registry: registry.set_alias("candidate", None, "engine", "done", expected=2),
)


def picture(store: Store) -> tuple[Any, ...]:
    """All that a reader sees, without the identities of the calls."""
    registry = Registry(store, "flights", FixedClock())
    assert registry.verify() == len(registry.history())
    told = [(entry.sequence, entry.action, entry.why, dict(entry.change)) for entry in registry.history()]
    return registry.versions(), registry.aliases(), told


def pictures_of_a_quiet_day(tmp_path: Path) -> list[tuple[Any, ...]]:
    store = FaultStore(open_store("quiet", tmp_path))
    seen = [picture(store)]
    for number, call in enumerate(CALLS, start=1):
        call(Registry(store, "flights", FixedClock()))
        seen.append(picture(store))
        assert len(store.writes) == number  # one write per change: what the sweep below counts on
    return seen


def a_day_with(faults: Mapping[int, Fault], inner: Store, quiet: list[tuple[Any, ...]]) -> bool:
    """All changes, each tried again after a crash; True when there was one."""
    store = FaultStore(inner, faults)
    crashed = False
    for number, call in enumerate(CALLS, start=1):
        while True:
            try:
                call(Registry(store, "flights", FixedClock()))
                break
            except Crash:
                crashed = True
                # A new process sees the state before or after this change, and does it (again).
                assert picture(inner) in (quiet[number - 1], quiet[number])
        assert picture(inner) == quiet[number]
    return crashed


@pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: fault.value)
@pytest.mark.parametrize("at", range(1, len(CALLS) + 1))
def test_a_write_that_goes_wrong_leaves_the_old_or_the_new_and_the_next_try_ends_it(
    tmp_path: Path, fault: Fault, at: int
) -> None:
    quiet = pictures_of_a_quiet_day(tmp_path)
    crashed = a_day_with({at: fault}, open_store("harmed", tmp_path), quiet)
    assert crashed == (fault in (Fault.CRASH_BEFORE, Fault.CRASH_AFTER))


def test_two_writes_that_go_wrong_change_nothing_either(tmp_path: Path) -> None:
    quiet, rng = pictures_of_a_quiet_day(tmp_path), random.Random(11)
    for number in range(200):
        first, second = sorted(rng.sample(range(1, len(CALLS) + 3), 2))
        faults = {first: rng.choice(list(Fault)), second: rng.choice(list(Fault))}
        try:
            a_day_with(faults, MemoryStore(), quiet)
        except AssertionError as error:
            raise AssertionError(f"run {number}: {faults}") from error


@pytest.mark.s3
@pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: fault.value)
def test_a_bucket_behaves_the_same(s3_store_uri: str, tmp_path: Path, fault: Fault) -> None:
    quiet = pictures_of_a_quiet_day(tmp_path)
    for at in (1, 2, 6):
        a_day_with({at: fault}, open_store(f"{s3_store_uri}/{at}", tmp_path), quiet)


def test_a_stale_controller_finds_the_fence(tmp_path: Path) -> None:
    registry = Registry(open_store("fenced", tmp_path), "flights", FixedClock())
    for number in (1, 2):
        registry.register(f"b/{number}", DIGEST, f"run-{number}", {}, "ada", "a test")
    registry.set_alias("champion", 1, "ada", "first")
    registry.set_alias("candidate", None, "engine", "rolled back", expected=None, fence=7)
    with pytest.raises(StaleGeneration, match="generation 7, this one is 6"):
        registry.set_alias("champion", 2, "engine", "promoted, late", expected=1, fence=6)
    assert registry.aliases() == {"champion": 1}
    registry.set_alias("candidate", None, "engine", "rolled back, again", expected=None, fence=7)
    assert len(registry.history()) == 4, "the same decision again is no entry"
    registry.set_alias("champion", 2, "bob", "by hand, which knows no generations")
    assert registry.verify() == 5


def test_a_store_that_keeps_failing_ends_in_its_own_error(tmp_path: Path) -> None:
    store = FaultStore(open_store("store", tmp_path), dict.fromkeys(range(1, 50), Fault.FAIL_BEFORE))
    with pytest.raises(StoreError, match="on purpose"):
        CALLS[0](Registry(store, "flights", FixedClock()))
    assert len(store.writes) < 10
    assert store.list() == []
