"""Shadow evidence by slice: what is kept, when one slice alone is seen to differ, and that healthy slices hold."""

import math
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from deploy_world import CANDIDATE, CHAMPION, plan
from test_deploy_engine import in_phase, later, pairs, seen

from fairlead.deploy.backends.helm import release_of
from fairlead.deploy.backends.helm_values import traffic_values
from fairlead.deploy.rehearsal.arrays import excludes, log_martingales
from fairlead.deploy.rollout.engine import step, wish
from fairlead.deploy.rollout.outlook import outlook
from fairlead.deploy.rollout.plan import budget_of
from fairlead.deploy.rollout.slices import slice_metrics
from fairlead.deploy.rollout.tally import add_pairs, subtract_pairs
from fairlead.deploy.rollout.why import explain_text
from fairlead.deploy.statistics.budget import Budget
from fairlead.deploy.statistics.means import MeanSequence
from fairlead.deploy.statistics.rates import Mixture
from fairlead.records.codec import from_json, to_json
from fairlead.records.evidence import MOST_VALUES, MetricVerdict, RunningMean, RunningRate, Verdict
from fairlead.records.rollout import PairEvidence, Phase, RolloutPlan, RolloutRecord, SliceEvidence
from fairlead.serve.evidence import EvidenceDelta, Outcome
from fairlead.serve.evidence_sums import EvidenceSums
from fairlead.serve.messages import Labels
from fairlead.serve.release_check import check_release
from fairlead.serve.slices import values_of
from fairlead.serve.units import OWN
from fairlead.spec.deploy import Rollout

SEED = 41_502
VALUES = 10
"""Slices of equal size."""


@pytest.fixture
def rng() -> np.random.Generator:
    print(f"seed {SEED}")
    return np.random.default_rng(SEED)


def sliced(**changes: Any) -> RolloutPlan:
    return replace(plan(**changes), slices=("carrier",))


def in_shadow(**changes: Any) -> RolloutRecord:
    record = in_phase(Phase.SHADOW, shadow={"min_requests": 10**6}, **changes)
    return replace(record, plan=replace(record.plan, slices=("carrier",)))


def metrics_of(record: RolloutRecord) -> dict[str, MetricVerdict]:
    return {metric.metric: metric for metric in record.last_metrics}


def looked(record: RolloutRecord, evidence: PairEvidence, seconds: float = 10, **changes: Any) -> RolloutRecord:
    return step(record, seen(record, pairs=evidence, **changes), later(seconds))[0]


# --- what servers keep -----------------------------------------------------------------------------------------------
def served(values: list[str | None], *, flips: bool = False) -> EvidenceSums:
    """Sums that were told one shadow pair for each value."""
    sums = EvidenceSums("r", 1000)
    sums.columns = ("carrier",)
    delta = EvidenceDelta("r")
    pair = delta.pair(CHAMPION.digest, CANDIDATE.digest)
    for index, value in enumerate(values):
        found = values_of(sums.columns, {} if value is None else {"carrier": value})
        pair.calls += 1
        pair.differences.append(0.1)
        pair.flips.append(flips)
        pair.slots.append(OWN)
        pair.values.append(found)
        delta.outcomes.append(
            Outcome(f"q{index}", CHAMPION.digest, 0.2, CANDIDATE.digest, 0.4, drawn=False, values=found)
        )
    sums.count(delta, 0.0, 1.0)
    return sums


def test_pairs_and_their_losses_are_counted_by_value_and_missing_ones_as_evaluation_names_them() -> None:
    sums = served(["AA", "BB", "AA", None], flips=True)
    sums.feedback(Labels([("q0", 1.0), ("q1", 0.0)]), 2.0)
    found = sums.pair(CHAMPION.digest, CANDIDATE.digest)
    assert {name: each.flips.n for name, each in found.slices.items()} == {
        "carrier=AA": 2, "carrier=BB": 1, "carrier=(missing)": 1,
    }  # fmt: skip
    assert found.slices["carrier=AA"].loss_difference.mean == pytest.approx(0.36 - 0.64)
    assert found.slices["carrier=BB"].loss_difference.mean == pytest.approx(0.16 - 0.04)
    assert sum(each.difference.n for each in found.slices.values()) == found.difference.n


def test_a_column_of_many_values_has_a_bound_and_the_rest_are_one_slice() -> None:
    sums = served([str(number) for number in range(500)])
    found = sums.pair(CHAMPION.digest, CANDIDATE.digest).slices
    assert len(found) == MOST_VALUES + 1
    assert found["carrier=(other)"].flips.n == 500 - MOST_VALUES
    assert max(len(name) for name in served(["x" * 10_000]).pair(CHAMPION.digest, CANDIDATE.digest).slices) < 100


def test_without_declared_columns_nothing_is_kept() -> None:
    sums = EvidenceSums("r", 10)
    delta = EvidenceDelta("r")
    pair = delta.pair(CHAMPION.digest, CANDIDATE.digest)
    pair.differences, pair.flips, pair.slots, pair.values = [0.1], [False], [OWN], [()]
    sums.count(delta, 0.0, 1.0)
    assert not sums.pair(CHAMPION.digest, CANDIDATE.digest).slices


