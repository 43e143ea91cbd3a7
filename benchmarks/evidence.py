"""What one look at a rollout costs after few and after many observations, and how much its record holds.

    python benchmarks/evidence.py --rounds 5

A look: read the servers' counters into the record, judge every metric, decide. It is asked of the same step after
1,000 and after 1,000,000 requests of the candidate, with latencies spread over their whole histogram, labels, pairs and
a split; no candidate is decided on, so nothing is cut short. Milliseconds of processor time, which other work on the
machine does not change. Memory: the bytes of the stored record, and of the tables
that count each key once.
"""

import argparse
import json
import statistics
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from fairlead.deploy.rollout.engine import step, wish
from fairlead.deploy.rollout.outlook import outlook
from fairlead.deploy.rollout.plan import plan_from_spec
from fairlead.deploy.rollout.start import new_rollout
from fairlead.records.codec import to_json
from fairlead.records.evidence import LatencyCounts, RunningMean, RunningRate, latency_bin
from fairlead.records.release import Arm
from fairlead.records.rollout import ArmEvidence, Observation, PairEvidence, Phase, RolloutRecord
from fairlead.serve.units import SLOTS
from fairlead.spec.deploy import Rollout
from fairlead.spec.serve import Serve
from fairlead.testing.fake_clock import FakeClock
from fairlead.testing.memory_store import MemoryStore

CHAMPION, CANDIDATE = Arm(1, "a", "sha256:a"), Arm(2, "b", "sha256:b")
START = datetime(2030, 1, 1, tzinfo=UTC)
LIMIT_MS = 5.0


def arm(which: Arm, n: int, median_ms: float) -> ArmEvidence:
    """`n` calls: 0.6 % fail, 4.9 % are slow, log-normal latencies."""
    values = np.random.default_rng(7).lognormal(np.log(median_ms / 1000), 0.6, 20_000)
    found, counts = np.unique([latency_bin(value) for value in values], return_counts=True)
    scaled = {int(index): int(count * n / len(values)) for index, count in zip(found, counts, strict=True)}
    return ArmEvidence(
        which.digest, n, RunningRate(n, round(0.006 * n)), RunningRate(n, round(0.049 * n)),
        loss=RunningMean(n=n, total=0.12 * n, variance_process=0.02 * n), latency=LatencyCounts.of(scaled),
        attempts=RunningRate(n, round(0.006 * n)),
    )  # fmt: skip


def look(record: RolloutRecord, n: int) -> Observation:
    """What the servers counted after `n` requests of the candidate, just where no metric is decided."""
    mean = RunningMean(n=n, total=0.02 * n, variance_process=0.002 * n)
    pairs = PairEvidence(
        CHAMPION.digest, CANDIDATE.digest, RunningRate(n, round(0.02 * n)), mean, requests=n,
        shadow_failures=RunningRate(n, round(0.006 * n)), shadow_slow=RunningRate(n, 0),
    )  # fmt: skip
    return Observation(
        wish(record), candidate_ready=True, champion=arm(CHAMPION, 9 * n, 20.0), candidate=arm(CANDIDATE, n, 30.0),
        pairs=pairs, retraining_noise=0.02, requests_per_second=200.0, split=RunningRate(10 * n, n),
    )  # fmt: skip


def canary() -> RolloutRecord:
    """A rollout in its first canary step."""
    declared = Rollout.model_validate({"shadow": "off", "steps": [10, 50], "canary": {"min_requests": 10**8}})
    plan = plan_from_spec(declared, Serve())
    record = new_rollout(MemoryStore(), "bench", plan, CHAMPION, CANDIDATE, FakeClock(START), "bench")
    empty = look(record, 0)
    for second in (1, 2):
        record, _ = step(
            record, Observation(**{**_fields(empty), "release": wish(record)}), START + timedelta(seconds=second)
        )
    if record.phase is not Phase.CANARY:
        raise SystemExit(f"the rollout is in {record.phase.value}, not in its canary")
    return record


def _fields(observation: Observation) -> dict[str, Any]:
    return {name: getattr(observation, name) for name in observation.__dataclass_fields__}


def measure(n: int, rounds: int) -> dict[str, float]:
    """Milliseconds of one look, and of the outlook that a person asks for, after `n` requests."""
    record = canary()
    looks, outlooks, size = [], [], 0
    for number in range(20 * rounds):
        now = START + timedelta(seconds=10 + number)
        observation = look(record, n + number)
        started = time.process_time()
        record, _ = step(record, observation, now)
        looks.append(time.process_time() - started)
        started = time.process_time()
        outlook(record, 200.0, now)
        outlooks.append(time.process_time() - started)
        size = len(to_json(record, indent=False))
    if record.phase is not Phase.CANARY:
        raise SystemExit(
            f"after {n:,} requests the rollout is in {record.phase.value}: {record.decisions[-1].sentence}"
        )
    return {
        "look ms": round(1000 * statistics.median(looks), 3),
        "look p99 ms": round(1000 * statistics.quantiles(looks, n=100)[98], 3),
        "outlook ms": round(1000 * statistics.median(outlooks), 3),
        "record bytes": size,
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    figures = {f"{n:,} requests": measure(n, rounds) for n in (1_000, 1_000_000)}
    few, many = figures["1,000 requests"], figures["1,000,000 requests"]
    goals = [
        {"name": "look after 1,000,000 requests, ms", "value": many["look ms"], "goal": f"<= {LIMIT_MS:g}",
         "met": many["look ms"] <= LIMIT_MS},
        {"name": "record after 1,000,000 requests / after 1,000", "value": many["record bytes"] / few["record bytes"],
         "goal": "<= 1.2", "met": many["record bytes"] <= 1.2 * few["record bytes"]},
    ]  # fmt: skip
    print(json.dumps({"rounds": rounds, "looks": figures, "bytes of a table of keys": SLOTS // 8, "goals": goals}))


if __name__ == "__main__":
    main()
