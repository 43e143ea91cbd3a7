"""The stories that the sweep tells again and again, each with its end."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from crash_sweep.world import CANDIDATE, CHAMPION, World, plan
from fairlead.deploy.rollout.newer import Newer
from fairlead.records.release import Release
from fairlead.records.rollout import Phase, RolloutRecord
from fairlead.testing.fake_serving import Behaviour

When = Callable[[World, RolloutRecord], bool]
Act = Callable[[World], None]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens once: `act`, at the first look at which `when` holds."""

    when: When
    act: Act


@dataclass(frozen=True, slots=True)
class Scenario:
    """A story. `resumed`: what a person does when the rollout pauses, each once; then the story goes on.

    `serving`, `helm`: where it is told; some do not differ. `varies`: the way to the end depends on when who
    looks, the end does not."""

    end: Phase
    behaviour: Behaviour = field(default_factory=Behaviour)
    changes: Mapping[str, Any] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    resumed: tuple[Act, ...] = ()
    rate: float = 1500.0
    helm: bool = True
    serving: bool = True
    varies: bool = False

    def world(self, *, helm: bool, **options: Any) -> World:
        """A fresh world for it."""
        return World(self.behaviour, plan(**self.changes), helm=helm, rate=self.rate, **options)


def at(phase: Phase, *, confirmed: bool = False) -> When:
    """When the rollout is in `phase` (and the servers are where the record is)."""
    return lambda world, record: (
        record.phase is phase and (not confirmed or record.applied_generation == record.release_generation)
    )


def ask(command: str) -> Act:
    """A person asks for something."""
    return lambda world: world.ask(command)


def newer(policy: Newer) -> Act:
    """Somebody brings a newer candidate."""
    return lambda world: world.newer(policy)


def _restart(world: World) -> None:
    world.monitor.exact = False
    world.serving.restart()


def _break_down(world: World) -> None:
    world.serving.behaviours[CANDIDATE.digest] = Behaviour(failure_rate=0.9)


def _unreachable(seconds: float) -> Act:
    def act(world: World) -> None:
        world.serving.reachable = False
        world.clock.later(seconds, lambda: setattr(world.serving, "reachable", True))

    return act


def _traffic_returns(world: World) -> None:
    world.serving.rate = 1500.0
    world.ask("resume")


def _reachable_again(world: World) -> None:
    world.serving.reachable = True
    world.ask("resume")


def _by_hand(world: World) -> None:
    world.set_traffic_by_hand(Release("flights", 0, CHAMPION, note="by hand"))


def _helm_rollback(world: World) -> None:
    assert world.helm is not None
    world.monitor.foreign = True
    world.helm.rollback(1)


def _resume_and_trust(world: World) -> None:
    world.ask("resume")


TRIAL = {"steps": None, "shadow": "off", "label_horizon": "1s"}
# For longer than the clock is set by: one that is set forward while no host runs ends a trial.
ORDERS = {"metric": "orders", "max_hours": 3, "expected_rate": 0.3}
SHARES = {"metric": "orders", "max_hours": 0.05, "every": "1s", "floor": 0.2, "max_keys": 900}

SCENARIOS: Mapping[str, Scenario] = {
    "promote": Scenario(Phase.PROMOTED, changes={"steps": [20, 50]}),
    "no shadow": Scenario(Phase.PROMOTED, changes={"shadow": "off"}),
    "blue-green": Scenario(Phase.PROMOTED, changes={"steps": [100], "watch": 1}),
    "A/B test": Scenario(Phase.PROMOTED, Behaviour(outcome=0.4), {**TRIAL, "ab_test": {**ORDERS, "max_keys": 20_000}}),
    "A/B test without a winner": Scenario(
        Phase.ABORTED, Behaviour(outcome=0.1), {**TRIAL, "ab_test": {**ORDERS, "max_keys": 900}}, helm=False
    ),
    "bandit": Scenario(Phase.ABORTED, Behaviour(outcome=0.3), {**TRIAL, "bandit": SHARES}, rate=300.0, varies=True),
    "bad in shadow": Scenario(Phase.ABORTED, Behaviour(difference=0.3)),
    "bad in canary": Scenario(Phase.ABORTED, Behaviour(failure_rate=0.5), {"shadow": "off"}),
    "never loads": Scenario(Phase.ABORTED, Behaviour(load_error="digest mismatch"), helm=False),
    "abort by hand": Scenario(Phase.ABORTED, events=(Event(at(Phase.CANARY), ask("abort")),)),
    "abort while promoting": Scenario(Phase.ABORTED, events=(Event(at(Phase.PROMOTING), ask("abort")),)),
    "promote by hand": Scenario(
        Phase.PROMOTED, events=(Event(at(Phase.SHADOW, confirmed=True), ask("promote")),), helm=False
    ),
    "pause and resume": Scenario(
        Phase.PROMOTED,
        events=(Event(at(Phase.CANARY, confirmed=True), ask("pause")),),
        resumed=(ask("resume"),),
        helm=False,
    ),
    "traffic set by hand": Scenario(
        Phase.PROMOTED,
        events=(Event(at(Phase.CANARY, confirmed=True), _by_hand),),
        resumed=(_resume_and_trust,),
        helm=False,
    ),
    "helm rollback by hand": Scenario(
        Phase.PROMOTED,
        events=(Event(at(Phase.CANARY, confirmed=True), _helm_rollback),),
        resumed=(_resume_and_trust,),
        serving=False,
    ),
    "watched to the end": Scenario(Phase.PROMOTED, changes={"watch": 1}),
    "regression while watched": Scenario(
        Phase.ABORTED, changes={"watch": 30}, events=(Event(at(Phase.WATCHING), _break_down),)
    ),
    "no data": Scenario(Phase.PROMOTED, changes={"no_data": 20}, rate=0.0, resumed=(_traffic_returns,), helm=False),
    "servers away for a moment": Scenario(
        Phase.PROMOTED, events=(Event(at(Phase.CANARY), _unreachable(3.0)),), helm=False
    ),
    "servers away for long": Scenario(
        Phase.PROMOTED,
        changes={"no_data": 20},
        events=(Event(at(Phase.CANARY), _unreachable(600.0)),),
        resumed=(_reachable_again,),
        helm=False,
    ),
    "superseded": Scenario(Phase.PROMOTED, events=(Event(at(Phase.CANARY), newer("supersede")),)),
    "superseded while watched": Scenario(
        Phase.PROMOTED, changes={"watch": 1}, events=(Event(at(Phase.WATCHING), newer("supersede")),), helm=False
    ),
    "queued": Scenario(Phase.PROMOTED, events=(Event(at(Phase.CANARY), newer("queue")),), helm=False),
    "servers restart": Scenario(
        Phase.PROMOTED, events=(Event(at(Phase.CANARY, confirmed=True), _restart),), helm=False
    ),
}
