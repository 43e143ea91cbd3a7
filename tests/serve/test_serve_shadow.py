"""Copies of requests: in whole batches, each told exactly once, whatever the candidate does."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest
from conftest import Bundles
from tiny_models import rows_of

from fairlead.errors import FairleadError
from fairlead.serve.candidate import Shadow
from fairlead.serve.exchange import Exchange
from fairlead.serve.model import Answer, Item, LoadedModel, load_model

GOOD = Answer([0.25], ["false"], 0.001)


class Waits:
    """A candidate that answers when it is let, and remembers how much it was asked at a time."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.let = asyncio.Event()

    async def predict(self, items: Sequence[Item], timeout_seconds: float) -> list[Answer | FairleadError]:
        self.calls.append(len(items))
        await self.let.wait()
        return [GOOD for _ in items]

    async def leave(self) -> None:
        """See CandidatePort."""


@pytest.fixture(scope="module")
def model(published: Bundles, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_model(published.store, published.first, tmp_path_factory.mktemp("cache"))


def copies(model: LoadedModel, count: int) -> list[Exchange]:
    found = [Exchange(f"id-{number}", 0.0, model, rows_of(1)) for number in range(count)]
    for exchange in found:
        exchange.body = b"body"
    return found


def run(story: Callable[[Shadow, list[Exchange]], Awaitable[None]], **options: int) -> list[Exchange]:
    """What was finished while `story` ran."""
    finished: list[Exchange] = []

    async def main() -> None:
        shadow = Shadow(finished.append, **options)
        async with asyncio.timeout(20):
            await story(shadow, finished)
        await shadow.close()

    asyncio.run(main())
    assert all(exchange.body == b"" for exchange in finished)
    return finished


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_a_whole_batch_goes_at_once_and_the_rest_when_it_has_gathered(model: LoadedModel) -> None:
    async def story(shadow: Shadow, finished: list[Exchange]) -> None:
        candidate = Waits()
        candidate.let.set()
        for exchange in copies(model, 20):
            shadow.offer(exchange, candidate, 1.0)
        await asyncio.sleep(0)
        assert candidate.calls == [8, 8]
        await until(lambda: len(finished) == 20)
        assert candidate.calls == [8, 8, 4]

    finished = run(story, max_batch=8)
    assert [exchange.id for exchange in finished] == [f"id-{number}" for number in range(20)]
    assert all(exchange.shadow_answer is GOOD for exchange in finished)


def test_while_two_batches_are_with_the_candidate_others_wait_and_what_does_not_fit_is_dropped(
    model: LoadedModel,
) -> None:
    async def story(shadow: Shadow, finished: list[Exchange]) -> None:
        candidate = Waits()
        for exchange in copies(model, 50):
            shadow.offer(exchange, candidate, 1.0)
        await asyncio.sleep(0)
        assert candidate.calls == [8, 8]
        assert len(finished) == 50 - 16 - 20  # dropped at once
        candidate.let.set()
        await until(lambda: len(finished) == 50)
        assert candidate.calls == [8, 8, 8, 8, 4]

    finished = run(story, max_batch=8, max_waiting=20)
    assert sum(exchange.shadow_dropped for exchange in finished) == 14
    assert sum(exchange.shadow_answer is GOOD for exchange in finished) == 36


def test_copies_for_another_candidate_never_share_a_batch_with_those_before(model: LoadedModel) -> None:
    async def story(shadow: Shadow, finished: list[Exchange]) -> None:
        first, second = Waits(), Waits()
        first.let.set()
        second.let.set()
        for exchange, candidate in zip(copies(model, 6), [first] * 3 + [second] * 3, strict=True):
            shadow.offer(exchange, candidate, 1.0)
        await until(lambda: len(finished) == 6)
        assert (first.calls, second.calls) == ([3], [3])

    run(story, max_batch=8)


def test_what_waits_when_the_server_ends_is_told_as_dropped(model: LoadedModel) -> None:
    async def story(shadow: Shadow, finished: list[Exchange]) -> None:
        candidate = Waits()
        for exchange in copies(model, 20):
            shadow.offer(exchange, candidate, 1.0)
        await asyncio.sleep(0)
        assert not finished

    finished = run(story, max_batch=8)
    assert sorted(exchange.id for exchange in finished) == sorted(f"id-{number}" for number in range(20))
    assert all(exchange.shadow_dropped for exchange in finished)
