"""What servers count for A/B tests and bandits: whose key, which outcome, when; and one of each on a real server."""

import asyncio
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from conftest import Bundles
from server_process import free_port, server_process
from tiny_models import MODEL, rows_of

from fairlead.clock import SystemClock
from fairlead.deploy.backends.serving import ServingEffects, ServingObserver
from fairlead.deploy.rollout.loop import RolloutLoop
from fairlead.deploy.rollout.plan import plan_from_spec
from fairlead.deploy.rollout.start import new_rollout
from fairlead.deploy.strategies.ab_test import AbArm, AbPlan, Outcome, judge_ab
from fairlead.records.codec import from_value, to_value
from fairlead.records.evidence import RunningMean, RunningRate
from fairlead.records.release import Arm, Release
from fairlead.records.rollout import Phase, RolloutRecord
from fairlead.records.trial import LABEL, LOSS, KeyOutcomes, OutcomeRule
from fairlead.registry.registry import Registry
from fairlead.serve.client import ServingClient
from fairlead.serve.control_state import ControlState
from fairlead.serve.evidence import EvidenceDelta, Met
from fairlead.serve.messages import Labels, ReplicaReport
from fairlead.serve.refusals import Refusal
from fairlead.serve.release_check import check_release
from fairlead.serve.server import read_outcomes
from fairlead.serve.trial import Posted, Trial
from fairlead.serve.units import OWN, slot_of
from fairlead.spec.deploy import Rollout
from fairlead.spec.serve import RequestLog, Serve

RULE = OutcomeRule("orders", horizon_seconds=10.0, missing=0.0)
A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def met(key: str, digest: str = A, request: str = "", score: float | None = None) -> Met:
    return Met(key, slot_of(key), digest, (request or f"request of {key}",), score)


def post(key: str, value: float = 1.0, metric: str = "orders") -> list[Posted]:
    return [Posted(key, metric, value)]


# --- the rules -------------------------------------------------------------------------------------------------------
def test_a_key_counts_after_its_horizon_with_the_outcome_that_came_until_then() -> None:
    trial = Trial(RULE)
    trial.meet([met("ann"), met("bob"), met("eve", B)], 0.0)
    assert trial.outcomes(post("ann"), 3.0)["joined"] == 1
    trial.ripen(9.9)
    assert trial.of(A) == KeyOutcomes(2, 0, 0, RunningMean())
    trial.ripen(10.0)
    ours, theirs = trial.of(A), trial.of(B)
    assert (ours.exposed, ours.ripe, ours.arrived, ours.values.n, ours.values.total) == (2, 2, 1, 2, 1.0)
    assert (theirs.ripe, theirs.arrived, theirs.values.n, theirs.values.total) == (1, 0, 1, 0.0)


def test_without_a_value_for_missing_outcomes_keys_without_one_are_left_out() -> None:
    trial = Trial(OutcomeRule("orders", 10.0, missing=None))
    trial.meet([met("ann"), met("bob")], 0.0)
    trial.outcomes(post("ann", 0.0), 1.0)
    trial.ripen(10.0)
    assert (trial.of(A).ripe, trial.of(A).arrived, trial.of(A).values.n) == (2, 1, 1)


def test_the_first_exposure_counts_whoever_answers_later() -> None:
    trial = Trial(RULE)
    trial.meet([met("ann", A)], 0.0)
    trial.meet([met("ann", B), met("ann", A)], 1.0)
    trial.ripen(100.0)
    trial.meet([met("ann", B)], 101.0)  # long closed, and not forgotten
    assert (trial.of(A).exposed, trial.of(B).exposed) == (1, 0)


