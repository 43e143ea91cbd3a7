"""One simulated world for the tests of rollouts: a clock, a store, servers with traffic, a registry, a loop."""

from collections.abc import Callable, Mapping
from typing import Any

from fairlead.deploy.backends.serving import ServingEffects, ServingObserver
from fairlead.deploy.rollout.loop import RolloutLoop
from fairlead.deploy.rollout.plan import plan_from_spec
from fairlead.deploy.rollout.start import load, new_rollout
from fairlead.errors import RegistryConflict
from fairlead.records.codec import from_json
from fairlead.records.data import SkewFinding
from fairlead.records.release import Arm, Release
from fairlead.records.rollout import RolloutPlan, RolloutRecord
from fairlead.spec.deploy import Rollout
from fairlead.spec.serve import Serve
from fairlead.testing.fake_clock import FakeClock
from fairlead.testing.fake_serving import Behaviour, FakeServing
from fairlead.testing.memory_store import MemoryStore

MODEL = "flights"
CHAMPION = Arm(1, "bundles/flights/a", "sha256:a")
CANDIDATE = Arm(2, "bundles/flights/b", "sha256:b")
QUICK: Mapping[str, Any] = {"steps": [10, 50], "no_data": "30s"}


class FakeAliases:
    """The registry's aliases with compare-and-swap; every change passes `guard`."""

    def __init__(self, guard: Callable[..., Any] | None = None) -> None:
        self.alias: dict[str, int] = {"champion": CHAMPION.version, "candidate": CANDIDATE.version}
        self.changes: list[tuple[str, int | None, str]] = []
        self.guard = guard

    def aliases(self) -> dict[str, int]:
        return dict(self.alias)

    def set_alias(self, alias, version, actor, why, evidence, *, expected=None, fence=None) -> None:
        def effect() -> None:
            if self.alias.get(alias) == version:
                return
            if self.alias.get(alias) != expected:
                raise RegistryConflict(f"{alias} is {self.alias.get(alias)}, not {expected}")
            self.changes.append((alias, version, actor))
            if version is None:
                self.alias.pop(alias)
            else:
                self.alias[alias] = version

        if self.guard is None:
            effect()
        else:
            self.guard("alias", alias, effect)


def plan(**changes: Any) -> RolloutPlan:
    """The demo's plan with `changes`."""
    return plan_from_spec(Rollout.model_validate({**QUICK, **changes}), Serve())


class World:
    """Everything around one rollout of version 2 against version 1."""

    def __init__(
        self,
        behaviour: Behaviour | None = None,
        *,
        the_plan: RolloutPlan | None = None,
        noise: float | None = 0.02,
        skew: Callable[[RolloutRecord], tuple[SkewFinding, ...]] | None = None,
        guard: Callable[..., Any] | None = None,
        **serving: Any,
    ) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore()
        self.registry = FakeAliases(guard)
        release = Release(MODEL, 3, CHAMPION)
        self.serving = FakeServing(
            self.clock, release, {CANDIDATE.digest: behaviour or Behaviour()}, stored=self.stored_release, **serving
        )
        self.told: list[str] = []
        self.noise, self.skew, self.guard = noise, skew, guard
        self.record = new_rollout(self.store, MODEL, the_plan or plan(), CHAMPION, CANDIDATE, self.clock, "ann")
        self.store.guard = guard

    def stored_release(self) -> Release | None:
        """What a server that starts reads."""
        key = f"releases/{MODEL}.json"
        return from_json(Release, self.store.objects[key]) if key in self.store.objects else None

    def loop(self, *, exclusive: bool = False) -> RolloutLoop:
        """A new host of the loop."""
        effects = ServingEffects(
            self.store,
            _Guarded(self.serving, self.guard),
            self.registry,
            tell=lambda r, d: self.told.append(d.sentence),
        )
        observer = ServingObserver(self.serving, skew=self.skew, retraining_noise=self.noise)
        return RolloutLoop(
            self.store, effects, observer, self.clock, model=MODEL, rollout=self.record.id, exclusive=exclusive
        )

    def run(self, **options: Any) -> RolloutRecord:
        """Host the loop until it ends or pauses."""
        return self.loop().run(timeout_seconds=options.pop("timeout_seconds", 3000), **options)

    def load(self) -> RolloutRecord:
        """The durable record."""
        return load(self.store, MODEL, self.record.id)


class _Guarded:
    """The server's control routes; the one that writes passes `guard`."""

    def __init__(self, serving: FakeServing, guard: Callable[..., Any] | None) -> None:
        self._serving, self._guard = serving, guard

    def put_release(self, release: Release) -> None:
        if self._guard is None:
            self._serving.put_release(release)
        else:
            self._guard("put", "release", lambda: self._serving.put_release(release))

    def evidence(self):
        return self._serving.evidence()
