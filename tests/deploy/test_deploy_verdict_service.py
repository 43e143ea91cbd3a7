"""What a stored rollout answers other controllers in every state that it can be in; the same as Prometheus metrics."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy_world import CANDIDATE, CHAMPION, MODEL, World, plan
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from fairlead.deploy.rollout.start import new_rollout
from fairlead.deploy.verdict_service.answer import answer, requests_needed
from fairlead.deploy.verdict_service.exposition import render
from fairlead.deploy.verdict_service.requests import HOOKS, Question, Refused, peek_token, read_payload, read_query
from fairlead.records.evidence import MetricVerdict, Verdict
from fairlead.records.rollout import Phase, RolloutRecord
from fairlead.testing.fake_clock import FakeClock
from fairlead.testing.fake_serving import Behaviour
from fairlead.testing.memory_store import MemoryStore

K8S = Path(__file__).parents[2] / "k8s"
FAILED = MetricVerdict("failures", Verdict.FAIL, 0.5, None, 0.05, 10, "5 failures in 10 calls: FAIL", None, {})


def a_record(phase: Phase = Phase.CANARY, **changes: Any) -> RolloutRecord:
    record = new_rollout(MemoryStore(), MODEL, plan(), CHAMPION, CANDIDATE, FakeClock(), "ann")
    return replace(record, **{"phase": phase, "weight": 10.0, **changes})


# --- the rule --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("record", "hosted", "wanted", "decision", "reason"),
    [
        (a_record(Phase.STARTING, weight=0.0), True, 100, "wait", "undecided"),
        (a_record(Phase.SHADOW, weight=0.0), True, 1, "wait", "undecided"),
        (a_record(), True, 100, "wait", "undecided"),
        (a_record(), True, 10, "promote", "granted"),
        (a_record(), True, 5, "promote", "granted"),
        (a_record(), True, 10.1, "wait", "undecided"),
        (a_record(), False, 10, "wait", "not_hosted"),
        (a_record(trouble_since="2030-01-01T00:00:00+00:00"), True, 10, "wait", "in_trouble"),
        (a_record(last_metrics=(FAILED,)), True, 10, "rollback", "failed"),
        (a_record(last_metrics=(FAILED,)), False, 10, "rollback", "failed"),
        (a_record(failed=(FAILED,)), True, 10, "rollback", "failed"),
        (a_record(Phase.PAUSED, pause_kind="no_data", pause_reason="no requests"), True, 10, "wait", "paused_no_data"),
        (a_record(Phase.PAUSED, pause_kind="error", pause_reason="gone"), True, 10, "wait", "paused_error"),
        (a_record(Phase.PAUSED, pause_kind="person", failed=(FAILED,)), True, 10, "rollback", "failed"),
        (a_record(Phase.PROMOTING), True, 100, "promote", "promoted"),
        (a_record(Phase.PROMOTING, last_metrics=(FAILED,)), True, 100, "promote", "promoted"),
        (a_record(Phase.WATCHING), False, 100, "promote", "promoted"),
        (a_record(Phase.WATCHING, last_metrics=(FAILED,)), True, 100, "rollback", "failed"),
        (a_record(Phase.PROMOTED), False, 100, "promote", "promoted"),
        (a_record(Phase.ABORTING), True, 1, "rollback", "rolled_back"),
        (a_record(Phase.ABORTED), False, 1, "rollback", "rolled_back"),
    ],
)
def test_each_state_has_one_answer(
    record: RolloutRecord, hosted: bool, wanted: float, decision: str, reason: str
) -> None:
    said = answer(record, hosted=hosted, wanted_percent=wanted)
    assert (said.decision, said.reason) == (decision, reason)
    expected = {"promote": [Verdict.PASS], "rollback": [Verdict.FAIL]}.get(
        decision, [Verdict.NOT_ENOUGH_EVIDENCE, Verdict.ERROR]
    )
    assert said.verdict in expected


@settings(max_examples=300, deadline=None)
@given(
    phase=st.sampled_from(Phase),
    verdicts=st.lists(st.sampled_from([Verdict.PASS, Verdict.NOT_ENOUGH_EVIDENCE, Verdict.ERROR]), max_size=4),
    hosted=st.booleans(),
    weight=st.sampled_from([0.0, 1.0, 50.0]),
    wanted=st.floats(0.001, 100),
)
def test_nothing_but_a_fail_or_a_rollback_rolls_back_and_nothing_is_overtaken(
    phase: Phase, verdicts: list[Verdict], hosted: bool, weight: float, wanted: float
) -> None:
    metrics = tuple(replace(FAILED, verdict=verdict) for verdict in verdicts)
    record = a_record(phase, weight=weight, last_metrics=metrics)
    said = answer(record, hosted=hosted, wanted_percent=wanted)
    assert (said.decision == "rollback") == (phase in (Phase.ABORTING, Phase.ABORTED))
    if said.decision == "promote":
        assert said.granted_percent >= wanted
    ended = phase in (Phase.PROMOTING, Phase.WATCHING, Phase.PROMOTED)
    assert said.decision != "promote" or hosted or ended


def test_a_rollout_is_followed_from_its_start_to_its_end() -> None:
    world = World(Behaviour(failure_rate=0.001), the_plan=plan(steps=[10, 50]))
    said: list[tuple[str, str]] = []

    def note(record: RolloutRecord, _observation: object) -> None:
        now = (answer(record, hosted=True, wanted_percent=10).decision, answer(record, hosted=True).decision)
        said.extend([now] if not said or said[-1] != now else [])

    world.run(on_tick=note)
    assert said == [("wait", "wait"), ("promote", "wait"), ("promote", "promote")]


def test_what_is_still_needed_is_known_only_when_it_is_for_all() -> None:
    waiting = replace(FAILED, verdict=Verdict.NOT_ENOUGH_EVIDENCE, details={"required": True})
    assert requests_needed(a_record(last_metrics=(replace(waiting, needed=70), replace(waiting, needed=20)))) == 70
    assert requests_needed(a_record(last_metrics=(replace(waiting, needed=70), waiting))) is None
    assert requests_needed(a_record(Phase.WATCHING, last_metrics=(replace(waiting, needed=70),))) is None


# --- reading what is asked -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("query", "question"),
    [
        (b"version=12", Question(version=12)),
        (b"version=12&weight=12.5", Question(version=12, wanted_percent=12.5)),
        (b"rollout=0007&model=flights", Question("0007")),
        (b"digest=sha256:ab0", Question(digest="sha256:ab0")),
    ],
)
def test_a_query_names_the_candidate(query: bytes, question: Question) -> None:
    assert read_query(query, MODEL) == question


@pytest.mark.parametrize(
    ("query", "code", "field"),
    [
        (b"", "which_candidate", "version"),
        (b"weight=10", "which_candidate", "version"),
        (b"version=1&rollout=1", "which_candidate", "version"),
        (b"version=1&version=2", "duplicate_parameter", "version"),
        (b"version=0", "bad_parameter", "version"),
        (b"version=-1", "bad_parameter", "version"),
        (b"version=1e3", "bad_parameter", "version"),
        (b"version=%D9%A1", "bad_parameter", "version"),
        (b"version=1_0", "bad_parameter", "version"),
        (b"version=1%0A", "bad_parameter", "version"),
        (b"version=", "bad_parameter", "version"),
        (b"rollout=../../etc/passwd", "bad_parameter", "rollout"),
        (b"rollout=newest", "bad_parameter", "rollout"),
        (b"digest=sha512:ab", "bad_parameter", "digest"),
        (b"version=1&weight=0", "bad_parameter", "weight"),
        (b"version=1&weight=101", "bad_parameter", "weight"),
        (b"version=1&weight=nan", "bad_parameter", "weight"),
        (b"version=1&weight=inf", "bad_parameter", "weight"),
        (b"version=1&weight=-0", "bad_parameter", "weight"),
        (b"verison=1", "unknown_parameter", "verison"),
        (b"version=1&token=x", "unknown_parameter", "token"),
        (b"version=1&model=other", "unknown_model", "model"),
        (b"version", "bad_query", "query"),
        (b"version=%FF", "bad_query", "query"),
        (b"\xff=1", "bad_query", "query"),
        (b"&".join(b"a%d=1" % n for n in range(50)), "bad_query", "query"),
        (b"version=" + b"1" * 5000, "query_too_long", "query"),
    ],
)
def test_a_wrong_query_is_refused_with_a_code(query: bytes, code: str, field: str) -> None:
    with pytest.raises(Refused) as refused:
        read_query(query, MODEL)
    assert (refused.value.code, refused.value.field) == (code, field)
    assert 400 <= refused.value.status < 500


def test_a_flagger_payload_names_the_candidate_in_its_metadata() -> None:
    known = b'{"name":"a","namespace":"b","phase":"Progressing","checksum":"c","new":1,'
    body = known + b'"metadata":{"version":"3","token":"t"}}'
    assert read_payload(body, MODEL) == (Question(version=3), "t")
    assert peek_token(body) == "t"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"NaN", "invalid_json"),
        (b"\xff\xfe", "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b"null", "no_metadata"),
        (b"[]", "no_metadata"),
        (b"{}", "no_metadata"),
        (b'{"metadata":null}', "no_metadata"),
        (b'{"metadata":{"version":3}}', "no_metadata"),
        (b'{"metadata":{"version":"3","rollout":"1"}}', "which_candidate"),
        (b'{"metadata":{"versoin":"3"}}', "unknown_parameter"),
        (b'{"metadata":{"version":"3","weight":"1e2"}}', "bad_parameter"),
        (b'{"metadata":{"\\ud800":"3"}}', "unknown_parameter"),
    ],
)
def test_a_wrong_payload_is_refused_with_a_code(body: bytes, code: str) -> None:
    with pytest.raises(Refused) as refused:
        read_payload(body, MODEL)
    assert refused.value.code == code
    assert peek_token(body) == ""


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_question_or_refused(data: bytes) -> None:
    for read in (read_query, read_payload):
        refused = None
        try:
            read(data, MODEL)
        except Refused as error:
            refused = error
        assert refused is None or (400 <= refused.status < 500 and refused.code)


def test_only_hooks_that_a_verdict_can_answer_are_served() -> None:
    assert HOOKS == ("confirm-traffic-increase", "confirm-promotion", "rollback")


# --- Prometheus ------------------------------------------------------------------------------------------------------
def samples(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Each sample by its name and its labels but the model's."""
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        assert family.documentation
        for sample in family.samples:
            found[sample.name, frozenset(sample.labels.items() - {("model", MODEL)})] = sample.value
    return found


