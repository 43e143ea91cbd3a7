"""May the candidate have this much traffic? What a stored rollout answers. Pure.

The rule. Fairlead's own rollout leads, and another controller may follow it but not overtake it: `promote` for a share
of W percent means that Fairlead itself has granted the candidate at least W percent, on evidence or by a person, and
that nothing speaks against it now. In this order:

    ended or ending in a rollback, or a metric has FAILED      rollback   FAIL
    the candidate is champion (or is becoming it)              promote    PASS
    paused for a person                                        wait       NOT_ENOUGH_EVIDENCE (ERROR: it cannot be read)
    nobody hosts the rollout: nothing is being looked at       wait       ERROR
    the servers cannot be read, or have not converged          wait       ERROR
    the candidate has W percent or more                        promote    PASS
    else                                                       wait       NOT_ENOUGH_EVIDENCE

So lack of evidence is always `wait`: it neither promotes nor rolls back, whatever the other controller does with time.
"""

from dataclasses import dataclass

from fairlead.deploy.rollout import sentences as say
from fairlead.records.evidence import MetricVerdict, Verdict
from fairlead.records.rollout import Phase, RolloutRecord

PROMOTE, ROLLBACK, WAIT = "promote", "rollback", "wait"
DECISIONS = (PROMOTE, ROLLBACK, WAIT)

_GRANTED = frozenset({Phase.PROMOTING, Phase.WATCHING, Phase.PROMOTED})
_REVOKED = frozenset({Phase.ABORTING, Phase.ABORTED})


@dataclass(frozen=True, slots=True)
class Answer:
    """`decision` is promote, rollback or wait; `reason` a word for machines, `why` a sentence for people.
    `granted_percent`: what Fairlead itself gives the candidate, of the `wanted_percent` that were asked for."""

    decision: str
    verdict: Verdict
    reason: str
    why: str
    granted_percent: float
    wanted_percent: float


def answer(record: RolloutRecord, *, hosted: bool, wanted_percent: float = 100.0) -> Answer:
    """What `record` says about giving its candidate `wanted_percent` of the traffic. `hosted`: its loop is running."""

    def say_it(decision: str, verdict: Verdict, reason: str, why: str) -> Answer:
        return Answer(decision, verdict, reason, why, granted_percent(record), wanted_percent)

    phase = record.phase
    if phase in _REVOKED:
        return say_it(ROLLBACK, Verdict.FAIL, "rolled_back", _settling(record, Phase.ABORTING))
    if phase in _GRANTED and not _failed(record):
        return say_it(PROMOTE, Verdict.PASS, "promoted", _settling(record, Phase.PROMOTING))
    failed = _failed(record)
    if failed:
        return say_it(ROLLBACK, Verdict.FAIL, "failed", "; ".join(metric.why for metric in failed))
    if phase is Phase.PAUSED:
        verdict = Verdict.ERROR if record.pause_kind == "error" else Verdict.NOT_ENOUGH_EVIDENCE
        return say_it(WAIT, verdict, f"paused_{record.pause_kind or 'person'}", f"paused: {record.pause_reason}")
    if not hosted:
        why = f"nobody hosts rollout {record.id}: nothing is being looked at since {record.updated_at}"
        return say_it(WAIT, Verdict.ERROR, "not_hosted", why)
    if record.trouble_since:
        return say_it(WAIT, Verdict.ERROR, "in_trouble", record.status)
    granted = granted_percent(record)
    if granted > 0 and granted >= wanted_percent:
        why = f"{say.arm(record.candidate)} has {say.weight(granted)} of the traffic: {_settling(record, phase)}"
        return say_it(PROMOTE, Verdict.PASS, "granted", why)
    return say_it(WAIT, Verdict.NOT_ENOUGH_EVIDENCE, "undecided", record.status)


def granted_percent(record: RolloutRecord) -> float:
    """The share of the traffic that the rollout gives its candidate now."""
    if record.phase in _GRANTED:
        return 100.0
    return 0.0 if record.phase in _REVOKED else record.weight


def requests_needed(record: RolloutRecord) -> int | None:
    """How many more requests the slowest required metric takes at its present estimate; None when that is not known."""
    if record.phase not in (Phase.SHADOW, Phase.CANARY):
        return None
    waiting = [m for m in record.last_metrics if m.details.get("required") and m.verdict is not Verdict.PASS]
    if not waiting or any(metric.needed is None for metric in waiting):
        return None
    return max(metric.needed or 0 for metric in waiting)


def _failed(record: RolloutRecord) -> tuple[MetricVerdict, ...]:
    """What the engine is about to roll back for. After the end of the watch nothing is judged any more."""
    if record.phase in (Phase.STARTING, Phase.PROMOTING, Phase.PROMOTED):
        return ()
    return record.failed or tuple(metric for metric in record.last_metrics if metric.verdict is Verdict.FAIL)


def _settling(record: RolloutRecord, phase: Phase) -> str:
    """The sentence of the decision that led to `phase`."""
    found = [d.sentence for d in record.decisions if d.phase_after is phase and d.phase_before is not phase]
    return found[-1] if found else record.status
