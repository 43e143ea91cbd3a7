"""One canary step of the real policy, metric by metric, on drawn requests: tens of thousands of rollouts at once."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from evidence_peers import PROMOTED, ROLLED_BACK, Ends

from fairlead.deploy.rehearsal.arrays import excludes
from fairlead.deploy.rehearsal.detecting import Detecting
from fairlead.deploy.rehearsal.draws import MeanSums, Shifts, add_values
from fairlead.deploy.rehearsal.judge import Judge, Sums
from fairlead.deploy.rollout.detecting import slow_test
from fairlead.deploy.rollout.latency import is_required, latency_limit
from fairlead.deploy.statistics import detector
from fairlead.deploy.statistics.means import MeanSequence
from fairlead.deploy.statistics.quantiles import compare_quantile_counts
from fairlead.deploy.statistics.sprt import Sprt
from fairlead.records.evidence import LATENCY_BINS_PER_E
from fairlead.records.rollout import RolloutPlan

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
RATIO = 9
"""Champion requests for each of the candidate's: a canary of 10 %."""
_NONE = MeanSums(*(np.zeros((1, 1)) for _ in range(3)))


def looks_until(first: int, last: int, number: int = 200) -> list[int]:
    """At least `number` numbers of requests, geometric where they can be, every single one before."""
    looks = sorted({round(first * (last / first) ** (k / (number - 1))) for k in range(number)})
    extra = (n for n in range(first, last) if n not in set(looks))
    while len(looks) < number:
        looks.append(next(extra))
    return sorted(looks)


def _sums(
    live: Counts, failed: Counts, champion: Counts, champion_failed: Counts, found: Floats, blame: Floats
) -> Sums:
    zero = np.zeros((1, 1), dtype=np.int64)
    return Sums(
        pair_loss=_NONE, candidate_loss=_NONE, champion_loss=_NONE, copies=zero, copies_failed=zero, flips=zero,
        difference=_NONE, live=live, failed=failed, slow=zero, champion=champion, champion_failed=champion_failed,
        latencies=None, share=1 / (1 + RATIO), failures_detector=found, slow_detector=found,
        blame_detector=blame, earlier=zero, earlier_failed=zero,
    )  # fmt: skip


def failures(
    plan: RolloutPlan, rate: float, champion: float, *, runs: int, seed: int, most: int, per_second: float
) -> Ends:
    """Failures of the candidate against the champion's, looked at after every request of the candidate. A failed call
    is answered by the champion: a user sees a failure only where that fails, too."""
    rng, judge = np.random.default_rng(seed), Judge(plan, None)
    ends = Ends(np.zeros(runs, dtype=int), np.full(runs, most), np.zeros(runs))
    open_, failed, failed0 = np.arange(runs), np.zeros(runs, dtype=np.int64), np.zeros(runs, dtype=np.int64)
    values = [np.full(runs, detector.EMPTY) for _ in range(3)]
    detecting, share = Detecting.of(plan, watching=False), detector.weight(1 / per_second, plan.max_seconds)
    for n in range(1, most + 1):
        here = open_
        if not len(here):
            break
        new, new0 = rng.random(len(here)) < rate, rng.binomial(RATIO, champion, len(here))
        failed[here] += new
        failed0[here] += new0
        events = {"failed": new.astype(np.int64), "slow": np.zeros(len(here), dtype=np.int64), "champion_failed": new0}
        for value, ratio in zip(values, detecting.ratios(1, events, 1 / (1 + RATIO)), strict=True):
            value[here] = detector.update(value[here], ratio, share)
        seen = np.full((len(here), 1), n)
        found = [value[here][:, None] for value in values]
        sums = _sums(seen, failed[here][:, None], seen * RATIO, failed0[here][:, None], found[0], found[2])
        fail, ok = judge.failures(sums, later=False)
        worse, within = _distinct_rates(judge, n, failed[here], failed0[here])
        bad = fail[:, 0] | worse
        good = ~bad & ok[:, 0] & within & (n >= plan.min_requests)
        for chosen, outcome in ((bad, ROLLED_BACK), (good, PROMOTED)):
            ends.outcome[here[chosen]], ends.requests[here[chosen]] = outcome, n
        open_ = here[~bad & ~good]
    ends.bad = rng.binomial(failed, champion).astype(float)
    return ends


