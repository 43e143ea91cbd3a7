"""A way around Ray Serve's bookkeeping, for the two paths that matter.

Between a replica's HTTP server and its application Ray Serve makes two tasks, a queue, a context and several metrics
per request: a third of what a small model's request costs. Ray lets a function name middlewares for every HTTP server
that it starts (`ray_settings.CALLBACK`); this one hands inference requests straight to the application.

What that gives up: Ray's own per-replica request metrics, its request timeouts, and its count of ongoing requests,
which its autoscaler reads. So it is set where the number of replicas is fixed, and only there. Draining does not need
the count: the HTTP server answers what is in flight before it ends.

Ray calls `middlewares` in every process of Ray Serve that listens, so nothing heavy is imported here.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.middleware import Middleware

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]


class _Direct:
    """What this process answers by itself: nothing, unless it is a replica of an ingress."""

    paths: frozenset[str] = frozenset()
    app: App | None = None


def answer_directly(app: App | None, paths: frozenset[str]) -> None:
    """Hand requests for `paths` to `app` from now on; None: leave them to Ray again."""
    _Direct.app, _Direct.paths = app, paths


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


def middlewares() -> list[Middleware]:
    """What Ray asks for."""
    return [Middleware(Shortcut)]
