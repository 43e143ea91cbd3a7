"""Whether the arms got the keys that they should, and what a wrong split does to the comparisons between them.

Whoever is missing from an arm may be just who matters: a client that crashes on the candidate's answers never comes
back, a retry goes around the router. So when the check of the split raises an alarm, every verdict that compares the
two arms' own requests becomes an ERROR: neither a PASS nor a FAIL of it counts. Hard failures and slow answers of the
candidate alone, and pairs on the same request, are no such comparisons and stay what they are.
"""

from dataclasses import replace

from fairlead.deploy.rollout import sentences as say
from fairlead.deploy.rollout.losses import compares_arms
from fairlead.deploy.rollout.plan import budget_of
from fairlead.deploy.statistics import sample_ratio
from fairlead.records.evidence import MetricVerdict, RunningRate, Verdict
from fairlead.records.rollout import RolloutRecord

_COMPARES = frozenset({"error_rate", "loss"})


def with_split(
    record: RolloutRecord, seen: RunningRate | None, metrics: tuple[MetricVerdict, ...]
) -> tuple[MetricVerdict, ...]:
    """The metrics of a canary step and, where the servers count keys, the verdict on the split."""
    if seen is None or not 0 < record.weight < 100:
        return metrics
    verdict = split_verdict(record, seen)
    if verdict.verdict is Verdict.ERROR:
        metrics = tuple(_withheld(metric, verdict.why) if _compares(metric) else metric for metric in metrics)
    return (*metrics, verdict)


def split_verdict(record: RolloutRecord, seen: RunningRate) -> MetricVerdict:
    """ERROR when the candidate's share of the keys is not its weight; no evidence of that is a PASS."""
    share, alpha = record.weight / 100, budget_of(record.plan).split_alarm
    evidence = float(sample_ratio.log_evidence(seen.events, seen.n, share))
    wrong = bool(sample_ratio.is_off(seen.events, seen.n, share, alpha))
    verdict = Verdict.ERROR if wrong else Verdict.PASS if seen.n else Verdict.NOT_ENOUGH_EVIDENCE
    why = (
        f"{say.count(seen.n, 'key')}, {say.percent(seen.rate)} of them on the candidate where "
        f"{say.weight(record.weight)} belong (wrong at {say.level(alpha)})"
        + (": comparing the arms says nothing until the cause is found" if wrong else "")
        + f": {verdict.value}"
    )
    details = {"required": wrong, "reason": "sample ratio" if wrong else "", "unit": "share", "alpha": alpha,
               "log_ratio": evidence}  # fmt: skip
    return MetricVerdict("split", verdict, seen.rate if seen.n else None, None, share, seen.n, why, None, details)


def _compares(metric: MetricVerdict) -> bool:
    unpaired = metric.metric != "loss" or compares_arms(metric)
    return (metric.metric in _COMPARES and unpaired) or metric.metric.startswith("latency_")


def _withheld(metric: MetricVerdict, why: str) -> MetricVerdict:
    details = {**metric.details, "reason": "sample ratio"}
    return replace(
        metric, verdict=Verdict.ERROR, why=f"no evidence, as the split is wrong: {why}", needed=None, details=details
    )
