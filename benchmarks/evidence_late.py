"""What begins late, what hits one slice, and labels that take their time: each with and without what is made for it."""

import math

import numpy as np
import numpy.typing as npt
from evidence_peers import PROMOTED, ROLLED_BACK, Ends
from evidence_trials import RATIO, Latencies, looks_until

from fairlead.deploy.rehearsal.arrays import excludes
from fairlead.deploy.rehearsal.draws import MeanSums
from fairlead.deploy.rehearsal.judge import radii
from fairlead.deploy.rollout.latency import latency_limit
from fairlead.deploy.rollout.plan import budget_of
from fairlead.deploy.statistics import detector, exceedances, mean_shifts
from fairlead.deploy.statistics.means import MeanSequence
from fairlead.deploy.statistics.quantiles import compare_quantile_counts
from fairlead.records.rollout import RolloutPlan

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

HEALTHY, AFTER, PER_LOOK = 10_000, 2_000, 20
"""Candidate latencies (labels) of a healthy history and after the change, and between two looks."""
SLICES, SLICE_PAIRS = 10, 6_000
"""Slices of equal size, of which one is hit, and the pairs of all."""
ANSWERS, LATEST = 8_000, 10_000
"""Answers whose horizon is over at the end, and all: the last 2,000 still wait."""


def _late(runs: int) -> Ends:
    """Nothing decided: requests are those after the change."""
    return Ends(np.zeros(runs, dtype=int), np.full(runs, AFTER), np.zeros(runs))


def _note(ends: Ends, fail: Flags, look: int) -> None:
    """An alarm before the change counts as one at 0 requests: it is false."""
    new = fail & (ends.outcome == 0)
    ends.outcome[new] = ROLLED_BACK
    ends.requests[new] = max(0, (look + 1) * PER_LOOK - HEALTHY)


