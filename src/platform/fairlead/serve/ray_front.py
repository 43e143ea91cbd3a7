"""A way around Ray Serve's bookkeeping, for the two paths that matter.

Between a replica's HTTP server and its application Ray Serve makes two tasks, a queue, a context and several metrics
per request: a third of what a small model's request costs. Ray lets a function name middlewares for every HTTP server
that it starts (`ray_settings.CALLBACK`); this one hands inference requests straight to the application.

The same function gives uvicorn, which Ray's HTTP servers are made of, our side of a connection (`http_protocol`).

What that gives up: Ray's own per-replica request metrics, its request timeouts, and its count of ongoing requests,
which its autoscaler reads. So it is set where the number of replicas is fixed, and only there. Draining does not need
the count: the HTTP server answers what is in flight before it ends.

Ray calls `middlewares` in every process of Ray Serve that listens, so nothing heavy is imported here.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.middleware import Middleware
from uvicorn.config import HTTP_PROTOCOLS

from fairlead.serve.http_protocol import Door, OneWriteProtocol

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]


class _Direct:
    """What this process answers by itself: nothing, unless it is a replica of an ingress."""

    paths: frozenset[str] = frozenset()
    app: App | None = None
    door: Door | None = None


def answer_directly(app: App | None, paths: frozenset[str], door: Door | None = None) -> None:
    """Hand requests for `paths` to `app` from now on, unless `door` turns them away; None: leave them to Ray again."""
    _Direct.app, _Direct.paths, _Direct.door = app, paths, door


class Shortcut:
    """The middleware."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Answer, or leave it to Ray."""
        app = _Direct.app
        if app is not None and scope["type"] == "http" and scope["path"] in _Direct.paths:
            await app(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class ReplicaProtocol(OneWriteProtocol):
    """The connection of a client, or of HAProxy, with a process of Ray Serve."""

    def door(self) -> Door | None:
        """See OneWriteProtocol."""
        return _Direct.door


def middlewares() -> list[Middleware]:
    """What Ray asks for, before it makes a server: Ray names no protocol, so that uvicorn takes its own choice."""
    HTTP_PROTOCOLS["auto"] = f"{__name__}:{ReplicaProtocol.__name__}"
    return [Middleware(Shortcut)]
