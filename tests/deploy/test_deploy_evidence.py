"""Verdicts of a live step: latency, late faults, shared failures, a wrong split, and old or odd sums."""

import math
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from deploy_world import CANDIDATE, CHAMPION, plan
from test_deploy_engine import GOOD, arm, in_phase, later, pairs, seen

from fairlead.deploy.rollout import tally as sums
from fairlead.deploy.rollout.engine import step
from fairlead.deploy.rollout.latency import is_required
from fairlead.deploy.rollout.outlook import outlook, outlook_text
from fairlead.deploy.rollout.plan import plan_from_spec
from fairlead.deploy.rollout.verdicts import judge
from fairlead.records.codec import from_json, to_json
from fairlead.records.evidence import MetricVerdict, RunningMean, RunningRate, Verdict
from fairlead.records.rollout import ArmEvidence, Observation, Phase, RolloutRecord
from fairlead.spec.deploy import Rollout
from fairlead.spec.serve import Serve


def metric(record: RolloutRecord, name: str) -> MetricVerdict:
    return next(found for found in record.last_metrics if found.metric == name)


def looked(record: RolloutRecord, seconds: float, **evidence: Any) -> RolloutRecord:
    return step(record, seen(record, **evidence), later(seconds))[0]


# --- latency ---------------------------------------------------------------------------------------------------------
def test_a_candidate_that_is_much_slower_than_the_champion_is_rolled_back_with_the_quantile_named() -> None:
    slow = {"candidate": arm(CANDIDATE, 800, latency_ms=150.0), "champion": arm(CHAMPION, 7000)}
    after = looked(in_phase(Phase.CANARY), 10, **slow)
    assert after.phase is Phase.ABORTING
    assert "p95 of 800 latencies 15" in after.decisions[-1].sentence


def test_a_few_milliseconds_more_are_no_harm_and_a_latency_without_a_champion_is_no_evidence() -> None:
    record = in_phase(Phase.CANARY)
    some = {"candidate": arm(CANDIDATE, 800, latency_ms=20.0), "champion": arm(CHAMPION, 7000)}
    assert looked(record, 10, **some).weight == 50
    alone = looked(record, 10, candidate=arm(CANDIDATE, 800))
    assert metric(alone, "latency_p50").verdict is Verdict.NOT_ENOUGH_EVIDENCE
    assert alone.weight == 10


def test_the_plan_takes_the_declared_margin_or_a_quarter_of_the_deadline() -> None:
    usual = plan()
    assert usual.latency_quantiles == (0.5, 0.95, 0.99)
    assert usual.min_latency_increase_ms == Serve().deadline_ms / 4
    assert [is_required(usual, q) for q in usual.latency_quantiles] == [True, True, False]
    own = {"canary": {"latency": {"quantiles": [0.9], "max_increase": 1.1, "min_increase_ms": 3}}}
    declared = plan_from_spec(Rollout.model_validate(own), Serve())
    assert (declared.latency_quantiles, declared.max_latency_increase) == ((0.9,), 1.1)
    assert declared.min_latency_increase_ms == 3
    off = plan_from_spec(Rollout.model_validate({"canary": {"latency": "off"}}), Serve())
    assert off.latency_quantiles == ()


@pytest.mark.parametrize(
    "bad",
    [{"quantiles": [0.9, 0.5]}, {"quantiles": [1.0]}, {"max_increase": 1, "min_increase_ms": 0}, {"max_increase": 0.9}],
)
def test_latency_limits_that_contradict_themselves_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"quantiles|margin|greater"):
        Rollout.model_validate({"canary": {"latency": bad}})


# --- late faults -----------------------------------------------------------------------------------------------------
def canary_counts(calls: int, failures: int, slow: int, champion_failures: int = 0) -> dict[str, ArmEvidence]:
    good = arm(CANDIDATE, calls)
    return {
        "candidate": replace(good, failures=RunningRate(calls, failures), slow=RunningRate(calls, slow)),
        "champion": replace(arm(CHAMPION, 9 * calls), failures=RunningRate(9 * calls, champion_failures)),
    }


