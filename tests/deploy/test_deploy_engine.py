"""The pure engine: verdict algebra, commands in every state, clocks, servers that restart or are taken over."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from deploy_world import CANDIDATE, CHAMPION, MODEL, World, plan
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.deploy.rollout import tally as sums
from fairlead.deploy.rollout.actions import Promote, Retire, SetTraffic
from fairlead.deploy.rollout.commands import COMMANDS, refusal
from fairlead.deploy.rollout.engine import settled, step, wish
from fairlead.deploy.rollout.start import new_rollout
from fairlead.records.codec import from_json, to_json
from fairlead.records.data import SkewFinding
from fairlead.records.evidence import LatencyCounts, RunningMean, RunningRate, Verdict, latency_bin
from fairlead.records.release import Arm
from fairlead.records.rollout import ArmEvidence, Observation, PairEvidence, Phase, RolloutRecord
from fairlead.testing.fake_clock import FakeClock
from fairlead.testing.fake_serving import Behaviour
from fairlead.testing.memory_store import MemoryStore

START = datetime.fromisoformat("2030-01-01T00:00:00+00:00")


def later(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def fresh_record(**changes: Any) -> RolloutRecord:
    return new_rollout(MemoryStore(), MODEL, plan(**changes), CHAMPION, CANDIDATE, FakeClock(START), "ann")


def seen(record: RolloutRecord, **changes: Any) -> Observation:
    """The servers apply what the record wishes, and the candidate is ready."""
    values: dict[str, Any] = {
        "release": wish(record),
        "candidate_ready": True,
        "champion": ArmEvidence(CHAMPION.digest),
        "candidate": ArmEvidence(CANDIDATE.digest),
        "pairs": PairEvidence(CHAMPION.digest, CANDIDATE.digest),
        "requests_per_second": 100.0,
        "retraining_noise": 0.02,
        **changes,
    }
    return Observation(**values)


def pairs(n: int = 3000, *, difference: float = 0.02, flips: float = 0.02, failures: float = 0.0) -> PairEvidence:
    return PairEvidence(
        CHAMPION.digest,
        CANDIDATE.digest,
        flips=RunningRate(n, round(n * flips)),
        difference=RunningMean(n=n, total=n * difference, variance_process=n * 0.001),
        shadow_failures=RunningRate(n, round(n * failures)),
        shadow_slow=RunningRate(n, 0),
    )


def arm(which: Arm, n: int, *, failures: float = 0.0, slow: float = 0.0, latency_ms: float = 5.0) -> ArmEvidence:
    latency = LatencyCounts.of({latency_bin(latency_ms / 1000): n})
    return ArmEvidence(
        which.digest, n, RunningRate(n, round(n * failures)), RunningRate(n, round(n * slow)), latency=latency
    )


def in_phase(phase: Phase, **changes: Any) -> RolloutRecord:
    """A record that came to `phase` by the engine's own steps."""
    record = fresh_record(**{"watch": 60, **changes})
    record, _ = step(record, seen(record), later(1))  # shadow
    if phase is Phase.STARTING:
        return fresh_record(**{"watch": 60, **changes})
    if phase is Phase.SHADOW:
        return record
    if phase in (Phase.ABORTING, Phase.ABORTED):
        record, _ = step(replace(record, command="abort", command_by="bob"), seen(record), later(2))
        if phase is Phase.ABORTED:
            record = replace(record, effects_generation=record.release_generation)
            record, _ = step(record, seen(record), later(3))
        return record
    record, _ = step(record, seen(record, pairs=pairs()), later(2))  # canary 10 %
    if phase is Phase.PAUSED:
        record, _ = step(replace(record, command="pause", command_by="bob"), seen(record), later(3))
    if phase in (Phase.PROMOTING, Phase.WATCHING, Phase.PROMOTED):
        record, _ = step(replace(record, command="promote", command_by="bob"), seen(record), later(3))
    if phase in (Phase.WATCHING, Phase.PROMOTED):
        record = replace(record, effects_generation=record.release_generation)
        record, _ = step(record, seen(record), later(4))
    if phase is Phase.PROMOTED:
        record, _ = step(replace(record, command="promote", command_by="bob"), seen(record), later(5))
        record, _ = step(record, seen(record), later(6))
    return record


