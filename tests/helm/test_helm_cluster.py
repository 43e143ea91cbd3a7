"""The real API server takes what the chart renders: with the CRDs, the namespace's Pod Security level, and its RBAC.

CRDs of the Gateway API and the prometheus-operator come out of their Go modules, and stay in the cluster.
"""

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart_world import CHART, SETS, VALUE_SETS, merged, pod_specs, render

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

K8S = CHART.parents[1] / "k8s"
CRDS = {
    "sigs.k8s.io/gateway-api@v1.4.1": ("config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",),
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": (
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ),
    "github.com/argoproj/argo-rollouts@v1.8.3": (
        "manifests/crds/analysis-template-crd.yaml",
        "manifests/crds/rollout-crd.yaml",
    ),
    "github.com/fluxcd/flagger@v1.41.0": ("artifacts/flagger/crd.yaml",),
}
NOT_TO_BE_HAD = ("machinelearning.seldon.io", "mlops.seldon.io")


def kubectl(*arguments: str, stdin: str | None = None, may_warn: bool = False) -> str:
    done = subprocess.run(
        ["kubectl", *arguments], input=stdin, capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr[-4000:]}"
    assert may_warn or "Warning" not in done.stderr, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """A restricted namespace of its own."""
    if "KUBECONFIG" not in os.environ or shutil.which("kubectl") is None:
        pytest.skip("no cluster: KUBECONFIG is not set; make test-cluster brings one up")
    name = f"{os.environ.get('FAIRLEAD_TEST_NAMESPACE', 'fl-test')}-{uuid.uuid4().hex[:5]}"
    manifest = yaml.safe_load((K8S / "namespace.yaml").read_text())
    manifest["metadata"]["name"] = name
    kubectl("create", "-f", "-", stdin=json.dumps(manifest))
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def crds(namespace: str) -> None:
    """The CRDs that the chart's kinds need, beside KubeRay's."""
    if shutil.which("go") is None:
        pytest.skip("CRDs come out of Go modules, and there is no go")
    for module, files in CRDS.items():
        done = subprocess.run(["go", "mod", "download", "-json", module], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"{module} cannot be had: {done.stdout[-300:]}")
        for file in files:
            path = Path(json.loads(done.stdout)["Dir"]) / file
            kubectl("apply", "--server-side", "-f", str(path), may_warn=True)  # of formats in other people's CRDs
    names = ["httproutes.gateway.networking.k8s.io", "podmonitors.monitoring.coreos.com", "canaries.flagger.app"]
    kubectl("wait", "--for=condition=Established", "--timeout=60s", *(f"crd/{name}" for name in names))


def _named(document: dict[str, Any], namespace: str) -> dict[str, Any]:
    document["metadata"]["namespace"] = namespace
    return document


def test_every_rendering_passes_the_servers_dry_run(namespace: str, crds: None) -> None:
    documents, left_out = [], 0
    for number, values in enumerate(SETS.values()):
        for document in render(values, name=f"s{number}"):
            if document["apiVersion"].startswith(NOT_TO_BE_HAD):
                left_out += 1
                continue
            documents.append(_named(document, namespace))
    said = kubectl("apply", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump_all(documents))
    assert said.count("(server dry run)") == len(documents)
    print(f"{len(documents)} objects of {len(SETS)} value sets accepted; {left_out} of Seldon's have no CRD here")


