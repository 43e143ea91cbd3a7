"""Why a rollout decided what it decided, from its stored evidence alone: a report, and the same as plain text."""

from collections.abc import Sequence
from datetime import datetime

from fairlead.deploy.rollout import sentences as say
from fairlead.deploy.rollout import tally as sums
from fairlead.deploy.rollout.outlook import outlook
from fairlead.deploy.rollout.plan import budget_of
from fairlead.deploy.rollout.why_evidence import error_spent, metric_blocks, name_of, narrowing, part_of
from fairlead.records.evidence import Verdict
from fairlead.records.rollout import Decision, Phase, RolloutPlan, RolloutRecord
from fairlead.records.trial import AB_TEST, TrialPlan
from fairlead.reports.model import (
    Badge,
    Block,
    Callout,
    Cell,
    KeyValues,
    Kind,
    Report,
    Section,
    Table,
    Text,
    Timeline,
    TimelineStep,
)
from fairlead.reports.words import format_elapsed, format_instant

LOSS_NOTE = (
    "Why log loss or Brier score alone may not catch a wrong model: when few labels are positive, a model that is "
    "wrong in a way that lowers its scores is rewarded by nearly every label, so a wrong candidate can even win for a "
    "while by luck. The paired score difference asks something else, and needs no labels: on the same requests, does "
    "the candidate answer differently from the champion by more than training again with another seed would explain? "
    "If so, something about its data or code differs, whatever the few labels say."
)

VALIDITY_NOTE = (
    "All intervals are confidence sequences: they hold at every look at once, so looking often and stopping early does "
    "not make a wrong decision more likely. One error budget covers the whole rollout."
)

UNDECIDED = frozenset({"same", "no_winner"})
"""Results of a trial that speak neither for the candidate nor against it."""

_KIND: dict[Phase, Kind] = {
    Phase.PROMOTED: "ok",
    Phase.PROMOTING: "ok",
    Phase.WATCHING: "ok",
    Phase.ABORTING: "fail",
    Phase.ABORTED: "fail",
    Phase.PAUSED: "warn",
}


def explain(record: RolloutRecord, decision: int | None = None) -> Report:
    """The report of a rollout: how it ended, the weights over time, each decision with its evidence, the plan. With
    `decision` (0 is the first) only this one is shown in detail. Raises IndexError when there is none such."""
    chosen = record.decisions if decision is None else (record.decisions[decision],)
    sections = [_outcome(record), _timeline(record), _decisions(record)]
    sections += [_evidence(record, each) for each in chosen if each.metrics]
    if not _ended(record) and record.last_metrics:
        now = metric_blocks(record.last_metrics, part_of(record, None), record.last_requests, "")
        sections.append(Section("Now", (Text("\n\n".join([record.status, *_expected(record)])), *now)))
    sections.append(_method(record))
    return Report(
        title=f"Rollout {record.id}: version {record.candidate.version} of {record.model}",
        subtitle=f"{say.phase_of(record.plan, record.phase)}; {record.status}",
        sections=tuple(sections),
        verdict=_verdict(record),
    )


def explain_text(record: RolloutRecord, decision: int | None = None) -> str:
    """The same in plain text: a line per decision, and below it one per metric."""
    lines = [
        f"Rollout {record.id} of {record.model}: version {record.candidate.version} against version "
        f"{record.champion.version}, {say.phase_of(record.plan, record.phase)}",
        f"  {record.status}",
        f"  traffic of version {record.candidate.version}: {_weights_over_time(record)}",
        "",
    ]
    chosen = range(len(record.decisions)) if decision is None else [decision]
    for number in chosen:
        each = record.decisions[number]
        lines.append(f"{number}. {each.at}  {_move(record, each)}  by {each.actor}")
        lines.append(f"   {each.sentence}")
        lines += _metric_lines(record, each)
    expected = _expected(record) if decision is None else []
    lines += ["", "What can still be expected:", *(f"   {sentence}" for sentence in expected)] if expected else []
    lines += ["", VALIDITY_NOTE, *_horizon_note(record.plan)]
    if _has_shadow(record):
        lines += ["", LOSS_NOTE]
    return "\n".join(lines)


