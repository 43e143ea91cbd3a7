"""The error rates and the speed of the rollout policy's tests, by simulation, beside the rules of other controllers.

    make evidence                                            # 20,000 rollouts a row, some minutes on two cores
    .venv/bin/python benchmarks/evidence_table.py --runs 2000

Writes docs/evidence.md and docs/evidence.json, and exits with 1 when a promise is broken: false rollback and false
promotion within the error budget, and aborts of clearly bad candidates within 1.25 times Wald's expectation.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import evidence_late as late
import evidence_peers as peers
import evidence_trials as trials
import numpy as np

from fairlead.deploy.rollout.detecting import failure_test
from fairlead.deploy.rollout.plan import budget_of, plan_from_spec
from fairlead.records.rollout import RolloutPlan
from fairlead.spec.deploy import Rollout
from fairlead.spec.serve import Serve

DOCS = Path(__file__).resolve().parents[1] / "docs"
POLICY: dict[str, Any] = {"shadow": "off", "steps": [10], "canary": {"latency": {"min_increase_ms": 0}}}
CHAMPION, SLOW, SPREAD = 0.005, 0.01, 0.1
PER_SECOND, PER_MINUTE = 6.0, (60, 6000)
HORIZON = 1000
MOST = {"failures": 20_000, "slow": 10_000, "latency": 5_000, "loss": 10_000}
FACTOR = 1.25
_CHUNK = 2000
LATE_LATENCY, LATE_LOSS = "latency that rises after a long healthy step", "loss that rises after a long healthy step"
ONE_SLICE, LATE_LABELS = "loss of one slice, in the shadow", "labels that tell by their delay what they are"
_PERCENT = (0.5, 0.6, 1.0, 2.0, 2.5, 5.0, 10.0, 100.0)


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of evidence, one candidate, one rule."""

    evidence: str
    candidate: str
    value: float
    rule: str
    promoted: float
    rolled_back: float
    undecided: float
    requests_median: float
    requests_p99: float
    requests_to_abort: float | None
    visible_mean: float | None
    visible_p99: float | None
    rollouts: int


@dataclass(frozen=True, slots=True)
class Check:
    """A promise: measured, at most `bound`."""

    what: str
    measured: float
    bound: float

    @property
    def kept(self) -> bool:
        """True when it holds."""
        return self.measured <= self.bound


Task = tuple[str, str, float, str, Callable[..., peers.Ends]]


def the_plan() -> RolloutPlan:
    """The defaults with one canary step of 10 %, and no free increase of the latency."""
    return plan_from_spec(Rollout.model_validate(POLICY), Serve())


def tasks(plan: RolloutPlan) -> Iterator[Task]:
    """Every row: kind of evidence, candidate, true value, rule, and how to play a chunk of it (runs, seed)."""
    for percent in _PERCENT:
        rate = percent / 100
        mark = " (margin)" if math.isclose(rate, CHAMPION + plan.max_error_rate_increase) else ""
        name = f"{percent:g} % fail{mark}"
        ours = partial(trials.failures, plan, rate, CHAMPION, most=MOST["failures"], per_second=PER_SECOND)
        yield "failures", name, rate, "Fairlead", ours
        yield from _peers("failures", name, rate, peers.shares(rate), 0.01, 0.05)
        yield "failures", name, rate, "z-test, peeked", partial(_peeked_rate, rate, CHAMPION, plan.error_budget)
    for rate in (0.01, 0.02, plan.max_slow_rate, 0.075, 0.1, 0.5):
        mark = " (bound)" if rate == plan.max_slow_rate else ""
        name = f"{100 * rate:g} % slow{mark}"
        ours = partial(trials.slow_answers, plan, rate, most=MOST["slow"], per_second=PER_SECOND)
        yield "slow answers", name, rate, "Fairlead", ours
        yield from _peers("slow answers", name, rate, peers.shares(rate), 0.01, 0.05)
        yield "slow answers", name, rate, "z-test, peeked", partial(_peeked_rate, rate, SLOW, plan.error_budget)
    for factor in (1.0, 1.1, plan.max_latency_increase, 1.5, 2.0, 5.0):
        mark = " (limit)" if factor == plan.max_latency_increase else ""
        name = f"{factor:g} x the latency{mark}"
        yield "latency", name, factor, "Fairlead", partial(trials.latency, plan, factor, most=MOST["latency"])
        over = _over(factor, 500.0)
        yield from _peers("latency", name, factor, peers.shares(over), 0.01, 0.05)
        spread = trials.Latencies().spread * math.sqrt(1 + 1 / trials.RATIO)
        test = partial(_peeked_mean, math.log(factor), spread, plan.error_budget)
        yield "latency", name, factor, "z-test, peeked", test
    for shift in (0.0, 0.005, 0.01, plan.max_loss_increase, 0.04, 0.1):
        mark = " (margin)" if shift == plan.max_loss_increase else ""
        name = f"loss +{shift:g}{mark}"
        ours = partial(trials.label_loss, plan, shift, SPREAD, most=MOST["loss"])
        yield "label loss", name, shift, "Fairlead", ours
        measure = peers.means(shift, SPREAD)
        yield from _peers("label loss", name, shift, measure, plan.max_loss_increase, plan.max_loss_increase)
        yield "label loss", name, shift, "z-test, peeked", partial(_peeked_mean, shift, SPREAD, plan.error_budget)
    yield from _late_tasks(plan)


