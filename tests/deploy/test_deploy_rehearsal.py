"""The rehearsal plays the real policy: same limits as the statistics, same outcomes as the engine on the same draws."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from deploy_world import CANDIDATE, CHAMPION, MODEL, plan

from fairlead.deploy.rehearsal import arrays
from fairlead.deploy.rehearsal.draws import Differences, MeanSums, Shifts, add_values
from fairlead.deploy.rehearsal.judge import radii
from fairlead.deploy.rehearsal.play import Block, Outcome, Played, play, sums_at
from fairlead.deploy.rehearsal.traffic import look_seconds
from fairlead.deploy.rehearsal.world import BaseRates, Effect
from fairlead.deploy.rollout.engine import step
from fairlead.deploy.rollout.start import new_rollout
from fairlead.deploy.rollout.wishes import wish
from fairlead.deploy.statistics import rates
from fairlead.deploy.statistics.means import MeanSequence
from fairlead.records.evidence import LabelCounts, LatencyCounts, RunningMean, RunningRate
from fairlead.records.rollout import ArmEvidence, Observation, PairEvidence, Phase, RolloutPlan, RolloutRecord
from fairlead.testing.fake_clock import FakeClock
from fairlead.testing.memory_store import MemoryStore

START = datetime.fromisoformat("2030-01-01T00:00:00+00:00")


# --- the same limits -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("bound", [0.005, 0.02, 0.15])
@pytest.mark.parametrize("alpha", [0.01, 0.0005])
def test_limits_of_many_counts_are_the_limits_of_each(bound: float, alpha: float) -> None:
    rng = np.random.default_rng(3)
    n = rng.integers(0, 5000, 150)
    events = np.where(rng.random(150) < 0.1, n, rng.binomial(n, 0.03))
    mixture = rates.Mixture.around(bound)
    low, high = arrays.lower_limits(n, events, alpha, mixture), arrays.upper_limits(n, events, alpha, mixture)
    for index, (m, s) in enumerate(zip(n.tolist(), events.tolist(), strict=True)):
        assert low[index] == pytest.approx(rates.lower_limit(m, s, alpha, mixture), abs=1e-9)
        assert high[index] == pytest.approx(rates.upper_limit(m, s, alpha, mixture), abs=1e-9)


@pytest.mark.parametrize("width", [1.0, 2.0])
def test_the_mean_test_of_many_sums_is_the_test_of_each(width: float) -> None:
    rng = np.random.default_rng(4)
    sequence = MeanSequence(0.002, width, 500)
    variance = 10 ** rng.uniform(-3, 4, 300)
    deviation = rng.normal(0, 4, 300) * np.sqrt(variance)
    found = arrays.excludes(sequence, deviation, variance)
    assert found.tolist() == [sequence.excludes(s, v) for s, v in zip(deviation, variance, strict=True)]
    assert found.any()
    assert not found.all()
    n = rng.integers(1, 5000, 40).astype(float)
    sums = MeanSums(n, 0 * n, n * 0.01)
    expected = [sequence.radius(int(m), float(m) * 0.01) for m in n]
    assert radii(sequence, sums) == pytest.approx(np.array(expected), rel=1e-6)


@pytest.mark.parametrize("kind", [Differences(), Shifts(0.1)])
def test_sums_drawn_by_moments_are_spread_as_sums_of_values(kind: Any) -> None:
    rng, runs, number = np.random.default_rng(5), 4000, 60
    mean, zero = np.full((runs, 1), 0.03), np.zeros(runs)
    before = MeanSums(zero + 200, zero + 200 * 0.03, zero + 1.0)
    one_by_one = add_values(rng, kind, mean, np.full((runs, 1), float(number)), before)
    from_moments = add_values(rng, kind, np.tile(mean, 2), np.tile([[65.0, 65.0]], (runs, 1)), before)
    for part in ("total", "variance"):
        exact = getattr(one_by_one, part)[:, 0] - getattr(before, part)
        drawn = getattr(from_moments, part)[:, 0] - getattr(before, part)
        assert drawn.mean() / 65 == pytest.approx(exact.mean() / number, rel=0.03)
        assert drawn.var() / 65 == pytest.approx(exact.var() / number, rel=0.15)


def test_looks_come_as_often_as_the_loop_looks_and_end_at_the_horizon() -> None:
    looks = look_seconds(100.0, 3600.0)
    assert looks[0] == 0.1
    assert looks[-1] == 3600.0
    assert (np.diff(looks) >= 0.0999).all()
    assert look_seconds(0.001, 100.0).tolist() == [100.0], "nothing arrives: one look, at the end"


# --- the same outcomes -----------------------------------------------------------------------------------------------
BASE = BaseRates(per_second=50.0)
QUICK = {"shadow": {"min_requests": 300}, "canary": {"min_requests": 100}, "max_hours": 0.5}
STRICT = {"canary": {"min_requests": 100, "latency": {"min_increase_ms": 0, "quantiles": [0.5, 0.9]}}}
SCENES: list[tuple[str, dict[str, Any], BaseRates, Effect, set[Outcome]]] = [
    ("healthy", {}, BASE, Effect(), {Outcome.PROMOTED}),
    ("at the margin", {}, BASE, Effect("failures", 0.02), {Outcome.ROLLED_BACK}),
    ("failing", {}, BASE, Effect("failures", 0.1), {Outcome.ROLLED_BACK}),
    ("late", {"watch": 60}, BASE, Effect("failures", 0.06, "late"), {Outcome.ROLLED_BACK}),
    ("creeping", {"watch": 60}, BASE, Effect("failures", 0.2, "creeping"), {Outcome.ROLLED_BACK}),
    ("slow", {}, BASE, Effect("slow", 0.1), {Outcome.ROLLED_BACK}),
    ("slow at the bound", {"max_hours": 0.1}, BASE, Effect("slow", 0.045), {Outcome.UNDECIDED}),
    ("slower", {}, BASE, Effect("latency", 5.0), {Outcome.ROLLED_BACK}),
    ("a little slower, strictly", STRICT, BASE, Effect("latency", 0.1), set(Outcome)),
    ("slower and slower", {"watch": 60}, BASE, Effect("latency", 9.0, "creeping"), {Outcome.ROLLED_BACK}),
    ("slower on a slice", {}, BASE, Effect("latency", 9.0, share=0.2), {Outcome.ROLLED_BACK}),
    ("different", {}, BASE, Effect("difference", 0.1), {Outcome.ROLLED_BACK}),
    ("too little time", {"max_hours": 0.01}, BASE, Effect(), {Outcome.UNDECIDED}),
    ("worse by labels", {}, replace(BASE, labelled=0.8), Effect("loss", 0.1), {Outcome.ROLLED_BACK}),
    ("labels, late ones", {}, replace(BASE, labelled=0.8, label_seconds=8.0), Effect("loss", 0.03), set(Outcome)),
    (
        "labels with a horizon",
        {"label_horizon": "8s"},
        replace(BASE, labelled=0.8),
        Effect("loss", 0.03),
        {Outcome.PROMOTED, Outcome.ROLLED_BACK},
    ),
    (
        "worse by labels, with a horizon",
        {"label_horizon": "8s", "shadow": {"min_requests": 900}},
        replace(BASE, labelled=0.8),
        Effect("loss", 0.1),
        {Outcome.ROLLED_BACK},
    ),
    ("a loss that rises late", {"watch": 60}, replace(BASE, labelled=0.9), Effect("loss", 0.4, "late"), set(Outcome)),
    (
        "no shadow, labels",
        {"shadow": "off", "watch": 60},
        replace(BASE, labelled=1.0, loss_spread=0.1),
        Effect("loss", 0.2),
        {Outcome.ROLLED_BACK},
    ),
]


@pytest.mark.parametrize(("name", "policy", "base", "effect", "expected"), SCENES, ids=[scene[0] for scene in SCENES])
def test_the_engine_driven_look_by_look_decides_what_the_rehearsal_decides(
    name: str, policy: dict[str, Any], base: BaseRates, effect: Effect, expected: set[Outcome]
) -> None:
    runs, seed = 16, 1000 + len(name)
    print(f"seed {seed}")
    the_plan = plan(**{**QUICK, **policy})
    played = play(the_plan, base, effect, runs=runs, seed=seed, usual_seconds=30.0, keep=True, growth=1.8)
    assert set(played.outcome.tolist()) & set(expected)
    for run in range(runs):
        outcome, seconds, record = drive(the_plan, played, run, base)
        assert (run, outcome, round(seconds, 3)) == (
            run,
            Outcome(played.outcome[run]),
            round(float(played.seconds[run]), 3),
        ), record.status


def drive(the_plan: RolloutPlan, played: Played, run: int, base: BaseRates) -> tuple[Outcome, float, RolloutRecord]:
    """The real engine on one run's draws, with a clock that stands at each look."""
    record = new_rollout(MemoryStore(), MODEL, the_plan, CHAMPION, CANDIDATE, FakeClock(START), "ann")
    record, _ = step(record, _observation(record, {}, {}, base), START)
    before: dict[str, Any] = {}
    latest: dict[str, Any] = {}
    for block in played.blocks:
        places = np.flatnonzero(block.runs == run)
        if not len(places) or (block.phase, block.step) != _place(record):
            continue
        for at, sums in _looks(block, int(places[0])):
            if at > the_plan.max_seconds and block.phase is not Phase.WATCHING:
                break
            latest, place = sums, _place(record)
            record, _ = step(record, _observation(record, before, sums, base), _later(at))
            if record.phase is Phase.PROMOTING:
                record = replace(record, effects_generation=record.release_generation)
                record, _ = step(record, _observation(record, before, sums, base), _later(at))
            if record.phase is Phase.PROMOTED:
                return Outcome.PROMOTED, at, record
            if record.phase is Phase.ABORTING:
                return Outcome.ROLLED_BACK, at, record
            if record.phase is Phase.PAUSED:
                return Outcome.UNDECIDED, at, record
            if _place(record) != place:
                for key in ("slow", "champion", "champion_failed"):
                    before[key] = before.get(key, 0) + sums[key]
                for key in ("latency_candidate", "latency_champion"):
                    before[key] = before.get(key, LatencyCounts()).plus(sums.get(key, LatencyCounts()))
                break
    record, _ = step(record, _observation(record, before, latest, base), _later(the_plan.max_seconds + 1))
    assert record.phase is Phase.PAUSED, record.status
    return Outcome.UNDECIDED, the_plan.max_seconds, record