def _expected(record: RolloutRecord) -> list[str]:
    """For each undecided metric of an open rollout: what it still takes, and what the deadline still lets it see. At
    the traffic of this step so far, from when the record was written."""
    shares = {Phase.SHADOW: record.shadow_percent, Phase.CANARY: record.weight}
    share = shares.get(record.phase, 0.0) / 100
    if not share or not record.last_data_at or not record.updated_at:
        return []
    began, last = (datetime.fromisoformat(at) for at in (record.phase_since, record.last_data_at))
    per_second = record.last_requests / max((last - began).total_seconds(), 1.0) / share
    return [each.sentence for each in outlook(record, per_second, datetime.fromisoformat(record.updated_at))]


def _weights_over_time(record: RolloutRecord) -> str:
    """Each weight and when it began, as in "0 %, 5 % after 7 s, 25 % after 29 s"."""
    began = datetime.fromisoformat(record.started_at)
    words = ["0 %"]
    for decision in record.decisions:
        if decision.weight_after != decision.weight_before:
            seconds = (datetime.fromisoformat(decision.at) - began).total_seconds()
            words.append(f"{say.weight(decision.weight_after)} after {format_elapsed(round(seconds))}")
    return ", ".join(words)


def _metric_lines(record: RolloutRecord, decision: Decision) -> list[str]:
    part = part_of(record, decision)
    lines = []
    for metric in decision.metrics:
        lines.append(f"     {name_of(metric.metric)}: {metric.why}")
        facts = [f"error spent {error_spent(metric)}"] if error_spent(metric) else []
        narrowed = narrowing(metric, part)
        facts += [f"width of the interval {narrowed}"] if narrowed else []
        lines += [f"       {', '.join(facts)}"] if facts else []
    return lines


def decision_headline(decision: Decision) -> str:
    """One decision in a few words; its sentence, when it was not made on metrics."""
    failed = [name_of(m.metric).lower() for m in decision.metrics if m.verdict is Verdict.FAIL]
    tried = next((say.STRATEGIES[m.metric] for m in decision.metrics if m.metric in say.STRATEGIES), "canary")
    at = "shadow" if decision.phase_before is Phase.SHADOW else f"{tried} {decision.weight_before:g} %"
    if decision.phase_after is Phase.ABORTING and failed:
        return f"{at} failed on {', '.join(failed)}: rolled back"
    passed = sum(m.verdict is Verdict.PASS for m in decision.metrics)
    if passed and not failed and decision.phase_after is Phase.CANARY and tried == "canary":
        return f"{at} passed {passed} checks: canary {decision.weight_after:g} %"
    if passed and not failed and decision.phase_after is Phase.PROMOTING:
        return f"{at} passed {passed} checks: promoted"
    return decision.sentence


def _ended(record: RolloutRecord) -> bool:
    return record.phase in (Phase.PROMOTED, Phase.ABORTED)


def _has_shadow(record: RolloutRecord) -> bool:
    return record.plan.shadow_percent > 0


def _verdict(record: RolloutRecord) -> Verdict | None:
    if record.phase in (Phase.PROMOTED, Phase.WATCHING, Phase.PROMOTING):
        return Verdict.PASS
    if record.phase in (Phase.ABORTED, Phase.ABORTING):
        return Verdict.NOT_ENOUGH_EVIDENCE if record.result in UNDECIDED else Verdict.FAIL
    return Verdict.NOT_ENOUGH_EVIDENCE if record.phase is Phase.PAUSED else None


