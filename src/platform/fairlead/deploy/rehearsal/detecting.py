"""The detectors of `deploy.rollout.detecting`, for many rollouts at once: the same evidence, look by look."""

from dataclasses import dataclass, field

import numpy as np

from fairlead.deploy.rehearsal.arrays import Counts, Floats
from fairlead.deploy.rehearsal.draws import MeanSums
from fairlead.deploy.rehearsal.latencies import Histograms
from fairlead.deploy.rollout.detecting import failure_test, slow_test
from fairlead.deploy.rollout.latency import latency_limit, quantile_metric
from fairlead.deploy.rollout.plan import budget_of
from fairlead.deploy.statistics import detector, exceedances, mean_shifts
from fairlead.deploy.statistics.concurrent import log_blame
from fairlead.deploy.statistics.quantiles import Limit
from fairlead.deploy.statistics.sprt import Sprt
from fairlead.records.rollout import RolloutPlan

_LOSS_WIDTH = 1.0


@dataclass(frozen=True, slots=True)
class Detecting:
    """The tests of the detectors, and the time that they are for. `odds`: of blame; `quantiles`: none in the watch,
    which has no champion to compare with."""

    failures: Sprt
    slow: Sprt | None
    odds: float
    horizon_seconds: float
    quantiles: tuple[float, ...]
    limit: Limit
    margin: float
    label_horizon_seconds: float = 0.0

    @classmethod
    def of(cls, plan: RolloutPlan, *, watching: bool) -> "Detecting":
        """Those of a plan's step, or of its watch."""
        budget = budget_of(plan)
        return cls(
            failure_test(plan, budget.failures("detector")),
            slow_test(plan, budget.detection("slow_rate")),
            plan.bad_failure_rate / plan.healthy_failure_rate,
            plan.watch_seconds if watching else plan.max_seconds,
            () if watching else plan.latency_quantiles,
            latency_limit(plan),
            plan.max_loss_increase,
            plan.label_horizon_seconds or 0.0,
        )

    def ratios(self, new: int, events: dict[str, Counts], share: float | None) -> tuple[Floats, Floats, Floats]:
        """What `new` calls of the candidate add to the evidence of failures, slow answers and blame."""
        blame = log_blame(events["failed"], events["champion_failed"], share or 0.0, self.odds)
        slow = np.zeros(events["slow"].shape) if self.slow is None else _log_ratio(self.slow, new, events["slow"])
        return _log_ratio(self.failures, new, events["failed"]), slow, blame


def _log_ratio(test: Sprt, n: int, events: Counts) -> Floats:
    out: Floats = events * test.per_failure + (n - events) * test.per_success
    return out


@dataclass(frozen=True, slots=True)
class Seen:
    """A block of looks: calls of the candidate since the look before [looks], events since then by name [runs, looks],
    and the sums so far of latencies and losses."""

    calls: Counts
    events: dict[str, Counts]
    latencies: Histograms | None
    candidate_loss: MeanSums
    champion_loss: MeanSums


@dataclass(slots=True)
class Found:
    """log R of the detectors after each look, [runs, looks]; those of the latency by metric."""

    failures: Floats
    slow: Floats
    blame: Floats
    loss: Floats
    latency: dict[str, Floats] = field(default_factory=dict)


class Watchers:
    """The detectors of one stage of many rollouts. `share` is the candidate's of all calls; the losses are the sums
    with which the stage begins."""

    def __init__(
        self, detecting: Detecting, share: float | None, runs: int, candidate_loss: MeanSums, champion_loss: MeanSums
    ) -> None:
        self._tests, self._share = detecting, share
        self._calls = [np.full(runs, detector.EMPTY) for _ in range(3)]
        self._quantiles = [np.full(runs, detector.EMPTY) for _ in detecting.quantiles]
        self._loss = np.full((runs, len(mean_shifts.STRENGTHS)), detector.EMPTY)
        self._loss_at, self._loss_sums = 0.0, (candidate_loss, champion_loss)
        self._histograms: Histograms | None = None

    def block(self, before: Floats, looks: Floats, seen: Seen) -> Found:
        """After each of the next looks; `before` are the looks before them."""
        shape = seen.events["failed"].shape
        names = [quantile_metric(quantile) for quantile in self._tests.quantiles]
        failures, slow, blame, loss = (np.empty(shape) for _ in range(4))
        found = Found(failures, slow, blame, loss, {name: np.empty(shape) for name in names})
        latency = self._latency_ratios(seen.latencies, shape)
        for look, (start, end) in enumerate(zip(before.tolist(), looks.tolist(), strict=True)):
            if seen.calls[look]:
                here = {name: values[:, look] for name, values in seen.events.items()}
                ratios = self._tests.ratios(int(seen.calls[look]), here, self._share)
                part = detector.weight(end - start, self._tests.horizon_seconds)
                self._calls = [detector.update(*pair, part) for pair in zip(self._calls, ratios, strict=True)]
                self._quantiles = [
                    detector.update(value, ratio[:, look], part)
                    for value, ratio in zip(self._quantiles, latency, strict=True)
                ]
            self._take_losses(seen, look, end)
            for place, value in zip((found.failures, found.slow, found.blame), self._calls, strict=True):
                place[:, look] = value
            for name, value in zip(names, self._quantiles, strict=True):
                found.latency[name][:, look] = value
            found.loss[:, look] = mean_shifts.together(self._loss)
        return found

    def _latency_ratios(self, seen: Histograms | None, shape: tuple[int, ...]) -> list[Floats]:
        """For each quantile, what each look's new latencies add, [runs, looks]."""
        if seen is None:
            return [np.zeros(shape) for _ in self._tests.quantiles]
        last = self._histograms
        nothing = np.zeros_like(seen.candidate[:, :1])
        first = nothing if last is None else last.candidate[:, -1:]
        first0 = nothing if last is None else last.champion[:, -1:]
        usual = np.concatenate([first0, seen.champion[:, :-1]], axis=1)
        mine, theirs = np.diff(seen.candidate, axis=1, prepend=first), np.diff(seen.champion, axis=1, prepend=first0)
        n, n0 = mine.sum(axis=-1), theirs.sum(axis=-1)
        out = []
        for quantile in self._tests.quantiles:
            start, over = exceedances.thresholds(usual, seen.first, quantile, self._tests.limit)
            beyond = exceedances.number_from(mine, seen.first, over)
            beyond0 = exceedances.number_from(theirs, seen.first, start)
            known = start < np.iinfo(np.int32).max
            out.append(np.where(known, exceedances.log_evidence(beyond, n, beyond0, n0, quantile), 0.0))
        self._histograms = seen
        return out

    def _take_losses(self, seen: Seen, look: int, at: float) -> None:
        """Once both arms have new labels. Their numbers are the same in all rollouts."""
        now = tuple(
            MeanSums(sums.n[:, look], sums.total[:, look], sums.variance[:, look])
            for sums in (seen.candidate_loss, seen.champion_loss)
        )
        new = [
            mean_shifts.Values(a.n - b.n, a.total - b.total, a.variance - b.variance)
            for a, b in zip(now, self._loss_sums, strict=True)
        ]
        if any(np.asarray(values.n).flat[0] <= 0 for values in new):
            return
        ratios = mean_shifts.log_evidence_apart(new[0], new[1], self._tests.margin, _LOSS_WIDTH)
        part = detector.weight(at - self._loss_at, self._tests.horizon_seconds)
        self._loss = detector.update(self._loss, ratios, part)
        self._loss_at, self._loss_sums = at, (now[0], now[1])