def _place(record: RolloutRecord) -> tuple[Phase, int]:
    return record.phase, record.step


def _looks(block: Block, place: int) -> Iterator[tuple[float, dict[str, Any]]]:
    for look, seconds in enumerate(block.looks):
        yield float(block.began[place] + seconds), sums_at(block.sums, place, look) | _latencies(block, place, look)


def _latencies(block: Block, place: int, look: int) -> dict[str, Any]:
    seen = block.sums.latencies
    if seen is None:
        return {}
    return {
        f"latency_{name}": LatencyCounts(seen.first, tuple(getattr(seen, name)[place, look].tolist()))
        for name in ("candidate", "champion")
    }


def _later(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def _observation(record: RolloutRecord, before: dict[str, Any], sums: dict[str, Any], base: BaseRates) -> Observation:
    """What the servers would show: counts since the rollout began."""

    def count(name: str) -> int:
        return int(before.get(name, 0) + sums.get(name, 0))

    def mean(name: str, low: float, high: float) -> RunningMean:
        parts = [sums.get(f"{name}_{part}", 0.0) for part in ("n", "total", "variance")]
        return RunningMean(low, high, int(parts[0]), *parts[1:])

    def latency(name: str) -> LatencyCounts:
        return before.get(name, LatencyCounts()).plus(sums.get(name, LatencyCounts()))

    live = int(sums.get("live", 0) + sums.get("earlier", 0))
    failed = int(sums.get("failed", 0) + sums.get("earlier_failed", 0))
    copies, copies_failed = int(sums.get("copies", 0)), int(sums.get("copies_failed", 0))
    shadow = record.phase is Phase.SHADOW
    kept = record.seen.pairs if record.seen is not None else PairEvidence(CHAMPION.digest, CANDIDATE.digest)
    pairs = PairEvidence(
        CHAMPION.digest,
        CANDIDATE.digest,
        flips=RunningRate(copies - copies_failed, int(sums.get("flips", 0))) if shadow else kept.flips,
        difference=mean("difference", 0.0, 1.0) if shadow else kept.difference,
        shadow_failures=RunningRate(copies, copies_failed) if shadow else kept.shadow_failures,
        loss_difference=mean("pair_loss", -1.0, 1.0),
        labels=LabelCounts(exposed=int(sums.get("ripe", 0))),
    )
    champion, champion_failed = count("champion"), count("champion_failed")
    return Observation(
        release=wish(record),
        candidate_ready=True,
        champion=ArmEvidence(
            CHAMPION.digest, champion, RunningRate(champion, champion_failed), loss=mean("champion_loss", 0.0, 1.0),
            latency=latency("latency_champion"),
        ),
        candidate=ArmEvidence(
            CANDIDATE.digest, live, RunningRate(live, failed), RunningRate(live, count("slow")),
            loss=mean("candidate_loss", 0.0, 1.0), latency=latency("latency_candidate"),
        ),
        pairs=pairs,
        requests_per_second=base.per_second,
        retraining_noise=base.noise,
    )  # fmt: skip
