"""Both containers that a SeldonDeployment may hold, as pods: Fairlead's own server (V2), and seldon-core's microservice
(Seldon's V1). Each loads its bundle from the store, verifies it, and answers what the predictor says itself."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pod_memory import container_memory
from seldon_world import METRICS, Hosted, render, wrapper_component
from serving_world import FIELDS, IMAGE, MODEL, TAG

from fairlead.bundle.bundle import Bundle, publish
from fairlead.bundle.predictor import Prediction, Predictor
from fairlead.kube import Cluster
from fairlead.kube.kinds import PODS, SECRETS, SERVICE_ACCOUNTS
from fairlead.store import open_store
from fairlead.testing.bundles import sample_table, sealed_bundle
from fairlead.testing.seaweedfs import S3Server

BATCH = sample_table(64, seed=11)
CREATED = {"Secret": SECRETS, "ServiceAccount": SERVICE_ACCOUNTS}
MOST_BYTES = 300e6
LAST_BITS = 1e-15


class World:
    """A published bundle, and what it says itself."""

    def __init__(self, cluster: Cluster, s3: S3Server, folder: Path) -> None:
        self.cluster, self.s3, self.folder = cluster, s3, folder
        self.store = f"s3://{s3.bucket}/{cluster.namespace}"
        self.manifest = sealed_bundle(folder / "bundle", model=MODEL, seed=4)
        self.uri = publish(open_store(self.store, folder), folder / "bundle", MODEL)
        self.wrong = f"sha256:{'0' * 64}"
        self.expected: Prediction = Predictor(Bundle.load(folder / "bundle")).predict_table(BATCH)

    def own_component(self, digest: str) -> dict[str, Any]:
        """The champion's component as the chart renders it; what else it renders is created, but no CRD is here."""
        values = {
            "model": MODEL,
            "backend": "seldon",
            "champion": {"version": 1, "bundleUri": self.uri, "digest": digest},
            "image": {"repository": IMAGE, "tag": TAG, "pullPolicy": "Never"},
            "store": {"uri": self.store, "endpoint": self.s3.endpoint, "existingSecret": "store"},
            "networkPolicy": {"enabled": False},
            "serve": {"log": {"enabled": False}},
        }
        component: dict[str, Any] = {}
        for document in render(values, self.cluster, self.folder):
            kind = document["kind"]
            if kind == "SeldonDeployment":
                (component,) = document["spec"]["predictors"][0]["componentSpecs"]
            elif kind in CREATED and self.cluster.get(CREATED[kind], document["metadata"]["name"]) is None:
                self.cluster.create(CREATED[kind], document)
        return component

    def wrapper(self, digest: str) -> dict[str, Any]:
        """The component with seldon-core's microservice."""
        return wrapper_component(self.store, self.s3.endpoint, 1, self.uri, digest)


