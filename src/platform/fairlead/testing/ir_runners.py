"""Where `ir_run` runs a step: in a process of this machine, or in a pod of a cluster with what the IR says of it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from fairlead.kube import Cluster
from fairlead.kube.kinds import EVENTS, PODS
from fairlead.kube.waiting import obstacles
from fairlead.store import open_store
from fairlead.testing.ir_launcher import INPUT_VARIABLE
from fairlead.testing.ir_run import Attempt, StepFailed
from fairlead.wiring.context import RUN_VARIABLE, SCRATCH_VARIABLE

RUN_LABEL = "pipeline/runid"
_MOUNTED = {"gcs": "/gcs", "s3": "/s3", "minio": "/minio", "local": "/.local", "cache": "/.cache", "config": "/.config"}
_LOG_TAIL = 15


def _launcher(attempt: Attempt, root: str, python: str) -> list[str]:
    return [python, "-m", "fairlead.testing.ir_launcher", attempt.output, root, *attempt.command]


def _given(output: str) -> dict[str, Any]:
    bucket, _, key = output.removeprefix("s3://").partition("/")
    first, _, rest = key.partition("/")
    value: dict[str, Any] = orjson.loads(open_store(f"s3://{bucket}/{first}", Path.cwd()).read(rest))
    return value


class ProcessRunner:
    """Each try is a process in a fresh folder below `folder`, as alone as a pod is; `environment` comes on top."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder, self._environment = folder, dict(environment)

    def __call__(self, attempt: Attempt) -> dict[str, Any]:
        """As `Runner` says."""
        place = self._folder / attempt.run / f"{attempt.task}-{attempt.number}"
        scratch, root = place / "scratch", place / "root"
        scratch.mkdir(parents=True)
        root.mkdir()
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            **self._environment,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            RUN_VARIABLE: attempt.run,
            SCRATCH_VARIABLE: str(scratch),
            INPUT_VARIABLE: orjson.dumps(attempt.executor_input).decode(),
        }
        done = subprocess.run(
            _launcher(attempt, str(root), sys.executable),
            cwd=scratch, env=environment, capture_output=True, text=True, errors="replace",
        )  # fmt: skip
        (place / "log.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
        if done.returncode:
            raise StepFailed("\n".join((done.stdout + done.stderr).splitlines()[-_LOG_TAIL:]))
        return _given(attempt.output)


class PodRunner:
    """Each try is a pod in the cluster's namespace. `image`: instead of the IR's, which no node has under its name."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        image: str = "",
        service_account: str = "",
        environment: Mapping[str, str] | None = None,
        deadline_seconds: float = 600.0,
        began: Callable[[Attempt, str], None] | None = None,
    ) -> None:
        """`environment`: for the launcher's part, as Kubeflow's is configured by the installation. `began` is told each
        pod's name."""
        self._cluster, self._image, self._account = cluster, image, service_account
        self._environment, self._deadline, self._began = dict(environment or {}), deadline_seconds, began

    def __call__(self, attempt: Attempt) -> dict[str, Any]:
        """As `Runner` says."""
        manifest = self.manifest(attempt)
        name = str(manifest["metadata"]["name"])
        self._cluster.create(PODS, manifest)
        if self._began is not None:
            self._began(attempt, name)
        deadline = time.monotonic() + self._deadline
        while True:
            pod = self._cluster.get(PODS, name)
            phase = pod["status"].get("phase") if pod else "Gone"
            if phase == "Succeeded":
                return _given(attempt.output)
            if phase in ("Failed", "Gone"):
                raise StepFailed(self._cluster.pod_log(name, "main", lines=_LOG_TAIL) or f"the pod {name} is {phase}")
            if time.monotonic() > deadline:
                raise StepFailed(self._why(pod))
            time.sleep(0.5)

    def manifest(self, attempt: Attempt) -> dict[str, Any]:
        """The pod that Kubeflow's compiler would have Argo make, without Argo's own parts."""
        platform = attempt.platform
        mounts = {**_MOUNTED, **{m["volumeName"]: m["mountPath"] for m in platform.get("emptyDirMounts", ())}}
        container = {
            "name": "main",
            "image": self._image or attempt.image,
            "imagePullPolicy": "IfNotPresent",
            "command": _launcher(attempt, "", "python3"),
            "env": self._env(attempt),
            "resources": _resources(attempt.container.get("resources", {})),
            "volumeMounts": [{"name": name, "mountPath": path} for name, path in mounts.items()],
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "runAsNonRoot": True,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        }
        pulled_with = [{"name": each["secretName"]} for each in platform.get("imagePullSecret", ())]
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{attempt.task}-{attempt.number}-{attempt.run[:8]}",
                "labels": {RUN_LABEL: attempt.run, "app.kubernetes.io/part-of": "fairlead"},
            },
            "spec": {
                "restartPolicy": "Never",
                "enableServiceLinks": False,
                **({"serviceAccountName": self._account} if self._account else {}),
                **{key: int(platform[key]) for key in ("activeDeadlineSeconds",) if key in platform},
                "imagePullSecrets": pulled_with,
                "containers": [container],
                "volumes": [{"name": name, "emptyDir": {}} for name in mounts],
            },
        }

    def _env(self, attempt: Attempt) -> list[dict[str, Any]]:
        given = [*self._environment.items(), (INPUT_VARIABLE, orjson.dumps(attempt.executor_input).decode())]
        found: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in given]
        found += [{"name": each["name"], "value": each["value"]} for each in attempt.container.get("env", ())]
        for field in attempt.platform.get("fieldPathAsEnv", ()):
            found.append({"name": field["name"], "valueFrom": {"fieldRef": {"fieldPath": field["fieldPath"]}}})
        for secret in attempt.platform.get("secretAsEnv", ()):
            for pair in secret["keyToEnv"]:
                reference = {"name": secret["secretName"], "key": pair["secretKey"]}
                reference |= {"optional": True} if secret.get("optional") else {}
                found.append({"name": pair["envVar"], "valueFrom": {"secretKeyRef": reference}})
        return found

    def _why(self, pod: dict[str, Any] | None) -> str:
        found = obstacles([pod] if pod else [], self._cluster.list(EVENTS))
        return "; ".join(each.sentence() for each in found) or f"not ended after {self._deadline:.0f} s"


def _resources(told: Mapping[str, Any]) -> dict[str, Any]:
    requests = {"cpu": told.get("resourceCpuRequest"), "memory": told.get("resourceMemoryRequest")}
    limits = {"cpu": told.get("resourceCpuLimit"), "memory": told.get("resourceMemoryLimit")}
    gpu = told.get("accelerator", {})
    if gpu:
        limits[gpu["resourceType"]] = gpu["resourceCount"]
    kept = {"requests": requests, "limits": limits}
    return {kind: {name: value for name, value in amounts.items() if value} for kind, amounts in kept.items()}
