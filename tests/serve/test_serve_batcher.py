"""Dynamic batching: where calls run, whose turn it is, and what overload costs."""

import asyncio
import time
from collections.abc import Sequence

from fairlead.errors import FairleadError
from fairlead.serve.batcher import Batcher
from fairlead.serve.model import Answer, Item


def test_a_batcher_that_learns_moves_into_the_loop_once_calls_are_fast_and_stays_out_while_they_are_not() -> None:
    async def batch(seconds: float) -> bool:
        def predict(items: Sequence[Item]) -> list[Answer | FairleadError]:
            end = time.perf_counter() + seconds
            while time.perf_counter() < end:
                pass
            return [Answer([0.5] * len(item), None) for item in items]

        batcher = Batcher(predict, max_batch=8, wait_seconds=0, max_queue=64, inline=False, learn=True)
        for _ in range(400):
            await batcher.submit([{}], time.perf_counter() + 10)
            if batcher.inline:
                break
        batcher.close()
        return batcher.inline

    assert asyncio.run(batch(0.0))
    assert not asyncio.run(batch(0.0015))


def test_between_two_calls_in_the_loop_others_have_their_turn() -> None:
    order: list[str] = []

    async def story() -> None:
        def predict(items: Sequence[Item]) -> list[Answer | FairleadError]:
            order.append(f"call of {len(items)}")
            asyncio.get_running_loop().call_soon(order.append, "turn")
            return [Answer([0.5] * len(item), None) for item in items]

        batcher = Batcher(predict, max_batch=2, wait_seconds=0, max_queue=64, inline=True)
        await asyncio.gather(*(batcher.submit([{}], time.perf_counter() + 10) for _ in range(5)))

    asyncio.run(story())
    assert order[:5] == ["call of 2", "turn", "call of 2", "turn", "call of 1"]


def test_under_overload_a_slow_model_still_answers_about_as_much_as_it_can() -> None:
    async def main() -> tuple[int, float]:
        call_seconds, deadline_seconds = 0.02, 0.1

        def predict(items: Sequence[Item]) -> list[Answer | FairleadError]:
            time.sleep(call_seconds)
            return [Answer([0.5] * len(item), None) for item in items]

        batcher = Batcher(predict, max_batch=1, wait_seconds=0, max_queue=64, inline=False)
        futures = []
        begun = time.perf_counter()
        for _ in range(200):  # four times what it can do
            futures.append(batcher.submit([{}], time.perf_counter() + deadline_seconds))
            await asyncio.sleep(call_seconds / 4)
        seconds = time.perf_counter() - begun
        outcomes = await asyncio.gather(*futures, return_exceptions=True)
        batcher.close()
        return sum(isinstance(outcome, Answer) for outcome in outcomes), seconds / call_seconds

    answered, possible = asyncio.run(main())
    assert answered > 0.6 * possible