def a_long_step() -> RolloutRecord:
    """Twenty minutes of a step of 20,000 healthy calls that waits for more requests than it gets."""
    record = in_phase(Phase.CANARY, canary={"min_requests": 10**6}, no_data="1h")
    for minute in range(1, 21):
        record = looked(record, 60 * minute, **canary_counts(1000 * minute, 2 * minute, 10 * minute, 18 * minute))
    assert record.phase is Phase.CANARY
    return record


def test_a_fault_that_starts_late_in_a_long_step_is_seen_at_once() -> None:
    record = a_long_step()
    after = looked(record, 1201, **canary_counts(20_020, 52, 200, 360))
    assert after.phase is Phase.ABORTING
    assert "hard failures began in the course of this step" in after.decisions[-1].sentence


def test_answers_that_turn_slow_late_in_a_long_step_are_seen_while_the_sums_still_pass() -> None:
    record = a_long_step()
    after = looked(record, 1210, **canary_counts(20_100, 40, 260, 360))
    assert after.phase is Phase.ABORTING
    assert "answers turned slow in the course of this step" in after.decisions[-1].sentence


def test_the_detectors_survive_a_restart_of_the_controller_and_start_anew_with_a_step() -> None:
    record = a_long_step()
    again = from_json(RolloutRecord, to_json(record))
    assert again.detectors == record.detectors
    assert record.detectors.failures > -100
    nextstep = looked(
        replace(record, plan=replace(record.plan, min_requests=100)), 1202, **canary_counts(20_500, 41, 205, 369)
    )
    assert nextstep.weight == 50
    fresh = looked(nextstep, 1203, **canary_counts(20_500, 41, 205, 369))
    assert fresh.detectors.since == nextstep.phase_since
    assert fresh.detectors.failures == -1e4


# --- whose failures --------------------------------------------------------------------------------------------------
def test_failures_that_the_champion_has_as_well_hold_the_rollout_and_do_not_roll_it_back() -> None:
    record = in_phase(Phase.CANARY)
    held = looked(record, 10, **canary_counts(400, 12, 0, champion_failures=108))
    assert held.phase is Phase.CANARY
    assert metric(held, "failures").details["reason"] == "shared"
    assert "the champion's calls fail as well" in metric(held, "failures").why
    own = looked(record, 10, **canary_counts(400, 12, 0, champion_failures=10))
    assert own.phase is Phase.ABORTING


# --- split -----------------------------------------------------------------------------------------------------------
def test_a_wrong_split_makes_no_verdict_and_pauses_for_a_person() -> None:
    record = in_phase(Phase.CANARY)
    after = looked(record, 10, **GOOD, split=RunningRate(10_000, 700))
    assert (after.phase, after.pause_kind, after.weight) == (Phase.PAUSED, "inconclusive", 10)
    assert "7.0 % of them on the candidate where 10 % belong" in after.pause_reason
    found = {m.metric: m.verdict for m in after.decisions[-1].metrics}
    assert found["split"] is found["error_rate"] is found["latency_p50"] is Verdict.ERROR
    assert found["failures"] is Verdict.PASS


def test_under_a_wrong_split_a_comparison_never_rolls_back_but_hard_failures_do() -> None:
    record = in_phase(Phase.CANARY)
    slower = {**GOOD, "candidate": arm(CANDIDATE, 800, latency_ms=150.0)}
    wrong = RunningRate(10_000, 700)
    assert looked(record, 10, **slower, split=wrong).phase is Phase.PAUSED
    assert looked(record, 10, **slower, split=RunningRate(10_000, 1000)).phase is Phase.ABORTING
    broken = {**GOOD, "candidate": arm(CANDIDATE, 800, failures=0.3)}
    assert looked(record, 10, **broken, split=wrong).phase is Phase.ABORTING


