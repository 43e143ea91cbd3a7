"""Between the record and the world: the Release that a record wishes, whether the servers are there, and what is to be
done about it. Pure functions, like the engine."""

from dataclasses import replace

from fairlead.deploy.rollout import sentences as say
from fairlead.deploy.rollout import tally as sums
from fairlead.deploy.rollout.actions import Action, Promote, Retire, SetTraffic
from fairlead.records.release import Release
from fairlead.records.rollout import TERMINAL, Observation, Phase, RolloutRecord


def settled(record: RolloutRecord) -> bool:
    """True when the rollout has ended and the servers confirmed how."""
    return record.phase in TERMINAL and record.applied_generation >= record.release_generation


def wish(record: RolloutRecord) -> Release:
    """The Release that should be live in the record's state."""
    phase = sums.counting_phase(record)
    warm = record.plan.watch_seconds > 0 and phase in (Phase.PROMOTING, Phase.WATCHING)
    champion, candidate = record.champion, record.candidate
    trial = record.plan.trial if phase in (Phase.STARTING, Phase.SHADOW, Phase.CANARY) else None
    if phase in (Phase.PROMOTING, Phase.WATCHING, Phase.PROMOTED):
        # The old champion stays warm where it can see what it would have answered: as the shadow.
        champion, other = candidate, (record.rollback_target if warm else None)
        weight, shadow = 0.0, record.plan.shadow_percent if warm else 0.0
    elif phase in (Phase.ABORTING, Phase.ABORTED):
        champion, other, weight, shadow = record.rollback_target, None, 0.0, 0.0
    else:
        other, weight, shadow = candidate, record.weight, record.shadow_percent
    return Release(
        model=record.model,
        generation=record.release_generation,
        champion=champion,
        candidate=other,
        candidate_weight=weight,
        shadow_percent=shadow,
        rollout=record.id,
        note=f"rollout {record.id}: {say.stage(record)}",
        latency_bound_ms=record.plan.latency_bound_ms,
        outcome=trial.outcome if trial is not None else None,
        label_horizon_seconds=record.plan.label_horizon_seconds,
        slices=record.plan.slices,
    )


def same_traffic(a: Release, b: Release) -> bool:
    """True when two Releases send the same requests to the same bundles."""
    return (a.champion, a.candidate, a.candidate_weight, a.shadow_percent) == (
        b.champion,
        b.candidate,
        b.candidate_weight,
        b.shadow_percent,
    )


def confirmed(record: RolloutRecord) -> bool:
    """True when the servers confirmed the last Release that was wished."""
    return record.applied_generation == record.release_generation


def overtaken(record: RolloutRecord, observation: Observation) -> bool:
    """True when the servers have a newer Release than the one that is wished, with other traffic."""
    release = observation.release
    return (
        release is not None
        and release.generation > record.release_generation
        and not same_traffic(release, wish(record))
    )


def taken_over(record: RolloutRecord, observation: Observation) -> bool:
    """True when somebody else set the traffic after this rollout did."""
    return record.applied_generation > 0 and overtaken(record, observation)


def wrong_champion(record: RolloutRecord, observation: Observation) -> bool:
    """True when the servers answer with neither of the rollout's two models."""
    release = observation.release
    return release is not None and release.champion.digest not in (record.champion.digest, record.candidate.digest)


def trouble_of(record: RolloutRecord, observation: Observation) -> str:
    """Why nothing can be decided now, or ""."""
    if observation.error:
        return observation.error
    if observation.release is None:
        return "the servers do not say what they apply"
    live = observation.release.champion
    if record.applied_generation == 0 and live.digest not in (record.champion.digest, record.candidate.digest):
        return f"the servers' champion is version {live.version}, this rollout's is {say.arm(record.champion)}"
    if not confirmed(record):
        note = f" ({observation.note})" if observation.note else ""
        return f"the servers have not confirmed release {record.release_generation} yet{note}"
    if record.phase in (Phase.STARTING, Phase.SHADOW, Phase.CANARY) and not observation.candidate_ready:
        return "the candidate is not ready"
    return ""


# --- what to do about it ---------------------------------------------------------------------------------------------
def above(record: RolloutRecord, observation: Observation) -> int:
    """The next generation: above the record's and above what the servers have."""
    live = observation.release.generation if observation.release is not None else 0
    return max(record.generation, live) + 1


def outbid(record: RolloutRecord, observation: Observation) -> RolloutRecord:
    """Ask again with a generation above what the servers have, when they have something else of at least ours."""
    release = observation.release
    if release is None or release.generation < record.release_generation or same_traffic(release, wish(record)):
        if release is not None and release.generation > record.release_generation:
            return replace(record, release_generation=release.generation, generation=release.generation,
                           applied_generation=release.generation)  # fmt: skip
        return record
    generation = above(record, observation)
    return replace(record, generation=generation, release_generation=generation)


def reconcile(record: RolloutRecord, observation: Observation) -> tuple[Action, ...]:
    """What brings the world to the record's wish. To promote, the registry before the traffic, so that nobody is served
    by a champion that the registry does not know as such; to roll back, the traffic first. Servers that do
    not answer are only told to roll back: the release in the store says so even when they come up without us."""
    phase = sums.counting_phase(record)
    release = observation.release
    if (release is None or observation.error) and phase is not Phase.ABORTING:
        return ()
    behind = release is None or release.generation < record.release_generation
    never_ours = record.applied_generation == 0 and phase is Phase.STARTING and wrong_champion(record, observation)
    wished = wish(record)
    traffic: list[Action] = []
    if behind and not never_ours and not settled(record) and not _too_early(wished, observation):
        traffic.append(SetTraffic(wished))
    if record.effects_generation < record.release_generation:
        if phase is Phase.PROMOTING:
            return (Promote(record.release_generation), *traffic)
        if phase is Phase.ABORTING:
            return (*traffic, Retire(record.release_generation))
    return tuple(traffic)


def _too_early(wished: Release, observation: Observation) -> bool:
    """True when `wished` gives a candidate more weight that is not ready (any more): a server may have restarted
    between the decision and now."""
    live = observation.release
    if wished.candidate is None or live is None or observation.candidate_ready:
        return False
    return wished.candidate_weight > live.candidate_weight
