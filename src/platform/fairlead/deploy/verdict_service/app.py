"""The HTTP application: read-only, small, and never the reason why another controller moves.

    GET  /v1/verdict?version=12[&weight=10]     the verdict; always 200 when there is a rollout to speak of
    POST /v1/flagger/confirm-traffic-increase   200 when the candidate may have metadata.weight percent, else 409
    POST /v1/flagger/confirm-promotion          200 when it may become champion, else 409
    POST /v1/flagger/rollback                   200 when it must go, else 409
    GET  /metrics                               the newest rollout for Prometheus
    GET  /health/live, /health/ready            200; ready also reads the store

What is asked wrongly gets a 4xx with a code; a store that cannot be read gets a 503, which both controllers take for
"no answer". All but /metrics and /health want the bearer token, where there is one.
"""

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fairlead.clock import Clock
from fairlead.deploy.rollout.course import ends_of
from fairlead.deploy.rollout.lease import host_of
from fairlead.deploy.rollout.start import load, rollout_ids
from fairlead.deploy.rollout.wishes import settled
from fairlead.deploy.verdict_service import exposition
from fairlead.deploy.verdict_service.answer import PROMOTE, ROLLBACK, Answer, answer, requests_needed
from fairlead.deploy.verdict_service.requests import (
    HOOKS,
    MAX_BODY_BYTES,
    Question,
    Refused,
    peek_token,
    read_payload,
    read_query,
)
from fairlead.errors import FairleadError, RolloutNotFound
from fairlead.logs import get_logger
from fairlead.records.rollout import RolloutRecord
from fairlead.store import Store

_log = get_logger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Reply = tuple[int, bytes, str]

MAX_ROLLOUTS_SEARCHED = 50
"""How many rollouts, newest first, are looked through for a version or a digest."""
_JSON = "application/json"
_GET = ("GET", "HEAD")


class Rollouts:
    """The stored rollouts of one model, as the service reads them. Safe from any thread: ended ones are remembered."""

    def __init__(self, store: Store, model: str, clock: Clock) -> None:
        self.model = model
        self._store, self._clock = store, clock
        self._ended: dict[str, RolloutRecord] = {}

    def newest(self) -> RolloutRecord | None:
        """The newest rollout. Raises StoreError, IntegrityError."""
        known = rollout_ids(self._store, self.model)
        return self._load(known[-1]) if known else None

    def find(self, question: Question) -> RolloutRecord:
        """The newest rollout of the candidate asked about. Raises RolloutNotFound, StoreError, IntegrityError."""
        for rollout in reversed(rollout_ids(self._store, self.model)[-MAX_ROLLOUTS_SEARCHED:]):
            if question.rollout and int(rollout) != int(question.rollout):
                continue
            record = self._load(rollout)
            if question.rollout or question.version == record.candidate.version:
                return record
            if question.digest and question.digest == record.candidate.digest:
                return record
        raise RolloutNotFound(f"model {self.model} has had no rollout of {question.words()}")

    def hosted(self, record: RolloutRecord) -> bool:
        """True while somebody runs the loop of `record`."""
        return host_of(self._store, self.model, record.id, self._clock) is not None

    def _load(self, rollout: str) -> RolloutRecord:
        known = self._ended.get(rollout)
        if known is not None:
            return known
        record = load(self._store, self.model, rollout)
        if settled(record):
            self._ended[rollout] = record
            for old in sorted(self._ended, key=int)[:-MAX_ROLLOUTS_SEARCHED]:
                self._ended.pop(old, None)
        return record


