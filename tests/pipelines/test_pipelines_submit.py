"""`fairlead run --on cluster` and kfp's own client against the API, over real HTTP: requests, following, refusals."""

import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fairlead.pipelines import compile as compiled
from pipeline_world import opened, write_project

from fairlead.cli import main
from fairlead.store import open_store
from fairlead.testing.fake_kubeflow import FakeKubeflow, fake_kubeflow
from fairlead.testing.ir_run import CompiledPipeline, Ended
from fairlead.testing.ir_runners import ProcessRunner
from fairlead.testing.seaweedfs import S3Server

Cap = pytest.CaptureFixture[str]
IMAGE = "pipeline.image=registry.example/fairlead-platform:1"
FAST = ("--set", IMAGE, "--set", "train.retraining_noise=false", "--set", "pipeline.retries=0")


def nothing(spec: dict[str, Any], parameters: dict[str, Any], run: str, ended: Ended) -> None:
    """A pipeline that ends at once."""


def runs_here(
    folder: Path, server: S3Server, ends: dict[str, Ended]
) -> Callable[[dict[str, Any], dict[str, Any], str, Ended], None]:
    """Every step of what was submitted, from its IR, as a process; `ends` takes what became of each run."""

    def execute(spec: dict[str, Any], parameters: dict[str, Any], run: str, ended: Ended) -> None:
        runner, ends[run] = ProcessRunner(folder, server.environment), ended
        root = f"s3://{server.bucket}/kfp-root"
        CompiledPipeline.submitted(spec).run(runner, parameters, run=run, root=root, ended=ended, wait=lambda s: None)

    return execute


def cli(capsys: Cap, file: Path, *words: str) -> tuple[int, Any, str]:
    capsys.readouterr()
    code = main([*words, "-f", str(file), "-o", "json"])
    said = capsys.readouterr()
    return code, json.loads(said.out), said.err


@pytest.mark.s3
@pytest.mark.slow
def test_a_run_is_submitted_followed_and_shown_as_a_local_one(
    tmp_path: Path, s3_store_uri: str, s3_server: S3Server, capsys: Cap
) -> None:
    file = write_project(tmp_path / "orders", s3_store_uri)
    ends: dict[str, Ended] = {}
    with fake_kubeflow(runs_here(tmp_path / "pods", s3_server, ends), token="abc", namespaces=("team",)) as kubeflow:
        token = tmp_path / "token"
        token.write_text("abc\n")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FAIRLEAD_KFP_TOKEN_FILE", str(token))
            words = ("run", "--on", "cluster", "--wait", "--to", "register", "--host", kubeflow.url)
            code, value, said = cli(capsys, file, *words, "--namespace", "team", *FAST)
            assert code == 0, said
            assert value["steps"]["register"]["version"] == 1
            assert [line.split()[0] for line in said.splitlines() if line.startswith("  ")] == [
                *("validate", "prepare", "train", "evaluate", "register")
            ]
            passed_through_the_store(file, s3_server, ends)
            gate = "evaluate.gates=[{metric: auc, min: 0.9999}]"
            code, value, said = cli(capsys, file, *words, "--namespace", "team", *FAST, "--set", gate)
            assert (code, value["error"]["code"]) == (10, "FL-401"), said
        experiment = next(iter(kubeflow.experiments.values()))
        assert (experiment.display_name, experiment.namespace) == ("orders", "team")


def passed_through_the_store(file: Path, server: S3Server, ends: dict[str, Ended]) -> None:
    """The only run left outputs, artifacts and records behind where Kubeflow and `fairlead` look for them."""
    ((run, ended),) = ends.items()
    assert ended.failure == ""
    assert ended.outputs["register"] == {"version": 1, "first": True}
    context = opened(file)
    assert context.registry().get("1").run == run
    told = json.loads(context.store.read(f"runs/orders/{run}/ended.json"))
    assert (told["state"], told["error"]) == ("SUCCEEDED", None)
    kept = open_store(f"s3://{server.bucket}/kfp-root", file.parent)
    page = kept.read(f"train-and-release-to-register/{run}/finish/summary").decode()
    assert "| register |" in page
    curves = ended.artifacts["evaluate"]["curves"]["artifacts"][0]["metadata"]
    assert curves["confidenceMetrics"]
    assert curves["confusionMatrix"]


