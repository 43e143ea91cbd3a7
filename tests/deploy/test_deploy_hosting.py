"""Starting rollouts, the applier on a real store and registry, the loop's pace and cost, and explaining decisions."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from deploy_world import CANDIDATE, CHAMPION, MODEL, World, plan

from fairlead.clock import SystemClock
from fairlead.deploy.backends.serving import ServingEffects, ServingObserver, store_release
from fairlead.deploy.rollout.engine import step, wish
from fairlead.deploy.rollout.loop import RolloutLoop, tick_seconds
from fairlead.deploy.rollout.plan import budget_of, plan_from_spec
from fairlead.deploy.rollout.start import list_rollouts, load, new_rollout, open_rollout, record_key, send_command
from fairlead.deploy.rollout.why import LOSS_NOTE, decision_headline, explain, explain_text
from fairlead.errors import (
    IntegrityError,
    RegistryConflict,
    RolloutError,
    RolloutNotFound,
    ServerUnreachable,
    StaleGeneration,
)
from fairlead.records.codec import from_json
from fairlead.records.evidence import RunningMean, RunningRate, Verdict
from fairlead.records.release import Release
from fairlead.records.rollout import ArmEvidence, PairEvidence, Phase
from fairlead.registry.registry import Registry
from fairlead.reports.html import render_html
from fairlead.reports.markdown import render_markdown
from fairlead.reports.model import Bands, Timeline
from fairlead.spec.deploy import Rollout
from fairlead.spec.serve import Serve
from fairlead.store import open_store
from fairlead.testing.fake_clock import FakeClock
from fairlead.testing.fake_serving import Behaviour, FakeServing
from fairlead.testing.memory_store import MemoryStore


# --- plans and records -----------------------------------------------------------------------------------------------
def test_the_plan_follows_the_spec() -> None:
    made = plan_from_spec(Rollout.model_validate({"steps": [1, 5], "max_hours": 2}), Serve(deadline_ms=150))
    assert made.steps == (1.0, 5.0)
    assert made.latency_bound_ms == 150, "the deadline, where no bound is declared"
    assert made.max_seconds == 7200
    assert made.shadow_percent == 100
    off = plan_from_spec(Rollout.model_validate({"shadow": "off"}), Serve())
    assert (off.shadow_percent, off.shadow_min_requests) == (0, 0)
    assert not budget_of(off).shadow


def test_one_rollout_at_a_time() -> None:
    store, clock = MemoryStore(), FakeClock()
    assert open_rollout(store, MODEL) is None
    first = new_rollout(store, MODEL, plan(), CHAMPION, CANDIDATE, clock, "ann")
    with pytest.raises(RolloutError, match="rollout 0001 of version 2 has not ended"):
        new_rollout(store, MODEL, plan(), CHAMPION, replace(CANDIDATE, digest="sha256:c"), clock, "bob")
    assert open_rollout(store, MODEL) == first == load(store, MODEL)


def test_of_callers_who_start_at_once_one_wins(tmp_path: Path) -> None:
    store = open_store(str(tmp_path), tmp_path)
    won: list[str] = []
    refused: list[RolloutError] = []

    def start(number: int) -> None:
        try:
            won.append(new_rollout(store, MODEL, plan(), CHAMPION, CANDIDATE, SystemClock(), f"caller {number}").id)
        except RolloutError as error:
            refused.append(error)

    threads = [threading.Thread(target=start, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == ["0001"]
    assert len(refused) == 7
    assert len(list_rollouts(store, MODEL)) == 1


def test_a_rollout_of_the_champion_itself_is_refused() -> None:
    with pytest.raises(RolloutError, match="the same bundle"):
        new_rollout(MemoryStore(), MODEL, plan(), CHAMPION, replace(CHAMPION, version=2), FakeClock(), "ann")


def test_the_next_rollout_goes_on_above_all_generations() -> None:
    world = World()
    ended = world.run()
    other = replace(CANDIDATE, version=3, digest="sha256:c")
    second = new_rollout(world.store, MODEL, plan(), CANDIDATE, other, world.clock, "ann")
    assert second.id == "0002"
    assert second.generation > max(ended.generation, world.serving.applied.generation)
    assert [record.id for record in list_rollouts(world.store, MODEL)] == ["0001", "0002"]


def test_unknown_and_damaged_rollouts_are_named() -> None:
    world = World()
    with pytest.raises(RolloutNotFound, match="has had no rollout"):
        load(world.store, "other")
    with pytest.raises(RolloutNotFound, match="no rollout 0009"):
        load(world.store, MODEL, "0009")
    world.store.objects[record_key(MODEL, "0001")] = b'{"id": '
    with pytest.raises(IntegrityError, match="rollout 0001 cannot be read"):
        load(world.store, MODEL, "0001")


def test_an_abort_replaces_another_command_and_nothing_replaces_an_abort() -> None:
    world = World()
    send_command(world.store, MODEL, "0001", "pause", "ann")
    with pytest.raises(RolloutError, match="has not taken up the command 'pause'"):
        send_command(world.store, MODEL, "0001", "promote", "bob")
    assert send_command(world.store, MODEL, "0001", "abort", "bob").command == "abort"
    with pytest.raises(RolloutError, match="'abort'"):
        send_command(world.store, MODEL, "0001", "pause", "ann")


def test_commands_that_cannot_be_followed_are_refused_at_once() -> None:
    world = World()
    with pytest.raises(RolloutError, match="is not paused"):
        send_command(world.store, MODEL, "0001", "resume", "ann")
    with pytest.raises(RolloutError, match="there is no command 'stop'"):
        send_command(world.store, MODEL, "0001", "stop", "ann")
    world.run()
    with pytest.raises(RolloutError, match="has ended"):
        send_command(world.store, MODEL, "0001", "abort", "ann")


# --- the applier on real parts ---------------------------------------------------------------------------------------
def test_a_promotion_on_a_real_store_and_registry(tmp_path: Path) -> None:
    store, clock = open_store(str(tmp_path), tmp_path), FakeClock()
    registry = Registry(store, MODEL, clock)
    digests = ["sha256:" + letter * 64 for letter in "ab"]
    for digest in digests:
        registry.register(f"bundles/{digest}", digest, f"run-{digest[-1]}", {}, "ann", "test")
    registry.set_alias("champion", 1, actor="ann", why="first")
    registry.set_alias("candidate", 2, actor="ann", why="rollout")
    champion, candidate = (
        replace(arm, digest=digest) for arm, digest in zip((CHAMPION, CANDIDATE), digests, strict=True)
    )
    serving = FakeServing(clock, Release(MODEL, 1, champion))
    record = new_rollout(store, MODEL, plan(shadow={"min_requests": 300}), champion, candidate, clock, "ann")
    effects = ServingEffects(store, serving, registry)
    loop = RolloutLoop(
        store, effects, ServingObserver(serving, retraining_noise=0.02), clock, model=MODEL, rollout=record.id
    )
    assert loop.run(timeout_seconds=300).phase is Phase.PROMOTED
    assert registry.aliases() == {"champion": 2}
    entry = next(e for e in registry.history() if "canary 50 %" in e.why)
    assert entry.actor == "engine"
    assert registry.verify() > 0
    assert from_json(Release, store.read(f"releases/{MODEL}.json")).champion == candidate


def test_a_release_is_stored_once_and_never_goes_back() -> None:
    store = MemoryStore()
    release = Release(MODEL, 4, CHAMPION)
    store_release(store, release)
    store_release(store, release)
    with pytest.raises(StaleGeneration, match="not above the stored 4"):
        store_release(store, replace(release, generation=3))
    with pytest.raises(StaleGeneration):
        store_release(store, replace(release, champion=CANDIDATE))
    store_release(store, replace(release, generation=5, champion=CANDIDATE))
    assert from_json(Release, store.read(f"releases/{MODEL}.json")).champion == CANDIDATE


def test_a_champion_that_somebody_else_changed_is_not_overwritten() -> None:
    world = World()
    world.registry.alias["champion"] = 9
    effects = ServingEffects(world.store, world.serving, world.registry)
    with pytest.raises(RegistryConflict, match="champion of flights is version 9, not 1"):
        effects.promote(world.record)
    effects.retire(world.record)
    assert world.registry.alias["champion"] == 9, "rolling back does not touch what is not ours"


def test_servers_that_do_not_answer_become_an_error_and_never_evidence() -> None:
    world = World()
    world.serving.reachable = False
    with pytest.raises(ServerUnreachable):
        ServingObserver(world.serving)(world.record)
    record, observation = world.loop().tick()
    assert observation.error == "the server does not answer"
    assert record.status == "holding: the server does not answer"


# --- the loop's pace and cost ----------------------------------------------------------------------------------------
def test_the_loop_looks_often_while_the_candidate_answers_many_users() -> None:
    world = World()
    record, observation = world.loop().tick()
    confirmed = replace(record, phase=Phase.CANARY, weight=10.0, applied_generation=record.release_generation)
    busy = tick_seconds(confirmed, replace(observation, requests_per_second=300.0))
    calm = tick_seconds(confirmed, replace(observation, requests_per_second=2.0))
    assert busy == pytest.approx(0.1)
    assert calm == pytest.approx(1.0)
    assert tick_seconds(replace(confirmed, phase=Phase.PAUSED, weight=0.0), observation) == 2.0


def test_progress_is_in_the_record_for_others_to_see() -> None:
    world = World(Behaviour(difference=0.03))
    texts: set[str] = set()
    world.run(on_tick=lambda record, _: texts.add(world.load().status.split(":")[0]))
    assert {"shadow 100 %", "canary 10 %", "canary 50 %"} <= texts


def test_a_look_after_a_million_requests_costs_milliseconds() -> None:
    world = World()
    loop = world.loop()
    million = 1_000_000
    pairs = PairEvidence(
        CHAMPION.digest,
        CANDIDATE.digest,
        flips=RunningRate(million, 30_000),
        difference=RunningMean(n=million, total=0.0399 * million, variance_process=0.002 * million),
        loss_difference=RunningMean(-1.0, 1.0, million, 0.0195 * million, 0.01 * million),
        shadow_failures=RunningRate(million, 700),
        shadow_slow=RunningRate(million, 100),
    )
    live = {
        "champion": ArmEvidence(CHAMPION.digest, million, RunningRate(million, 4000), RunningRate(million, 900)),
        "candidate": ArmEvidence(CANDIDATE.digest, million, RunningRate(million, 4100), RunningRate(million, 49_900)),
        "pairs": pairs,
    }
    record, observation = loop.tick()
    for phase in (Phase.SHADOW, Phase.CANARY):
        at = replace(record, phase=phase, weight=10.0, step=1, applied_generation=record.release_generation)
        look = replace(observation, release=wish(at), candidate_ready=True, **live)
        best = min(_timed(lambda at=at, look=look: step(at, look, world.clock.now())) for _ in range(15))
        assert best < 0.005, f"{phase}: {best * 1000:.2f} ms"


def _timed(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


# --- why -------------------------------------------------------------------------------------------------------------
def test_the_report_explains_a_rollback_from_stored_evidence_alone() -> None:
    world = World(Behaviour(difference=0.09))
    world.run()
    report = explain(world.load())
    assert report.verdict is Verdict.FAIL
    blocks = [block for section in report.sections for block in section.blocks]
    assert any(isinstance(block, Timeline) for block in blocks)
    bands = [band for block in blocks if isinstance(block, Bands) for band in block.panels]
    failed = next(band for band in bands if band.kind == "fail")
    assert failed.bounds["bound"] == pytest.approx(0.04)
    assert failed.points[-1].low is not None
    assert failed.points[-1].low > failed.bounds["bound"]
    for text in (render_markdown(report), render_html(report)):
        assert "mean score difference" in text
        assert "What the loss cannot see" in text
    assert len(render_html(report)) < 300_000


def test_the_plain_text_has_every_decision_and_the_note_on_the_loss() -> None:
    world = World(Behaviour(difference=0.03))
    record = world.run()
    text = explain_text(record)
    for decision in record.decisions:
        assert decision.sentence in text
    assert LOSS_NOTE in text
    assert record.decisions[3].sentence in explain_text(record, decision=3)
    assert record.decisions[1].sentence not in explain_text(record, decision=3)


def test_a_decision_is_told_in_a_few_words() -> None:
    promoted, refused = World(Behaviour(difference=0.03)), World(Behaviour(difference=0.09))
    told = [decision_headline(decision) for decision in promoted.run().decisions]
    assert any(line.startswith("shadow passed") and "checks: canary" in line for line in told)
    assert any(line.endswith("checks: promoted") for line in told)
    told = [decision_headline(decision) for decision in refused.run().decisions]
    assert "shadow failed on mean score difference: rolled back" in told
    assert all(len(line) < 120 for line in told)


def test_a_rollout_under_way_shows_what_it_waits_for() -> None:
    world = World(Behaviour(difference=0.03))
    loop = world.loop()
    for _ in range(40):
        record, _ = loop.tick()
        world.clock.advance(0.1)
    assert record.phase is Phase.SHADOW
    report = explain(record)
    assert report.verdict is None
    assert any(section.title == "Now" for section in report.sections)
    assert "a decision takes about" in record.status
