"""The two containers that a SeldonDeployment may hold, as pods behind a port of the node.

Seldon's operator cannot be had, so what it would do is done here: a Deployment and a Service are made of the component
that the chart renders, with the variables that the operator adds to a container of the V1 protocol.
"""

import json
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from fairlead.kube import Cluster
from fairlead.kube.kinds import PODS, SERVICES, Kind
from fairlead.packaged import packaged_folder

DEPLOYMENTS = Kind("apps", "v1", "deployments")
WRAPPER_IMAGE = "localhost/fairlead-seldon-wrapper:0.1.0"
HTTP, METRICS = 9000, 6000
START_SECONDS = 180.0


def render(values: dict[str, Any], cluster: Cluster, folder: Path) -> list[dict[str, Any]]:
    """What the chart makes of `values`, by the helm program."""
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    chart = packaged_folder("helm") / "fairlead-model"
    command = ["helm", "template", "flights", str(chart), "-n", cluster.namespace, "-f", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document is not None]


def wrapper_component(store: str, endpoint: str, version: int, bundle_uri: str, digest: str) -> dict[str, Any]:
    """A component of a SeldonDeployment with `protocol: seldon`: images/README.md shows the whole of it."""
    parameters = [
        {"name": "store", "type": "STRING", "value": store},
        {"name": "bundle_uri", "type": "STRING", "value": bundle_uri},
        {"name": "digest", "type": "STRING", "value": digest},
        {"name": "version", "type": "INT", "value": str(version)},
    ]
    by_the_operator = {
        "PREDICTIVE_UNIT_PARAMETERS": json.dumps(parameters),
        "PREDICTIVE_UNIT_HTTP_SERVICE_PORT": str(HTTP),
        "PREDICTIVE_UNIT_METRICS_SERVICE_PORT": str(METRICS),
        "PREDICTIVE_UNIT_ID": "flights",
        "PREDICTIVE_UNIT_IMAGE": WRAPPER_IMAGE,
        "PREDICTOR_ID": "champion",
        "SELDON_DEPLOYMENT_ID": "flights",
    }
    environment = {**by_the_operator, "AWS_ENDPOINT_URL": endpoint}
    container = {
        "name": "flights",
        "image": WRAPPER_IMAGE,
        "imagePullPolicy": "Never",
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "envFrom": [{"secretRef": {"name": "store"}}],
        "ports": [{"name": "http", "containerPort": HTTP}, {"name": "metrics", "containerPort": METRICS}],
        "readinessProbe": {"httpGet": {"path": "/health/ping", "port": "http"}, "periodSeconds": 2},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"memory": "1Gi"}},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "scratch", "mountPath": "/var/fairlead"}],
    }
    identity = {"runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001}
    spec = {
        "automountServiceAccountToken": False,
        "securityContext": {**identity, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "scratch", "emptyDir": {}}],
    }
    return {"metadata": {"labels": {}}, "spec": spec}


@dataclass
class Hosted:
    """A component as a Deployment of one pod, and its Service."""

    cluster: Cluster
    name: str
    ports: dict[int, int] = field(default_factory=dict)

    def start(self, component: dict[str, Any]) -> "Hosted":
        """Create both; whether the pod becomes ready is asked for by `wait`."""
        labels = {**component["metadata"].get("labels", {}), "app": self.name}
        template = {"metadata": {**component["metadata"], "labels": labels}, "spec": component["spec"]}
        spec: dict[str, Any] = {"replicas": 1, "selector": {"matchLabels": {"app": self.name}}, "template": template}
        metadata = {"name": self.name}
        self.cluster.create(
            DEPLOYMENTS, {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}
        )
        (container,) = component["spec"]["containers"]
        ports = [{"name": port["name"], "port": port["containerPort"]} for port in container["ports"]]
        spec = {"type": "NodePort", "selector": {"app": self.name}, "ports": ports}
        made = self.cluster.create(
            SERVICES, {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
        )
        self.ports = {port["port"]: port["nodePort"] for port in made["spec"]["ports"]}
        return self

    def pods(self) -> list[dict[str, Any]]:
        """Its pods."""
        return self.cluster.list(PODS, labels=f"app={self.name}")

    def wait(self) -> float:
        """Until the pod is ready; the seconds that it took."""
        began = time.monotonic()
        while not any(status["ready"] for pod in self.pods() for status in _statuses(pod)):
            assert time.monotonic() < began + START_SECONDS, f"{self.name} is not ready:\n{self.log()}"
            time.sleep(0.5)
        return time.monotonic() - began

    def ended(self) -> dict[str, Any]:
        """How the container ended that cannot start."""
        began = time.monotonic()
        while True:
            for status in (status for pod in self.pods() for status in _statuses(pod)):
                for state in (status["state"], status["lastState"]):
                    if "terminated" in state:
                        return dict(state["terminated"])
            assert time.monotonic() < began + START_SECONDS, f"{self.name} has not ended:\n{self.log()}"
            time.sleep(0.5)

    def log(self) -> str:
        """What the pod printed."""
        return "\n".join(self.cluster.pod_log(pod["metadata"]["name"]) for pod in self.pods())

    def client(self, port: int = HTTP) -> httpx.Client:
        """A client of the port of the node."""
        return httpx.Client(base_url=f"http://127.0.0.1:{self.ports[port]}", timeout=10.0)


def _statuses(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return list(pod["status"].get("containerStatuses", []))
