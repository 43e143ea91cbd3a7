"""The harness that runs an IR, held against kfp's own pipeline-spec: conditions, retries, exit handlers, inputs."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from fairlead.pipelines import compile as goldens
from fairlead.pipelines.on_cluster import build, train_and_release
from google.protobuf import json_format
from kfp import compiler, dsl
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from fairlead.spec.pipeline import Pipeline
from fairlead.testing.ir_run import Attempt, CompiledPipeline, StepFailed

PLACE = Pipeline(image="registry.example/fairlead-platform:1")


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def draw(number: int) -> int:
    return number


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def say(text: str) -> str:
    return text


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def last(status: dsl.PipelineTaskFinalStatus):
    print(status.state)


@dsl.pipeline(name="branches")
def branches(number: int, name: str = "a", flag: bool = True) -> None:
    drawn = draw(number=number)
    with dsl.If(drawn.output == 3):
        say(text="three").set_display_name("three")
    with dsl.Elif(drawn.output > 5):
        say(text="more")
    with dsl.Else():
        say(text="other")
    with dsl.If(name == "a"):
        say(text="named")
    with dsl.If(flag == True):  # noqa: E712
        say(text="flagged")


@dsl.pipeline(name="guarded")
def guarded() -> None:
    ended = last()
    with dsl.ExitHandler(ended):
        first = say(text="one").set_retry(2, "10s", 3.0, "20s")
        say(text=first.output)


class Recording:
    """Answers from the arguments, and fails the tries that it is told to."""

    def __init__(self, *, fails: dict[str, int] | None = None) -> None:
        self.fails, self.attempts = fails or {}, list[Attempt]()

    def __call__(self, attempt: Attempt) -> dict[str, Any]:
        self.attempts.append(attempt)
        if attempt.number <= self.fails.get(attempt.task, 0):
            raise StepFailed(f"try {attempt.number}")
        values = attempt.executor_input["inputs"]["parameterValues"]
        return {"parameterValues": {"Output": values.get("number", values.get("text"))}}

    def said(self) -> list[str]:
        return [
            str(a.executor_input["inputs"]["parameterValues"].get("text")) for a in self.attempts if "say" in a.task
        ]


def compiled(pipeline: Any, folder: Path) -> CompiledPipeline:
    path = folder / "pipeline.yaml"
    compiler.Compiler().compile(pipeline, str(path))
    return CompiledPipeline.parse(path.read_text())


@pytest.mark.parametrize(
    ("number", "name", "flag", "said"),
    [
        (3, "a", True, ["three", "named", "flagged"]),
        (9, "b", True, ["more", "flagged"]),
        (1, "b", False, ["other"]),
    ],
)
def test_conditions_choose_what_runs(number: int, name: str, flag: bool, said: list[str], tmp_path: Path) -> None:
    runner = Recording()
    given = {"number": number, "name": name, "flag": flag}
    ended = compiled(branches, tmp_path).run(runner, given, run="r", root="s3://b/k")
    assert sorted(runner.said()) == sorted(said)
    assert ended.state == "SUCCEEDED"


def test_a_step_that_fails_is_tried_again_after_the_wait_of_its_policy(tmp_path: Path) -> None:
    runner, waits = Recording(fails={"say": 2}), list[float]()
    ended = compiled(guarded, tmp_path).run(runner, {}, run="r", root="s3://b/k", wait=waits.append)
    assert waits == [10.0, 20.0]
    assert (ended.state, ended.tries["say"]) == ("SUCCEEDED", 3)


def test_the_exit_handler_runs_after_a_failure_and_is_told_of_it(tmp_path: Path) -> None:
    runner = Recording(fails={"say": 3})
    ended = compiled(guarded, tmp_path).run(runner, {}, run="r", root="s3://b/k", wait=lambda seconds: None)
    assert ended.state == "FAILED"
    assert ended.states["say-2"] == "SKIPPED"
    status = runner.attempts[-1].executor_input["inputs"]["parameterValues"]["status"]
    assert (status["state"], status["error"]["message"]) == ("FAILED", "say: try 3")


def test_every_step_gets_an_executor_input_that_kfp_can_read(tmp_path: Path) -> None:
    runner = Facts()
    compiled(build(PLACE), tmp_path).run(runner, {"context": "{}"}, run="r", root="s3://b/k")
    assert [attempt.task for attempt in runner.attempts] == [
        *("validate", "prepare", "train", "evaluate", "register", "deploy", "finish")
    ]
    for attempt in runner.attempts:
        json_format.ParseDict(attempt.executor_input, pipeline_spec_pb2.ExecutorInput())
        assert attempt.image == PLACE.image
        assert "{{$}}" in attempt.command


class Facts(Recording):
    """Every output parameter that a step declares, with a value of its type."""

    def __call__(self, attempt: Attempt) -> dict[str, Any]:
        super().__call__(attempt)
        return {"parameterValues": dict.fromkeys(attempt.executor_input["outputs"]["parameters"], 1)}


def test_the_golden_is_what_kfps_own_pipeline_spec_can_hold() -> None:
    ((_, text),) = goldens.goldens().items()
    spec, platform = yaml.safe_load_all(text)
    read = json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    assert json_format.ParseDict(json_format.MessageToDict(read), pipeline_spec_pb2.PipelineSpec()) == read
    for executor in read.deployment_spec["executors"].values():
        text = json.dumps(json_format.MessageToDict(executor))
        json_format.Parse(text, pipeline_spec_pb2.PipelineDeploymentConfig.ExecutorSpec())
    json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
    for told in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
        json_format.ParseDict(told, kubernetes_executor_config_pb2.KubernetesExecutorConfig())


def test_the_pods_are_what_the_project_file_says(tmp_path: Path) -> None:
    place = Pipeline.model_validate(
        {
            "image": "registry.example/fairlead-platform@sha256:" + "0" * 64,
            "pull_secrets": ["registry"],
            "env_secrets": ["team-store"],
            "deadline": "2h",
            "retries": 1,
            "backoff": "5s",
            "train": {"cpu": 4, "cpu_limit": 8, "memory": "16GiB", "gpus": 1},
        }
    )
    pipeline = compiled(build(place), tmp_path)
    train = pipeline.spec["deploymentSpec"]["executors"]["exec-train"]["container"]
    assert train["resources"]["resourceMemoryLimit"] == "16384Mi"
    assert train["resources"]["accelerator"]["resourceType"] == "nvidia.com/gpu"
    told = pipeline.platform["exec-train"]
    assert told["secretAsEnv"][0]["secretName"] == "team-store"
    assert told["imagePullSecret"][0]["secretName"] == "registry"
    assert told["activeDeadlineSeconds"] == "7200" or told["activeDeadlineSeconds"] == 7200
    task = pipeline.spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]["train"]
    assert task["retryPolicy"]["maxRetryCount"] == 1


def test_the_run_takes_no_part_in_the_cache(tmp_path: Path) -> None:
    pipeline = compiled(train_and_release, tmp_path)
    tasks = pipeline.spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    assert "pipeline_job" not in json.dumps(tasks)
    assert {field["name"] for field in pipeline.platform["exec-train"]["fieldPathAsEnv"]} == {"KFP_RUN_ID"}
