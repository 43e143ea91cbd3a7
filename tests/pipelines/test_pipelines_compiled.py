"""The pipeline as Kubeflow gets it: goldens, caching, names, images, and parts of it."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from fairlead.pipelines import compile as compiled
from fairlead.pipelines.train_and_release import STEPS, build, inputs_of, outputs_of, train_and_release
from kfp import compiler

from fairlead.cli import local_pipeline
from fairlead.wiring import steps

_CACHE_KEYS = {"context", "source", "code", "config", "champion"}
_ROOT = Path(compiled.__file__).resolve().parents[1]


def specification(pipeline: Any, folder: Path) -> dict[str, Any]:
    path = folder / "pipeline.yaml"
    compiler.Compiler().compile(pipeline, str(path))
    value: dict[str, Any] = yaml.safe_load(path.read_text())
    return value


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The pipeline as this machine runs it."""
    return specification(train_and_release, tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    """The pipeline as a cluster gets it."""
    ((_, text),) = compiled.goldens().items()
    value: dict[str, Any] = next(yaml.safe_load_all(text))
    return value


def test_a_cluster_gets_the_same_steps_in_pods_and_one_more_at_the_end(
    whole: dict[str, Any], golden: dict[str, Any]
) -> None:
    assert set(golden["root"]["dag"]["tasks"]) == {"exit-handler-1", "finish"}
    inner = golden["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    here = whole["root"]["dag"]["tasks"]
    assert list(inner) == list(here)
    for name, task in inner.items():
        assert task.pop("retryPolicy")["maxRetryCount"] == 2
        text = json.dumps(task).replace("pipelinechannel--", "")
        assert json.loads(text) == here[name]
        assert golden["components"][f"comp-{name}"] == whole["components"][f"comp-{name}"]


def test_the_compiled_pipeline_in_the_repository_is_what_the_code_gives() -> None:
    assert compiled.differing() == [], f"run: {sys.executable} -m fairlead.pipelines.compile"


def test_a_missing_or_edited_golden_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "COMPILED", tmp_path)
    (golden,) = compiled.differing()
    assert compiled.write() == [golden]
    assert compiled.differing() == []
    golden.write_text(golden.read_text().replace("exec-train", "exec-trains", 1))
    assert compiled.differing() == [golden]


@pytest.mark.skipif(not (_ROOT / "pyproject.toml").is_file(), reason="needs the repository")
def test_kfp_itself_compiles_the_module_from_the_repository_root(tmp_path: Path) -> None:
    output = tmp_path / "out.yaml"
    kfp = Path(sys.executable).parent / "kfp"
    command = [kfp, "dsl", "compile", "--py", "pipelines/on_cluster.py", "--output", str(output)]
    command += ["--function", "train_and_release"]
    subprocess.run(command, cwd=_ROOT, check=True, capture_output=True)
    assert output.read_text() == (_ROOT / "pipelines" / "compiled" / "train_and_release.yaml").read_text()


def test_the_steps_are_those_of_the_wiring_in_their_order() -> None:
    assert tuple(STEPS) == steps.STEPS == local_pipeline.STEPS


@pytest.mark.parametrize("step", local_pipeline.STEPS)
def test_what_the_command_line_knows_of_a_step_is_what_the_component_says(step: str) -> None:
    assert set(local_pipeline.TAKES[step]) == set(inputs_of(step)) - _CACHE_KEYS
    assert set(local_pipeline.GIVES[step]) <= set(outputs_of(step))


@pytest.mark.parametrize("step", local_pipeline.STEPS)
def test_a_component_calls_the_function_of_its_own_step_with_what_it_takes(step: str) -> None:
    source = inspect.getsource(STEPS[step].python_func)
    arguments = ", ".join(inspect.signature(getattr(steps, step)).parameters)
    assert f"steps.{step}({arguments})" in source
    assert set(inspect.signature(getattr(steps, step)).parameters) <= set(inputs_of(step))


def test_only_the_last_step_is_never_cached(whole: dict[str, Any]) -> None:
    cached = {
        name: task["cachingOptions"].get("enableCache", False) for name, task in whole["root"]["dag"]["tasks"].items()
    }
    assert cached == {name: name != "deploy" for name in STEPS}


def test_every_cached_step_runs_again_for_other_code_or_configuration(whole: dict[str, Any]) -> None:
    for name, task in whole["root"]["dag"]["tasks"].items():
        if name != "deploy":
            taken = {value.get("componentInputParameter") for value in task["inputs"]["parameters"].values()}
            assert {"code", "config"} <= taken, name


def test_another_champion_is_compared_with_again(whole: dict[str, Any]) -> None:
    tasks = whole["root"]["dag"]["tasks"]
    taken = {name for name, task in tasks.items() if "champion" in task["inputs"]["parameters"]}
    assert taken == {"evaluate"}


def test_a_changed_source_reaches_the_first_step(whole: dict[str, Any]) -> None:
    parameters = whole["root"]["dag"]["tasks"]["validate"]["inputs"]["parameters"]
    assert parameters["source"] == {"componentInputParameter": "source"}


def test_steps_follow_each_other_through_what_they_hand_over(whole: dict[str, Any]) -> None:
    follows = {name: set(task.get("dependentTasks", ())) for name, task in whole["root"]["dag"]["tasks"].items()}
    assert follows == {
        "validate": set(),
        "prepare": {"validate"},
        "train": {"prepare"},
        "evaluate": {"prepare", "train"},
        "register": {"prepare", "evaluate"},
        "deploy": {"register"},
    }


def test_nothing_is_installed_at_run_time_and_the_image_is_one_for_python(whole: dict[str, Any]) -> None:
    for executor in whole["deploymentSpec"]["executors"].values():
        container = executor["container"]
        assert "pip install" not in " ".join(container["command"])
        assert "python" in container["image"]
        assert ":" in container["image"]
        assert not container["image"].endswith(":latest")


def test_another_image_is_named_by_the_environment(tmp_path: Path) -> None:
    script = (
        "from kfp import compiler; from fairlead.pipelines.train_and_release import train_and_release as p;"
        "import sys; compiler.Compiler().compile(p, sys.argv[1])"
    )
    image = "mirror.example/team/python-fairlead@sha256:" + "0" * 64
    output = tmp_path / "out.yaml"
    environment = {**os.environ, "FAIRLEAD_IMAGE": image}
    subprocess.run([sys.executable, "-c", script, str(output)], env=environment, check=True)
    executors = yaml.safe_load(output.read_text())["deploymentSpec"]["executors"]
    assert {executor["container"]["image"] for executor in executors.values()} == {image}


def test_people_see_titles_and_descriptions(whole: dict[str, Any]) -> None:
    titles = [task["taskInfo"]["name"] for task in whole["root"]["dag"]["tasks"].values()]
    assert len(set(titles)) == 6
    assert all(title[0].isupper() for title in titles)
    assert whole["pipelineInfo"]["description"].startswith("From raw data")
    assert whole["pipelineInfo"]["name"] == "train-and-release"


@pytest.mark.parametrize("step", local_pipeline.STEPS)
def test_a_run_can_be_judged_in_the_kubeflow_ui_alone(whole: dict[str, Any], step: str) -> None:
    artifacts = whole["components"][f"comp-{step}"]["outputDefinitions"]["artifacts"]
    kinds = {value["artifactType"]["schemaTitle"] for value in artifacts.values()}
    assert {"system.Metrics", "system.HTML", "system.Markdown"} <= kinds
    assert ("system.ClassificationMetrics" in kinds) == (step == "evaluate")


def test_the_whole_by_parts_is_the_story() -> None:
    assert build("validate", "deploy") is build()


def test_a_part_asks_for_what_the_steps_before_it_would_have_given(tmp_path: Path) -> None:
    part = specification(build("evaluate", "register"), tmp_path)
    tasks = part["root"]["dag"]["tasks"]
    assert list(tasks) == ["evaluate", "register"]
    taken = tasks["evaluate"]["inputs"]["parameters"]
    assert taken["draft"] == {"componentInputParameter": "draft"}
    assert taken["fingerprint"] == {"componentInputParameter": "fingerprint"}
    given = tasks["register"]["inputs"]["parameters"]
    assert given["digest"]["taskOutputParameter"]["producerTask"] == "evaluate"
    assert part["pipelineInfo"]["name"] == "train-and-release-evaluate-to-register"


def test_parts_have_the_same_tasks_as_the_whole(tmp_path: Path, whole: dict[str, Any]) -> None:
    tasks = specification(build("validate", "register"), tmp_path)["root"]["dag"]["tasks"]
    for name, task in tasks.items():
        assert task == whole["root"]["dag"]["tasks"][name]


def test_a_part_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(ValueError, match="comes after"):
        build("deploy", "train")
