"""Each metric's verdict from the sums of a rollout, with its interval, its bound, and one sentence why.

Which metrics must PASS before the candidate may advance (`details["required"]`), and which only veto:

- shadow: hard failures, flips of the label (where there are labels to flip), mean score difference; live features, once
  they are being compared at all; the loss, by the rule below. Slow shadow copies are recorded only: they share a queue
  that live answers do not.
- canary: hard failures, increase of the failure rate, share of slow answers. Loss and live features veto.
- watch: nothing must pass (time must), everything vetoes.

The rule for labels. Their absence never blocks, as they may come months later; evidence of harm always vetoes. In the
shadow, where waiting brings more pairs and hurts nobody, the loss must PASS while labels keep up: at least
`min_requests` pairs have one, and so does at least half of all pairs.

What cannot be judged is an ERROR with the reason, never a PASS: a score difference without a declared bound and without
a measured noise of retraining.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from fairlead.deploy.rollout import sentences as say
from fairlead.deploy.rollout import tally as sums
from fairlead.deploy.rollout.plan import budget_of
from fairlead.deploy.statistics.budget import Budget
from fairlead.deploy.statistics.means import lower_mean, needed_mean_below, upper_mean
from fairlead.deploy.statistics.rates import Mixture, difference, lower_limit, needed_below, upper_limit
from fairlead.deploy.statistics.sprt import Sprt
from fairlead.records.data import SkewFinding
from fairlead.records.evidence import Interval, MetricVerdict, RunningMean, RunningRate, Verdict
from fairlead.records.rollout import Observation, Phase, RolloutPlan, RolloutRecord

LABELLED_SHARE = 0.5
"""Share of the pairs that need a label before the loss must pass in the shadow."""

_LIVE = frozenset({Phase.CANARY, Phase.WATCHING})


def judge(record: RolloutRecord, observation: Observation) -> tuple[MetricVerdict, ...]:
    """All metrics of the present phase; none where nothing is being measured."""
    phase = sums.counting_phase(record)
    if phase is Phase.SHADOW:
        return tuple(_shadow_metrics(record, observation))
    if phase in _LIVE:
        metrics = tuple(_live_metrics(record))
        return tuple(_optional(m) for m in metrics) if phase is Phase.WATCHING else metrics
    return ()


def required(metric: MetricVerdict) -> bool:
    """True when the candidate cannot advance without a PASS of this metric."""
    return bool(metric.details.get("required"))


def hopeless(metric: MetricVerdict) -> bool:
    """True when waiting cannot help: a person has to decide."""
    return metric.verdict is Verdict.ERROR and required(metric)


def _optional(metric: MetricVerdict) -> MetricVerdict:
    return replace(metric, details={**metric.details, "required": False})


# --- shadow ----------------------------------------------------------------------------------------------------------
def _shadow_metrics(record: RolloutRecord, observation: Observation) -> Iterator[MetricVerdict]:
    plan, budget = record.plan, budget_of(record.plan)
    pairs = sums.total(record).pairs
    yield _hard_failures("shadow_failures", plan, budget, [("shadow", pairs.shadow_failures)])
    flips = _rate_below(
        "shadow_flips", "labels that change", pairs.flips, plan.max_flip_rate, budget.rollback("shadow_flips"), budget
    )
    has_labels = pairs.flips.n > 0 or pairs.difference.n == 0
    yield flips if has_labels else _optional(replace(flips, why="the model gives no labels that could change"))
    yield _score_difference(plan, budget, pairs.difference, observation.retraining_noise)
    slow = _rate_below(
        "shadow_slow",
        f"copies over {plan.latency_bound_ms:g} ms",
        pairs.shadow_slow,
        plan.max_slow_rate,
        budget.rollback("slow_rate"),
        budget,
    )
    yield _recorded_only(slow)
    yield skew_verdict(record, required=observation.skew_expected)
    labelled, answered = pairs.loss_difference.n, sums.num_pairs(sums.total(record))
    keeps_up = labelled >= plan.min_requests and labelled >= LABELLED_SHARE * answered
    yield _paired_loss(plan, budget, pairs.loss_difference, required=keeps_up)


def _recorded_only(metric: MetricVerdict) -> MetricVerdict:
    verdict = Verdict.NOT_ENOUGH_EVIDENCE if metric.verdict is Verdict.FAIL else metric.verdict
    return replace(
        _optional(metric), verdict=verdict, why=f"{metric.why} (recorded only: copies share a queue)", needed=None
    )


def _score_difference(plan: RolloutPlan, budget: Budget, values: RunningMean, noise: float | None) -> MetricVerdict:
    name = "shadow_score_difference"
    limit, source = plan.max_score_difference, "declared"
    if limit is None and noise:  # a noise of 0 is no scale to measure by
        limit = plan.score_difference_factor * noise
        source = f"{plan.score_difference_factor:g} x retraining noise {noise:.4f}"
    alpha_low, alpha_high = budget.rollback(name), budget.promotion
    low, high = _mean_limits(values, alpha_low, alpha_high, plan.shadow_min_requests)
    observed = values.mean if values.n else None
    details: dict[str, object] = {"required": True, "alpha_low": alpha_low, "alpha_high": alpha_high, "unit": "score"}
    if limit is None:
        why = (
            "mean score difference cannot be judged: no bound is declared, and no noise of retraining was measured; "
            "declare deploy.rollout.shadow.max_score_difference, or train with train.retraining_noise"
        )
        return MetricVerdict(name, Verdict.ERROR, observed, _interval(low, high, alpha_low, alpha_high), None, values.n,
                             why, None, {**details, "reason": "no bound"})  # fmt: skip
    verdict, reason = _compare(values.n, low, high, limit)
    needed = needed_mean_below(values, limit, alpha_high, plan.shadow_min_requests) if reason else None
    shown = f">= {low:.4f} at {say.level(alpha_low)}" if verdict is Verdict.FAIL else (
        f"<= {high:.4f} at {say.level(alpha_high)}"
    )  # fmt: skip
    why = (
        f"{say.count(values.n, 'pair')}, mean score difference {values.mean if values.n else 0:.4f} ({shown}), "
        f"bound {limit:.4f} ({source}): {_word(verdict, reason)}"
    )
    details |= {"reason": reason, "bound_source": source, "clipped": values.clipped}
    return MetricVerdict(
        name, verdict, observed, _interval(low, high, alpha_low, alpha_high), limit, values.n, why, needed, details
    )


def _paired_loss(plan: RolloutPlan, budget: Budget, values: RunningMean, *, required: bool) -> MetricVerdict:
    """Candidate minus champion on the same labelled requests, against the margin."""
    alpha_low, alpha_high = budget.rollback("loss"), budget.promotion
    low, high = _mean_limits(values, alpha_low, alpha_high, plan.min_requests)
    verdict, reason = _compare(values.n, low, high, plan.max_loss_increase)
    needed = needed_mean_below(values, plan.max_loss_increase, alpha_high, plan.min_requests) if reason else None
    if values.n:
        shown = f">= {low:+.4f} at {say.level(alpha_low)}" if verdict is Verdict.FAIL else (
            f"<= {high:+.4f} at {say.level(alpha_high)}"
        )  # fmt: skip
        why = (
            f"{say.count(values.n, 'labelled pair')}, loss difference {values.mean:+.4f} ({shown}), "
            f"margin {plan.max_loss_increase:g}: {_word(verdict, reason)}"
        )
    else:
        why = "no labels yet; their absence does not block"
    details = {"required": required, "alpha_low": alpha_low, "alpha_high": alpha_high, "unit": "loss",
               "reason": reason, "paired": True}  # fmt: skip
    return MetricVerdict(
        "loss", verdict, values.mean if values.n else None, _interval(low, high, alpha_low, alpha_high),
        plan.max_loss_increase, values.n, why, needed, details,
    )  # fmt: skip


# --- live ------------------------------------------------------------------------------------------------------------
def _live_metrics(record: RolloutRecord) -> Iterator[MetricVerdict]:
    plan, budget = record.plan, budget_of(record.plan)
    whole, part = sums.total(record), sums.of_step(record)
    later = record.step > 0 or sums.counting_phase(record) is Phase.WATCHING
    tests = [("live", whole.candidate.failures)] + ([("step", part.candidate.failures)] if later else [])
    yield _error_rate(plan, budget, part.candidate.failures, part.champion.failures)
    yield _hard_failures("failures", plan, budget, tests)
    yield _rate_below(
        "slow_rate",
        f"answers over {plan.latency_bound_ms:g} ms",
        part.candidate.slow,
        plan.max_slow_rate,
        budget.rollback("slow_rate"),
        budget,
    )
    yield _live_loss(plan, budget, whole.pairs.loss_difference, whole.candidate.loss, whole.champion.loss)
    yield skew_verdict(record, required=False)


def _hard_failures(
    name: str, plan: RolloutPlan, budget: Budget, tests: Iterable[tuple[str, RunningRate]]
) -> MetricVerdict:
    """The sequential test. With several windows, any FAIL fails, and the last window's PASS passes."""
    verdict, counts, ratio, needed = Verdict.NOT_ENOUGH_EVIDENCE, RunningRate(), 0.0, None
    alpha = budget.failures("live")
    upper = lower = 0.0
    for window, seen in tests:
        error = budget.failures(window)
        test = Sprt(plan.healthy_failure_rate, plan.bad_failure_rate, error, budget.promotion)
        here = test.verdict(seen.n, seen.events)
        failed = verdict is Verdict.FAIL
        if not failed:
            verdict, counts, alpha = here, seen, error
            ratio, upper, lower = test.log_ratio(seen.n, seen.events), test.upper, test.lower
            needed = test.needed(seen.n, seen.events)
    reason = _reason(verdict, counts.n)
    kind = "failures of shadow copies" if name == "shadow_failures" else "hard failures"
    why = (
        f"{counts.events:,} {kind} in {say.count(counts.n, 'call')} ({say.percent(counts.rate)}), evidence "
        f"{ratio:+.1f} (bad from {upper:.1f}, healthy from {lower:.1f}; {say.bound(plan.healthy_failure_rate)} is "
        f"healthy, {say.bound(plan.bad_failure_rate)} is bad): {_word(verdict, reason)}"
    )
    mixture = Mixture.around(plan.bad_failure_rate)
    low = lower_limit(counts.n, counts.events, budget.promotion / 2, mixture)
    high = upper_limit(counts.n, counts.events, budget.promotion / 2, mixture)
    details = {"required": True, "reason": reason, "unit": "share", "log_ratio": ratio, "upper": upper,
               "lower": lower, "alpha": alpha, "beta": budget.promotion, "events": counts.events,
               "healthy": plan.healthy_failure_rate}  # fmt: skip
    return MetricVerdict(
        name, verdict, counts.rate if counts.n else None, Interval(low, high, 1 - budget.promotion),
        plan.bad_failure_rate, counts.n, why, needed if reason else None, details,
    )  # fmt: skip