def _late_tasks(plan: RolloutPlan) -> Iterator[Task]:
    """What begins late, what hits one slice, labels that take their time; each with and without what is for it."""
    sliced = replace(plan, slices=("column",))
    for on in (True, False):
        rule = "Fairlead" if on else "the test of the whole step alone"
        for factor in (1.0, plan.max_latency_increase, 1.5, 3.0):
            name = "healthy" if factor == 1 else f"{factor:g} x the latency"
            yield LATE_LATENCY, name, factor, rule, partial(late.late_latency, plan, factor, detectors=on)
        for shift in (0.0, plan.max_loss_increase, 0.1, 0.3):
            name = "healthy" if shift == 0 else f"loss +{shift:g}"
            yield LATE_LOSS, name, shift, rule, partial(late.late_loss, plan, shift, detectors=on)
        rule = "Fairlead" if on else "all pairs together alone"
        for shift in (0.0, plan.max_loss_increase, 0.15, 0.3):
            name = "healthy" if shift == 0 else f"loss +{shift:g} in one slice of ten"
            yield ONE_SLICE, name, shift, rule, partial(late.one_slice, sliced, shift, slices=on)
        rule = "Fairlead, with a label horizon" if on else "labels as they come"
        for worse in (0.0, plan.max_loss_increase, 0.04):
            name = f"Brier +{worse:g}"
            yield LATE_LABELS, name, worse, rule, partial(late.late_labels, plan, worse, horizon=on)


def _peers(
    evidence: str, name: str, value: float, measure: peers.Measure, most: float, most_argo: float
) -> Iterator[Task]:
    for rate in PER_MINUTE:
        yield (
            evidence,
            name,
            value,
            f"Flagger, {rate:,}/min",
            partial(_controller, "flagger", rate, evidence, value, most),
        )
        yield (
            evidence,
            name,
            value,
            f"Argo, {rate:,}/min",
            partial(_controller, "argo", rate, evidence, value, most_argo),
        )


def _controller(
    which: str, per_minute: float, evidence: str, value: float, most: float, *, runs: int, seed: int
) -> Any:
    rng = np.random.default_rng(seed)
    rate = _over(value, 500.0) if evidence == "latency" else value
    measure = peers.means(value, SPREAD) if evidence == "label loss" else peers.shares(rate)
    return getattr(peers, which)(rng, runs, per_minute, measure, most)


def _peeked_rate(rate: float, champion: float, alpha: float, *, runs: int, seed: int) -> peers.Ends:
    return peers.peeked_rates(np.random.default_rng(seed), runs, rate, champion, alpha, HORIZON)


def _peeked_mean(mean: float, spread: float, alpha: float, *, runs: int, seed: int) -> peers.Ends:
    return peers.peeked_means(np.random.default_rng(seed), runs, mean, spread, alpha, HORIZON)


def _over(factor: float, bound_ms: float) -> float:
    """The share of latencies over a bound."""
    from scipy.stats import norm

    usual = trials.Latencies()
    return float(norm.sf(math.log(bound_ms / (factor * usual.median_ms)) / usual.spread))


# --- playing ---------------------------------------------------------------------------------------------------------
def _play(task: Callable[..., peers.Ends], runs: int, seed: int) -> peers.Ends:
    return task(runs=runs, seed=seed)


def rows(plan: RolloutPlan, runs: int, processes: int, only: str = "") -> Iterator[Row]:
    """All rows, each in chunks with seeds of their own; `only` those whose evidence contains it."""
    planned = [task for task in tasks(plan) if only in task[0]]
    with ProcessPoolExecutor(max_workers=processes) as pool:
        futures = []
        for number, (*_, task) in enumerate(planned):
            parts = [min(_CHUNK, runs - done) for done in range(0, runs, _CHUNK)]
            futures.append([pool.submit(_play, task, part, 1000 * number + index) for index, part in enumerate(parts)])
        for (evidence, name, value, rule, _), parts in zip(planned, futures, strict=True):
            ends = [part.result() for part in parts]
            joined = peers.Ends(
                *(np.concatenate([getattr(e, f) for e in ends]) for f in ("outcome", "requests", "bad"))
            )
            yield _row(evidence, name, value, rule, joined)


