"""Labels that arrive later: joined once with what was answered, and refused where they make no sense."""

import asyncio
from typing import Any

import pytest
from app_story import apply, ask, evidence, serve
from asgi_calls import call
from conftest import Bundles
from tiny_models import MODEL

from fairlead.records.release import Release
from fairlead.records.rollout import ServingEvidence
from fairlead.serve.routes import HttpApp


def test_labels_are_joined_once_and_strange_ones_are_only_counted(bundles: Bundles) -> None:
    async def story(app: HttpApp) -> tuple[list[dict[str, int]], ServingEvidence, float]:
        document = await ask(app, "known")
        labels = [("known", "true"), ("known", "true"), ("known", "false"), ("unknown", "true")]
        counts = []
        for identity, label in labels:
            body = {"labels": [{"request_id": identity, "label": label}]}
            counts.append((await call(app, "POST", "/fairlead/v1/feedback", body)).json())
        return counts, await evidence(app), document["predictions"][0]["score"]

    counts, found, score = serve(bundles, story)
    names = [next(name for name, count in entry.items() if count) for entry in counts]
    assert names == ["joined", "duplicate", "changed", "unknown"]
    assert found.champion is not None
    assert found.champion.loss.n == 1
    assert found.champion.loss.total == pytest.approx((score - 1) ** 2)


def test_labels_of_shadowed_requests_give_paired_losses(bundles: Bundles) -> None:
    async def story(app: HttpApp) -> ServingEvidence:
        await apply(app, Release(MODEL, 2, bundles.first, bundles.second, 0.0, 100.0, rollout="r"))
        await ask(app, "one")
        await asyncio.wait_for(_paired(app), 10)
        await call(app, "POST", "/fairlead/v1/feedback", {"labels": [{"request_id": "one", "label": True}]})
        return await evidence(app)

    found = serve(bundles, story)
    assert found.pairs is not None
    assert found.pairs.loss_difference.n == 1
    assert found.pairs.loss_difference.mean < 0  # the second model says a higher probability, and the label is true


async def _paired(app: HttpApp) -> None:
    while (await evidence(app)).pairs.difference.n < 1:  # type: ignore[union-attr]
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "labels"),
        ({"labels": []}, "labels"),
        ({"labels": [{"label": "true"}]}, "request_id"),
        ({"labels": [{"request_id": "a", "label": "maybe"}]}, "label"),
        ({"labels": [{"request_id": "a", "label": None}]}, "label"),
        ({"labels": [{"request_id": "a", "label": "true", "more": 1}]}, "labels"),
        ({"labels": [{"request_id": "a", "label": "true"}], "more": 1}, "more"),
    ],
)
def test_feedback_that_makes_no_sense_is_refused(bundles: Bundles, body: Any, field: str) -> None:
    response = serve(bundles, lambda app: call(app, "POST", "/fairlead/v1/feedback", body))
    assert (response.status, response.json()["field"]) == (400, field)
