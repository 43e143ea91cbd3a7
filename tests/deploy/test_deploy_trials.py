"""A/B tests and bandits as rollouts: a whole one each, in a simulated world, with every way that it can end."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from deploy_world import CANDIDATE, CHAMPION, MODEL, World

from fairlead.deploy.rollout.plan import budget_of, plan_from_spec
from fairlead.deploy.rollout.why import explain, explain_text
from fairlead.deploy.verdict_service.answer import answer
from fairlead.deploy.verdict_service.exposition import families
from fairlead.records.codec import from_json, to_json
from fairlead.records.evidence import RunningMean, Verdict
from fairlead.records.rollout import Phase, RolloutPlan, RolloutRecord
from fairlead.records.trial import KeyOutcomes
from fairlead.reports.html import render_html
from fairlead.spec.deploy import Rollout
from fairlead.spec.serve import Serve
from fairlead.testing.fake_serving import Behaviour

AB: Mapping[str, Any] = {"metric": "orders", "max_keys": 20_000, "max_hours": 1}
BANDIT: Mapping[str, Any] = {"metric": "orders", "max_keys": 60_000, "max_hours": 0.5, "every": "10s"}
COMMON: Mapping[str, Any] = {"shadow": "off", "label_horizon": "1s", "canary": {"latency": "off"}, "no_data": "30s"}


def test_steps_may_be_off_where_something_else_is_declared() -> None:
    assert a_plan(steps="off", ab_test=AB).steps == (50.0,)
    assert a_plan(steps="off", bandit=BANDIT).steps == (50.0,)


def a_plan(**changes: Any) -> RolloutPlan:
    return plan_from_spec(Rollout.model_validate({**COMMON, **changes}), Serve())


def ab_test(orders: float, changes: Mapping[str, Any] | None = None, **behaviour: Any) -> World:
    """An A/B test of orders, in which one champion's key in ten orders."""
    the_plan = a_plan(ab_test={**AB, **(changes or {})})
    return World(Behaviour(outcome=orders, **behaviour), the_plan=the_plan)


def bandit(orders: float, changes: Mapping[str, Any] | None = None, **behaviour: Any) -> World:
    return World(Behaviour(outcome=orders, **behaviour), the_plan=a_plan(bandit={**BANDIT, **(changes or {})}))


def deciding(record: RolloutRecord) -> Any:
    return next(d for d in record.decisions if d.phase_after in (Phase.PROMOTING, Phase.ABORTING, Phase.PAUSED))


# --- A/B test --------------------------------------------------------------------------------------------------------
def test_a_candidate_that_is_better_becomes_champion_with_its_evidence() -> None:
    world = ab_test(0.15)
    record = world.run()
    assert (record.phase, record.result, record.recommends) == (Phase.PROMOTED, "candidate", "promote version 2")
    assert world.registry.alias == {"champion": 2}
    decision = deciding(record)
    found = next(metric for metric in decision.metrics if metric.metric == "ab_test")
    assert (found.verdict, found.bound) == (Verdict.PASS, 0.0)
    assert found.interval is not None
    assert 0 < found.interval.low < 0.05 < found.interval.high
    assert all(m.verdict is Verdict.PASS for m in decision.metrics if m.details.get("required"))
    assert "A/B test 50 %: orders: candidate minus champion" in decision.sentence
    assert decision.evidence["candidate_keys_exposed"] == found.details["candidate_exposed"]
    assert {weight for _, _, weight in world.serving.weights} == {0.0, 50.0}
    assert from_json(RolloutRecord, to_json(record)) == record


def test_a_candidate_that_is_worse_is_rolled_back() -> None:
    record = ab_test(0.06).run()
    assert (record.phase, record.result, record.recommends) == (Phase.ABORTED, "champion", "keep version 1")
    assert "the champion is better. Rolled back: version 1 answers everything" in deciding(record).sentence


def test_without_a_winner_the_champion_stays_and_that_is_no_failure() -> None:
    world = ab_test(0.1, {"max_keys": 4000})
    record = world.run()
    assert (record.phase, record.result) == (Phase.ABORTED, "no_winner")
    assert "Recommended: keep version 1. Ended: version 1 answers everything" in deciding(record).sentence
    assert world.registry.alias["champion"] == 1