@pytest.mark.parametrize("phase", list(Phase))
def test_every_phase_can_be_reached_and_survives_storage(phase: Phase) -> None:
    record = in_phase(phase)
    assert record.phase is phase
    assert from_json(RolloutRecord, to_json(record)) == record


# --- the verdict algebra ---------------------------------------------------------------------------------------------
GOOD = {"candidate": arm(CANDIDATE, 800), "champion": arm(CHAMPION, 7000)}


@pytest.mark.parametrize(
    ("evidence", "expected", "words"),
    [
        (GOOD, Phase.CANARY, "Next: canary 50 %"),
        ({**GOOD, "candidate": arm(CANDIDATE, 40, failures=0.25)}, Phase.ABORTING, "hard failures in 40 calls"),
        ({**GOOD, "candidate": arm(CANDIDATE, 800, slow=0.3)}, Phase.ABORTING, "answers over 200 ms 30.0 %"),
        ({**GOOD, "candidate": arm(CANDIDATE, 100)}, Phase.CANARY, ""),
        ({**GOOD, "error": "metrics: connection refused"}, Phase.CANARY, ""),
        ({**GOOD, "candidate_ready": False}, Phase.CANARY, ""),
        ({**GOOD, "candidate_error": "digest mismatch"}, Phase.ABORTING, "cannot be brought up: digest mismatch"),
    ],
    ids=["all pass", "failures", "slow", "too few", "unreadable", "not ready", "gave up"],
)
def test_in_a_canary_step(evidence: dict[str, Any], expected: Phase, words: str) -> None:
    record = in_phase(Phase.CANARY)
    after, _ = step(record, seen(record, **evidence), later(10))
    assert after.phase is expected
    if words:
        assert words in after.decisions[-1].sentence
        assert after.weight == (50 if expected is Phase.CANARY else 0)
    else:
        assert after.decisions == record.decisions, "holding is no decision"
        assert after.weight == 10


def test_a_decision_says_its_numbers() -> None:
    record = in_phase(Phase.CANARY)
    evidence = {"candidate": arm(CANDIDATE, 1204), "champion": arm(CHAMPION, 10_000)}
    after, _ = step(record, seen(record, **evidence), later(10))
    sentence = after.decisions[-1].sentence
    assert sentence.startswith("canary 10 %: 1,204 requests, failure rate 0.0 %, champion 0.0 % of 10,000")
    assert "margin 2 %: PASS" in sentence


@pytest.mark.parametrize(
    ("evidence", "noise", "expected", "words"),
    [
        (pairs(), 0.02, Phase.CANARY, "Next: canary 10 %"),
        (pairs(difference=0.07), 0.02, Phase.ABORTING, "bound 0.0400 (2 x retraining noise 0.0200): FAIL"),
        (pairs(flips=0.3), 0.02, Phase.ABORTING, "labels that change 30.0 %"),
        (pairs(failures=0.3), 0.02, Phase.ABORTING, "failures of shadow copies"),
        (pairs(), None, Phase.PAUSED, "no bound is declared"),
        (pairs(), 0.0, Phase.PAUSED, "no bound is declared"),
        (pairs(500), 0.02, Phase.SHADOW, ""),
    ],
    ids=["all pass", "difference", "flips", "failures", "noise unknown", "noise zero", "too few"],
)
def test_in_the_shadow(evidence: PairEvidence, noise: float | None, expected: Phase, words: str) -> None:
    record = in_phase(Phase.SHADOW)
    after, _ = step(record, seen(record, pairs=evidence, retraining_noise=noise), later(10))
    assert after.phase is expected
    assert words in after.decisions[-1].sentence


def test_a_declared_bound_needs_no_noise() -> None:
    record = in_phase(Phase.SHADOW, shadow={"max_score_difference": 0.05})
    after, _ = step(record, seen(record, pairs=pairs(), retraining_noise=None), later(10))
    assert after.phase is Phase.CANARY


