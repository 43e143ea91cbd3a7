"""What the server answers, request by request, in one process and without a network."""

import asyncio
from typing import Any

import pytest
from app_story import INFER, PREDICT, ask, evidence, serve
from asgi_calls import Response, call
from conftest import Bundles
from tiny_models import MODEL, ROW, rows_of

from fairlead.bundle.bundle import fetch_bundle
from fairlead.bundle.predictor import Predictor
from fairlead.records.release import Release
from fairlead.records.rollout import ServingEvidence
from fairlead.serve.routes import HttpApp


def tensors(**changes: Any) -> list[dict[str, Any]]:
    inputs = {
        "distance": {"name": "distance", "shape": [1], "datatype": "FP64", "data": [1089.0]},
        "wind": {"name": "wind", "shape": [1], "datatype": "FP64", "data": [None]},
        "carrier": {"name": "carrier", "shape": [1], "datatype": "BYTES", "data": ["AA"]},
        "at": {"name": "at", "shape": [1], "datatype": "BYTES", "data": ["2013-07-01T08:30:00"]},
    }
    for name, change in changes.items():
        inputs[name] = {**inputs[name], **change}
    return list(inputs.values())


def test_answers_are_those_of_the_bundle_whatever_the_protocol(bundles: Bundles) -> None:
    rows = rows_of(7)
    bundle = fetch_bundle(bundles.store, bundles.first.bundle_uri, bundles.first.digest, bundles.cache)
    expected = Predictor(bundle).predict_rows(rows)

    async def story(app: HttpApp) -> tuple[Response, Response]:
        columns = [
            {"name": name, "shape": [7], "datatype": datatype, "data": [row[name] for row in rows]}
            for name, datatype in (("distance", "FP64"), ("wind", "FP64"), ("carrier", "BYTES"), ("at", "BYTES"))
        ]
        return await call(app, "POST", PREDICT, {"instances": rows}), await call(
            app, "POST", INFER, {"inputs": columns}
        )

    plain, infer = serve(bundles, story)
    assert [p["score"] for p in plain.json()["predictions"]] == expected.scores.tolist()
    assert [p["label"] for p in plain.json()["predictions"]] == expected.labels.tolist()
    score, label = infer.json()["outputs"]
    assert score == {"name": "score", "shape": [7], "datatype": "FP64", "data": expected.scores.tolist()}
    assert label["data"] == expected.labels.tolist()


def test_an_answer_says_which_model_it_is_from(bundles: Bundles) -> None:
    response = serve(bundles, lambda app: call(app, "POST", INFER, {"id": "mine", "inputs": tensors()}))
    document = response.json()
    assert (document["id"], document["model_name"], document["model_version"]) == ("mine", MODEL, "1")
    assert document["parameters"] == {
        "request_id": "mine",
        "model_version": "1",
        "model_digest": bundles.first.digest,
        "arm": "champion",
        "fallback": False,
    }


@pytest.mark.parametrize(
    "change",
    [
        {"distance": {"shape": [1, 1], "data": [[1089.0]]}},
        {"distance": {"shape": [1, 1], "data": [1089.0]}},
        {"distance": {"datatype": "INT64", "data": [1089]}},
        {"distance": {"datatype": "FP32"}},
        {"distance": {"parameters": {"anything": 1}}},
    ],
)
def test_flat_nested_and_narrower_tensors_mean_the_same(bundles: Bundles, change: dict[str, Any]) -> None:
    async def story(app: HttpApp) -> tuple[Response, Response]:
        usual = await call(app, "POST", INFER, {"inputs": tensors()})
        return usual, await call(app, "POST", INFER, {"inputs": tensors(**change)})

    usual, other = serve(bundles, story)
    assert other.json()["outputs"] == usual.json()["outputs"]


def test_only_the_outputs_that_are_asked_for_are_given(bundles: Bundles) -> None:
    body = {"inputs": tensors(), "outputs": [{"name": "label"}]}
    response = serve(bundles, lambda app: call(app, "POST", INFER, body))
    assert [output["name"] for output in response.json()["outputs"]] == ["label"]


