"""A policy played again on what a rollout recorded: its request log in the order of time, and the sums of its record.

The real engine is driven look by look; the servers are taken to do at once what it wishes. What cannot be recorded in
another order than it happened is not made up: while the policy is in a phase whose evidence was recorded later, time
skips to it, and when the recording holds no more of it, the replay ends undecided. What the log does not hold row by
row (failed calls of the candidate, changed labels, failed copies) comes from the sums in the record, spread over time
in proportion to the calls. Live features are shown as soon as the record first judged them.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from fairlead.deploy.rehearsal.arrays import Floats
from fairlead.deploy.rehearsal.recorded import Recording
from fairlead.deploy.rollout import tally as sums
from fairlead.deploy.rollout.engine import step
from fairlead.deploy.rollout.wishes import wish
from fairlead.records.evidence import LatencyCounts, RunningMean, RunningRate, latency_bin
from fairlead.records.rollout import (
    TERMINAL,
    ArmEvidence,
    Decision,
    Observation,
    PairEvidence,
    Phase,
    RolloutPlan,
    RolloutRecord,
)

_MOST_LOOKS = 3000
_SHORTEST_SECONDS = 0.2
_ENDED = frozenset({Phase.PROMOTED, Phase.ABORTED, Phase.PAUSED})


@dataclass(frozen=True, slots=True)
class Replay:
    """What a policy would have decided. `ended` is "promoted", "aborted", "paused" or "undecided" (the recording ends
    first); `seconds` since the recorded start; `decisions` with their evidence, as in a record."""

    rollout: str
    ended: str
    seconds: float
    status: str
    candidate_requests: int
    decisions: tuple[Decision, ...]
    recorded_ended: str
    recorded_seconds: float
    recorded_requests: int
    rows: int


def replay(record: RolloutRecord, plan: RolloutPlan, recording: Recording, positive: str | None) -> Replay:
    """Play `plan` on the recording of `record`. `positive`: the label as sent that means 1, for a binary model; without
    it, labels are left out."""
    evidence = _Evidence(record, plan, recording, positive)
    state = _start(record, plan)
    begun = datetime.fromisoformat(record.started_at)
    lasts = float(recording.seconds[-1]) - begun.timestamp()
    looks = np.arange(0.0, lasts + 1e-9, max(_SHORTEST_SECONDS, lasts / _MOST_LOOKS))
    skipped, at, before = 0.0, 0.0, 0
    for seconds in np.append(looks, lasts).tolist():
        observation = evidence.at(begun.timestamp() + seconds, state)
        gained = evidence.usable(state.phase)
        if gained == before and state.phase in (Phase.SHADOW, Phase.CANARY):
            skipped += seconds - at  # nothing of this phase was recorded here
            at = seconds
            continue
        before, at = gained, seconds
        phase = state.phase
        state = _follow(state, observation, datetime.fromtimestamp(begun.timestamp() + seconds - skipped, UTC))
        if state.phase in _ENDED:
            break
        if state.phase is not phase:
            before = evidence.usable(state.phase)
    return _result(record, state, at, len(recording))


def _start(record: RolloutRecord, plan: RolloutPlan) -> RolloutRecord:
    return RolloutRecord(
        id=record.id, model=record.model, plan=plan, champion=record.champion, candidate=record.candidate,
        rollback_target=record.rollback_target, phase=Phase.STARTING, generation=1, step=0, weight=0.0,
        shadow_percent=0.0, started_at=record.started_at, phase_since=record.started_at, release_generation=1,
        started_by="replay",
    )  # fmt: skip


def _follow(state: RolloutRecord, observation: Observation, now: datetime) -> RolloutRecord:
    """One look, and what the servers and the registry would have confirmed at once."""
    state, _ = step(state, observation, now)
    if state.phase in (Phase.PROMOTING, Phase.ABORTING):
        state = replace(state, effects_generation=state.release_generation)
        state, _ = step(state, replace(observation, release=wish(state)), now)
    return state


def _result(record: RolloutRecord, state: RolloutRecord, seconds: float, rows: int) -> Replay:
    settling = {Phase.PROMOTING, Phase.ABORTING, Phase.PAUSED}
    decided = [d for d in record.decisions if d.phase_after in settling]
    last = decided[-1] if decided else None
    begun = datetime.fromisoformat(record.started_at)
    at = (datetime.fromisoformat(last.at) - begun).total_seconds() if last is not None else 0.0
    ended = state.phase.value if state.phase in _ENDED or state.phase in TERMINAL else "undecided"
    if state.phase is Phase.WATCHING:
        ended = "promoted"
    return Replay(
        rollout=record.id, ended=ended, seconds=seconds, status=state.status,
        candidate_requests=sums.total(state).candidate.failures.n, decisions=state.decisions,
        recorded_ended=record.phase.value, recorded_seconds=at,
        recorded_requests=_fact(last, "candidate_requests"), rows=rows,
    )  # fmt: skip


def _fact(decision: Decision | None, name: str) -> int:
    value = decision.evidence.get(name, 0) if decision is not None else 0
    return int(value) if isinstance(value, int | float) else 0


class _Evidence:
    """The recorded sums up to a moment, as a server would have shown them."""

    def __init__(self, record: RolloutRecord, plan: RolloutPlan, recording: Recording, positive: str | None) -> None:
        self._record, self._recording = record, recording
        self._whole = sums.total(record)
        self._row = 0
        candidate, champion = record.candidate.digest, record.champion.digest
        self._arm_of = np.where(recording.digest == candidate, 1, np.where(recording.digest == champion, 0, -1))
        self._slow = recording.latency_ms > plan.latency_bound_ms
        self._counts = [0, 0]
        self._slow_counts = [0, 0]
        self._failed = [0, 0]
        self._bins: list[dict[int, int]] = [{}, {}]
        self._difference, self._loss = RunningMean(), RunningMean(-1.0, 1.0)
        self._pair_rows = np.isfinite(recording.shadow)
        self._scale = self._score_scale()
        self._losses, self._loss_times = self._pair_losses(positive)
        self._knots, self._calls, self._call_failures = _candidate_calls(record, self._whole.candidate.failures)
        self._second = 0.0
        self._loss_row = 0
        self._noise = next((v for d in reversed(record.decisions) if (v := d.evidence.get("retraining_noise"))), None)
        judged = [d.at for d in record.decisions if any(m.metric == "skew" and m.n for m in d.metrics)]
        self._skew_from = datetime.fromisoformat(judged[0]).timestamp() if judged and record.skew else None

    def _score_scale(self) -> float:
        """Logged scores may be in another unit than the recorded differences: the same mean makes them the same."""
        seen = np.abs(self._recording.score - self._recording.shadow)[self._pair_rows]
        recorded = self._whole.pairs.difference
        if not len(seen) or recorded.n < 0.5 * len(seen) or seen.mean() <= 0:
            return 1.0
        return float(recorded.mean / seen.mean())

    def _pair_losses(self, positive: str | None) -> tuple[Floats, Floats]:
        """Loss differences of labelled pairs in the order in which their labels came, and when."""
        rec = self._recording
        rows = self._pair_rows & np.isfinite(rec.label_time)
        if positive is None or not rows.any():
            return np.zeros(0), np.zeros(0)
        truth = (rec.label[rows] == positive).astype(np.float64)
        values = (rec.shadow[rows] - truth) ** 2 - (rec.score[rows] - truth) ** 2
        order = np.argsort(rec.label_time[rows], kind="stable")
        return values[order], rec.label_time[rows][order]

    def usable(self, phase: Phase) -> int:
        """How much there is of what a phase counts."""
        return self._difference.n if phase is Phase.SHADOW else self._candidate_failures().n

    def at(self, second: float, state: RolloutRecord) -> Observation:
        """What was recorded until `second` (since the epoch)."""
        self._advance(second)
        copies = self._difference.n
        recorded = self._whole.pairs
        pairs = PairEvidence(
            self._record.champion.digest,
            self._record.candidate.digest,
            flips=_spread(recorded.flips, copies),
            difference=replace(self._difference),
            loss_difference=replace(self._loss),
            shadow_failures=_spread(recorded.shadow_failures, copies),
        )
        shown = self._skew_from is not None and second >= self._skew_from
        return Observation(
            release=wish(state),
            candidate_ready=True,
            champion=self._arm(0, self._record.champion.digest),
            candidate=self._arm(1, self._record.candidate.digest),
            pairs=pairs,
            skew=self._record.skew if shown else (),
            skew_expected=self._skew_from is not None,
            retraining_noise=float(self._noise) if isinstance(self._noise, int | float) else None,
        )

    def _arm(self, which: int, digest: str) -> ArmEvidence:
        whole = self._whole.candidate if which else self._whole.champion
        n = self._counts[which]
        failures = _spread(whole.failures, n) if whole.failures.n else RunningRate(n, self._failed[which])
        failures = self._candidate_failures() if which else failures
        return ArmEvidence(
            digest=digest,
            requests=failures.n,
            failures=failures,
            slow=RunningRate(n, self._slow_counts[which]),
            latency=LatencyCounts.of(self._bins[which]),
        )

    def _candidate_failures(self) -> RunningRate:
        """Calls of the candidate and those of them that failed: a failed one is answered by the champion, and stands
        in the log as the champion's. So they come from the counts of the record, in between evenly over time."""
        if not self._whole.candidate.failures.n:
            return RunningRate(self._counts[1], self._failed[1])
        calls, failed = (np.interp(self._second, self._knots, part) for part in (self._calls, self._call_failures))
        return RunningRate(int(calls + 1e-9), int(failed + 1e-9))

    def _advance(self, second: float) -> None:
        rec, self._second = self._recording, second
        end = int(np.searchsorted(rec.seconds, second, side="right"))
        rows = slice(self._row, end)
        arms, slow = self._arm_of[rows], self._slow[rows]
        failed = (rec.status[rows] >= 500) | rec.fallback[rows]
        for which in (0, 1):
            mine = arms == which
            self._counts[which] += int(mine.sum())
            self._slow_counts[which] += int((mine & slow).sum())
            self._failed[which] += int((mine & failed).sum())
            for latency in rec.latency_ms[rows][mine].tolist():
                index = latency_bin(latency / 1000)
                self._bins[which][index] = self._bins[which].get(index, 0) + 1
        pairs = self._pair_rows[rows]
        differences = np.abs(rec.score[rows] - rec.shadow[rows])[pairs] * self._scale
        self._difference.add(differences.tolist())
        last = int(np.searchsorted(self._loss_times, second, side="right"))
        self._loss.add(self._losses[self._loss_row : last].tolist())
        self._row, self._loss_row = end, max(last, self._loss_row)


def _candidate_calls(record: RolloutRecord, whole: RunningRate) -> tuple[list[float], list[int], list[int]]:
    """When the record noted how many calls the candidate had, how many, and how many of them had failed."""
    knots, calls, failed = [], [0], [0]
    for decision in record.decisions:
        at = datetime.fromisoformat(decision.at).timestamp()
        knots.append(at)
        if len(knots) > 1:
            calls.append(_fact(decision, "candidate_requests"))
            failed.append(_fact(decision, "candidate_failures"))
    last = datetime.fromisoformat(record.updated_at).timestamp() if record.updated_at else knots[-1]
    if last > knots[-1]:
        knots, calls, failed = [*knots, last], [*calls, whole.n], [*failed, whole.events]
    return knots, calls, failed


def _spread(recorded: RunningRate, n: int) -> RunningRate:
    """A recorded rate's events in proportion to the first `n` of its calls."""
    return RunningRate(n, int(recorded.rate * n + 1e-9))
