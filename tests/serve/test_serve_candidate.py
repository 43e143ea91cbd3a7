"""The socket to a candidate: what travels, and what a candidate that hangs, lies, dies or says too much can do."""

import asyncio
import os
import signal
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Bundles
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_models import rows_of

from fairlead.errors import FairleadError, PredictionFailed, ServeError
from fairlead.records.model import Field, Signature
from fairlead.serve.candidate import CandidateDied
from fairlead.serve.candidate_link import MAX_IN_FLIGHT, Address, CandidateLink
from fairlead.serve.candidate_process import ProcessHost
from fairlead.serve.candidate_server import SECRET_BYTES, CandidateServer
from fairlead.serve.data_plane import DataPlane
from fairlead.serve.metrics import Metrics
from fairlead.serve.model import Answer, LoadedModel, fits, load_model
from fairlead.serve.recorder import Recorder
from fairlead.serve.wire import (
    Frames,
    FrameTooLarge,
    GarbledFrame,
    block_fields,
    decode_call,
    decode_reply,
    encode_call,
    encode_reply,
    reply_limit,
)
from fairlead.spec.serve import Serve

SECRET = b"s" * SECRET_BYTES

numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | st.text()
rows = st.dictionaries(st.sampled_from(["distance", "carrier", "late"]), scalars)


# Other work on the machine may make the first few examples slow.
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.lists(rows, max_size=3), max_size=3), st.integers(0, 2**32 - 1), st.integers(1, 50))
def test_a_call_survives_the_wire_however_it_is_cut(items: list[list[dict[str, Any]]], call: int, cut: int) -> None:
    frames = Frames(1 << 20)
    sent = encode_call(call, 0.25, items) * 2
    found = [frame for i in range(0, len(sent), cut) for frame in frames.feed(sent[i : i + cut])]
    assert [(number, decode_call(body)) for number, body in found] == [(call, (0.25, items))] * 2


def test_blocks_travel_as_bytes_and_arrive_as_they_were() -> None:
    image = Field("image", "image", "FP32", (4, 3))
    blocks = block_fields(Signature("binary", (Field("name", "text", "BYTES"), image), (), ("no", "yes")))
    random = np.random.default_rng(5)
    items = [[{"name": "a", "image": random.normal(size=(4, 3)).astype(np.float32)}] for _ in range(3)]
    ((_, body),) = Frames(1 << 20).feed(encode_call(1, 1.0, items, blocks))
    _, found = decode_call(body, blocks)
    for before, after in zip(items, found, strict=True):
        assert after[0]["name"] == "a"
        np.testing.assert_array_equal(before[0]["image"], after[0]["image"])
    with pytest.raises(GarbledFrame):
        decode_call(body[:-4], blocks)
    with pytest.raises(GarbledFrame):
        decode_call(body + b"more", blocks)


def test_a_reply_survives_the_wire_and_tells_its_time() -> None:
    answers: list[Answer | FairleadError] = [Answer([0.25], ["no"]), PredictionFailed("no", why="the graph failed")]
    ((_, body),) = Frames(1 << 20).feed(encode_reply(3, 0.5, answers))
    good, bad = decode_reply(body)
    assert good == Answer([0.25], ["no"], 0.5)
    assert isinstance(bad, PredictionFailed)
    assert bad.what == "the graph failed"


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_make_a_reply_that_breaks_anything(body: bytes) -> None:
    try:
        decode_reply(body)
        decode_call(body)
    except GarbledFrame:
        pass


@pytest.mark.parametrize(
    "answer",
    [
        Answer([0.5], None),
        Answer([], []),
        Answer([0.5, 0.5], ["no", "no"]),
        Answer([None], ["no"]),
        Answer([1.5], ["no"]),
        Answer([0.5], ["perhaps"]),
        Answer([[0.5]], ["no"]),
        Answer("0.5", ["no"]),  # type: ignore[arg-type]
    ],
)
def test_an_answer_that_no_such_model_gives_does_not_fit(answer: Answer) -> None:
    signature = Signature("binary", (), (), ("no", "yes"))
    assert fits(Answer([0.5], ["yes"]), signature, 1)
    assert not fits(answer, signature, 1)


