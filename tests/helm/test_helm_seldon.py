"""What Seldon's webhooks and controllers ask of its resources, as far as it is written down: its CRDs cannot be had, so
fields and rules are spelt out here."""

from typing import Any

import pytest
from chart_world import CANDIDATE, SETS, ChartRefused, merged, only, render

V1 = [name for name, values in SETS.items() if values.get("backend") == "seldon"]
V2 = [name for name, values in SETS.items() if values.get("backend") == "seldon-v2"]
SPEC = {"protocol", "annotations", "predictors"}
PREDICTOR = {"name", "replicas", "traffic", "shadow", "labels", "graph", "componentSpecs"}
GRAPH = {"name", "type", "endpoint", "children"}
MODEL = {"storageUri", "secretName", "requirements", "replicas", "minReplicas", "maxReplicas", "memory", "logger"}
EXPERIMENT = {"default", "resourceType", "candidates", "mirror"}


@pytest.mark.parametrize("name", V1)
def test_core_v1(name: str) -> None:
    document = only(render(SETS[name]), "SeldonDeployment")
    spec = document["spec"]
    assert document["apiVersion"] == "machinelearning.seldon.io/v1"
    assert set(spec) <= SPEC
    assert spec["protocol"] == "v2"
    names = [predictor["name"] for predictor in spec["predictors"]]
    assert len(set(names)) == len(names)
    for predictor in spec["predictors"]:
        assert set(predictor) <= PREDICTOR
        assert type(predictor["traffic"]) is int
        assert 0 <= predictor["traffic"] <= 100
        graph = predictor["graph"]
        assert set(graph) == GRAPH
        assert (graph["type"], graph["children"]) == ("MODEL", [])
        assert set(graph["endpoint"]) == {"type", "service_host", "httpPort"}
        (component,) = predictor["componentSpecs"]
        assert set(component) <= {"metadata", "spec", "hpaSpec", "kedaSpec"}
        (container,) = component["spec"]["containers"]
        assert container["name"] == graph["name"]
        if "hpaSpec" in component:
            assert set(component["hpaSpec"]) == {"minReplicas", "maxReplicas", "metricsv2"}
    shadows = [predictor for predictor in spec["predictors"] if predictor.get("shadow")]
    percent = SETS[name].get("traffic", {}).get("shadowPercent", 0)
    assert [predictor["traffic"] for predictor in shadows] == ([percent] if percent else [])
    assert sum(predictor["traffic"] for predictor in spec["predictors"] if not predictor.get("shadow")) == 100


@pytest.mark.parametrize("name", V2)
def test_core_v2(name: str) -> None:
    documents = render(SETS[name])
    models = [document for document in documents if document["kind"] == "Model"]
    for model in models:
        assert model["apiVersion"] == "mlops.seldon.io/v1alpha1"
        assert set(model["spec"]) <= MODEL
        assert model["spec"]["storageUri"].startswith("s3://")
    experiments = [document["spec"] for document in documents if document["kind"] == "Experiment"]
    assert len(experiments) == len(models) - 1
    for spec in experiments:
        assert set(spec) <= EXPERIMENT
        assert spec["resourceType"] == "model"
        known = {model["metadata"]["name"] for model in models}
        assert spec["default"] in {candidate["name"] for candidate in spec["candidates"]}
        assert {candidate["name"] for candidate in spec["candidates"]} <= known
        assert sum(candidate["weight"] for candidate in spec["candidates"]) == 100
        if "mirror" in spec:
            assert spec["mirror"]["name"] in known
            assert 0 < spec["mirror"]["percent"] <= 100


def test_all_to_the_candidate_keeps_the_default_of_an_experiment() -> None:
    everything = {"candidate": CANDIDATE, "traffic": {"candidateWeight": 100}}
    predictors = only(render(merged({"backend": "seldon"}, everything)), "SeldonDeployment")["spec"]["predictors"]
    assert [predictor["traffic"] for predictor in predictors] == [0, 100]
    spec = only(render(merged({"backend": "seldon-v2"}, everything)), "Experiment")["spec"]
    assert spec["candidates"] == [{"name": "flights-1", "weight": 0}, {"name": "flights-2", "weight": 100}]
    assert spec["default"] == "flights-1"


@pytest.mark.parametrize(
    "values",
    [
        {"candidate": CANDIDATE, "traffic": {"candidateWeight": 12.5}},
        {"candidate": CANDIDATE, "traffic": {"candidateWeight": 10, "shadowPercent": 10}},
        {"traffic": {"sticky": "header:x-user"}},
    ],
)
def test_what_core_v1_cannot_do_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ChartRefused):
        render(merged({"backend": "seldon"}, values))
