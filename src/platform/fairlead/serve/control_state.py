"""What should be live, what is, and what was counted: the state that all replicas of one served model share.

Arithmetic without I/O: `control.py` stores the wish and brings candidates up and down.
"""

import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fairlead.records.release import Arm, Release
from fairlead.records.rollout import ArmEvidence, ServingEvidence
from fairlead.records.trial import WORDS
from fairlead.serve.evidence_sums import EvidenceSums
from fairlead.serve.messages import Labels, Orders, ReleaseRefused, ReplicaReport
from fairlead.serve.metric_sums import Counted, MetricSums, add_counted
from fairlead.serve.quarantine import Quarantines
from fairlead.serve.trial import Posted, Trial

REPLICA_SILENT_SECONDS = 5.0
_RATE_WINDOW_SECONDS = 5.0
_RELEASES_KEPT = 16


@dataclass(slots=True)
class _Replica:
    generation: int
    seen: float
    error: str
    candidate: str
    gauges: dict[str, float]


class ControlState:
    """The shared state of one served model. Not thread-safe: one event loop owns it."""

    def __init__(
        self,
        release: Release,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        outcomes_kept: int = 100_000,
    ) -> None:
        self._monotonic = monotonic
        self._process = uuid.uuid4().hex[:12]
        self._releases: dict[int, Release] = {release.generation: release}
        self._replicas: dict[str, _Replica] = {}
        self._recent: deque[tuple[float, int]] = deque()
        self._total = 0
        self._counted: Counted = {}
        self._quarantines = Quarantines()
        self.wanted = release
        self.candidate_ready = False
        self.candidate_error = ""
        self.problem = ""
        self._trial = Trial(release.outcome) if release.outcome is not None else None
        self._sums = EvidenceSums(release.rollout, outcomes_kept)
        self._sums.label_horizon, self._sums.columns = release.label_horizon_seconds, release.slices

    # --- releases ----------------------------------------------------------------------------------------------------
    def check(self, release: Release) -> bool:
        """True when `release` is new, False when it is already wanted. Raises ReleaseRefused."""
        wanted = self.wanted
        if release.model != wanted.model:
            raise ReleaseRefused(409, "other_model", f"this server serves {wanted.model}, not {release.model}")
        if release.generation < wanted.generation:
            raise ReleaseRefused(
                409, "stale_generation", f"generation {release.generation} is older than {wanted.generation}"
            )
        if release.generation == wanted.generation:
            if release == wanted:
                return False
            raise ReleaseRefused(409, "stale_generation", f"generation {release.generation} exists with other content")
        return True

    def adopt(self, release: Release) -> None:
        """Make `release` the wish. A new rollout starts with fresh sums."""
        fresh = release.rollout != self.wanted.rollout
        other = _digest(release.candidate) != _digest(self.wanted.candidate)
        if _traffic(release) != _traffic(self.wanted):  # each key counts again
            self._sums.count_keys_again()
        self.wanted = release
        self._releases[release.generation] = release
        while len(self._releases) > _RELEASES_KEPT:
            del self._releases[min(self._releases)]
        if other:
            self.candidate_ready, self.candidate_error = False, ""
        if fresh:
            self._sums.start(release.rollout)
            self._trial = None
        if release.outcome is not None and (self._trial is None or self._trial.rule != release.outcome):
            self._trial = Trial(release.outcome)
        self._sums.label_horizon, self._sums.columns = release.label_horizon_seconds, release.slices

    def applied(self) -> Release | None:
        """The release that every live replica confirmed, or None before the first did."""
        self._forget_silent()
        if not self._replicas:
            return None
        return self._releases.get(min(replica.generation for replica in self._replicas.values()))

    def candidate_callable(self) -> bool:
        """True when the wanted candidate answers and every live replica can call it."""
        self._forget_silent()
        digest = _digest(self.wanted.candidate)
        replicas = self._replicas.values()
        return self.candidate_ready and bool(replicas) and all(replica.candidate == digest for replica in replicas)

    # --- replicas ----------------------------------------------------------------------------------------------------
    def sync(self, report: ReplicaReport) -> Orders:
        """Take what a replica tells and give it its orders."""
        now = self._monotonic()
        self._replicas[report.replica] = _Replica(report.generation, now, report.error, report.candidate, report.gauges)
        add_counted(self._counted, report.counted)
        for delta in report.deltas:
            self._total += delta.answers
            if delta.answers:
                self._recent.append((now, delta.answers))
            self._sums.count(delta, self.wanted.candidate_weight, now)
            if self._trial is not None and delta.rollout == self.wanted.rollout:
                self._trial.meet(delta.met, now)
        self._sums.mature(now)
        for candidate, strikes in report.strikes.items():
            for strike in strikes:
                self._quarantines.of(candidate).strike(strike)
        candidate = _digest(self.wanted.candidate)
        return Orders(self.wanted, self.candidate_ready, self._quarantines.of(candidate).held() if candidate else ())

    def leave(self, replica: str) -> None:
        """Forget a replica that ends."""
        self._replicas.pop(replica, None)

    def metrics(self) -> MetricSums:
        """What ``GET /metrics`` tells of all replicas."""
        self._forget_silent()
        gauges = [replica.gauges for replica in self._replicas.values() if replica.gauges]
        return MetricSums(self.wanted.generation, self._counted, gauges)

    def _forget_silent(self) -> None:
        limit = self._monotonic() - REPLICA_SILENT_SECONDS
        for name in [name for name, replica in self._replicas.items() if replica.seen < limit]:
            del self._replicas[name]

    # --- evidence ----------------------------------------------------------------------------------------------------
    def feedback(self, labels: Labels) -> dict[str, int]:
        """Join labels with answers by request id. Only labels that are joined for the first time are evidence."""
        if self._trial is not None:
            for identity, label in labels.items:
                self._trial.label(identity, label, labels.scale, self._monotonic())
        return self._sums.feedback(labels, self._monotonic())

    def outcomes(self, posted: Sequence[Posted]) -> dict[str, int]:
        """Join outcomes with the keys of the A/B test or the bandit; without one, none is declared."""
        if self._trial is None:
            return dict.fromkeys(WORDS, 0) | {"not_declared": len(posted)}
        return self._trial.outcomes(posted, self._monotonic())

    def evidence(self) -> ServingEvidence:
        """Everything that was counted for the release that is applied."""
        self._sums.mature(self._monotonic())
        if self._trial is not None:
            self._trial.ripen(self._monotonic())
        applied = self.applied() or self.wanted
        candidate, sums = applied.candidate, self._sums
        return ServingEvidence(
            release=applied,
            candidate_ready=self.candidate_callable(),
            candidate_error=self.candidate_error,
            champion=self._arm(applied.champion),
            candidate=self._arm(candidate) if candidate else None,
            pairs=sums.pair(applied.champion.digest, candidate.digest) if candidate else None,
            user_failures=sums.user_failures,
            requests_per_second=self._rate(),
            instance=f"{self._process}-{sums.epoch}",
            requests_total=self._total,
            replicas=len(self._replicas),
            feedback=sums.feedback_counts(),
            error="; ".join(self._errors()),
            split=sums.split() if 0 < self.wanted.candidate_weight < 100 else None,
            outcomes=dict(self._trial.counts) if self._trial is not None else {},
        )

    def _arm(self, arm: Arm) -> ArmEvidence:
        keys = self._trial.of(arm.digest) if self._trial is not None else None
        return replace(self._sums.arm(arm.digest), keys=keys)

    def _errors(self) -> list[str]:
        problem = [self.problem] if self.problem else []
        return problem + sorted({replica.error for replica in self._replicas.values() if replica.error})

    def _rate(self) -> float:
        now = self._monotonic()
        while self._recent and self._recent[0][0] < now - _RATE_WINDOW_SECONDS:
            self._recent.popleft()
        return sum(count for _, count in self._recent) / _RATE_WINDOW_SECONDS

    def view(self) -> dict[str, Any]:
        """What ``GET /fairlead/v1/release`` answers, as records."""
        applied = self.applied()
        errors = self._errors()
        if self.candidate_error:
            errors.append(self.candidate_error)
        return {
            "wanted": self.wanted,
            "applied": applied,
            "candidate_ready": self.candidate_callable(),
            "replicas": len(self._replicas),
            "error": "; ".join(errors),
        }


def _traffic(release: Release) -> tuple[str, str, float, float]:
    other = _digest(release.candidate)
    return release.champion.digest, other, release.candidate_weight, release.shadow_percent


def _digest(arm: Arm | None) -> str:
    return arm.digest if arm else ""
