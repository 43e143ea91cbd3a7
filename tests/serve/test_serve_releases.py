"""Releases: who may wish for what, who answers then, and what is counted of it."""

import asyncio
import math
from typing import Any

import pytest
from app_story import PREDICT, TOKEN, apply, ask, evidence, put, serve
from asgi_calls import call, until
from conftest import Bundles
from tiny_models import MODEL, ROW

from fairlead.records.codec import to_value
from fairlead.records.release import Release
from fairlead.records.rollout import ServingEvidence
from fairlead.serve.routes import HttpApp


def test_releases_are_fenced_by_their_generation(bundles: Bundles) -> None:
    async def story(app: HttpApp) -> list[int]:
        second = Release(MODEL, 2, bundles.first, bundles.second, 10.0)
        statuses = [(await put(app, second)).status, (await put(app, second)).status]
        statuses.append((await put(app, Release(MODEL, 2, bundles.first))).status)
        statuses.append((await put(app, Release(MODEL, 1, bundles.first))).status)
        statuses.append((await put(app, Release("other", 3, bundles.first))).status)
        return statuses

    assert serve(bundles, story) == [200, 200, 409, 409, 409]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"candidate_weight": 101}, "candidate_weight"),
        ({"candidate_weight": "5"}, "candidate_weight"),
        ({"candidate": None}, "candidate_weight"),
        ({"champion": None}, "champion"),
        ({"champion": {"version": 1, "bundle_uri": "x", "digest": "sha256:../../etc"}}, "champion"),
        ({"generation": "2"}, "generation"),
        ({"generation": True}, "generation"),
        ({"model": 5}, "model"),
        ({"shadow_percent": -1}, "shadow_percent"),
    ],
)
def test_a_release_that_makes_no_sense_is_refused(bundles: Bundles, change: dict[str, Any], field: str) -> None:
    good = to_value(Release(MODEL, 2, bundles.first, bundles.second, 10.0))
    response = serve(bundles, lambda app: call(app, "PUT", "/fairlead/v1/release", {**good, **change}, TOKEN))
    assert (response.status, response.json()["field"]) == (400, field)


def test_the_release_is_stored_and_found_again_after_a_restart(bundles: Bundles) -> None:
    newest = Release(MODEL, 5, bundles.second, note="by hand")
    serve(bundles, lambda app: apply(app, newest))
    document = serve(bundles, lambda app: ask(app, "one"))
    assert document["parameters"]["model_digest"] == bundles.second.digest


def test_the_split_follows_the_weight_and_each_key_stays(bundles: Bundles) -> None:
    n = 1000

    async def story(app: HttpApp) -> dict[float, set[str]]:
        on: dict[float, set[str]] = {}
        for generation, weight in enumerate((5.0, 50.0, 100.0, 0.0), start=2):
            await apply(app, Release(MODEL, generation, bundles.first, bundles.second, weight, rollout="r"))
            answers = [await ask(app, f"key-{i}") for i in range(n)]
            on[weight] = {a["parameters"]["request_id"] for a in answers if a["parameters"]["arm"] == "candidate"}
        return on

    on = serve(bundles, story)
    for weight, keys in on.items():
        share = weight / 100
        assert abs(len(keys) - n * share) <= 4.5 * math.sqrt(n * share * (1 - share))
    assert on[5.0] < on[50.0] < on[100.0]


def test_a_header_or_a_field_keeps_a_client_on_one_arm(bundles: Bundles) -> None:
    release = Release(MODEL, 1, bundles.first, bundles.second, 50.0)

    async def by_header(app: HttpApp) -> set[str]:
        await until(lambda: app._server.plane.live.candidate)
        answers = [await call(app, "POST", PREDICT, {"instances": [ROW]}, {"x-user": "someone"}) for _ in range(30)]
        return {answer.json()["parameters"]["arm"] for answer in answers}

    async def by_field(app: HttpApp) -> dict[str, set[str]]:
        await until(lambda: app._server.plane.live.candidate)
        arms: dict[str, set[str]] = {}
        for i in range(40):
            carrier = f"carrier-{i % 10}"
            document = await ask(app, f"id-{i}", {**ROW, "carrier": carrier})
            arms.setdefault(carrier, set()).add(document["parameters"]["arm"])
        return arms

    assert len(serve(bundles, by_header, release, sticky="header:x-user")) == 1
    arms = serve(bundles, by_field, release, sticky="carrier")
    assert all(len(found) == 1 for found in arms.values())
    assert len(set().union(*arms.values())) == 2


def test_a_candidate_that_fails_is_counted_and_nobody_sees_it(bundles: Bundles) -> None:
    async def story(app: HttpApp) -> ServingEvidence:
        await apply(app, Release(MODEL, 2, bundles.first, bundles.fails, 100.0, rollout="r"))
        for i in range(40):
            carrier = "AA" if i % 4 == 0 else "UA"
            document = await ask(app, f"id-{i}", {**ROW, "carrier": carrier})
            assert document["parameters"]["arm"] == ("champion" if carrier == "AA" else "candidate")
        return await evidence(app)

    found = serve(bundles, story)
    assert found.candidate is not None
    assert (found.candidate.failures.n, found.candidate.failures.events) == (40, 10)
    assert found.champion is not None
    assert (found.champion.requests, found.champion.failures.events) == (10, 0)
    assert found.user_failures == 0