def test_a_person_who_resumes_accepts_what_could_not_be_judged() -> None:
    record = in_phase(Phase.SHADOW)
    look = seen(record, pairs=pairs(), retraining_noise=None)
    paused, _ = step(record, look, later(10))
    after, _ = step(replace(paused, command="resume", command_by="bob"), look, later(11))
    assert (after.phase, after.weight) == (Phase.CANARY, 10)
    assert "bob resumed and so accepted" in after.decisions[-1].sentence


def test_without_requests_it_holds_then_pauses_and_never_decides() -> None:
    record = in_phase(Phase.CANARY)
    for seconds in (5, 15, 29):
        record, _ = step(record, seen(record), later(seconds))
        assert record.phase is Phase.CANARY
    record, _ = step(record, seen(record), later(40))
    assert (record.phase, record.pause_kind, record.weight) == (Phase.PAUSED, "no_data", 10)
    assert "no requests for" in record.pause_reason


def test_evidence_of_long_ago_does_not_advance() -> None:
    record = in_phase(Phase.CANARY, no_data="10m")
    short = {"candidate": arm(CANDIDATE, 200), "champion": arm(CHAMPION, 7000)}
    record, _ = step(record, seen(record, **short), later(10))
    record = replace(record, plan=replace(record.plan, min_requests=100, max_error_rate_increase=0.2))
    record, _ = step(record, seen(record, **short), later(200))
    assert record.phase is Phase.CANARY, "nothing new came for 190 s"


@pytest.mark.parametrize("problem", [{"error": "refused"}, {"release": None}, {"candidate_ready": False}])
def test_servers_that_cannot_be_read_pause_it_in_the_end_and_nothing_else(problem: dict[str, Any]) -> None:
    record = in_phase(Phase.CANARY)
    for seconds in (5, 20, 34):
        record, _ = step(record, seen(record, **GOOD, **problem), later(seconds))
        assert record.phase is Phase.CANARY
    record, _ = step(record, seen(record, **GOOD, **problem), later(40))
    assert (record.phase, record.pause_kind) == (Phase.PAUSED, "error")


def test_an_outage_that_ends_starts_its_patience_anew() -> None:
    record = in_phase(Phase.CANARY)
    busy = {"candidate": arm(CANDIDATE, 10), "champion": arm(CHAMPION, 90)}
    record, _ = step(record, seen(record, error="refused"), later(5))
    record, _ = step(record, seen(record, **busy), later(20))
    record, _ = step(record, seen(record, error="refused"), later(30))
    record, _ = step(record, seen(record, error="refused"), later(45))
    assert record.phase is Phase.CANARY


def test_without_a_verdict_it_pauses_at_its_deadline_and_resuming_accepts() -> None:
    record = in_phase(Phase.CANARY, max_hours=0.01, no_data="1h")
    slowish = {"candidate": arm(CANDIDATE, 1000, slow=0.05), "champion": arm(CHAMPION, 9000)}
    record, _ = step(record, seen(record, **slowish), later(30))
    assert record.phase is Phase.CANARY
    record, _ = step(record, seen(record, **slowish), later(40))
    assert (record.phase, record.pause_kind) == (Phase.PAUSED, "inconclusive")
    record, _ = step(replace(record, command="resume", command_by="bob"), seen(record, **slowish), later(50))
    assert (record.phase, record.weight) == (Phase.CANARY, 50)


def test_a_paused_rollout_still_aborts_on_a_failure() -> None:
    record = in_phase(Phase.PAUSED)
    after, actions = step(record, seen(record, candidate=arm(CANDIDATE, 30, failures=0.5)), later(10))
    assert after.phase is Phase.ABORTING
    assert isinstance(actions[0], SetTraffic)
    assert actions[0].release.candidate is None


def test_a_clock_that_is_set_back_decides_nothing() -> None:
    record = in_phase(Phase.CANARY)
    after, _ = step(record, seen(record), later(-3600))
    assert after.phase is Phase.CANARY


def test_weight_moves_only_after_the_servers_confirmed_the_last_move() -> None:
    record = in_phase(Phase.CANARY)
    old = replace(wish(record), generation=record.release_generation - 1, candidate_weight=0.0)
    after, actions = step(record, seen(record, release=old, **GOOD), later(10))
    assert after.weight == 10
    assert actions[0] == SetTraffic(wish(record)), "it is asked for again"