def _row(evidence: str, name: str, value: float, rule: str, ends: peers.Ends) -> Row:
    shares = [float((ends.outcome == outcome).mean()) for outcome in (peers.PROMOTED, peers.ROLLED_BACK, 0)]
    aborted = ends.requests[ends.outcome == peers.ROLLED_BACK]
    decided = ends.requests[ends.outcome != peers.UNDECIDED]
    decided = decided if len(decided) else np.array([np.nan])
    visible = evidence in ("failures", "slow answers")
    return Row(
        evidence, name, value, rule, *shares, float(np.median(decided)), float(np.quantile(decided, 0.99)),
        float(aborted.mean()) if len(aborted) else None,
        float(ends.bad.mean()) if visible else None, float(np.quantile(ends.bad, 0.99)) if visible else None,
        len(ends.outcome),
    )  # fmt: skip


# --- promises --------------------------------------------------------------------------------------------------------
def checks(plan: RolloutPlan, found: list[Row]) -> Iterator[Check]:
    """What must hold of Fairlead's rows."""
    bounds = {
        "failures": (CHAMPION, CHAMPION + plan.max_error_rate_increase),
        "slow answers": (plan.max_slow_rate, plan.max_slow_rate),
        "latency": (plan.max_latency_increase, plan.max_latency_increase),
        "label loss": (plan.max_loss_increase, plan.max_loss_increase),
        LATE_LATENCY: (plan.max_latency_increase, math.inf),
        LATE_LOSS: (plan.max_loss_increase, math.inf),
        ONE_SLICE: (plan.max_loss_increase, math.inf),
        LATE_LABELS: (plan.max_loss_increase, plan.max_loss_increase),
    }
    for row in (row for row in found if row.rule.startswith("Fairlead")):
        healthy, margin = bounds[row.evidence]
        if row.value <= healthy + 1e-9:
            yield Check(f"{row.evidence}, {row.candidate}: false rollback", row.rolled_back, plan.error_budget)
        if row.value >= margin - 1e-9:
            yield Check(f"{row.evidence}, {row.candidate}: false promotion", row.promoted, plan.error_budget)
        if row.evidence == "failures" and row.value >= plan.bad_failure_rate and row.requests_to_abort is not None:
            bound = max(1.25 * wald_expectation(plan, row.value), math.ceil(wald_expectation(plan, row.value)))
            yield Check(f"{row.candidate}: mean requests to abort", row.requests_to_abort, bound)


def wald_expectation(plan: RolloutPlan, rate: float) -> float:
    """Wald's expected number of requests of the sequential test at a rate at or above the alternative, without the
    overshoot: ((1 - beta) A + beta B) / drift (Wald 1945, section 4.3)."""
    budget = budget_of(plan)
    test = failure_test(plan, budget.failures("live"))
    drift = rate * test.per_failure + (1 - rate) * test.per_success
    return ((1 - test.beta) * test.upper + test.beta * test.lower) / drift


# --- writing ---------------------------------------------------------------------------------------------------------
def page(plan: RolloutPlan, found: list[Row], kept: list[Check], runs: int) -> str:
    """docs/evidence.md."""
    lines = [
        "# What the evidence decides, and how often it is wrong",
        "",
        "<!-- Written by benchmarks/evidence_table.py: `make evidence` writes it again. -->",
        "",
        f"Every row is {runs:,} simulated rollouts (`make evidence`, also in [evidence.json](evidence.json)). The "
        "policy is the default one with a single canary step of 10 %, no shadow, and no latency increase that is free. "
        f"The champion fails {CHAMPION:.1%} of its calls, {SLOW:.0%} of its answers are over the latency bound, its "
        f"latency is log-normal around {trials.Latencies().median_ms:g} ms; a pair's loss difference has a standard "
        f"deviation of {SPREAD:g}. Failures are looked at after every request of the candidate, all else at 200 "
        "looks, geometric in requests. Undecided: no verdict after "
        + ", ".join(f"{most:,} requests ({name})" for name, most in MOST.items())
        + ". Requests are the candidate's; for label loss they are labelled pairs of the shadow.",
        "",
        "Each metric is played alone, as it decides within one step; budgets over metrics, steps and looks are those "
        "of fairlead.deploy.statistics.budget. Assumptions: requests are independent given the candidate (see "
        "concepts.md for keys whose requests are not), and effects are there from the start, where nothing else is "
        "said.",
        "",
        f"After a long healthy step: {late.HEALTHY:,} of the candidate's latencies, or labels, are like the "
        f"champion's, then {late.AFTER:,} are not; requests count from the change, 0 is a false alarm before it. One "
        "slice: ten slices of equal size, one of them hit; requests are pairs of all. Labels that tell by their delay "
        "what they are: 1 at once, 0 after up to 2,000 further answers; the champion is calibrated, the candidate "
        "leans towards 1.",
        "",
    ]
    for evidence in dict.fromkeys(row.evidence for row in found):
        lines += _table(evidence, [row for row in found if row.evidence == evidence])
    lines += ["## Promises", "", "| promise | measured | at most | |", "|---|---:|---:|---|"]
    lines += [f"| {c.what} | {c.measured:.4g} | {c.bound:.4g} | {'kept' if c.kept else '**broken**'} |" for c in kept]
    lines += ["", _NOTES.format(horizon=HORIZON, budget=f"{plan.error_budget:.0%}")]
    return "\n".join(lines)


