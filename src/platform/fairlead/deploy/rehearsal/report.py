"""A rehearsal for a person: what a policy will do, in tables and curves."""

from collections.abc import Sequence

from fairlead.deploy.rehearsal.grid import Rehearsal, Result
from fairlead.deploy.rehearsal.promises import Broken
from fairlead.deploy.rollout import sentences as say
from fairlead.records.evidence import Verdict
from fairlead.reports.model import (
    Block,
    Callout,
    Cell,
    KeyValues,
    LineChart,
    Report,
    Section,
    Table,
    Text,
)

_CURVES = 6
ASSUMPTIONS = (
    "Simulated: requests arrive evenly, each with a key of its own; each call fails, is slow, or changes its label "
    "independently of the others; live features look as in training. The rules are the engine's own, and so are its "
    "looks at first; later it looks every 6 % more time. An effect on one slice counts as it shows in the whole. "
    "Traffic that comes in bursts, or faults that come together, take longer to tell."
)


def rehearsal_report(rehearsal: Rehearsal, broken: Sequence[Broken], model: str) -> Report:
    """The report of a rehearsal."""
    rollouts = rehearsal.results[0].rollouts
    warned = [Callout("warn", each.what, _fixes(each)) for each in broken]
    kept = Callout("ok", "The policy decides in its time, and keeps what it promises on all simulated effects.")
    first: list[Block] = [*warned] if warned else [kept]
    total = rollouts * len(rehearsal.results)
    return Report(
        title=f"Rehearsal of the rollout policy of {model}",
        subtitle=f"{total:,} simulated rollouts, seed {rehearsal.seed}",
        sections=(
            Section("What to know before it is used", tuple(first)),
            Section("What it will do", (*_power(rehearsal), table(rehearsal), Text(ASSUMPTIONS))),
            Section("When it decides", (_curves(rehearsal),)),
            Section("The policy, and the world it was played in", (_facts(rehearsal),)),
        ),
        verdict=None if warned else Verdict.PASS,
    )


def table(rehearsal: Rehearsal) -> Table:
    """One row per true effect."""
    rows = tuple(_row(result) for result in rehearsal.results)
    columns = (
        "true effect", "added", "promote", "roll back", "undecided", "decided after (median, p90)",
        "bad answers (mean, p99)",
    )  # fmt: skip
    note = (
        "Bad answers: answers to users that the effect made worse, expected; failed calls of the candidate count, "
        "though the champion answers them again."
    )
    return Table(columns, rows, note=note)


def _row(result: Result) -> Sequence[Cell]:
    effect = result.scenario.effect
    added = "" if effect.kind == "none" else (
        _percent(effect.added) if effect.kind in ("failures", "slow", "latency") else f"{effect.added:.3g}"
    )  # fmt: skip
    return (
        result.scenario.name,
        added,
        f"{result.promoted:.1%}",
        f"{result.rolled_back:.1%}",
        f"{result.undecided:.1%}",
        ", ".join(_seconds(at) for at in (result.seconds_median, result.seconds_p90) if at is not None),
        f"{result.harmed_mean:,.1f}, {result.harmed_p99:,.0f}",
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %" if share < 1 else f"{100 * share:,.0f} %"


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else say.seconds(seconds)


def _fixes(broken: Broken) -> str:
    return "What would help: " + "; ".join(broken.fixes) + "." if broken.fixes else ""


def _power(rehearsal: Rehearsal) -> tuple[LineChart, LineChart]:
    budget = 100 * rehearsal.plan.error_budget
    label = "size of the effect, in margins (at 1 a candidate stands just at its bound)"
    charts = []
    for place, name in ((1, "promoted"), (2, "rolled back")):
        series = {kind: [(point[0], 100 * point[place]) for point in points] for kind, points in rehearsal.power}
        charts.append(
            LineChart(
                series, x_label=label, y_label=f"percent {name}", title=f"Share of rollouts that are {name}",
                bounds={"error budget": budget}, y_range=(0.0, 100.0),
            )
        )  # fmt: skip
    return charts[0], charts[1]


def _curves(rehearsal: Rehearsal) -> LineChart:
    chosen = [(name, points) for name, points in rehearsal.decided if len(points) > 1]
    chosen = sorted(chosen, key=lambda each: _priority(each[0]))[:_CURVES]
    most = max((points[-1][0] for _, points in chosen), default=1.0)
    unit, divisor = ("hours", 3600.0) if most > 2 * 3600 else (("minutes", 60.0) if most > 120 else ("seconds", 1.0))
    series = {name: [(at / divisor, 100 * share) for at, share in points] for name, points in chosen}
    deadline = rehearsal.plan.max_seconds
    return LineChart(
        series,
        x_label=f"{unit} since the rollout began (it pauses for a person after {say.seconds(deadline)})",
        y_label="percent decided",
        title="Share of rollouts that are decided",
        y_range=(0.0, 100.0),
    )


def _priority(name: str) -> int:
    wanted = ("none", "failures, large", "failures, at", "slow answers, large", "score difference, large", "loss")
    return next((index for index, start in enumerate(wanted) if name.startswith(start)), len(wanted))


def _facts(rehearsal: Rehearsal) -> KeyValues:
    plan, base = rehearsal.plan, rehearsal.base
    noise = "not measured" if base.noise is None else f"{base.noise:.3g}"
    labels = (
        "none" if not base.labelled else f"{base.labelled:.0%} of the answers, {say.seconds(base.label_seconds)} later"
    )
    return KeyValues(
        (
            ("requests a second", round(base.per_second, 3)),
            ("champion's calls that fail", say.bound(base.failure_rate)),
            ("champion's answers that are slow", say.bound(base.slow_rate)),
            ("score difference of honest models", round(base.difference, 4)),
            ("retraining noise", noise),
            ("labels", labels),
            ("shadow", f"{say.weight(plan.shadow_percent)}, {plan.shadow_min_requests:,} pairs"),
            ("canary steps", ", ".join(say.weight(step) for step in plan.steps)),
            ("error budget", say.bound(plan.error_budget)),
            ("pauses for a person after", say.seconds(plan.max_seconds)),
            ("watch after promotion", say.seconds(plan.watch_seconds)),
            ("a healthy rollout takes (median)", say.seconds(rehearsal.usual_seconds)),
        )
    )
