"""What Kubeflow Pipelines' API and the way to it refuse, as Fairlead's errors."""

import json
from typing import Any

from fairlead.errors import ClusterIncomplete, ClusterRefused, ClusterUnreachable, FairleadError

_TOKEN = "name a file with a token in FAIRLEAD_KFP_TOKEN_FILE, or log in to the cluster's proxy"
_HOST = "check --host, pipeline.host or KF_PIPELINES_ENDPOINT; for one inside of the cluster: kubectl port-forward -n \
kubeflow svc/ml-pipeline 8888, and --host http://127.0.0.1:8888"
_REASON_LENGTH = 600


def refused(what: str, host: str, namespace: str | None, error: Exception) -> FairleadError:
    """The error for a call that did not succeed. `what` says what was tried."""
    status = getattr(error, "status", None)
    where = host or "the current cluster"
    if not isinstance(status, int) or status == 0:
        return ClusterUnreachable(f"cannot {what}: nothing answers", where=where, why=_short(str(error)), fix=_HOST)
    why = f"{status}: {_said(error)}"
    if status in (401, 403):
        return ClusterRefused(f"cannot {what}: the credentials do not allow it", where=where, why=why, fix=_TOKEN)
    if "namespace" in why.lower() and status in (400, 404):
        named = f"the namespace {namespace} is not one of it" if namespace else "this Kubeflow serves many namespaces"
        fix = "--namespace NAME or pipeline.namespace: the profile that the runs belong to"
        return ClusterIncomplete(f"cannot {what}: {named}", where=where, why=why, fix=fix)
    if status == 404:
        return ClusterIncomplete(f"cannot {what}: it is not there", where=where, why=why, fix=_HOST)
    if status >= 500:
        return ClusterUnreachable(f"cannot {what}: the server failed", where=where, why=why, fix="try it again later")
    return ClusterRefused(f"cannot {what}", where=where, why=why, fix="the reason names what Kubeflow will not take")


def _said(error: Any) -> str:
    body = getattr(error, "body", None) or ""
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body)
    try:
        value = json.loads(text)
        text = str(value.get("message") or value.get("error") or text)
    except (ValueError, AttributeError):
        pass
    return _short(text or str(getattr(error, "reason", "")))


def _short(text: str) -> str:
    return " ".join(text.split())[:_REASON_LENGTH]
