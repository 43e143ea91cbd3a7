"""Doctor's pod: does the image come, and does the store answer from inside the cluster?"""

import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

from fairlead.kube import Cluster
from fairlead.kube.kinds import PODS
from fairlead.kube.waiting import obstacles
from fairlead.spec.rayjob import PodSize, RayJob
from fairlead.spec.train import Train
from fairlead.train.rayjob_render import Place, pods_of, render
from fairlead.train.rayjob_state import endpoint_of
from fairlead.wiring.doctor import Finding

_SECONDS = 120.0
_HOPELESS_SECONDS = 20.0
_MIB = 2**20


def probe(cluster: Cluster, pods: RayJob, store: str) -> Iterator[Finding]:
    """Run one pod like a head pod, with the store's credentials, for at most two minutes; it is deleted again."""
    body = _pod(pods, store, cluster.namespace)
    name = body["metadata"]["name"]
    cluster.create(PODS, body)
    try:
        phase, why, fix = _wait(cluster, name)
        if phase == "image":
            yield Finding("image", "problem", why, fix)
            return
        if phase not in ("Succeeded", "Failed"):
            yield Finding("pod", "problem", why or f"doctor's pod did not run within {_SECONDS:.0f} s", fix)
            return
        yield Finding("image", "ok", f"{pods.image} starts")
        yield _read(cluster.pod_log(name), pods, cluster.namespace)
    finally:
        cluster.delete(PODS, name)


def _pod(pods: RayJob, store: str, namespace: str) -> dict[str, Any]:
    small = PodSize(cpu=0.1, memory=512 * _MIB, shared_memory=96 * _MIB)
    train = Train(rayjob=pods.model_copy(update={"head": small}))
    place = Place("doctor", uuid.uuid4().hex, "doctor", store, "doctor", *endpoint_of(pods))
    head = pods_of(render(train, place), namespace)[0]
    head["spec"] |= {"restartPolicy": "Never", "activeDeadlineSeconds": int(_SECONDS)}
    head["spec"]["containers"][0]["command"] = ["python", "-m", "fairlead.wiring.doctor_pod", store]
    head["metadata"]["name"] = f"fairlead-doctor-{uuid.uuid4().hex[:8]}"
    return head


def _wait(cluster: Cluster, name: str) -> tuple[str, str, str | None]:
    """The phase that it ended in, or "image"; why it does not run, and what to do."""
    began = time.monotonic()
    while True:
        pod = cluster.get(PODS, name) or {"metadata": {"name": name}, "status": {"phase": "Failed"}}
        phase = str((pod.get("status") or {}).get("phase"))
        if phase in ("Succeeded", "Failed"):
            return phase, "", None
        found = obstacles([pod], (), cluster.namespace)
        waited = time.monotonic() - began
        if found and (waited > _SECONDS or (found[0].permanent and waited > _HOPELESS_SECONDS)):
            return ("image" if found[0].kind == "image" else phase), found[0].sentence(), found[0].fix
        if waited > _SECONDS:
            return phase, "", f"kubectl describe pod {name} -n {cluster.namespace}"
        time.sleep(0.5)


def _read(log: str, pods: RayJob, namespace: str) -> Finding:
    for line in reversed(log.splitlines()):
        try:
            told = json.loads(line)
            finding = Finding(f"{told['name']} from a pod", told["status"], told["message"], told["fix"])
        except (ValueError, KeyError, TypeError):
            continue
        if finding.status == "problem" and pods.env_secrets:
            fix = f"{finding.fix}; the pods' credentials are in kubectl get secret {pods.env_secrets[0]} -n {namespace}"
            return Finding(finding.name, finding.status, finding.message, fix)
        return finding
    last = "; ".join(log.strip().splitlines()[-2:]) or "it printed nothing"
    fix = "train.rayjob.image has to hold this version of fairlead"
    return Finding("store from a pod", "problem", f"the pod could not try the store: {last}", fix)