@pytest.mark.parametrize(
    ("posted", "at", "word"),
    [
        (post("nobody"), 1.0, "unknown"),
        (post("ann", 1.0), 1.0, "duplicate"),
        (post("ann", 0.0), 1.0, "changed"),
        (post("bob"), 12.0, "late"),
        (post("bob"), 25.0, "unknown"),
        (post("bob", 0.5), 1.0, "out_of_range"),
        (post("bob", 100.0), 1.0, "out_of_range"),
        (post("bob", float("nan")), 1.0, "out_of_range"),
        (post("bob", 1.0, "clicks"), 1.0, "not_declared"),
        (post("request of bob"), 1.0, "unknown"),
        ([Posted("request of bob", "orders", 1.0, by_request=True)], 1.0, "joined"),
        ([Posted("bob", "orders", 1.0, by_request=True)], 1.0, "unknown"),
    ],
)
def test_what_is_no_evidence_is_counted_as_what_it_is(posted: list[Posted], at: float, word: str) -> None:
    trial = Trial(RULE)
    trial.meet([met("ann"), met("bob")], 0.0)
    trial.outcomes(post("ann"), 0.5)
    found = trial.outcomes(posted, at)
    assert {name for name, count in found.items() if count} == {word}
    assert trial.counts[word] == 1 + (word == "joined")
    trial.ripen(100.0)
    assert trial.of(A).values.total == 1.0 + (word == "joined")


def test_fast_outcomes_of_one_arm_are_no_advantage() -> None:
    """Arm a sells to 20 % within a second, arm b to 30 % after 9 s. Counted as they come, a leads."""
    print("seed 5")
    rng, trial, due = random.Random(5), Trial(RULE), []
    sold = {A: 0, B: 0}
    for second in range(40):
        for digest, rate, delay in ((A, 0.2, 1), (B, 0.3, 9)):
            for number in range(50):
                key = f"{second}/{digest}/{number}"
                trial.meet([Met(key, OWN, digest, (key,), None)], float(second))
                if rng.random() < rate:
                    due.append((second + delay, key, digest))
        for _, key, digest in [each for each in due if each[0] == second]:
            trial.outcomes(post(key), float(second))
            sold[digest] += 1
        if second == 12:
            early = dict(sold)
    assert early[A] > early[B]
    trial.ripen(40.0)
    ours, theirs = trial.of(A), trial.of(B)
    assert ours.ripe == theirs.ripe == 31 * 50
    assert ours.values.mean < 0.25 < theirs.values.mean


def test_two_equal_arms_with_outcomes_of_different_haste_have_no_winner() -> None:
    """Both sell to 20 %, one after 1 s and one after 9 s. As they come, the fast one would win every time."""
    print("seed 6")
    rng, plan = random.Random(6), AbPlan("orders", max_keys=2000, max_seconds=60.0, expected_rate=0.2)
    winners, naive = 0, 0
    for _ in range(30):
        trial, due, come = Trial(RULE), [], {A: [0, 0], B: [0, 0]}
        for second in range(30):
            for digest, delay in ((A, 1), (B, 9)):
                keys = [f"{second}/{digest}/{number}" for number in range(50)]
                trial.meet([Met(key, OWN, digest, (key,), None) for key in keys], float(second))
                come[digest][0] += len(keys)
                due += [(second + delay, key, digest) for key in keys if rng.random() < 0.2]
            now = [each for each in due if each[0] == second]
            for _, key, digest in now:
                come[digest][1] += trial.outcomes(post(key), float(second))["joined"]
            counted = [trial.of(digest) for digest in (A, B)]
            arms = [AbArm(k.exposed, RunningRate(k.values.n, round(k.values.total))) for k in counted]
            found = judge_ab(plan, arms[0], arms[1], 0.0).outcome
            if second == 12:
                rates = [AbArm(n, RunningRate(n, k)) for n, k in (come[A], come[B])]
                naive += judge_ab(plan, rates[0], rates[1], 0.0).outcome is Outcome.CHAMPION
            if found is not Outcome.RUNNING:
                break
        winners += found in (Outcome.CANDIDATE, Outcome.CHAMPION)
    assert naive >= 25
    assert winners <= 3


