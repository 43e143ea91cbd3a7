"""Requests that a machine makes up from the API's own description: none may make the server fail."""

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import schemathesis
from conftest import Bundles, copy_of
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from server_process import free_port, server_process
from tiny_models import MODEL

from fairlead.records.release import Release
from fairlead.spec.serve import RequestLog, Serve

EXAMPLES = int(os.environ.get("FAIRLEAD_FUZZ_EXAMPLES", "200"))
"""Over all operations."""


@pytest.fixture(scope="module")
def api(published: Bundles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The description that a real server gives of itself."""
    spec = Serve(port=free_port(), log=RequestLog(enabled=False), max_body=100_000)
    bundles = copy_of(published, tmp_path_factory.mktemp("fuzz"))
    release = Release(MODEL, 1, bundles.first, bundles.second, 50.0, 50.0)
    with server_process(spec, release, bundles.base) as (client, _):
        yield schemathesis.openapi.from_url(f"{client.url}/openapi.json")
        assert client.evidence().user_failures == 0


def test_no_made_up_request_makes_the_server_fail(api: Any) -> None:
    operations = [result.ok() for result in api.get_all_operations()]
    asked: Counter[int] = Counter()

    def check(case: Any) -> None:
        response = case.call()
        asked[response.status_code] += 1
        assert response.status_code < 500, (response.request.body, response.content)
        if response.status_code >= 400:
            assert response.json()["error"]

    for operation in operations:
        # Bodies are where there is something to get wrong.
        share = 0.09 if operation.method in ("post", "put") else 0.01
        fuzz(operation, GenerationMode.POSITIVE, math.ceil(EXAMPLES * share), check)
        if operation.method in ("post", "put"):
            fuzz(operation, GenerationMode.NEGATIVE, math.ceil(EXAMPLES * share), check)
    print(f"\n{sum(asked.values())} requests; answers by status: {dict(sorted(asked.items()))}")
    assert sum(asked.values()) >= EXAMPLES
    assert asked[200] > 0
    assert asked[400] > 0


def fuzz(operation: Any, mode: GenerationMode, examples: int, check: Callable[[Any], None]) -> None:
    """Run `check` on made-up requests; NEGATIVE ones break the description."""
    strategy = operation.as_strategy(generation_mode=mode)
    options = settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
        phases=(Phase.explicit, Phase.generate),
    )
    options(given(case=strategy)(check))()
