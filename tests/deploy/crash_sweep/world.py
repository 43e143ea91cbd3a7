"""Everything around one rollout: time, store, registry, servers (with or without Helm before them), hosts, a person."""

import hashlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from crash_sweep.faults import Faults, Killed
from crash_sweep.invariants import Monitor
from fairlead.deploy.backends.helm import HelmEffects, HelmObserver, HelmRelease
from fairlead.deploy.backends.helm_program import Revision
from fairlead.deploy.backends.serving import ServingEffects, ServingObserver
from fairlead.deploy.rollout.loop import RolloutLoop
from fairlead.deploy.rollout.newer import Newer, supersede
from fairlead.deploy.rollout.plan import plan_from_spec
from fairlead.deploy.rollout.start import load, new_rollout, send_command
from fairlead.deploy.rollout.wishes import settled
from fairlead.errors import RolloutError, StoreError
from fairlead.records.codec import from_json, to_json
from fairlead.records.release import Arm, Release
from fairlead.records.rollout import Decision, RolloutPlan, RolloutRecord, ServingEvidence
from fairlead.registry.registry import Registry
from fairlead.spec.deploy import Canary, Rollout
from fairlead.spec.serve import Serve
from fairlead.testing.fake_clock import FakeClock
from fairlead.testing.fake_helm import FakeHelm
from fairlead.testing.fake_serving import Behaviour, FakeServing
from fairlead.testing.fault_points import surface_of
from fairlead.testing.memory_store import MemoryStore

MODEL = "flights"
ARMS = tuple(Arm(n, f"bundles/flights/{letter}", f"sha256:{letter * 64}") for n, letter in enumerate("abc", start=1))
CHAMPION, CANDIDATE, NEWER = ARMS
SMALL: Mapping[str, Any] = {
    "shadow": {"min_requests": 60},
    "steps": [30],
    "canary": {"min_requests": 30, "max_error_rate_increase": 0.2, "max_slow_rate": 0.3, "bad_failure_rate": 0.2},
    "no_data": 60,
}
NOISE = 0.05


def plan(**changes: Any) -> RolloutPlan:
    """A plan that a few hundred requests decide, with `changes`."""
    canary = {**SMALL["canary"], **({"latency": "off"} if "latency" in Canary.model_fields else {})}
    declared = {**SMALL, "canary": canary, **changes}
    return plan_from_spec(Rollout.model_validate({k: v for k, v in declared.items() if v is not None}), Serve())


class SweepClock(FakeClock):
    """A clock on which things may be put for later."""

    def __init__(self) -> None:
        super().__init__()
        self._due: list[tuple[float, Callable[[], object]]] = []
        self.on_advance(lambda _: self._run())

    def later(self, seconds: float, action: Callable[[], object]) -> None:
        """Do `action` when so many seconds have passed."""
        self._due.append((self.monotonic() + seconds, action))

    def _run(self) -> None:
        now = self.monotonic()
        ready = [action for at, action in self._due if at <= now]
        self._due = [(at, action) for at, action in self._due if at > now]
        for action in ready:
            action()


@dataclass
class Misled:
    """Hosts are shown old answers. The store promises that it gives none, so it does so less often than servers."""

    rng: random.Random

    def of(self, answers: list[Any], every: int) -> Any:
        """The newest answer, and one time in `every` one of the last three."""
        return self.rng.choice(answers[-3:]) if self.rng.randrange(every) == 0 else answers[-1]


