"""Labels that take their time: with a declared horizon early ones are not favoured, late ones are told and not counted.

The world of these tests: three labels in ten are 1 and known at once, the others are 0 and known after up to the whole
horizon. The champion says 0.3, which is right; the candidate says 0.5, which is 0.04 worse, and looks better on what is
labelled early."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from deploy_world import CANDIDATE, CHAMPION, plan
from test_deploy_engine import in_phase, later, pairs, seen

from fairlead.deploy.backends.helm import release_of
from fairlead.deploy.backends.helm_values import traffic_values
from fairlead.deploy.rollout.engine import step, wish
from fairlead.deploy.rollout.losses import with_label_check
from fairlead.deploy.rollout.plan import budget_of
from fairlead.deploy.rollout.why import explain_text
from fairlead.deploy.statistics import two_sample
from fairlead.deploy.statistics.rates import Mixture
from fairlead.records.evidence import LabelCounts, MetricVerdict, RunningMean, Verdict
from fairlead.records.rollout import ArmEvidence, PairEvidence, Phase
from fairlead.serve.awaited_labels import AwaitedLabels
from fairlead.serve.evidence import EvidenceDelta, Outcome
from fairlead.serve.evidence_sums import EvidenceSums
from fairlead.serve.messages import Labels
from fairlead.serve.release_check import check_release
from fairlead.serve.units import NONE, OWN, slot_of
from fairlead.spec.deploy import Rollout

SEED = 20_611
HORIZON = 500.0
SCORES = {CHAMPION.digest: 0.3, CANDIDATE.digest: 0.5}
WORSE = 0.04
"""By how much the candidate is: 0.3 (0.25 - 0.49) + 0.7 (0.25 - 0.09)."""


@pytest.fixture
def rng() -> np.random.Generator:
    print(f"seed {SEED}")
    return np.random.default_rng(SEED)


class Story:
    """Answers, one each `every` seconds, and their labels, told to the sums of a server in the order of time."""

    def __init__(self, horizon: float | None, *, kept: int = 100_000) -> None:
        self.sums = EvidenceSums("r", kept)
        self.sums.label_horizon = horizon

    def play(
        self,
        rng: np.random.Generator,
        answers: int,
        *,
        every: float = 1.0,
        lasts: float = HORIZON,
        shadow: bool = False,
    ) -> "Story":
        """Until the last answer. Zeros take up to `lasts` seconds; answers of both arms in turn, or copies."""
        positive = rng.random(answers) < 0.3
        delay = np.where(positive, 0.0, lasts * rng.random(answers))
        told = np.arange(answers) * every
        events = sorted(
            [(at, 0, i) for i, at in enumerate(told)] + [(told[i] + delay[i], 1, i) for i in range(answers)]
        )
        for at, kind, index in events:
            if at > told[-1]:
                break
            if kind:
                self.sums.feedback(Labels([(f"q{index}", float(positive[index]))]), at)
            else:
                self.answer(index, at, shadow=shadow)
            self.sums.mature(at)
        return self

    def answer(self, index: int, at: float, *, shadow: bool) -> None:
        digest = CHAMPION.digest if shadow or index % 2 else CANDIDATE.digest
        outcome = Outcome(f"q{index}", digest, SCORES[digest], drawn=not shadow)
        if shadow:
            outcome.shadow_digest, outcome.shadow_score = CANDIDATE.digest, SCORES[CANDIDATE.digest]
        self.sums.count(EvidenceDelta("r", outcomes=[outcome]), 50.0, at)

    @property
    def difference(self) -> float:
        """Candidate minus champion, as the sums have it."""
        pair = self.sums.pair(CHAMPION.digest, CANDIDATE.digest).loss_difference
        if pair.n:
            return pair.mean
        return self.sums.arm(CANDIDATE.digest).loss.mean - self.sums.arm(CHAMPION.digest).loss.mean


# --- bias ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shadow", [False, True], ids=["arms", "pairs"])
def test_with_a_horizon_the_loss_is_that_of_all_answers_and_without_it_that_of_early_labels(
    rng: np.random.Generator, shadow: bool
) -> None:
    """Pairs have one label for both models, and are as biased as arms where the delay tells what a label is."""
    runs = 16
    held = [Story(HORIZON).play(rng, 800, shadow=shadow).difference for _ in range(runs)]
    early = [Story(None).play(rng, 800, shadow=shadow).difference for _ in range(runs)]
    error = 4 * float(np.std(held)) / math.sqrt(runs)
    assert np.mean(held) == pytest.approx(WORSE, abs=error)
    assert error < 0.02
    assert np.mean(early) < 0.02, "the margin: such a candidate would pass"


def test_a_candidate_that_leans_towards_early_labels_fails_with_a_horizon_and_passes_without_it(
    rng: np.random.Generator,
) -> None:
    found = {}
    for horizon in (None, HORIZON):
        story = Story(horizon).play(rng, 24_000, every=HORIZON / 20_000, shadow=True)
        pair = story.sums.pair(CHAMPION.digest, CANDIDATE.digest)
        record = in_phase(Phase.SHADOW, label_horizon=horizon)
        found[horizon] = loss_of(record, pairs=replace(pairs(100), loss_difference=pair.loss_difference))
    assert found[None].verdict is Verdict.PASS
    assert found[HORIZON].verdict is Verdict.FAIL


def test_where_labels_never_come_in_time_the_rest_is_counted_told_and_still_biased(rng: np.random.Generator) -> None:
    """What a horizon cannot mend, for pairs as for arms: half of the zeros take longer than it."""
    story = Story(HORIZON).play(rng, 4000, lasts=2 * HORIZON, shadow=True)
    labels = story.sums.pair(CHAMPION.digest, CANDIDATE.digest).labels
    assert labels.exposed == 4000 - HORIZON - 1
    assert labels.labelled / labels.exposed == pytest.approx(0.65, abs=0.04)
    assert labels.late > 500
    assert story.sums.pair(CHAMPION.digest, CANDIDATE.digest).loss_difference.n == labels.labelled
    assert story.difference == pytest.approx((0.3 * -0.24 + 0.35 * 0.16) / 0.65, abs=0.02)


# --- counting --------------------------------------------------------------------------------------------------------
def waiting(horizon: float | None = 60.0, **outcomes: Any) -> EvidenceSums:
    """Sums that were told, at 0 s, answers of the candidate by id."""
    sums = EvidenceSums("r", 1000)
    sums.label_horizon = horizon
    told = [Outcome(name, CANDIDATE.digest, 0.5, **options) for name, options in outcomes.items()]
    sums.count(EvidenceDelta("r", outcomes=told), 50.0, 0.0)
    return sums


def test_a_label_counts_when_the_horizon_of_its_answer_is_over_and_not_before() -> None:
    sums = waiting(a={}, b={}, c={})
    assert sums.feedback(Labels([("a", 1.0)]), 10.0)["joined"] == 1
    sums.mature(60.0)
    assert sums.arm(CANDIDATE.digest).loss.n == 0
    sums.mature(60.1)
    assert sums.arm(CANDIDATE.digest).loss.n == 1
    assert sums.feedback(Labels([("b", 1.0), ("a", 1.0), ("a", 0.0)]), 61.0) == {
        "joined": 0, "unknown": 0, "duplicate": 1, "changed": 1, "late": 1, "left_out": 0,
    }  # fmt: skip
    sums.mature(99.0)
    assert sums.arm(CANDIDATE.digest).labels == LabelCounts(exposed=3, labelled=1, late=1)
    assert sums.arm(CANDIDATE.digest).loss.n == 1


def test_a_key_counts_by_its_first_answer_whether_or_not_that_gets_a_label() -> None:
    ann = slot_of("ann")
    sums = waiting(first={"slot": ann}, second={"slot": ann}, row={"slot": NONE}, other={"slot": OWN})
    sums.feedback(Labels([("second", 1.0), ("row", 1.0), ("other", 1.0)]), 1.0)
    sums.mature(100.0)
    assert sums.arm(CANDIDATE.digest).labels == LabelCounts(exposed=2, labelled=1)


def test_answers_that_nobody_drew_compare_no_arms() -> None:
    """The champion's answers before and beside a canary are of another time than the candidate's."""
    for horizon in (None, 60.0):
        sums = waiting(horizon, a={"drawn": False}, b={})
        sums.feedback(Labels([("a", 1.0), ("b", 1.0)]), 1.0)
        sums.mature(100.0)
        assert sums.arm(CANDIDATE.digest).loss.n == 1


def test_another_rollout_takes_nothing_that_waits() -> None:
    sums = waiting(a={})
    sums.start("next")
    sums.feedback(Labels([("a", 1.0)]), 1.0)
    sums.mature(100.0)
    assert sums.arm(CANDIDATE.digest).labels == LabelCounts()


def test_more_answers_than_there_is_room_for_are_waited_for_by_a_fair_sample(rng: np.random.Generator) -> None:
    story = Story(HORIZON, kept=100).play(rng, 6000)
    labels = story.sums.arm(CANDIDATE.digest).labels
    assert 100 < labels.exposed < 1500, "some 50 to 100 of the 500 that wait at a time"
    assert labels.labelled == labels.exposed, "nothing that is waited for is forgotten"
    assert story.sums.feedback_counts()["left_out"] > 3000
    waits = AwaitedLabels(10)
    for index in range(1000):
        waits.remember([Outcome(f"x{index}", "d", 0.5)], "r", 0.0, horizon=9.0)
    assert len(waits.over(10.0, 9.0)) <= 10
    assert waits.share < 0.05


def test_further_rows_push_no_answer_out_that_waits() -> None:
    """Ten rows a request, one of which is its unit: the others fill what is remembered, not what is waited for."""
    sums = EvidenceSums("r", 100)
    sums.label_horizon = 60.0
    for request in range(80):
        rows = [Outcome(f"q{request}/{row}", CANDIDATE.digest, 0.5, slot=NONE if row else OWN) for row in range(10)]
        sums.count(EvidenceDelta("r", outcomes=rows), 50.0, 0.1 * request)
    assert sums.feedback(Labels([(f"q{request}/0", 1.0) for request in range(80)]), 50.0)["joined"] == 80
    sums.mature(100.0)
    assert sums.arm(CANDIDATE.digest).labels == LabelCounts(exposed=80, labelled=80)


# --- verdicts --------------------------------------------------------------------------------------------------------
def loss_of(record: Any, **evidence: Any) -> MetricVerdict:
    record, _ = step(record, seen(record, **evidence), later(10))
    return next(metric for metric in record.last_metrics if metric.metric == "loss")


def labelled_pairs(n: int, labels: LabelCounts, difference: float = 0.0) -> PairEvidence:
    mean = RunningMean(-1.0, 1.0, n, n * difference, n * 0.002)
    return replace(pairs(), loss_difference=mean, labels=labels)


def test_the_sentence_tells_how_many_could_have_a_label_and_how_many_labels_came_too_late() -> None:
    record = in_phase(Phase.SHADOW, label_horizon="2h")
    nothing = loss_of(record, pairs=labelled_pairs(0, LabelCounts()))
    assert nothing.why == "no answer has had its 2.0 h for a label yet; that does not block"
    record = in_phase(Phase.SHADOW, label_horizon="2h", shadow={"min_requests": 10**6})
    some = loss_of(record, pairs=labelled_pairs(400, LabelCounts(500, 400, 12)))
    assert some.why.startswith(
        "400 labelled pairs of 500 whose 2.0 h are over; 12 labels came later and do not count, "
    )
    assert some.details["late_labels"] == 12
    assert some.details["required"] is True, "of those that could have a label, 80 % do"


def test_labels_that_could_not_come_yet_do_not_block_the_shadow() -> None:
    record = in_phase(Phase.SHADOW, label_horizon="2h")
    after, _ = step(record, seen(record, pairs=labelled_pairs(0, LabelCounts())), later(10))
    assert after.phase is Phase.CANARY


def arms(candidate: LabelCounts, champion: LabelCounts) -> dict[str, ArmEvidence]:
    return {
        name: ArmEvidence(
            arm.digest, 900, loss=RunningMean(0.0, 1.0, counts.labelled, 0.1 * counts.labelled, 1.0), labels=counts
        )
        for name, arm, counts in (("candidate", CANDIDATE, candidate), ("champion", CHAMPION, champion))
    }


def test_an_arm_whose_answers_get_fewer_labels_is_not_compared() -> None:
    record = in_phase(Phase.CANARY, label_horizon="1m")
    same = loss_of(record, **arms(LabelCounts(800, 600), LabelCounts(7000, 5250)))
    assert same.verdict is not Verdict.ERROR
    fewer = loss_of(record, **arms(LabelCounts(800, 400), LabelCounts(7000, 5250)))
    assert fewer.verdict is Verdict.ERROR
    assert "50.0 % of the candidate's answers got a label in time, 75.0 % of the champion's" in fewer.why
    assert fewer.details["required"] is True, "so that the rollout pauses for a person"


def test_an_alarm_of_the_detector_rests_on_the_arms_also_where_pairs_were_labelled() -> None:
    paired = MetricVerdict("loss", Verdict.FAIL, 0.0, None, 0.02, 10, "", details={"paired": True})
    alarm = replace(paired, details={"paired": True, "detector": 9.0, "detector_from": 8.0})
    fewer, more = LabelCounts(800, 400), LabelCounts(7000, 5250)
    assert with_label_check(paired, budget_of(plan()), fewer, more).verdict is Verdict.FAIL
    assert with_label_check(alarm, budget_of(plan()), fewer, more).verdict is Verdict.ERROR


def test_the_check_of_the_labels_keeps_its_level(rng: np.random.Generator) -> None:
    runs, budget = 1500, budget_of(plan())
    looks = np.unique(np.geomspace(5, 3000, 60).astype(int))
    steps = np.diff(looks, prepend=0)
    ours = np.cumsum(rng.binomial(steps, 0.7, (runs, len(looks))), axis=1)
    theirs = np.cumsum(rng.binomial(9 * steps, 0.7, (runs, len(looks))), axis=1)
    evidence = two_sample.log_evidence(looks, ours, 9 * looks, theirs, 0.0, Mixture())
    alpha = budget.split_alarm
    wrong = (evidence >= -math.log(alpha)).any(axis=1).mean()
    assert wrong <= alpha + 4 * math.sqrt(alpha / runs)
    unpaired = MetricVerdict("loss", Verdict.PASS, 0.0, None, 0.02, 10, "", details={"paired": False})
    checked = with_label_check(unpaired, budget, LabelCounts(3000, 1800), LabelCounts(27_000, 18_900))
    assert checked.verdict is Verdict.ERROR


# --- declared --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "bad", [{"label_horizon": "24h"}, {"label_horizon": "2d", "max_hours": 3}, {"label_horizon": 0}]
)
def test_a_horizon_that_no_label_could_ever_meet_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"label_horizon"):
        Rollout.model_validate(bad)


def test_the_horizon_goes_with_the_release_to_the_servers_also_through_helm() -> None:
    record = in_phase(Phase.CANARY, label_horizon="2h")
    release = wish(record)
    assert release.label_horizon_seconds == 7200
    assert release_of(release.model, traffic_values(release), release.generation) == release
    arm = replace(CHAMPION, digest="sha256:" + "a" * 64)
    wrong = replace(release, champion=arm, candidate=None, candidate_weight=0.0, label_horizon_seconds=0.0)
    assert check_release(wrong) == ("label_horizon_seconds", "label_horizon_seconds must be above 0")


def test_why_tells_the_declared_horizon() -> None:
    assert "A label may take 2.0 h" in explain_text(in_phase(Phase.CANARY, label_horizon="2h"))
    assert "A label may take" not in explain_text(in_phase(Phase.CANARY))
