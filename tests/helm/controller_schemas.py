"""What the CRDs of Argo Rollouts and Flagger say about the fields that our examples of them use.

`controllers.json` beside this file is made from their Go modules (Apache-2.0), where they can be had:

    python tests/helm/controller_schemas.py
"""

import json
import os
from pathlib import Path
from typing import Any

import yaml
from crd_schemas import trimmed

FILE = Path(__file__).with_name("controllers.json")
SOURCES = {
    "AnalysisTemplate": ("github.com/argoproj/argo-rollouts", "v1.8.3", "manifests/crds/analysis-template-crd.yaml"),
    "Rollout": ("github.com/argoproj/argo-rollouts", "v1.8.3", "manifests/crds/rollout-crd.yaml"),
    "Canary": ("github.com/fluxcd/flagger", "v1.41.0", "artifacts/flagger/crd.yaml"),
}
# Providers, routers and autoscalers that the examples leave out: half a megabyte otherwise.
_LEFT_OUT = {
    *(
        "cloudWatch",
        "datadog",
        "graphite",
        "influxdb",
        "job",
        "kayenta",
        "newRelic",
        "plugin",
        "prometheus",
        "skywalking",
    ),
    *("wavefront", "trafficRouting", "experiment", "workloadRef", "affinity", "antiAffinity", "blueGreen"),
    *("setHeaderRoute", "setMirrorRoute", "trafficPolicy", "corsPolicy"),
}


def module_file(kind: str) -> Path | None:
    """The CRD in Go's module cache, or None where nobody downloaded it."""
    module, version, name = SOURCES[kind]
    cache = Path(os.environ.get("GOMODCACHE") or Path(os.environ.get("GOPATH") or Path.home() / "go") / "pkg" / "mod")
    path = cache / f"{module}@{version}" / name
    return path if path.is_file() else None


def from_module(kind: str, path: Path) -> dict[str, Any]:
    """The trimmed schema of `kind`."""
    documents = yaml.load_all(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # both are safe
    (crd,) = [
        d for d in documents if d and d["kind"] == "CustomResourceDefinition" and d["spec"]["names"]["kind"] == kind
    ]
    (version,) = [v for v in crd["spec"]["versions"] if v["storage"]]
    return _small(trimmed(version["schema"]["openAPIV3Schema"]))


def _small(schema: dict[str, Any]) -> dict[str, Any]:
    result = {key: _small(value) if key in ("items", "additionalProperties") and isinstance(value, dict) else value
              for key, value in schema.items() if key != "properties"}  # fmt: skip
    if "properties" in schema:
        kept = {name: value for name, value in schema["properties"].items() if name not in _LEFT_OUT}
        result["properties"] = {name: _small(value) for name, value in kept.items()}
    return result


def main() -> None:
    """Write `FILE`."""
    kinds = {}
    for kind, (module, version, name) in SOURCES.items():
        path = module_file(kind)
        if path is None:
            raise SystemExit(f"{name} is not here: go mod download {module}@{version}")
        kinds[kind] = {"module": module, "version": version, "schema": from_module(kind, path)}
    FILE.write_text(json.dumps(kinds, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