class World:
    """One champion, a candidate, and whoever works on the rollout between them."""

    record_folder, registry_key = f"rollouts/{MODEL}", f"registry/{MODEL}.json"

    def __init__(
        self,
        behaviour: Behaviour,
        the_plan: RolloutPlan,
        *,
        helm: bool = False,
        rate: float = 1500.0,
        misled: Misled | None = None,
        seed: int = 7,
    ) -> None:
        self.clock = SweepClock()
        self.faults = Faults(self.clock)
        self.objects: dict[str, bytes] = {}
        self.versions: dict[str, list[bytes]] = {}
        self.rng = random.Random(seed)
        first = Release(MODEL, 3, CHAMPION)
        self.serving = FakeServing(
            self.clock,
            first,
            {CANDIDATE.digest: behaviour},
            stored=self.stored_release,
            rate=rate,
            seed=seed,
            load_seconds=0.3,
        )
        self.misled, self.hosts = misled, 0
        self.told: list[tuple[int, str]] = []
        self.too_late = False
        self.successor: Arm | None = None
        self.helm = FakeHelm(first, self._deliver) if helm else None
        self._generation = first.generation
        setup = Registry(self.view(None), MODEL, self.clock, self.rng)
        for arm in ARMS:
            setup.register(arm.bundle_uri, arm.digest, f"run {arm.version}", {}, "ann", "a test")
        setup.set_alias("champion", CHAMPION.version, "ann", "the first")
        setup.set_alias("candidate", CANDIDATE.version, "ann", "a rollout")
        self.record = new_rollout(self.view(None), MODEL, the_plan, CHAMPION, CANDIDATE, self.clock, "ann")
        self.monitor = Monitor(self)

    # --- the store and the servers -----------------------------------------------------------------------------------
    def view(self, host: "Host | None") -> "View":
        """The store as `host` sees it; None: as it is."""
        return View(self, host)

    def stored_release(self) -> Release | None:
        """What a server that starts reads."""
        data = self.objects.get(f"releases/{MODEL}.json")
        return from_json(Release, data) if data else None

    def load(self, rollout: str | None = None) -> RolloutRecord:
        """The durable record."""
        return load(self.view(None), MODEL, rollout)

    def aliases(self) -> dict[str, int]:
        """What the registry says."""
        return Registry(self.view(None), MODEL, self.clock, self.rng).aliases()

    def champion(self) -> int | None:
        """The registry's champion."""
        return self.aliases().get("champion")

    def _deliver(self, release: Release) -> None:
        """What KubeRay does with a revision: the servers get it, under a generation of their own."""
        self._generation = max(release.generation, self._generation + 1)
        self.serving.put_release(replace(release, generation=self._generation))

    # --- who works on it ---------------------------------------------------------------------------------------------
    def host(self, *, exclusive: bool = True) -> "Host":
        """A new process that hosts the loop."""
        self.hosts += 1
        return Host(self, self.hosts, exclusive=exclusive)

    def pass_calmly(self, seconds: float) -> None:
        """Time without much traffic: what a person takes to start a host again."""
        rate, self.serving.rate = self.serving.rate, min(self.serving.rate, 20.0)
        self.clock.advance(seconds)
        self.serving.rate = rate

    def ask(self, command: str, by: str = "bob") -> None:
        """A person leaves a command, and asks again when that fails."""
        for _ in range(4):
            person = Host(self, 0, exclusive=False)
            try:
                send_command(person.store, MODEL, self.record.id, command, by)
                return
            except (StoreError, Killed):
                continue
            except RolloutError:
                self.too_late = settled(self.load())
                return  # it was taken up already, or the rollout had ended
        raise AssertionError(f"{command} did not get through")

    def newer(self, policy: Newer) -> None:
        """Somebody brings a newer candidate: the open rollout is superseded, or it is waited for."""
        self.successor = NEWER
        if policy == "supersede":
            for _ in range(4):
                person = Host(self, 0, exclusive=False)
                try:
                    supersede(person.store, self.load(), NEWER, "carl")
                    return
                except (StoreError, Killed):
                    continue

    def succeed(self) -> bool:
        """The rollout of the newer candidate begins, if one waits."""
        candidate, self.successor = self.successor, None
        if candidate is None:
            return False
        champion = next(arm for arm in ARMS if arm.version == self.champion())
        plan = self.record.plan
        self.record = new_rollout(self.view(None), MODEL, plan, champion, candidate, self.clock, "carl")
        registry = Registry(self.view(None), MODEL, self.clock, self.rng)
        registry.set_alias("candidate", candidate.version, "carl", f"rollout {self.record.id}")
        self.monitor.begun()
        return True

    def set_traffic_by_hand(self, release: Release) -> None:
        """Somebody speaks to the servers, beside the rollout."""
        key = f"releases/{MODEL}.json"
        self.monitor.foreign = True
        above = max(self.serving.wanted.generation, self.load().generation) + 1
        release = replace(release, generation=above)
        self.view(None).write(key, to_json(release))
        self.serving.put_release(release)


