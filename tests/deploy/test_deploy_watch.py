"""After the promotion: the old champion stays warm as the shadow, and a regression found then is undone by itself."""

from deploy_world import CANDIDATE, CHAMPION, World, plan

from fairlead.deploy.rollout import tally
from fairlead.records.evidence import Verdict
from fairlead.records.rollout import Phase
from fairlead.testing.fake_serving import Behaviour

SMALL = {
    "shadow": {"min_requests": 60},
    "steps": [20, 50],
    "canary": {
        "min_requests": 30,
        "max_error_rate_increase": 0.2,
        "max_slow_rate": 0.3,
        "bad_failure_rate": 0.2,
        "latency": "off",
    },
    "watch": 30,
}


def watched(**options: object) -> tuple[World, float]:
    """A world whose candidate was promoted a moment ago, and when."""
    world = World(the_plan=plan(**SMALL), noise=0.05, **options)
    loop = world.loop()
    for _ in range(600):
        if loop.tick()[0].phase is Phase.WATCHING:
            return world, world.clock.monotonic()
        world.clock.advance(0.1)
    raise AssertionError("it was never promoted")


def test_the_old_champion_takes_the_place_of_the_shadow() -> None:
    world, _ = watched()
    world.clock.advance(1.0)
    applied = world.serving.applied
    assert (applied.champion, applied.candidate) == (CANDIDATE, CHAMPION)
    assert (applied.candidate_weight, applied.shadow_percent) == (0.0, 100.0)
    before = tally.total(world.load()).pairs.difference.n
    record, _ = world.loop().tick()
    assert tally.total(record).pairs.difference.n > before + 100, "pairs go on, champion and shadow changed over"
    ended = world.run()
    assert ended.phase is Phase.PROMOTED
    assert world.serving.applied.candidate is None


def test_a_loss_that_only_the_pairs_show_is_undone_by_itself() -> None:
    world, promoted_at = watched(labelled=1.0)
    world.serving.behaviours[CANDIDATE.digest] = Behaviour(loss=0.5)
    record = world.run()
    assert record.phase is Phase.ABORTED
    assert world.clock.monotonic() - promoted_at < 10
    failed = [metric for metric in record.decisions[-2].metrics if metric.verdict is Verdict.FAIL]
    assert [metric.metric for metric in failed] == ["loss"]
    assert failed[0].observed is not None
    assert failed[0].observed > 0, "candidate minus champion, though the champion is the shadow now"
    assert world.registry.alias == {"champion": CHAMPION.version}
    assert world.serving.applied.champion == CHAMPION


def test_blue_green_returns_at_once() -> None:
    world = World(the_plan=plan(**{**SMALL, "steps": [100]}), noise=0.05)
    loop = world.loop()
    while loop.tick()[0].phase is not Phase.WATCHING:
        world.clock.advance(0.1)
    assert {weight for _, _, weight in world.serving.weights} == {0.0, 100.0}
    world.serving.behaviours[CANDIDATE.digest] = Behaviour(failure_rate=1.0)
    broke_at = world.clock.monotonic()
    while loop.tick()[0].phase is not Phase.ABORTED:
        world.clock.advance(0.1)
    assert world.clock.monotonic() - broke_at < 2.0, "the old one was warm"
    assert world.serving.applied.champion == CHAMPION
