"""What requests for a candidate share when they come together, and what becomes of each of them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest
from tiny_models import rows_of

from fairlead.errors import FairleadError, PredictionFailed
from fairlead.serve.candidate import CandidateDied
from fairlead.serve.candidate_calls import CandidateCalls
from fairlead.serve.candidate_link import MAX_IN_FLIGHT
from fairlead.serve.model import Answer, Item

Answers = list[Answer | FairleadError]


class Port:
    """Notes its calls and answers them as `answer` does, when `gate` is open."""

    def __init__(self, answer: Callable[[Sequence[Item]], Answers]) -> None:
        self._answer = answer
        self.calls: list[tuple[int, float]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    def predict(self, items: Sequence[Item], timeout_seconds: float) -> Awaitable[Answers]:
        """See CandidatePort."""
        self.calls.append((len(items), timeout_seconds))
        return self._later(items)

    async def _later(self, items: Sequence[Item]) -> Answers:
        await self.gate.wait()
        return self._answer(items)

    async def leave(self) -> None:
        """See CandidatePort."""


def scored(items: Sequence[Item]) -> Answers:
    """The number of rows of each item as its score, so that it shows whose answer it is."""
    return [Answer([float(len(item))], None) for item in items]


async def all_of(calls: CandidateCalls, rows: Sequence[int], seconds: float = 1.0) -> list[object]:
    """What becomes of one request for each number of rows, all of the same turn."""
    futures = [calls.submit(rows_of(count), seconds) for count in rows]
    return await asyncio.gather(*futures, return_exceptions=True)


def test_requests_of_one_turn_are_one_call_and_each_gets_its_own_answer() -> None:
    async def story() -> None:
        port = Port(scored)
        calls = CandidateCalls(port)
        found = await all_of(calls, [3, 1, 2])
        assert [answer.scores for answer in found if isinstance(answer, Answer)] == [[3.0], [1.0], [2.0]]
        assert port.calls == [(3, 1.0)]
        await all_of(calls, [1])
        assert port.calls == [(3, 1.0), (1, 1.0)]

    asyncio.run(story())


def test_they_share_the_shortest_time() -> None:
    async def story() -> None:
        port = Port(scored)
        calls = CandidateCalls(port)
        await asyncio.gather(*(calls.submit(rows_of(1), seconds) for seconds in (0.5, 0.2, 0.9)))
        assert port.calls == [(3, 0.2)]

    asyncio.run(story())


def test_no_more_requests_than_the_cap_are_left_with_a_candidate() -> None:
    async def story() -> None:
        port = Port(scored)
        calls = CandidateCalls(port)
        port.gate.clear()
        first = [calls.submit(rows_of(1), 1.0) for _ in range(MAX_IN_FLIGHT)]
        with pytest.raises(PredictionFailed, match="too many requests"):
            calls.submit(rows_of(1), 1.0)
        await asyncio.sleep(0)
        with pytest.raises(PredictionFailed, match="too many requests"):
            calls.submit(rows_of(1), 1.0)
        port.gate.set()
        await asyncio.gather(*first)
        assert len(await all_of(calls, [1] * MAX_IN_FLIGHT)) == MAX_IN_FLIGHT

    asyncio.run(story())


def fails_at_once(_items: Sequence[Item], _seconds: float) -> Awaitable[Answers]:
    raise PredictionFailed("cannot be reached")


async def dies(_items: Sequence[Item], _seconds: float) -> Answers:
    raise CandidateDied(b"life")


@pytest.mark.parametrize(("predict", "error"), [(fails_at_once, PredictionFailed), (dies, CandidateDied)])
def test_what_the_port_raises_every_request_of_the_call_gets_and_its_place_is_free_again(
    predict: Callable[[Sequence[Item], float], Awaitable[Answers]], error: type[Exception]
) -> None:
    async def story() -> None:
        port = Port(scored)
        port.predict = predict  # type: ignore[method-assign]
        calls = CandidateCalls(port, max_in_flight=3)
        for _ in range(3):
            assert [type(outcome) for outcome in await all_of(calls, [1, 1, 1])] == [error] * 3

    asyncio.run(story())


def test_an_answer_that_is_missing_is_an_error_and_not_another_requests_answer() -> None:
    async def story() -> None:
        calls = CandidateCalls(Port(lambda items: scored(items)[:2]))
        first, second, third = await all_of(calls, [3, 1, 2])
        assert isinstance(first, Answer)
        assert first.scores == [3.0]
        assert isinstance(second, Answer)
        assert second.scores == [1.0]
        assert isinstance(third, PredictionFailed)

    asyncio.run(story())


def test_who_leaves_takes_nobody_along() -> None:
    async def story() -> None:
        port = Port(scored)
        calls = CandidateCalls(port, max_in_flight=2)
        port.gate.clear()
        gone, stays = calls.submit(rows_of(1), 1.0), calls.submit(rows_of(2), 1.0)
        await asyncio.sleep(0)
        gone.cancel()
        port.gate.set()
        answer = await stays
        assert isinstance(answer, Answer)
        assert answer.scores == [2.0]
        assert len(await all_of(calls, [1, 1])) == 2

    asyncio.run(story())