# --- sections --------------------------------------------------------------------------------------------------------
def _outcome(record: RolloutRecord) -> Section:
    deciding = _deciding(record)
    whole = sums.total(record)
    kind = _KIND.get(record.phase, "info")
    blocks: list[Block] = [
        Callout(kind, _headline(record), deciding.sentence if deciding is not None else record.status),
        KeyValues(
            (
                ("champion at the start", f"version {record.champion.version}"),
                ("candidate", f"version {record.candidate.version}"),
                ("rolls back to", f"version {record.rollback_target.version}"),
                ("started", f"{record.started_at} by {record.started_by}"),
                ("answered by both (pairs)", sums.num_pairs(whole)),
                ("answered by the candidate", whole.candidate.failures.n),
                ("calls of the candidate that failed", whole.candidate.failures.events),
                ("requests that failed for a user", whole.user_failures),
                ("shadow copies dropped", whole.pairs.dropped),
                ("highest share of live requests", say.weight(_highest_canary(record))),
            )
        ),
    ]
    skewed = [finding for finding in record.skew if finding.skewed and finding.digest == record.candidate.digest]
    if skewed:
        names = ", ".join(sorted({f.feature + (f" ({f.part})" if f.part else "") for f in skewed}))
        blocks.append(Callout("warn", f"Live features unlike the candidate's training data: {names}",
                              "; ".join(finding.why for finding in skewed)))  # fmt: skip
    return Section("What happened", tuple(blocks))


def _headline(record: RolloutRecord) -> str:
    candidate = f"Version {record.candidate.version}"
    if record.phase in (Phase.ABORTED, Phase.ABORTING) and record.result not in ("", "invalid"):
        return f"The {say.phase_of(record.plan, Phase.CANARY)} has ended. Recommended: {record.recommends}"
    return {
        Phase.PROMOTED: f"{candidate} is champion",
        Phase.WATCHING: f"{candidate} is champion, and is being watched",
        Phase.PROMOTING: f"{candidate} is becoming champion",
        Phase.ABORTING: f"{candidate} is being rolled back",
        Phase.ABORTED: f"{candidate} was rolled back",
        Phase.PAUSED: "Paused for a person",
    }.get(record.phase, f"{candidate} is in {record.phase.value}")


def _deciding(record: RolloutRecord) -> Decision | None:
    """The decision that settled where the rollout is now: not the confirmation after it."""
    wanted = {
        Phase.PROMOTED: Phase.PROMOTING,
        Phase.WATCHING: Phase.PROMOTING,
        Phase.ABORTED: Phase.ABORTING,
    }.get(record.phase, record.phase)
    moves = [d for d in record.decisions if d.phase_after is wanted and d.phase_before is not wanted]
    return moves[-1] if moves else None


def _highest_canary(record: RolloutRecord) -> float:
    return max((d.weight_after for d in record.decisions if d.phase_after is Phase.CANARY), default=0.0)


def _timeline(record: RolloutRecord) -> Section:
    steps = [
        TimelineStep(d.at, say.phase_of(record.plan, d.phase_after), d.weight_after, _KIND.get(d.phase_after, "info"))
        for d in record.decisions
    ]
    title = f"Share of requests that version {record.candidate.version} answers"
    return Section("Traffic over time", (Timeline(tuple(steps), value_label="percent", title=title),))


def _decisions(record: RolloutRecord) -> Section:
    rows: list[Sequence[Cell]] = [
        (
            number,
            datetime.fromisoformat(d.at),
            d.actor,
            _weights(d).replace("->", "→").replace(" ", "\u00a0"),
            Badge(say.phase_of(record.plan, d.phase_after), _KIND.get(d.phase_after, "info")),
            d.sentence,
        )
        for number, d in enumerate(record.decisions)
    ]
    return Section("Decisions", (Table(("no.", "at", "by", "traffic", "then", "why"), tuple(rows)),))


def _move(record: RolloutRecord, decision: Decision) -> str:
    before, phases = (say.phase_of(record.plan, phase) for phase in (decision.phase_before, decision.phase_after))
    if before != phases:
        phases = f"{before} -> {phases}"
    return f"{phases} at {_weights(decision)}"


def _weights(decision: Decision) -> str:
    if decision.weight_before == decision.weight_after:
        return say.weight(decision.weight_after)
    return f"{say.weight(decision.weight_before)} -> {say.weight(decision.weight_after)}"


def _evidence(record: RolloutRecord, decision: Decision) -> Section:
    number = record.decisions.index(decision)
    part = part_of(record, decision)
    taken = (("decided by", decision.actor), ("at", format_instant(decision.at)), ("generation", decision.generation))
    facts = tuple((name.replace("_", " "), _cell(value)) for name, value in decision.evidence.items())
    counted = _counted(decision)
    narrowed = metric_blocks(
        decision.metrics, part, counted, f"{say.phase_of(record.plan, decision.phase_after)} after {counted:,}"
    )
    return Section(
        f"Decision {number}: {_move(record, decision)}",
        (Text(decision.sentence), *narrowed, KeyValues((*taken, *facts))),
    )


