"""The rollout as a pure function: `step(record, observation, now) -> (record, actions)`. No clock, no I/O.

The verdict algebra (for all metrics of the present phase):

    any FAIL                                            abort, for good: nothing starts it again by itself
    all required PASS, enough requests, fresh data      advance
    no new requests                                     hold; after `no_data_seconds` pause for a person
    the world cannot be read, or does not converge      hold; after `no_data_seconds` pause for a person
    not enough evidence                                 hold; after `max_seconds` pause for a person
    a metric that waiting cannot help                   pause for a person, once there are enough requests

So lack of data never promotes and never rolls back. Paused, a FAIL still aborts. A person's abort wins in every state.

Write-ahead: `step` only returns the next record. The caller makes it durable, then does the actions, which follow from
the durable record alone: after a crash, the same `step` asks for the same actions again. The wished Release is a
function of the record (`wish`); weight moves only when the servers confirmed the Release before it and the candidate is
ready. Abort is exempt: it only takes weight away.
"""

from dataclasses import replace
from datetime import datetime

from fairlead.deploy.rollout import moves, trials
from fairlead.deploy.rollout import sentences as say
from fairlead.deploy.rollout import tally as sums
from fairlead.deploy.rollout.actions import Action, Notify
from fairlead.deploy.rollout.commands import refusal
from fairlead.deploy.rollout.course import noted
from fairlead.deploy.rollout.decisions import enter
from fairlead.deploy.rollout.moves import ENGINE, age, is_fresh
from fairlead.deploy.rollout.trial_moves import decide_trial, end_trial
from fairlead.deploy.rollout.verdicts import hopeless, judge, required
from fairlead.deploy.rollout.wishes import (
    confirmed,
    outbid,
    overtaken,
    reconcile,
    same_traffic,
    settled,
    taken_over,
    trouble_of,
    wish,
    wrong_champion,
)
from fairlead.records.evidence import MetricVerdict, Verdict
from fairlead.records.rollout import TERMINAL, Observation, Phase, RolloutRecord
from fairlead.records.trial import AB_TEST

COMPLETE_SECONDS = 60.0
"""Age of the shadow up to which a FAIL of a comparison waits for the other comparisons."""
COMPARISONS = frozenset(
    {"shadow_flips", "shadow_score_difference", "loss", "skew", "shadow_flips_by_slice", "loss_by_slice"}
    | {"shadow_score_difference_by_slice"}
)

_MEASURING = frozenset({Phase.SHADOW, Phase.CANARY, Phase.WATCHING})


def step(record: RolloutRecord, observation: Observation, now: datetime) -> tuple[RolloutRecord, tuple[Action, ...]]:
    """One look at the world. At most one decision; the actions bring the world to what the record wishes."""
    if settled(record):
        return record, _tell(record)
    record = _absorb(record, observation, now)
    if record.command:
        record = _take_command(record, observation, now)
    else:
        record = _decide(record, observation, now)
    return record, reconcile(record, observation) + _tell(record)


# --- taking in what was seen -----------------------------------------------------------------------------------------
def _absorb(record: RolloutRecord, observation: Observation, now: datetime) -> RolloutRecord:
    release = observation.release
    if release is not None and same_traffic(release, wish(record)) and release.generation == record.release_generation:
        record = replace(record, applied_generation=record.release_generation)
    if observation.skew:
        record = replace(record, skew=observation.skew)
    record = trials.clocked(sums.absorb(record, observation, now), now)
    trouble = trouble_of(record, observation)
    since = (record.trouble_since or now.isoformat()) if trouble else ""
    return replace(record, trouble_since=since)


def _pending(record: RolloutRecord, observation: Observation) -> str:
    note = f" ({observation.note})" if observation.note else ""
    return trouble_of(record, observation) or f"waiting for the registry{note}"


# --- deciding --------------------------------------------------------------------------------------------------------
def _decide(record: RolloutRecord, observation: Observation, now: datetime) -> RolloutRecord:
    phase = record.phase
    if phase is Phase.ABORTING:
        return _finish_abort(record, observation, now)
    if phase in TERMINAL:  # whoever set the traffic after the end is in charge, and needs no confirmation from us
        over = overtaken(record, observation)
        return replace(record, applied_generation=record.release_generation) if over else record
    if taken_over(record, observation):
        if phase is Phase.PAUSED and record.pause_kind == "taken_over":
            return record
        release = observation.release
        by = f"rollout {release.rollout}" if release is not None and release.rollout else "a person"
        generation = release.generation if release is not None else 0
        return moves.pause(
            record, observation, now, "taken_over", f"{by} set the traffic meanwhile (release {generation})"
        )
    if phase is Phase.PROMOTING:
        return _finish_promotion(record, observation, now)
    if phase is Phase.STARTING:
        return _decide_starting(record, observation, now)
    return _decide_measuring(record, observation, now)


