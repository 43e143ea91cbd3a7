"""What begins late in a long step is seen as well: a latency that rises, a loss that rises. Healthy steps hold."""

import math
from dataclasses import replace

import numpy as np
import pytest
from deploy_world import CANDIDATE, CHAMPION, plan
from test_deploy_engine import arm, in_phase, later, seen

from fairlead.deploy.rollout.engine import step
from fairlead.deploy.rollout.plan import budget_of
from fairlead.deploy.statistics import detector, exceedances, mean_shifts
from fairlead.deploy.statistics.budget import SLOW_METRICS, Budget
from fairlead.deploy.statistics.means import MeanSequence
from fairlead.deploy.statistics.quantiles import Limit, compare_quantile_counts
from fairlead.records.codec import from_json, to_json
from fairlead.records.evidence import LatencyCounts, MetricVerdict, RunningMean, Verdict, latency_bin
from fairlead.records.rollout import ArmEvidence, PairEvidence, Phase, RolloutRecord

SEED = 31_871
FIRST = latency_bin(0.002)
BINS = latency_bin(2.0) - FIRST


@pytest.fixture
def rng() -> np.random.Generator:
    print(f"seed {SEED}")
    return np.random.default_rng(SEED)


def slack(bound: float, runs: int) -> float:
    return bound + 4 * math.sqrt(bound * (1 - bound) / runs)


# --- exceedances -----------------------------------------------------------------------------------------------------
def chances(median: float, spread: float = 0.4) -> np.ndarray:
    """Log-normal latencies on the grid."""
    from scipy.stats import norm

    edges = np.exp((FIRST + np.arange(1, BINS)) / 40.0)
    below = np.concatenate([[0.0], norm.cdf(np.log(edges / median) / spread), [1.0]])
    return np.diff(below)


def latency_alarms(
    rng: np.random.Generator, medians: list[tuple[float, float]], quantile: float, alpha: float, *, runs: int,
    per_look: tuple[int, int] = (10, 20), limit: Limit | None = None,
) -> np.ndarray:  # fmt: skip
    """At which look each run raises its alarm; len(medians) when none does. `medians`: candidate's and champion's."""
    looks, limit = len(medians), limit or Limit(1.25)
    value, first = np.full(runs, detector.EMPTY), np.full(runs, looks)
    usual = np.zeros((runs, BINS), dtype=np.int64)
    for look, (ours, theirs) in enumerate(medians):
        mine = rng.multinomial(per_look[0], chances(ours), runs)
        yours = rng.multinomial(per_look[1], chances(theirs), runs)
        start, over = exceedances.thresholds(usual, FIRST, quantile, limit)
        ratio = exceedances.log_evidence(
            exceedances.number_from(mine, FIRST, over),
            per_look[0],
            exceedances.number_from(yours, FIRST, start),
            per_look[1],
            quantile,
        )
        value = detector.update(value, ratio, 1 / looks)
        first = np.where((first == looks) & detector.alarm(value, alpha), look, first)
        usual += yours
    return first


@pytest.mark.parametrize("quantile", [0.5, 0.95])
def test_a_candidate_at_its_limit_raises_no_more_false_alarms_than_budgeted(
    rng: np.random.Generator, quantile: float
) -> None:
    """The worst healthy candidate: just as slow as it may be, all the time."""
    runs, looks, alpha = 400, 120, 0.1
    first = latency_alarms(rng, [(0.0125, 0.010)] * looks, quantile, alpha, runs=runs)
    assert (first < looks).mean() <= slack(alpha, runs)


def test_what_makes_both_models_slow_is_no_alarm_whenever_it_begins(rng: np.random.Generator) -> None:
    runs, looks, alpha = 600, 150, 0.1
    shared = [(0.010, 0.010)] * 100 + [(0.050, 0.050)] * 50
    first = latency_alarms(rng, shared, 0.95, alpha, runs=runs)
    assert (first < looks).mean() <= slack(alpha, runs)