def _error_rate(plan: RolloutPlan, budget: Budget, candidate: RunningRate, champion: RunningRate) -> MetricVerdict:
    """Candidate minus champion failure rate over the same time, against the margin."""
    margin = plan.max_error_rate_increase
    alpha_low, alpha_high = budget.rollback("error_rate"), budget.promotion
    mixture = Mixture.around(margin)
    found = difference(candidate, champion, alpha_low=alpha_low, alpha_high=alpha_high, mixture=mixture)
    verdict, reason = _compare(candidate.n, found.low, found.high, margin)
    needed = None
    if reason:
        needed = needed_below(candidate.n, candidate.events, margin + found.champion_low, alpha_high / 2, mixture)
    if verdict is Verdict.FAIL:
        shown = f">= {say.percent(found.candidate_low)} at {say.level(alpha_low / 2)}"
    else:
        shown = f"<= {say.percent(found.candidate_high)} at {say.level(alpha_high / 2)}"
    why = (
        f"{say.count(candidate.n, 'request')}, failure rate {say.percent(candidate.rate)} ({shown}), "
        f"champion {say.percent(champion.rate)} of {champion.n:,}, margin {say.bound(margin)}: "
        f"{_word(verdict, reason)}"
    )
    details = {"required": True, "reason": reason, "unit": "share", "alpha_low": alpha_low, "alpha_high": alpha_high,
               "candidate_rate": candidate.rate, "champion_rate": champion.rate, "champion_n": champion.n,
               "candidate_high": found.candidate_high, "champion_low": found.champion_low}  # fmt: skip
    return MetricVerdict(
        "error_rate", verdict, found.observed if candidate.n else None,
        _interval(found.low, found.high, alpha_low, alpha_high), margin, candidate.n, why, needed, details,
    )  # fmt: skip