# --- a candidate in this process --------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def model(published: Bundles, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_model(published.store, published.first, tmp_path_factory.mktemp("cache"))


def linked(model: LoadedModel, story: Callable[[CandidateLink], Awaitable[None]], *, secret: bytes = SECRET) -> None:
    """Run `story` with a link to a real server for `model`."""

    async def main() -> None:
        server = CandidateServer(model, SECRET)
        port = await server.listen("127.0.0.1")

        async def resolve() -> Address:
            return Address(secret, "127.0.0.1", port)

        link = CandidateLink(resolve, model.signature)
        await story(link)
        await link.leave()
        server.close()
        await asyncio.sleep(0)  # both ends hear that the connection is gone

    asyncio.run(main())


def test_a_candidate_over_a_socket_answers_what_the_model_answers(model: LoadedModel) -> None:
    async def story(link: CandidateLink) -> None:
        items = [[row] for row in rows_of(100)]
        alone = await asyncio.gather(*(link.predict([item], 5.0) for item in items[:40]))
        together = await link.predict(items, 5.0)
        answers = [answer for (answer,) in alone] + together[40:]
        for item, answer in zip(items, answers, strict=True):
            assert isinstance(answer, Answer)
            assert answer.seconds >= 0
            wanted = model.predict(item)
            np.testing.assert_allclose(answer.scores, wanted.scores, rtol=1e-6)
            assert answer.labels == wanted.labels

    linked(model, story)


def test_who_does_not_know_the_secret_is_hung_up_on(model: LoadedModel) -> None:
    async def story(link: CandidateLink) -> None:
        with pytest.raises((CandidateDied, PredictionFailed)):
            await link.predict([rows_of(1)], 5.0)

    linked(model, story, secret=b"x" * SECRET_BYTES)


# --- candidates that misbehave ----------------------------------------------------------------------------------------
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def talking(talk: Talk, model: LoadedModel, story: Callable[[CandidateLink], Awaitable[None]]) -> None:
    """Run `story` with a link to whatever `talk` does."""

    async def main() -> None:
        talks = set()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            talks.add(asyncio.current_task())
            try:
                await reader.readexactly(SECRET_BYTES)
                await talk(reader, writer)
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]

        async def resolve() -> Address:
            return Address(SECRET, "127.0.0.1", port)

        link = CandidateLink(resolve, model.signature)
        await story(link)
        await link.leave()
        server.close()
        await asyncio.gather(*talks, return_exceptions=True)

    asyncio.run(main())


async def _read_call(reader: asyncio.StreamReader) -> int:
    length, call = struct.unpack("<II", await reader.readexactly(8))
    await reader.readexactly(length - 4)
    return int(call)


@pytest.mark.parametrize(
    "reply",
    [
        b"\xff" * 64,
        struct.pack("<II", 100 * 2**20, 1) + b"0" * 4096,
        struct.pack("<II", 2, 1),
        struct.pack("<II", 4 + 4 + 9, 1) + struct.pack("<f", 0.1) + b"not JSON!",
        encode_reply(1, 0.1, [Answer([0.5], ["false"]), Answer([0.5], ["false"])]),
    ],
    ids=["noise", "100 MB", "no call", "no JSON", "too many answers"],
)
def test_garbage_fails_the_call_and_after_a_while_there_is_a_new_connection(model: LoadedModel, reply: bytes) -> None:
    connections = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        call = await _read_call(reader)
        writer.write(reply if connections == 1 else encode_reply(call, 0.1, [Answer([0.5], ["false"])]))
        await writer.drain()
        await reader.read()

    async def story(link: CandidateLink) -> None:
        with pytest.raises(PredictionFailed):
            await link.predict([rows_of(1)], 5.0)
        with pytest.raises(PredictionFailed, match="cannot be reached"):
            await link.predict([rows_of(1)], 5.0)
        assert connections == 1
        link._not_before = 0.0
        (answer,) = await link.predict([rows_of(1)], 5.0)
        assert isinstance(answer, Answer)
        assert connections == 2

    talking(talk, model, story)


