"""From exchanges to evidence, metrics and the request log, off the request path and in small slices."""

import time
from collections.abc import Callable

from fairlead.serve.evidence import EvidenceDelta, Met, Outcome, merge_deltas, score_difference
from fairlead.serve.exchange import Exchange
from fairlead.serve.metrics import Metrics
from fairlead.serve.request_log import RequestLog
from fairlead.serve.slices import values_of
from fairlead.serve.units import NONE, OWN, SPACING_SECONDS, slot_of

_SLICE = 32


class Recorder:
    """Collects what happened. Lives in one event loop; never blocks."""

    def __init__(self, metrics: Metrics, log: RequestLog | None, *, deltas_kept: int = 64) -> None:
        self._metrics, self._log = metrics, log
        self._finished: list[Exchange] = []
        self._delta = EvidenceDelta("")
        self._sealed: list[EvidenceDelta] = []
        self._deltas_kept = deltas_kept
        self._timed: dict[str, float] = {}  # of a few digests at a time; a replica lives for few releases

    def record(self, exchange: Exchange) -> None:
        """Take one finished exchange."""
        finished = self._finished
        finished.append(exchange)
        if len(finished) >= _SLICE:
            self.work()

    def user_saw(self, rollout: str, status: int) -> None:
        """Count an answer without a model: a refusal, or nobody could answer."""
        self._metrics.refused(status)
        if status >= 500:
            delta = self._of(rollout)
            delta.answers += 1
            delta.user_failures += 1

    def work(self) -> None:
        """Digest what has finished so far."""
        finished, self._finished = self._finished, []
        if not finished:
            return
        for exchange in finished:
            self._count(exchange)
        self._metrics.add(finished)
        if self._log is not None:
            self._log.offer(finished)

    def take(self) -> list[EvidenceDelta]:
        """Everything counted since the last call, oldest first."""
        self.work()
        taken = [*self._sealed, self._delta]
        self._sealed, self._delta = [], EvidenceDelta(self._delta.rollout)
        return merge_deltas(taken)

    def give_back(self, deltas: list[EvidenceDelta]) -> None:
        """Keep deltas that could not be told, for the next time; the oldest outcomes go first when it takes long."""
        merged = merge_deltas([*deltas, *self._sealed])
        for delta in merged:
            del delta.outcomes[: max(0, len(delta.outcomes) - 50_000)]
            for pair in delta.pairs.values():
                del pair.differences[: max(0, len(pair.differences) - 50_000)]
                del pair.flips[: max(0, len(pair.flips) - 50_000)]
                del pair.slots[: max(0, len(pair.slots) - 50_000)]
                del pair.values[: max(0, len(pair.values) - 50_000)]
            for counts in delta.calls.values():
                del counts.keyed[: max(0, len(counts.keyed) - 50_000)]
            del delta.met[: max(0, len(delta.met) - 50_000)]
            for exposure in delta.exposed.values():
                del exposure.keyed[: max(0, len(exposure.keyed) - 50_000)]
        self._sealed = merged[-self._deltas_kept :]

    def _of(self, rollout: str) -> EvidenceDelta:
        if self._delta.rollout != rollout:
            self._sealed.append(self._delta)
            self._delta = EvidenceDelta(rollout)
        return self._delta

    def _count(self, exchange: Exchange) -> None:
        delta = self._of(exchange.rollout)
        delta.answers += 1
        model, candidate = exchange.model, exchange.candidate
        if exchange.status >= 500:
            delta.user_failures += 1
        slot = slot_of(exchange.key) if exchange.key else OWN
        if exchange.weight > 0:
            delta.expose(exchange.weight).add(slot, exchange.chosen)
            if exchange.tried and exchange.status != 400:  # what no model can read is nobody's
                self._meet(delta, exchange, slot)
        if exchange.champion_seconds >= 0:
            seconds, digest = exchange.champion_seconds, model.arm.digest
            delta.call(digest).add(
                seconds,
                failed=exchange.champion_failed,
                slow=seconds > exchange.slow_seconds,
                slot=slot,
                timed=self._is_apart(digest, exchange.at),
            )
        if candidate is not None and exchange.candidate_seconds >= 0:
            seconds, digest = exchange.candidate_seconds, candidate.digest
            delta.call(digest).add(
                seconds,
                failed=exchange.candidate_failed,
                slow=seconds > exchange.slow_seconds,
                slot=slot,
                timed=self._is_apart(digest, exchange.at),
            )
        if exchange.answer is not None and not exchange.fallback:
            self._note_answer(delta, exchange, slot)

    def _meet(self, delta: EvidenceDelta, exchange: Exchange, slot: int) -> None:
        """The key of a trial, and the row whose label may be its outcome."""
        arm = exchange.candidate if exchange.chosen and exchange.candidate is not None else exchange.model.arm
        identities = exchange.row_ids()
        taken = 0 if len(identities) == 1 else slot_of(exchange.id) % len(identities)
        requests = (exchange.id,) if len(identities) == 1 else (exchange.id, identities[taken])
        answer = None if exchange.fallback else exchange.answer
        score = answer.scores[taken] if answer is not None else None
        delta.met.append(Met(exchange.key or exchange.id, slot, arm.digest, requests, score))

    def _note_answer(self, delta: EvidenceDelta, exchange: Exchange, slot: int) -> None:
        """The rows that labels may come for, and the pair of answers where there is one."""
        model, candidate, answer, shadow = exchange.model, exchange.candidate, exchange.answer, exchange.shadow_answer
        if answer is None:
            return
        digest, rows, taken = exchange.answered_by.digest, len(exchange.rows), 0
        copied = candidate.digest if candidate is not None and shadow is not None else ""
        others = shadow.scores if shadow is not None else [None] * rows
        drawn, slices = exchange.weight > 0 or not exchange.rollout, exchange.slices if copied else ()
        if rows == 1:
            values = values_of(slices, exchange.rows[0]) if slices else ()
            outcome = Outcome(exchange.id, digest, answer.scores[0], copied, others[0], slot, drawn, values)
            delta.outcomes.append(outcome)
        else:
            taken = slot_of(exchange.id) % rows
            for index, identity in enumerate(exchange.row_ids()):
                unit = slot if index == taken else NONE
                values = values_of(slices, exchange.rows[index]) if slices else ()
                score = answer.scores[index]
                delta.outcomes.append(Outcome(identity, digest, score, copied, others[index], unit, drawn, values))
        if candidate is None or (exchange.shadow_seconds < 0 and not exchange.shadow_dropped):
            return
        pair = delta.pair(model.arm.digest, candidate.digest)
        if exchange.shadow_dropped:
            pair.dropped += 1
        else:
            pair.calls += 1
            pair.failures += exchange.shadow_failed
            pair.slow += exchange.shadow_seconds > exchange.slow_seconds
        if shadow is not None:
            pair.differences.append(score_difference(answer.scores[taken], shadow.scores[taken], model.scale))
            said, would_say = answer.labels, shadow.labels
            pair.flips.append(said is not None and would_say is not None and said[taken] != would_say[taken])
            pair.slots.append(slot)
            if exchange.slices:
                pair.values.append(values_of(exchange.slices, exchange.rows[taken]))

    def _is_apart(self, digest: str, at: float) -> bool:
        """True when a call is far enough from the last of its model whose latency counted."""
        if at - self._timed.get(digest, 0.0) < SPACING_SECONDS:
            return False
        self._timed[digest] = at
        return True


def wall_clock() -> Callable[[], float]:
    """Unix time that never goes back: read once, then advanced by the monotonic clock."""
    offset = time.time() - time.perf_counter()
    return lambda: offset + time.perf_counter()
