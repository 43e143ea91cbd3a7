"""Which runs there are, and living through one."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from crash_sweep.faults import KILLS, Fault, Faults, Killed, Way, ways_for
from crash_sweep.invariants import Ending, Violation, check_end, must
from crash_sweep.scenarios import SCENARIOS, Scenario
from crash_sweep.world import Misled, World
from fairlead.deploy.rollout.lease import LEASE_SECONDS
from fairlead.deploy.rollout.wishes import settled
from fairlead.errors import RolloutError
from fairlead.records.rollout import Observation, Phase, RolloutRecord

References = dict[tuple[str, str], Ending]

MOST_HOSTS = 12
LONGEST_SECONDS = 1200.0
TWO = ("two, to the end", "two, at once", "two, aborted")
_CLOCK_STEPS = {"clock back": 3600.0, "clock forward": -3600.0}


@dataclass(frozen=True, slots=True)
class Run:
    """One run, and all that is needed to run it again. `kind`: what happens in it beside `faults` (see `live`), at the
    write number `point`; `seed`: what it draws."""

    scenario: str
    backend: str
    kind: str
    faults: tuple[Fault, ...] = ()
    point: int = -1
    seed: int = 7

    @property
    def name(self) -> str:
        """What replays it."""
        faults = ",".join(str(fault) for fault in self.faults)
        return "/".join((self.scenario, self.backend, self.kind, faults, str(self.point), str(self.seed)))


def parse(name: str) -> Run:
    """A run from its name. Raises ValueError."""
    scenario, backend, kind, faults, point, seed = name.split("/")
    if scenario not in SCENARIOS:
        raise ValueError(f"there is no scenario {scenario!r}; there are {', '.join(SCENARIOS)}")
    pairs = (fault.split(":") for fault in faults.split(",") if fault)
    return Run(scenario, backend, kind, tuple(Fault(int(at), Way(way)) for at, way in pairs), int(point), int(seed))


class Story:
    """What happens around the rollout: events of the scenario, each once, whichever host looks."""

    def __init__(self, scenario: Scenario, world: World) -> None:
        self._world = world
        self._events, self._resumed = list(scenario.events), list(scenario.resumed)

    @property
    def told(self) -> bool:
        """True when everything happened that was to happen: a moment may pass while no host looks."""
        return not self._events

    def look(self, record: RolloutRecord, observation: Observation) -> None:
        """Called at each look of a host."""
        self._world.monitor.champions()
        for event in list(self._events):
            if event.when(self._world, record):
                self._events.remove(event)
                event.act(self._world)

    def goes_on(self, record: RolloutRecord) -> bool:
        """True when a person lets a paused rollout go on."""
        if record.phase is not Phase.PAUSED or not self._resumed:
            return False
        self._resumed.pop(0)(self._world)
        return True


def live(run: Run) -> World:
    """Live through `run`; the world at its end. Raises Violation."""
    return _live(run, None)[0]


def _live(run: Run, told: Callable[[str], None] | None) -> tuple[World, Story]:
    scenario = SCENARIOS[run.scenario]
    misled = Misled(random.Random(run.seed)) if run.kind == "stale" else None
    world = scenario.world(helm=run.backend == "helm", misled=misled)
    world.faults = Faults(world.clock, run.faults)
    world.monitor.told = told
    story = Story(scenario, world)
    if run.kind == "stale":
        world.monitor.exact = False
    if run.kind in _CLOCK_STEPS:
        world.faults.hooks[run.point] = lambda: world.clock.set_wall_back(_CLOCK_STEPS[run.kind])
    if run.kind in TWO:
        world.faults.hooks[run.point] = lambda: _second_host(world, run, story)
    _host_until_it_ends(world, story, run)
    return world, story


def check(run: Run, references: References, told: Callable[[str], None] | None = None) -> World:
    """Live through `run` and check its end; `told` hears of every write. Raises Violation."""
    world, story = _live(run, told)
    again = run.kind in TWO or run.kind == "stale" or any(_tells_again(world, fault) for fault in run.faults)
    compared = story.told and not world.too_late and run.kind != "two, aborted"
    expected = references[run.scenario, run.backend] if compared else None
    check_end(
        world, expected, repeats=again, same_way=not (SCENARIOS[run.scenario].events or SCENARIOS[run.scenario].varies)
    )
    return world


def _tells_again(world: World, fault: Fault) -> bool:
    """Who is killed may not have written down what it told, and whose telling gets no answer tells again."""
    return fault.way in KILLS or (fault.at < len(world.faults.log) and world.faults.log[fault.at] == "tell")


def _host_until_it_ends(world: World, story: Story, run: Run) -> None:
    alone = run.kind not in TWO and run.kind != "stale"
    for _ in range(MOST_HOSTS):
        host = world.host()
        try:
            record = host.loop.run(on_tick=story.look, timeout_seconds=LONGEST_SECONDS, outwait=True)
        except Killed:
            world.pass_calmly(LEASE_SECONDS + 1)  # somebody starts it again
            continue
        except RolloutError as error:
            must(not alone and "has not ended" not in error.what, f"a host alone was stopped: {error}")
            world.pass_calmly(LEASE_SECONDS + 1)
            continue
        if settled(record):
            if not world.succeed():
                return
        elif not story.goes_on(record):
            return
    raise Violation(f"not at its end after {MOST_HOSTS} hosts: {world.load().status}")


def _second_host(world: World, run: Run, story: Story) -> None:
    """The host sleeps for longer than its lease. Another one takes over, for some looks or to the end; then the first
    one goes on with what it was about to write."""
    world.pass_calmly(LEASE_SECONDS + 1)
    if run.kind == "two, aborted":
        world.ask("abort")
    second = world.host()
    try:
        if run.kind == "two, at once":
            for _ in range(3):
                second.loop.tick()
                world.clock.advance(0.2)
        else:
            second.loop.run(on_tick=story.look, timeout_seconds=LONGEST_SECONDS, outwait=True)
    except RolloutError:
        pass  # it was the first one's turn


# --- the list of runs ------------------------------------------------------------------------------------------------
def reference(scenario: str, backend: str) -> Ending:
    """A story without faults."""
    return Ending.of(live(Run(scenario, backend, "once")))


def references() -> References:
    """Each story without faults, by scenario and backend."""
    found = {}
    for name, scenario in SCENARIOS.items():
        for backend, told in (("serving", scenario.serving), ("helm", scenario.helm)):
            if told:
                found[name, backend] = reference(name, backend)
    return found


def every_write(references: References) -> Iterator[Run]:
    """Each write of each story, in each way that it can go wrong."""
    for (name, backend), end in references.items():
        for at, surface in enumerate(end.writes):
            for way in ways_for(surface):
                yield Run(name, backend, "once", (Fault(at, way),))


def share(references: References) -> list[Run]:
    """What the unit tests run, some 3,000: every write of every story, each in a quarter of the ways in which it can go
    wrong, so that each way meets each kind of write many times; and a part of everything else."""
    single = [run for number, run in enumerate(every_write(references)) if number % 4 == 0]
    hosts = [run for number, run in enumerate(two_hosts(references)) if number % 7 == 0]
    clock = [run for number, run in enumerate(clocks(references)) if number % 4 == 0]
    return [*single, *hosts, *clock, *pairs(references, 300, 1), *stale_reads(references, 100)]


def pairs(references: References, number: int, seed: int) -> Iterator[Run]:
    """Two writes that go wrong, drawn with `seed`."""
    rng, stories = random.Random(seed), list(references)
    for _ in range(number):
        name, backend = rng.choice(stories)
        log = references[name, backend].writes
        first, second = sorted(rng.sample(range(len(log) + 3), 2))
        drawn = tuple(Fault(at, rng.choice(ways_for(log[at] if at < len(log) else ""))) for at in (first, second))
        yield Run(name, backend, "pair", drawn)


def stale_reads(references: References, number: int) -> Iterator[Run]:
    """Every third look shows one of the last three answers, of the servers and of the store."""
    stories = list(references)
    for seed in range(number):
        yield Run(*stories[seed % len(stories)], "stale", seed=seed)


def two_hosts(references: References) -> Iterator[Run]:
    """At each write the host falls asleep for longer than its lease, and another one takes over."""
    for (name, backend), end in references.items():
        for at, surface in enumerate(end.writes):
            for kind in TWO if surface not in ("lease", "tell") else ():
                yield Run(name, backend, kind, point=at)


def clocks(references: References) -> Iterator[Run]:
    """The wall clock is set by an hour at a write, after which the host dies or does not."""
    for (name, backend), end in references.items():
        for at in range(1, len(end.writes), 4):
            for kind in ("clock back", "clock forward"):
                yield Run(name, backend, kind, (Fault(at, Way.KILLED_AFTER),), point=at)
                yield Run(name, backend, kind, point=at)