def test_memory_is_bounded_and_who_is_turned_away_does_not_depend_on_the_arm() -> None:
    trial = Trial(RULE, keys_kept=100)
    for number in range(5000):
        trial.meet([met(f"key {number}", (A, B)[number % 2])], number / 100)
        assert len(trial._keys) <= 100
        assert len(trial._units) <= 100
    assert trial.turned_away > 4000
    assert abs(trial.of(A).exposed - trial.of(B).exposed) <= 5
    own = Trial(RULE)
    own.meet([Met(f"r{n}", OWN, A, (f"r{n}",), None) for n in range(10)], 0.0)
    assert own.of(A).exposed == 10


def test_labels_are_outcomes_of_the_request_by_which_a_key_was_met() -> None:
    trial = Trial(OutcomeRule(LABEL, 10.0, missing=None))
    trial.meet([met("ann", request="r1"), met("ann", request="r2"), met("bob", request="r3")], 0.0)
    trial.label("r2", 0.0, 1.0, 1.0)
    trial.label("r1", 1.0, 1.0, 1.0)
    trial.label("r9", 1.0, 1.0, 1.0)
    assert trial.outcomes(post("bob", 1.0, LABEL), 2.0)["not_declared"] == 1
    trial.ripen(10.0)
    assert (trial.of(A).values.n, trial.of(A).values.total) == (1, 1.0)


def test_a_loss_is_that_of_the_first_answer() -> None:
    trial = Trial(OutcomeRule(LOSS, 10.0, binary=False, missing=None))
    trial.meet([met("ann", request="r1", score=0.8), met("bob", request="r2", score=None)], 0.0)
    trial.label("r1", 1.0, 1.0, 1.0)
    trial.label("r2", 1.0, 1.0, 1.0)
    trial.ripen(10.0)
    assert trial.of(A).values.n == 1
    assert trial.of(A).values.mean == pytest.approx(0.04)


# --- in the control --------------------------------------------------------------------------------------------------
def control_of(release: Release) -> tuple[ControlState, list[float]]:
    now = [100.0]
    return ControlState(release, monotonic=lambda: now[0]), now


def test_the_control_counts_the_keys_of_its_rollout_alone() -> None:
    first, second = Arm(1, "a", A), Arm(2, "b", B)
    release = Release(MODEL, 1, first, second, 50.0, rollout="0001", outcome=RULE)
    state, now = control_of(release)
    stranger = EvidenceDelta("0000", met=[met("old")])
    state.sync(ReplicaReport("r", 1, [EvidenceDelta("0001", met=[met("ann"), met("bob", B)]), stranger]))
    assert state.outcomes(post("ann") + post("old"))["unknown"] == 1
    now[0] += 10
    found = state.evidence()
    assert found.champion is not None
    assert found.champion.keys is not None
    assert (found.champion.keys.exposed, found.champion.keys.values.total) == (1, 1.0)
    assert (found.outcomes["joined"], found.outcomes["unknown"]) == (1, 1)
    # The end of the trial takes nothing away, and another rollout begins anew.
    state.adopt(Release(MODEL, 2, second, rollout="0001"))
    state.sync(ReplicaReport("r", 2))
    after = state.evidence().champion
    assert after is not None
    assert after.keys is not None
    assert after.keys.exposed == 1
    state.adopt(Release(MODEL, 3, second, rollout="0002"))
    assert state.outcomes(post("ann"))["not_declared"] == 1
    assert state.feedback(Labels([("request of ann", 1.0)]))["unknown"] == 1


