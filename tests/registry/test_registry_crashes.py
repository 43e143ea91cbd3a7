"""Each write of the registry goes wrong in each way: afterwards it is as before, or as if nothing had gone wrong."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fairlead.errors import StoreError
from fairlead.registry.registry import Registry
from fairlead.store import Store, open_store
from fairlead.testing.faults import Crash, Fault, FaultStore


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


@pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: fault.value)
@pytest.mark.parametrize("at", range(1, len(CALLS) + 1))
def test_a_write_that_goes_wrong_leaves_the_old_or_the_new_and_the_next_try_ends_it(
    tmp_path: Path, fault: Fault, at: int
) -> None:
    quiet = pictures_of_a_quiet_day(tmp_path)
    inner = open_store("harmed", tmp_path)
    store = FaultStore(inner, {at: fault})
    crashed = False
    for number, call in enumerate(CALLS, start=1):
        try:
            call(Registry(store, "flights", FixedClock()))
        except Crash:
            crashed = True
            # A new process sees the state before or after this change, and does it (again).
            assert picture(inner) in (quiet[number - 1], quiet[number])
            call(Registry(store, "flights", FixedClock()))
        assert picture(inner) == quiet[number]
    assert crashed == (fault in (Fault.CRASH_BEFORE, Fault.CRASH_AFTER))


def test_a_store_that_keeps_failing_ends_in_its_own_error(tmp_path: Path) -> None:
    store = FaultStore(open_store("store", tmp_path), dict.fromkeys(range(1, 50), Fault.FAIL_BEFORE))
    with pytest.raises(StoreError, match="on purpose"):
        CALLS[0](Registry(store, "flights", FixedClock()))
    assert len(store.writes) < 10
    assert store.list() == []
