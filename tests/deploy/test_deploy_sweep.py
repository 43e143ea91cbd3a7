"""The crash sweep (see `crash_sweep`): some 3,000 simulated rollouts, killed and misled at their writes.

And the sweep itself: a rollout that is broken on purpose must not pass it, and a run can be lived through again."""

import itertools
import logging
from collections.abc import Callable, Iterator

import pytest
from crash_sweep import runs
from crash_sweep.__main__ import main
from crash_sweep.faults import Fault, Way, ways_for
from crash_sweep.invariants import check_end
from crash_sweep.runs import Run
from crash_sweep.scenarios import SCENARIOS
from crash_sweep.violations import violated, violated_on_all_cores

from fairlead.deploy.backends import helm, serving
from fairlead.deploy.rollout import engine, lease, loop, tally
from fairlead.records.release import Release
from fairlead.registry import registry

Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What goes wrong on purpose is not worth a line each."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def references() -> runs.References:
    """Each story without faults."""
    return runs.references()


def test_without_faults_each_story_has_its_end(references: runs.References) -> None:
    for (name, backend), end in references.items():
        assert end.record.phase is SCENARIOS[name].end, (name, backend, end.record.status)
        check_end(runs.live(Run(name, backend, "once")), end, repeats=False)


@pytest.mark.slow
def test_whatever_goes_wrong_no_invariant_is_violated(references: runs.References) -> None:
    chosen = runs.share(references)
    assert 2_500 <= len(chosen) <= 3_200
    met = {(log[f.at], f.way) for r in chosen for f in r.faults if f.at < len(log := _log(references, r))}
    assert met >= {(surface, way) for surface in ("record", "release", "put", "upgrade") for way in ways_for(surface)}
    found = [f"{why}\n  make sweep ARGS=\"--replay '{run.name}'\"" for run, why in violated_on_all_cores(chosen)]
    assert not found, f"{len(found)} of {len(chosen)} runs:\n" + "\n".join(found[:10])


def _log(references: runs.References, run: Run) -> list[str]:
    return references[run.scenario, run.backend].writes


def test_a_run_is_lived_through_again_by_its_name(references: runs.References, capsys: pytest.CaptureFixture) -> None:
    run = Run("bad in canary", "helm", "pair", (Fault(3, Way.REPLY_LOST), Fault(9, Way.KILLED_AFTER)))
    assert runs.parse(run.name) == run
    once, again = runs.live(run), runs.live(run)
    assert once.load() == again.load()
    assert once.faults.log == again.faults.log
    with pytest.raises(ValueError, match="no scenario"):
        runs.parse("nothing/helm/once//-1/7")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["crash_sweep", "--replay", run.name])
        assert main() == 0
    assert "host 2 upgrade" in capsys.readouterr().out


# --- the sweep notices -----------------------------------------------------------------------------------------------
def _acts_before_it_writes(patch: Patch) -> None:
    def tick(self: loop.RolloutLoop) -> object:
        before = self._read()
        observation = self._look(before)
        record, actions = engine.step(before, observation, self._now())
        self._act(record, actions)
        self._keep(record)
        return self._record, observation

    patch.setattr(loop.RolloutLoop, "tick", tick)


def _no_fence(patch: Patch) -> None:
    patch.setattr(registry.Registry, "_above_fence", lambda self, state, fence: False)
    patch.setattr(serving.ServingEffects, "_check_in_charge", lambda self, record: None)


def _forgets_what_was_not_told(patch: Patch) -> None:
    act = loop.RolloutLoop._act

    def acts(self: loop.RolloutLoop, record: object, actions: tuple[object, ...]) -> None:
        for action in actions:
            act(self, record, (action,))

    patch.setattr(loop.RolloutLoop, "_act", acts)


def _counts_stale_answers(patch: Patch) -> None:
    patch.setattr(tally, "_is_stale", lambda record, observation: False)


def _tells_helm_and_leaves(patch: Patch) -> None:
    def tells(self: helm.HelmEffects, release: Release) -> None:
        self._tell_helm(release, self._record_of(release))

    patch.setattr(helm.HelmEffects, "set_traffic", tells)


def _promotes_without_evidence(patch: Patch) -> None:
    patch.setattr(engine, "required", lambda metric: False)
    patch.setattr(engine, "_min_requests", lambda record: 1)


def _trusts_the_wall_clock(patch: Patch) -> None:
    patch.setattr(lease.LeaseWatch, "ended", lambda self, found: False)


def _second_telling_fails(references: runs.References) -> Iterator[Run]:
    """The host dies before it tells, and the next one, with two decisions to tell, fails with the first of them."""
    first = references["promote", "serving"].writes.index("tell")
    for at in range(first, first + 8):
        yield Run("promote", "serving", "pair", (Fault(first - 1, Way.KILLED_AFTER), Fault(at, Way.ERROR)))


Runs = Callable[[runs.References], Iterator[Run]]
BROKEN: dict[str, tuple[Callable[[Patch], None], Runs, str]] = {
    "acts before it writes": (_acts_before_it_writes, runs.every_write, "2:"),
    "does not fence the registry": (_no_fence, runs.two_hosts, "8:"),
    "forgets what was not told": (_forgets_what_was_not_told, _second_telling_fails, "11:"),
    "counts stale answers": (_counts_stale_answers, lambda references: runs.stale_reads(references, 300), "7:"),
    "tells Helm late and leaves": (_tells_helm_and_leaves, runs.two_hosts, "1"),
    "promotes without evidence": (_promotes_without_evidence, runs.every_write, "5:"),
    "trusts the wall clock": (_trusts_the_wall_clock, runs.clocks, "a host alone was stopped"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_sweep_notices_a_rollout_that(name: str, references: runs.References) -> None:
    break_it, those, expected = BROKEN[name]
    with pytest.MonkeyPatch.context() as patch:
        break_it(patch)
        for number, (_, why) in enumerate(violated(itertools.islice(those(references), 400), references)):
            if why.startswith(expected):
                return
            assert number < 50, f"{why}, and nothing that begins with {expected}"
    raise AssertionError("400 runs, and none noticed")