def _distinct_rates(judge: Judge, n: int, failed: Counts, failed0: Counts) -> tuple[npt.NDArray[np.bool_], ...]:
    """FAIL and PASS of the failure rate, computed once for each pair of counts."""
    width = int(failed0.max()) + 1
    keys = failed * width + failed0
    there = np.flatnonzero(np.bincount(keys))
    pairs = [(there // width)[:, None], (there % width)[:, None]]
    seen = np.full(pairs[0].shape, n)
    found = judge.error_rate(_sums(seen, pairs[0], seen * RATIO, pairs[1], np.zeros((1, 1)), np.zeros((1, 1))))
    out = []
    for each in found:
        table = np.zeros(int(keys.max()) + 1, dtype=bool)
        table[there] = each[:, 0]
        out.append(table[keys])
    return tuple(out)


def slow_answers(plan: RolloutPlan, rate: float, *, runs: int, seed: int, most: int, per_second: float) -> Ends:
    """Answers over the latency bound, at 200 and more looks."""
    rng, judge = np.random.default_rng(seed), Judge(plan, None)
    looks = looks_until(10, most)
    new = np.diff(looks, prepend=0)
    events = np.cumsum(rng.binomial(new, rate, (runs, len(looks))), axis=1)
    live = np.broadcast_to(np.array(looks), events.shape)
    fail, ok = judge.below("slow_rate", live, events, plan.max_slow_rate)
    test = slow_test(plan, judge.budget.detection("slow_rate"))
    if test is not None:
        fail = fail | _alarms(plan, test, new, np.diff(events, axis=1, prepend=0), per_second, judge)
    ends = _first(fail, ok & ~fail & (live >= plan.min_requests), looks)
    at = np.searchsorted(looks, ends.requests)
    ends.bad = events[np.arange(runs), np.minimum(at, len(looks) - 1)].astype(float)
    return ends


def _alarms(
    plan: RolloutPlan, test: Sprt, new: Counts, events: Counts, per_second: float, judge: Judge
) -> npt.NDArray[np.bool_]:
    value, out = np.full(len(events), detector.EMPTY), np.empty(events.shape, dtype=bool)
    for look, number in enumerate(new.tolist()):
        ratio = events[:, look] * test.per_failure + (number - events[:, look]) * test.per_success
        value = detector.update(value, ratio, detector.weight(number / per_second, plan.max_seconds))
        out[:, look] = detector.alarm(value, judge.budget.detection("slow_rate"))
    return out


@dataclass(frozen=True, slots=True)
class Latencies:
    """A log-normal latency: its median in milliseconds, and the standard deviation of its logarithm."""

    median_ms: float = 20.0
    spread: float = 0.25

    def bins(self, factor: float) -> tuple[int, npt.NDArray[np.float64]]:
        """First bin and probabilities on the grid of latencies, `factor` times as slow."""
        from scipy.stats import norm

        middle = LATENCY_BINS_PER_E * math.log(factor * self.median_ms / 1000)
        width = LATENCY_BINS_PER_E * self.spread
        edges = np.arange(math.floor(middle - 3.3 * width), math.ceil(middle + 3.3 * width) + 1)
        shares = np.diff(norm.cdf((edges - middle) / width))
        return int(edges[0]), shares / shares.sum()


def latency(plan: RolloutPlan, factor: float, *, runs: int, seed: int, most: int) -> Ends:
    """Quantiles of a candidate that is `factor` times as slow, at 200 and more looks."""
    rng, judge, usual = np.random.default_rng(seed), Judge(plan, None), Latencies()
    (start, mine), (start0, theirs) = usual.bins(factor), usual.bins(1.0)
    first = min(start, start0)
    size = max(start + len(mine), start0 + len(theirs)) - first
    chances = np.zeros(size), np.zeros(size)
    chances[0][start - first : start - first + len(mine)] = mine
    chances[1][start0 - first : start0 - first + len(theirs)] = theirs
    counts = [np.zeros((runs, size), dtype=np.int64) for _ in range(2)]
    ends, open_, before = Ends(np.zeros(runs, dtype=int), np.full(runs, most), np.zeros(runs)), np.arange(runs), 0
    bounds = -math.log(judge.budget.rollback("latency")), -math.log(judge.budget.promotion)
    for n in looks_until(10, most):
        if not len(open_):
            break
        for part, chance, ratio in zip(counts, chances, (1, RATIO), strict=True):
            part[open_] += rng.multinomial((n - before) * ratio, chance, len(open_))
        before = n
        bad, good = np.zeros(len(open_), dtype=bool), np.full(len(open_), n >= plan.min_requests)
        for quantile in plan.latency_quantiles:
            found = compare_quantile_counts(counts[0][open_], counts[1][open_], first, quantile, latency_limit(plan))
            bad |= found.worse >= bounds[0]
            if is_required(plan, quantile):
                good &= found.within >= bounds[1]
        for chosen, outcome in ((bad, ROLLED_BACK), (good & ~bad, PROMOTED)):
            ends.outcome[open_[chosen]], ends.requests[open_[chosen]] = outcome, n
        open_ = open_[~bad & ~good]
    return ends


def label_loss(plan: RolloutPlan, shift: float, spread: float, *, runs: int, seed: int, most: int) -> Ends:
    """Loss differences of labelled pairs, at 200 and more looks. In the shadow, where a PASS is wanted."""
    rng, judge = np.random.default_rng(seed), Judge(plan, None)
    ends, open_, before = Ends(np.zeros(runs, dtype=int), np.full(runs, most), np.zeros(runs)), np.arange(runs), 0
    sums = MeanSums(*(np.zeros(runs) for _ in range(3)))
    tests = [
        MeanSequence(alpha, 2.0, plan.min_requests) for alpha in (judge.budget.rollback("loss"), judge.budget.promotion)
    ]
    for n in looks_until(10, most):
        if not len(open_):
            break
        sums = _grown(rng, sums, shift, spread, n - before)
        before = n
        above = sums.total - sums.n * plan.max_loss_increase
        bad = excludes(tests[0], above, sums.variance)
        good = ~bad & excludes(tests[1], -above, sums.variance) & (n >= plan.min_requests)
        for chosen, outcome in ((bad, ROLLED_BACK), (good, PROMOTED)):
            ends.outcome[open_[chosen]], ends.requests[open_[chosen]] = outcome, n
        rest = ~bad & ~good
        open_, sums = open_[rest], MeanSums(sums.n[rest], sums.total[rest], sums.variance[rest])
    return ends


def _grown(rng: np.random.Generator, sums: MeanSums, shift: float, spread: float, number: int) -> MeanSums:
    """`number` more values, drawn one by one, in parts that fit in memory."""
    runs = len(sums.n)
    while number:
        part = min(number, 64)
        new = np.full((runs, 1), float(part))
        grown = add_values(rng, Shifts(spread), np.full((runs, 1), shift), new, sums)
        sums = MeanSums(grown.n[:, 0], grown.total[:, 0], grown.variance[:, 0])
        number -= part
    return sums


def _first(fail: npt.NDArray[np.bool_], ok: npt.NDArray[np.bool_], looks: list[int]) -> Ends:
    """The first look at which something is decided."""
    decided = fail | ok
    found, at = decided.any(axis=1), decided.argmax(axis=1)
    rows = np.arange(len(found))
    outcome = np.where(found, np.where(fail[rows, at], ROLLED_BACK, PROMOTED), 0)
    return Ends(outcome, np.where(found, np.array(looks)[at], looks[-1]), np.zeros(len(found)))