def _decide_starting(record: RolloutRecord, observation: Observation, now: datetime) -> RolloutRecord:
    if observation.candidate_error:
        return moves.abort(record, observation, now, ENGINE, _cannot_start(observation))
    trouble = trouble_of(record, observation)
    if not trouble:
        shadow = record.plan.shadow_percent > 0
        what = f"{say.arm(record.candidate)} is ready"
        if shadow:
            target = replace(record, phase=Phase.SHADOW, shadow_percent=record.plan.shadow_percent)
            sentence = f"{what}: shadow of {say.weight(target.shadow_percent)} begins"
        else:
            target = replace(record, phase=Phase.CANARY, step=0, weight=record.plan.steps[0])
            sentence = f"{what}, no shadow: {say.stage(target)} begins"
        return enter(record, target, observation, now, ENGINE, sentence)
    if record.applied_generation == 0 and not wrong_champion(record, observation):
        record = outbid(record, observation)
    return _hold_in_trouble(record, observation, now, trouble)


def _decide_measuring(record: RolloutRecord, observation: Observation, now: datetime) -> RolloutRecord:
    metrics = judge(record, observation)
    record = noted(replace(record, last_metrics=metrics), metrics, now)
    failed = _with_earlier(record.failed, [m for m in metrics if m.verdict is Verdict.FAIL])
    if failed and _worth_completing(record, observation, failed, now):
        named = ", ".join(metric.metric for metric in failed)
        status = f"{say.stage(record)}: {named} failed; the other comparisons are completed, nobody is answered by it"
        return replace(record, failed=tuple(failed), status=status)
    ended = trials.ending(record)
    if failed and ended is not None and [metric.metric for metric in failed] == [AB_TEST]:
        return end_trial(record, observation, now, ended)
    if failed:
        sentence = f"{say.stage(record)}: {'; '.join(m.why for m in failed)}"
        return moves.abort(record, observation, now, ENGINE, sentence)
    if observation.candidate_error:
        return moves.abort(record, observation, now, ENGINE, _cannot_start(observation))
    if record.phase is Phase.PAUSED:
        return replace(record, status=f"paused: {record.pause_reason}")
    trouble = trouble_of(record, observation)
    if trouble:
        return _hold_in_trouble(record, observation, now, trouble)
    silent = age(max(record.last_data_at, record.phase_since, record.deadline_from, record.hosted_since), now)
    if silent > record.plan.no_data_seconds:
        reason = f"no requests for {say.seconds(silent)}; traffic stays as it is"
        return moves.pause(record, observation, now, "no_data", reason)
    if record.phase is Phase.WATCHING:
        return _decide_watching(record, observation, now)
    if record.plan.trial is not None and record.phase is Phase.CANARY:
        return decide_trial(record, observation, now, metrics, ended)
    return _decide_advance(record, observation, now, metrics)


def _with_earlier(earlier: tuple[MetricVerdict, ...], failed: list[MetricVerdict]) -> list[MetricVerdict]:
    """A FAIL stays one, whatever later looks say."""
    named = {metric.metric for metric in failed}
    return [*failed, *[metric for metric in earlier if metric.metric not in named]]


def _worth_completing(
    record: RolloutRecord, observation: Observation, failed: list[MetricVerdict], now: datetime
) -> bool:
    """True while a FAIL of a comparison in shadow, which hurts nobody, waits for the rest of the declared pairs and for
    the comparison of live features, so that the decision is stored with a cause. Hard failures wait for nothing."""
    complete = record.last_requests >= record.plan.shadow_min_requests and (
        bool(record.skew) or not observation.skew_expected
    )
    return (
        record.phase is Phase.SHADOW
        and not complete
        and all(metric.metric in COMPARISONS for metric in failed)
        and age(record.phase_since, now) < COMPLETE_SECONDS
    )