def test_the_api_server_admits_every_pod_to_a_restricted_namespace(namespace: str) -> None:
    pods = []
    for number, values in enumerate(SETS.values()):
        for index, (_, template) in enumerate(pod_specs(render(values))):
            spec = {k: v for k, v in template["spec"].items() if k not in ("serviceAccountName", "priorityClassName")}
            metadata = {**template["metadata"], "name": f"pod-{number}-{index}", "namespace": namespace}
            pods.append({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    said = kubectl("create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump_all(pods))
    assert said.count("(server dry run)") == len(pods)


def test_helm_lints_the_chart(namespace: str) -> None:
    helm = shutil.which("helm")
    assert helm
    for values in sorted((CHART / "ci").glob("*-values.yaml")):
        done = subprocess.run(
            [helm, "lint", "--strict", str(CHART), "-f", str(values)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout
        assert "0 chart(s) failed" in done.stdout


def test_the_token_is_made_once_and_kept(namespace: str, tmp_path: Path) -> None:
    helm = shutil.which("helm")
    assert helm
    values = merged(VALUE_SETS["a token made by the chart"])
    values["ray"] = {"workers": {"replicas": 0}}
    file = tmp_path / "values.yaml"
    file.write_text(json.dumps(values))
    # A chart of the token alone, so that no pods are started for it.
    chart = tmp_path / "fairlead-model"
    shutil.copytree(CHART, chart)
    for template in (chart / "templates").glob("*.yaml"):
        if template.name != "token.yaml":
            template.unlink()
    tokens = []
    for _ in range(2):
        subprocess.run(
            [helm, "upgrade", "--install", "token", str(chart), "-n", namespace, "-f", str(file)],
            check=True,
            capture_output=True,
        )
        tokens.append(kubectl("-n", namespace, "get", "secret", "token-token", "-o", "jsonpath={.data.token}"))
    assert tokens[0] == tokens[1] != ""
    subprocess.run([helm, "uninstall", "token", "-n", namespace], check=True, capture_output=True)


def test_the_plain_manifests_pass_the_servers_dry_run(namespace: str, crds: None) -> None:
    for path in sorted(K8S.glob("*.yaml")):
        if path.name in ("kind.yaml", "kustomization.yaml", "samples-values.yaml", "namespace.yaml"):
            continue
        documents = [_named(d, namespace) for d in yaml.safe_load_all(path.read_text())]
        kubectl("apply", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump_all(documents))
    kubectl("kustomize", str(K8S))


REVIEW = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
SWEPT = {
    "": ("pods", "pods/log", "pods/exec", "services", "services/proxy", "serviceaccounts", "secrets", "configmaps",
         "events", "resourcequotas", "namespaces", "nodes", "persistentvolumeclaims"),
    "apps": ("deployments",),
    "batch": ("jobs",),
    "ray.io": ("rayjobs", "rayservices", "rayclusters"),
    "networking.k8s.io": ("networkpolicies",),
    "policy": ("poddisruptionbudgets",),
    "rbac.authorization.k8s.io": ("roles", "rolebindings", "clusterroles"),
    "monitoring.coreos.com": ("podmonitors", "prometheusrules"),
    "gateway.networking.k8s.io": ("httproutes",),
}  # fmt: skip


def test_the_service_accounts_can_do_what_their_roles_say_and_nothing_else(namespace: str) -> None:
    documents = list(yaml.safe_load_all((K8S / "rbac.yaml").read_text()))
    for document in documents:
        _named(document, namespace)
        for subject in document.get("subjects", []):
            subject["namespace"] = namespace
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(documents))
    bound = {
        (subject["name"], document["roleRef"]["name"])
        for document in documents
        if document["kind"] == "RoleBinding"
        for subject in document["subjects"]
    }
    granted = {
        (account, group, resource, verb)
        for account, role in bound
        for document in documents
        if document["kind"] == "Role" and document["metadata"]["name"] == role
        for rule in document["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    asked, reviews = [], []
    for account in sorted({account for account, _ in bound}):
        for where in (namespace, "default"):
            for group, resources in SWEPT.items():
                for resource in resources:
                    for verb in VERBS:
                        asked.append((account, group, resource, verb, where))
                        name, _, below = resource.partition("/")
                        attributes = {"namespace": where, "verb": verb, "group": group, "resource": name}
                        if below:
                            attributes["subresource"] = below
                        user = f"system:serviceaccount:{namespace}:{account}"
                        spec = {"user": user, "resourceAttributes": attributes}
                        reviews.append({**REVIEW, "spec": spec})
    answered = kubectl("create", "-o", "json", "-f", "-", stdin=yaml.safe_dump_all(reviews))
    items, decoder = [], json.JSONDecoder()
    while answered := answered.lstrip():  # kubectl writes one document after the other
        item, end = decoder.raw_decode(answered)
        items.append(item)
        answered = answered[end:]
    assert len(items) == len(asked)
    wrong = [
        question
        for question, item in zip(asked, items, strict=True)
        if item["status"]["allowed"] != (question[4] == namespace and question[:4] in granted)
    ]
    assert wrong == []
