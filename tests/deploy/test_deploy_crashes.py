"""Killing the loop at every write, in every way a write can go wrong: the end is the same, and nothing unsafe happens
on the way. Two controllers at once: the stale one is refused."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from deploy_world import CANDIDATE, CHAMPION, MODEL, World, plan

from fairlead.deploy.backends.serving import ServingEffects
from fairlead.deploy.rollout.engine import settled, wish
from fairlead.deploy.rollout.lease import LEASE_SECONDS, host_of
from fairlead.deploy.rollout.loop import RolloutLoop
from fairlead.deploy.rollout.start import load, send_command
from fairlead.errors import RolloutError, StaleGeneration, StoreError
from fairlead.records.rollout import Phase, RolloutRecord
from fairlead.testing.fake_serving import Behaviour

MODES = ("killed before", "killed after", "error", "reply lost", "delivered twice")
SMALL = {
    "shadow": {"min_requests": 60},
    "steps": [20, 50],
    "canary": {"min_requests": 30, "max_error_rate_increase": 0.2, "max_slow_rate": 0.3, "bad_failure_rate": 0.2},
}


class Killed(BaseException):
    """The process is gone."""


class Faults:
    """Counts writes, and spoils the one with number `at` in the way `mode`; checks each write for safety."""

    def __init__(self, at: int = -1, mode: str = "") -> None:
        self.at, self.mode, self.writes = at, mode, 0
        self.world: World | None = None

    def __call__(self, operation: str, key: str, effect: Callable[[], Any]) -> Any:
        number, self.writes = self.writes, self.writes + 1
        if operation == "put":
            effect = self._checked(effect)
        if number != self.at:
            return effect()
        if self.mode == "killed before":
            raise Killed
        if self.mode == "error":
            raise StoreError(f"{operation} {key} failed")
        result = effect()
        if self.mode == "killed after":
            raise Killed
        if self.mode == "reply lost":
            raise StoreError(f"{operation} {key}: no answer")
        if operation in ("put", "alias"):
            effect()
        return result

    def _checked(self, effect: Callable[[], Any]) -> Callable[[], Any]:
        def checked() -> Any:
            world = self.world
            assert world is not None
            before = world.serving.evidence()
            result = effect()
            release, record = world.stored_release(), world.load()
            assert release is not None
            if release.candidate_weight > before.release.candidate_weight:
                assert before.candidate_ready, "weight went to a candidate that was not ready"
            if record.phase in (Phase.ABORTING, Phase.ABORTED):
                assert release.candidate is None, "traffic was given to a candidate that is being rolled back"
                assert release.champion == CHAMPION
            return result

        return checked


@dataclass(frozen=True)
class Scenario:
    """A story with its end."""

    behaviour: Behaviour
    changes: dict[str, Any]
    end: Phase
    rate: float = 300.0
    event: Callable[[World, RolloutRecord], None] | None = None
    when: Phase | None = None
    noise: float = 0.05


def abort(world: World, record: RolloutRecord) -> None:
    send_command(world.store, MODEL, record.id, "abort", "bob")


def restart(world: World, record: RolloutRecord) -> None:
    world.serving.restart()


def break_down(world: World, record: RolloutRecord) -> None:
    world.serving.behaviours[CANDIDATE.digest] = Behaviour(failure_rate=0.9)


SCENARIOS = {
    "promote": Scenario(Behaviour(), SMALL, Phase.PROMOTED),
    "fail in shadow": Scenario(Behaviour(difference=0.3), SMALL, Phase.ABORTED),
    "fail in canary": Scenario(Behaviour(failure_rate=0.5), {**SMALL, "shadow": "off"}, Phase.ABORTED),
    "never loads": Scenario(Behaviour(load_error="digest mismatch"), SMALL, Phase.ABORTED),
    "no data": Scenario(Behaviour(), {**SMALL, "no_data": 4}, Phase.PAUSED, rate=0.0),
    "manual abort": Scenario(Behaviour(), SMALL, Phase.ABORTED, event=abort, when=Phase.CANARY),
    "manual abort while promoting": Scenario(Behaviour(), SMALL, Phase.ABORTED, event=abort, when=Phase.PROMOTING),
    "restarted server": Scenario(Behaviour(), SMALL, Phase.PROMOTED, event=restart, when=Phase.CANARY),
    "breaks down while watched": Scenario(
        Behaviour(), {**SMALL, "watch": 5}, Phase.ABORTED, event=break_down, when=Phase.WATCHING
    ),
    "watched to the end": Scenario(Behaviour(), {**SMALL, "watch": 2}, Phase.PROMOTED),
}


def live_through(scenario: Scenario, faults: Faults) -> tuple[World, int]:
    """Run to the end with a new host after each kill; the world and the number of hosts."""
    world = World(
        scenario.behaviour, the_plan=plan(**scenario.changes), guard=faults, rate=scenario.rate, noise=scenario.noise
    )
    faults.world = world
    happened = False

    def on_tick(record: RolloutRecord, observation: object) -> None:
        nonlocal happened
        assert world.registry.alias["champion"] in (1, 2)
        if scenario.event is not None and record.phase is scenario.when and not happened:
            try:
                scenario.event(world, record)
            except StoreError:
                scenario.event(world, record)  # a person asks again
            happened = True

    for hosts in range(1, 6):
        try:
            world.run(on_tick=on_tick, timeout_seconds=600)
            return world, hosts
        except Killed:
            continue
    raise AssertionError("killed more often than asked")


def check_end(world: World, scenario: Scenario) -> None:
    record, applied = world.load(), world.serving.applied
    assert record.phase is scenario.end, record.status
    promoted = record.phase is Phase.PROMOTED
    assert world.registry.alias["champion"] == (2 if promoted else 1)
    assert applied.champion == (CANDIDATE if promoted else CHAMPION)
    if record.phase is Phase.PAUSED:
        assert record.pause_reason
    else:
        assert settled(record)
        assert applied.candidate is None, "nothing of the rollout is left on the servers"
        assert "candidate" not in world.registry.alias
        assert world.stored_release() == applied
    for earlier, later in zip(record.decisions, record.decisions[1:], strict=False):
        assert later.generation > earlier.generation
        assert (later.phase_before, later.weight_before) == (earlier.phase_after, earlier.weight_after), "a gap"
    assert record.decisions[-1].phase_after is record.phase
    assert set(world.told) == {decision.sentence for decision in record.decisions}, "every decision is told"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SCENARIOS)
def test_whatever_write_goes_wrong_the_rollout_ends_the_same(name: str, mode: str) -> None:
    scenario = SCENARIOS[name]
    reference = Faults()
    world, _ = live_through(scenario, reference)
    check_end(world, scenario)
    assert reference.writes >= 5
    every = 1 if mode.startswith("killed") or name in ("promote", "fail in canary") else 2
    for at in range(MODES.index(mode) % every, reference.writes, every):
        world, hosts = live_through(scenario, Faults(at, mode))
        check_end(world, scenario)
        assert hosts == (2 if mode.startswith("killed") else 1)


class TwoFaults(Faults):
    """A second write goes wrong, some writes after the first."""

    def __init__(self, first: tuple[int, str], second: tuple[int, str]) -> None:
        super().__init__(*first)
        self._second: tuple[int, str] | None = second

    def __call__(self, operation: str, key: str, effect: Callable[[], Any]) -> Any:
        if self.writes > self.at and self._second is not None:
            (self.at, self.mode), self._second = self._second, None
        return super().__call__(operation, key, effect)


@pytest.mark.parametrize("name", SCENARIOS)
def test_two_writes_that_go_wrong_change_nothing_either(name: str) -> None:
    scenario, rng = SCENARIOS[name], random.Random(f"two faults, {name}")
    reference = Faults()
    live_through(scenario, reference)
    for _ in range(6):
        first, second = sorted(rng.sample(range(reference.writes + 2), 2))
        world, _ = live_through(scenario, TwoFaults((first, rng.choice(MODES)), (second, rng.choice(MODES))))
        check_end(world, scenario)


# --- two controllers -------------------------------------------------------------------------------------------------
def tick_until(world: World, loop: RolloutLoop, phase: Phase) -> RolloutRecord:
    for _ in range(400):
        record, _ = loop.tick()
        if record.phase is phase:
            return record
        world.clock.advance(0.1)
    raise AssertionError(f"never reached {phase}")


def test_of_two_controllers_one_is_told_that_it_is_stale_and_changes_nothing() -> None:
    world = World(the_plan=plan(**SMALL), noise=0.05)
    first, second = world.loop(), world.loop()
    tick_until(world, first, Phase.SHADOW)
    tick_until(world, second, Phase.CANARY)
    puts: list[int] = []
    world.serving.put_release = lambda release: puts.append(release.generation)  # type: ignore[method-assign]
    with pytest.raises(StaleGeneration, match="another controller"):
        first.tick()
    assert puts == [], "the stale controller did not touch the servers"


def test_two_controllers_that_alternate_never_lose_a_decision() -> None:
    for seed in range(10):
        world, rng = World(the_plan=plan(**SMALL), noise=0.05, seed=seed), random.Random(seed)
        loops = [world.loop(), world.loop()]
        stale = 0
        for _ in range(600):
            which = rng.randrange(2)
            try:
                record, _ = loops[which].tick()
            except StaleGeneration:
                stale += 1
                loops[which] = world.loop()
                continue
            except StoreError:
                continue
            world.clock.advance(0.1)
            if settled(record):
                break
        assert stale > 0
        world.run()
        check_end(world, SCENARIOS["promote"])


def test_a_controller_that_slept_cannot_turn_the_servers_back() -> None:
    world = World(the_plan=plan(**SMALL), noise=0.05)
    record = tick_until(world, world.loop(), Phase.CANARY)
    late = wish(record)
    send_command(world.store, MODEL, record.id, "abort", "bob")
    world.run()
    effects = ServingEffects(world.store, world.serving, world.registry)
    with pytest.raises(StaleGeneration):
        effects.set_traffic(late)
    with pytest.raises(StaleGeneration):
        effects.promote(record)
    assert world.serving.applied.candidate is None
    assert world.registry.alias == {"champion": 1}


def test_a_second_host_is_refused_while_the_first_one_lives() -> None:
    world = World(the_plan=plan(**SMALL), noise=0.05)
    first = world.loop(exclusive=True)
    first.tick()
    assert host_of(world.store, MODEL, world.record.id, world.clock) is not None
    with pytest.raises(RolloutError, match="is hosted by"):
        world.loop(exclusive=True).run()
    world.clock.advance(LEASE_SECONDS + 1)
    assert host_of(world.store, MODEL, world.record.id, world.clock) is None, "its heartbeat has stopped"
    assert world.loop(exclusive=True).run(timeout_seconds=600).phase is Phase.PROMOTED
    assert host_of(world.store, MODEL, world.record.id, world.clock) is None, "the lease is given back at the end"


def test_a_command_reaches_the_host_through_the_record() -> None:
    world = World(the_plan=plan(**SMALL), noise=0.05)
    loop = world.loop(exclusive=True)
    record = tick_until(world, loop, Phase.CANARY)
    send_command(world.store, MODEL, record.id, "pause", "bob")
    record, _ = loop.tick()
    assert record.phase is Phase.PAUSED
    assert record.pause_reason == "bob paused it"
    assert load(world.store, MODEL, record.id).command == ""


@pytest.mark.parametrize(
    ("command", "end"), [("abort", Phase.ABORTED), ("promote", Phase.PROMOTED), ("pause", Phase.PAUSED)]
)
def test_a_command_is_carried_out_when_nobody_hosts_the_loop(command: str, end: Phase) -> None:
    world = World(the_plan=plan(**SMALL), noise=0.05)
    record = tick_until(world, world.loop(), Phase.CANARY)
    send_command(world.store, MODEL, record.id, command, "bob")
    assert world.loop(exclusive=True).follow_command().phase is end


def test_a_server_that_is_gone_is_waited_for_and_an_abort_is_left_in_the_store() -> None:
    world = World(the_plan=plan(**SMALL), noise=0.05)
    record = tick_until(world, world.loop(), Phase.CANARY)
    world.serving.reachable = False
    send_command(world.store, MODEL, record.id, "abort", "bob")
    with pytest.raises(RolloutError, match="has not ended after"):
        world.loop().run(timeout_seconds=20)
    stored = world.stored_release()
    assert stored is not None
    assert stored.candidate is None, "a server that comes up now reads that the candidate is out"
    world.serving.reachable = True
    world.run()
    check_end(world, SCENARIOS["manual abort"])