def _decide_advance(
    record: RolloutRecord, observation: Observation, now: datetime, metrics: tuple[MetricVerdict, ...]
) -> RolloutRecord:
    minimum = _min_requests(record)
    enough, fresh = record.last_requests >= minimum, is_fresh(record, now)
    waiting = [m for m in metrics if required(m) and m.verdict is not Verdict.PASS]
    if enough and fresh and not waiting:
        return _advance(record, observation, now, ENGINE, f"{say.stage(record)}: {_all_why(metrics)}")
    stuck = [m for m in waiting if hopeless(m)]
    if enough and stuck and len(stuck) == len(waiting):
        return moves.pause(record, observation, now, "inconclusive", "; ".join(m.why for m in stuck))
    if age(record.deadline_from or record.started_at, now) > record.plan.max_seconds:
        reason = f"no verdict within {say.seconds(record.plan.max_seconds)}: " + (
            "; ".join(m.why for m in waiting)
            or f"{say.count(record.last_requests, 'request')} of {minimum:,} that the plan wants"
        )
        return moves.pause(record, observation, now, "inconclusive", reason)
    return replace(record, status=_waiting_for(record, observation, waiting, minimum))


def _decide_watching(record: RolloutRecord, observation: Observation, now: datetime) -> RolloutRecord:
    lasted = age(record.phase_since, now)
    if lasted >= record.plan.watch_seconds and record.last_requests > 0:
        sentence = (
            f"watched for {say.seconds(lasted)} and {say.count(record.last_requests, 'request')}, nothing failed: "
            f"{say.arm(record.candidate)} stays champion, {say.arm(record.rollback_target)} need not stay warm"
        )
        return enter(record, replace(record, phase=Phase.PROMOTED), observation, now, ENGINE, sentence)
    return replace(record, status=f"watching for {say.seconds(max(0.0, record.plan.watch_seconds - lasted))} more")


def _advance(record: RolloutRecord, observation: Observation, now: datetime, actor: str, because: str) -> RolloutRecord:
    """Shadow -> first canary step -> ... -> promotion."""
    after = sums.counting_phase(record)
    plan = record.plan
    step_after = 0 if after is Phase.SHADOW else record.step + 1
    if step_after < len(plan.steps):
        target = replace(record, phase=Phase.CANARY, step=step_after, weight=plan.steps[step_after], shadow_percent=0.0)
        sentence = f"{because}. Next: {say.stage(target)}"
        return enter(record, target, observation, now, actor, sentence)
    return moves.promote(
        record, observation, now, actor, f"{because}. Next: {say.arm(record.candidate)} becomes champion"
    )


def _finish_promotion(record: RolloutRecord, observation: Observation, now: datetime) -> RolloutRecord:
    if not (confirmed(record) and record.effects_generation == record.release_generation):
        return replace(record, status=_pending(record, observation))
    champion = f"{say.arm(record.candidate)} is champion"
    if record.plan.watch_seconds > 0:
        lasts = say.seconds(record.plan.watch_seconds)
        sentence = f"{champion}; {say.arm(record.rollback_target)} stays warm for {lasts}"
        return enter(record, replace(record, phase=Phase.WATCHING), observation, now, ENGINE, sentence, moves=False)
    return enter(record, replace(record, phase=Phase.PROMOTED), observation, now, ENGINE, champion, moves=False)


def _finish_abort(record: RolloutRecord, observation: Observation, now: datetime) -> RolloutRecord:
    if confirmed(record) and record.effects_generation == record.release_generation:
        sentence = f"the servers confirmed: {say.arm(record.rollback_target)} answers everything"
        return enter(record, replace(record, phase=Phase.ABORTED), observation, now, ENGINE, sentence, moves=False)
    return replace(outbid(record, observation), status=_pending(record, observation))


# --- holding ---------------------------------------------------------------------------------------------------------
def _hold_in_trouble(record: RolloutRecord, observation: Observation, now: datetime, trouble: str) -> RolloutRecord:
    lasted = age(record.trouble_since, now)
    if lasted > record.plan.no_data_seconds:
        reason = f"for {say.seconds(lasted)}: {trouble}; traffic stays as it is"
        return moves.pause(record, observation, now, "error", reason)
    return replace(record, status=f"holding: {trouble}")


