"""Servers and their traffic, simulated: the control routes of a Fairlead server, driven by a clock and a seed.

It keeps the server's promises that a rollout relies on: a release is taken at once and applied later, a lower
generation (or the same with other content) is refused, the candidate answers only when it is loaded, a failed candidate
call is answered by the champion, a restart begins all counts anew.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from fairlead.errors import ServerUnreachable, StaleGeneration
from fairlead.records.evidence import LatencyCounts, RunningMean, RunningRate, latency_bin
from fairlead.records.release import Release
from fairlead.records.rollout import ArmEvidence, PairEvidence, ServingEvidence
from fairlead.records.trial import KeyOutcomes
from fairlead.testing.fake_clock import FakeClock


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How one bundle behaves. `difference` is the mean absolute score difference to any other bundle, `loss` the mean
    loss per labelled answer, `load_error` why it never comes up, `latency_ms` the time of nine calls in ten; the tenth
    takes three times as long. `outcome`: the share of its keys with a good outcome, in an A/B test or a bandit;
    it comes at once."""

    failure_rate: float = 0.0
    slow_rate: float = 0.0
    flip_rate: float = 0.02
    difference: float = 0.02
    loss: float = 0.1
    load_error: str = ""
    latency_ms: float = 2.0
    outcome: float = 0.1


@dataclass(slots=True)
class _Counts:
    requests: int = 0
    failures: int = 0
    slow: int = 0
    loss: RunningMean = field(default_factory=RunningMean)
    latency: dict[int, int] = field(default_factory=dict)
    keys: int = 0
    good: int = 0

    def add_latency(self, seconds: float, number: int) -> None:
        index = latency_bin(seconds)
        self.latency[index] = self.latency.get(index, 0) + number


