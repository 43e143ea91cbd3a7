"""Rollouts whose traffic is a Helm value: one revision a step, and whatever others do to the release is respected."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from deploy_world import CANDIDATE, CHAMPION, MODEL, World, plan

from fairlead.deploy.backends.helm import HelmEffects, HelmObserver, HelmRelease, made_by, release_of
from fairlead.deploy.backends.helm_values import traffic_values
from fairlead.deploy.backends.serving import ServingObserver
from fairlead.deploy.rollout.loop import RolloutLoop
from fairlead.deploy.rollout.start import send_command
from fairlead.errors import ClusterConflict, StaleGeneration
from fairlead.records.release import Release
from fairlead.records.rollout import Observation, Phase, RolloutRecord
from fairlead.records.trial import OutcomeRule
from fairlead.testing.fake_helm import FakeHelm
from fairlead.testing.fake_serving import Behaviour

OnTick = Callable[[RolloutRecord, Observation], None]


class HelmWorld(World):
    """The same world with Helm between the loop and the servers."""

    def __init__(self, behaviour: Behaviour | None = None, **serving: object) -> None:
        # KubeRay and Ray take longer than the engine's ticks: what is on its way must not be told anew.
        super().__init__(behaviour, the_plan=plan(steps=[10, 50]), **{"apply_seconds": 1.5, **serving})
        self.helm = FakeHelm(Release(MODEL, 1, CHAMPION), self._deliver)
        self.generation = 3

    def _deliver(self, release: Release) -> None:
        self.generation = max(release.generation, self.generation + 1)
        self.serving.put_release(replace(release, generation=self.generation))

    def loop(self, *, exclusive: bool = False) -> RolloutLoop:
        release = HelmRelease(self.helm, MODEL, self.clock.monotonic)
        observe = HelmObserver(
            ServingObserver(self.serving, retraining_noise=self.noise), release, self.clock.monotonic
        )
        effects = HelmEffects(self.store, self.serving, self.registry, release, tell=lambda r, d: None)
        return RolloutLoop(
            self.store, effects, observe, self.clock, model=MODEL, rollout=self.record.id, exclusive=exclusive
        )

    def weights(self) -> list[float]:
        """The candidate's weight in each revision."""
        return [float(self.helm.values(r.number)["traffic"]["candidateWeight"]) for r in self.helm.history()]


def when(reached: Callable[[RolloutRecord], bool], act: Callable[[], None]) -> OnTick:
    """Do something once, when the rollout is somewhere."""
    done: list[bool] = []

    def look(record: RolloutRecord, _: Observation) -> None:
        if not done and reached(record):
            done.append(True)
            act()

    return look


def test_the_history_of_helm_is_the_story_of_the_rollout() -> None:
    world = HelmWorld()
    record = world.run()
    assert record.phase is Phase.PROMOTED
    assert world.weights() == [0, 0, 0, 10, 50, 0]
    told = [revision.description for revision in world.helm.history()][1:]
    moved = [d for d in record.decisions if d.phase_after is not Phase.PROMOTED or d.weight_before != d.weight_after]
    assert told == [f"rollout 0001 #{d.generation}: {d.sentence}"[: len(t)] for t, d in zip(told, moved, strict=False)]
    assert world.serving.applied.champion == CANDIDATE
    assert world.registry.alias == {"champion": CANDIDATE.version}


def test_a_bad_candidate_is_rolled_back_by_one_revision() -> None:
    world = HelmWorld(Behaviour(failure_rate=0.5))
    record = world.run()
    assert record.phase is Phase.ABORTED
    last = world.helm.history()[-1]
    assert made_by(last) == ("0001", record.release_generation)
    assert release_of(MODEL, world.helm.values(last.number), 0).champion == CHAMPION
    assert world.serving.applied.candidate is None


def test_a_rollback_by_hand_is_respected_until_a_person_resumes() -> None:
    world = HelmWorld()
    paused = world.run(on_tick=when(lambda r: r.weight == 50 and r.applied_generation == r.release_generation,
                                    lambda: world.helm.rollback(4)))  # fmt: skip
    assert (paused.phase, paused.pause_kind) == (Phase.PAUSED, "taken_over")
    assert "a person set the traffic meanwhile" in paused.pause_reason
    assert world.weights()[-1] == 10, "nothing is told to Helm any more"
    send_command(world.store, MODEL, world.record.id, "resume", "ann")
    assert world.run().phase is Phase.PROMOTED