class VerdictApp:
    """An ASGI application around the rollouts of one model. `token`: what a caller must bear; "" for none."""

    def __init__(self, rollouts: Rollouts, token: str) -> None:
        self._rollouts, self._token = rollouts, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise RuntimeError("only HTTP is served here")
        extra: list[tuple[bytes, bytes]] = []
        try:
            status, body, content_type = await self._route(scope, receive)
        except Refused as refused:
            status, body, content_type = refused.status, _json(refused.body()), _JSON
            extra = _headers_of(refused)
        except RolloutNotFound as error:
            status, body, content_type = 404, _json(Refused(404, "unknown_rollout", error.what).body()), _JSON
        except FairleadError as error:
            _log.warning("a verdict cannot be given: %s", error)
            status, body, content_type = 503, _json(Refused(503, error.code, error.what).body()), _JSON
        headers = [
            (b"content-type", content_type.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
            *extra,
        ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _route(self, scope: Scope, receive: Receive) -> Reply:
        path, method = scope["path"], scope["method"]
        hook = path.removeprefix("/v1/flagger/") if path.startswith("/v1/flagger/") else ""
        if hook and hook not in HOOKS:
            raise Refused(404, "unknown_hook", f"a verdict answers the webhooks {', '.join(HOOKS)}", field="path")
        handler = {"/v1/verdict": self._verdict, "/metrics": self._metrics, "/health/live": self._live,
                   "/health/ready": self._ready}.get(path)  # fmt: skip
        if handler is None and not hook:
            raise Refused(404, "unknown_path", "nothing is here; the verdict is at /v1/verdict", field="path")
        allowed = ("POST",) if hook else _GET
        if method not in allowed:
            raise Refused(405, "method_not_allowed", f"use {' or '.join(allowed)}", field="method")
        if handler is not None:
            return await handler(scope)
        return await self._flagger(hook, scope, receive)

    # --- routes ------------------------------------------------------------------------------------------------------
    async def _verdict(self, scope: Scope) -> Reply:
        self._authorise(scope, "")
        question = read_query(scope["query_string"], self._rollouts.model)
        record, said = await asyncio.to_thread(self._ask, question)
        return 200, _json(document(record, said)), _JSON

    async def _flagger(self, hook: str, scope: Scope, receive: Receive) -> Reply:
        body = await _read_body(scope, receive)
        self._authorise(scope, peek_token(body))
        question, _ = read_payload(body, self._rollouts.model)
        if hook != "confirm-traffic-increase":
            question = Question(question.rollout, question.version, question.digest)
        record, said = await asyncio.to_thread(self._ask, question)
        if said.decision == (ROLLBACK if hook == "rollback" else PROMOTE):
            return 200, _json(document(record, said)), _JSON
        refusal = Refused(409, f"decision_{said.decision}", said.why)
        return 409, _json({**refusal.body(), **document(record, said)}), _JSON

    async def _metrics(self, _scope: Scope) -> Reply:
        return 200, await asyncio.to_thread(self._exposed), exposition.CONTENT_TYPE

    async def _live(self, _scope: Scope) -> Reply:
        return 200, b"{}", _JSON

    async def _ready(self, _scope: Scope) -> Reply:
        await asyncio.to_thread(self._rollouts.newest)
        return 200, b"{}", _JSON

    # --- reading -----------------------------------------------------------------------------------------------------
    def _ask(self, question: Question) -> tuple[RolloutRecord, Answer]:
        record = self._rollouts.find(question)
        hosted = settled(record) or self._rollouts.hosted(record)
        return record, answer(record, hosted=hosted, wanted_percent=question.wanted_percent)

    def _exposed(self) -> bytes:
        record = self._rollouts.newest()
        hosted = record is not None and self._rollouts.hosted(record)
        return exposition.render(self._rollouts.model, record, hosted=hosted)

    def _authorise(self, scope: Scope, in_body: str) -> None:
        """The token is in the header; or in the metadata of a Flagger webhook, which has no headers."""
        if not self._token:
            return
        header = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        wanted = self._token.encode()
        if not (
            hmac.compare_digest(header, b"Bearer " + wanted)
            or hmac.compare_digest(in_body.encode("utf-8", "replace"), wanted)
        ):
            raise Refused(401, "unauthorised", "this route needs the service's bearer token", field="authorization")


def document(record: RolloutRecord, said: Answer) -> dict[str, object]:
    """The body of a verdict. ``verdict`` is small: Argo keeps it with each measurement."""
    return {
        "verdict": {
            "decision": said.decision,
            "verdict": said.verdict.value,
            "reason": said.reason,
            "why": said.why[:2000],
            "rollout": record.id,
            "model": record.model,
            "version": record.candidate.version,
            "phase": record.phase.value,
            "granted_percent": said.granted_percent,
            "wanted_percent": said.wanted_percent,
            "requests": record.last_requests,
            "requests_needed": requests_needed(record),
        },
        "digest": record.candidate.digest,
        "updated_at": record.updated_at,
        "metrics": [
            {
                "metric": metric.metric,
                "verdict": metric.verdict.value,
                "required": bool(metric.details.get("required")),
                "observations": metric.n,
                "observed": _finite(metric.observed),
                "low": _finite(ends_of(metric)[0]),
                "high": _finite(ends_of(metric)[1]),
                "bound": _finite(metric.bound),
                "needed": metric.needed,
                "why": metric.why[:1000],
            }
            for metric in record.last_metrics
        ],
    }


async def _read_body(scope: Scope, receive: Receive) -> bytes:
    headers = dict(scope["headers"])
    kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
    if kind not in (b"", b"application/json"):
        raise Refused(415, "unsupported_media_type", "the body must be application/json", field="content-type")
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "incomplete_body", "the client left before the body was whole", field="body")
        part = message.get("body", b"")
        more, size = message.get("more_body", False), size + len(part)
        if size <= MAX_BODY_BYTES:
            parts.append(part)
        elif size > 16 * MAX_BODY_BYTES or not more:  # the rest is taken in, so that the client reads why
            raise Refused(413, "body_too_large", f"the body is larger than {MAX_BODY_BYTES} bytes", field="body")
    return b"".join(parts)


def _headers_of(refused: Refused) -> list[tuple[bytes, bytes]]:
    if refused.status == 401:
        return [(b"www-authenticate", b"Bearer")]
    return [(b"allow", refused.message.removeprefix("use ").replace(" or ", ", ").encode())] if (
        refused.status == 405
    ) else []  # fmt: skip


def _json(value: object) -> bytes:
    return json.dumps(value, allow_nan=False, ensure_ascii=False).encode("utf-8", "replace")


def _finite(value: float | None) -> float | None:
    return value if value is not None and value - value == 0 else None
