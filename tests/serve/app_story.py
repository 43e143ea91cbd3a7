"""An application around real bundles, and what a test asks of it, in one process and without a network."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from asgi_calls import Response, call, until
from conftest import Bundles
from tiny_models import MODEL, ROW

from fairlead.records.codec import from_value, to_value
from fairlead.records.release import Release
from fairlead.records.rollout import ServingEvidence
from fairlead.serve.http_app import running_app
from fairlead.serve.routes import HttpApp
from fairlead.spec.serve import RequestLog, Serve

PREDICT = f"/v2/models/{MODEL}/predict"
INFER = f"/v2/models/{MODEL}/infer"
TOKEN = {"authorization": "Bearer secret"}
SPEC = Serve(deadline_ms=2000, max_body=4096, log=RequestLog(enabled=False))


def serve(
    bundles: Bundles, story: Callable[[HttpApp], Awaitable[Any]], release: Release | None = None, **spec: Any
) -> Any:
    """Run `story` against an application that serves `release` (the first bundle alone)."""

    async def main() -> Any:
        wanted = release or Release(MODEL, 1, bundles.first)
        options = SPEC.model_copy(update=spec)
        async with running_app(options, wanted, bundles.store, bundles.cache, "secret") as app:
            return await story(app)

    return asyncio.run(main())


async def put(app: HttpApp, release: Release) -> Response:
    return await call(app, "PUT", "/fairlead/v1/release", to_value(release), TOKEN)


async def apply(app: HttpApp, release: Release) -> None:
    """Wish for a release and wait until it is applied, its candidate included."""
    assert (await put(app, release)).status == 200
    plane = app._server.plane

    def applied() -> bool:
        live = plane.live
        return (
            live is not None and live.release == release and (release.candidate is None or live.candidate is not None)
        )

    await until(applied)
    await app._server.sync()


async def evidence(app: HttpApp) -> ServingEvidence:
    response = await call(app, "GET", "/fairlead/v1/evidence", headers=TOKEN)
    found: ServingEvidence = from_value(ServingEvidence, response.json())
    return found


async def ask(app: HttpApp, identity: str, row: dict[str, Any] | None = None) -> dict[str, Any]:
    response = await call(app, "POST", PREDICT, {"id": identity, "instances": [row or ROW]})
    assert response.status == 200, response.body
    document: dict[str, Any] = response.json()
    return document