class Host:
    """One process: a loop, with its own ways to the world. Dead, it does nothing any more."""

    def __init__(self, world: World, number: int, *, exclusive: bool) -> None:
        self.world, self.number, self.dead = world, number, False
        self.store = world.view(self)
        self._evidence: list[ServingEvidence] = []
        registry = Registry(self.store, MODEL, world.clock, world.rng)
        observe: Any = ServingObserver(self, retraining_noise=NOISE)
        effects: ServingEffects = ServingEffects(self.store, self, registry, tell=self._tell)
        if world.helm is not None:
            release = HelmRelease(HostHelm(self, world.helm), MODEL, world.clock.monotonic)
            observe = HelmObserver(observe, release, world.clock.monotonic)
            effects = HelmEffects(self.store, self, registry, release, tell=self._tell)
        self.loop = RolloutLoop(
            self.store,
            effects,
            observe,
            world.clock,
            model=MODEL,
            rollout=world.record.id,
            exclusive=exclusive,
            holder=f"host {number}",
            name=f"host {number}",
        )

    def write(self, surface: str, effect: Callable[[], Any], inside: Callable[[], Any] | None = None) -> Any:
        """Every write of this process passes here."""
        self.alive()

        def watched() -> Any:
            return self.world.monitor.around(self.number, surface, effect)

        try:
            result = self.world.faults.write(surface, watched, inside)
        except Killed:
            self.dead = True
            raise
        self.alive()
        return result

    def alive(self) -> None:
        """Raises Killed when this process is gone."""
        if self.dead:
            raise Killed

    # --- ServingApi --------------------------------------------------------------------------------------------------
    def put_release(self, release: Release) -> None:
        """PUT /fairlead/v1/release."""
        self.write("put", lambda: self.world.serving.put_release(release))

    def evidence(self) -> ServingEvidence:
        """GET /fairlead/v1/evidence."""
        self.alive()
        found = self.world.serving.evidence()
        self._evidence.append(found)
        misled = self.world.misled
        return found if misled is None else misled.of(self._evidence, 3)

    def _tell(self, record: RolloutRecord, decision: Decision) -> None:
        self.write("tell", lambda: self.world.told.append((decision.generation, decision.sentence)))


class HostHelm:
    """`helm`, run by one host."""

    def __init__(self, host: Host, helm: FakeHelm) -> None:
        self._host, self._helm = host, helm

    def history(self) -> list[Revision]:
        self._host.alive()
        return self._helm.history()

    def values(self, revision: int) -> Mapping[str, Any]:
        return self._helm.values(revision)

    def upgrade(self, values: Mapping[str, Any], description: str) -> None:
        def inside() -> None:
            self._helm.dies_in_upgrade = True
            try:
                self._helm.upgrade(values, description)
            except SystemExit:
                pass

        self._host.write("upgrade", lambda: self._helm.upgrade(values, description), inside)

    def rollback(self, revision: int) -> None:
        self._host.write("helm rollback", lambda: self._helm.rollback(revision))

    def chart_name(self) -> str:
        return self._helm.chart_name()


class View(MemoryStore):
    """The world's store through the eyes of one host."""

    def __init__(self, world: World, host: Host | None) -> None:
        super().__init__(self._pass)
        self._world, self._host = world, host
        self.objects = world.objects

    def read_versioned(self, key: str) -> tuple[bytes, str]:
        if self._host is not None:
            self._host.alive()
        misled = self._world.misled
        stale = self._host is not None and self._host.number > 0 and surface_of(key) != "registry"
        if misled is not None and stale and key in self._world.versions:
            data = misled.of(self._world.versions[key], 10)
            return data, _digest(data)
        return super().read_versioned(key)

    def _pass(self, operation: str, key: str, effect: Callable[[], Any]) -> Any:
        def kept() -> Any:
            result = effect()
            if key in self.objects:
                self._world.versions.setdefault(key, []).append(self.objects[key])
            return result

        return kept() if self._host is None else self._host.write(surface_of(key), kept)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
