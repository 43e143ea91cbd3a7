"""The routes of both doors as one ASGI application, without a framework between the socket and the data plane."""

import urllib.parse
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson

from fairlead.errors import FairleadError
from fairlead.logs import get_logger
from fairlead.records.codec import from_value, to_value
from fairlead.records.release import Release
from fairlead.serve.data_plane import Kind, Reply
from fairlead.serve.messages import ReleaseRefused
from fairlead.serve.metrics import CONTENT_TYPE
from fairlead.serve.openapi import openapi_document
from fairlead.serve.parsing import load_object
from fairlead.serve.protocol import model_metadata, server_metadata
from fairlead.serve.refusals import Refusal, bad_field, overloaded, unavailable
from fairlead.serve.release_check import check_release
from fairlead.serve.server import Server
from fairlead.serve.token import authorised

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_log = get_logger(__name__)

_JSON = b"application/json"
_GET = ("GET", "HEAD")


class HttpApp:
    """An ASGI application around one `Server`."""

    def __init__(self, server: Server, token: str) -> None:
        self._server = server
        self._token = token
        self._plane = server.plane
        self._max_body = server.spec.max_body
        self._sticky_header = server.plane.sticky_header
        # The two paths that matter are found by one lookup, before anything is taken apart.
        self._hot: dict[str, Kind] = {
            f"/v2/models/{server.model}/infer": "infer",
            f"/v2/models/{server.model}/predict": "predict",
        }
        self._hot_targets = frozenset(urllib.parse.quote(path).encode() for path in self._hot)

    @property
    def hot_paths(self) -> frozenset[str]:
        """The paths of inference requests without a version."""
        return frozenset(self._hot)

    def turns_away(self, method: bytes, target: bytes) -> bool:
        """True, and counted, when a request is refused unread: too many wait already. See `http_protocol.Door`."""
        if not self._plane.full or target not in self._hot_targets or method != b"POST":
            return False
        self._plane.turned_away()
        return True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or take part in the lifespan."""
        if scope["type"] != "http":
            await _lifespan(scope, receive, send)
            return
        kind = self._hot.get(scope["path"])
        content_type = _JSON
        try:
            if kind is not None and scope["method"] == "POST":
                if self._plane.full:  # where no protocol of ours stands before it
                    self._plane.turned_away()
                    await send(_TOO_MANY)
                    await send(_TOO_MANY_BODY)
                    return
                status, body, headers = await self._infer(kind, None, scope, receive)
            else:
                status, body, headers, content_type = await self._route(scope, receive)
        except Refusal as refusal:
            status, body, headers = refusal.status, refusal.body(), refusal.headers()
            await _drain(receive, status)
        except Exception:  # a defect of the server: told as such, never as a traceback to a client
            _log.exception("a request could not be answered")
            status, headers = 500, []
            body = orjson.dumps({"error": "the server failed on this request", "code": "internal", "field": ""})
        await send(_response(status, body, headers, content_type))
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    # --- inference ---------------------------------------------------------------------------------------------------
    async def _infer(self, kind: Kind, version: str | None, scope: Scope, receive: Receive) -> Reply:
        content_type = request_id = key = b""
        length = -1
        sticky = self._sticky_header
        for name, value in scope["headers"]:
            if name == b"content-type":
                content_type = value
            elif name == b"content-length":
                length = int(value) if value.isdigit() else -1
            elif name == b"x-request-id":
                request_id = value
            elif name == b"content-encoding" and value.lower() not in (b"", b"identity"):
                raise Refusal(415, "unsupported_encoding", "the body must not be compressed", field="content-encoding")
            elif name == b"inference-header-content-length":
                raise Refusal(415, "unsupported_encoding", "binary tensor data is not supported", field=name.decode())
            if name == sticky:
                key = value
        check_json(content_type)
        body = await read_body(receive, self._max_body, length)
        return await self._plane.handle(
            kind, body, request_id=request_id.decode("latin-1"), key=key.decode("latin-1"), version=version
        )

    # --- everything else ---------------------------------------------------------------------------------------------
    async def _route(self, scope: Scope, receive: Receive) -> tuple[int, bytes, list[tuple[bytes, bytes]], bytes]:
        path, method = scope["path"], scope["method"]
        if path.startswith("/v2/models/"):
            status, body, headers = await self._model_route(path.split("/")[3:], method, scope, receive)
            return status, body, headers, _JSON
        fixed = {
            "/v2": (self._metadata, _GET),
            "/v2/": (self._metadata, _GET),
            "/v2/health/live": (self._live, _GET),
            "/v2/health/ready": (self._ready, _GET),
            "/metrics": (self._metrics, _GET),
            "/openapi.json": (self._openapi, _GET),
            "/fairlead/v1/feedback": (self._feedback, ("POST",)),
            "/fairlead/v1/evidence": (self._evidence, _GET),
            "/fairlead/v1/release": (self._release, (*_GET, "PUT")),
        }.get(path)
        if fixed is None:
            raise Refusal(404, "unknown_path", f"nothing is at {path[:200]}", field="path")
        handler, methods = fixed
        if method not in methods:
            return _not_allowed(methods)
        status, body = await handler(scope, receive)
        return status, body, [], CONTENT_TYPE if path == "/metrics" else _JSON

    async def _model_route(self, parts: list[str], method: str, scope: Scope, receive: Receive) -> Reply:
        """``{model}[/versions/{version}][/ready|/infer|/predict]``."""
        name, rest = parts[0], parts[1:]
        if name != self._server.model:
            raise Refusal(404, "unknown_model", f"this server serves {self._server.model}", field="model")
        version = None
        if len(rest) >= 2 and rest[0] == "versions":
            version, rest = rest[1], rest[2:]
        verb = rest[0] if rest else ""
        if len(rest) > 1 or verb not in ("", "ready", "infer", "predict"):
            raise Refusal(404, "unknown_path", "nothing is here", field="path")
        methods = ("POST",) if verb in ("infer", "predict") else _GET
        if method not in methods:
            return _not_allowed(methods)[:3]
        if verb == "infer" or verb == "predict":
            return await self._infer("infer" if verb == "infer" else "predict", version, scope, receive)
        live = self._plane.require_live()
        versions = [str(live.model.arm.version)]
        if live.candidate is not None and live.candidate_arm is not None:
            versions.append(str(live.candidate_arm.version))
        if version is not None and version not in versions:
            raise Refusal(404, "unknown_version", f"version {version[:40]} is not served", field="version")
        if verb == "ready":
            return 200, b"", []
        return 200, orjson.dumps(model_metadata(name, versions, live.model.signature)), []

    async def _metadata(self, _scope: Scope, _receive: Receive) -> tuple[int, bytes]:
        return 200, orjson.dumps(server_metadata())

    async def _live(self, _scope: Scope, _receive: Receive) -> tuple[int, bytes]:
        return 200, b""

    async def _ready(self, _scope: Scope, _receive: Receive) -> tuple[int, bytes]:
        self._plane.require_live()
        return 200, b""

    async def _metrics(self, _scope: Scope, _receive: Receive) -> tuple[int, bytes]:
        try:
            return 200, await self._server.render_metrics()
        except Exception as error:  # see _feedback; one replica's own numbers would look like the sum
            raise unavailable("control_gone", "the metrics of all replicas cannot be read now") from error

    async def _openapi(self, _scope: Scope, _receive: Receive) -> tuple[int, bytes]:
        live = self._plane.require_live()
        return 200, orjson.dumps(openapi_document(self._server.model, live.model.signature))

    async def _feedback(self, scope: Scope, receive: Receive) -> tuple[int, bytes]:
        document = await self._json(scope, receive)
        try:
            return 200, orjson.dumps(await self._server.feedback(document))
        except (Refusal, ReleaseRefused):
            raise
        except Exception as error:  # the control may be restarting; the client must send the labels again
            raise unavailable("control_gone", "labels cannot be joined now") from error

    async def _evidence(self, scope: Scope, _receive: Receive) -> tuple[int, bytes]:
        self._authorise(scope)
        try:
            await self._server.sync()
            evidence = await self._server.control.evidence()
        except Exception as error:  # see _feedback
            raise unavailable("control_gone", "the evidence cannot be read now") from error
        return 200, orjson.dumps(to_value(evidence))

    async def _release(self, scope: Scope, receive: Receive) -> tuple[int, bytes]:
        self._authorise(scope)
        control = self._server.control
        if scope["method"] == "PUT":
            release = read_release(await self._json(scope, receive))
            try:
                await control.put(release)
            except ReleaseRefused as refused:
                raise Refusal(refused.status, refused.code, str(refused), field="generation") from refused
            except FairleadError as error:
                raise unavailable("not_stored", error.what) from error
        try:
            view = await control.view()
        except Exception as error:  # see _feedback
            raise unavailable("control_gone", "the release cannot be read now") from error
        return 200, orjson.dumps(to_value(view))

    async def _json(self, scope: Scope, receive: Receive) -> dict[str, Any]:
        headers = dict(scope["headers"])
        check_json(headers.get(b"content-type", b""))
        length = headers.get(b"content-length", b"")
        return load_object(await read_body(receive, self._max_body, int(length) if length.isdigit() else -1))

    def _authorise(self, scope: Scope) -> None:
        if not authorised(dict(scope["headers"]).get(b"authorization", b""), self._token):
            raise _Unauthorised(
                401, "unauthorised", "this route needs the server's bearer token", field="authorization"
            )


class _Unauthorised(Refusal):
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [(b"www-authenticate", b"Bearer")]


def read_release(document: dict[str, Any]) -> Release:
    """A Release from a JSON object. Raises Refusal (400)."""
    try:
        release = from_value(Release, document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise bad_field("release", f"the body is no release: {error}") from None
    problem = check_release(release)
    if problem:
        raise bad_field(problem[0], problem[1])
    checked: Release = release
    return checked


def check_json(content_type: bytes) -> None:
    """Raise Refusal (415) for anything but JSON. No content type at all counts as JSON."""
    if content_type and content_type != _JSON and content_type.split(b";")[0].strip().lower() != _JSON:
        raise Refusal(415, "unsupported_media_type", "the body must be application/json", field="content-type")


async def read_body(receive: Receive, limit: int, announced: int) -> bytes:
    """The whole body. Raises Refusal (413) as soon as it is too large, without reading the rest."""
    if announced > limit:
        raise Refusal(413, "body_too_large", f"the body is larger than {limit} bytes", field="body")
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        if len(body) > limit:
            raise Refusal(413, "body_too_large", f"the body is larger than {limit} bytes", field="body")
        return body
    parts = [body]
    size = len(body)
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refusal(400, "incomplete_body", "the client left before the body was whole", field="body")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise Refusal(413, "body_too_large", f"the body is larger than {limit} bytes", field="body")
    return b"".join(parts)


async def _drain(receive: Receive, status: int) -> None:
    """Take in what a refused client still sends, up to a bound, so that it gets to read the refusal."""
    if status != 413:
        return
    taken = 0
    while taken < 64 * 2**20:
        message = await receive()
        taken += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return


def _response(status: int, body: bytes, headers: list[tuple[bytes, bytes]], content_type: bytes) -> Message:
    """The start of a response."""
    fixed = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    return {"type": "http.response.start", "status": status, "headers": [*fixed, *headers]}


def _too_many() -> tuple[Message, Message]:
    refusal = overloaded()
    body = refusal.body()
    start = _response(refusal.status, body, refusal.headers(), _JSON)
    return start, {"type": "http.response.body", "body": body}


_TOO_MANY, _TOO_MANY_BODY = _too_many()


def _not_allowed(methods: tuple[str, ...]) -> tuple[int, bytes, list[tuple[bytes, bytes]], bytes]:
    refusal = Refusal(405, "method_not_allowed", f"use {' or '.join(methods)}", field="method")
    return 405, refusal.body(), [(b"allow", ", ".join(methods).encode())], _JSON


async def _lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1000})
        return
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def model_url(url: str, model: str, verb: str = "") -> str:
    """The address of a model on the server at `url`."""
    path = f"/v2/models/{urllib.parse.quote(model)}"
    return f"{url.rstrip('/')}{path}/{verb}" if verb else f"{url.rstrip('/')}{path}"
