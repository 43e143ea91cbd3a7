"""What a phase counts: the looks at it, and the sums at each of them, drawn for many rollouts at once."""

import math
from dataclasses import dataclass

import numpy as np

from fairlead.deploy.rehearsal.arrays import Counts, Floats
from fairlead.deploy.rehearsal.detecting import Detecting, Seen, Watchers
from fairlead.deploy.rehearsal.draws import Differences, Losses, MeanSums, Shifts, Values, add_values
from fairlead.deploy.rehearsal.judge import Sums
from fairlead.deploy.rehearsal.latencies import LatencyDraws
from fairlead.deploy.rehearsal.world import BaseRates, Candidate, Effect, candidate_at
from fairlead.deploy.rollout.loop import LONGEST_TICK_SECONDS, REQUESTS_PER_TICK, SHORTEST_TICK_SECONDS

GROWTH = 1.06
"""From look to look, once this is longer than a tick of the loop: later looks are this factor apart."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A phase in which evidence is collected: `copies` and `live` are shares of the requests, 0 to 1."""

    copies: float
    live: float

    @property
    def share(self) -> float | None:
        """The candidate's share of all calls, copies included; None where the champion gets none."""
        share = self.copies / (1 + self.copies) if self.copies else self.live
        return share if 0 < share < 1 else None


def look_seconds(per_second: float, horizon: float, growth: float = GROWTH) -> Floats:
    """Seconds since the phase began at which it is looked at: as often as the loop does at first, then geometrically.
    At each look there is at least one request more than at the look before; the last look is at `horizon`."""
    if per_second <= 0 or per_second * horizon < 1:
        return np.array([horizon])
    tick = min(max(REQUESTS_PER_TICK / per_second, SHORTEST_TICK_SECONDS), LONGEST_TICK_SECONDS / 2)
    looks = [max(tick, 1 / per_second)]
    while looks[-1] < horizon:
        looks.append(max(looks[-1] + max(tick, 1 / per_second), looks[-1] * growth))
    looks[-1] = horizon
    return np.array(looks)


@dataclass(frozen=True, slots=True)
class Carried:
    """What rollouts bring along from earlier phases, [runs]."""

    began: Floats
    shadow_seconds: Floats
    earlier: Counts
    earlier_failed: Counts
    pair_loss: MeanSums
    candidate_loss: MeanSums
    champion_loss: MeanSums

    def of(self, chosen: Counts) -> "Carried":
        """That of some runs."""
        return Carried(
            self.began[chosen], self.shadow_seconds[chosen], self.earlier[chosen], self.earlier_failed[chosen],
            *(_of(sums, chosen) for sums in (self.pair_loss, self.candidate_loss, self.champion_loss)),
        )  # fmt: skip


def nothing(runs: int) -> Carried:
    """The beginning."""
    return Carried(
        np.zeros(runs), np.zeros(runs), np.zeros(runs, dtype=np.int64), np.zeros(runs, dtype=np.int64),
        *(MeanSums(np.zeros(runs), np.zeros(runs), np.zeros(runs)) for _ in range(3)),
    )  # fmt: skip


def _of(sums: MeanSums, chosen: Counts) -> MeanSums:
    return MeanSums(sums.n[chosen], sums.total[chosen], sums.variance[chosen])


