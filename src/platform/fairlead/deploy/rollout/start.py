"""Rollout records in the store: starting one, finding them, and leaving a command for whoever hosts the loop.

A record lies under ``rollouts/<model>/<id>.json``; ids are numbers in the order of the rollouts, so that two callers
who start one at once race for one key, and one of them learns that another is open.
"""

from dataclasses import replace

from fairlead.clock import Clock
from fairlead.deploy.rollout.commands import refusal
from fairlead.deploy.rollout.wishes import settled
from fairlead.errors import IntegrityError, KeyExists, KeyMissing, RolloutError, RolloutNotFound, VersionConflict
from fairlead.records.codec import from_json, to_json
from fairlead.records.release import Arm, Release
from fairlead.records.rollout import Decision, Phase, RolloutPlan, RolloutRecord
from fairlead.store import Store


def record_key(model: str, rollout: str) -> str:
    """Where a record lies."""
    return f"rollouts/{model}/{rollout}.json"


def new_rollout(
    store: Store, model: str, plan: RolloutPlan, champion: Arm, candidate: Arm, clock: Clock, actor: str
) -> RolloutRecord:
    """Write the record of a new rollout of `candidate` against `champion`, which is also where it rolls back to.

    Nothing is done yet: whoever hosts the loop brings the candidate up. Raises RolloutError when another rollout of the
    model has not ended, or when both arms are the same bundle."""
    if champion.digest == candidate.digest:
        raise RolloutError(
            f"version {candidate.version} is what version {champion.version} is: the same bundle {candidate.digest}",
            why="a rollout compares two models, and tells them apart by their digests",
        )
    known = rollout_ids(store, model)
    last = load(store, model, known[-1]) if known else None
    if last is not None and not settled(last):
        raise _another_is_open(last)
    generation = max(_live_generation(store, model), last.generation if last is not None else 0) + 1
    at = clock.now().isoformat()
    rollout = f"{int(known[-1]) + 1 if known else 1:04d}"
    begun = Decision(
        at=at,
        generation=generation,
        actor=actor,
        phase_before=Phase.STARTING,
        phase_after=Phase.STARTING,
        weight_before=0.0,
        weight_after=0.0,
        sentence=f"{actor} started a rollout of version {candidate.version} against version {champion.version}",
    )
    record = RolloutRecord(
        id=rollout,
        model=model,
        plan=plan,
        champion=champion,
        candidate=candidate,
        rollback_target=champion,
        phase=Phase.STARTING,
        generation=generation,
        step=0,
        weight=0.0,
        shadow_percent=0.0,
        started_at=at,
        phase_since=at,
        decisions=(begun,),
        status=begun.sentence,
        release_generation=generation,
        started_by=actor,
        updated_at=at,
    )
    try:
        store.create(record_key(model, rollout), to_json(record))
    except KeyExists:
        raise _another_is_open(load(store, model, rollout)) from None
    return record


def load(store: Store, model: str, rollout: str | None = None) -> RolloutRecord:
    """One record, or the newest. Raises RolloutNotFound."""
    return load_versioned(store, model, rollout)[0]


def load_versioned(store: Store, model: str, rollout: str | None = None) -> tuple[RolloutRecord, str]:
    """A record and its version in the store, for compare-and-swap. Raises RolloutNotFound, IntegrityError."""
    if rollout is None:
        known = rollout_ids(store, model)
        if not known:
            raise RolloutNotFound(f"model {model} has had no rollout", fix="fairlead rollout start --version N")
        rollout = known[-1]
    data, version = read_record(store, model, rollout)
    return parse_record(store, model, rollout, data), version


def read_record(store: Store, model: str, rollout: str) -> tuple[bytes, str]:
    """A record's bytes and version: what a loop needs to see that nothing changed. Raises RolloutNotFound."""
    key = record_key(model, rollout)
    try:
        return store.read_versioned(key)
    except KeyMissing:
        ids = ", ".join(rollout_ids(store, model)) or "none"
        what = f"model {model} has no rollout {rollout}"
        raise RolloutNotFound(what, where=store.url(key), fix=f"known: {ids}") from None


def parse_record(store: Store, model: str, rollout: str, data: bytes) -> RolloutRecord:
    """A record from its bytes. Raises IntegrityError."""
    try:
        return from_json(RolloutRecord, data)
    except (ValueError, KeyError, TypeError) as error:
        what = f"the record of rollout {rollout} cannot be read"
        raise IntegrityError(what, where=store.url(record_key(model, rollout)), why=str(error)) from error


def list_rollouts(store: Store, model: str) -> tuple[RolloutRecord, ...]:
    """All rollouts of a model, oldest first."""
    return tuple(load(store, model, rollout) for rollout in rollout_ids(store, model))


def open_rollout(store: Store, model: str) -> RolloutRecord | None:
    """The rollout that has not ended, or None."""
    known = rollout_ids(store, model)
    last = load(store, model, known[-1]) if known else None
    return last if last is not None and not settled(last) else None


def send_command(store: Store, model: str, rollout: str, command: str, by: str) -> RolloutRecord:
    """Leave `command` (pause, resume, promote, abort) in the record for the host of the loop. An abort replaces any
    other command; nothing replaces an abort. Raises RolloutError with the sentence why, when it cannot be followed."""
    while True:
        record, version = load_versioned(store, model, rollout)
        no = refusal(record, command)
        if no:
            raise RolloutError(no, where=store.url(record_key(model, rollout)))
        if record.command and record.command != command and command != "abort":
            raise RolloutError(
                f"rollout {rollout} has not taken up the command {record.command!r} of {record.command_by} yet",
                fix="Wait a moment, and ask again.",
            )
        changed = replace(record, command=command, command_by=by)
        try:
            store.replace(record_key(model, rollout), to_json(changed), version)
            return changed
        except VersionConflict:
            continue


def rollout_ids(store: Store, model: str) -> list[str]:
    """The ids of all rollouts of a model, oldest first."""
    prefix = f"rollouts/{model}/"
    names = [key[len(prefix) :].removesuffix(".json") for key in store.list(prefix)]
    return sorted((name for name in names if name.isdigit()), key=int)


def _live_generation(store: Store, model: str) -> int:
    try:
        return from_json(Release, store.read(f"releases/{model}.json")).generation
    except KeyMissing:
        return 0


def _another_is_open(record: RolloutRecord) -> RolloutError:
    return RolloutError(
        f"rollout {record.id} of version {record.candidate.version} has not ended: it is in {record.phase.value}",
        fix=f"fairlead rollout abort {record.id}, or wait for it",
    )
