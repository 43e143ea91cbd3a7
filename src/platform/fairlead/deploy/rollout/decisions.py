"""Writing a decision into the record, with the evidence at that moment."""

from dataclasses import replace
from datetime import datetime

from fairlead.deploy.rollout import tally as sums
from fairlead.deploy.rollout.verdicts import judge
from fairlead.deploy.rollout.wishes import above
from fairlead.records.rollout import Decision, Observation, Phase, RolloutRecord, Tally


def enter(
    record: RolloutRecord,
    target: RolloutRecord,
    observation: Observation,
    now: datetime,
    actor: str,
    sentence: str,
    *,
    moves: bool = True,
    keeps_count: bool = False,
) -> RolloutRecord:
    """Write a decision: from `record` to `target`. `moves`: the wished Release changes and gets a new generation;
    `keeps_count`: the evidence of the step goes on."""
    at = now.isoformat()
    generation = above(record, observation)
    metrics = judge(record, observation)
    whole, part = sums.total(record), sums.of_step(record)
    decision = Decision(
        at=at,
        generation=generation,
        actor=actor,
        phase_before=record.phase,
        phase_after=target.phase,
        weight_before=record.weight,
        weight_after=target.weight,
        sentence=sentence,
        metrics=metrics,
        skew=tuple(finding for finding in record.skew if finding.skewed),
        evidence=_facts(whole, part, observation),
    )
    target = replace(
        target,
        generation=generation,
        release_generation=generation if moves else target.release_generation,
        overruled=observation.foreign if moves else target.overruled,
        decisions=(*record.decisions, decision),
        last_metrics=metrics or record.last_metrics,
        status=sentence,
        command="",
        command_by="",
        failed=(),
    )
    if target.phase is not Phase.PAUSED:
        target = replace(target, resume_phase=None, pause_reason="", pause_kind="")
    if target.phase is Phase.CANARY and target.plan.trial is not None and not target.trial_since:
        target = replace(target, trial_since=at)
    if keeps_count:
        return target
    return replace(
        target,
        phase_since=at,
        step_start=whole,
        step_baseline={
            "pairs": sums.num_pairs(whole),
            "candidate_requests": whole.candidate.failures.n,
            "champion_requests": whole.champion.failures.n,
            "user_failures": whole.user_failures,
        },
        last_requests=0,
        last_data_at="",
        trouble_since="",
    )


def _facts(whole: Tally, part: Tally, observation: Observation) -> dict[str, object]:
    """The counts behind a decision."""
    keys = {name: arm.keys for name, arm in (("candidate", whole.candidate), ("champion", whole.champion))}
    return {
        **{f"{name}_keys_exposed": counted.exposed for name, counted in keys.items() if counted is not None},
        **{f"outcomes_{word}": number for word, number in observation.outcomes.items()},
        "pairs": sums.num_pairs(whole),
        "shadow_dropped": whole.pairs.dropped,
        "candidate_requests": whole.candidate.failures.n,
        "candidate_failures": whole.candidate.failures.events,
        "step_candidate_requests": part.candidate.failures.n,
        "step_champion_requests": part.champion.failures.n,
        "labelled_pairs": whole.pairs.loss_difference.n,
        "user_failures": whole.user_failures,
        "latency_p50_ms": whole.candidate.latency_p50_ms,
        "latency_p99_ms": whole.candidate.latency_p99_ms,
        "requests_per_second": observation.requests_per_second,
        "retraining_noise": observation.retraining_noise,
        "numeric_noise": observation.numeric_noise,
    }
