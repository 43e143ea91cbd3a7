"""The unit of evidence: where keys and spacing keep the error rates, and where they do not."""

import math

import numpy as np
import pytest

from fairlead.deploy.statistics import rates, two_sample
from fairlead.deploy.statistics.quantiles import Limit, compare_quantile_counts
from fairlead.records.evidence import latency_bin
from fairlead.records.release import Arm, Release
from fairlead.serve.control_state import ControlState
from fairlead.serve.evidence import EvidenceDelta, Outcome
from fairlead.serve.messages import Labels, ReplicaReport
from fairlead.serve.units import NONE, OWN, SLOTS, SPACING_SECONDS, Seen, slot_of

SEED = 50_412
CHAMPION, CANDIDATE = Arm(1, "a", "sha256:a"), Arm(2, "b", "sha256:b")
MARGIN, ALPHA, RUNS = 0.02, 0.05, 200
MIXTURE = rates.Mixture.around(MARGIN)


@pytest.fixture
def rng() -> np.random.Generator:
    print(f"seed {SEED}")
    return np.random.default_rng(SEED)


def slack(bound: float, runs: int) -> float:
    return bound + 4 * math.sqrt(bound * (1 - bound) / runs)


# --- clustered keys --------------------------------------------------------------------------------------------------
def stream(rng: np.random.Generator, rate: float, requests: int, keys: int) -> tuple[np.ndarray, np.ndarray]:
    """Failures by request and whether each is its key's first. A share `rate` of the keys always fails, the others
    never; a few keys send most requests."""
    failing = rng.random(keys) < rate
    sent = (keys * rng.random(requests) ** 2).astype(int)
    first = np.zeros(requests, dtype=bool)
    first[np.unique(sent, return_index=True)[1]] = True
    return failing[sent], first


def wrong_verdicts(rng: np.random.Generator, *, by_key: bool) -> float:
    """How often a candidate at the margin is judged in some way at one of 40 looks: each of them is an error."""
    requests, wrong = 6000, 0
    looks = np.unique(np.geomspace(50, requests, 40).astype(int)) - 1
    for _ in range(RUNS):
        arms = []
        for rate in (0.05 + MARGIN, 0.05):
            failed, first = stream(rng, rate, requests, keys=300)
            counted = first if by_key else np.ones_like(first)
            arms += [np.cumsum(counted)[looks], np.cumsum(failed & counted)[looks]]
        above = two_sample.is_above(*arms, MARGIN, ALPHA / 2, MIXTURE).any()
        within = two_sample.is_within(*arms, MARGIN, ALPHA / 2, MIXTURE).any()
        wrong += bool(above | within)
    return wrong / RUNS


def test_counted_by_key_clustered_requests_keep_the_budget_and_by_request_they_do_not(rng: np.random.Generator) -> None:
    assert wrong_verdicts(rng, by_key=True) <= slack(ALPHA, RUNS)
    assert wrong_verdicts(rng, by_key=False) > 2 * ALPHA, "else the rule would not be needed"


# --- latencies that depend on each other -----------------------------------------------------------------------------
CALLS_PER_SECOND = 100.0
FIRST = latency_bin(0.001)
BINS = latency_bin(1.0) - FIRST


def autocorrelated(rng: np.random.Generator, phi: float, calls: int, runs: int, median: float) -> np.ndarray:
    """log-normal latencies of an AR(1) process, in seconds: [runs, calls]."""
    noise = rng.standard_normal((runs, calls))
    noise[:, 1:] *= math.sqrt(1 - phi**2)
    for call in range(1, calls):
        noise[:, call] += phi * noise[:, call - 1]
    return median * np.exp(0.4 * noise)


