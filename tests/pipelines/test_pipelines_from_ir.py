"""Every step of the compiled pipeline, run from its IR: command, executor input, artifacts and results in S3."""

import json
from pathlib import Path
from typing import Any

import pytest
from fairlead.pipelines.on_cluster import build
from kfp import compiler
from pipeline_world import compiled, opened, parameters, write_project

from fairlead.spec.pipeline import Pipeline
from fairlead.store import open_store
from fairlead.testing.ir_run import Ended
from fairlead.testing.ir_runners import ProcessRunner
from fairlead.testing.seaweedfs import S3Server

pytestmark = [pytest.mark.s3, pytest.mark.slow]


def ir(folder: Path, last: str = "register", **place: Any) -> str:
    path = folder / "pipeline.yaml"
    compiler.Compiler().compile(build(Pipeline(**place), last), str(path))
    return path.read_text()


def test_the_steps_pass_everything_through_the_store(tmp_path: Path, s3_store_uri: str, s3_server: S3Server) -> None:
    context = opened(write_project(tmp_path / "orders", s3_store_uri), "train.retraining_noise=false")
    runner = ProcessRunner(tmp_path / "pods", s3_server.environment)
    root = f"s3://{s3_server.bucket}/kfp-root"
    ended: Ended = compiled(ir(tmp_path)).run(
        runner, parameters(context, s3_server.environment), run="11111111-aaaa", root=root
    )
    assert ended.failure == ""
    assert ended.outputs["register"] == {"version": 1, "first": True}
    assert context.registry().get("1").run == "11111111-aaaa"
    told = json.loads(context.store.read("runs/orders/11111111-aaaa/ended.json"))
    assert (told["state"], told["error"]) == ("SUCCEEDED", None)
    kept = open_store(f"s3://{s3_server.bucket}/kfp-root", tmp_path)
    page = kept.read("train-and-release-to-register/11111111-aaaa/finish/summary").decode()
    assert "| register |" in page
    curves = ended.artifacts["evaluate"]["curves"]["artifacts"][0]["metadata"]
    assert curves["confidenceMetrics"]
    assert curves["confusionMatrix"]