@pytest.mark.s3
def test_without_waiting_the_run_and_its_page_are_told(tmp_path: Path, s3_store_uri: str, capsys: Cap) -> None:
    file = write_project(tmp_path / "orders", s3_store_uri)
    with fake_kubeflow(nothing) as kubeflow:
        words = ("run", "--on", "cluster", "--to", "register", "--host", kubeflow.url, *FAST)
        code, value, _ = cli(capsys, file, *words)
        assert code == 0
        assert value["link"] == f"{kubeflow.url}/#/runs/details/{value['run']}"
        first = kubeflow.runs[value["run"]].runtime_config.parameters
        _, again, _ = cli(capsys, file, *words)
        assert kubeflow.runs[again["run"]].runtime_config.parameters == first  # what Kubeflow's cache looks at
        assert str(tmp_path) not in json.dumps(first)


@pytest.mark.s3
def test_an_api_that_fails_for_a_while_does_not_end_the_following(
    tmp_path: Path, s3_store_uri: str, capsys: Cap
) -> None:
    file = write_project(tmp_path / "orders", s3_store_uri)
    with fake_kubeflow(nothing) as kubeflow:
        kubeflow.outage = 2
        words = ("run", "--on", "cluster", "--wait", "--to", "register", "--host", kubeflow.url)
        code, value, said = cli(capsys, file, *words, *FAST)
        assert (code, kubeflow.outage) == (0, 0), said
        assert all(result["cached"] for result in value["steps"].values())  # it succeeded, and no step left anything


@pytest.mark.s3
@pytest.mark.parametrize(
    ("host", "namespace", "token", "code", "fix"),
    [
        ("http://127.0.0.1:1", "team", "abc", "FL-805", "--host"),
        ("", "team", "wrong", "FL-806", "FAIRLEAD_KFP_TOKEN_FILE"),
        ("", "", "abc", "FL-807", "--namespace"),
        ("", "others", "abc", "FL-807", "--namespace"),
    ],
)
def test_what_kubeflow_refuses_is_said_with_its_fix(
    host: str, namespace: str, token: str, code: str, fix: str,
    tmp_path: Path, s3_store_uri: str, monkeypatch: pytest.MonkeyPatch, capsys: Cap,
) -> None:  # fmt: skip
    file = write_project(tmp_path / "orders", s3_store_uri)
    (tmp_path / "token").write_text(token)
    monkeypatch.setenv("FAIRLEAD_KFP_TOKEN_FILE", str(tmp_path / "token"))
    with fake_kubeflow(nothing, token="abc", namespaces=("team",)) as kubeflow:
        words = ["run", "--on", "cluster", "--to", "register", "--host", host or kubeflow.url, *FAST]
        words += ["--namespace", namespace] if namespace else []
        exit_code, value, _ = cli(capsys, file, *words)
        assert (exit_code, value["error"]["code"]) == (8, code)
        assert fix in value["error"]["fix"]
        assert kubeflow.runs == {}


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ((), "pods cannot reach the store"),
        (("--set", "store=s3://b/k"), "pipeline.image is not set"),
        (("--set", "store=s3://b/k", "--set", IMAGE), "inside of its own pod"),
        (("--from", "train"), "for runs on this machine"),
        (
            ("--set", "store=s3://b/k", "--set", IMAGE, "--to", "train", "--set", "data.source=/tmp/x.csv"),
            "cannot reach",
        ),
    ],
)
def test_what_pods_cannot_do_is_refused_before_anything_is_sent(
    words: tuple[str, ...], what: str, tmp_path: Path, s3_environment: None, capsys: Cap
) -> None:
    file = write_project(tmp_path / "orders", ".fairlead")
    code, value, _ = cli(capsys, file, "run", "--on", "cluster", "--host", "http://127.0.0.1:1", *words)
    assert (code, value["error"]["code"]) == (2, "FL-101")
    assert what in value["error"]["what"]


