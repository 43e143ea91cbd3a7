"""What a cluster can and cannot do for a project: one finding per fact, each with what to do about it.

The only thing that is created is one small pod, which tries the image and the store, and is deleted again.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fairlead.errors import ClusterUnreachable, FairleadError
from fairlead.kube import Cluster, open_cluster
from fairlead.kube.kinds import CRDS, NAMESPACES, NODES, PODS, QUOTAS, RAYJOBS, RAYSERVICES, STORAGE_CLASSES
from fairlead.kube.permissions import LOOKING, SERVING, TRAINING, Permission
from fairlead.kube.quantities import amount
from fairlead.spec.project import Project
from fairlead.spec.rayjob import RayJob
from fairlead.train.rayjob_render import Place, pods_of, render
from fairlead.wiring.context import Context, open_context
from fairlead.wiring.doctor import Finding
from fairlead.wiring.doctor_probe import probe

_LEVEL = "pod-security.kubernetes.io/enforce"
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_OPERATOR = "app.kubernetes.io/component=kuberay-operator"
_TESTED = ((1, 30), (1, 36))
_INSTALL = "helm install kuberay-operator kuberay/kuberay-operator --namespace ray-system --create-namespace"

Check = Callable[[], Iterator[Finding]]


def examine_cluster(project_file: Path, overrides: tuple[str, ...] = ()) -> list[Finding]:
    """All findings; only the first when no cluster answers. `train.rayjob` says which cluster and namespace."""
    context, findings = _project(project_file, overrides)
    pods = context.project.train.rayjob if context else None
    try:
        cluster = open_cluster(pods.context if pods else None, pods.namespace if pods else None)
        version = cluster.version()
    except FairleadError as error:
        return [*findings, Finding("cluster", "problem", _words(error), error.fix)]
    findings += [Finding("cluster", "ok", f"{cluster.context} answers at {cluster.address}"), _version(version)]
    checks: list[tuple[str, Check]] = [
        ("namespace", lambda: _namespace(cluster)),
        ("kuberay", lambda: _kuberay(cluster)),
        ("permissions", lambda: _permissions(cluster)),
        ("storage class", lambda: _storage_class(cluster)),
        ("nodes", lambda: _nodes(cluster, pods)),
        ("quota", lambda: _quota(cluster, context.project if context else None)),
    ]
    if context is not None and pods is not None:
        checks.append(("admission", lambda: _admission(cluster, context)))
        checks.append(("pod", lambda: probe(cluster, pods, context.store.uri)))
    else:
        fix = "write train.rayjob with an image into the project file"
        findings.append(Finding("pod", "note", "no train.rayjob: image, store and admission were not tried", fix))
    for name, check in checks:
        findings += _guarded(name, check)
    return findings


def _project(project_file: Path, overrides: tuple[str, ...]) -> tuple[Context | None, list[Finding]]:
    if not project_file.is_file():
        return None, [Finding("project", "note", f"no {project_file.name} here", "fairlead init --from DATA")]
    try:
        return open_context(project_file, overrides), []
    except FairleadError as error:
        return None, [Finding("project", "problem", error.what, error.fix or "fairlead validate")]


def _guarded(name: str, check: Check) -> list[Finding]:
    """What a check found; what it may not see is a note, and the rest goes on."""
    findings: list[Finding] = []
    try:
        findings.extend(check())
    except ClusterUnreachable as error:
        findings.append(Finding(name, "problem", _words(error), error.fix))
    except FairleadError as error:
        findings.append(Finding(name, "note", f"not looked at: {error.what}", error.fix))
    return findings


def _version(version: str) -> Finding:
    numbers = version.lstrip("v").split(".")
    try:
        found = (int(numbers[0]), int(numbers[1].rstrip("+")))
    except (ValueError, IndexError):
        return Finding("version", "note", f"Kubernetes {version}")
    low, high = _TESTED
    if low <= found <= high:
        return Finding("version", "ok", f"Kubernetes {version}")
    text = f"Kubernetes {version}: Fairlead knows {low[0]}.{low[1]} to {high[0]}.{high[1]}"
    return Finding("version", "warning", text, "try it in a namespace of its own first")


def _namespace(cluster: Cluster) -> Iterator[Finding]:
    found = cluster.get(NAMESPACES, cluster.namespace)
    if found is None:
        fix = f"kubectl create namespace {cluster.namespace}"
        yield Finding("namespace", "problem", f"there is no namespace {cluster.namespace}", fix)
        return
    level = (found["metadata"].get("labels") or {}).get(_LEVEL)
    if level == "restricted":
        yield Finding("namespace", "ok", f"{cluster.namespace}, Pod Security level restricted")
        return
    label = f"kubectl label namespace {cluster.namespace} {_LEVEL}=restricted"
    what = f"Pod Security level {level}" if level else "no Pod Security level"
    yield Finding("namespace", "warning", f"{cluster.namespace} has {what}; Fairlead's pods run restricted", label)


def _kuberay(cluster: Cluster) -> Iterator[Finding]:
    for kind in (RAYJOBS, RAYSERVICES):
        try:
            cluster.list(kind)
        except FairleadError as error:
            if "does not know this kind" in error.what:
                yield Finding("kuberay", "problem", f"the CRD {kind.words} is not installed", _INSTALL)
            else:
                yield Finding(f"kuberay {kind.plural}", "problem", error.what, error.fix)
            continue
        yield Finding("kuberay", "ok", f"the CRD {kind.words} is installed{_crd_version(cluster, kind.words)}")
    answer = cluster.request("GET", "/api/v1/pods", "list pods of all namespaces", query=[("labelSelector", _OPERATOR)])
    running = [pod for pod in answer.get("items") or () if _ready(pod)]
    if running:
        images = sorted({str(each["image"]) for pod in running for each in pod["spec"]["containers"]})
        where = running[0]["metadata"]["namespace"]
        yield Finding("operator", "ok", f"KubeRay's operator runs in {where} ({', '.join(images)})")
    else:
        yield Finding("operator", "problem", "no KubeRay operator is ready: RayJobs and RayServices wait", _INSTALL)


def _crd_version(cluster: Cluster, name: str) -> str:
    try:
        crd = cluster.get(CRDS, name) or {}
    except FairleadError:
        return ""
    versions = [str(each["name"]) for each in crd.get("spec", {}).get("versions", ()) if each.get("served")]
    return f" ({', '.join(versions)})" if versions else ""


def _ready(pod: Mapping[str, Any]) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)


def _permissions(cluster: Cluster) -> Iterator[Finding]:
    for title, table in (("training", TRAINING), ("serving", SERVING), ("looking around", LOOKING)):
        allowed = 0
        for permission in table:
            missing = [verb for verb in permission.verbs if not cluster.may(verb, permission.kind, permission.below)]
            allowed += len(permission.verbs) - len(missing)
            if missing:
                yield _refusal(cluster, permission, missing)
        total = sum(len(permission.verbs) for permission in table)
        yield Finding("permissions", "ok" if allowed == total else "note", f"{title}: {allowed} of {total} verbs")


def _refusal(cluster: Cluster, permission: Permission, missing: list[str]) -> Finding:
    verbs = ",".join(missing)
    scope = "clusterrole" if not permission.kind.namespaced else "role"
    where = "" if not permission.kind.namespaced else f" -n {cluster.namespace}"
    name = f"fairlead-{permission.kind.plural}"
    fix = f"kubectl create {scope} {name}{where} --verb={verbs} --resource={permission.resource}"
    text = f"may not {verbs} {permission.resource}: needed to {permission.what_for}"
    return Finding("permissions", "note" if permission.optional else "problem", text, f"{fix}, and bind it")


def _storage_class(cluster: Cluster) -> Iterator[Finding]:
    classes = cluster.list(STORAGE_CLASSES)
    default = [str(c["metadata"]["name"]) for c in classes if _annotation(c, _DEFAULT_CLASS) == "true"]
    if len(default) == 1:
        yield Finding("storage class", "ok", f"the default StorageClass is {default[0]}")
    elif default:
        yield Finding("storage class", "warning", f"several are the default: {', '.join(default)}", _unset(default[0]))
    else:
        names = ", ".join(str(c["metadata"]["name"]) for c in classes) or "none at all"
        text = f"there is no default StorageClass ({names}); Fairlead itself needs none, its store is S3"
        yield Finding("storage class", "note", text, _unset("NAME").replace("false", "true"))


def _unset(name: str) -> str:
    return f"kubectl annotate storageclass {name} {_DEFAULT_CLASS}=false --overwrite"


def _annotation(found: Mapping[str, Any], key: str) -> str:
    return str((found["metadata"].get("annotations") or {}).get(key, ""))


def _nodes(cluster: Cluster, pods: RayJob | None) -> Iterator[Finding]:
    nodes = cluster.list(NODES)
    ready = [node for node in nodes if _ready(node) and not node["spec"].get("unschedulable")]
    if not ready:
        yield Finding("nodes", "problem", f"none of {len(nodes)} nodes takes pods", "kubectl get nodes")
        return
    yield Finding("nodes", "ok", f"{len(ready)} of {len(nodes)} nodes take pods")
    resource = pods.worker.gpu_resource if pods else "nvidia.com/gpu"
    gpus = {str(n["metadata"]["name"]): int(amount(n["status"]["allocatable"].get(resource, "0"))) for n in ready}
    total = sum(gpus.values())
    wanted = pods.worker.gpus if pods else 0
    if total:
        having = ", ".join(f"{name} {count}" for name, count in sorted(gpus.items()) if count)
        status: Any = "ok" if max(gpus.values()) >= wanted else "problem"
        yield Finding("gpu nodes", status, f"{total} of {resource} ({having})", "lower train.rayjob.worker.gpus")
    else:
        text = f"no node offers {resource}" + (f", and train.rayjob.worker.gpus is {wanted}" if wanted else "")
        yield Finding("gpu nodes", "problem" if wanted else "note", text, "install the GPU vendor's device plugin")
    if pods is not None:
        yield from _fits(ready, pods)


def _fits(nodes: list[dict[str, Any]], pods: RayJob) -> Iterator[Finding]:
    for name, size in (("head", pods.head), ("worker", pods.worker)):
        holds = [
            node
            for node in nodes
            if amount(node["status"]["allocatable"]["cpu"]) >= size.cpu
            and amount(node["status"]["allocatable"]["memory"]) >= size.memory
        ]
        asked = f"{size.cpu:g} CPU and {size.memory / 2**30:.1f} GiB"
        if holds:
            yield Finding(f"{name} pod", "ok", f"{len(holds)} nodes are large enough for {asked}")
        else:
            fix = f"lower train.rayjob.{name}.cpu or .memory, or add larger nodes"
            yield Finding(f"{name} pod", "problem", f"no node can ever hold {asked}", fix)


def _quota(cluster: Cluster, project: Project | None) -> Iterator[Finding]:
    quotas = cluster.list(QUOTAS)
    if not quotas:
        yield Finding("quota", "ok", f"{cluster.namespace} has no quota")
        return
    needs = _needs(project) if project is not None else {}
    for quota in quotas:
        name, status = quota["metadata"]["name"], quota.get("status") or {}
        hard, used = status.get("hard") or {}, status.get("used") or {}
        short = [
            f"{key}: {used.get(key, '0')} of {hard[key]} used, the job needs {need:g} more"
            for key, need in needs.items()
            if key in hard and amount(str(hard[key])) - amount(str(used.get(key, "0"))) < need
        ]
        told = ", ".join(f"{key} {used.get(key, '0')} of {hard[key]}" for key in sorted(hard))
        if short:
            fix = f"kubectl edit resourcequota {name} -n {cluster.namespace}, or lower train.rayjob and train.workers"
            yield Finding("quota", "problem", f"{name}: {'; '.join(short)}", fix)
        else:
            yield Finding("quota", "ok", f"{name}: {told}")


def _needs(project: Project) -> dict[str, float]:
    pods, workers = project.train.rayjob, project.train.workers
    if pods is None:
        return {}
    cpu = pods.head.cpu + workers * pods.worker.cpu
    memory = float(pods.head.memory + workers * pods.worker.memory)
    gpus = float(workers * pods.worker.gpus)
    found = {"requests.cpu": cpu, "cpu": cpu, "pods": 1.0 + workers, f"requests.{pods.worker.gpu_resource}": gpus}
    return found | {"requests.memory": memory, "memory": memory, "limits.memory": memory}


def _admission(cluster: Cluster, context: Context) -> Iterator[Finding]:
    """The API server's own opinion of the job and its pods; nothing is created."""
    place = Place(context.project.project, "doctor", "", context.store.uri, "doctor")
    manifest = render(context.project.train, place)
    for kind, body in [(RAYJOBS, manifest), *((PODS, pod) for pod in pods_of(manifest, cluster.namespace))]:
        name = body["metadata"]["name"]
        try:
            cluster.create(kind, body, dry_run=True)
        except FairleadError as error:
            yield Finding("admission", "problem", f"{kind.plural} {name}: {_words(error)}", error.fix)
            continue
        yield Finding("admission", "ok", f"the API server takes {kind.plural} {name}")


def _words(error: FairleadError) -> str:
    return f"{error.what}: {error.why}" if error.why else error.what