@pytest.mark.parametrize("quantile", [0.5, 0.95, 0.99])
def test_a_latency_that_rises_late_is_seen_far_sooner_than_by_the_sums_of_the_step(
    rng: np.random.Generator, quantile: float
) -> None:
    runs, healthy, after, alpha = 25, 400, 60, 1e-4
    medians = [(0.010, 0.010)] * healthy + [(0.030, 0.010)] * after
    first = latency_alarms(rng, medians, quantile, alpha, runs=runs)
    assert (first >= healthy).all()
    delays = first - healthy
    assert np.quantile(delays, 0.9) <= 8, "looks of ten latencies"
    # The test that began with the step, on the same numbers of latencies: still silent when all alarms are long over.
    ours = 10 * (healthy * chances(0.010) + 30 * chances(0.030))
    theirs = 20 * (healthy + 30) * chances(0.010)
    found = compare_quantile_counts(
        np.rint(ours).astype(np.int64), np.rint(theirs).astype(np.int64), FIRST, quantile, Limit(1.25)
    )
    buried = float(found.worse) < -math.log(alpha)
    assert buried or quantile == 0.99, "a p99 has moved when one in a hundred has, a p50 when half have"


def test_a_champion_with_few_latencies_gives_no_threshold() -> None:
    few = np.zeros(BINS, dtype=np.int64)
    few[40] = 150
    assert exceedances.thresholds(few, FIRST, 0.95, Limit(1.25))[0] > 10**9
    few[40] = 250
    start, over = exceedances.thresholds(few, FIRST, 0.95, Limit(1.25))
    assert int(start) == FIRST + 41
    assert int(over) == math.ceil(FIRST + 41 + 40 * math.log(1.25))


def test_one_arm_alone_is_no_evidence() -> None:
    assert float(exceedances.log_evidence(5, 5, 0, 0, 0.95)) == 0.0
    assert float(exceedances.log_evidence(0, 0, 5, 5, 0.95)) == 0.0


def test_the_exceedances_have_mean_at_most_one_where_the_candidate_exceeds_no_more_often() -> None:
    """Exactly, by all outcomes of 2 + 3 latencies."""
    from scipy.stats import binom

    k, k0 = np.meshgrid(np.arange(3), np.arange(4), indexing="ij")
    values = np.exp(exceedances.log_evidence(k, 2, k0, 3, 0.95))
    for q0 in (0.001, 0.05, 0.3, 0.9):
        for q in (0.0, q0 / 2, q0):
            assert (values * binom.pmf(k, 2, q) * binom.pmf(k0, 3, q0)).sum() <= 1 + 1e-12
    assert (values * binom.pmf(k, 2, 0.3) * binom.pmf(k0, 3, 0.05)).sum() > 1


# --- rises of a mean -------------------------------------------------------------------------------------------------
def loss_alarms(
    rng: np.random.Generator, shifts: list[float], alpha: float, *, runs: int, margin: float = 0.02, n: int = 5,
    n0: int = 15, paired: bool = False,
) -> np.ndarray:  # fmt: skip
    """Squared errors of a Beta-distributed kind, the candidate's with a mean `shifts` above the champion's 0.15."""
    looks = len(shifts)
    value, first = np.full((runs, len(mean_shifts.STRENGTHS)), detector.EMPTY), np.full(runs, looks)
    for look, shift in enumerate(shifts):
        base = 0.15 + 0.1 * math.sin(look / 20)  # the world changes, for both
        mine, theirs = rng.beta(1, 1 / (base + shift) - 1, (runs, n)), rng.beta(1, 1 / base - 1, (runs, n0))
        if paired:
            pairs = np.clip(shift + 0.1 * rng.standard_normal((runs, n)), -1, 1)
            new = mean_shifts.Values(n, pairs.sum(axis=1), ((pairs - 0.0) ** 2).sum(axis=1))
            ratios = mean_shifts.log_evidence_above(new, margin, 2.0)
        else:
            ours = mean_shifts.Values(n, mine.sum(axis=1), ((mine - 0.15) ** 2).sum(axis=1))
            other = mean_shifts.Values(n0, theirs.sum(axis=1), ((theirs - 0.15) ** 2).sum(axis=1))
            ratios = mean_shifts.log_evidence_apart(ours, other, margin, 1.0)
        value = detector.update(value, ratios, 1 / looks)
        first = np.where((first == looks) & detector.alarm(mean_shifts.together(value), alpha), look, first)
    return first


