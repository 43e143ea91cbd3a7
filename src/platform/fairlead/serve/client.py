"""Talking to a running server, whichever door it has: a few blocking calls over one kept connection."""

import http.client
import threading
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import orjson

from fairlead.errors import ServeError, ServerUnreachable, StaleGeneration
from fairlead.records.codec import from_value, to_value
from fairlead.records.release import Release
from fairlead.records.rollout import ServingEvidence


class ReleaseStatus(TypedDict):
    """What a server answers to ``GET /fairlead/v1/release``. `applied`: what all replicas confirmed, None before."""

    wanted: Release
    applied: Release | None
    candidate_ready: bool
    replicas: int
    error: str


class RequestRefused(ServeError):
    """The server refused a request: its status, code and the field to change are in the message."""

    code = "FL-603"

    def __init__(
        self, what: str, *, where: str | None = None, why: str | None = None, fix: str | None = None, status: int = 0
    ) -> None:
        super().__init__(what, where=where, why=why, fix=fix)
        self.status = status


class ServingClient:
    """One server. Safe to share between threads (calls take turns)."""

    def __init__(self, url: str, token: str = "", model: str = "", *, timeout_seconds: float = 10.0) -> None:
        """`url`: http://host:port. `token` is needed for releases and evidence, `model` for `infer`."""
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ServeError(f"{url} is no address of a server", fix="Use http://HOST:PORT.")
        self.url = url.rstrip("/")
        self._host, self._port = parts.hostname, parts.port or 80
        self._prefix = parts.path.rstrip("/")
        self.model = model
        self._token, self._timeout = token, timeout_seconds
        self._connection: http.client.HTTPConnection | None = None
        self._lock = threading.Lock()

    def release(self) -> ReleaseStatus:
        """What is wanted and what is applied. Raises ServerUnreachable, RequestRefused."""
        return _status(self._call("GET", "/fairlead/v1/release"))

    def put_release(self, release: Release) -> ReleaseStatus:
        """Wish for `release`. Raises StaleGeneration when a newer one, or the same with other content, is wanted."""
        try:
            return _status(self._call("PUT", "/fairlead/v1/release", to_value(release)))
        except RequestRefused as error:
            if error.status == 409:
                raise StaleGeneration(error.what, where=error.where) from error
            raise

    def evidence(self) -> ServingEvidence:
        """What the server counted."""
        evidence: ServingEvidence = from_value(ServingEvidence, self._call("GET", "/fairlead/v1/evidence"))
        return evidence

    def infer(self, rows: Sequence[Mapping[str, object]], *, request_id: str | None = None) -> dict[str, Any]:
        """The answer for plain rows: ``{"predictions": [...], "parameters": {...}}``."""
        document: dict[str, Any] = {"instances": list(rows)}
        if request_id is not None:
            document["id"] = request_id
        return self._call("POST", f"/v2/models/{urllib.parse.quote(self.model)}/predict", document)

    def feedback(self, labels: Sequence[tuple[str, object]]) -> dict[str, int]:
        """Post labels as (request id, label); gives how many were joined, unknown, duplicate and changed."""
        document = {"labels": [{"request_id": identity, "label": label} for identity, label in labels]}
        return self._call("POST", "/fairlead/v1/feedback", document)

    def outcomes(self, metric: str, values: Mapping[str, float]) -> dict[str, int]:
        """Post what an A/B test or a bandit compares, by key: the value of `serve.sticky`, else the request id. Gives
        how many were joined and what became of the others (`records.trial.WORDS`)."""
        posted = [{"key": key, "metric": metric, "value": value} for key, value in values.items()]
        found: dict[str, int] = self._call("POST", "/fairlead/v1/feedback", {"outcomes": posted})["outcomes"]
        return found

    def ready(self) -> bool:
        """Does a server answer there, and can it serve?"""
        try:
            self._call("GET", "/v2/health/ready")
        except (ServerUnreachable, RequestRefused):
            return False
        return True

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._drop()

    def __enter__(self) -> "ServingClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # Who drops the last reference instead of closing leaves no connection behind either.
        if getattr(self, "_connection", None) is not None:
            self._drop()

    # -----------------------------------------------------------------------------------------------------------------
    def _call(self, method: str, path: str, document: Any = None) -> dict[str, Any]:
        body = None if document is None else orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        with self._lock:
            status, data = self._exchange(method, self._prefix + path, body, headers)
        try:
            answer = orjson.loads(data) if data else {}
        except orjson.JSONDecodeError:
            answer = {"error": data[:200].decode("utf-8", "replace")}
        if status >= 300:
            raise RequestRefused(
                f"the server answered {status}: {answer.get('error', 'no reason given')}",
                where=f"{method} {self.url}{path}",
                why=" ".join(str(answer[key]) for key in ("code", "field") if answer.get(key)) or None,
                status=status,
            )
        found: dict[str, Any] = answer
        return found

    def _exchange(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        for attempt in (1, 2):
            fresh = self._connection is None
            try:
                if self._connection is None:
                    self._connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
                self._connection.request(method, path, body, headers)
                response = self._connection.getresponse()
                status, data = response.status, response.read()
                if status != 500 or fresh:
                    return status, data
                # A proxy that was replaced answers kept connections, and the servers that it knows may be gone.
                self._drop()
            except (OSError, http.client.HTTPException) as error:
                self._drop()
                # A kept connection that the server closed meanwhile is no failure; every call here may be repeated.
                if fresh or attempt == 2 or isinstance(error, TimeoutError):
                    raise ServerUnreachable(
                        "no server answers",
                        where=self.url,
                        why=str(error) or type(error).__name__,
                        fix="Start it with `fairlead serve` or `fairlead deploy`.",
                    ) from error
        raise ServerUnreachable("no server answers", where=self.url)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _status(document: dict[str, Any]) -> ReleaseStatus:
    if not isinstance(document, dict) or not {"wanted", "applied", "candidate_ready", "replicas"} <= document.keys():
        raise RequestRefused("the answer is not that of a Fairlead server", where="/fairlead/v1/release", status=200)
    return {
        "wanted": from_value(Release, document["wanted"]),
        "applied": from_value(Release, document["applied"]),
        "candidate_ready": bool(document["candidate_ready"]),
        "replicas": int(document["replicas"]),
        "error": str(document["error"]),
    }