def test_a_right_split_is_a_pass_and_blocks_nothing() -> None:
    after = looked(in_phase(Phase.CANARY), 10, **GOOD, split=RunningRate(10_000, 1010))
    assert after.weight == 50


# --- odd sums --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_is_counted_apart_and_is_no_evidence(value: float) -> None:
    running = RunningMean()
    running.add([0.25, value, 0.75])
    assert (running.n, running.mean, running.refused) == (2, 0.5, 1)
    assert math.isfinite(running.variance_process)


def test_no_data_gives_no_verdict_in_any_phase() -> None:
    for phase in (Phase.SHADOW, Phase.CANARY, Phase.WATCHING):
        record = in_phase(phase)
        verdicts = {m.metric: m.verdict for m in judge(record, seen(record))}
        assert set(verdicts.values()) <= {Verdict.NOT_ENOUGH_EVIDENCE}


def test_counters_of_two_series_that_contradict_each_other_count_nothing_twice() -> None:
    """Two server processes that answer in turn, each with its own counters."""
    record = in_phase(Phase.CANARY)
    for number in range(8):
        instance, calls = ("x", 100) if number % 2 == 0 else ("y", 60)
        record = looked(
            record, 10 + number, candidate=arm(CANDIDATE, calls), champion=arm(CHAMPION, 900), instance=instance
        )
    assert sums.total(record).candidate.failures.n <= 160


# --- outlook ---------------------------------------------------------------------------------------------------------
def test_the_outlook_names_requests_time_and_the_smallest_harm_that_can_still_be_seen() -> None:
    record = in_phase(Phase.CANARY, max_hours=1)
    record = looked(record, 10, candidate=arm(CANDIDATE, 120), champion=arm(CHAMPION, 1080))
    found = {each.metric: each for each in outlook(record, 100.0, later(10))}
    rate = found["error_rate"]
    assert rate.needed is not None
    assert rate.seconds == pytest.approx(rate.needed / 10, rel=0.01), "10 of 100 requests a second reach the candidate"
    assert rate.remaining == pytest.approx(35_900, rel=0.01)
    assert rate.visible is not None
    assert 0.02 < rate.visible < 0.03
    late = {each.metric: each for each in outlook(record, 100.0, later(3590))}
    assert late["error_rate"].visible is not None
    assert late["error_rate"].visible > 2 * rate.visible
    assert late["latency_p99"].remaining == 100
    text = outlook_text(outlook(record, 0.0, datetime.fromisoformat(record.started_at)))
    assert "error_rate" in text
    assert "0 more from now" in text


def test_the_outlook_of_the_shadow_counts_pairs() -> None:
    record = in_phase(Phase.SHADOW)
    record = looked(record, 5, pairs=pairs(50))
    found = {each.metric: each for each in outlook(record, 100.0, later(5))}
    assert found["shadow_flips"].visible is not None
    assert found["shadow_flips"].visible > 0.15
    assert found["shadow_score_difference"].seconds is not None


def test_an_old_record_without_the_new_fields_is_read_and_judged() -> None:
    import orjson

    record = looked(in_phase(Phase.CANARY), 10, candidate=arm(CANDIDATE, 100), champion=arm(CHAMPION, 900))
    value = orjson.loads(to_json(record))
    for name in ("detectors", "left_instances"):
        value.pop(name)
    for name in ("latency_quantiles", "max_latency_increase", "min_latency_increase_ms"):
        value["plan"].pop(name)
    for tally in ("seen", "carried", "step_start"):
        for side in ("champion", "candidate"):
            value[tally][side].pop("latency")
            value[tally][side].pop("attempts")
        value[tally]["pairs"].pop("requests")
    old = from_json(RolloutRecord, orjson.dumps(value))
    observation: Observation = seen(old, **GOOD)
    after, _ = step(old, observation, later(20))
    assert after.weight == 50, "without declared quantiles the latency is not compared"