def _live_loss(
    plan: RolloutPlan, budget: Budget, paired: RunningMean, candidate: RunningMean, champion: RunningMean
) -> MetricVerdict:
    """The paired difference where there are pairs with labels, else the difference of the arms' mean losses. Vetoes."""
    if paired.n or not (candidate.n and champion.n):
        return _paired_loss(plan, budget, paired, required=False)
    alpha_low, alpha_high = budget.rollback("loss"), budget.promotion
    candidate_low, candidate_high = _mean_limits(candidate, alpha_low / 2, alpha_high / 2, plan.min_requests)
    champion_low, champion_high = _mean_limits(champion, alpha_high / 2, alpha_low / 2, plan.min_requests)
    low, high = candidate_low - champion_high, candidate_high - champion_low
    verdict, reason = _compare(candidate.n, low, high, plan.max_loss_increase)
    observed = candidate.mean - champion.mean
    shown = f">= {low:+.4f} at {say.level(alpha_low)}" if verdict is Verdict.FAIL else (
        f"<= {high:+.4f} at {say.level(alpha_high)}"
    )  # fmt: skip
    why = (
        f"{say.count(candidate.n, 'labelled answer')}, loss {observed:+.4f} against the champion's ({shown}), "
        f"margin {plan.max_loss_increase:g}: {_word(verdict, reason)}"
    )
    details = {"required": False, "alpha_low": alpha_low, "alpha_high": alpha_high, "unit": "loss",
               "reason": reason, "paired": False}  # fmt: skip
    return MetricVerdict(
        "loss", verdict, observed, _interval(low, high, alpha_low, alpha_high), plan.max_loss_increase,
        candidate.n, why, None, details,
    )  # fmt: skip