def _counted(decision: Decision) -> int:
    """Requests of the step at the moment of a decision: pairs in shadow, the candidate's own answers afterwards."""
    name = "pairs" if decision.phase_before is Phase.SHADOW else "step_candidate_requests"
    value = decision.evidence.get(name)
    return int(value) if isinstance(value, int | float) else 0


def _method(record: RolloutRecord) -> Section:
    plan, budget = record.plan, budget_of(record.plan)
    shadow = (
        f"{say.weight(plan.shadow_percent)} of the requests, {plan.shadow_min_requests:,} pairs"
        if _has_shadow(record)
        else "off"
    )
    difference = (
        f"{plan.max_score_difference:g}"
        if plan.max_score_difference is not None
        else f"{plan.score_difference_factor:g} x retraining noise"
    )
    facts: list[tuple[str, Cell]] = [
        ("shadow", shadow),
        *(_trial_facts(plan.trial) if plan.trial else ()),
        ("it begins with" if plan.trial else "canary steps", ", ".join(say.weight(weight) for weight in plan.steps)),
        ("requests per step, at least", plan.min_requests),
        ("labels that change, at most", say.bound(plan.max_flip_rate)),
        ("mean score difference, at most", difference),
        ("failure rate over the champion's, at most", say.bound(plan.max_error_rate_increase)),
        (f"answers over {plan.latency_bound_ms:g} ms, at most", say.bound(plan.max_slow_rate)),
        ("loss over the champion's, at most", plan.max_loss_increase),
        ("probability of a false promotion, at most", say.bound(budget.promotion)),
        ("probability of a false rollback, at most", say.bound(budget.error_budget)),
        ("of which for hard failures", say.bound(plan.abort_error)),
        ("without requests it pauses after", say.seconds(plan.no_data_seconds)),
        ("without a verdict it pauses after", say.seconds(plan.max_seconds)),
    ]
    blocks: list[Block] = [KeyValues(tuple(facts)), *(Text(note) for note in (VALIDITY_NOTE, *_horizon_note(plan)))]
    if _has_shadow(record):
        blocks.append(Callout("info", "What the loss cannot see", LOSS_NOTE))
    return Section("The plan, and how it decides", tuple(blocks))


def _trial_facts(trial: TrialPlan) -> list[tuple[str, Cell]]:
    """What an A/B test or a bandit was declared as."""
    rule, better = trial.outcome, "higher" if trial.higher_is_better else "lower"
    nothing = "is left out" if rule.missing is None else f"counts as {rule.missing:g}"
    facts: list[tuple[str, Cell]] = [
        ("strategy", say.STRATEGIES[trial.kind]),
        ("metric", f"{rule.metric}, {rule.low:g} to {rule.high:g}, {better} is better"),
        ("a key counts after", say.seconds(rule.horizon_seconds)),
        ("without an outcome by then it", nothing),
        ("it ends after", f"{trial.max_keys:,} keys or {say.seconds(trial.max_seconds)}"),
        ("a candidate that wins", "becomes champion" if trial.promotes else "is recommended"),
    ]
    if trial.kind == AB_TEST:
        return [
            *facts,
            ("probability of a winner that is none, at most", say.bound(trial.alpha)),
            ("smallest difference worth having", trial.smallest_effect),
        ]
    policy = f"{trial.policy}, every {say.seconds(trial.every_seconds)}, at least {say.bound(trial.floor)} each"
    return [*facts, ("policy", policy), ("error rate of what it recommends", "none is promised")]


def _horizon_note(plan: RolloutPlan) -> list[str]:
    if plan.label_horizon_seconds is None:
        return []
    return [
        f"A label may take {say.seconds(plan.label_horizon_seconds)}: an answer counts in the loss once that is over, "
        "so that answers whose labels come early weigh no more than others. Later labels are counted, and are no "
        "evidence."
    ]


def _cell(value: object) -> Cell:
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)