def late_latency(plan: RolloutPlan, factor: float, *, detectors: bool, runs: int, seed: int) -> Ends:
    """A candidate as fast as the champion, that is `factor` times as slow from the change on."""
    rng, usual, budget = np.random.default_rng(seed), Latencies(), budget_of(plan)
    (start, theirs), (start_slow, slow) = usual.bins(1.0), usual.bins(factor)
    size = max(start + len(theirs), start_slow + len(slow)) - start
    chances = [np.zeros(size), np.zeros(size)]
    chances[0][: len(theirs)] = theirs
    chances[1][start_slow - start : start_slow - start + len(slow)] = slow
    sums = [np.zeros((runs, size), dtype=np.int64) for _ in range(2)]
    values = [np.full(runs, detector.EMPTY) for _ in plan.latency_quantiles]
    looks, ends = (HEALTHY + AFTER) // PER_LOOK, _late(runs)
    begun = {(HEALTHY + n) // PER_LOOK for n in looks_until(PER_LOOK, AFTER, 30)}
    for look in range(looks):
        mine = rng.multinomial(PER_LOOK, chances[look * PER_LOOK >= HEALTHY], runs)
        yours = rng.multinomial(PER_LOOK * RATIO, chances[0], runs)
        fail = np.zeros(runs, dtype=bool)
        if detectors:
            for index, quantile in enumerate(plan.latency_quantiles):
                first, over = exceedances.thresholds(sums[1], start, quantile, latency_limit(plan))
                beyond = exceedances.number_from(mine, start, over), exceedances.number_from(yours, start, first)
                ratio = exceedances.log_evidence(beyond[0], PER_LOOK, beyond[1], PER_LOOK * RATIO, quantile)
                known = first < np.iinfo(np.int32).max
                values[index] = detector.update(values[index], np.where(known, ratio, 0.0), 1 / looks)
                fail |= detector.alarm(values[index], budget.detection("latency"))
        sums[0] += mine
        sums[1] += yours
        if look + 1 in begun:
            for quantile in plan.latency_quantiles:
                found = compare_quantile_counts(sums[0], sums[1], start, quantile, latency_limit(plan))
                fail |= found.worse >= -math.log(budget.rollback("latency"))
        _note(ends, fail, look)
    return ends


def late_loss(plan: RolloutPlan, shift: float, *, detectors: bool, runs: int, seed: int) -> Ends:
    """Losses of two arms with as many labels each, the candidate's `shift` higher from the change on."""
    rng, budget = np.random.default_rng(seed), budget_of(plan)
    value = np.full((runs, len(mean_shifts.STRENGTHS)), detector.EMPTY)
    looks, ends = (HEALTHY + AFTER) // PER_LOOK, _late(runs)
    totals, variances = np.zeros((2, runs)), np.zeros((2, runs))
    sequence = MeanSequence(budget.rollback("loss") / 2, 1.0, plan.min_requests)
    for look in range(looks):
        means = (0.15 + shift * (look * PER_LOOK >= HEALTHY), 0.15)
        new = [rng.beta(2, 2 / mean - 2, (runs, PER_LOOK)) for mean in means]
        middle = totals / max(look * PER_LOOK, 1) if look else np.full((2, runs), 0.5)
        parts = [
            mean_shifts.Values(PER_LOOK, part.sum(axis=1), ((part - guess[:, None]) ** 2).sum(axis=1))
            for part, guess in zip(new, middle, strict=True)
        ]
        fail = np.zeros(runs, dtype=bool)
        if detectors:
            ratios = mean_shifts.log_evidence_apart(parts[0], parts[1], plan.max_loss_increase, 1.0)
            value = detector.update(value, ratios, 1 / looks)
            fail |= detector.alarm(mean_shifts.together(value), budget.detection("loss"))
        totals += [np.asarray(part.total) for part in parts]
        variances += [np.asarray(part.variance) for part in parts]
        if (look + 1) * PER_LOOK > HEALTHY and look % 5 == 4:
            fail |= _apart(sequence, (look + 1) * PER_LOOK, totals, variances, plan.max_loss_increase)
        _note(ends, fail, look)
    return ends


def _apart(sequence: MeanSequence, n: int, totals: Floats, variances: Floats, margin: float) -> Flags:
    """Lower limit of the candidate minus upper limit of the champion, over the margin."""
    far = radii(sequence, MeanSums(np.full(totals.shape, float(n)), totals, variances))
    out: Flags = totals[0] / n - far[0] - totals[1] / n - far[1] > margin
    return out


def one_slice(plan: RolloutPlan, shift: float, *, slices: bool, runs: int, seed: int) -> Ends:
    """Loss differences of labelled pairs in the shadow, `shift` higher in one slice of ten. Requests are all pairs."""
    rng, budget = np.random.default_rng(seed), budget_of(plan)
    ends = Ends(np.zeros(runs, dtype=int), np.full(runs, SLICE_PAIRS), np.zeros(runs))
    means = np.zeros(SLICES)
    means[0] = shift
    totals, squares, before = np.zeros((runs, SLICES)), np.zeros((runs, SLICES)), 0
    bound = plan.max_loss_increase
    whole = MeanSequence(budget.rollback("loss"), 2.0, plan.min_requests)
    parts = MeanSequence(budget.slice("loss"), 2.0, plan.min_requests)
    for n in looks_until(50, SLICE_PAIRS, 60):
        each, before = n // SLICES - before // SLICES, n
        new = np.clip(means[:, None] + 0.05 * rng.standard_normal((runs, SLICES, each)), -1.0, 1.0)
        totals += new.sum(axis=2)
        squares += (new**2).sum(axis=2)  # predictions that stay at 0 are predictions from the past
        count = n // SLICES
        fail = excludes(whole, totals.sum(axis=1) - SLICES * count * bound, squares.sum(axis=1))
        if slices:
            fail |= excludes(parts, totals - count * plan.slice_factor * bound, squares).any(axis=1)
        new_ones = fail & (ends.outcome == 0)
        ends.outcome[new_ones], ends.requests[new_ones] = ROLLED_BACK, n
    return ends


def late_labels(plan: RolloutPlan, worse: float, *, horizon: bool, runs: int, seed: int) -> Ends:
    """Pairs whose labels are 1 at once, or 0 after up to 2,000 further answers. The champion says 0.3, which is right;
    the candidate says more, so that it is `worse` by Brier score, and better on every 1. Requests are answers."""
    rng, budget = np.random.default_rng(seed), budget_of(plan)
    says = 0.3 + math.sqrt(worse)
    gain = {1: (says - 1) ** 2 - 0.7**2, 0: says**2 - 0.3**2}
    waits = LATEST - ANSWERS
    ends = Ends(np.zeros(runs, dtype=int), np.full(runs, LATEST), np.zeros(runs))
    positive = rng.random((runs, LATEST)) < 0.3
    known = np.arange(LATEST) + np.where(positive, 0, np.ceil(waits * rng.random((runs, LATEST)))).astype(int)
    tests = [MeanSequence(alpha, 2.0, plan.min_requests) for alpha in (budget.rollback("loss"), budget.promotion)]
    for n in looks_until(200, LATEST, 60):
        counted = np.arange(LATEST) + waits < n if horizon else known < n
        ones = (positive & counted).sum(axis=1)
        zeros = (~positive & counted).sum(axis=1)
        number = ones + zeros
        total = ones * gain[1] + zeros * gain[0]
        square = ones * gain[1] ** 2 + zeros * gain[0] ** 2
        above = total - number * plan.max_loss_increase
        fail, ok = excludes(tests[0], above, square), excludes(tests[1], -above, square) & (number >= plan.min_requests)
        for chosen, outcome in ((fail, ROLLED_BACK), (ok & ~fail, PROMOTED)):
            new = chosen & (ends.outcome == 0)
            ends.outcome[new], ends.requests[new] = outcome, n
    return ends
