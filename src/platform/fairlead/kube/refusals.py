"""What an API server's refusal means, and what to do about it."""

import json
import re
from typing import Any

from fairlead.errors import (
    ClusterConflict,
    ClusterIncomplete,
    ClusterRefused,
    ClusterUnreachable,
    EnvironmentProblem,
    FairleadError,
    PodsCannotRun,
)

_FORBIDDEN = re.compile(
    r'User "(?P<user>[^"]+)" cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"'
)


def explain_refusal(error: Any, what: str, context: str, namespace: str) -> FairleadError:
    """The error for the library's ApiException; `what` was tried."""
    message = _message(error)
    where = f"{context}, namespace {namespace}"
    if error.status == 401:
        return ClusterRefused(
            f"the cluster does not accept the credentials (tried to {what})",
            where=where,
            why=message,
            fix="log in again; kubectl auth whoami shows who you are",
        )
    if error.status == 403:
        return _forbidden(what, where, namespace, message)
    if error.status == 404:
        return _missing(what, where, namespace, message, error)
    if error.status == 409:
        return ClusterConflict(f"the cluster has one already (tried to {what})", where=where, why=message)
    if error.status in (400, 422):
        return ClusterRefused(f"the cluster does not take it (tried to {what})", where=where, why=message)
    return ClusterUnreachable(
        f"the cluster answers with HTTP {error.status} (tried to {what})",
        where=where,
        why=message,
        fix="kubectl get --raw /readyz?verbose says which part of it is ill",
    )


def explain_silence(error: BaseException, what: str, context: str, address: str) -> FairleadError:
    """The error for no answer at all."""
    cause = getattr(error, "reason", None) or error
    return ClusterUnreachable(
        f"no cluster answers (tried to {what})",
        where=f"{context} at {address}",
        why=str(cause)[:500],
        fix=f"kubectl --context {context} cluster-info; check the network, and that the cluster is up",
    )


def _forbidden(what: str, where: str, namespace: str, message: str) -> EnvironmentProblem:
    if "exceeded quota" in message:
        return PodsCannotRun(
            f"the namespace's quota has no room (tried to {what})",
            where=where,
            why=message,
            fix=f"kubectl describe resourcequota -n {namespace}; ask for less, or for a larger quota",
        )
    if "violates PodSecurity" in message:
        return ClusterRefused(
            f"the namespace's Pod Security level refuses the pods (tried to {what})",
            where=where,
            why=message,
            fix=f"kubectl get namespace {namespace} --show-labels",
        )
    found = _FORBIDDEN.search(message)
    if found is None:
        return ClusterRefused(f"the cluster forbids it (tried to {what})", where=where, why=message)
    group = f".{found['group']}" if found["group"] else ""
    resource, _, below = found["resource"].partition("/")
    sub = f"/{below}" if below else ""
    return ClusterRefused(
        f"{found['user']} may not {found['verb']} {resource}{group}{sub} (tried to {what})",
        where=where,
        why=message,
        fix=f"kubectl create role fairlead-{found['verb']}-{resource} -n {namespace} --verb={found['verb']} "
        f"--resource={resource}{group}{sub}, and bind it; k8s/rbac.yaml has the whole role",
    )


def _missing(what: str, where: str, namespace: str, message: str, error: Any) -> EnvironmentProblem:
    details = _body(error).get("details") or {}
    if details.get("kind") == "namespaces":
        return ClusterIncomplete(
            f"there is no namespace {namespace}",
            where=where,
            why=message,
            fix=f"kubectl create namespace {namespace}",
        )
    if not details.get("name"):
        return ClusterIncomplete(
            f"the cluster does not know this kind of object (tried to {what})",
            where=where,
            why=message,
            fix="install the CRDs and the operator: helm install kuberay-operator kuberay/kuberay-operator; "
            "kubectl get crd lists what there is",
        )
    return ClusterIncomplete(f"there is no such object (tried to {what})", where=where, why=message)


def _message(error: Any) -> str:
    said = _body(error).get("message")
    return str(said or error.body or error.reason or "")[:1500].strip()


def _body(error: Any) -> dict[str, Any]:
    try:
        value = json.loads(error.body or "{}")
    except (TypeError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
