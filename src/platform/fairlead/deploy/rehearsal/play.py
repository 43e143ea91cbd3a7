"""A policy played on thousands of rollouts at once: shadow, steps, promotion, watch."""

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from fairlead.deploy.rehearsal.arrays import Counts, Flags, Floats
from fairlead.deploy.rehearsal.detecting import Detecting
from fairlead.deploy.rehearsal.draws import MeanSums
from fairlead.deploy.rehearsal.judge import Judge, Sums
from fairlead.deploy.rehearsal.latencies import Histograms
from fairlead.deploy.rehearsal.traffic import GROWTH, Carried, Draws, Stage, look_seconds, nothing
from fairlead.deploy.rehearsal.world import BaseRates, Effect
from fairlead.deploy.rollout.engine import COMPLETE_SECONDS
from fairlead.records.rollout import Phase, RolloutPlan

_BLOCK = 40
"""Looks that are drawn and judged together; rollouts that have decided are not drawn any further."""


class Outcome(enum.IntEnum):
    """How a rollout ended. UNDECIDED: it waits for a person."""

    UNDECIDED = 0
    PROMOTED = 1
    ROLLED_BACK = 2


@dataclass(frozen=True, slots=True)
class Block:
    """What was drawn for some rollouts (`runs`) at some looks, for whoever wants to play it again."""

    phase: Phase
    step: int
    runs: Counts
    began: Floats
    looks: Floats
    sums: Sums


@dataclass(slots=True)
class Played:
    """How each rollout ended, [runs]. `seconds` since the start, `requests` that the candidate answered (its failed
    calls included), `harmed` answers that the effect made worse, expected, `stage` the number of phases passed."""

    outcome: Counts
    seconds: Floats
    requests: Counts
    failed: Counts
    harmed: Floats
    stage: Counts
    blocks: list[Block] = field(default_factory=list)

    def share(self, outcome: Outcome) -> float:
        """The share of rollouts that ended so."""
        return float((self.outcome == outcome).mean())


def play(
    plan: RolloutPlan,
    base: BaseRates,
    effect: Effect,
    *,
    runs: int,
    seed: int,
    usual_seconds: float = 0.0,
    keep: bool = False,
    growth: float = GROWTH,
) -> Played:
    """`runs` rollouts of a candidate with `effect` under `plan`. `usual_seconds`: how long a healthy rollout takes, for
    effects that grow or begin late. `keep` keeps all that was drawn."""
    return _Game(plan, base, effect, runs, seed, usual_seconds, keep, growth).play()