def wrong_quantiles(rng: np.random.Generator, phi: float, quantile: float, every: int) -> float:
    """How often a candidate at its limit is judged in some way: each verdict is an error."""
    runs, calls = 100, 6000
    looks = np.unique(np.geomspace(20, calls // every, 15).astype(int))
    running = []
    for median in (0.0125, 0.010):
        values = autocorrelated(rng, phi, calls, runs, median)[:, ::every]
        bins = np.clip(np.floor(40 * np.log(values)).astype(int) - FIRST, 0, BINS - 1)
        counts = np.zeros((runs, len(looks), BINS), dtype=np.int64)
        block = np.searchsorted(looks, np.arange(bins.shape[1]), side="right")
        for run in range(runs):
            kept = block < len(looks)
            np.add.at(counts[run], (block[kept], bins[run][kept]), 1)
        running.append(np.cumsum(counts, axis=1))
    found = compare_quantile_counts(running[0], running[1], FIRST, quantile, Limit(1.25))
    bound = -math.log(ALPHA / 2)
    return float(((found.worse >= bound) | (found.within >= bound)).any(axis=1).mean())


@pytest.mark.parametrize("quantile", [0.5, 0.95])
def test_spaced_latencies_keep_the_budget_where_the_dependence_is_shorter(
    rng: np.random.Generator, quantile: float
) -> None:
    """At 100 calls a second and a correlation of 0.8 from call to call, a tenth of a second leaves 0.1."""
    every = round(SPACING_SECONDS * CALLS_PER_SECOND)
    assert wrong_quantiles(rng, 0.8, quantile, every) <= slack(ALPHA, 100)


def test_slow_spells_longer_than_the_spacing_break_the_budget_of_the_median(rng: np.random.Generator) -> None:
    """Where the rule does not hold: 0.995 from call to call is 0.95 over the spacing, a spell of two seconds."""
    assert wrong_quantiles(rng, 0.995, 0.5, round(SPACING_SECONDS * CALLS_PER_SECOND)) > 2 * ALPHA


# --- counting --------------------------------------------------------------------------------------------------------
def canary(generation: int = 2, weight: float = 10.0) -> Release:
    return Release("m", generation, CHAMPION, CANDIDATE, weight, 0.0, rollout="r")


class Server:
    """A control that one replica reports to."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.state = ControlState(Release("m", 1, CHAMPION), monotonic=lambda: self.now)
        self.state.adopt(canary())

    def tell(self, delta: EvidenceDelta, replica: str = "one") -> None:
        self.state.sync(ReplicaReport(replica, self.state.wanted.generation, [delta], candidate=CANDIDATE.digest))

    def calls(self, keys: list[str], *, failed: bool = False, replica: str = "one") -> None:
        delta = EvidenceDelta("r")
        for key in keys:
            delta.call(CANDIDATE.digest).add(0.01, failed=failed, slow=False, slot=slot_of(key) if key else OWN)
        self.tell(delta, replica)

    @property
    def candidate(self):
        found = self.state.evidence().candidate
        assert found is not None
        return found


def test_a_key_counts_once_under_a_release_whichever_replica_it_meets() -> None:
    server = Server()
    server.calls(["ann", "ann", "bob"], failed=True)
    server.calls(["ann", "eve"], replica="two")
    assert server.candidate.requests == 5
    assert (server.candidate.failures.n, server.candidate.failures.events) == (3, 2)
    assert server.candidate.latency.n == 3
    server.state.adopt(canary(3, 50.0))
    server.calls(["ann"])
    assert server.candidate.failures.n == 4, "the next step is another test"


def test_a_key_is_tried_once_a_minute_for_faults_that_start_late() -> None:
    server = Server()
    server.calls(["ann"] * 50, failed=True)
    assert (server.candidate.tried.n, server.candidate.tried.events) == (1, 1), "a burst of retries is one observation"
    server.now += 61
    server.calls(["ann"])
    assert server.candidate.tried.n == 2
    assert server.candidate.failures.n == 1


def test_request_ids_that_the_server_made_up_count_each() -> None:
    server = Server()
    server.calls([""] * 20)
    assert (server.candidate.requests, server.candidate.failures.n, server.candidate.tried.n) == (20, 20, 20)


def test_pairs_count_once_a_key_but_all_copies_fill_the_plan() -> None:
    server = Server()
    delta = EvidenceDelta("r")
    pair = delta.pair(CHAMPION.digest, CANDIDATE.digest)
    for key in ("ann", "ann", "bob"):
        pair.calls += 1
        pair.differences.append(0.5)
        pair.flips.append(True)
        pair.slots.append(slot_of(key))
    server.tell(delta)
    pairs = server.state.evidence().pairs
    assert pairs is not None
    assert (pairs.requests, pairs.flips.n, pairs.flips.events, pairs.difference.n) == (3, 2, 2, 2)


def test_labels_of_a_key_and_of_further_rows_have_their_say_once() -> None:
    server = Server()
    delta = EvidenceDelta("r")
    slots = {"r1": slot_of("ann"), "r2": slot_of("ann"), "r3/0": OWN, "r3/1": NONE}
    delta.outcomes += [Outcome(name, CANDIDATE.digest, 0.5, slot=slot) for name, slot in slots.items()]
    server.tell(delta)
    counts = server.state.feedback(Labels([(name, 1.0) for name in slots]))
    assert counts["joined"] == 4
    assert server.candidate.loss.n == 2


def test_labels_that_are_unknown_repeated_or_changed_are_counted_apart_and_are_no_evidence() -> None:
    server = Server()
    delta = EvidenceDelta("r")
    delta.outcomes.append(Outcome("r1", CANDIDATE.digest, 0.5))
    server.tell(delta)
    server.state.feedback(Labels([("r1", 1.0), ("r1", 1.0), ("r1", 0.0), ("nobody", 1.0)]))
    counts = {name: count for name, count in server.state.evidence().feedback.items() if count}
    assert counts == {"joined": 1, "unknown": 1, "duplicate": 1, "changed": 1}
    assert server.candidate.loss.n == 1


def test_exposures_count_keys_at_the_present_weight() -> None:
    server = Server()
    delta = EvidenceDelta("r")
    for key, chosen in (("ann", True), ("ann", True), ("bob", False), ("", False)):
        delta.expose(10.0).add(slot_of(key) if key else OWN, chosen)
    delta.expose(5.0).add(OWN, True)
    server.tell(delta)
    split = server.state.evidence().split
    assert split is not None
    assert (split.n, split.events) == (3, 1), "of the old weight nothing counts"
    server.state.adopt(canary(3, 50.0))
    assert server.state.evidence().split.n == 0


def test_slots_are_even_stable_and_full_tables_only_lose_evidence(rng: np.random.Generator) -> None:
    assert slot_of("ann") == slot_of("ann")
    slots = np.array([slot_of(f"key {number}") for number in range(20_000)])
    assert np.histogram(slots, 10, (0, SLOTS))[0].min() > 1800
    seen = Seen()
    counted = [seen.first("m", int(slot)) for slot in rng.integers(0, SLOTS, 50_000)]
    assert 0.96 < np.mean(counted) < 1
    assert seen.first("m", OWN)
    assert seen.first("m", OWN)
    assert not seen.first("m", NONE)