# --- one slice -------------------------------------------------------------------------------------------------------
class Copies:
    """Shadow pairs of `VALUES` slices; in the first one the candidate answers otherwise."""

    def __init__(self, rng: np.random.Generator, *, difference: float = 0.02, shift: float = 0.0) -> None:
        self._rng, self._difference, self._shift = rng, difference, shift
        self.n, self.whole = 0, SliceEvidence()
        self.slices = {f"carrier={number}": SliceEvidence() for number in range(VALUES)}

    def more(self, number: int) -> PairEvidence:
        for index in range(number):
            hit = (self.n + index) % VALUES == 0
            name = f"carrier={(self.n + index) % VALUES}"
            mean = self._difference if hit else 0.02
            difference = float(self._rng.beta(1, 1 / mean - 1))
            loss = float(np.clip((self._shift if hit else 0.0) + 0.05 * self._rng.standard_normal(), -1, 1))
            for each in (self.whole, self.slices[name]):
                each.difference.add((difference,))
                each.loss_difference.add((loss,))
                each.flips.n += 1
        self.n += number
        return PairEvidence(
            CHAMPION.digest, CANDIDATE.digest, self.whole.flips, self.whole.difference, self.whole.loss_difference,
            RunningRate(self.n, 0), RunningRate(self.n, 0), requests=self.n, slices=self.slices,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "metric"),
    [({"difference": 0.3}, "shadow_score_difference"), ({"shift": 0.3}, "loss")],
    ids=["score", "loss"],
)
def test_a_fault_of_one_slice_is_seen_sooner_than_by_all_pairs(
    rng: np.random.Generator, fault: dict[str, float], metric: str
) -> None:
    """One slice in ten differs by 0.3: by 0.03 on average, over the margin of the loss, and just over the bound of the
    score difference, which the mean of all pairs takes thousands to tell."""
    copies, first = Copies(rng, **fault), dict[str, int]()
    the_plan, budget = sliced(), budget_of(sliced())
    record = in_shadow()
    while copies.n < 6000 and len(first) < 2:
        evidence = copies.more(100)
        record = looked(record, from_json(PairEvidence, to_json(evidence)), 1 + copies.n / 1000)
        for name, found in metrics_of(record).items():
            if found.verdict is Verdict.FAIL and name.startswith(metric):
                first.setdefault(name, copies.n)
    assert the_plan.slices
    assert budget.slice(metric) > 0
    assert first[f"{metric}_by_slice"] <= 1200, "some hundred pairs of the slice"
    assert first.get(metric, 6000) >= 3 * first[f"{metric}_by_slice"]


def test_a_rollout_with_one_bad_slice_is_rolled_back_and_the_slice_named(rng: np.random.Generator) -> None:
    copies = Copies(rng, difference=0.4)
    record = looked(in_shadow(), copies.more(800))
    assert record.phase is Phase.SHADOW, "a comparison that failed waits for the others, as nobody is answered by it"
    assert "shadow_score_difference_by_slice" in record.status
    record = looked(record, copies.more(100), 90)
    assert record.phase is Phase.ABORTING
    sentence = record.decisions[-1].sentence
    assert "carrier=0:" in sentence
    assert "bound of a slice 0.0800" in sentence
    assert "Mean score difference, worst slice" in str(explain_text(record)) or "worst of 10 slices" in explain_text(
        record
    )
    assert from_json(RolloutRecord, to_json(record)) == record


def test_healthy_slices_veto_nothing_and_block_nothing(rng: np.random.Generator) -> None:
    record = in_shadow()
    record = looked(replace(record, plan=replace(record.plan, shadow_min_requests=500)), Copies(rng).more(1500))
    assert record.phase is Phase.CANARY
    told = {metric.metric: metric for metric in record.decisions[-1].metrics}
    assert told["loss_by_slice"].verdict is Verdict.NOT_ENOUGH_EVIDENCE
    assert told["loss_by_slice"].details["required"] is False
    assert "worst of 10 slices" in told["loss_by_slice"].why


def test_slices_have_no_outlook_as_nobody_waits_for_them(rng: np.random.Generator) -> None:
    record = looked(in_shadow(), Copies(rng).more(200))
    assert "loss_by_slice" in metrics_of(record)
    assert all(not each.metric.endswith("_by_slice") for each in outlook(record, 100.0, later(20)))


# --- the budget ------------------------------------------------------------------------------------------------------
def test_the_slices_take_their_part_of_the_budget_and_no_more() -> None:
    with_slices, without = Budget(0.01, 0.0075, 4, slices=32), Budget(0.01, 0.0075, 4)
    assert with_slices.spent_on_rollback() == pytest.approx(0.01)
    for metric in ("shadow_flips", "shadow_score_difference", "loss"):
        assert with_slices.rollback(metric) == without.rollback(metric) / 2
        assert 32 * with_slices.slice(metric) == pytest.approx(without.rollback(metric) / 2)
        assert without.slice(metric) == 0