@pytest.mark.parametrize(
    ("document", "match"),
    [
        ({"outcomes": []}, "expected"),
        ({"outcomes": [{"metric": "orders", "value": 1}]}, "a key or a request_id"),
        ({"outcomes": [{"key": "a", "request_id": "b", "metric": "orders", "value": 1}]}, "not both"),
        ({"outcomes": [{"key": "", "metric": "orders", "value": 1}]}, "not empty"),
        ({"outcomes": [{"key": 5, "metric": "orders", "value": 1}]}, "strings"),
        ({"outcomes": [{"key": "a", "metric": "", "value": 1}]}, "names its metric"),
        ({"outcomes": [{"key": "a", "metric": "orders", "value": "1"}]}, "finite number"),
        ({"outcomes": [{"key": "a", "metric": "orders", "value": float("inf")}]}, "finite number"),
        ({"outcomes": [{"key": "a", "metric": "orders", "value": 1, "unit": "$"}]}, "a metric and a value"),
        ({"outcomes": [{"key": "a", "metric": "orders", "value": 1}], "more": 1}, "unknown key more"),
    ],
)
def test_outcomes_that_cannot_be_read_are_refused(document: dict[str, Any], match: str) -> None:
    with pytest.raises(Refusal, match=match):
        read_outcomes(document)


def test_a_release_with_a_rule_that_cannot_be_is_refused() -> None:
    release = Release(MODEL, 1, Arm(1, "a", A), outcome=RULE)
    assert check_release(release) is None
    assert from_value(Release, to_value(release)) == release
    for bad in ({"horizon_seconds": 0}, {"low": 1.0}, {"missing": 7.0}, {"metric": ""}, {"high": float("nan")}):
        value = to_value(release)
        value["outcome"] |= bad
        found = check_release(from_value(Release, value))
        assert found is not None
        assert found[0] == "outcome"


# --- real servers ----------------------------------------------------------------------------------------------------
POLICY = {
    "shadow": "off",
    "label_horizon": "1s",
    "canary": {
        "min_requests": 50,
        "latency": "off",
        "max_error_rate_increase": 0.5,
        "max_slow_rate": 0.9,
        "max_loss_increase": 1.0,
        "healthy_failure_rate": 0.01,
        "bad_failure_rate": 0.3,
    },
    "error_budget": 0.2,
}


class Shop:
    """Clients with keys of their own, each of whom may order a moment after the answer, more often from one model."""

    def __init__(self, url: str, rates: dict[str, float], seed: int) -> None:
        print(f"seed {seed}")
        self._url, self._rates, self._rng = url, rates, random.Random(seed)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.answered, self.failed = 0, 0
        self.words: dict[str, int] = {}

    def __enter__(self) -> "Shop":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(30)

    async def _run(self) -> None:
        rows = rows_of(50)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
            number = 0
            while not self._ended.is_set():
                keys = [f"customer {number + index}" for index in range(20)]
                number += len(keys)
                arms = await asyncio.gather(*(self._ask(session, key, rows[hash(key) % 50]) for key in keys))
                bought = [
                    {"key": key, "metric": "orders", "value": True}
                    for key, arm in zip(keys, arms, strict=True)
                    if arm and self._rng.random() < self._rates[arm]
                ]
                if bought:
                    async with session.post(f"{self._url}/fairlead/v1/feedback", json={"outcomes": bought}) as reply:
                        for word, count in (await reply.json()).get("outcomes", {}).items():
                            self.words[word] = self.words.get(word, 0) + count

    async def _ask(self, session: aiohttp.ClientSession, key: str, row: dict[str, Any]) -> str:
        url = f"{self._url}/v2/models/{MODEL}/predict"
        async with session.post(url, json={"instances": [row]}, headers={"x-customer": key}) as reply:
            document = await reply.json()
            self.answered += reply.status == 200
            self.failed += reply.status != 200
            return str(document["parameters"]["arm"]) if reply.status == 200 else ""


@pytest.fixture
def served(bundles: Bundles) -> Iterator[tuple[Bundles, ServingClient, Registry]]:
    registry = Registry(bundles.store, MODEL)
    for arm in (bundles.first, bundles.second, bundles.fails):
        registry.register(arm.bundle_uri, arm.digest, f"run {arm.version}", {}, "a test", "a test")
    registry.set_alias("champion", 1, "a test", "the first")
    spec = Serve(port=free_port(), deadline_ms=3000, sticky="header:x-customer", log=RequestLog(rotate_seconds=5))
    with server_process(spec, Release(MODEL, 1, bundles.first), bundles.base) as (client, _):
        yield bundles, client, registry


