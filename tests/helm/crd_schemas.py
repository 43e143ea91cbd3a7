"""What KubeRay's CRDs say, without the half megabyte of core types that they repeat.

`kuberay.json` beside this file is made from the Go module of KubeRay's operator (Apache-2.0), where it can be had:

    python tests/helm/crd_schemas.py

It holds names, types, enums and what is required of KubeRay's own fields. Pod templates and Services inside are checked
against the schemas of Kubernetes instead.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import jsonschema
import yaml

MODULE, VERSION = "github.com/ray-project/kuberay/ray-operator", "v1.6.2"
FILE = Path(__file__).with_name("kuberay.json")
KINDS = {"RayService": "ray.io_rayservices.yaml", "RayJob": "ray.io_rayjobs.yaml"}
_KEPT = (
    "type",
    "enum",
    "required",
    "minimum",
    "maximum",
    "pattern",
    "maxLength",
    "items",
    "x-kubernetes-int-or-string",
)
_CORE = {"template", "submitterPodTemplate", "serveService", "headService", "resources", "securityContext", "valueFrom",
         "env", "envFrom", "volumeMounts", "metadata", "scaleStrategy"}  # fmt: skip


def module_folder() -> Path | None:
    """The CRDs in Go's module cache, or None where nobody downloaded them."""
    cache = Path(os.environ.get("GOMODCACHE") or Path(os.environ.get("GOPATH") or Path.home() / "go") / "pkg" / "mod")
    folder = cache / f"{MODULE}@{VERSION}" / "config" / "crd" / "bases"
    return folder if folder.is_dir() else None


def crd_schema(path: Path) -> dict[str, Any]:
    """The OpenAPI schema of a CRD's v1."""
    crd = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506  # both are safe
    (version,) = [v for v in crd["spec"]["versions"] if v["name"] == "v1"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


def trimmed(schema: dict[str, Any]) -> dict[str, Any]:
    """KubeRay's own fields only. What a CRD does not name is pruned by the API server, so here it is refused."""
    result = {key: schema[key] for key in _KEPT if key in schema}
    if "items" in result:
        result["items"] = trimmed(result["items"])
    if "properties" in schema:
        result["properties"] = {
            name: {"type": value["type"]} if name in _CORE and "type" in value else trimmed(value)
            for name, value in sorted(schema["properties"].items())
            if name != "status"
        }
        result["additionalProperties"] = False
    elif isinstance(schema.get("additionalProperties"), dict):
        result["additionalProperties"] = trimmed(schema["additionalProperties"])
    return result


def from_module(folder: Path) -> dict[str, Any]:
    """The content of `FILE`."""
    kinds = {kind: trimmed(crd_schema(folder / name)) for kind, name in KINDS.items()}
    return {"module": MODULE, "version": VERSION, "kinds": kinds}


def problems(document: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    """What does not fit, as ``path: sentence``."""
    validator = jsonschema.Draft7Validator(schema)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """A whole CRD's schema, with unknown keys refused where the API server would prune them."""
    result = {key: value for key, value in schema.items() if not key.startswith("x-kubernetes-validations")}
    if result.pop("x-kubernetes-int-or-string", False):
        result = {"type": ["integer", "string"]}
    for key in ("items", "additionalProperties"):
        if isinstance(result.get(key), dict):
            result[key] = strict(result[key])
    if "properties" in result:
        result["properties"] = {name: strict(value) for name, value in result["properties"].items()}
        if not result.get("x-kubernetes-preserve-unknown-fields"):
            result.setdefault("additionalProperties", False)
    for key in ("anyOf", "allOf", "oneOf", "format"):
        result.pop(key, None)
    return result


if __name__ == "__main__":
    found = module_folder()
    if found is None:
        sys.exit(f"go mod download {MODULE}@{VERSION}, then again")
    FILE.write_text(json.dumps(from_module(found), indent=1) + "\n")
    print(f"wrote {FILE}")