def at(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return f"fairlead_rollout_{name}", frozenset(labels.items())


def test_a_rollout_is_exposed_with_its_evidence() -> None:
    world = World(Behaviour(failure_rate=0.001), the_plan=plan(steps=[10, 50]))
    record = world.run(until=lambda r: r.phase is Phase.CANARY and r.last_requests > 100)
    found = samples(render(MODEL, record, hosted=True))
    failures = next(metric for metric in record.last_metrics if metric.metric == "failures")
    assert failures.interval is not None
    assert found[at("open")] == 1
    assert found[at("info", rollout="0001", champion="1", candidate="2")] == 1
    assert found[at("weight_percent", version="2")] == 10
    assert found[at("hosted", version="2")] == 1
    its = {"version": "2", "metric": "failures"}
    assert found[at("confidence_lower", **its)] == pytest.approx(failures.interval.low)
    assert found[at("confidence_upper", **its)] == pytest.approx(failures.interval.high)
    assert found[at("log_evidence", **its)] == pytest.approx(failures.details["log_ratio"], rel=1e-4)
    assert found[at("observations", **its)] == failures.n
    assert found[at("verdict", **its, verdict=failures.verdict.value)] == 1
    for name, values in (("phase", Phase), ("decision", ("promote", "rollback", "wait"))):
        states = [found[at(name, version="2", **{name: str(value)})] for value in values]
        assert sorted(states) == [0.0] * (len(states) - 1) + [1.0]
    assert found[at("decision", version="2", decision="wait")] == 1


def test_alerts_ask_for_metrics_that_exist() -> None:
    known = {name for name, _ in samples(render(MODEL, a_record(), hosted=True))}
    rules = [d for d in yaml.safe_load_all((K8S / "monitoring.yaml").read_text()) if d["kind"] == "PrometheusRule"]
    (rule,) = [d for d in rules if d["metadata"]["name"] == "fairlead-rollout"]
    asked = set(re.findall(r"fairlead_rollout_[a-z_]+", str(rule["spec"])))
    assert asked == {"fairlead_rollout_phase", "fairlead_rollout_open", "fairlead_rollout_hosted"}
    assert asked <= known


def test_without_a_rollout_only_that_is_said() -> None:
    assert samples(render(MODEL, None, hosted=False)) == {at("open"): 0.0}


def test_numbers_that_are_not_known_are_left_out_and_names_are_escaped() -> None:
    odd = replace(FAILED, metric='slice "a\\b"\n', observed=None, bound=None, n=0)
    found = samples(render(MODEL, a_record(last_metrics=(odd,)), hosted=False))
    assert found[at("observations", version="2", metric='slice "a\\b"\n')] == 0
    unknown = {"fairlead_rollout_estimate", "fairlead_rollout_confidence_lower", "fairlead_rollout_log_evidence"}
    assert not unknown & {name for name, _ in found}