# --- live features ---------------------------------------------------------------------------------------------------
def skew_verdict(record: RolloutRecord, *, required: bool) -> MetricVerdict:
    """FAIL when a live feature differs from the candidate's training data but not from the champion's: the candidate
    was trained on something else than what it meets. A feature that differs from both is a change of the world, and
    says nothing against the candidate. Without findings for the champion nothing can be attributed."""
    details: dict[str, object] = {"required": required, "unit": "distance"}
    candidate = {_place(f): f for f in record.skew if f.digest == record.candidate.digest}
    champion = {_place(f): f for f in record.skew if f.digest == record.champion.digest}
    if not candidate or not champion:
        why = "live features have not been compared with both models' training data yet"
        return MetricVerdict("skew", Verdict.NOT_ENOUGH_EVIDENCE, None, None, None, 0, why, None,
                             {**details, "reason": "too few"})  # fmt: skip
    alone = [f for place, f in candidate.items() if f.skewed and place in champion and not champion[place].skewed]
    both = [f for place, f in candidate.items() if f.skewed and place in champion and champion[place].skewed]
    if alone:
        worst = max(alone, key=lambda f: f.distance)
        why = (
            f"{_label(worst)} is not what the candidate was trained on (distance {worst.distance:.3f}, bound "
            f"{worst.bound:.3f}), though it is what the champion was trained on "
            f"(distance {champion[_place(worst)].distance:.3f}): {worst.why}"
        )
        if len(alone) > 1:
            why += f"; so are {', '.join(sorted(_label(f) for f in alone if f is not worst))}"
        return MetricVerdict("skew", Verdict.FAIL, worst.distance, None, worst.bound, len(candidate), why, None,
                             {**details, "reason": "", "features": [_label(f) for f in alone]})  # fmt: skip
    furthest = max(candidate.values(), key=lambda f: f.distance - f.bound)
    why = f"{len(candidate)} live features look as in the candidate's training data"
    if both:
        names = ", ".join(sorted(_label(f) for f in both))
        why = f"no feature differs from the candidate's training data alone ({names}: from the champion's as well)"
    return MetricVerdict("skew", Verdict.PASS, furthest.distance, None, furthest.bound, len(candidate), f"{why}: PASS",
                         None, {**details, "reason": "", "drifted": [_label(f) for f in both]})  # fmt: skip