_NOTES = """\
Wald's expectation leaves out the overshoot: the log likelihood ratio moves by 2.3 with a failure, and the test can only
end at a whole request. Where 1.25 times it is less than the next whole request, that is the bound.

## The other rules

- Flagger: its README's example. A check each minute, success rate at least 99 % in that minute (p99 of the latency at
  most 500 ms; for the loss a custom metric with Fairlead's margin), steps of 5 % up to 50 %, ten failed checks roll
  back.
- Argo Rollouts: its documentation's background analysis. Steps of 20, 40, 60, 80 % for 10 minutes each, success rate at
  least 95 % every 5 minutes (the same for answers within the bound; for the loss as for Flagger), more than three
  failed measurements abort.
- z-test, peeked: one-sided at {budget}, for {horizon:,} requests, looked at after each from the 30th on. It asks for
  "worse at all", not for "worse by more than the margin", and does not retry on the champion.

Flagger's and Argo's requests to the decision depend on the traffic, so both are shown at two rates. User-visible: for
failures, requests that failed for a user (Fairlead answers a failed call of the candidate with the champion); for slow
answers, those over the bound."""


def _table(evidence: str, found: list[Row]) -> list[str]:
    head = (
        "| candidate | rule | promoted | rolled back | undecided | requests: median | p99 | user-visible: mean | p99 |"
    )
    lines = [f"## {evidence[:1].upper()}{evidence[1:]}", "", head, "|---|---|---:|---:|---:|---:|---:|---:|---:|"]
    last = ""
    for row in found:
        name, last = ("" if row.candidate == last else row.candidate), row.candidate
        shares = " | ".join(f"{100 * share:.2f} %" for share in (row.promoted, row.rolled_back, row.undecided))
        lines.append(
            f"| {name} | {row.rule} | {shares} | {_count(row.requests_median)} | {_count(row.requests_p99)} | "
            f"{_count(row.visible_mean, 2)} | {_count(row.visible_p99)} |"
        )
    return [*lines, ""]


def _count(value: float | None, digits: int = 0) -> str:
    return "" if value is None or math.isnan(value) else f"{value:,.{digits}f}"


def main() -> int:
    """Play, check, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", default="", help="rows whose evidence contains this; with --out")
    parser.add_argument("--out", type=Path, default=DOCS, help="folder for evidence.md and evidence.json")
    args = parser.parse_args()
    plan, started, found = the_plan(), time.monotonic(), []
    for row in rows(plan, args.runs, args.processes, args.only):
        found.append(row)
        print(f"{row.evidence:<13} {row.candidate:<24} {row.rule:<18} promoted {row.promoted:8.4f}  rolled back "
              f"{row.rolled_back:8.4f}  requests {row.requests_median:8.0f}", flush=True)  # fmt: skip
    kept = list(checks(plan, found))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "evidence.md").write_text(page(plan, found, kept, args.runs) + "\n")
    value = {
        "command": "make evidence", "rollouts": args.runs, "policy": POLICY, "rows": [asdict(row) for row in found],
        "promises": [asdict(check) | {"kept": check.kept} for check in kept],
    }  # fmt: skip
    text = json.dumps(value, indent=1, default=float).replace("NaN", "null")
    (args.out / "evidence.json").write_text(text + "\n")
    broken = [check for check in kept if not check.kept]
    for check in broken:
        print(f"broken: {check.what}: {check.measured:.4g} > {check.bound:.4g}", file=sys.stderr)
    print(f"{len(found)} rows, {len(kept)} promises, {len(broken)} broken, {time.monotonic() - started:.0f} s")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