BAD_ROWS: list[tuple[str, Any, int, str]] = [
    ("a string for a number", {"instances": [{**ROW, "distance": "far"}]}, 400, "distance"),
    ("a boolean for a number", {"instances": [{**ROW, "distance": True}]}, 400, "distance"),
    ("a list for a number", {"instances": [{**ROW, "distance": [1.0]}]}, 400, "distance"),
    ("a number for a string", {"instances": [{**ROW, "carrier": 7}]}, 400, "carrier"),
    ("no time at all", {"instances": [{**ROW, "at": "yesterday"}]}, 400, "at"),
    ("an impossible date", {"instances": [{**ROW, "at": "2013-02-30T00:00:00"}]}, 400, "at"),
    ("a required field missing", {"instances": [{k: v for k, v in ROW.items() if k != "carrier"}]}, 400, "carrier"),
    ("a required field null", {"instances": [{**ROW, "distance": None}]}, 400, "distance"),
    ("an unknown field", {"instances": [{**ROW, "dep_delay": 5}]}, 400, "dep_delay"),
    ("a bad second row", {"instances": [ROW, {**ROW, "wind": "x"}]}, 400, "wind"),
    ("no rows", {"instances": []}, 400, "instances"),
    ("a row that is a list", {"instances": [[1, 2]]}, 400, "instances"),
    ("no instances", {}, 400, "instances"),
    ("an unknown key", {"instances": [ROW], "extra": 1}, 400, "extra"),
    ("an id that is a number", {"instances": [ROW], "id": 5}, 400, "id"),
    ("an endless id", {"instances": [ROW], "id": "x" * 200}, 400, "id"),
    ("an id with a line break", {"instances": [ROW], "id": "a\nb"}, 400, "id"),
    ("a list", [ROW], 400, "body"),
    ("broken JSON", b'{"instances": [', 400, "body"),
    ("NaN", b'{"instances": [{"distance": NaN}]}', 400, "body"),
    ("a number beyond floats", b'{"instances": [{"distance": 1e999, "carrier": "AA", "at": "2013-01-01"}]}', 400, "*"),
    ("a number beyond float32", {"instances": [{**ROW, "distance": 1e300}]}, 400, "distance"),
    ("nothing", b"", 400, "body"),
    ("a deep nest", b'{"instances":' + b"[" * 1500 + b"]" * 1500 + b"}", 400, "*"),
    ("a lone surrogate", b'{"instances": [{"carrier": "\\ud800"}]}', 400, "*"),
    ("not UTF-8", b'{"instances": ["\xff"]}', 400, "body"),
    ("too large a body", b" " * 5000, 413, "body"),
]


@pytest.mark.parametrize(("body", "status", "field"), [case[1:] for case in BAD_ROWS], ids=[c[0] for c in BAD_ROWS])
def test_bad_rows_are_refused_with_the_field(bundles: Bundles, body: Any, status: int, field: str) -> None:
    response = serve(bundles, lambda app: call(app, "POST", PREDICT, body))
    assert response.status == status
    document = response.json()
    assert document["error"]
    assert document["code"]
    assert field in ("*", document["field"])


BAD_TENSORS: list[tuple[str, Any, str]] = [
    ("no inputs", {}, "inputs"),
    ("inputs that are an object", {"inputs": {}}, "inputs"),
    ("an input without a name", {"inputs": [{"shape": [1]}]}, "inputs"),
    ("an unknown input", {"inputs": [*tensors(), {**tensors()[0], "name": "x"}]}, "x"),
    ("an input twice", {"inputs": [*tensors(), tensors()[0]]}, "distance"),
    ("a wrong datatype", {"inputs": tensors(distance={"datatype": "BYTES"})}, "distance"),
    ("a datatype that is none", {"inputs": tensors(distance={"datatype": 5})}, "distance"),
    ("a float for a string", {"inputs": tensors(carrier={"datatype": "FP64"})}, "carrier"),
    ("a shape that is no list", {"inputs": tensors(distance={"shape": 1})}, "distance"),
    ("a negative shape", {"inputs": tensors(distance={"shape": [-1]})}, "distance"),
    ("a shape of booleans", {"inputs": tensors(distance={"shape": [True]})}, "distance"),
    ("a shape with too many axes", {"inputs": tensors(distance={"shape": [1, 2]})}, "distance"),
    ("a shape that promises more", {"inputs": tensors(distance={"shape": [10**18]})}, "distance"),
    ("data of another length", {"inputs": tensors(distance={"data": [1.0, 2.0]})}, "distance"),
    ("data that is no list", {"inputs": tensors(distance={"data": 1.0})}, "distance"),
    ("uneven data", {"inputs": tensors(distance={"shape": [1, 1], "data": [[1.0, 2.0]]})}, "distance"),
    ("no data", {"inputs": [{"name": "distance", "shape": [1], "datatype": "FP64"}]}, "distance"),
    ("no rows", {"inputs": tensors(distance={"shape": [0], "data": []})}, "distance"),
    ("different numbers of rows", {"inputs": tensors(wind={"shape": [2], "data": [1.0, 2.0]})}, "wind"),
    ("a missing input", {"inputs": tensors()[:2]}, "carrier"),
    ("a null where none may be", {"inputs": tensors(carrier={"data": [None]})}, "carrier"),
    ("an unknown key of an input", {"inputs": tensors(wind={"binary": 1})}, "wind"),
    ("parameters that are a list", {"inputs": tensors(), "parameters": []}, "parameters"),
    ("an unknown output", {"inputs": tensors(), "outputs": [{"name": "logits"}]}, "logits"),
    ("outputs that are names", {"inputs": tensors(), "outputs": ["score"]}, "outputs"),
    ("an unknown key", {"inputs": tensors(), "model": 1}, "model"),
]


