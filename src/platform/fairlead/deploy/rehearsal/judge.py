"""The verdicts of `deploy.rollout.verdicts`, for many rollouts and looks at once.

Bounds, margins and the split of the error budget come from the plan through the same `Budget` and `Sprt`; which metrics
must pass, and what a FAIL of each does, follows the engine. `tests/deploy/test_deploy_rehearsal.py` drives the real
engine through the same sums to the same outcomes.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from fairlead.deploy.rehearsal.arrays import Counts, Flags, Floats, excludes, lower_limits, upper_limits
from fairlead.deploy.rehearsal.draws import MeanSums
from fairlead.deploy.rehearsal.latencies import Histograms, LatencyJudge
from fairlead.deploy.rollout.engine import COMPARISONS
from fairlead.deploy.rollout.losses import LABELLED_SHARE
from fairlead.deploy.rollout.plan import budget_of
from fairlead.deploy.statistics.concurrent import log_blame
from fairlead.deploy.statistics.detector import alarm
from fairlead.deploy.statistics.means import MeanSequence
from fairlead.deploy.statistics.rates import Mixture
from fairlead.deploy.statistics.sprt import Sprt
from fairlead.deploy.statistics.two_sample import is_above, is_within
from fairlead.records.rollout import RolloutPlan


@dataclass(frozen=True, slots=True)
class Sums:
    """What was counted up to each look, [runs, looks]. `copies` and what follows it are the shadow's, over the whole
    rollout; `live` and what follows it count since the step began; `earlier_*` [runs, 1] what the candidate answered in
    earlier steps. `share` is the candidate's of all calls, None where the champion gets none. Losses are over the whole
    rollout; `ripe`: pairs whose label horizon is over, None without one. The detectors are log R of
    `statistics.detector`, of this step; those of the latency by metric."""

    pair_loss: MeanSums
    candidate_loss: MeanSums
    champion_loss: MeanSums
    copies: Counts
    copies_failed: Counts
    flips: Counts
    difference: MeanSums
    live: Counts
    failed: Counts
    slow: Counts
    champion: Counts
    champion_failed: Counts
    share: float | None
    failures_detector: Floats
    blame_detector: Floats
    slow_detector: Floats
    latencies: Histograms | None
    earlier: Counts
    earlier_failed: Counts
    loss_detector: Floats | None = None
    ripe: Counts | None = None
    latency_detectors: dict[str, Floats] = field(default_factory=dict)


@dataclass(slots=True)
class Verdicts:
    """FAIL by metric, and PASS of everything that must pass, [runs, looks]."""

    fails: dict[str, Flags] = field(default_factory=dict)
    passed: Flags | None = None

    def take(self, name: str, fail: Flags, ok: Flags | None) -> None:
        """One metric; `ok` is None for one that only vetoes."""
        self.fails[name] = fail
        if ok is not None:
            self.passed = ok if self.passed is None else self.passed & ok

    def any(self, *, comparisons: bool) -> Flags:
        """FAIL of any metric that is (or is not) a comparison."""
        chosen = [fail for name, fail in self.fails.items() if (name in COMPARISONS) == comparisons]
        out: Flags = np.logical_or.reduce(chosen)
        return out


class Judge:
    """Judges sums by a plan. `noise` is the measured retraining noise."""

    def __init__(self, plan: RolloutPlan, noise: float | None) -> None:
        self.plan, self.budget = plan, budget_of(plan)
        self._latency = LatencyJudge(plan)
        self.max_difference = plan.max_score_difference
        if self.max_difference is None and noise:
            self.max_difference = plan.score_difference_factor * noise

    def shadow(self, sums: Sums) -> Verdicts:
        """The metrics of the shadow."""
        plan, out = self.plan, Verdicts()
        fail, ok = self._sprt("shadow", sums.copies, sums.copies_failed)
        blamed = self._blamed(sums.copies_failed, sums.champion_failed, sums.share)
        out.take("shadow_failures", fail & blamed, ok & ~fail)
        answered = sums.copies - sums.copies_failed
        fail, ok = self.below("shadow_flips", answered, sums.flips, plan.max_flip_rate)
        out.take("shadow_flips", fail, ok)
        never = np.zeros(fail.shape, dtype=bool)
        if self.max_difference is None:
            out.take("shadow_score_difference", never, never)  # an ERROR: a person has to decide
        else:
            alpha = self.budget.rollback("shadow_score_difference")
            fail, ok = self._mean(
                sums.difference, self.max_difference, alpha, width=1.0, reference=plan.shadow_min_requests
            )
            out.take("shadow_score_difference", fail, ok)
        fail, ok = self._pair_loss(sums.pair_loss)
        labelled, could = sums.pair_loss.n, answered if sums.ripe is None else sums.ripe
        keeps_up = (labelled >= plan.min_requests) & (labelled >= LABELLED_SHARE * could)
        out.take("loss", fail, ok | ~keeps_up)
        return out

    def live(self, sums: Sums, *, later: bool) -> Verdicts:
        """The metrics of a canary step (`later`: from the second on), or of the watch."""
        out = Verdicts()
        out.take("failures", *self.failures(sums, later=later))
        out.take("error_rate", *self.error_rate(sums))
        fail, ok = self.below("slow_rate", sums.live, sums.slow, self.plan.max_slow_rate)
        fail = fail | alarm(sums.slow_detector, self.budget.detection("slow_rate"))
        out.take("slow_rate", fail, ok & ~fail)
        fail = self._live_loss(sums)
        if sums.loss_detector is not None:
            fail = fail | alarm(sums.loss_detector, self.budget.detection("loss"))
        out.take("loss", fail, None)
        if sums.latencies is not None:
            for name, failed in self._latency.fails(sums.latencies).items():
                rising = sums.latency_detectors.get(name)
                if rising is not None:
                    failed = failed | alarm(rising, self.budget.detection("latency"))
                out.take(name, failed, None)
        return out

    def latency_passes(self, sums: Sums, wanted: Flags) -> Flags:
        """True where the latency lets the candidate advance, at looks at which everything else does (`wanted`)."""
        if sums.latencies is None:
            return wanted
        return self._latency.passes(sums.latencies, wanted)

    def failures(self, sums: Sums, *, later: bool) -> tuple[Flags, Flags]:
        """FAIL and PASS of hard failures: the tests of all answers and of this step's, and the step's detector. A FAIL
        needs the evidence that the champion does not fail as often."""
        whole, whole_failed = sums.live + sums.earlier, sums.failed + sums.earlier_failed
        fail, ok = self._sprt("live", whole, whole_failed)
        if later:
            again, ok = self._sprt("step", sums.live, sums.failed)
            fail = fail | again
        fail = fail | alarm(sums.failures_detector, self.budget.failures("detector"))
        blamed = self._blamed(sums.failed, sums.champion_failed, sums.share)
        if sums.share is not None:
            blamed = blamed | alarm(sums.blame_detector, self.budget.blame)
        return fail & blamed, ok & ~fail

    def _blamed(self, failed: Counts, champion_failed: Counts, share: float | None) -> Flags:
        """True where the candidate fails more often than its share of the calls; everywhere, without a champion."""
        if share is None:
            return np.ones(failed.shape, dtype=bool)
        odds = self.plan.bad_failure_rate / self.plan.healthy_failure_rate
        out: Flags = log_blame(failed, champion_failed, share, odds) >= -math.log(self.budget.blame)
        return out

    def _sprt(self, window: str, n: Counts, events: Counts) -> tuple[Flags, Flags]:
        test = Sprt(
            self.plan.healthy_failure_rate,
            self.plan.bad_failure_rate,
            self.budget.failures(window),
            self.budget.promotion,
        )
        ratio = events * test.per_failure + (n - events) * test.per_success
        return ratio >= test.upper, ratio <= test.lower

    def below(self, name: str, n: Counts, events: Counts, bound: float) -> tuple[Flags, Flags]:
        """FAIL and PASS of a rate against a bound."""
        mixture = Mixture.around(bound)
        low = lower_limits(n, events, self.budget.rollback(name), mixture)
        high = upper_limits(n, events, self.budget.promotion, mixture)
        return (n > 0) & (low > bound), (n > 0) & (high <= bound)

    def error_rate(self, sums: Sums) -> tuple[Flags, Flags]:
        """FAIL and PASS of the candidate's failure rate over the champion's."""
        margin = self.plan.max_error_rate_increase
        counts = (sums.live, sums.failed, sums.champion, sums.champion_failed)
        mixture, both = Mixture.around(margin), (sums.live > 0) & (sums.champion > 0)
        fail = is_above(*counts, margin, self.budget.rollback("error_rate"), mixture)
        return both & fail, both & is_within(*counts, margin, self.budget.promotion, mixture)

    def _mean(
        self, values: MeanSums, bound: float, alpha: float, *, width: float, reference: int
    ) -> tuple[Flags, Flags]:
        """FAIL when the lower limit is above the bound, PASS when the upper one is at most it."""
        above = values.total - values.n * bound
        fail = excludes(MeanSequence(alpha, width, reference), above, values.variance)
        ok = excludes(MeanSequence(self.budget.promotion, width, reference), -above, values.variance)
        return (values.n > 0) & fail, (values.n > 0) & ok

    def _pair_loss(self, values: MeanSums) -> tuple[Flags, Flags]:
        alpha = self.budget.rollback("loss")
        return self._mean(values, self.plan.max_loss_increase, alpha, width=2.0, reference=self.plan.min_requests)

    def _live_loss(self, sums: Sums) -> Flags:
        paired, _ = self._pair_loss(sums.pair_loss)
        unpaired = (sums.pair_loss.n == 0) & (sums.candidate_loss.n > 0) & (sums.champion_loss.n > 0)
        if not unpaired.any():
            return paired
        alpha = self.budget.rollback("loss") / 2
        sequence = MeanSequence(alpha, 1.0, self.plan.min_requests)
        low = _mean(sums.candidate_loss) - radii(sequence, sums.candidate_loss)
        high = _mean(sums.champion_loss) + radii(sequence, sums.champion_loss)
        worse = np.maximum(low, 0.0) - np.minimum(high, 1.0) > self.plan.max_loss_increase
        return np.where(unpaired, worse, paired)


def _mean(values: MeanSums) -> Floats:
    return values.total / np.maximum(values.n, 1)


def radii(sequence: MeanSequence, values: MeanSums) -> Floats:
    """`MeanSequence.radius` on arrays; infinite where a whole range does not suffice."""
    outside = sequence.width * np.maximum(values.n, 1.0)
    never = ~excludes(sequence, outside, values.variance)
    inside = np.zeros_like(outside)
    for _ in range(40):
        middle = (inside + outside) / 2
        beyond = excludes(sequence, middle, values.variance)
        inside, outside = np.where(beyond, inside, middle), np.where(beyond, middle, outside)
    return np.where(never | (values.n == 0), np.inf, outside / np.maximum(values.n, 1.0))
