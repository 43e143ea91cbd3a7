"""Each metric's verdict from the sums of a rollout, with its interval, its bound, and one sentence why.

Which metrics must PASS before the candidate may advance (`details["required"]`), and which only veto:

- shadow: hard failures, flips of the label (where there are labels to flip), mean score difference; live features, once
  they are being compared at all; the loss, by the rule below. Slow shadow copies are recorded only: they share a queue
  that live answers do not.
- canary: hard failures, increase of the failure rate, share of slow answers, and those quantiles of the latency that
  the least number of requests can tell. The other quantiles, loss and live features veto.
- watch: nothing must pass (time must), everything vetoes.

The rule for labels. Their absence never blocks, as they may come months later; evidence of harm always vetoes. In the
shadow, where waiting brings more pairs and hurts nobody, the loss must PASS while labels keep up: at least
`min_requests` pairs have one, and so does at least half of all pairs that could have one by now (`rollout.losses`).

Hard failures are the candidate's only where the champion's calls of the same time do not fail as often (see
`statistics.concurrent`): an overloaded machine holds a rollout, and never rolls it back.

Hard failures, slow answers, each quantile of the latency and the loss have a detector beside the test of the step (see
`rollout.detecting`): a fault that starts late fails them, whatever the sums of a long healthy step still say.

When the arms do not get the keys that they should (`rollout.split`), comparisons between them are an ERROR: they pause
the rollout for a person, and decide nothing.

What cannot be judged is an ERROR with the reason, never a PASS: a score difference without a declared bound and without
a measured noise of retraining.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import zip_longest

from fairlead.deploy.rollout import sentences as say
from fairlead.deploy.rollout import tally as sums
from fairlead.deploy.rollout.comparing import compare, interval, mean_limits, rate_below, reason_for, word
from fairlead.deploy.rollout.detecting import (
    blame_of_calls,
    blame_of_copies,
    failure_test,
    loss_evidence,
    with_detector,
)
from fairlead.deploy.rollout.latency import latency_metrics
from fairlead.deploy.rollout.losses import labels_keep_up, live_loss, paired_loss, with_label_check
from fairlead.deploy.rollout.plan import budget_of
from fairlead.deploy.rollout.slices import slice_metrics
from fairlead.deploy.rollout.split import with_split
from fairlead.deploy.rollout.trials import trial_metric
from fairlead.deploy.statistics.budget import Budget
from fairlead.deploy.statistics.means import needed_mean_below
from fairlead.deploy.statistics.rates import Mixture, lower_limit, upper_limit
from fairlead.deploy.statistics.two_sample import difference, needed_within
from fairlead.records.data import SkewFinding
from fairlead.records.evidence import Interval, MetricVerdict, RunningMean, RunningRate, Verdict
from fairlead.records.rollout import Observation, Phase, RolloutPlan, RolloutRecord
from fairlead.records.trial import AB_TEST

_VISIBLE_NOISE = 5e-5
"""Numeric noise from which a sentence tells of it: below, it reads 0.0000."""

_LIVE = frozenset({Phase.CANARY, Phase.WATCHING})


def judge(record: RolloutRecord, observation: Observation) -> tuple[MetricVerdict, ...]:
    """All metrics of the present phase; none where nothing is being measured."""
    phase = sums.counting_phase(record)
    if phase is Phase.SHADOW:
        return tuple(_shadow_metrics(record, observation))
    if phase in _LIVE:
        metrics = tuple(_live_metrics(record))
        if phase is Phase.WATCHING:
            return tuple(_optional(m) for m in metrics)
        trial = trial_metric(record)
        if trial is None:
            return with_split(record, observation.split, metrics)
        # An A/B test judges its split itself: all its keys count, and a wrong one ends it.
        return (trial, *(metrics if trial.metric == AB_TEST else with_split(record, observation.split, metrics)))
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
    yield _hard_failures(
        "shadow_failures",
        plan,
        budget,
        [("shadow", pairs.shadow_failures)],
        blame_of_copies(record, sums.of_step(record)),
    )
    flips = rate_below(
        "shadow_flips", "labels that change", pairs.flips, plan.max_flip_rate, budget.rollback("shadow_flips"), budget
    )
    has_labels = pairs.flips.n > 0 or pairs.difference.n == 0
    yield flips if has_labels else _optional(replace(flips, why="the model gives no labels that could change"))
    limit, source = _difference_limit(plan, observation)
    yield _score_difference(plan, budget, pairs.difference, limit, source)
    slow = rate_below(
        "shadow_slow",
        f"copies over {plan.latency_bound_ms:g} ms",
        pairs.shadow_slow,
        plan.max_slow_rate,
        budget.rollback("slow_rate"),
        budget,
    )
    yield _recorded_only(slow)
    yield skew_verdict(record, required=observation.skew_expected)
    keeps_up = labels_keep_up(plan, pairs, sums.num_pairs(sums.total(record)))
    yield paired_loss(plan, budget, pairs, required=keeps_up)
    yield from slice_metrics(plan, budget, pairs.slices, limit, observation.slice_noise)


def _recorded_only(metric: MetricVerdict) -> MetricVerdict:
    verdict = Verdict.NOT_ENOUGH_EVIDENCE if metric.verdict is Verdict.FAIL else metric.verdict
    return replace(
        _optional(metric), verdict=verdict, why=f"{metric.why} (recorded only: copies share a queue)", needed=None
    )


def _score_difference(
    plan: RolloutPlan, budget: Budget, values: RunningMean, limit: float | None, source: str
) -> MetricVerdict:
    name = "shadow_score_difference"
    alpha_low, alpha_high = budget.rollback(name), budget.promotion
    low, high = mean_limits(values, alpha_low, alpha_high, plan.shadow_min_requests)
    observed = values.mean if values.n else None
    details: dict[str, object] = {"required": True, "alpha_low": alpha_low, "alpha_high": alpha_high, "unit": "score"}
    if limit is None:
        why = (
            "mean score difference cannot be judged: no bound is declared, and no noise of retraining was measured; "
            "declare deploy.rollout.shadow.max_score_difference, or train with train.retraining_noise"
        )
        return MetricVerdict(name, Verdict.ERROR, observed, interval(low, high, alpha_low, alpha_high), None, values.n,
                             why, None, {**details, "reason": "no bound"})  # fmt: skip
    verdict, reason = compare(values.n, low, high, limit)
    needed = needed_mean_below(values, limit, alpha_high, plan.shadow_min_requests) if reason else None
    shown = f">= {low:.4f} at {say.level(alpha_low)}" if verdict is Verdict.FAIL else (
        f"<= {high:.4f} at {say.level(alpha_high)}"
    )  # fmt: skip
    why = (
        f"{say.count(values.n, 'pair')}, mean score difference {values.mean if values.n else 0:.4f} ({shown}), "
        f"bound {limit:.4f} ({source}): {word(verdict, reason)}"
    )
    details |= {"reason": reason, "bound_source": source, "clipped": values.clipped}
    return MetricVerdict(
        name, verdict, observed, interval(low, high, alpha_low, alpha_high), limit, values.n, why, needed, details
    )


def _difference_limit(plan: RolloutPlan, observation: Observation) -> tuple[float | None, str]:
    """The bound of the mean score difference and where it comes from; None without any. The noise floor has two parts:
    that of retraining, without which there is no scale to measure by, and the numeric one, which should be 0."""
    noise, numeric = observation.retraining_noise, observation.numeric_noise or 0.0
    if plan.max_score_difference is not None or not noise:
        return plan.max_score_difference, "declared"
    source = f"retraining noise {noise:.4f}"
    if numeric >= _VISIBLE_NOISE:
        source = f"({source} + numeric noise {numeric:.4f})"
    return plan.score_difference_factor * (noise + numeric), f"{plan.score_difference_factor:g} x {source}"


# --- live ------------------------------------------------------------------------------------------------------------
def _live_metrics(record: RolloutRecord) -> Iterator[MetricVerdict]:
    plan, budget = record.plan, budget_of(record.plan)
    whole, part = sums.total(record), sums.of_step(record)
    watching = sums.counting_phase(record) is Phase.WATCHING  # whose loss is that of pairs
    later = record.step > 0 or watching
    tests = [("live", whole.candidate.tried)] + ([("step", part.candidate.tried)] if later else [])
    found = sums.detectors_of_step(record)
    yield _error_rate(plan, budget, part.candidate.failures, part.champion.failures)
    blame = blame_of_calls(record, part, found)
    yield _hard_failures("failures", plan, budget, tests, blame, found.failures)
    slow = rate_below(
        "slow_rate",
        f"answers over {plan.latency_bound_ms:g} ms",
        part.candidate.slow,
        plan.max_slow_rate,
        budget.rollback("slow_rate"),
        budget,
    )
    yield with_detector(slow, found.slow, budget.detection("slow_rate"), "answers turned slow")
    alpha = budget.detection("latency")
    latencies = latency_metrics(plan, budget, part.candidate.latency, part.champion.latency)
    for metric, rising in zip_longest(latencies, found.latency):
        yield with_detector(metric, rising, alpha, "the latency rose") if rising is not None else metric
    loss = live_loss(plan, budget, whole.pairs, whole.candidate, whole.champion)
    loss = with_detector(loss, loss_evidence(found), budget.detection("loss"), "the loss began to rise")
    yield loss if watching else with_label_check(loss, budget, whole.candidate.labels, whole.champion.labels)
    yield skew_verdict(record, required=False)


def _hard_failures(
    name: str,
    plan: RolloutPlan,
    budget: Budget,
    tests: Iterable[tuple[str, RunningRate]],
    blame: float | None,
    log_detector: float | None = None,
) -> MetricVerdict:
    """The sequential test. With several windows, any FAIL fails, and the last window's PASS passes; so does an alarm of
    the detector fail. A FAIL needs `blame` as well: evidence that the champion does not fail as often; None where no
    champion is called."""
    verdict, counts, ratio, needed = Verdict.NOT_ENOUGH_EVIDENCE, RunningRate(), 0.0, None
    alpha = budget.failures("live")
    upper = lower = 0.0
    for window, seen in tests:
        error = budget.failures(window)
        test = failure_test(plan, error)
        here = test.verdict(seen.n, seen.events)
        failed = verdict is Verdict.FAIL
        if not failed:
            verdict, counts, alpha = here, seen, error
            ratio, upper, lower = test.log_ratio(seen.n, seen.events), test.upper, test.lower
            needed = test.needed(seen.n, seen.events)
    reason = reason_for(verdict, counts.n)
    kind = "failures of shadow copies" if name == "shadow_failures" else "hard failures"
    why = (
        f"{counts.events:,} {kind} in {say.count(counts.n, 'call')} ({say.percent(counts.rate)}), evidence "
        f"{ratio:+.1f} (bad from {upper:.1f}, healthy from {lower:.1f}; {say.bound(plan.healthy_failure_rate)} is "
        f"healthy, {say.bound(plan.bad_failure_rate)} is bad): {word(verdict, reason)}"
    )
    mixture = Mixture.around(plan.bad_failure_rate)
    low = lower_limit(counts.n, counts.events, budget.promotion / 2, mixture)
    high = upper_limit(counts.n, counts.events, budget.promotion / 2, mixture)
    details = {"required": True, "reason": reason, "unit": "share", "log_ratio": ratio, "upper": upper,
               "lower": lower, "alpha": alpha, "beta": budget.promotion, "events": counts.events,
               "healthy": plan.healthy_failure_rate}  # fmt: skip
    metric = MetricVerdict(
        name, verdict, counts.rate if counts.n else None, Interval(low, high, 1 - budget.promotion),
        plan.bad_failure_rate, counts.n, why, needed if reason else None, details,
    )  # fmt: skip
    if log_detector is not None:
        metric = with_detector(metric, log_detector, budget.failures("detector"), "hard failures began")
    return metric if blame is None else _blamed(metric, blame, -math.log(budget.blame))


def _blamed(metric: MetricVerdict, blame: float, wanted: float) -> MetricVerdict:
    details = {**metric.details, "blame": blame, "blame_from": wanted}
    if metric.verdict is not Verdict.FAIL or blame >= wanted:
        return replace(metric, details=details)
    why = (
        f"{metric.why.rpartition(': ')[0]}; but the champion's calls fail as well (evidence that the candidate fails "
        f"more often {blame:+.1f}, from {wanted:.1f}): {word(Verdict.NOT_ENOUGH_EVIDENCE, 'shared')}"
    )
    return replace(metric, verdict=Verdict.NOT_ENOUGH_EVIDENCE, why=why, details={**details, "reason": "shared"})


def _error_rate(plan: RolloutPlan, budget: Budget, candidate: RunningRate, champion: RunningRate) -> MetricVerdict:
    """Candidate minus champion failure rate over the same time, against the margin."""
    margin = plan.max_error_rate_increase
    alpha_low, alpha_high = budget.rollback("error_rate"), budget.promotion
    mixture = Mixture.around(margin)
    found = difference(candidate, champion, alpha_low=alpha_low, alpha_high=alpha_high, mixture=mixture)
    verdict, reason = compare(min(candidate.n, champion.n), found.low, found.high, margin)
    needed = needed_within(candidate, champion, margin, alpha_high, mixture) if reason else None
    shown = f">= {say.points(found.low)} at {say.level(alpha_low)}" if verdict is Verdict.FAIL else (
        f"<= {say.points(found.high)} at {say.level(alpha_high)}"
    )  # fmt: skip
    why = (
        f"{say.count(candidate.n, 'request')}, failure rate {say.percent(candidate.rate)}, champion "
        f"{say.percent(champion.rate)} of {champion.n:,}, difference {say.points(found.observed)} ({shown}), margin "
        f"{say.bound(margin)}: {word(verdict, reason)}"
    )
    details = {"required": True, "reason": reason, "unit": "share", "alpha_low": alpha_low, "alpha_high": alpha_high,
               "candidate_rate": candidate.rate, "champion_rate": champion.rate, "champion_n": champion.n}  # fmt: skip
    return MetricVerdict(
        "error_rate", verdict, found.observed if candidate.n else None,
        interval(found.low, found.high, alpha_low, alpha_high), margin, candidate.n, why, needed, details,
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