@pytest.mark.parametrize(("body", "field"), [case[1:] for case in BAD_TENSORS], ids=[case[0] for case in BAD_TENSORS])
def test_bad_tensors_are_refused_with_the_field(bundles: Bundles, body: Any, field: str) -> None:
    response = serve(bundles, lambda app: call(app, "POST", INFER, body))
    assert (response.status, response.json()["field"]) == (400, field)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/vnd.bentoml+pickle"}, 415),
        ({"content-encoding": "gzip"}, 415),
        ({"inference-header-content-length": "12"}, 415),
        ({"content-length": "50000000"}, 413),
        ({"content-type": "application/json; charset=utf-8"}, 200),
        ({"content-length": "nonsense"}, 200),
    ],
)
def test_headers_decide_before_the_body_is_read(bundles: Bundles, headers: dict[str, str], status: int) -> None:
    response = serve(bundles, lambda app: call(app, "POST", PREDICT, {"instances": [ROW]}, headers))
    assert response.status == status


def test_a_large_body_in_pieces_is_refused_before_it_is_whole(bundles: Bundles) -> None:
    parts = [b" " * 1000] * 50
    response = serve(bundles, lambda app: call(app, "POST", PREDICT, parts=parts))
    assert response.status == 413


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2", 200),
        ("GET", "/v2/health/live", 200),
        ("GET", "/v2/health/ready", 200),
        ("GET", f"/v2/models/{MODEL}", 200),
        ("GET", f"/v2/models/{MODEL}/ready", 200),
        ("GET", f"/v2/models/{MODEL}/versions/1", 200),
        ("GET", f"/v2/models/{MODEL}/versions/1/ready", 200),
        ("GET", f"/v2/models/{MODEL}/versions/9", 404),
        ("GET", "/v2/models/other", 404),
        ("GET", f"/v2/models/{MODEL}/nothing", 404),
        ("GET", "/", 404),
        ("GET", PREDICT, 405),
        ("POST", "/v2", 405),
        ("DELETE", "/fairlead/v1/release", 405),
        ("GET", "/openapi.json", 200),
        ("GET", "/metrics", 200),
        ("HEAD", "/v2/health/ready", 200),
        ("POST", f"/v2/models/{MODEL}/versions/1/predict", 200),
        ("POST", f"/v2/models/{MODEL}/versions/9/predict", 404),
    ],
)
def test_each_path_answers_as_the_protocol_says(bundles: Bundles, method: str, path: str, status: int) -> None:
    body = {"instances": [ROW]} if method == "POST" else None
    response = serve(bundles, lambda app: call(app, method, path, body))
    assert response.status == status
    if "health" in path or path.endswith("/ready"):
        assert response.body == b""
    if status == 405:
        assert response.headers["allow"]


def test_metadata_describes_the_signature(bundles: Bundles) -> None:
    document = serve(bundles, lambda app: call(app, "GET", f"/v2/models/{MODEL}")).json()
    assert document["inputs"][0] == {"name": "distance", "datatype": "FP64", "shape": [-1]}
    assert [output["name"] for output in document["outputs"]] == ["score", "label"]
    assert document["versions"] == ["1"]


@pytest.mark.parametrize("path", ["/fairlead/v1/release", "/fairlead/v1/evidence"])
@pytest.mark.parametrize("header", [{}, {"authorization": "Bearer wrong"}, {"authorization": "secret"}])
def test_control_routes_need_the_token(bundles: Bundles, path: str, header: dict[str, str]) -> None:
    response = serve(bundles, lambda app: call(app, "GET", path, headers=header))
    assert response.status == 401
    assert response.headers["www-authenticate"] == "Bearer"


def test_the_fallback_answers_for_a_champion_that_fails_and_says_so(bundles: Bundles) -> None:
    async def story(app: HttpApp) -> tuple[dict[str, Any], ServingEvidence]:
        return await ask(app, "one"), await evidence(app)

    document, found = serve(bundles, story, Release(MODEL, 1, bundles.fails))
    assert document["parameters"]["fallback"]
    assert document["predictions"] == [{"score": 0.25, "label": "false"}]  # the training split's rate
    assert found.champion is not None
    assert found.champion.failures.events == 1