def test_a_second_operator_is_respected() -> None:
    world = HelmWorld()
    other = traffic_values(Release(MODEL, 1, CHAMPION, CANDIDATE, 33.0, note="mine"))
    paused = world.run(on_tick=when(lambda r: r.weight == 10, lambda: world.helm.upgrade(other, "Upgrade complete")))
    assert paused.pause_kind == "taken_over"
    assert world.weights()[-1] == 33


def test_an_edited_service_is_respected() -> None:
    world = HelmWorld()

    def edit() -> None:
        world._deliver(Release(MODEL, 0, CHAMPION, CANDIDATE, 77.0, rollout="0001"))

    paused = world.run(on_tick=when(lambda r: r.weight == 10 and r.applied_generation == r.release_generation, edit))
    assert paused.pause_kind == "taken_over"
    assert world.serving.applied.candidate_weight == 77


def test_a_revision_that_leaves_traffic_alone_disturbs_nobody() -> None:
    world = HelmWorld()
    record = world.run(on_tick=when(lambda r: r.weight == 10, lambda: world.helm.upgrade({}, "Upgrade complete")))
    assert record.phase is Phase.PROMOTED
    assert world.weights() == [0, 0, 0, 10, 10, 50, 0]


def test_a_host_killed_in_the_middle_of_an_upgrade_goes_on() -> None:
    for step in (Phase.STARTING, Phase.SHADOW, Phase.CANARY):
        world = HelmWorld()

        def die(world: HelmWorld = world) -> None:
            world.helm.dies_in_upgrade = True

        with pytest.raises(SystemExit):
            world.run(on_tick=when(lambda r, step=step: r.phase is step, die))
        assert world.helm.history()[-1].status == "pending-upgrade"
        assert world.run().phase is Phase.PROMOTED


def test_somebody_elses_unfinished_upgrade_is_waited_for() -> None:
    world = HelmWorld()
    helm = HelmRelease(world.helm, MODEL)
    world.helm.dies_in_upgrade = True
    with pytest.raises(SystemExit):
        world.helm.upgrade({}, "somebody's")
    with pytest.raises(ClusterConflict, match="pending-upgrade"):
        helm.tell(Release(MODEL, 9, CHAMPION, CANDIDATE, rollout="0001"), "a sentence")


def test_what_slept_and_what_is_another_chart_tell_nothing() -> None:
    world = HelmWorld()
    helm = HelmRelease(world.helm, MODEL)
    release = Release(MODEL, 9, CHAMPION, CANDIDATE, 10.0, rollout="0001")
    helm.tell(release, "a sentence")
    helm.tell(release, "a sentence")
    assert len(world.helm.history()) == 2, "the same decision twice is one revision"
    with pytest.raises(StaleGeneration, match="generation 9 already"):
        helm.tell(replace(release, generation=8), "an older sentence")
    helm.state("0001", fresh=True)
    world.helm.rollback(1)
    with pytest.raises(ClusterConflict, match="Rollback to 1"):
        helm.tell(replace(release, generation=10), "based on an old look")
    world.helm.chart = "fairlead-model-9.9.9"
    world.helm.upgrade({}, "another chart")
    with pytest.raises(ClusterConflict, match=r"fairlead-model-9\.9\.9"):
        HelmRelease(world.helm, MODEL).tell(replace(release, generation=11), "a sentence")


@pytest.mark.parametrize("candidate", [None, CANDIDATE])
def test_values_say_what_the_release_says(candidate: object) -> None:
    release = Release(MODEL, 4, CHAMPION, candidate, 5.0 if candidate else 0.0, 0.0, "0001", "why", 120.0)
    assert release_of(MODEL, traffic_values(release), 4) == release
    for missing in (0.0, None):
        tried = replace(release, outcome=OutcomeRule("basket", 3600.0, 0.0, 500.0, binary=False, missing=missing))
        assert release_of(MODEL, traffic_values(tried), 4) == tried
