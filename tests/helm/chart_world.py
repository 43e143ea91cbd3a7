"""The chart, rendered without a cluster: by the `helm` on the PATH when there is none of the SDK, else by the SDK."""

import copy
import functools
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "helm" / "fairlead-model"
ONE, TWO, IMAGE = (f"sha256:{letter * 64}" for letter in "abc")
CANDIDATE = {"version": 2, "bundleUri": f"bundles/flights/{'b' * 64}", "digest": TWO}
BASE: dict[str, Any] = {
    "model": "flights",
    "champion": {"version": 1, "bundleUri": f"bundles/flights/{'a' * 64}", "digest": ONE},
    "image": {"repository": "localhost/fairlead-serving", "tag": "0.1.0"},
    "store": {"uri": "s3://models/flights", "existingSecret": "s3"},
    "token": {"existingSecret": "control"},
}
WORKERS = {"replicas": 2, "min": 2, "max": 2}
GATEWAY = {"enabled": True, "parentRefs": [{"name": "public"}]}
MONITORING = {name: {"enabled": True} for name in ("podMonitor", "prometheusRule", "dashboard")}
SPREAD = {
    "nodeSelector": {"pool": "serving"},
    "tolerations": [{"key": "serving", "operator": "Exists"}],
    "affinity": {
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"a": "b"}}}
            ]
        }
    },
    "priorityClassName": "serving",
}

OUTCOME = {"metric": "orders", "horizonSeconds": 3600, "low": 0, "high": 1, "binary": True, "missing": 0}

VALUE_SETS: dict[str, dict[str, Any]] = {
    "the least": {},
    "shadow": {"candidate": CANDIDATE, "traffic": {"shadowPercent": 100}},
    "canary": {"candidate": CANDIDATE, "traffic": {"candidateWeight": 5, "note": "5 %: \"no\" failures"}},
    "canary and shadow": {"candidate": CANDIDATE, "traffic": {"candidateWeight": 0.5, "shadowPercent": 12.5}},
    "all to the candidate": {"candidate": CANDIDATE, "traffic": {"candidateWeight": 100}},
    "a candidate without traffic": {"candidate": CANDIDATE},
    "a candidate set to null": {"candidate": None},
    "a latency bound": {"candidate": CANDIDATE, "traffic": {"candidateWeight": 1, "latencyBoundMs": 80.5}},
    "an A/B test": {"candidate": CANDIDATE, "traffic": {"candidateWeight": 50, "outcome": OUTCOME}},
    "a label horizon, slices": {
        "candidate": CANDIDATE, "traffic": {"shadowPercent": 1, "labelHorizonSeconds": 3600, "slices": ["carrier"]},
    },
    "sticky by header": {"traffic": {"sticky": "header:x-user"}},
    "sticky in serve": {"serve": {"sticky": "tailnum"}},
    "the whole serve section": {
        "serve": {
            "replicas": 3, "max_batch": 16, "batch_wait_ms": 1.5, "max_queue": 1000, "deadline_ms": 50,
            "max_body": "2MiB", "fallback": "none", "log": {"rotate_seconds": "1m", "enabled": False},
        }
    },
    "workers": {"ray": {"workers": WORKERS}, "serve": {"replicas": 2}},
    "workers that are placed": {"ray": {"workers": {**WORKERS, **SPREAD}, "head": SPREAD}},
    "autoscaling": {"ray": {"workers": {"replicas": 1, "min": 1, "max": 5}}, "autoscaling": {"enabled": True}},
    "autoscaling in one pod": {"autoscaling": {"enabled": True, "minReplicas": 2, "maxReplicas": 2}},
    "redis": {"ray": {"faultTolerance": {"redisAddress": "redis:6379", "existingSecret": "redis"}}},
    "redis without a password": {"ray": {"faultTolerance": {"redisAddress": "redis:6379"}}},
    "a token of Ray of one's own": {"ray": {"authSecret": "ray-token"}},
    "no upgrade of the cluster": {"ray": {"upgrade": "None", "initializingTimeout": "10m"}},
    "image by digest": {
        "image": {"repository": "r.example.com/x", "tag": "", "digest": IMAGE}, "imagePullSecrets": [{"name": "p"}],
    },
    "a token made by the chart": {"token": {"existingSecret": ""}},
    "an endpoint": {"store": {"uri": "s3://b", "endpoint": "http://s3.storage:8333", "region": ""}},
    "the pods' own identity": {
        "store": {"uri": "s3://b/p", "existingSecret": ""},
        "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/x"}},
    },
    "someone else's service account": {"serviceAccount": {"create": False, "name": "serving"}},
    "the default service account": {"serviceAccount": {"create": False}},
    "node port": {"service": {"type": "NodePort", "nodePort": 30080, "port": 80}},
    "load balancer": {"service": {"type": "LoadBalancer", "annotations": {"a": "b"}}},
    "everything watched": {"monitoring": MONITORING},
    "runbook elsewhere": {"monitoring": {"prometheusRule": {"enabled": True, "runbookUrl": "https://w.example.com/r"}}},
    "a strict network": {
        "networkPolicy": {
            "clients": [{"podSelector": {"matchLabels": {"app": "shop"}}}],
            "metrics": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "prom"}}}],
            "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}],
        }
    },
    "no extras": {"networkPolicy": {"enabled": False}, "podDisruptionBudget": {"enabled": False}},
    "more environment, labels and names": {
        "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
        "podLabels": {"team": "a"}, "podAnnotations": {"note": "1"},
        "nameOverride": "served", "fullnameOverride": "web",
    },
    "a writable root": {"readOnlyRootFilesystem": False, "preStopSeconds": 0, "scratchSizeLimit": "20Gi"},
    "gateway": {"gateway": GATEWAY},
    "gateway with a canary": {"gateway": GATEWAY, "candidate": CANDIDATE, "traffic": {"candidateWeight": 12.5}},
    "gateway with a mirror": {
        "gateway": {**GATEWAY, "hostnames": ["a.example.com"], "annotations": {"a": "b"}},
        "candidate": CANDIDATE, "traffic": {"shadowPercent": 33.3}, "ray": {"workers": {**WORKERS, "replicas": 2}},
    },
    "seldon": {"backend": "seldon"},
    "seldon with a canary": {"backend": "seldon", "candidate": CANDIDATE, "traffic": {"candidateWeight": 10}},
    "seldon with a shadow": {"backend": "seldon", "candidate": CANDIDATE, "traffic": {"shadowPercent": 25}},
    "seldon scaled, placed and watched": {
        "backend": "seldon", "autoscaling": {"enabled": True, "minReplicas": 2},
        "seldon": {"replicas": 2, "annotations": {"seldon.io/istio-gateway": "a/b"}, **SPREAD},
        "monitoring": MONITORING,
    },
    "seldon-v2": {"backend": "seldon-v2"},
    "seldon-v2 with an experiment": {
        "backend": "seldon-v2", "candidate": CANDIDATE, "traffic": {"candidateWeight": 10, "shadowPercent": 5},
    },
}  # fmt: skip
"""By what they are about; each on top of `BASE`."""