def test_without_a_fallback_the_answer_is_503_and_counted_as_seen_by_a_user(bundles: Bundles) -> None:
    async def story(app: HttpApp) -> tuple[Response, ServingEvidence]:
        return await call(app, "POST", PREDICT, {"instances": [ROW]}), await evidence(app)

    response, found = serve(bundles, story, Release(MODEL, 1, bundles.fails), fallback="none")
    assert (response.status, response.headers["retry-after"]) == (503, "1")
    assert found.user_failures == 1


def test_one_poisonous_request_fails_alone_in_its_batch(bundles: Bundles) -> None:
    async def story(app: HttpApp) -> list[dict[str, Any]]:
        rows = [{**ROW, "carrier": "AA" if i == 3 else "UA"} for i in range(8)]
        return list(await asyncio.gather(*(ask(app, f"id-{i}", row) for i, row in enumerate(rows))))

    answers = serve(bundles, story, Release(MODEL, 1, bundles.fails))
    assert [i for i, answer in enumerate(answers) if answer["parameters"]["fallback"]] == [3]


def test_a_full_queue_sheds_with_429_and_the_deadline_holds_for_the_rest(bundles: Bundles) -> None:
    async def story(app: HttpApp) -> list[Response]:
        calls = [call(app, "POST", PREDICT, {"instances": [ROW]}) for _ in range(8)]
        return list(await asyncio.gather(*calls))

    release = Release(MODEL, 1, bundles.hangs)
    answers = serve(bundles, story, release, max_queue=4, max_batch=1, deadline_ms=150)
    statuses = sorted(answer.status for answer in answers)
    assert statuses.count(429) >= 3
    assert set(statuses) == {200, 429}
    assert all(a.headers["retry-after"] == "1" for a in answers if a.status == 429)
    assert all(a.json()["parameters"]["fallback"] for a in answers if a.status == 200)


def test_while_the_queue_is_full_requests_are_turned_away_unread_and_counted(bundles: Bundles) -> None:
    target = PREDICT.encode()

    async def story(app: HttpApp) -> tuple[list[bool], Response, ServingEvidence]:
        waiting = [asyncio.ensure_future(call(app, "POST", PREDICT, {"instances": [ROW]})) for _ in range(3)]
        while not app._plane.full:
            await asyncio.sleep(0)
        asked = [(b"POST", target), (b"GET", target), (b"POST", b"/fairlead/v1/feedback"), (b"POST", target + b"?x=1")]
        away = [app.turns_away(method, where) for method, where in asked]
        refused = await call(app, "POST", PREDICT, b"this is not even JSON")
        late = [response.status for response in await asyncio.gather(*waiting)].count(429)
        away.append(app.turns_away(b"POST", target))
        metrics = (await call(app, "GET", "/metrics")).body.decode()
        assert f'fairlead_refused_total{{model="{MODEL}",status="429"}} {2.0 + late}' in metrics
        return away, refused, await evidence(app)

    release = Release(MODEL, 1, bundles.hangs)
    away, refused, found = serve(bundles, story, release, max_queue=2, max_batch=1, deadline_ms=150)
    assert away == [True, False, False, False, False]
    assert (refused.status, refused.headers["retry-after"], refused.json()["code"]) == (429, "1", "overloaded")
    assert found.user_failures == 0


def test_metrics_have_bounded_labels_and_count_by_version_and_arm(bundles: Bundles) -> None:
    async def story(app: HttpApp) -> str:
        for i in range(3):
            await ask(app, f"id-{i}")
        await call(app, "POST", PREDICT, {})
        return (await call(app, "GET", "/metrics")).body.decode()

    text = serve(bundles, story)
    assert f'fairlead_requests_total{{arm="champion",model="{MODEL}",status="200",version="1"}} 3.0' in text
    assert f'fairlead_refused_total{{model="{MODEL}",status="400"}} 1.0' in text
    assert f'fairlead_release_generation{{model="{MODEL}"}} 1.0' in text
    assert f'fairlead_release_generation_wanted{{model="{MODEL}"}} 1.0' in text
    assert f'fairlead_replicas{{model="{MODEL}"}} 1.0' in text
    assert "id-1" not in text


def test_metrics_are_of_all_replicas_or_of_none(bundles: Bundles, monkeypatch: pytest.MonkeyPatch) -> None:
    async def gone(*_: object) -> None:
        raise ConnectionError("the control is gone")

    async def story(app: HttpApp) -> tuple[Response, str]:
        await ask(app, "id-1")
        with monkeypatch.context() as patch:
            patch.setattr(app._server.control, "sync", gone)
            refused = await call(app, "GET", "/metrics")
        return refused, (await call(app, "GET", "/metrics")).body.decode()

    refused, text = serve(bundles, story)
    assert (refused.status, refused.json()["code"]) == (503, "control_gone")
    assert f'fairlead_requests_total{{arm="champion",model="{MODEL}",status="200",version="1"}} 1.0' in text
