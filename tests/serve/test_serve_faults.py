"""The short form of `make faults`: replicas that die, freeze or are replaced, and a body that kills candidates."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from fault_world import REPLICAS, FaultWorld, Seen, two_replicas

pytestmark = [
    pytest.mark.ray,
    # Ray Serve's own modules warn when they are imported or closed; nothing here can change that.
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


@pytest.fixture(scope="module")
def world(local_ray: str, ray_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultWorld]:
    base: Path = tmp_path_factory.mktemp("faults")
    made = FaultWorld(base, local_ray, two_replicas(ray_port))
    yield made
    made.close()
    ray.shutdown()  # this process's connection; tests of other modules make their own


def assert_nobody_noticed(seen: Seen, requests: int) -> None:
    print(
        f"\n{seen.requests} requests, failed {seen.failed} {seen.failures}, late {seen.late}, p99 {seen.p99_ms:.1f} ms"
    )
    assert (seen.requests, seen.failed, seen.fallbacks) == (requests, 0, 0), seen.failures


def test_replicas_that_are_killed_cost_no_request(world: FaultWorld) -> None:
    before = world.replicas()
    assert len(before) == REPLICAS
    seen = world.during(lambda: world.kill_replicas(2, 1.0), rate=150, requests=1500)
    assert_nobody_noticed(seen, 1500)
    assert not set(before) & set(world.replicas())


def test_a_replica_that_freezes_costs_no_request(world: FaultWorld) -> None:
    world.settle()
    seen = world.during(lambda: world.freeze_replica(5.0), rate=150, requests=1200)
    assert_nobody_noticed(seen, 1200)
    assert seen.late < 0.02 * seen.requests


def test_a_rolling_update_costs_no_request(world: FaultWorld) -> None:
    world.settle()
    before = world.replicas()
    seen = world.during(lambda: world.redeploy(REPLICAS, "updated"), rate=150, requests=2000)
    assert_nobody_noticed(seen, 2000)
    assert not set(before) & set(world.replicas())


def test_a_body_that_kills_the_candidate_is_kept_from_it(world: FaultWorld) -> None:
    arm = world.new_version()
    world.put(world.first, arm, weight=50.0)
    world.spoil(arm, "dies")
    rows = world.poisoned(every=20)
    # Each replica learns from two deaths, and between them Ray has to bring the candidate back.
    for _ in range(6):
        assert_nobody_noticed(world.during(None, rate=150, requests=900, data=rows), 900)
        if world.counted("fairlead_candidate_kept_away_total"):
            break
    evidence = world.evidence()
    assert evidence.candidate is not None
    assert evidence.candidate.failures.events > 0
    assert evidence.user_failures == 0
    assert world.counted("fairlead_candidate_kept_away_total") > 0
    world.put(world.first)