def test_no_difference_worth_having_ends_it_as_the_same() -> None:
    record = ab_test(0.1, {"smallest_effect": 0.05}).run()
    assert (record.phase, record.result) == (Phase.ABORTED, "same")


def test_a_winner_that_is_only_to_be_recommended_is() -> None:
    world = ab_test(0.15, {"promote": "never"})
    record = world.run()
    assert (record.phase, record.result, record.recommends) == (Phase.ABORTED, "candidate", "promote version 2")
    assert "Recommended: promote version 2. Ended: version 1 answers everything" in record.decisions[-2].sentence
    assert world.registry.alias["champion"] == 1


def test_an_end_by_time() -> None:
    world = ab_test(0.1, {"max_keys": 10**6, "max_hours": 0.01})
    record = world.run()
    assert (record.phase, record.result) == (Phase.ABORTED, "no_winner")
    assert 36 <= record.trial_seconds < 40
    assert "at the declared end" in deciding(record).sentence


def test_a_wrong_split_is_rolled_back_with_that_reason() -> None:
    world = ab_test(0.15)
    expose = world.serving._expose
    world.serving._expose = lambda digest, n: expose(digest, n if digest == CHAMPION.digest else n - n // 4)  # type: ignore[method-assign]
    record = world.run()
    assert (record.phase, record.result) == (Phase.ABORTED, "invalid")
    assert "the arms cannot be compared. Rolled back" in deciding(record).sentence


@pytest.mark.parametrize("changes", [{}, {"smallest_effect": 0.5}, {"better": "lower"}])
def test_without_a_single_outcome_nothing_is_promoted_and_nothing_is_the_same(changes: Mapping[str, Any]) -> None:
    world = ab_test(0.0, {"max_keys": 3000, **changes})
    keys_of = type(world.serving)._keys_of

    def nothing_arrived(counts: Any) -> KeyOutcomes:
        found = keys_of(counts)
        return KeyOutcomes(found.exposed, found.ripe, 0, RunningMean(n=found.ripe, variance_process=1.0))

    world.serving._keys_of = nothing_arrived  # type: ignore[method-assign]
    record = world.run()
    assert (record.phase, record.result) == (Phase.ABORTED, "no_winner")
    assert "not one outcome has arrived" in deciding(record).sentence


def test_servers_that_count_no_keys_promote_nothing() -> None:
    world = ab_test(0.5, {"max_hours": 0.02})
    world.serving._keys_of = lambda counts: None  # type: ignore[method-assign]
    record = world.run()
    assert (record.phase, record.result) == (Phase.ABORTED, "no_winner")


@pytest.mark.parametrize("make", [ab_test, bandit])
def test_a_candidate_that_fails_is_out_at_once_however_well_it_sells(make: Any) -> None:
    world = make(0.9, None, failure_rate=0.6)
    record = world.run()
    assert (record.phase, record.result) == (Phase.ABORTED, "")
    assert "hard failures" in deciding(record).sentence
    assert world.serving.candidate_calls[CANDIDATE.digest] < 400


def test_a_winner_that_has_not_shown_to_answer_well_waits_and_at_the_end_a_person_decides() -> None:
    world = ab_test(0.3, {"max_keys": 1500}, slow_rate=0.05)
    record = world.run()
    assert (record.phase, record.pause_kind) == (Phase.PAUSED, "inconclusive")
    assert "the candidate is better; but at the declared end" in record.pause_reason
    assert "slow" in record.pause_reason or "over" in record.pause_reason


def test_a_pause_by_hand_and_a_resume_promote_nothing() -> None:
    world = ab_test(0.15)
    loop = world.loop()
    record = world.run(until=lambda r: r.phase is Phase.CANARY and r.last_requests > 50)
    from fairlead.deploy.rollout.start import send_command

    send_command(world.store, record.model, record.id, "pause", "ann")
    paused = world.run()
    assert (paused.phase, paused.pause_kind) == (Phase.PAUSED, "person")
    assert "paused at A/B test 50 %" in paused.decisions[-1].sentence
    send_command(world.store, record.model, record.id, "resume", "ann")
    resumed = world.run(until=lambda r: r.phase is Phase.CANARY)
    assert (resumed.phase, resumed.trial_since) == (Phase.CANARY, paused.trial_since)
    send_command(world.store, record.model, record.id, "abort", "ann")
    assert world.run().phase is Phase.ABORTED
    assert loop is not None


def test_what_was_posted_and_is_no_evidence_is_told() -> None:
    world = ab_test(0.1)
    evidence = world.serving.evidence
    counts = {"joined": 90, "late": 1200, "out_of_range": 3, "changed": 0}
    world.serving.evidence = lambda: replace(evidence(), outcomes=counts)  # type: ignore[method-assign]
    record = world.run(until=lambda r: r.phase is Phase.CANARY and r.last_requests > 50)
    assert record.status.startswith("A/B test 50 %: ")
    assert record.status.endswith("; posted, and no evidence: 1,200 late, 3 out of range")
    decided = deciding(world.run())
    assert (decided.evidence["outcomes_joined"], decided.evidence["outcomes_late"]) == (90, 1200)


def test_another_host_goes_on_with_the_same_keys() -> None:
    world = ab_test(0.15)
    world.run(until=lambda r: r.phase is Phase.CANARY and r.last_requests > 300)
    world.serving.restart()
    record = world.run()
    assert (record.phase, record.result) == (Phase.PROMOTED, "candidate")
    found = next(metric for metric in deciding(record).metrics if metric.metric == "ab_test")
    assert found.details["candidate_exposed"] <= world.serving.keys[CANDIDATE.digest]


def test_whole_rollouts_of_equals_seldom_name_a_winner() -> None:
    """The error budget through everything: servers, sums, engine, with a look every tenth of a second."""
    results = []
    for seed in range(60):
        the_plan = a_plan(ab_test={**AB, "max_keys": 3000, "error_budget": 0.05})
        world = World(Behaviour(outcome=0.1), the_plan=the_plan, rate=3000.0, seed=seed)
        results.append(world.run().result)
    winners = sum(result in ("candidate", "champion") for result in results)
    print(f"seeds 0 to 59: {winners} winners")
    assert winners <= 5  # at 5 % a look beyond has probability 8 %; the bound itself holds with room
    assert results.count("no_winner") >= 54


def test_a_shadow_comes_first_where_it_is_declared() -> None:
    the_plan = a_plan(ab_test=AB, shadow={"min_requests": 300, "max_score_difference": 0.2})
    record = World(Behaviour(outcome=0.15), the_plan=the_plan).run()
    assert [d.phase_after for d in record.decisions][1:4] == [Phase.SHADOW, Phase.CANARY, Phase.PROMOTING]
    assert "Next: A/B test 50 %" in record.decisions[2].sentence


# --- bandits ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("policy", ["thompson", "epsilon_greedy", "ucb"])
def test_a_bandit_sends_most_keys_where_it_pays_and_recommends(policy: str) -> None:
    world = bandit(0.2, {"policy": policy, "floor": 0.05})
    record = world.run()
    assert (record.phase, record.result, record.recommends) == (Phase.ABORTED, "candidate", "promote version 2")
    moved = [d for d in record.decisions if d.phase_before is d.phase_after is Phase.CANARY]
    assert moved
    assert all(5.0 <= d.weight_after <= 95.0 for d in moved)
    assert moved[-1].weight_after > 80
    assert world.serving.keys[CANDIDATE.digest] > 2 * world.serving.keys[CHAMPION.digest]
    assert "bandit" in moved[0].sentence
    assert "Next: bandit" in moved[0].sentence
    assert "promises no error rate" in deciding(record).sentence
    assert world.registry.alias["champion"] == 1


def test_lower_may_be_the_better_end() -> None:
    world = bandit(0.02, {"better": "lower", "floor": 0.1})
    record = world.run()
    assert (record.result, record.recommends) == ("candidate", "promote version 2")
    assert ab_test(0.04, {"better": "lower"}).run().result == "candidate"


def test_a_bandit_whose_candidate_sells_less_keeps_its_floor_and_the_champion() -> None:
    world = bandit(0.02, {"floor": 0.1})
    record = world.run()
    assert (record.result, record.recommends) == ("champion", "keep version 1")
    assert min(d.weight_after for d in record.decisions if d.phase_after is Phase.CANARY) >= 10.0


def test_a_bandit_may_promote_the_best_when_that_is_declared() -> None:
    world = bandit(0.3, {"promote": "best"})
    record = world.run()
    assert (record.phase, record.result) == (Phase.PROMOTED, "candidate")
    metrics = {m.metric: m for m in deciding(record).metrics}
    assert all(m.verdict is Verdict.PASS for m in metrics.values() if m.details.get("required"))


def test_a_bandit_allocates_the_same_after_a_crash() -> None:
    whole = bandit(0.2).run()
    world = bandit(0.2)
    for number in (3, 5):
        world.run(until=lambda record, number=number: len(record.decisions) >= number)  # type: ignore[misc]
    again = world.run()
    assert (again.phase, again.result) == (whole.phase, whole.result)
    assert all(10.0 <= d.weight_after <= 90.0 for d in again.decisions if d.phase_after is Phase.CANARY)


def test_a_bandit_without_outcomes_moves_nothing_and_recommends_nothing() -> None:
    world = bandit(0.2, {"max_hours": 0.02})
    world.serving._keys_of = lambda counts: None  # type: ignore[method-assign]
    record = world.run()
    assert (record.phase, record.result, record.recommends) == (Phase.ABORTED, "no_winner", "keep version 1")
    assert "too little to recommend anything" in deciding(record).sentence
    assert not [d for d in record.decisions if d.phase_before is d.phase_after is Phase.CANARY]


def test_each_allocation_has_its_part_of_the_error_budget() -> None:
    budget = budget_of(a_plan(bandit={**BANDIT, "max_hours": 0.5, "every": "60s"}))
    assert budget.windows == 31
    assert budget.spent_on_rollback() <= 0.01 + 1e-12


# --- told ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("make", [ab_test, bandit])
def test_why_tells_a_trial(make: Any) -> None:
    record = make(0.2).run()
    text = explain_text(record)
    assert "canary" not in text.split("Why log loss")[0].lower()
    assert "orders" in text
    page = render_html(explain(record))
    assert "orders, 0 to 1, higher is better" in page
    assert list(families(MODEL, record, hosted=False))
    assert answer(record, hosted=True).decision == (
        "promote" if record.result == "candidate" and make is ab_test else "rollback"
    )


# --- declared --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"ab_test": AB, "bandit": BANDIT}, "declare one"),
        ({"ab_test": AB, "steps": [10, 50]}, "steps are those of a canary"),
        ({"steps": "off"}, "no canary is wanted"),
        ({"steps": []}, "steps must grow"),
        ({"ab_test": AB, "label_horizon": None}, "label_horizon is needed"),
        ({"ab_test": {**AB, "max_hours": 0.0001}}, "shorter than the trial's max_hours"),
        ({"ab_test": {**AB, "max_keys": 0}}, "max_keys"),
        ({"ab_test": {**AB, "metric": "Orders today"}}, "metric"),
        ({"ab_test": {**AB, "range": [3, 1]}}, "range must grow"),
        ({"ab_test": {**AB, "missing": 0.5}}, "missing must be 0 or 1"),
        ({"ab_test": {**AB, "range": [5, 9]}}, "missing must be a value"),
        ({"ab_test": {**AB, "metric": "loss", "better": "higher"}}, "a loss lies between 0 and 1"),
        ({"ab_test": {**AB, "candidate_share": "100%"}}, "candidate_share"),
        ({"bandit": {**BANDIT, "floor": 0.4, "first_share": 0.9}}, "leave each arm its floor"),
        ({"bandit": {**BANDIT, "floor": 0.5}}, "floor"),
        ({"bandit": {**BANDIT, "every": "1s"}}, "at most 200 times"),
    ],
)
def test_a_strategy_that_contradicts_itself_is_refused(changes: Mapping[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        a_plan(**changes)


def test_a_loss_is_better_when_lower_and_left_out_when_missing() -> None:
    trial = a_plan(ab_test={**AB, "metric": "loss"}).trial
    assert trial is not None
    assert (trial.higher_is_better, trial.outcome.missing, trial.outcome.binary) == (False, None, False)
    trial = a_plan(ab_test={**AB, "range": [0, 500], "missing": "left out", "better": "lower"}).trial
    assert trial is not None
    assert (trial.higher_is_better, trial.outcome.missing, trial.outcome.high) == (False, None, 500.0)