class _Game:
    def __init__(
        self, plan: RolloutPlan, base: BaseRates, effect: Effect, runs: int, seed: int, usual: float, keep: bool,
        growth: float,
    ) -> None:  # fmt: skip
        if plan.label_horizon_seconds is not None:  # labels count when the horizon is over, whenever they came
            base = replace(base, label_seconds=plan.label_horizon_seconds)
        self._plan, self._base, self._effect = plan, base, effect
        self._usual, self._keep, self._growth = usual, keep, growth
        self._rng = np.random.default_rng(seed)
        self._judge = Judge(plan, base.noise)
        self._carried = nothing(runs)
        none = np.zeros(runs, dtype=np.int64)
        self._played = Played(
            outcome=none.copy(), seconds=np.full(runs, plan.max_seconds), requests=none.copy(), failed=none.copy(),
            harmed=np.zeros(runs), stage=none.copy(),
        )  # fmt: skip
        self._active = np.arange(runs)

    def play(self) -> Played:
        """Phase after phase, with the rollouts that are still under way."""
        for phase, step, stage in self._stages():
            if not len(self._active):
                break
            self._phase(phase, step, stage)
            if phase is Phase.SHADOW:
                self._carried = replace(self._carried, shadow_seconds=self._carried.began.copy())
        if not self._plan.watch_seconds:
            self._end(self._active, Outcome.PROMOTED, self._carried.began[self._active])
        return self._played

    def _stages(self) -> Iterator[tuple[Phase, int, Stage]]:
        plan = self._plan
        if plan.shadow_percent:
            yield Phase.SHADOW, 0, Stage(plan.shadow_percent / 100, 0.0)
        for step, weight in enumerate(plan.steps):
            yield Phase.CANARY, step, Stage(0.0, weight / 100)
        if plan.watch_seconds:
            yield Phase.WATCHING, len(plan.steps) - 1, Stage(0.0, 1.0)

    def _phase(self, phase: Phase, step: int, stage: Stage) -> None:
        plan, watching = self._plan, phase is Phase.WATCHING
        horizon = plan.watch_seconds if watching else plan.max_seconds - float(self._carried.began[self._active].min())
        per_second = self._base.per_second * (stage.copies or stage.live)
        silent = per_second * plan.no_data_seconds < 1 or horizon <= 0
        if silent:  # no request for that long: it pauses for a person
            self._undecided(self._active, plan.no_data_seconds)
            self._active = self._active[:0]
            return
        looks = look_seconds(per_second, horizon, self._growth)
        ahead, here = self._active, self._carried.of(self._active)
        detecting = Detecting.of(plan, watching=watching)
        draws = Draws(
            self._base,
            self._effect,
            stage,
            here,
            self._usual,
            detecting,
            self._rng,
            latency=bool(plan.latency_quantiles),
        )
        left = _Left(len(ahead))
        hit = np.zeros(len(ahead), dtype=bool)
        for first in range(0, len(looks), _BLOCK):
            some = looks[first : first + _BLOCK]
            sums, harm = draws.block(some)
            if self._keep:
                self._played.blocks.append(Block(phase, step, ahead, here.began, some, sums))
            abort, advance, hit = self._verdicts(phase, step, sums, some, hit)
            late = np.zeros_like(abort) if watching else here.began[:, None] + some > plan.max_seconds + 1e-9
            if watching:
                advance[:, -1] |= some[-1] >= horizon - 1e-9
            left.take(abort & ~late, advance & ~late, late, sums, harm, some)
            if left.all_decided():
                break
        self._settle(phase, left, ahead, here, sums)

    def _verdicts(self, phase: Phase, step: int, sums: Sums, looks: Floats, hit: Flags) -> tuple[Flags, Flags, Flags]:
        """Roll back? Go on? And whether a comparison has failed so far, as a FAIL stays one."""
        plan = self._plan
        if phase is Phase.SHADOW:
            verdicts = self._judge.shadow(sums)
            hard, soft = verdicts.any(comparisons=False), verdicts.any(comparisons=True)
            soft = np.logical_or.accumulate(soft, axis=1) | hit[:, None]
            answered = sums.copies - sums.copies_failed
            complete = (answered >= plan.shadow_min_requests) | (looks >= COMPLETE_SECONDS)
            abort = hard | (soft & complete)
            enough = answered >= plan.shadow_min_requests
            passed = verdicts.passed if verdicts.passed is not None else np.ones_like(abort)
            return abort, passed & enough & ~soft, soft[:, -1]
        later = step > 0 or phase is Phase.WATCHING
        verdicts = self._judge.live(sums, later=later)
        abort = verdicts.any(comparisons=False) | verdicts.any(comparisons=True)
        passed = verdicts.passed if verdicts.passed is not None else np.ones_like(abort)
        if phase is Phase.WATCHING:
            return abort, np.zeros_like(abort), hit
        wanted = passed & (sums.live >= plan.min_requests) & ~abort
        return abort, self._judge.latency_passes(sums, wanted), hit

    def _settle(self, phase: Phase, left: "_Left", ahead: Counts, here: Carried, sums: Sums) -> None:
        played, at = self._played, here.began + left.seconds
        played.requests[ahead] += left.live
        played.failed[ahead] += left.failed
        played.harmed[ahead] += left.harm
        aborted, advanced = left.kind == _ABORT, left.kind == _ADVANCE
        self._end(ahead[aborted], Outcome.ROLLED_BACK, at[aborted])
        rest = ~aborted & ~advanced
        played.seconds[ahead[rest]] = self._plan.max_seconds
        if phase is Phase.WATCHING:
            self._end(ahead[advanced], Outcome.PROMOTED, at[advanced])
            self._active = ahead[:0]
            return
        played.stage[ahead[advanced]] += 1
        carried = self._carried
        carried.began[ahead] = at
        carried.earlier[ahead] += left.live
        carried.earlier_failed[ahead] += left.failed
        for whole, part in zip(
            (carried.pair_loss, carried.candidate_loss, carried.champion_loss), left.losses, strict=True
        ):
            whole.n[ahead], whole.total[ahead], whole.variance[ahead] = part
        self._active = ahead[advanced]

    def _undecided(self, runs: Counts, after: float) -> None:
        self._played.seconds[runs] = self._carried.began[runs] + after

    def _end(self, runs: Counts, outcome: Outcome, seconds: Floats) -> None:
        self._played.outcome[runs] = outcome
        self._played.seconds[runs] = seconds


_ABORT, _ADVANCE, _LATE = 1, 2, 3


class _Left:
    """Where each rollout of a phase left it: why, when, and with what."""

    def __init__(self, runs: int) -> None:
        self.kind = np.zeros(runs, dtype=np.int64)
        self.seconds = np.zeros(runs)
        self.live = np.zeros(runs, dtype=np.int64)
        self.failed = np.zeros(runs, dtype=np.int64)
        self.harm = np.zeros(runs)
        self.losses = [[np.zeros(runs) for _ in range(3)] for _ in range(3)]

    def take(self, abort: Flags, advance: Flags, late: Flags, sums: Sums, harm: Floats, looks: Floats) -> None:
        """Note the first look of the block at which something happens. What is late counts as of the look before it."""
        decisive: Flags = np.logical_or.reduce([abort, advance, late], axis=0)
        open_ = self.kind == 0
        found: Flags = np.asarray(decisive.any(axis=1))
        first = np.where(found, decisive.argmax(axis=1), decisive.shape[1] - 1)
        rows = np.flatnonzero(open_)
        at = first[rows]
        kind = np.where(abort[rows, at], _ABORT, np.where(advance[rows, at], _ADVANCE, _LATE))
        self.kind[rows] = np.where(found[rows], kind, 0)
        self.seconds[rows] = looks[at]
        self.live[rows] = sums.live[rows, at]
        self.failed[rows] = sums.failed[rows, at]
        self.harm[rows] = harm[rows, at]
        for kept, drawn in zip(self.losses, (sums.pair_loss, sums.candidate_loss, sums.champion_loss), strict=True):
            for place, part in zip(kept, (drawn.n, drawn.total, drawn.variance), strict=True):
                place[rows] = part[rows, at]

    def all_decided(self) -> bool:
        """True when no rollout is left in the phase."""
        return bool((self.kind != 0).all())


def sums_at(sums: Sums, run: int, look: int) -> dict[str, float]:
    """One rollout's sums at one look, by name; means as name_n, name_total, name_variance."""
    out: dict[str, float] = {}
    for name in Sums.__slots__:
        part = getattr(sums, name)
        if part is None or isinstance(part, Histograms | float) or "detector" in name:
            continue
        if isinstance(part, MeanSums):
            for each in ("n", "total", "variance"):
                out[f"{name}_{each}"] = float(getattr(part, each)[run, look])
        else:
            out[name] = int(part[run, look if part.shape[1] > 1 else 0])
    return out
