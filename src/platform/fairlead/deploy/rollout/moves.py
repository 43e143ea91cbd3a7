"""The decisions that every strategy takes alike: promoting, rolling back, pausing; and how old what was seen is."""

from dataclasses import replace
from datetime import datetime

from fairlead.deploy.rollout import sentences as say
from fairlead.deploy.rollout import tally as sums
from fairlead.deploy.rollout.decisions import enter
from fairlead.records.rollout import Observation, Phase, RolloutRecord

ENGINE = "engine"
FRESH_SECONDS = 60.0
"""Age of the newest request up to which evidence may advance a rollout."""


def promote(record: RolloutRecord, observation: Observation, now: datetime, actor: str, sentence: str) -> RolloutRecord:
    """The candidate becomes champion."""
    target = replace(record, phase=Phase.PROMOTING, weight=100.0, shadow_percent=0.0)
    return enter(record, target, observation, now, actor, sentence)


def abort(record: RolloutRecord, observation: Observation, now: datetime, actor: str, because: str) -> RolloutRecord:
    """The candidate is rolled back."""
    target = replace(record, phase=Phase.ABORTING, weight=0.0, shadow_percent=0.0)
    sentence = f"{because}. Rolled back: {say.arm(record.rollback_target)} answers everything"
    return enter(record, target, observation, now, actor, sentence)


def pause(record: RolloutRecord, observation: Observation, now: datetime, kind: str, reason: str) -> RolloutRecord:
    """The rollout is held for a person, with the traffic as it is."""
    resume_phase = sums.counting_phase(record)
    target = replace(record, phase=Phase.PAUSED, resume_phase=resume_phase, pause_reason=reason, pause_kind=kind)
    return enter(
        record, target, observation, now, record.command_by if kind == "person" else ENGINE,
        f"paused at {say.stage(record)}: {reason}", moves=False, keeps_count=True,
    )  # fmt: skip


def is_fresh(record: RolloutRecord, now: datetime) -> bool:
    """True when the newest evidence is young enough to advance on."""
    limit = min(FRESH_SECONDS, record.plan.no_data_seconds)
    return bool(record.last_data_at) and age(record.last_data_at, now) <= limit


def age(since: str, now: datetime) -> float:
    """Seconds since an instant of the record."""
    # Never below zero: a clock that was set back must not make anything look as if it came from the future.
    return max(0.0, (now - datetime.fromisoformat(since)).total_seconds()) if since else 0.0
