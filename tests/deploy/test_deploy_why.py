"""Why a rollout decided: the course of its evidence is bounded, survives the store, and is told in report and text."""

import json
import re
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from deploy_world import CANDIDATE, CHAMPION, MODEL, World, plan

from fairlead.deploy.rollout.course import MAX_LOOKS, MAX_PARTS, noted
from fairlead.deploy.rollout.start import new_rollout
from fairlead.deploy.rollout.why import explain, explain_text
from fairlead.deploy.rollout.why_evidence import part_of
from fairlead.records.codec import from_json, to_json
from fairlead.records.evidence import Interval, MetricVerdict, Verdict
from fairlead.records.rollout import Phase, RolloutRecord
from fairlead.reports.html import MAX_BYTES, render_html
from fairlead.reports.model import Band, Bands
from fairlead.testing.fake_clock import FakeClock
from fairlead.testing.fake_serving import Behaviour
from fairlead.testing.memory_store import MemoryStore

START = datetime.fromisoformat("2030-01-01T00:00:00+00:00")
HEALTHY = Behaviour(failure_rate=0.001)


def fresh_record(phase: Phase = Phase.CANARY) -> RolloutRecord:
    record = new_rollout(MemoryStore(), MODEL, plan(), CHAMPION, CANDIDATE, FakeClock(START), "ann")
    return replace(record, phase=phase, weight=10.0)


def metric(n: int, name: str = "slow_rate", **changes: Any) -> MetricVerdict:
    values: dict[str, Any] = {
        "metric": name,
        "verdict": Verdict.NOT_ENOUGH_EVIDENCE,
        "observed": 0.01,
        "interval": Interval(0.0, 1.0 / max(n, 1) ** 0.5, 0.99),
        "bound": 0.05,
        "n": n,
        "why": "because",
        "needed": None,
        "details": {"log_ratio": -0.001 * n},
        **changes,
    }
    return MetricVerdict(**values)


def look(record: RolloutRecord, n: int, *metrics: MetricVerdict) -> RolloutRecord:
    return noted(replace(record, last_requests=n), metrics or (metric(n),), START + timedelta(milliseconds=n % 10**9))


def bands(record: RolloutRecord) -> list[Band]:
    blocks = [block for section in explain(record).sections for block in section.blocks]
    return [band for block in blocks if isinstance(block, Bands) for band in block.panels]


# --- the course ------------------------------------------------------------------------------------------------------
def test_looks_are_kept_at_geometric_distances() -> None:
    record = fresh_record()
    for n in range(1, 2001):
        record = look(record, n)
    (part,) = record.course
    requests = [kept.requests for kept in part.looks]
    assert requests[0] == 1
    assert len(requests) < 40
    assert all(later >= 1.2 * earlier for earlier, later in pairwise(requests))


