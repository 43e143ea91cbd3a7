"""From exchanges to evidence, metrics and the request log, off the request path and in small slices."""

import time
from collections.abc import Callable

from fairlead.serve.evidence import EvidenceDelta, Outcome, merge_deltas, score_difference
from fairlead.serve.exchange import Exchange
from fairlead.serve.metrics import Metrics
from fairlead.serve.request_log import RequestLog

_SLICE = 32


class Recorder:
    """Collects what happened. Lives in one event loop; never blocks."""

    def __init__(self, metrics: Metrics, log: RequestLog | None, *, deltas_kept: int = 64) -> None:
        self._metrics, self._log = metrics, log
        self._finished: list[Exchange] = []
        self._delta = EvidenceDelta("")
        self._sealed: list[EvidenceDelta] = []
        self._deltas_kept = deltas_kept

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
        if exchange.champion_seconds >= 0:
            seconds = exchange.champion_seconds
            delta.call(model.arm.digest).add(
                seconds, failed=exchange.champion_failed, slow=seconds > exchange.slow_seconds
            )
        if candidate is not None and exchange.candidate_seconds >= 0:
            seconds = exchange.candidate_seconds
            delta.call(candidate.digest).add(
                seconds, failed=exchange.candidate_failed, slow=seconds > exchange.slow_seconds
            )
        answer, shadow = exchange.answer, exchange.shadow_answer
        if answer is None or exchange.fallback:
            return
        digest = exchange.answered_by.digest
        if candidate is None or (exchange.shadow_seconds < 0 and not exchange.shadow_dropped):
            for identity, score in zip(exchange.row_ids(), answer.scores, strict=True):
                delta.outcomes.append(Outcome(identity, digest, score))
            return
        pair = delta.pair(model.arm.digest, candidate.digest)
        if exchange.shadow_dropped:
            pair.dropped += 1
        else:
            pair.calls += 1
            pair.failures += exchange.shadow_failed
            pair.slow += exchange.shadow_seconds > exchange.slow_seconds
        if shadow is None:
            for identity, score in zip(exchange.row_ids(), answer.scores, strict=True):
                delta.outcomes.append(Outcome(identity, digest, score))
            return
        for index, identity in enumerate(exchange.row_ids()):
            score, other = answer.scores[index], shadow.scores[index]
            delta.outcomes.append(Outcome(identity, digest, score, candidate.digest, other))
            pair.differences.append(score_difference(score, other, model.scale))
            if answer.labels is not None and shadow.labels is not None:
                pair.flips.append(answer.labels[index] != shadow.labels[index])
            else:
                pair.flips.append(False)


def wall_clock() -> Callable[[], float]:
    """Unix time that never goes back: read once, then advanced by the monotonic clock."""
    offset = time.time() - time.perf_counter()
    return lambda: offset + time.perf_counter()
