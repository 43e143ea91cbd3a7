"""Replaying a policy on what a rollout recorded, and reading base rates from a request log."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deploy_world import CANDIDATE, CHAMPION, MODEL, World, plan

from fairlead.deploy.rehearsal.recorded import Recording, base_from, read_recording
from fairlead.deploy.rehearsal.replay import replay
from fairlead.deploy.rehearsal.world import BaseRates
from fairlead.records.rollout import Phase, RolloutRecord
from fairlead.testing.fake_serving import Behaviour
from fairlead.testing.memory_store import MemoryStore

POLICY: dict[str, Any] = {"canary": {"latency": "off"}}


def recorded(behaviour: Behaviour | None = None) -> RolloutRecord:
    """A rollout that the engine hosted on simulated servers."""
    return World(behaviour, the_plan=plan(**POLICY)).run()


def rows_of(
    record: RolloutRecord, *, difference: float = 0.02, slow: float = 0.0, per_second: float = 300.0
) -> Recording:
    """The log that servers would have written meanwhile: pairs in the shadow, the candidate's share in the canary."""
    rng = np.random.default_rng(8)
    begun = datetime.fromisoformat(record.started_at).timestamp()
    seconds = np.arange(begun, datetime.fromisoformat(record.updated_at).timestamp(), 1 / per_second)
    moves = [(datetime.fromisoformat(d.at).timestamp(), d) for d in record.decisions]
    phases = np.array([max(i for i, (at, _) in enumerate(moves) if at <= second + 1e-9) for second in seconds])
    shadow = np.array([moves[i][1].phase_after is Phase.SHADOW for i in phases])
    weight = np.array([d.weight_after / 100 if d.phase_after is Phase.CANARY else 0.0 for _, d in moves])[phases]
    mine = rng.random(len(seconds)) < weight
    score = rng.random(len(seconds)) * 0.5
    latency = np.where(mine & (rng.random(len(seconds)) < slow), 900.0, 9.0)
    return Recording(
        seconds=seconds,
        arm=np.where(mine, "candidate", "champion"),
        digest=np.where(mine, CANDIDATE.digest, CHAMPION.digest),
        latency_ms=latency,
        status=np.full(len(seconds), 200.0),
        fallback=np.zeros(len(seconds), dtype=bool),
        score=score,
        shadow=np.where(shadow, score + difference, np.nan),
        label=np.full(len(seconds), ""),
        label_time=np.full(len(seconds), np.nan),
    )


def test_the_policy_that_was_used_decides_again_what_it_decided() -> None:
    record = recorded()
    assert record.phase is Phase.PROMOTED
    found = replay(record, record.plan, rows_of(record), None)
    assert (found.ended, found.recorded_ended) == ("promoted", "promoted")
    assert found.seconds == pytest.approx(found.recorded_seconds, rel=0.1)
    assert [d.phase_after for d in found.decisions][-2:] == [Phase.PROMOTING, Phase.PROMOTED]


def test_a_broken_candidate_is_taken_back_again_on_the_counts_of_the_record() -> None:
    record = recorded(Behaviour(failure_rate=0.5))
    found = replay(record, plan(**POLICY, shadow={"min_requests": 50}), rows_of(record), None)
    assert (found.ended, found.recorded_ended) == ("aborted", "aborted")


def test_a_stricter_policy_decides_otherwise_and_says_when() -> None:
    record = recorded()
    strict = plan(**POLICY, shadow={"max_score_difference": 0.01})
    found = replay(record, strict, rows_of(record), None)
    assert found.ended == "aborted"
    assert found.seconds < found.recorded_seconds
    assert found.candidate_requests == 0
    assert "mean score difference" in found.decisions[-2].sentence
    careful = plan(canary={"latency": "off", "max_slow_rate": 0.02})
    slow = replay(record, careful, rows_of(record, slow=0.2), None)
    assert slow.ended == "aborted"


def test_a_policy_that_wants_more_than_was_recorded_ends_undecided() -> None:
    record = recorded()
    found = replay(record, plan(**POLICY, shadow={"min_requests": 10**6}), rows_of(record), None)
    assert found.ended == "undecided"
    assert "shadow 100 %" in found.status


def test_labels_count_in_the_order_in_which_they_came() -> None:
    record = recorded()
    rows = rows_of(record, difference=0.4)
    worse = Recording(
        **{name: getattr(rows, name) for name in Recording.__slots__ if name not in ("label", "label_time")},
        label=np.full(len(rows), "false"),
        label_time=rows.seconds + 2.0,
    )
    lenient = plan(canary={"latency": "off"}, shadow={"max_score_difference": 0.9})
    assert replay(record, lenient, rows, "true").ended == "promoted"
    judged = replay(record, lenient, worse, "true")
    assert judged.ended == "aborted"
    assert "labelled pairs" in judged.decisions[-2].sentence


def test_base_rates_come_from_the_log_where_it_says_something() -> None:
    store = MemoryStore()
    start = datetime(2030, 1, 1, tzinfo=UTC)
    number = 600
    requests = pa.table(
        {
            "request_id": [f"r{k}" for k in range(number)],
            "time": pa.array([start + timedelta(seconds=k / 20) for k in range(number)], pa.timestamp("us", tz="UTC")),
            "arm": ["champion"] * number,
            "digest": ["sha256:a"] * number,
            "latency_ms": [300.0 if k % 10 == 0 else 5.0 for k in range(number)],
            "status": pa.array([500 if k % 50 == 0 else 200 for k in range(number)], pa.int16()),
            "fallback": [False] * number,
            "score": [0.5] * number,
            "label": ["true"] * number,
            "shadow_score": pa.array([None] * number, pa.float64()),
        }
    )
    labels = pa.table(
        {
            "time": pa.array(
                [start + timedelta(seconds=k / 20 + 7) for k in range(0, number, 2)], pa.timestamp("us", tz="UTC")
            ),
            "request_id": [f"r{k}" for k in range(0, number, 2)],
            "label": ["true"] * (number // 2),
        }
    )
    for name, table in (("requests", requests), ("feedback", labels)):
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        store.write(f"logs/{MODEL}/{name}/20300101T000100-x-000001.parquet", sink.getvalue().to_pybytes())
    recording = read_recording(store, MODEL)
    assert recording is not None
    base = base_from(recording, 200.0, BaseRates())
    assert base.per_second == pytest.approx(20, rel=0.01)
    assert base.slow_rate == pytest.approx(0.1, rel=0.3)
    assert base.failure_rate == pytest.approx(0.02, rel=0.3)
    assert base.labelled == pytest.approx(0.5)
    assert base.label_seconds == pytest.approx(7.0)
    assert read_recording(store, MODEL, since="2031-01-01T00:00:00+00:00") is None
    assert read_recording(MemoryStore(), MODEL) is None