@pytest.mark.parametrize("paired", [False, True], ids=["arms", "pairs"])
def test_a_candidate_at_the_margin_raises_no_more_false_alarms_than_budgeted(
    rng: np.random.Generator, paired: bool
) -> None:
    runs, looks, alpha = 600, 250, 0.1
    first = loss_alarms(rng, [0.02] * looks, alpha, runs=runs, paired=paired)
    assert (first < looks).mean() <= slack(alpha, runs)


@pytest.mark.parametrize("paired", [False, True], ids=["arms", "pairs"])
def test_a_loss_that_begins_to_rise_late_is_seen_far_sooner_than_by_all_labels(
    rng: np.random.Generator, paired: bool
) -> None:
    runs, healthy, after, alpha = 40, 2000, 120, 1e-4
    first = loss_alarms(rng, [0.0] * healthy + [0.3] * after, alpha, runs=runs, n=10, n0=10, paired=paired)
    assert (first >= healthy).all()
    assert np.quantile(first - healthy, 0.9) <= 40, "looks of ten labels"
    n = 10 * (healthy + after)
    total = 10 * after * 0.3
    spread = 0.01 * n if paired else 0.03 * n
    begun = MeanSequence(alpha, 2.0 if paired else 1.0, 300)
    assert total / n - begun.radius(n, spread) < 0.02, "the mean of all labels is silent to the end"


def test_one_arm_without_labels_is_no_evidence() -> None:
    nothing, some = mean_shifts.Values(0, 0.0, 0.0), mean_shifts.Values(5, 4.0, 1.0)
    assert not mean_shifts.log_evidence_apart(some, nothing, 0.02, 1.0).any()
    assert not mean_shifts.log_evidence_apart(nothing, some, 0.02, 1.0).any()


# --- the budget ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("watch", [False, True])
@pytest.mark.parametrize("steps", [1, 4])
def test_the_detectors_take_their_part_of_the_budget_and_no_more(steps: int, watch: bool) -> None:
    budget = Budget(0.01, 0.0075, steps, watch=watch)
    assert budget.spent_on_rollback() == pytest.approx(0.01)
    share = 0.0025 / len(SLOW_METRICS)
    assert budget.windows * budget.detection("loss") == pytest.approx(share / 2)
    assert budget.windows * 3 * budget.detection("latency") == pytest.approx(share / 2)
    assert budget.detection("error_rate") == 0


# --- in a rollout ----------------------------------------------------------------------------------------------------
def canary(n: int, slower: int = 0, loss: float = 0.0, labels: int = 0) -> dict[str, ArmEvidence]:
    """After `n` calls of the candidate; its last `slower` latencies take 150 ms instead of 5, and the last 300
    of its `labels` have `loss` more."""
    mine = LatencyCounts.of({latency_bin(0.005): n - slower, latency_bin(0.150): slower})
    losses = RunningMean(0.0, 1.0, labels, 0.1 * labels + 300 * loss, 0.02 * labels)
    usual = RunningMean(0.0, 1.0, 3 * labels, 0.3 * labels, 0.06 * labels)
    return {
        "candidate": replace(arm(CANDIDATE, n), latency=mine, loss=losses),
        "champion": replace(arm(CHAMPION, 9 * n), loss=usual),
    }