class FakeServing:
    """One served model. `rate` is its requests per second, `labelled` the share of them that get a label at once.

    Over all restarts, `answers` counts answers by digest, `candidate_calls` live calls of candidates, `calls` all calls
    by digest, `keys` the keys of trials by digest, `pairs` copies by (champion, candidate), `starts` how often counting
    began anew, and `weights` what was applied: (time, candidate digest, weight)."""

    def __init__(
        self,
        clock: FakeClock,
        release: Release,
        behaviours: Mapping[str, Behaviour] | None = None,
        *,
        rate: float = 300.0,
        labelled: float = 0.0,
        seed: int = 7,
        load_seconds: float = 0.5,
        apply_seconds: float = 0.1,
        stored: Callable[[], Release | None] | None = None,
    ) -> None:
        self.rate, self.labelled = rate, labelled
        self.behaviours = dict(behaviours or {})
        self.reachable = True
        self.answers: dict[str, int] = {}
        self.candidate_calls: dict[str, int] = {}
        self.calls: dict[str, int] = {}
        self.keys: dict[str, int] = {}
        self.pairs: dict[tuple[str, str], int] = {}
        self.starts = 0
        self.weights: list[tuple[float, str, float]] = []
        self._clock, self._rng = clock, np.random.default_rng(seed)
        self._load_seconds, self._apply_seconds, self._stored = load_seconds, apply_seconds, stored
        self._owed = 0.0
        self._wanted: Release = release
        self._begin(release)
        clock.on_advance(self._live)

    # --- control routes ----------------------------------------------------------------------------------------------
    def put_release(self, release: Release) -> None:
        """PUT /fairlead/v1/release."""
        self._check_reachable()
        wanted = self._wanted
        if release.generation < wanted.generation:
            raise StaleGeneration(f"generation {release.generation} is older than {wanted.generation}")
        if release.generation == wanted.generation:
            if release != wanted:
                raise StaleGeneration(f"generation {release.generation} exists with other content")
            return
        if (release.candidate and release.candidate.digest) != (wanted.candidate and wanted.candidate.digest):
            self._loaded_at = self._clock.monotonic() + self._load_seconds
        if release.rollout != wanted.rollout:
            self._start_counts()
        self._wanted, self._applied_at = release, self._clock.monotonic() + self._apply_seconds

    def evidence(self) -> ServingEvidence:
        """GET /fairlead/v1/evidence."""
        self._check_reachable()
        self._converge()
        applied = self._applied
        candidate = applied.candidate
        return ServingEvidence(
            release=applied,
            candidate_ready=self._ready(),
            candidate_error=self._behaviour(candidate.digest).load_error if candidate else "",
            champion=self._arm(applied.champion.digest),
            candidate=self._arm(candidate.digest) if candidate else None,
            pairs=_copy(self._pair(applied.champion.digest, candidate.digest)) if candidate else None,
            requests_per_second=self.rate,
            instance=self._instance,
        )

    # --- what a test does to it --------------------------------------------------------------------------------------
    def restart(self) -> None:
        """The process dies and comes back: counts begin anew, the release is the stored one, the candidate loads."""
        stored = self._stored() if self._stored is not None else None
        self._begin(stored or self._wanted)

    @property
    def ready(self) -> bool:
        """True when the candidate that is applied answers."""
        self._converge()
        return self._ready()

    @property
    def wanted(self) -> Release:
        """The release that was taken last."""
        return self._wanted

    @property
    def applied(self) -> Release:
        """The release that routes requests now."""
        self._converge()
        return self._applied

    # --- traffic -----------------------------------------------------------------------------------------------------
    def _live(self, seconds: float) -> None:
        # What arrived in this time met the release that was applied when it began.
        self._owed += self.rate * seconds
        number = int(self._owed)
        self._owed -= number
        if number:
            self._answer(self._applied, number)
        self._converge()

    def _answer(self, release: Release, number: int) -> None:
        rng = self._rng
        champion, candidate = release.champion.digest, release.candidate
        live = int(rng.binomial(number, release.candidate_weight / 100)) if candidate and self._ready() else 0
        failed = 0
        if candidate is not None and live:
            failed = self._call(candidate.digest, live)
            self.candidate_calls[candidate.digest] = self.candidate_calls.get(candidate.digest, 0) + live
            self.answers[candidate.digest] = self.answers.get(candidate.digest, 0) + live - failed
        self._call(champion, number - live + failed)
        self.answers[champion] = self.answers.get(champion, 0) + number - live + failed
        if candidate is not None and release.outcome is not None and self._ready() and release.candidate_weight > 0:
            self._expose(candidate.digest, live)
            self._expose(champion, number - live)
        if candidate is not None and release.shadow_percent and self._ready():
            self._shadow(champion, candidate.digest, int(rng.binomial(number - live, release.shadow_percent / 100)))

    def _call(self, digest: str, number: int) -> int:
        behaviour, counts = self._behaviour(digest), self._counts.setdefault(digest, _Counts())
        failed = int(self._rng.binomial(number, behaviour.failure_rate))
        self.calls[digest] = self.calls.get(digest, 0) + number
        counts.requests += number
        counts.failures += failed
        counts.slow += int(self._rng.binomial(number, behaviour.slow_rate))
        tail = counts.requests // 10 - (counts.requests - number) // 10
        counts.add_latency(behaviour.latency_ms / 1000, number - tail)
        counts.add_latency(3 * behaviour.latency_ms / 1000, tail)
        labels = int(self._rng.binomial(number, self.labelled))
        counts.loss.add((self._rng.random(labels) < behaviour.loss).astype(float).tolist())
        return failed

    def _expose(self, digest: str, number: int) -> None:
        """Each request is a key of its own, whose outcome is there at once: no (0) or yes (1)."""
        counts = self._counts.setdefault(digest, _Counts())
        counts.keys += number
        counts.good += int(self._rng.binomial(number, self._behaviour(digest).outcome))
        self.keys[digest] = self.keys.get(digest, 0) + number

    def _shadow(self, champion: str, candidate: str, number: int) -> None:
        behaviour = self._behaviour(candidate)
        pair = self._pair(champion, candidate)
        self.pairs[champion, candidate] = self.pairs.get((champion, candidate), 0) + number
        failed = int(self._rng.binomial(number, behaviour.failure_rate))
        answered = number - failed
        difference = behaviour.difference
        values = self._rng.beta(1.0, (1 - difference) / difference, answered) if difference > 0 else np.zeros(answered)
        pair.difference.add(values.tolist())
        pair.flips.n += answered
        pair.flips.events += int(self._rng.binomial(answered, behaviour.flip_rate))
        pair.shadow_failures.n += number
        pair.shadow_failures.events += failed
        pair.shadow_slow.n += number
        pair.shadow_slow.events += int(self._rng.binomial(number, behaviour.slow_rate))
        shift = behaviour.loss - self._behaviour(champion).loss
        labels = int(self._rng.binomial(answered, self.labelled))
        pair.loss_difference.add((shift + 0.05 * self._rng.standard_normal(labels)).tolist())

    # --- state -------------------------------------------------------------------------------------------------------
    def _begin(self, release: Release) -> None:
        self._wanted = self._applied = release
        self._applied_at = self._loaded_at = self._clock.monotonic() + self._load_seconds
        self._start_counts()

    def _start_counts(self) -> None:
        self.starts += 1
        self._instance = f"server {self.starts}"
        self._counts: dict[str, _Counts] = {}
        self._pairs: dict[tuple[str, str], PairEvidence] = {}

    def _converge(self) -> None:
        if self._applied != self._wanted and self._clock.monotonic() >= self._applied_at:
            self._applied = self._wanted
            candidate = self._applied.candidate
            weight = self._applied.candidate_weight
            self.weights.append((self._clock.monotonic(), candidate.digest if candidate else "", weight))

    def _ready(self) -> bool:
        candidate, wanted = self._applied.candidate, self._wanted.candidate
        if candidate is None or self._behaviour(candidate.digest).load_error:
            return False
        leaving = wanted is None or wanted.digest != candidate.digest
        return leaving or self._clock.monotonic() >= self._loaded_at

    def _behaviour(self, digest: str) -> Behaviour:
        return self.behaviours.get(digest, Behaviour())

    def _arm(self, digest: str) -> ArmEvidence:
        counts = self._counts.get(digest, _Counts())
        latency = LatencyCounts.of(counts.latency)
        return ArmEvidence(
            digest=digest,
            requests=counts.requests,
            failures=RunningRate(counts.requests, counts.failures),
            slow=RunningRate(counts.requests, counts.slow),
            loss=replace(counts.loss),
            latency_p50_ms=latency.quantile_ms(0.5),
            latency_p99_ms=latency.quantile_ms(0.99),
            latency=latency,
            keys=self._keys_of(counts) if self._wanted.outcome is not None else None,
        )

    @staticmethod
    def _keys_of(counts: _Counts) -> KeyOutcomes:
        n = counts.keys
        return KeyOutcomes(n, n, n, RunningMean(n=n, total=counts.good, variance_process=n / 4))

    def _pair(self, champion: str, candidate: str) -> PairEvidence:
        return self._pairs.setdefault((champion, candidate), PairEvidence(champion, candidate))

    def _check_reachable(self) -> None:
        if not self.reachable:
            raise ServerUnreachable("the server does not answer", where="http://fake")


def _copy(pair: PairEvidence) -> PairEvidence:
    return replace(
        pair,
        flips=replace(pair.flips),
        difference=replace(pair.difference),
        loss_difference=replace(pair.loss_difference),
        shadow_failures=replace(pair.shadow_failures),
        shadow_slow=replace(pair.shadow_slow),
    )