def test_promotion_goes_registry_first_and_rollback_traffic_first() -> None:
    promoting, aborting = in_phase(Phase.PROMOTING), in_phase(Phase.ABORTING)
    before = in_phase(Phase.CANARY)
    _, up = step(promoting, seen(before), later(10))
    _, down = step(aborting, seen(before), later(10))
    assert [type(action) for action in up[:2]] == [Promote, SetTraffic]
    assert [type(action) for action in down[:2]] == [SetTraffic, Retire]


# --- live features, labels -------------------------------------------------------------------------------------------
def finding(which: Arm, *, skewed: bool) -> SkewFinding:
    return SkewFinding(
        "scheduled_at", "hour", which.digest, 0.4 if skewed else 0.02, 0.1, skewed, "hours are shifted by 5"
    )


def test_a_feature_that_only_the_candidate_does_not_know_fails_it_by_name() -> None:
    record = in_phase(Phase.SHADOW)
    skew = (finding(CHAMPION, skewed=False), finding(CANDIDATE, skewed=True))
    after, _ = step(record, seen(record, pairs=pairs(), skew=skew, skew_expected=True), later(10))
    assert after.phase is Phase.ABORTING
    assert "scheduled_at (hour)" in after.decisions[-1].sentence
    assert "hours are shifted by 5" in after.decisions[-1].sentence


def test_a_change_of_the_world_is_not_held_against_the_candidate() -> None:
    record = in_phase(Phase.SHADOW)
    skew = (finding(CHAMPION, skewed=True), finding(CANDIDATE, skewed=True))
    after, _ = step(record, seen(record, pairs=pairs(), skew=skew, skew_expected=True), later(10))
    assert after.phase is Phase.CANARY


def test_the_shadow_waits_for_live_features_when_they_are_compared() -> None:
    record = in_phase(Phase.SHADOW)
    after, _ = step(record, seen(record, pairs=pairs(), skew_expected=True), later(10))
    assert after.phase is Phase.SHADOW


def test_a_failure_in_shadow_waits_a_moment_for_its_cause_and_is_not_forgotten() -> None:
    record = in_phase(Phase.SHADOW, no_data="10m")
    bad = seen(record, pairs=pairs(difference=0.07), skew_expected=True)
    record, _ = step(record, bad, later(5))
    assert record.phase is Phase.SHADOW
    assert [metric.metric for metric in record.failed] == ["shadow_score_difference"]
    skew = (finding(CHAMPION, skewed=False), finding(CANDIDATE, skewed=True))
    named, _ = step(record, replace(bad, skew=skew), later(8))
    assert named.phase is Phase.ABORTING
    assert "scheduled_at" in named.decisions[-1].sentence
    assert "mean score difference 0.0700" in named.decisions[-1].sentence
    unnamed, _ = step(record, replace(bad, pairs=pairs(3100, difference=0.03)), later(90))
    assert unnamed.phase is Phase.ABORTING, "a FAIL stays one"


@pytest.mark.parametrize(
    ("labelled", "difference", "expected"),
    [
        (0, 0.0, Phase.CANARY),
        (100, 0.015, Phase.CANARY),
        (2000, 0.0, Phase.CANARY),
        (2000, 0.018, Phase.SHADOW),
        (2000, 0.2, Phase.ABORTING),
        (200, 0.3, Phase.ABORTING),
    ],
    ids=["none", "few: no veto", "many: pass", "many: undecided", "many: worse", "few: much worse"],
)
def test_labels_veto_and_must_pass_only_where_they_keep_up(labelled: int, difference: float, expected: Phase) -> None:
    record = in_phase(Phase.SHADOW)
    loss = RunningMean(-1.0, 1.0, labelled, labelled * difference, labelled * 0.003)
    after, _ = step(record, seen(record, pairs=replace(pairs(), loss_difference=loss)), later(10))
    assert after.phase is expected