@pytest.fixture(scope="module")
def world(cluster: Cluster, cluster_s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cluster_s3.environment.items():
            patch.setenv(name, value)
        yield World(cluster, cluster_s3, tmp_path_factory.mktemp("seldon"))


@pytest.fixture(scope="module")
def own(world: World) -> Hosted:
    hosted = Hosted(world.cluster, "own").start(world.own_component(world.manifest.digest))
    print(f"\nFairlead's own server: ready after {hosted.wait():.1f} s")
    return hosted


@pytest.fixture(scope="module")
def wrapper(world: World) -> Hosted:
    hosted = Hosted(world.cluster, "wrapper").start(world.wrapper(world.manifest.digest))
    print(f"\nseldon-core's microservice: ready after {hosted.wait():.1f} s")
    return hosted


def columns() -> list[list[Any]]:
    return [BATCH.column(name).to_pylist() for name in FIELDS]


def message(**more: Any) -> dict[str, Any]:
    rows = [list(row) for row in zip(*columns(), strict=True)]
    return {"data": {"names": list(FIELDS), "ndarray": rows}, **more}


# --- V2: Fairlead's own server ---------------------------------------------------------------------------------------
def test_the_own_server_answers_v2(own: Hosted, world: World) -> None:
    with own.client() as client:
        assert client.get("/v2/health/live").status_code == 200
        assert client.get("/v2/health/ready").status_code == 200
        assert client.get(f"/v2/models/{MODEL}/ready").status_code == 200
        metadata = client.get(f"/v2/models/{MODEL}").json()
        assert (metadata["name"], metadata["versions"]) == (MODEL, ["1"])
        assert [tensor["name"] for tensor in metadata["inputs"]] == list(FIELDS)
        types = {tensor["name"]: tensor["datatype"] for tensor in metadata["inputs"]}
        inputs = [
            {"name": name, "datatype": types[name], "shape": [len(values)], "data": values}
            for name, values in zip(FIELDS, columns(), strict=True)
        ]
        answer = (
            client.post(f"/v2/models/{MODEL}/infer", json={"id": "one", "inputs": inputs}).raise_for_status().json()
        )
    assert answer["id"] == "one"
    assert answer["parameters"]["model_digest"] == world.manifest.digest
    outputs = {output["name"]: output["data"] for output in answer["outputs"]}
    np.testing.assert_array_equal(outputs["score"], world.expected.scores)
    assert world.expected.labels is not None
    assert outputs["label"] == world.expected.labels.tolist()


@pytest.mark.parametrize("body", [b"x", b"[]", b"{}", b'{"inputs": [{"name": "nope"}]}', b'{"inputs": 5}'])
def test_the_own_server_refuses_with_a_code(own: Hosted, body: bytes) -> None:
    with own.client() as client:
        answer = client.post(f"/v2/models/{MODEL}/infer", content=body, headers={"content-type": "application/json"})
    assert 400 <= answer.status_code < 500
    assert answer.json()["code"]
    assert answer.json()["error"]


# --- V1: seldon-core's microservice ----------------------------------------------------------------------------------
@pytest.mark.parametrize("path", ["/api/v1.0/predictions", "/predict"])
def test_the_microservice_answers_v1(wrapper: Hosted, world: World, path: str) -> None:
    with wrapper.client() as client:
        answer = client.post(path, json=message(meta={"puid": "one"})).raise_for_status().json()
    assert answer["data"]["names"] == ["no", "yes"]
    scores = np.asarray(answer["data"]["ndarray"])
    # The last bit may differ: `exp` of the image's numpy 1 is not that of numpy 2.
    np.testing.assert_allclose(scores[:, 1], world.expected.scores, rtol=LAST_BITS, atol=0)
    np.testing.assert_allclose(scores[:, 0], 1.0 - world.expected.scores, rtol=LAST_BITS, atol=0)
    tags = answer["meta"]["tags"]
    assert (tags["model"], tags["version"], tags["digest"]) == (MODEL, 1, world.manifest.digest)
    assert world.expected.labels is not None
    assert tags["labels"] == world.expected.labels.tolist()
    assert answer["meta"]["puid"] == "one"
    assert answer["meta"]["requestPath"] == {"flights": "localhost/fairlead-seldon-wrapper:0.1.0"}


def test_the_microservice_tells_health_and_metadata(wrapper: Hosted, world: World) -> None:
    with wrapper.client() as client:
        assert client.get("/health/ping").text == "pong"
        assert client.get("/health/status").status_code == 200
        metadata = client.get("/api/v1.0/metadata").raise_for_status().json()
    assert (metadata["name"], metadata["versions"]) == (MODEL, ["1"])
    assert metadata["custom"]["digest"] == world.manifest.digest
    assert metadata["inputs"][0]["schema"]["names"] == list(FIELDS)


def test_the_microservice_counts_rows_and_rewards(wrapper: Hosted) -> None:
    def counted() -> dict[str, float]:
        with wrapper.client(METRICS) as client:
            lines = client.get("/metrics").raise_for_status().text.splitlines()
        samples = [line for line in lines if not line.startswith("#")]
        assert all('deployment_name="flights"' in line and 'predictor_name="champion"' in line for line in samples)
        return {line.split("{")[0]: float(line.rsplit(" ", 1)[1]) for line in samples}

    feedback = {"request": message(), "reward": 2.5, "truth": {"data": {"ndarray": [["yes"]]}}}
    with wrapper.client() as client:
        client.post("/api/v1.0/predictions", json=message()).raise_for_status()
        client.post("/api/v1.0/feedback", json={**feedback, "reward": 1.0}).raise_for_status()
        before = counted()
        client.post("/api/v1.0/predictions", json=message()).raise_for_status()
        answer = client.post("/api/v1.0/feedback", json=feedback).raise_for_status().json()
        after = counted()
    assert answer["meta"]["tags"]["model"] == MODEL
    assert after["fairlead_rows_total"] - before["fairlead_rows_total"] == BATCH.num_rows
    assert after["seldon_api_model_feedback_total"] - before["seldon_api_model_feedback_total"] == 1
    assert after["seldon_api_model_feedback_reward_total"] - before["seldon_api_model_feedback_reward_total"] == 2.5
    assert after["fairlead_predict_duration_seconds_count"] > before["fairlead_predict_duration_seconds_count"]


@pytest.mark.parametrize(
    ("path", "body", "status", "reason"),
    [
        ("/api/v1.0/predictions", b"x", 400, "invalid_json"),
        ("/api/v1.0/predictions", b"[]", 400, "invalid_json"),
        ("/api/v1.0/predictions", b"[" * 100_000, 400, "invalid_json"),
        ("/api/v1.0/predictions", b'{"data": 5}', 400, "invalid_field"),
        ("/api/v1.0/predictions", b'{"strData": "a"}', 400, "invalid_field"),
        ("/api/v1.0/predictions", b'{"data": {"ndarray": []}}', 400, "no_rows"),
        ("/api/v1.0/predictions", b'{"data": {"ndarray": [[1], [2, 3]]}}', 400, "wrong_shape"),
        ("/api/v1.0/predictions", b'{"data": {"ndarray": [["far", 1, "AA"]]}}', 400, "wrong_type"),
        ("/api/v1.0/predictions", b'{"data": {"ndarray": [[NaN, 1, "AA"]]}}', 400, "not_finite"),
        ("/api/v1.0/predictions", b'{"data": {"ndarray": [[1, 1, "AA"]]}, "meta": 5}', 400, "invalid_field"),
        ("/api/v1.0/predictions?json=%7B", b"", 400, "invalid_json"),
        ("/api/v1.0/predictions", b" " * 11_000_000, 413, "request_entity_too_large"),
        ("/predict", b'{"data": {"tensor": {"shape": [1, 3], "values": [1]}}}', 400, "wrong_shape"),
        ("/api/v1.0/feedback", b'{"reward": "much"}', 400, "wrong_type"),
        ("/api/v1.0/feedback", b'{"nope": 1}', 400, "MICROSERVICE_BAD_DATA"),  # seldon-core's own
        ("/transform-input", b'{"data": {"ndarray": [[1], [2, 3]]}}', 404, "not_found"),
        ("/nowhere", b"{}", 405, "method_not_allowed"),
    ],
)
def test_the_microservice_refuses_with_a_code(
    wrapper: Hosted, path: str, body: bytes, status: int, reason: str
) -> None:
    with wrapper.client() as client:
        answer = client.post(path, content=body, headers={"content-type": "application/json"})
        told = answer.json()["status"]
        assert (answer.status_code, told["reason"]) == (status, reason)
        assert told["info"]
        assert client.get("/health/ping").status_code == 200


# --- both ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("which", ["own", "wrapper"])
def test_a_bundle_that_is_not_what_was_asked_for_is_never_served(world: World, which: str) -> None:
    component = world.own_component(world.wrong) if which == "own" else world.wrapper(world.wrong)
    hosted = Hosted(world.cluster, f"{which}-wrong").start(component)
    ended = hosted.ended()
    log = hosted.log()
    assert ended["exitCode"] == 5, log
    assert "FL-501" in log
    assert world.wrong in log


def test_both_run_as_they_should(world: World, own: Hosted, wrapper: Hosted) -> None:
    for pod in world.cluster.list(PODS):
        assert pod["spec"]["securityContext"]["runAsUser"] == 10001
        for container in pod["spec"]["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"]
    for hosted in (own, wrapper):
        (pod,) = hosted.pods()
        assert [status["restartCount"] for status in pod["status"]["containerStatuses"]] == [0]


def test_both_stay_small(world: World, own: Hosted, wrapper: Hosted) -> None:
    names = {hosted.pods()[0]["metadata"]["name"] for hosted in (own, wrapper)}
    deadline = time.monotonic() + 90
    measured: dict[str, Any] = {}
    while set(measured) != names and time.monotonic() < deadline:
        measured = {each.pod: each for each in container_memory(world.cluster) if each.pod in names and each.rss}
        time.sleep(1)
    print("\n" + "\n".join(map(str, measured.values())))
    assert set(measured) == names
    assert all(0 < each.working_set < MOST_BYTES for each in measured.values())
