"""Several at work on one rollout: controllers, hosts, persons. The stale one is refused, and nothing is lost.

What happens when a write goes wrong is in test_deploy_sweep."""

import random
from dataclasses import replace

import pytest
from deploy_world import CANDIDATE, CHAMPION, MODEL, World, plan

from fairlead.deploy.backends.serving import ServingEffects
from fairlead.deploy.rollout.lease import LEASE_SECONDS, LeaseWatch, host_of
from fairlead.deploy.rollout.loop import RolloutLoop
from fairlead.deploy.rollout.newer import Newer, make_way
from fairlead.deploy.rollout.start import load, send_command
from fairlead.deploy.rollout.wishes import settled, wish
from fairlead.errors import RolloutError, StaleGeneration, StoreError
from fairlead.records.rollout import Phase, RolloutRecord

SMALL = {
    "shadow": {"min_requests": 60},
    "steps": [20, 50],
    "canary": {"min_requests": 30, "max_error_rate_increase": 0.2, "max_slow_rate": 0.3, "bad_failure_rate": 0.2},
}


def check_end(world: World, end: Phase) -> None:
    """The rollout has ended, whole and told."""
    record, applied = world.load(), world.serving.applied
    promoted = end is Phase.PROMOTED
    assert (record.phase, settled(record)) == (end, True), record.status
    assert world.registry.alias == {"champion": 2 if promoted else 1}
    assert applied.champion == (CANDIDATE if promoted else CHAMPION)
    assert applied.candidate is None, "nothing of the rollout is left on the servers"
    assert world.stored_release() == applied
    assert set(world.told) == {decision.sentence for decision in record.decisions}, "every decision is told"


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
        check_end(world, Phase.PROMOTED)


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


def test_a_dead_host_is_outwaited_though_the_clock_was_set_back() -> None:
    world = World(the_plan=plan(**SMALL), noise=0.05)
    world.loop(exclusive=True).tick()
    world.clock.set_wall_back(3600)
    watch = LeaseWatch(world.store, MODEL, world.record.id, world.clock)
    assert watch.host() is not None
    record = world.loop(exclusive=True).run(timeout_seconds=600, outwait=True)
    assert record.phase is Phase.PROMOTED
    assert world.clock.monotonic() < 2 * LEASE_SECONDS, "its lease says that it lives for another hour"
    times = [decision.at for decision in record.decisions]
    assert times == sorted(times), "time in a record never goes back"


def test_a_living_host_is_not_outwaited() -> None:
    world = World(the_plan=plan(**SMALL, no_data=900), noise=0.05, rate=0.0)
    first = world.loop(exclusive=True)
    first.tick()
    world.clock.on_advance(lambda _: first.tick())
    with pytest.raises(RolloutError, match="is hosted by"):
        world.loop(exclusive=True).run(outwait=True)


def test_a_host_that_nobody_ran_for_an_hour_does_not_pause_for_that_silence() -> None:
    world = World(the_plan=plan(**SMALL), noise=0.05)
    tick_until(world, world.loop(), Phase.CANARY)
    rate, world.serving.rate = world.serving.rate, 0.0
    world.clock.advance(3600)
    loop = world.loop()
    assert loop.tick()[0].phase is Phase.CANARY
    world.serving.rate = rate
    assert loop.run(timeout_seconds=600).phase is Phase.PROMOTED


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
    check_end(world, Phase.ABORTED)


# --- a newer candidate -----------------------------------------------------------------------------------------------
NEWER = replace(CANDIDATE, version=3, digest="sha256:c")


def way_for_newer(world: World, policy: Newer) -> list[str]:
    """Make way; the phases of the open rollout that were waited for."""
    seen: list[str] = []
    make_way(
        world.store, MODEL, NEWER, policy, "carl", world.clock,
        host=lambda record: world.run(), on_wait=lambda record: seen.append(record.phase.value),
    )  # fmt: skip
    return list(dict.fromkeys(seen))


def test_a_newer_candidate_waits_for_the_open_rollout() -> None:
    world = World(the_plan=plan(**SMALL), noise=0.05)
    loop = world.loop(exclusive=True)
    loop.tick()
    world.clock.on_advance(lambda _: None if settled(world.load()) else loop.tick())
    assert way_for_newer(world, "queue")[0] == "starting"
    check_end(world, Phase.PROMOTED)
    assert way_for_newer(world, "queue") == [], "nothing is open any more"


@pytest.mark.parametrize(("at", "end"), [(Phase.CANARY, Phase.ABORTED), (Phase.WATCHING, Phase.PROMOTED)])
def test_a_newer_candidate_supersedes_one_that_nobody_hosts(at: Phase, end: Phase) -> None:
    world = World(the_plan=plan(**SMALL, watch=60), noise=0.05)
    tick_until(world, world.loop(), at)
    assert way_for_newer(world, "supersede") == [at.value]
    check_end(world, end)
    assert [d.actor for d in world.load().decisions][-2:].count("carl (for version 3)") == 1


def test_a_living_host_ends_what_is_superseded() -> None:
    world = World(the_plan=plan(**SMALL), noise=0.05)
    loop = world.loop(exclusive=True)
    tick_until(world, loop, Phase.SHADOW)
    world.clock.on_advance(lambda _: None if settled(world.load()) else loop.tick())
    assert way_for_newer(world, "supersede")[0] == "shadow"
    check_end(world, Phase.ABORTED)


def test_the_same_candidate_waits_for_nobody() -> None:
    world = World(the_plan=plan(**SMALL), noise=0.05)
    make_way(world.store, MODEL, CANDIDATE, "supersede", "carl", world.clock, host=lambda record: None)
    assert world.load().command == ""