def _place(finding: SkewFinding) -> tuple[str, str]:
    return finding.feature, finding.part


def _label(finding: SkewFinding) -> str:
    return f"{finding.feature} ({finding.part})" if finding.part else finding.feature


# --- comparing -------------------------------------------------------------------------------------------------------
def _rate_below(
    name: str, what: str, seen: RunningRate, limit: float, alpha_low: float, budget: Budget
) -> MetricVerdict:
    """A rate against a bound: PASS when the upper limit is at most the bound, FAIL when the lower one is above."""
    alpha_high = budget.promotion
    mixture = Mixture.around(limit)
    low = lower_limit(seen.n, seen.events, alpha_low, mixture)
    high = upper_limit(seen.n, seen.events, alpha_high, mixture)
    verdict, reason = _compare(seen.n, low, high, limit)
    needed = needed_below(seen.n, seen.events, limit, alpha_high, mixture) if reason else None
    noun = "pair" if name.startswith("shadow") else "request"
    shown = f">= {say.percent(low)} at {say.level(alpha_low)}" if verdict is Verdict.FAIL else (
        f"<= {say.percent(high)} at {say.level(alpha_high)}"
    )  # fmt: skip
    why = (
        f"{say.count(seen.n, noun)}, {what} {say.percent(seen.rate)} ({shown}), bound {say.bound(limit)}: "
        f"{_word(verdict, reason)}"
    )
    details = {"required": True, "reason": reason, "unit": "share", "alpha_low": alpha_low, "alpha_high": alpha_high,
               "events": seen.events}  # fmt: skip
    return MetricVerdict(
        name, verdict, seen.rate if seen.n else None, _interval(low, high, alpha_low, alpha_high), limit, seen.n, why,
        needed, details,
    )  # fmt: skip


def _compare(n: int, low: float, high: float, limit: float) -> tuple[Verdict, str]:
    if n and low > limit:
        return Verdict.FAIL, ""
    if n and high <= limit:
        return Verdict.PASS, ""
    return Verdict.NOT_ENOUGH_EVIDENCE, _reason(Verdict.NOT_ENOUGH_EVIDENCE, n)


def _reason(verdict: Verdict, n: int) -> str:
    if verdict is not Verdict.NOT_ENOUGH_EVIDENCE:
        return ""
    return "inconclusive" if n else "too few"


def _word(verdict: Verdict, reason: str) -> str:
    return f"{verdict.value} ({reason})" if reason else verdict.value


def _mean_limits(values: RunningMean, alpha_low: float, alpha_high: float, reference: int) -> tuple[float, float]:
    if values.n == 0:
        return values.low, values.high
    return lower_mean(values, alpha_low, reference), upper_mean(values, alpha_high, reference)


def _interval(low: float, high: float, alpha_low: float, alpha_high: float) -> Interval:
    return Interval(low, high, 1 - alpha_low - alpha_high)