def test_a_silent_candidate_costs_its_time_and_no_more_than_the_cap(model: LoadedModel) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def story(link: CandidateLink) -> None:
        calls = [asyncio.ensure_future(link.predict([rows_of(1)], 0.3)) for _ in range(MAX_IN_FLIGHT)]
        await asyncio.sleep(0.05)
        started = asyncio.get_running_loop().time()
        with pytest.raises(PredictionFailed, match="too many calls"):
            await link.predict([rows_of(1)], 5.0)
        assert asyncio.get_running_loop().time() - started < 0.2
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(outcome, PredictionFailed)
            assert "in time" in outcome.what

    talking(talk, model, story)


def test_each_call_ends_in_its_own_time_whichever_was_first(model: LoadedModel) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def story(link: CandidateLink) -> None:
        loop = asyncio.get_running_loop()
        begun, ended = loop.time(), {}

        async def ask(seconds: float) -> None:
            with pytest.raises(PredictionFailed, match="in time"):
                await link.predict([rows_of(1)], seconds)
            ended[seconds] = loop.time() - begun

        await asyncio.gather(ask(0.4), ask(0.1), ask(0.2))
        assert list(ended) == [0.1, 0.2, 0.4]
        assert all(seconds - 0.01 <= took for seconds, took in ended.items())

    talking(talk, model, story)


def test_all_that_were_with_a_candidate_that_dies_are_told(model: LoadedModel) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(3):
            await _read_call(reader)

    async def story(link: CandidateLink) -> None:
        outcomes = await asyncio.gather(*(link.predict([rows_of(1)], 5.0) for _ in range(3)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [CandidateDied] * 3

    talking(talk, model, story)


def test_a_candidate_leaves_the_champion_the_time_that_it_needs() -> None:
    plane = DataPlane("delays", Serve(deadline_ms=1000), Recorder(Metrics("delays"), None))
    assert plane._candidate_seconds() == pytest.approx(0.7)
    for _ in range(128):
        plane._champion_lately.add(0.2)
    assert plane._candidate_seconds() == pytest.approx(0.6)
    for _ in range(640):
        plane._champion_lately.add(0.001)
    assert plane._candidate_seconds() == pytest.approx(0.7)
    for _ in range(640):
        plane._champion_lately.add(2.0)
    assert plane._candidate_seconds() == pytest.approx(0.1)


def test_replies_are_bounded_by_what_was_asked() -> None:
    assert reply_limit(1, 2) < 1 << 17
    with pytest.raises(FrameTooLarge):
        list(Frames(reply_limit(1, 2)).feed(struct.pack("<II", 1 << 27, 1)))


# --- a candidate in a child process -----------------------------------------------------------------------------------
def test_a_child_process_answers_comes_back_after_it_was_killed_and_ends_with_its_host(
    bundles: Bundles, model: LoadedModel
) -> None:
    host = ProcessHost(bundles.store.uri, bundles.base, bundles.cache)
    try:
        host.start(bundles.second)
        (digest,) = host.surplus(None)
        first = host._children[digest].process

        async def story() -> None:
            link = host.port(bundles.second, model.signature)
            (answer,) = await link.predict([rows_of(1)], 20.0)
            assert isinstance(answer, Answer)
            os.kill(first.pid, signal.SIGKILL)
            first.wait()
            async with asyncio.timeout(20):
                while True:
                    try:
                        await link.predict([rows_of(1)], 5.0)
                        break
                    except (CandidateDied, PredictionFailed, TimeoutError, OSError):
                        await asyncio.sleep(0.1)
            await link.leave()

        asyncio.run(story())
        second = host._children[digest].process
        assert second.pid != first.pid
    finally:
        host.close()
    assert second.poll() is not None
    assert host.surplus(None) == []


def test_a_child_process_that_cannot_load_says_why(bundles: Bundles, tmp_path: Path) -> None:
    host = ProcessHost(bundles.store.uri, bundles.base, tmp_path)
    for file in (bundles.base / "store").rglob("model.onnx"):
        file.write_bytes(file.read_bytes()[:-1])
    try:
        with pytest.raises(ServeError, match="did not start") as failed:
            host.start(bundles.second)
        assert "FL-5" in str(failed.value)
    finally:
        host.close()
