"""One API server, as one identity, through the official library. Objects are plain mappings, as in YAML."""

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from fairlead.errors import ClusterUnreachable, ExtraMissing, FairleadError
from fairlead.kube.kinds import Kind
from fairlead.kube.refusals import explain_refusal, explain_silence

Object = dict[str, Any]
Objects = list[Object]
Query = Sequence[tuple[str, str]]

_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_TIMEOUT_SECONDS = (5.0, 30.0)  # to connect, to read
_ATTEMPTS = 4
_BUSY = frozenset({429, 500, 502, 503, 504})
_MERGE = "application/merge-patch+json"


class Cluster:
    """What Fairlead does with an API server. `namespace` is meant wherever none is named.

    Reading is tried again when the server is busy or does not answer; writing is not, except where the same request
    twice means the same. Raises ClusterUnreachable, ClusterRefused, ClusterIncomplete and ClusterConflict.
    """

    def __init__(self, api: Any, namespace: str, context: str) -> None:
        """`api`: the library's ApiClient. `context`: how a person names this cluster."""
        self._api, self.namespace, self.context = api, namespace, context

    @property
    def address(self) -> str:
        """The API server's URL."""
        return str(self._api.configuration.host)

    def get(self, kind: Kind, name: str) -> Object | None:
        """One object, None when there is none."""
        return self._optional(kind.path(self.namespace, name), f"get {kind.words} {name}")

    def list(self, kind: Kind, *, labels: str = "", fields: str = "") -> Objects:
        """All objects of a kind that match the selectors."""
        query = [("labelSelector", labels), ("fieldSelector", fields)]
        answer = self.request("GET", kind.path(self.namespace), f"list {kind.words}", query=query)
        return list(answer.get("items") or [])

    def create(self, kind: Kind, body: Mapping[str, Any], *, dry_run: bool = False) -> Object:
        """Create an object; `dry_run`: only have the server check it. Raises ClusterConflict when there is one."""
        what = f"{'check' if dry_run else 'create'} {kind.words} {body.get('metadata', {}).get('name', '')}"
        query = [("fieldManager", "fairlead"), ("fieldValidation", "Strict"), ("dryRun", "All" if dry_run else "")]
        return self.request("POST", kind.path(self.namespace), what, query=query, body=body)

    def patch(self, kind: Kind, name: str, change: Mapping[str, Any]) -> Object:
        """Merge `change` into an object (JSON merge patch)."""
        what = f"patch {kind.words} {name}"
        return self.request("PATCH", kind.path(self.namespace, name), what, body=change, content_type=_MERGE)

    def delete(self, kind: Kind, name: str, *, grace_seconds: int | None = None) -> bool:
        """Delete an object and what belongs to it; False when there was none. `grace_seconds` 0: a pod is killed."""
        body: Object = {"propagationPolicy": "Background"}
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        try:
            self.request("DELETE", kind.path(self.namespace, name), f"delete {kind.words} {name}", body=body)
        except FairleadError as error:
            if _status(error) == 404:
                return False
            raise
        return True

    def may(self, verb: str, kind: Kind, below: str = "") -> bool:
        """Whether this identity may do something in the namespace (a SelfSubjectAccessReview)."""
        attributes = {"verb": verb, "group": kind.group, "resource": kind.plural, "subresource": below}
        if kind.namespaced:
            attributes["namespace"] = self.namespace
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
        body = {**review, "spec": {"resourceAttributes": attributes}}
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        return bool(self.request("POST", path, "ask for permissions", body=body)["status"].get("allowed"))

    def version(self) -> str:
        """The API server's version, such as v1.34.4."""
        return str(self.request("GET", "/version", "ask for the version")["gitVersion"])

    def pod_log(self, pod: str, container: str = "", *, lines: int = 200) -> str:
        """The last lines that a container printed; "" when it has printed nothing or is gone."""
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/log"
        query = [("container", container), ("tailLines", str(lines))]
        try:
            text = self._call("GET", path, f"read the log of {pod}", query=query, accept="*/*")
        except FairleadError as error:
            if _status(error) in (400, 404):
                return ""
            raise
        # The library reads whatever looks like JSON; a log may be one line of it.
        return text if isinstance(text, str) else json.dumps(text)

    def through_service(self, service: str, port: int, path: str, headers: Mapping[str, str]) -> Any:
        """What an HTTP service in the namespace answers to a GET, by way of the API server; JSON."""
        place = f"/api/v1/namespaces/{self.namespace}/services/{service}:{port}/proxy/{path.lstrip('/')}"
        return self._call("GET", place, f"reach the service {service}", headers=headers, accept="*/*")

    def request(
        self,
        method: str,
        path: str,
        what: str,
        *,
        query: Query | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Object:
        """One call of the API. `what` says in an error what was tried."""
        headers = {"Content-Type": content_type} if body is not None else {}
        answer = self._call(method, path, what, query=query or [], body=body, headers=headers)
        return dict(answer or {})

    def _optional(self, path: str, what: str) -> Object | None:
        try:
            return self.request("GET", path, what)
        except FairleadError as error:
            if _status(error) == 404 and _names_object(error):
                return None
            raise

    def _call(
        self,
        method: str,
        path: str,
        what: str,
        *,
        query: Query | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        accept: str = "application/json",
    ) -> Any:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        def once() -> Any:
            return self._api.call_api(
                path, method, {}, [pair for pair in query or [] if pair[1]],
                {"Accept": accept, **(headers or {})}, body,
                response_type="object", auth_settings=["BearerToken"],
                _return_http_data_only=True, _request_timeout=_TIMEOUT_SECONDS,
            )  # fmt: skip

        safe = method in ("GET", "DELETE", "PATCH")
        attempts = Retrying(
            stop=stop_after_attempt(_ATTEMPTS if safe else 1),
            wait=wait_random_exponential(multiplier=0.2, max=3),
            retry=retry_if_exception(_transient),
            reraise=True,
        )
        try:
            return attempts(once)
        except ApiException as error:
            raise explain_refusal(error, what, self.context, self.namespace) from error
        except (HTTPError, OSError) as error:
            raise explain_silence(error, what, self.context, self.address) from error


def open_cluster(context: str | None = None, namespace: str | None = None) -> Cluster:
    """The cluster of a context of the kubeconfig (None: the current one), or the one that this pod runs in.

    Nothing is contacted. Raises ClusterUnreachable when there is no such context, ExtraMissing."""
    try:
        import kubernetes.client
        import kubernetes.config
        from kubernetes.config.config_exception import ConfigException
    except ModuleNotFoundError as error:
        raise ExtraMissing(
            "this needs kubernetes, which is not installed", fix="pip install 'fairlead[cluster]'"
        ) from (error)
    configuration = kubernetes.client.Configuration()
    configuration.retries = 0  # the library's own retries would print warnings, and know nothing of what is safe
    try:
        if context is None and _in_pod():
            kubernetes.config.load_incluster_config(client_configuration=configuration)
            found, name = _POD_NAMESPACE.read_text().strip(), "this pod's cluster"
        else:
            contexts, current = kubernetes.config.list_kube_config_contexts()
            chosen = current if context is None else _named(contexts, context)
            kubernetes.config.load_kube_config(context=chosen["name"], client_configuration=configuration)
            found, name = str(chosen.get("context", {}).get("namespace") or "default"), str(chosen["name"])
    except (ConfigException, OSError) as error:
        raise ClusterUnreachable(
            "there is no cluster to talk to",
            why=str(error),
            fix="set KUBECONFIG to the cluster's kubeconfig; kubectl config get-contexts lists what it holds",
        ) from error
    return Cluster(kubernetes.client.ApiClient(configuration), namespace or found, name)


def _in_pod() -> bool:
    import os

    return _POD_NAMESPACE.is_file() and "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ


def _named(contexts: Objects, name: str) -> Object:
    for context in contexts:
        if context["name"] == name:
            return context
    known = ", ".join(sorted(str(context["name"]) for context in contexts)) or "none"
    raise ClusterUnreachable(
        f"the kubeconfig has no context {name}",
        where="train.rayjob.context",
        why=f"it has: {known}",
        fix="kubectl config get-contexts lists them; name one of them, or none for the current one",
    )


def _transient(error: BaseException) -> bool:
    status = getattr(error, "status", None)
    return status in _BUSY if status else isinstance(error, _silences())


@functools.cache
def _silences() -> tuple[type[BaseException], ...]:
    from urllib3.exceptions import HTTPError

    return (HTTPError, ConnectionError)


def _status(error: FairleadError) -> int:
    return int(getattr(error.__cause__, "status", 0) or 0)


def _names_object(error: FairleadError) -> bool:
    # A 404 for an object has details that name it; a 404 for an API that is not there says "page not found".
    try:
        return bool(json.loads(getattr(error.__cause__, "body", "") or "{}").get("details", {}).get("name"))
    except ValueError:
        return False
