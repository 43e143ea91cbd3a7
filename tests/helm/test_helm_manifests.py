"""The plain manifests in k8s/: roles are what the code asks for, samples what the chart and training make."""

import json

import yaml
from chart_world import CHART, SETS, render
from crd_schemas import FILE, problems

KUBERAY = json.loads(FILE.read_text())["kinds"]
K8S = CHART.parents[1] / "k8s"


def _role(name: str) -> set[tuple[str, str, str]]:
    documents = list(yaml.safe_load_all((K8S / "rbac.yaml").read_text()))
    (role,) = [d for d in documents if d["kind"] == "Role" and d["metadata"]["name"] == name]
    rules = role["rules"]
    return {(g, r, v) for rule in rules for g in rule["apiGroups"] for r in rule["resources"] for v in rule["verbs"]}


def test_the_trainers_role_is_what_training_and_doctor_ask_for() -> None:
    from fairlead.kube.permissions import LOOKING, TRAINING

    cluster_wide = {"namespaces", "nodes", "storageclasses"}
    asked = {
        (permission.kind.group, "/".join(filter(None, (permission.kind.plural, permission.below))), verb)
        for permission in (*TRAINING, *LOOKING)
        for verb in permission.verbs
        if permission.kind.plural not in cluster_wide
    }
    assert _role("fairlead-trainer") == asked


def test_the_rollouts_role_reads_all_kinds_of_the_chart_and_writes_only_traffic() -> None:
    plurals = {"NetworkPolicy": "networkpolicies"}
    kinds = {
        (document["apiVersion"].rpartition("/")[0], plurals.get(document["kind"], f"{document['kind'].lower()}s"))
        for values in SETS.values()
        for document in render(values)
        if "seldon" not in document["apiVersion"]
    }
    role = _role("fairlead-rollout")
    assert {(group, resource) for group, resource, verb in role if verb == "get"} >= kinds
    written = {(group, resource) for group, resource, verb in role if verb not in ("get", "list")}
    gateway = ("gateway.networking.k8s.io", "httproutes")
    assert written == {("ray.io", "rayservices"), ("", "secrets"), ("", "events"), gateway}
    deployer = _role("fairlead-deployer")
    assert all((*kind, verb) in deployer for kind in kinds for verb in ("get", "create", "patch", "delete"))


def test_the_samples_are_restricted_and_ask_for_a_token() -> None:
    for name, field in (("rayjob", "rayClusterSpec"), ("rayservice", "rayClusterConfig")):
        documents = list(yaml.safe_load_all((K8S / f"sample-{name}.yaml").read_text()))
        (sample,) = [document for document in documents if document["kind"].startswith("Ray")]
        assert problems(sample, KUBERAY[sample["kind"]]) == []
        assert sample["spec"][field]["authOptions"]["mode"] == "token"
        assert ":latest" not in json.dumps(documents)
        assert "Secret" not in [document["kind"] for document in documents]
