"""A disk that fills up while a model is made: each step says so, leaves nothing half-written, and can be run again."""

import json
from pathlib import Path
from typing import Any

import pytest
from wiring_world import World

from fairlead.errors import NotEnoughDisk
from fairlead.testing.full_disk import files_no_larger_than, unfinished
from fairlead.wiring import steps

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch", "ignore::DeprecationWarning:onnxscript")
QUICK = ("train.epochs=2", "train.retraining_noise=false")
ROOM = 8_000  # enough for records, too little for weights and graphs


def refused(world: World, step: str, run: Any) -> None:
    """`run` meets the full disk, and says so where a pipeline looks for it."""
    with files_no_larger_than(ROOM), pytest.raises(NotEnoughDisk) as full:
        run()
    assert full.value.exit_code == 8
    assert full.value.where
    assert full.value.fix
    assert unfinished(world.base / ".fairlead") == []
    error = json.loads((world.base / ".fairlead/runs/full/error.json").read_bytes())
    assert (error["step"], error["code"]) == (step, "FL-802")


def test_training_and_publishing_survive_a_full_disk(tmp_path: Path) -> None:
    world = World.make(tmp_path / "orders", count=600)
    context = world.context("full", *QUICK)
    text, store = context.to_json(), context.store
    source = steps.validate(text)["source_fingerprint"]
    fingerprint = steps.prepare(text, source)["fingerprint"]

    refused(world, "train", lambda: steps.train(text, fingerprint))
    assert not list(world.base.glob(".fairlead/drafts/*"))
    draft = steps.train(text, fingerprint)["draft"]

    refused(world, "evaluate", lambda: steps.evaluate(text, fingerprint, draft))
    assert [key for key in store.list("bundles/") if key.endswith("manifest.json")] == []
    judged = steps.evaluate(text, fingerprint, draft)
    version = steps.register(text, judged["bundle_uri"], judged["digest"], fingerprint)["version"]
    assert version == 1