def merged(*values: Mapping[str, Any]) -> dict[str, Any]:
    """`BASE` with `values` laid over it, as Helm lays several files over each other."""
    result = copy.deepcopy(BASE)
    for layer in values:
        _lay(result, layer)
    return result


def _lay(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    for key, value in above.items():
        if isinstance(value, Mapping) and isinstance(below.get(key), dict):
            _lay(below[key], value)
        else:
            below[key] = copy.deepcopy(value)


CI_SETS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((CHART / "ci").glob("*-values.yaml"))}
SETS = {**{name: merged(values) for name, values in VALUE_SETS.items()}, **CI_SETS}
"""All complete value sets."""


def render_text(values: Mapping[str, Any], *, revision: int = 1, name: str = "flights") -> dict[str, str]:
    """The rendered files by their template's name. Raises ChartRefused with what the chart said."""
    try:
        from helm_python import Chart, HelmError
    except ModuleNotFoundError:
        return _render_by_binary(values, name)
    try:
        with Chart.load(CHART) as chart:
            chart.validate_schema(dict(values))
            files = chart.render(dict(values), name=name, namespace="serving", revision=revision)
    except HelmError as error:
        raise ChartRefused(str(error)) from error
    return {Path(path).name: text for path, text in files.items()}


def _render_by_binary(values: Mapping[str, Any], name: str) -> dict[str, str]:
    helm = shutil.which("helm")
    assert helm, "neither the wheel helm-python-sdk nor a helm binary is here"
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(values, file)
        file.flush()
        command = [helm, "template", name, str(CHART), "-n", "serving", "-f", file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ChartRefused(done.stderr)
    parts: dict[str, str] = {}
    for part in done.stdout.split("\n# Source: ")[1:]:
        path, _, text = part.partition("\n")
        parts[Path(path).name] = parts.get(Path(path).name, "") + "\n---\n" + text.removesuffix("---")
    return parts


def render(values: Mapping[str, Any], *, revision: int = 1, name: str = "flights") -> list[dict[str, Any]]:
    """The rendered objects; what was rendered once is remembered."""
    return copy.deepcopy(_rendered(json.dumps(values), revision, name, CHART))


@functools.cache
def _rendered(values: str, revision: int, name: str, chart: Path) -> list[dict[str, Any]]:
    files = render_text(json.loads(values), revision=revision, name=name)
    return [
        document
        for file, text in sorted(files.items())
        if file != "NOTES.txt"
        for document in yaml.safe_load_all(text)
        if document is not None
    ]


def serve_config(document: dict[str, Any]) -> dict[str, Any]:
    """What a RayService tells Ray Serve."""
    config: dict[str, Any] = yaml.safe_load(document["spec"]["serveConfigV2"])
    return config


def only(documents: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """The one object of a kind."""
    (found,) = [document for document in documents if document["kind"] == kind]
    return found


def pod_specs(documents: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod template as (where, pod template)."""
    for document in documents:
        name, spec = f"{document['kind']}/{document['metadata']['name']}", document.get("spec", {})
        if document["kind"] == "RayService":
            cluster = spec["rayClusterConfig"]
            yield f"{name} head", cluster["headGroupSpec"]["template"]
            for group in cluster["workerGroupSpecs"]:
                yield f"{name} {group['groupName']}", group["template"]
        elif document["kind"] == "SeldonDeployment":
            for predictor in spec["predictors"]:
                for component in predictor["componentSpecs"]:
                    yield f"{name} {predictor['name']}", component


class ChartRefused(Exception):
    """The chart does not render these values."""
