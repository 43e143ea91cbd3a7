"""The fakes keep the promises of what they stand for: the same checks run against the real thing."""

from dataclasses import replace
from pathlib import Path

import pytest
from deploy_world import CANDIDATE, CHAMPION, MODEL

from fairlead.errors import KeyExists, KeyMissing, StaleGeneration, VersionConflict
from fairlead.records.evidence import RunningRate
from fairlead.records.release import Release
from fairlead.records.rollout import ServingEvidence
from fairlead.serve.control_state import ControlState
from fairlead.serve.evidence import EvidenceDelta
from fairlead.serve.messages import ReleaseRefused, ReplicaReport
from fairlead.store import Store, open_store
from fairlead.testing.fake_clock import FakeClock
from fairlead.testing.fake_serving import Behaviour, FakeServing
from fairlead.testing.memory_store import MemoryStore

FIRST = Release(MODEL, 3, CHAMPION)
ROLLOUT = Release(MODEL, 4, CHAMPION, CANDIDATE, 0.0, 100.0, "0001")


class RealControl:
    """The serving control itself, with one replica that applies at once and answers requests when told."""

    def __init__(self, release: Release) -> None:
        self._state = ControlState(release)
        self._report()

    def put_release(self, release: Release) -> None:
        try:
            if self._state.check(release):
                self._state.adopt(release)
        except ReleaseRefused as error:
            raise StaleGeneration(str(error)) from error
        self._report()

    def evidence(self) -> ServingEvidence:
        return self._state.evidence()

    def traffic(self, calls: int) -> None:
        delta = EvidenceDelta(self._state.wanted.rollout, answers=calls)
        for _ in range(calls):
            delta.call(CHAMPION.digest).add(0.002, failed=False, slow=False)
        self._report(delta)

    def _report(self, *deltas: EvidenceDelta) -> None:
        self._state.sync(ReplicaReport("replica", self._state.wanted.generation, list(deltas)))


class FakeControl:
    """The fake, driven the same way."""

    def __init__(self, release: Release) -> None:
        self._clock = FakeClock()
        self._serving = FakeServing(self._clock, release, {CANDIDATE.digest: Behaviour()}, rate=0.0, apply_seconds=0.0)

    def put_release(self, release: Release) -> None:
        self._serving.put_release(release)

    def evidence(self) -> ServingEvidence:
        return self._serving.evidence()

    def traffic(self, calls: int) -> None:
        self._serving.rate = float(calls)
        self._clock.advance(1.0)
        self._serving.rate = 0.0


@pytest.fixture(params=[RealControl, FakeControl], ids=["real", "fake"])
def control(request: pytest.FixtureRequest) -> RealControl | FakeControl:
    made: RealControl | FakeControl = request.param(FIRST)
    return made


def test_a_server_takes_a_newer_release_and_says_so(control: RealControl) -> None:
    control.put_release(ROLLOUT)
    control.put_release(ROLLOUT)
    assert control.evidence().release == ROLLOUT


def test_a_server_refuses_an_older_release_and_the_same_generation_with_other_content(control: RealControl) -> None:
    control.put_release(ROLLOUT)
    with pytest.raises(StaleGeneration):
        control.put_release(FIRST)
    with pytest.raises(StaleGeneration):
        control.put_release(replace(ROLLOUT, candidate_weight=10.0))
    assert control.evidence().release == ROLLOUT


def test_a_server_counts_calls_and_begins_anew_with_a_rollout(control: RealControl) -> None:
    control.traffic(20)
    before = control.evidence()
    assert before.champion is not None
    assert before.champion.failures == RunningRate(20, 0)
    control.put_release(ROLLOUT)
    after = control.evidence()
    assert after.champion is not None
    assert after.champion.failures.n == 0
    assert after.instance != before.instance


def test_a_server_goes_on_counting_when_only_weights_move(control: RealControl) -> None:
    control.put_release(ROLLOUT)
    control.traffic(5)
    before = control.evidence().instance
    control.put_release(replace(ROLLOUT, generation=5, shadow_percent=0.0, candidate_weight=10.0))
    evidence = control.evidence()
    assert evidence.champion is not None
    assert evidence.champion.failures.n == 5
    assert evidence.instance == before


def test_evidence_names_the_arms_by_their_digests(control: RealControl) -> None:
    assert control.evidence().candidate is None
    assert control.evidence().pairs is None
    control.put_release(ROLLOUT)
    evidence = control.evidence()
    assert evidence.champion is not None
    assert evidence.candidate is not None
    assert evidence.pairs is not None
    assert (evidence.champion.digest, evidence.candidate.digest) == (CHAMPION.digest, CANDIDATE.digest)
    assert (evidence.pairs.champion_digest, evidence.pairs.candidate_digest) == (CHAMPION.digest, CANDIDATE.digest)


@pytest.fixture(params=["memory", "folder"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else open_store(str(tmp_path), tmp_path)


def test_a_store_creates_once_and_replaces_what_was_read(store: Store) -> None:
    version = store.create("a/b.json", b"1")
    with pytest.raises(KeyExists):
        store.create("a/b.json", b"2")
    assert store.read_versioned("a/b.json") == (b"1", version)
    newer = store.replace("a/b.json", b"2", version)
    with pytest.raises(VersionConflict):
        store.replace("a/b.json", b"3", version)
    assert store.read_versioned("a/b.json") == (b"2", newer)
    with pytest.raises(VersionConflict):
        store.replace("a/c.json", b"3", newer)


def test_a_store_lists_deletes_and_copies(store: Store, tmp_path: Path) -> None:
    store.write("a/2.json", b"2")
    store.write("a/1.json", b"1")
    assert store.list("a/") == ["a/1.json", "a/2.json"]
    local = tmp_path / "copy"
    store.download("a/1.json", local)
    store.upload(local, "a/3.json")
    assert store.read("a/3.json") == b"1"
    store.delete("a/1.json")
    store.delete("a/1.json")
    assert not store.exists("a/1.json")
    with pytest.raises(KeyMissing):
        store.read("a/1.json")


def test_time_passes_only_when_somebody_says_so() -> None:
    clock, passed = FakeClock(), []
    clock.on_advance(passed.append)
    start = clock.now()
    clock.sleep(2.5)
    clock.set_wall_back(60)
    assert clock.monotonic() == 2.5
    assert (clock.now() - start).total_seconds() == -57.5
    assert passed == [2.5]
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)
