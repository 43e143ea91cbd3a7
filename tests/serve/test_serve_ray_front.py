"""The way around Ray's bookkeeping: taken for the paths that the application named, and by nothing else."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from fairlead.errors import ServeError
from fairlead.serve import ray_front, ray_settings
from fairlead.spec.serve import Serve


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    ray_front.answer_directly(None, frozenset())


def taken(scope: dict[str, Any]) -> str:
    """Who answers: ray or the application."""
    seen: list[str] = []

    async def ray(scope: Any, receive: Any, send: Any) -> None:
        seen.append("ray")

    (middleware,) = ray_front.middlewares()
    asyncio.run(middleware.cls(ray)(scope, None, None))  # type: ignore[arg-type, misc]
    return seen[0] if seen else "application"


def test_only_the_named_paths_of_an_ingress_go_around_ray() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        pass

    hot = {"type": "http", "path": "/v2/models/delays/infer"}
    assert taken(hot) == "ray"
    ray_front.answer_directly(app, frozenset({"/v2/models/delays/infer"}))
    assert taken(hot) == "application"
    assert taken({"type": "http", "path": "/-/healthz"}) == "ray"
    assert taken({"type": "websocket", "path": "/v2/models/delays/infer"}) == "ray"


def test_the_callback_that_ray_is_told_is_this_one() -> None:
    module, _, name = ray_settings.CALLBACK.rpartition(".")
    assert module == ray_front.__name__
    assert getattr(ray_front, name) is ray_front.middlewares
    assert ray_settings.LOCAL_ENVIRONMENT.items() >= ray_settings.RAY_ENVIRONMENT.items()


@pytest.mark.ray
def test_a_deadline_that_the_proxy_does_not_wait_for_is_refused(tmp_path: Any) -> None:
    from fairlead.records.release import Arm, Release
    from fairlead.serve.ray_app import start_ray_serving

    with pytest.raises(ServeError, match="deadline_ms is 4000"):
        start_ray_serving(Serve(deadline_ms=4000), Release("m", 1, Arm(1, "b", "d")), "store", tmp_path)