def looked(record: RolloutRecord, seconds: float, **evidence: object) -> RolloutRecord:
    return step(record, seen(record, **evidence), later(seconds))[0]


def a_long_step(labels_per_minute: int = 0) -> RolloutRecord:
    record = in_phase(Phase.CANARY, canary={"min_requests": 10**6}, no_data="1h")
    for minute in range(1, 21):
        record = looked(record, 60 * minute, **canary(1000 * minute, labels=labels_per_minute * minute))
    assert record.phase is Phase.CANARY
    return record


def metric(record: RolloutRecord, name: str) -> MetricVerdict:
    return next(found for found in record.last_metrics if found.metric == name)


def test_answers_that_take_longer_than_the_champions_late_in_a_step_are_rolled_back_with_the_quantile_named() -> None:
    record = a_long_step()
    assert len(record.detectors.latency) == 3
    after = looked(record, 1203, **canary(20_040, slower=40))
    assert after.phase is Phase.ABORTING
    assert "the latency rose in the course of this step" in after.decisions[-1].sentence
    failed = [m.metric for m in after.decisions[-1].metrics if m.verdict is Verdict.FAIL]
    assert "latency_p95" in failed
    assert "slow_rate" not in failed, "150 ms is under the bound of the deadline"
    assert from_json(RolloutRecord, to_json(after)) == after


def test_a_loss_that_rises_late_in_a_step_is_rolled_back() -> None:
    record = a_long_step(labels_per_minute=200)
    assert metric(record, "loss").verdict is not Verdict.FAIL
    calm = looked(record, 1230, **canary(20_500, labels=4300))
    assert metric(calm, "loss").verdict is not Verdict.FAIL
    risen = looked(record, 1230, **canary(20_500, labels=4300, loss=0.25))
    assert risen.phase is Phase.ABORTING
    assert "the loss began to rise in the course of this step" in risen.decisions[-1].sentence


def test_labels_of_one_arm_wait_for_labels_of_the_other() -> None:
    record = a_long_step(labels_per_minute=200)
    one = canary(20_100, labels=4000)
    one["candidate"] = replace(one["candidate"], loss=RunningMean(0.0, 1.0, 4040, 440.0, 81.0))
    waits = looked(record, 1210, **one)
    assert waits.detectors.loss_sums == record.detectors.loss_sums
    assert waits.detectors.loss == record.detectors.loss
    both = looked(waits, 1220, **canary(20_200, labels=4100))
    assert both.detectors.loss_sums[0] == 4100
    assert datetime_of(both) > datetime_of(waits)


def datetime_of(record: RolloutRecord) -> str:
    return record.detectors.loss_at


def test_after_promotion_a_rising_loss_of_pairs_is_undone() -> None:
    record = in_phase(Phase.WATCHING, watch="1h")

    def copies(n: int, shift: float) -> PairEvidence:
        """The old champion is the shadow: its loss minus the new one's."""
        mean = RunningMean(-1.0, 1.0, n, -shift * n, 0.01 * n)
        return PairEvidence(CANDIDATE.digest, CHAMPION.digest, loss_difference=mean, requests=n)

    for minute in range(1, 11):
        record = looked(record, 10 + 60 * minute, candidate=arm(CANDIDATE, 500 * minute), pairs=copies(300 * minute, 0))
    assert record.phase is Phase.WATCHING
    new = replace(copies(3200, 0), loss_difference=RunningMean(-1.0, 1.0, 3200, -200 * 0.3, 32.0 + 10.0))
    after = looked(record, 640, candidate=arm(CANDIDATE, 5100), pairs=new)
    assert after.phase is Phase.ABORTING
    assert "the loss began to rise" in after.decisions[-1].sentence


def test_the_plan_of_the_demo_looks_for_late_rises_of_three_quantiles() -> None:
    assert budget_of(plan()).detection("latency") > 0
    assert plan().latency_quantiles == (0.5, 0.95, 0.99)