@pytest.fixture
def s3_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials that nobody is asked about."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


def test_cluster_options_without_a_cluster_are_refused(tmp_path: Path, capsys: Cap) -> None:
    file = write_project(tmp_path / "orders", ".fairlead")
    code, value, _ = cli(capsys, file, "run", "--wait")
    assert (code, value["error"]["code"]) == (2, "FL-101")


@pytest.mark.s3
def test_kfps_own_command_submits_what_was_compiled(tmp_path: Path, s3_store_uri: str, capsys: Cap) -> None:
    file, package = write_project(tmp_path / "orders", s3_store_uri), tmp_path / "pipeline.yaml"
    with fake_kubeflow(nothing) as kubeflow:
        words = ("run", "--on", "cluster", "--to", "register", "--host", kubeflow.url, "--compile", str(package), *FAST)
        code, value, _ = cli(capsys, file, *words)
        assert (code, kubeflow.runs) == (0, {})
        kfp_run(value["command"])
        (run,) = kubeflow.runs.values()
        assert run.runtime_config.parameters == value["parameters"]
        assert set(run.pipeline_spec) == {"pipeline_spec", "platform_spec"}


def test_kfps_own_command_submits_the_pipeline_in_the_repository() -> None:
    with fake_kubeflow(nothing) as kubeflow:
        golden = str(compiled.COMPILED / "train_and_release.yaml")
        context = remote_context("0" * 64)
        kfp_run(["kfp", "--endpoint", kubeflow.url, "run", "create", "-e", "e", "-f", golden, f"context={context}"])
        (run,) = kubeflow.runs.values()
        assert run.runtime_config.parameters == {"context": context}


def remote_context(archive: str) -> str:
    """As `remote_json` writes it: kfp's command must leave it the text that it is."""
    return "project " + json.dumps({"archive": archive})


def kfp_run(words: list[str]) -> None:
    kfp = Path(sys.executable).parent / "kfp"
    done = subprocess.run([str(kfp), *words[1:]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_kfps_client_uploads_waits_lists_and_schedules(tmp_path: Path) -> None:
    golden = str(compiled.COMPILED / "train_and_release.yaml")
    with fake_kubeflow(nothing, namespaces=("team",)) as kubeflow, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = client_of(kubeflow)
        uploaded = client.upload_pipeline(golden, pipeline_name="train-and-release", namespace="team")
        version = client.upload_pipeline_version(golden, "two", pipeline_id=uploaded.pipeline_id)
        assert (version.pipeline_id, version.display_name) == (uploaded.pipeline_id, "two")
        experiment = client.create_experiment("orders", namespace="team")
        run = client.run_pipeline(experiment.experiment_id, "one", golden, {"context": "{}"})
        assert client.wait_for_run_completion(run.run_id, 30, sleep_duration=0).state == "SUCCEEDED"
        assert [found.run_id for found in client.list_runs(experiment_id=experiment.experiment_id).runs] == [run.run_id]
        nightly = client.create_recurring_run(
            experiment.experiment_id, "nightly", cron_expression="0 0 3 * * *", pipeline_package_path=golden,
            params={"context": "{}"},
        )  # fmt: skip
        listed = client.list_recurring_runs(experiment_id=experiment.experiment_id).recurring_runs
        assert [found.recurring_run_id for found in listed] == [nightly.recurring_run_id]
        assert kubeflow.recurring[nightly.recurring_run_id].trigger.cron_schedule.cron == "0 0 3 * * *"


def client_of(kubeflow: FakeKubeflow) -> Any:
    import kfp

    return kfp.Client(host=kubeflow.url, namespace="team")


def test_the_api_refuses_what_its_models_do_not_have() -> None:
    held = FakeKubeflow(nothing)
    body = json.dumps({"display_name": "x", "pipeline": {}}).encode()
    status, value = held.answer("POST", "/apis/v2beta1/runs", {}, body)
    assert (status, value["error"]) == (400, "V2beta1Run has no pipeline")
