"""The examples for Argo Rollouts and Flagger fit those projects' own schemas; the service beside them is restricted."""

import json
from typing import Any

import kubernetes_validate
import pytest
import yaml
from chart_world import CHART
from controller_schemas import FILE, SOURCES, from_module, module_file
from crd_schemas import problems

K8S = CHART.parents[1] / "k8s"
SCHEMAS = json.loads(FILE.read_text())


def documents(name: str) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all((K8S / name).read_text()) if document]


CONTROLLERS = [*documents("argo-analysis-template.yaml"), *documents("flagger-canary.yaml")]


@pytest.mark.parametrize("document", CONTROLLERS, ids=lambda document: document["kind"])
def test_the_examples_fit_the_controllers_own_schemas(document: dict[str, Any]) -> None:
    assert problems(document, SCHEMAS[document["kind"]]["schema"]) == []


@pytest.mark.parametrize("document", CONTROLLERS, ids=lambda document: document["kind"])
def test_the_schemas_notice_a_field_that_does_not_exist(document: dict[str, Any]) -> None:
    changed = json.loads(json.dumps(document))
    changed["spec"]["verdict"] = "promote"
    assert problems(changed, SCHEMAS[document["kind"]]["schema"])


@pytest.mark.parametrize("kind", SOURCES)
def test_the_stored_schemas_are_those_of_the_modules(kind: str) -> None:
    path = module_file(kind)
    if path is None:
        pytest.skip(f"go mod download {SOURCES[kind][0]}@{SOURCES[kind][1]} brings the CRD")
    assert SCHEMAS[kind]["schema"] == from_module(kind, path)


def test_no_answer_and_no_evidence_never_end_an_analysis() -> None:
    (template,) = [d for d in CONTROLLERS if d["kind"] == "AnalysisTemplate"]
    (metric,) = template["spec"]["metrics"]
    assert "count" not in metric
    assert (metric["consecutiveSuccessLimit"], metric["failureLimit"]) == (1, 0)
    assert min(metric["inconclusiveLimit"], metric["consecutiveErrorLimit"]) >= 100_000


def test_the_service_is_restricted_and_reads_a_token_from_a_secret() -> None:
    found = {document["kind"]: document for document in documents("rollout-verdicts.yaml")}
    for document in found.values():
        kubernetes_validate.validate(document, "1.33", strict=True)
    pod = found["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert pod["volumes"][-1]["secret"]["secretName"] == "fairlead-verdicts-token"
    assert "--no-token" not in container["command"]
    assert not container["image"].endswith(":latest")
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    assert found["Service"]["spec"]["selector"].items() <= labels
    assert found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"].items() <= labels