def _resume(record: RolloutRecord, observation: Observation, now: datetime, actor: str) -> RolloutRecord:
    phase = record.resume_phase or Phase.STARTING
    accepted = record.pause_kind == "inconclusive" and (
        phase is Phase.SHADOW or (phase is Phase.CANARY and trials.accepts(record))
    )
    target = replace(
        record, phase=phase, resume_phase=None, pause_reason="", pause_kind="", trouble_since="",
        deadline_from=now.isoformat(),
    )  # fmt: skip
    if accepted and not trouble_of(target, observation):
        why = f"{actor} resumed and so accepted at {say.stage(record)}: {record.pause_reason}"
        return _advance(target, observation, now, actor, why)
    if _candidate_is_gone(target, observation):  # it gets weight again only when it is loaded, so it starts over
        target = replace(target, phase=Phase.STARTING, step=0, weight=0.0, shadow_percent=0.0)
        sentence = f"resumed: {say.arm(record.candidate)} was taken from the servers, and is brought up again"
        return enter(record, target, observation, now, actor, sentence)
    sentence = f"resumed at {say.stage(target)}"
    moves = not confirmed(record) or overtaken(record, observation)
    return enter(record, target, observation, now, actor, sentence, moves=moves, keeps_count=True)


def _candidate_is_gone(record: RolloutRecord, observation: Observation) -> bool:
    """True when somebody set traffic without our candidate while it was being measured."""
    release = observation.release
    measured = record.phase in (Phase.SHADOW, Phase.CANARY) and overtaken(record, observation)
    return (
        measured
        and release is not None
        and (release.candidate is None or release.candidate.digest != record.candidate.digest)
    )


def _waiting_for(record: RolloutRecord, observation: Observation, waiting: list[MetricVerdict], minimum: int) -> str:
    """How long a decision still takes at the present traffic."""
    share = record.shadow_percent if record.phase is Phase.SHADOW else record.weight
    per_second = observation.requests_per_second * share / 100
    missing = max(0, minimum - record.last_requests)
    needed = max([missing, *[m.needed or 0 for m in waiting]])
    unknown = [m.metric for m in waiting if m.needed is None]
    text = f"{say.stage(record)}: {say.count(record.last_requests, 'request')} so far"
    if needed:
        text += f"; a decision takes {say.wait(needed, per_second)}"
    if unknown:
        text += f"; not to be foreseen for {', '.join(unknown)}"
    return text


# --- commands --------------------------------------------------------------------------------------------------------
def _take_command(record: RolloutRecord, observation: Observation, now: datetime) -> RolloutRecord:
    command, actor = record.command, record.command_by or "somebody"
    no = refusal(record, command, observation)
    if no or (command == "abort" and record.phase is Phase.ABORTING):
        sentence = f"{command} refused: {no}" if no else "abort: it is being rolled back already"
        return enter(record, record, observation, now, actor, sentence, moves=False, keeps_count=True)
    if command == "abort":
        return moves.abort(record, observation, now, actor, f"{actor} aborted at {say.stage(record)}")
    if command == "pause":
        return moves.pause(record, observation, now, "person", f"{actor} paused it")
    if command == "resume":
        return _resume(record, observation, now, actor)
    if sums.counting_phase(record) is Phase.WATCHING:
        sentence = f"{actor} ended the watch: {say.arm(record.candidate)} stays champion"
        return enter(record, replace(record, phase=Phase.PROMOTED), observation, now, actor, sentence)
    evidence = _all_why(judge(record, observation)) or "no evidence yet"
    sentence = f"{actor} promoted at {say.stage(record)}. Evidence at that moment: {evidence}"
    return moves.promote(record, observation, now, actor, sentence)


# --- small things ----------------------------------------------------------------------------------------------------


def _min_requests(record: RolloutRecord) -> int:
    return record.plan.shadow_min_requests if record.phase is Phase.SHADOW else record.plan.min_requests


def _cannot_start(observation: Observation) -> str:
    return f"the candidate cannot be brought up: {observation.candidate_error}"


def _all_why(metrics: tuple[MetricVerdict, ...]) -> str:
    return "; ".join(m.why for m in metrics if required(m))


# --- actions ---------------------------------------------------------------------------------------------------------
def _tell(record: RolloutRecord) -> tuple[Action, ...]:
    return tuple(
        Notify(number, decision) for number, decision in enumerate(record.decisions) if number >= record.notified
    )