# --- commands --------------------------------------------------------------------------------------------------------
ACCEPTED = {
    "abort": {
        Phase.STARTING,
        Phase.SHADOW,
        Phase.CANARY,
        Phase.PROMOTING,
        Phase.WATCHING,
        Phase.ABORTING,
        Phase.PAUSED,
    },
    "pause": {Phase.STARTING, Phase.SHADOW, Phase.CANARY, Phase.WATCHING},
    "resume": {Phase.PAUSED},
    "promote": {Phase.STARTING, Phase.SHADOW, Phase.CANARY, Phase.WATCHING, Phase.PAUSED},
}
LEADS_TO = {"abort": Phase.ABORTING, "pause": Phase.PAUSED, "resume": Phase.CANARY, "promote": Phase.PROMOTING}


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_in_every_state_acts_or_says_why_not(command: str, phase: Phase) -> None:
    record = in_phase(phase)
    assert (refusal(record, command) == "") == (phase in ACCEPTED[command])
    after, _ = step(replace(record, command=command, command_by="bob"), seen(record), later(20))
    if settled(record):
        assert after.phase is phase
        return
    assert after.command == ""
    if phase not in ACCEPTED[command]:
        assert after.phase is phase
        assert "refused" in after.decisions[-1].sentence
    elif command == "promote" and phase is Phase.WATCHING:
        assert after.phase is Phase.PROMOTED
    else:
        assert after.phase is LEADS_TO[command]
    assert after.decisions[-1].actor == "bob"


def test_a_candidate_that_is_not_ready_cannot_be_promoted_by_anybody() -> None:
    record = replace(in_phase(Phase.STARTING), command="promote", command_by="bob")
    after, _ = step(record, seen(record, candidate_ready=False), later(20))
    assert after.phase is Phase.STARTING
    assert "not ready" in after.decisions[-1].sentence


def test_after_an_abort_nothing_starts_the_candidate_again() -> None:
    record = in_phase(Phase.ABORTED)
    for seconds in range(10, 200, 10):
        record, actions = step(record, seen(record, candidate=arm(CANDIDATE, seconds)), later(seconds))
        assert record.phase is Phase.ABORTED
        assert not any(isinstance(action, SetTraffic) for action in actions)


# --- other hands -----------------------------------------------------------------------------------------------------
def test_when_somebody_else_sets_the_traffic_it_pauses_and_resuming_takes_it_back() -> None:
    record = in_phase(Phase.CANARY)
    foreign = replace(
        wish(record), generation=record.release_generation + 5, candidate=None, rollout="", candidate_weight=0
    )
    paused, actions = step(record, seen(record, release=foreign), later(10))
    assert (paused.phase, paused.pause_kind) == (Phase.PAUSED, "taken_over")
    assert "a person set the traffic" in paused.pause_reason
    assert not any(isinstance(action, SetTraffic) for action in actions), "it does not fight"
    again, actions = step(replace(paused, command="resume", command_by="bob"), seen(record, release=foreign), later(20))
    assert again.release_generation > foreign.generation


def test_an_abort_outbids_whoever_set_the_traffic() -> None:
    record = in_phase(Phase.ABORTING)
    foreign = replace(wish(in_phase(Phase.CANARY)), generation=record.release_generation + 5)
    after, actions = step(record, seen(record, release=foreign), later(10))
    assert after.release_generation > foreign.generation
    assert any(isinstance(action, SetTraffic) and action.release.candidate is None for action in actions)


def test_servers_with_another_champion_are_left_alone() -> None:
    record = fresh_record()
    other = replace(wish(record), generation=1, champion=Arm(7, "x", "sha256:x"), candidate=None)
    after, actions = step(record, seen(record, release=other), later(10))
    assert after.phase is Phase.STARTING
    assert "version 7" in after.status
    assert not any(isinstance(action, SetTraffic) for action in actions)