def test_a_candidate_that_hangs_is_given_up_within_the_deadline(bundles: Bundles) -> None:
    async def story(app: HttpApp) -> tuple[list[float], ServingEvidence]:
        await apply(app, Release(MODEL, 2, bundles.first, bundles.hangs, 100.0, rollout="r"))
        times = []
        loop = asyncio.get_running_loop()
        for i in range(4):
            start = loop.time()
            document = await ask(app, f"id-{i}")
            times.append(loop.time() - start)
            assert document["parameters"]["arm"] == "champion"
            assert not document["parameters"]["fallback"]
        return times, await evidence(app)

    times, found = serve(bundles, story, deadline_ms=400)
    assert max(times) < 0.4
    assert found.candidate is not None
    assert found.candidate.failures.events == 4
    assert found.user_failures == 0


def test_shadow_copies_are_paired_and_never_answer(bundles: Bundles) -> None:
    async def story(app: HttpApp) -> ServingEvidence:
        await apply(app, Release(MODEL, 2, bundles.first, bundles.second, 0.0, 100.0, rollout="r"))
        for i in range(60):
            assert (await ask(app, f"id-{i}"))["parameters"]["arm"] == "champion"

        async def paired() -> ServingEvidence:
            while (found := await evidence(app)).pairs.difference.n < 60:  # type: ignore[union-attr]
                await asyncio.sleep(0.01)
            return found

        return await asyncio.wait_for(paired(), 10)

    found = serve(bundles, story)
    assert found.pairs is not None
    assert found.candidate is not None
    assert found.candidate.requests == 0
    assert (found.pairs.shadow_failures.n, found.pairs.shadow_failures.events) == (60, 0)
    assert found.pairs.flips.n == 60
    assert 0.05 < found.pairs.difference.mean < 0.1  # 0.3 on the logit, near a probability of 0.3


def test_a_shadow_that_hangs_is_dropped_and_the_champion_does_not_notice(bundles: Bundles) -> None:
    async def story(app: HttpApp) -> tuple[float, ServingEvidence]:
        await apply(app, Release(MODEL, 2, bundles.first, bundles.hangs, 0.0, 100.0, rollout="r"))
        app._server.plane._shadow._max_waiting = 50
        loop = asyncio.get_running_loop()
        start = loop.time()
        for i in range(300):
            await ask(app, f"id-{i}")
        seconds = loop.time() - start
        return seconds, await evidence(app)

    seconds, found = serve(bundles, story)
    assert seconds < 5
    assert found.pairs is not None
    assert found.pairs.dropped > 0
    assert found.champion is not None
    assert found.champion.failures.events == 0
    assert found.user_failures == 0


def test_a_new_rollout_starts_with_fresh_sums(bundles: Bundles) -> None:
    async def story(app: HttpApp) -> tuple[ServingEvidence, ServingEvidence]:
        await ask(app, "one")
        before = await evidence(app)
        await apply(app, Release(MODEL, 2, bundles.first, rollout="r"))
        return before, await evidence(app)

    before, after = serve(bundles, story)
    assert before.champion is not None
    assert after.champion is not None
    assert (before.champion.requests, after.champion.requests) == (1, 0)
    assert before.instance != after.instance
    assert after.requests_total == 1


def test_a_candidate_that_cannot_be_loaded_is_reported_and_the_champion_goes_on(bundles: Bundles) -> None:
    key = f"{bundles.second.bundle_uri}/model.onnx"
    data = bytearray(bundles.store.read(key))
    data[40] ^= 1
    bundles.store.write(key, bytes(data))

    async def story(app: HttpApp) -> ServingEvidence:
        await put(app, Release(MODEL, 2, bundles.first, bundles.second, 50.0, rollout="r"))
        control = app._server.control._control.state
        await until(lambda: control.candidate_error)
        assert {(await ask(app, f"id-{i}"))["parameters"]["arm"] for i in range(20)} == {"champion"}
        return await evidence(app)

    found = serve(bundles, story)
    assert not found.candidate_ready
    assert "model.onnx" in found.candidate_error


def test_a_champion_that_cannot_be_loaded_leaves_the_old_one_in_place(bundles: Bundles) -> None:
    bundles.store.delete(f"{bundles.second.bundle_uri}/transform.json")

    async def story(app: HttpApp) -> tuple[dict[str, Any], dict[str, Any]]:
        await put(app, Release(MODEL, 2, bundles.second))
        await until(lambda: app._server._error)
        await app._server.sync()
        view = (await call(app, "GET", "/fairlead/v1/release", headers=TOKEN)).json()
        return await ask(app, "one"), view

    document, view = serve(bundles, story)
    assert document["parameters"]["model_digest"] == bundles.first.digest
    assert (view["wanted"]["generation"], view["applied"]["generation"]) == (2, 1)
    assert "generation 2" in view["error"]