def test_many_slices_at_their_bounds_fail_no_more_often_than_budgeted(rng: np.random.Generator) -> None:
    """The worst case: every one of 16 slices just at its bound. Any FAIL at any look is an error."""
    runs, slices, alpha, bound = 250, 16, 0.1, 0.2
    looks = np.unique(np.geomspace(5, 2000, 60).astype(int))
    steps = np.diff(looks, prepend=0)
    flips = np.cumsum(rng.binomial(steps, bound, (runs, slices, len(looks))), axis=2)
    evidence = log_martingales(looks, flips, bound, Mixture.around(bound))
    wrong = (evidence >= -math.log(alpha / slices)) & (flips > bound * looks)
    assert wrong.any(axis=(1, 2)).mean() <= alpha + 4 * math.sqrt(alpha / runs)
    values = rng.beta(1, 1 / 0.08 - 1, (runs // 2, slices, 800))
    total, variance = np.cumsum(values, axis=2), np.cumsum((values - 0.08) ** 2, axis=2)
    at = looks[looks < 800] - 1
    sequence = MeanSequence(alpha / slices, 1.0, 300)
    found = excludes(sequence, (total - 0.08 * np.arange(1, 801))[..., at], variance[..., at])
    assert found.any(axis=(1, 2)).mean() <= alpha + 4 * math.sqrt(2 * alpha / runs)


def test_a_slice_may_be_as_noisy_as_retraining_makes_it() -> None:
    noisy = {"carrier=AA": SliceEvidence(difference=RunningMean(0, 1, 2000, 2000 * 0.15, 2.0))}
    the_plan, budget = sliced(), budget_of(sliced())

    def verdict(noise: dict[str, float]) -> Verdict:
        found = list(slice_metrics(the_plan, budget, noisy, 0.04, noise))
        return next(each for each in found if each.metric == "shadow_score_difference_by_slice").verdict

    assert verdict({}) is Verdict.FAIL
    assert verdict({"carrier=AA": 0.09}) is Verdict.NOT_ENOUGH_EVIDENCE, "twice its own noise is 0.18"


def test_without_a_bound_of_the_score_difference_slices_have_none_either() -> None:
    some = {"carrier=AA": SliceEvidence(difference=RunningMean(0, 1, 2000, 1000, 2.0))}
    found = {each.metric: each for each in slice_metrics(sliced(), budget_of(sliced()), some, None, {})}
    assert found["shadow_score_difference_by_slice"].verdict is Verdict.NOT_ENOUGH_EVIDENCE


def test_a_look_at_64_slices_takes_milliseconds(rng: np.random.Generator) -> None:
    many = {
        f"c{n}={n}": SliceEvidence(
            RunningRate(10**6, 10**5), RunningMean(0, 1, 10**6, 9e4, 1e4), RunningMean(-1, 1, 10**6, 4.1e4, 1e4)
        )
        for n in range(64)
    }
    the_plan = replace(plan(), slices=("a", "b", "c", "d"))
    took = []
    for _ in range(5):
        started = time.process_time()
        list(slice_metrics(the_plan, budget_of(the_plan), many, 0.1, {}))
        took.append(time.process_time() - started)
    assert min(took) < 0.02


# --- sums and declarations -------------------------------------------------------------------------------------------
def test_slices_add_and_subtract_with_their_pairs() -> None:
    one = replace(pairs(10), slices={"c=a": SliceEvidence(RunningRate(10, 2))})
    two = replace(
        pairs(30), slices={"c=a": SliceEvidence(RunningRate(14, 3)), "c=b": SliceEvidence(RunningRate(16, 1))}
    )
    both = add_pairs(one, two)
    assert both.slices["c=a"].flips == RunningRate(24, 5)
    assert subtract_pairs(both, one).slices["c=b"].flips == RunningRate(16, 1)
    assert subtract_pairs(both, two).slices["c=a"].flips == RunningRate(10, 2)


def test_slices_go_with_the_release_to_the_servers_also_through_helm() -> None:
    record = in_shadow()
    release = wish(record)
    assert release.slices == ("carrier",)
    assert release_of(release.model, traffic_values(release), release.generation) == release
    arm = replace(CHAMPION, digest="sha256:" + "a" * 64)
    plain = replace(release, champion=arm, candidate=None, candidate_weight=0.0, shadow_percent=0.0)
    assert check_release(plain) is None
    wrong = check_release(replace(plain, slices=("a", "b", "c", "d", "e")))
    assert wrong is not None
    assert wrong[0] == "slices"


@pytest.mark.parametrize("bad", [["a", "a"], ["a", "b", "c", "d", "e"]])
def test_slices_that_are_too_many_or_the_same_are_refused(bad: list[str]) -> None:
    with pytest.raises(ValueError, match="slices"):
        Rollout.model_validate({"shadow": {"slices": bad}})