def test_a_course_stays_small_whatever_the_traffic() -> None:
    record = fresh_record()
    n = 1
    while n < 10**12:
        record = look(record, n)
        assert len(record.course[-1].looks) <= MAX_LOOKS
        n = max(n + 1, int(n * 1.02))
    (part,) = record.course
    assert (part.looks[0].requests, len(part.looks) > MAX_LOOKS // 3) == (1, True)


def test_a_rollout_of_many_steps_forgets_its_oldest() -> None:
    record = fresh_record()
    for step in range(3 * MAX_PARTS):
        record = look(replace(record, step=step, weight=step / 10), 30)
    assert len(record.course) == MAX_PARTS
    assert record.course[-1].step == 3 * MAX_PARTS - 1


def test_a_look_without_new_requests_changes_nothing() -> None:
    record = look(fresh_record(), 100)
    assert look(record, 100).course == record.course
    assert look(record, 110).course == record.course
    assert look(record, 0).course == record.course
    assert look(replace(record, phase=Phase.PAUSED), 1000).course == record.course


@pytest.mark.parametrize("n", [0, 5])
def test_an_interval_before_the_first_observation_says_nothing(n: int) -> None:
    at_zero = replace(metric(5), n=n, observed=float("nan"), interval=Interval(float("-inf"), 0.25, 0.9), details={})
    points = look(fresh_record(), 7, at_zero).course[0].looks[0].points
    assert points == ((n, None, None, 0.25 if n else None, None),)


def test_the_course_survives_the_store_unchanged() -> None:
    record = look(look(fresh_record(), 30), 3000)
    assert from_json(RolloutRecord, to_json(record)) == record


def test_a_record_from_before_there_was_a_course_is_read() -> None:
    document = json.loads(to_json(fresh_record()))
    del document["course"]
    assert from_json(RolloutRecord, json.dumps(document).encode()).course == ()


def test_a_host_that_takes_over_goes_on_with_the_course() -> None:
    world = World(HEALTHY, the_plan=plan(steps=[10, 50]))
    for requests in (100, 500, 1500):
        world.run(until=lambda r, n=requests: r.phase is Phase.SHADOW and r.last_requests > n)
    record = world.run()
    assert [(part.phase, part.weight) for part in record.course] == [
        ("shadow", 0.0),
        ("canary", 10.0),
        ("canary", 50.0),
    ]
    for part in record.course:
        assert all(earlier.requests < later.requests for earlier, later in pairwise(part.looks))
        assert all(earlier.seconds <= later.seconds for earlier, later in pairwise(part.looks))


def test_an_upper_end_that_is_not_known_yet_is_left_open() -> None:
    early = replace(metric(3, "latency_p50"), details={"upper_known": False})
    ((_, _, low, high, _),) = look(fresh_record(), 3, early).course[0].looks[0].points
    assert (low, high) == (0.0, None)
    assert "∞" in render_html(explain(replace(fresh_record(), last_metrics=(early,), updated_at="")))


# --- the report ------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def promoted() -> RolloutRecord:
    record = World(HEALTHY, the_plan=plan(steps=[10, 50]), labelled=0.3).run()
    assert record.phase is Phase.PROMOTED
    return record


def test_each_decision_is_told_with_the_looks_that_led_to_it(promoted: RolloutRecord) -> None:
    measured = [decision for decision in promoted.decisions if decision.metrics]
    parts = [part_of(promoted, decision) for decision in measured]
    assert [(part.phase, part.weight) for part in parts if part] == [
        (decision.phase_before.value, decision.weight_before) for decision in measured
    ]
    assert len({id(part) for part in parts}) == len(parts)


def test_intervals_narrow_until_the_moment_of_decision(promoted: RolloutRecord) -> None:
    found = bands(promoted)
    assert {"Failed shadow copies", "Slow answers", "Hard failures", "Hard failures: log evidence"} <= {
        band.title for band in found
    }
    rates = ("Failed shadow copies", "Slow answers", "Hard failures", "Labels that change")
    for band in found:
        widths = [p.high - p.low for p in band.points if p.high is not None and p.low is not None]
        assert band.mark is not None
        assert band.mark >= band.points[-1].x
        if band.title in rates:
            assert widths[-1] < widths[0] / 2, band.title
        assert [p.x for p in band.points] == sorted(p.x for p in band.points)


def test_the_page_is_small_and_whole(promoted: RolloutRecord) -> None:
    page = render_html(explain(promoted))
    assert len(page.encode()) <= MAX_BYTES
    assert "The rest of this report was left out" not in page
    assert page.count('<svg class="band"') == len(bands(promoted))
    assert page.count('role="img"') >= len(bands(promoted))
    assert re.search(r"decided by</dt><dd>engine", page)


def test_the_text_tells_who_why_on_what_budget(promoted: RolloutRecord) -> None:
    text = explain_text(promoted)
    assert "by ann" in text
    assert "by engine" in text
    assert "error spent" in text
    assert re.search(r"traffic of version 2: 0 %, 10 % after \d+ s, 50 % after [\d.]+ (s|min), 100 % after", text)
    assert re.search(r"width of the interval [▁▂▃▄▅▆▇█]{3,}", text)


def test_a_record_without_a_course_is_still_explained(promoted: RolloutRecord) -> None:
    bare = replace(promoted, course=())
    assert bands(bare) == []
    assert "Estimates with their intervals" in render_html(explain(bare))
    assert "width of the interval" not in explain_text(bare)


def test_a_rollout_under_way_shows_where_it_is() -> None:
    world = World(HEALTHY, the_plan=plan(steps=[10, 50]))
    record = world.run(until=lambda r: r.phase is Phase.CANARY and r.last_requests > 100)
    assert explain(record).sections[-2].title == "Now"
    assert re.search(r"What can still be expected:\n   \w+: .*by the deadline", explain_text(record))
    open_bands = [band for band in bands(record) if band.mark is None]
    assert {"Slow answers", "Hard failures"} <= {band.title for band in open_bands}