def rollout(
    served: tuple[Bundles, ServingClient, Registry], candidate: Arm, rates: dict[str, float], **declared: Any
) -> tuple[RolloutRecord, Shop]:
    """Host a whole rollout of `candidate` while customers come."""
    bundles, client, registry = served
    plan = plan_from_spec(Rollout.model_validate({**POLICY, **declared}), Serve(deadline_ms=3000))
    clock = SystemClock()
    record = new_rollout(bundles.store, MODEL, plan, bundles.first, candidate, clock, "a test")
    registry.set_alias("candidate", candidate.version, "a test", "to be tried")
    effects, observe = ServingEffects(bundles.store, client, registry), ServingObserver(client)
    loop = RolloutLoop(bundles.store, effects, observe, clock, model=MODEL, rollout=record.id)
    with Shop(client.url, rates, seed=11) as shop:
        return loop.run(timeout_seconds=120), shop


@pytest.mark.timeout(180)
def test_an_ab_test_promotes_the_model_that_sells_more(served: tuple[Bundles, ServingClient, Registry]) -> None:
    bundles, client, registry = served
    declared = {"metric": "orders", "max_keys": 5000, "max_hours": 0.03, "expected_rate": 0.3}
    record, shop = rollout(served, bundles.second, {"champion": 0.15, "candidate": 0.6}, ab_test=declared)
    assert (record.phase, record.result) == (Phase.PROMOTED, "candidate"), record.status
    assert registry.aliases() == {"champion": 2}
    assert client.release()["applied"].champion == bundles.second  # type: ignore[union-attr]
    assert shop.failed == 0
    assert shop.words["joined"] > 20
    decision = next(d for d in record.decisions if d.phase_after is Phase.PROMOTING)
    found = next(metric for metric in decision.metrics if metric.metric == "ab_test")
    assert found.interval is not None
    assert found.interval.low > 0
    assert decision.evidence["outcomes_joined"] > 0  # type: ignore[operator]
    exposed = found.details["candidate_exposed"] + found.details["champion_exposed"]  # type: ignore[operator]
    assert found.n <= exposed <= shop.answered
    assert 0.3 < found.details["candidate_exposed"] / exposed < 0.7  # type: ignore[operator]


@pytest.mark.timeout(180)
def test_a_candidate_that_fails_is_out_long_before_the_ab_test_ends(
    served: tuple[Bundles, ServingClient, Registry],
) -> None:
    bundles, _, registry = served
    declared = {"metric": "orders", "max_keys": 50_000, "max_hours": 0.03}
    record, shop = rollout(served, bundles.fails, {"champion": 0.1, "candidate": 0.9}, ab_test=declared)
    assert (record.phase, record.result) == (Phase.ABORTED, ""), record.status
    assert registry.aliases() == {"champion": 1}
    assert shop.failed == 0


@pytest.mark.timeout(180)
def test_a_bandit_moves_the_keys_and_recommends(served: tuple[Bundles, ServingClient, Registry]) -> None:
    bundles, client, registry = served
    declared = {"metric": "orders", "max_keys": 100_000, "max_hours": 0.002, "every": "1s", "floor": 0.1}
    began = time.monotonic()
    record, shop = rollout(served, bundles.second, {"champion": 0.1, "candidate": 0.6}, bandit=declared)
    assert (record.phase, record.result, record.recommends) == (Phase.ABORTED, "candidate", "promote version 2")
    assert time.monotonic() - began > 7
    weights = [d.weight_after for d in record.decisions if d.phase_before is d.phase_after is Phase.CANARY]
    assert weights[-1] > 80
    assert registry.aliases() == {"champion": 1}
    assert client.release()["applied"].candidate is None  # type: ignore[union-attr]
    assert shop.failed == 0