class Draws:
    """Draws the sums of one stage, block of looks by block."""

    def __init__(
        self, base: BaseRates, effect: Effect, stage: Stage, carried: Carried, usual_seconds: float,
        detecting: Detecting, rng: np.random.Generator, *, latency: bool = True,
    ) -> None:  # fmt: skip
        self._base, self._effect, self._stage, self._carried = base, effect, stage, carried
        self._usual, self._rng = usual_seconds, rng
        runs = len(carried.began)
        zero, none = np.zeros(runs), np.zeros(runs, dtype=np.int64)
        self._at, self._horizon = 0.0, detecting.label_horizon_seconds
        slowest = 1 + effect.added if effect.kind == "latency" else 1.0
        self._latencies = LatencyDraws(runs, base.latency_ms, base.latency_spread, slowest, rng) if latency else None
        self._watchers = Watchers(detecting, stage.share, runs, carried.candidate_loss, carried.champion_loss)
        self._counts = dict.fromkeys(("copies_failed", "flips", "failed", "slow", "champion_failed"), none)
        self._difference = MeanSums(zero, zero, zero)
        self._losses = (carried.pair_loss, carried.candidate_loss, carried.champion_loss)
        self._kinds: tuple[Values, ...] = (
            Shifts(base.loss_difference_spread),
            Losses(base.loss_spread),
            Losses(base.loss_spread),
        )
        self.harm = zero

    def block(self, looks: Floats) -> tuple[Sums, Floats]:
        """The sums at the next looks, and the answers to users that the effect made worse up to each, expected."""
        base, stage, rng, carried = self._base, self._stage, self._rng, self._carried
        before = np.concatenate(([self._at], looks[:-1]))
        middle = carried.began[:, None] + (before + looks) / 2
        rates = candidate_at(base, self._effect, middle, self._usual)

        copies, new_copies = self._arrivals(stage.copies, before, looks)
        live, new_live = self._arrivals(stage.live, before, looks)
        champion, new_champion = self._arrivals(1 - stage.live, before, looks)
        shape = middle.shape
        copies_failed = self._events("copies_failed", new_copies, rates.failure_rate)
        answered = new_copies - np.diff(copies_failed, axis=1, prepend=self._counts["copies_failed"][:, None])
        drawn = {
            "copies_failed": copies_failed,
            "flips": self._events("flips", answered, np.full(shape, base.flip_rate)),
            "failed": self._events("failed", new_live, rates.failure_rate),
            "slow": self._events("slow", new_live, rates.slow_rate),
            "champion_failed": self._events("champion_failed", new_champion, np.full(shape, base.failure_rate)),
        }
        difference = self._difference
        if stage.copies:
            kind = Differences()
            difference = add_values(rng, kind, rates.difference, answered.astype(np.float64), self._difference)
        histograms = None
        if self._latencies is not None and stage.live:
            most = base.latencies_per_second
            timed = [self._arrivals(share, before, looks, most)[1] for share in (stage.live, 1 - stage.live)]
            histograms = self._latencies.block(timed[0], timed[1], rates.latency_factor, self._effect.share)
        pair_loss, candidate_loss, champion_loss = self._labels(middle, before, looks, rates)
        new = {
            name: np.diff(drawn[name], axis=1, prepend=self._counts[name][:, None])
            for name in ("failed", "slow", "champion_failed")
        }
        found = self._watchers.block(before, looks, Seen(new_live, new, histograms, candidate_loss, champion_loss))
        harm = self.harm[:, None] + np.cumsum(new_live * rates.harm, axis=1)
        sums = Sums(
            pair_loss=pair_loss, candidate_loss=candidate_loss, champion_loss=champion_loss,
            copies=np.broadcast_to(copies, shape), difference=_wide(difference, shape),
            live=np.broadcast_to(live, shape), champion=np.broadcast_to(champion, shape),
            ripe=self._ripe(looks) if stage.copies and self._horizon else None,
            latencies=histograms, share=stage.share, failures_detector=found.failures, slow_detector=found.slow,
            blame_detector=found.blame, loss_detector=found.loss, latency_detectors=found.latency,
            earlier=carried.earlier[:, None], earlier_failed=carried.earlier_failed[:, None], **drawn,
        )  # fmt: skip
        self._counts = {name: values[:, -1] for name, values in drawn.items()}
        self._difference = _last(sums.difference)
        self._losses = (_last(pair_loss), _last(candidate_loss), _last(champion_loss))
        self._at, self.harm = float(looks[-1]), harm[:, -1]
        return sums, harm

    def _ripe(self, looks: Floats) -> Counts:
        """Pairs whose horizon is over at each look, [runs, looks]."""
        ends = np.maximum(self._carried.began[:, None] + looks - self._horizon, 0.0)
        return np.floor(self._base.per_second * self._stage.copies * ends).astype(np.int64)

    def _arrivals(
        self, share: float, before: Floats, looks: Floats, most_per_second: float = math.inf
    ) -> tuple[Counts, Counts]:
        """Requests that arrived up to each look, and since the look before."""
        per_second = min(self._base.per_second * share, most_per_second)
        ends = np.floor(per_second * looks + 1e-6).astype(np.int64)
        starts = np.floor(per_second * before + 1e-6).astype(np.int64)
        return ends, ends - starts

    def _events(self, name: str, new: Counts, rate: Floats) -> Counts:
        drawn = self._rng.binomial(np.broadcast_to(new, rate.shape), rate)
        out: Counts = self._counts[name][:, None] + np.cumsum(drawn, axis=1)
        return out

    def _labels(
        self, middle: Floats, before: Floats, looks: Floats, rates: Candidate
    ) -> tuple[MeanSums, MeanSums, MeanSums]:
        """Losses up to each look: of shadow pairs, whose labels may come when the shadow is over, and of either arm."""
        base, stage, carried = self._base, self._stage, self._carried
        shape = middle.shape
        if not base.labelled:
            return tuple(_wide(sums, shape) for sums in self._losses)  # type: ignore[return-value]
        # Labels of pairs: what the shadow saw up to `label_seconds` ago.
        lasts = np.inf if stage.copies else carried.shadow_seconds[:, None]
        share = stage.copies or 1.0
        ends = np.clip(carried.began[:, None] + looks - base.label_seconds, 0.0, lasts)
        starts = np.clip(carried.began[:, None] + before - base.label_seconds, 0.0, lasts)
        pairs = np.floor(base.per_second * share * base.labelled * ends) - np.floor(
            base.per_second * share * base.labelled * starts
        )
        old = candidate_at(base, self._effect, np.maximum(middle - base.label_seconds, 0.0), self._usual)
        arms = []
        for part in (stage.live, 1 - stage.live):
            late = [np.maximum(edge - base.label_seconds, 0.0) for edge in (before, looks)]
            counts = [np.floor(base.per_second * part * base.labelled * edge) for edge in late]
            arms.append(np.broadcast_to(counts[1] - counts[0], shape))
        usual = np.full(shape, base.loss)
        means = (old.loss_shift, usual + old.loss_shift, usual)
        news = (np.broadcast_to(pairs, shape), *arms)
        return tuple(  # type: ignore[return-value]
            add_values(self._rng, kind, mean, new, sums)
            for kind, mean, new, sums in zip(self._kinds, means, news, self._losses, strict=True)
        )


def _wide(sums: MeanSums, shape: tuple[int, ...]) -> MeanSums:
    if sums.n.ndim == 2:
        return sums
    return MeanSums(*(np.broadcast_to(part[:, None], shape) for part in (sums.n, sums.total, sums.variance)))


def _last(sums: MeanSums) -> MeanSums:
    return MeanSums(sums.n[:, -1].copy(), sums.total[:, -1].copy(), sums.variance[:, -1].copy())