# --- sums over restarts ----------------------------------------------------------------------------------------------
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(0, 3), st.booleans()), min_size=1, max_size=12),
    st.integers(0, 1000),
)
def test_the_sums_of_a_rollout_survive_restarts_and_ignore_what_was_before(
    looks: list[tuple[int, int, bool]], before: int
) -> None:
    record = fresh_record()
    record, _ = step(record, seen(record, candidate=arm(CANDIDATE, before), instance="0"), later(1))
    raw, events, total_n, total_events, instance = before, 0, 0, 0, 0
    for number, (n, failed, restart) in enumerate(looks):
        if restart:
            raw, events, instance = 0, 0, instance + 1
        raw, events = raw + n, events + min(failed, n)
        total_n, total_events = total_n + n, total_events + min(failed, n)
        counted = ArmEvidence(CANDIDATE.digest, raw, RunningRate(raw, events), RunningRate(raw, 0))
        look = seen(record, candidate=counted, instance=str(instance))
        record = sums.absorb(record, look, later(2 + number))
    whole = sums.total(record).candidate.failures
    assert (whole.n, whole.events) == (total_n, total_events)


def test_the_evidence_of_another_bundle_does_not_count() -> None:
    record = in_phase(Phase.CANARY)
    stranger = ArmEvidence("sha256:other", 500, RunningRate(500, 400))
    after, _ = step(record, seen(record, candidate=stranger), later(10))
    assert after.phase is Phase.CANARY
    assert sums.total(after).candidate.failures.n == 0


# --- whole stories ---------------------------------------------------------------------------------------------------
def test_the_watch_brings_the_old_champion_back_at_once() -> None:
    world = World(Behaviour(), the_plan=plan(watch=30), noise=0.02)

    def on_tick(record: RolloutRecord, _: Observation) -> None:
        if record.phase is Phase.WATCHING:
            world.serving.behaviours[CANDIDATE.digest] = Behaviour(failure_rate=0.8)

    record = world.run(on_tick=on_tick)
    assert record.phase is Phase.ABORTED
    assert world.serving.applied.champion == CHAMPION
    assert [change[:2] for change in world.registry.changes] == [
        ("champion", 2),
        ("candidate", None),
        ("champion", 1),
    ]


@pytest.mark.parametrize(("seed", "failing"), [(seed, rate) for rate in (0.3, 0.6, 1.0) for seed in range(5)])
def test_a_candidate_with_a_hard_fault_gets_few_requests(seed: int, failing: float) -> None:
    world = World(Behaviour(failure_rate=failing), the_plan=plan(shadow="off"), seed=seed)
    record = world.run()
    assert record.phase is Phase.ABORTED
    decided = next(d for d in record.decisions if d.phase_after is Phase.ABORTING)
    assert decided.evidence["candidate_requests"] <= 40
    assert decided.evidence["user_failures"] == 0


def test_the_plan_of_the_demo_promotes_well_under_90_seconds_of_traffic() -> None:
    for seed in range(5):
        world = World(Behaviour(difference=0.03), seed=seed, labelled=0.9)
        record = world.run()
        assert record.phase is Phase.PROMOTED
        assert world.clock.monotonic() < 60
        assert [d.weight_after for d in record.decisions] == [0, 0, 10, 50, 100, 100]


def test_healthy_candidates_are_promoted_and_not_rolled_back() -> None:
    small = {"shadow": {"min_requests": 400}, "canary": {"max_error_rate_increase": 0.05}}
    ends = [
        World(Behaviour(failure_rate=0.003, difference=0.025), the_plan=plan(**small), seed=seed).run().phase
        for seed in range(40)
    ]
    assert ends == [Phase.PROMOTED] * 40


def test_the_verdicts_of_a_live_step_are_those_that_the_report_names() -> None:
    record = in_phase(Phase.CANARY)
    after, _ = step(record, seen(record, **GOOD), later(10))
    verdicts = {metric.metric: metric.verdict for metric in after.decisions[-1].metrics}
    assert verdicts == {
        "error_rate": Verdict.PASS,
        "failures": Verdict.PASS,
        "slow_rate": Verdict.PASS,
        "latency_p50": Verdict.PASS,
        "latency_p95": Verdict.PASS,
        "latency_p99": Verdict.NOT_ENOUGH_EVIDENCE,
        "loss": Verdict.NOT_ENOUGH_EVIDENCE,
        "skew": Verdict.NOT_ENOUGH_EVIDENCE,
    }
