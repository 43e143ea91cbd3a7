"""One request, one result: fit in this process, export included."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import safetensors.torch
import torch
from sklearn.datasets import load_digits
from train_world import FEATURES, prepared, table, train_spec, write

from fairlead.bundle.runtime import run_onnx
from fairlead.dataset import LABEL, PreparedData
from fairlead.errors import ExportMismatch, ModelBuilderError, RunConfigurationChanged, TrainError
from fairlead.features.transform import Transform
from fairlead.spec.features import Features
from fairlead.train.checkpoint import digest_tensors
from fairlead.train.export import export_onnx
from fairlead.train.fit import fit
from fairlead.train.objective import Objective
from fairlead.train.progress import TrainProgress
from fairlead.train.request import FitRequest, FitResult


def request(folder: Path, data: Path, task: str = "binary", **changes: Any) -> FitRequest:
    classes = len(PreparedData(data).manifest.label_classes)
    return FitRequest(train_spec(**changes), data, task, classes, folder / "run", folder)


def quiet(_: TrainProgress) -> None:
    """Progress that nobody watches."""


def answers(result: FitResult, data: Path, split: str = "validation") -> tuple[np.ndarray, np.ndarray]:
    """Outputs of the exported graph on a split, and its labels."""
    prepared_data = PreparedData(data)
    rows = prepared_data.table(split)
    tensors = Transform.from_json(prepared_data.transform_json()).apply_table(rows)
    return run_onnx(result.onnx, tensors), rows[LABEL].to_numpy()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("data") / "prepared")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, data: Path) -> tuple[FitRequest, FitResult, list[TrainProgress]]:
    asked = request(tmp_path_factory.mktemp("fit"), data, retraining_noise=True, preflight=True)
    seen: list[TrainProgress] = []
    return asked, fit(asked, seen.append), seen


Done = tuple[FitRequest, FitResult, list[TrainProgress]]


def test_a_fit_gives_two_graphs_weights_and_a_history(done: Done, data: Path) -> None:
    _, result, _ = done
    assert result.weights_sha256 == digest_tensors(safetensors.torch.load_file(str(result.weights)))
    assert (result.steps, result.workers, result.device, result.resumed_from_step) == (30, 1, "cpu", None)
    assert [entry["epoch"] for entry in result.history] == [1, 2, 3]
    assert result.parity_max_abs < 1e-4
    logits, labels = answers(result, data)
    assert logits.dtype == np.float32
    assert logits.shape == labels.shape
    assert result.twin_onnx is not None
    other, _ = answers(FitResult(result.twin_onnx, *[None] * 10), data)  # type: ignore[arg-type]
    assert 0.001 < np.abs(other - logits).mean() < 2


def test_one_row_and_many_give_the_same_answers(done: Done, data: Path) -> None:
    _, result, _ = done
    prepared_data = PreparedData(data)
    tensors = Transform.from_json(prepared_data.transform_json()).apply_table(prepared_data.table("validation"))
    together = run_onnx(result.onnx, tensors)
    alone = [run_onnx(result.onnx, {n: t[row : row + 1] for n, t in tensors.items()})[0] for row in range(9)]
    np.testing.assert_allclose(alone, together[:9], atol=1e-5)


def test_the_graph_is_one_file_with_named_tensors(done: Done) -> None:
    import onnx

    _, result, _ = done
    model = onnx.load(str(result.onnx), load_external_data=False)
    assert [entry.name for entry in model.graph.input] == ["numeric", "categorical"]
    assert [entry.name for entry in model.graph.output] == ["logits"]
    assert all(not entry.type.tensor_type.shape.dim[0].HasField("dim_value") for entry in model.graph.input)
    assert {path.name for path in result.onnx.parent.glob("*.onnx*")} == {"model.onnx"}


def test_progress_goes_forward_from_start_to_done(done: Done) -> None:
    _, _, seen = done
    phases = list(dict.fromkeys(event.phase for event in seen))
    assert phases[0] == "start"
    assert phases[-1] == "done"
    assert "preflight" in phases
    shares = [event.share for event in seen]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_the_same_request_again_trains_nothing(done: Done) -> None:
    asked, result, _ = done
    before = {path: path.stat().st_mtime_ns for path in asked.run.rglob("*") if path.is_file()}
    again = fit(asked, quiet)
    assert again.weights_sha256 == result.weights_sha256
    assert again.resumed_from_step == result.steps
    assert again.parity_max_abs == result.parity_max_abs
    assert {path: path.stat().st_mtime_ns for path in asked.run.rglob("*") if path.is_file()} == before


def test_an_export_that_is_gone_or_changed_is_made_again(done: Done) -> None:
    asked, result, _ = done
    whole = result.onnx.read_bytes()
    result.onnx.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    fit(asked, quiet)
    assert result.onnx.read_bytes() == whole


@pytest.mark.parametrize(
    ("change", "named"), [({"seed": 8}, "train.seed"), ({"global_batch": 32}, "train.global_batch")]
)
def test_another_configuration_does_not_go_on_from_these_checkpoints(
    done: Done, change: dict[str, Any], named: str
) -> None:
    asked, _, _ = done
    values = asked.train.model_dump() | change
    other = FitRequest(type(asked.train)(**values), asked.data, "binary", 2, asked.run, asked.project_dir)
    with pytest.raises(RunConfigurationChanged, match=named):
        fit(other, quiet)


def test_other_data_does_not_either(done: Done, tmp_path: Path) -> None:
    asked, _, _ = done
    other = prepared(tmp_path / "other", seed=9)
    with pytest.raises(RunConfigurationChanged, match="different: data"):
        fit(FitRequest(asked.train, other, "binary", 2, asked.run, asked.project_dir), quiet)


def test_how_often_checkpoints_are_written_may_change(done: Done) -> None:
    asked, result, _ = done
    values = asked.train.model_dump() | {"checkpoint": {"every_steps": 99, "keep": 1}}
    again = fit(FitRequest(type(asked.train)(**values), asked.data, "binary", 2, asked.run, asked.project_dir), quiet)
    assert again.weights_sha256 == result.weights_sha256


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_outputs_are_in_the_unit_of_the_label(tmp_path: Path, task: str) -> None:
    data = prepared(tmp_path / "data", rows=1500, task=task)
    options = {"model_options": {"dropout": 0.0}, "epochs": 6, "learning_rate": 0.02}
    result = fit(request(tmp_path, data, task, **options), quiet)
    given, labels = answers(result, data)
    if task == "regression":
        assert given.shape == labels.shape
        assert float(np.corrcoef(given, labels)[0, 1]) > 0.9
        assert abs(float((given - labels).mean())) < 20
    else:
        assert given.shape == (len(labels), 3)
        assert float((given.argmax(1) == labels).mean()) > 0.75


def test_digits_are_recognised(tmp_path: Path) -> None:
    digits = load_digits()
    rows = pa.table(
        {
            "picture": pa.array([list(map(float, row.ravel())) for row in digits.images], pa.list_(pa.float32())),
            LABEL: pa.array(digits.target.astype(np.int64)),
        }
    )
    features = Features.model_validate({"image": {"picture": {"shape": (1, 8, 8), "scale": 16.0}}})
    data = write(tmp_path / "data", {"train": rows[:1400], "validation": rows[1400:]}, features, "digits", 500)
    asked = FitRequest(
        train_spec(model="image", model_options={"channels": (16, 32)}, epochs=6, preflight=True),
        data,
        "multiclass",
        10,
        tmp_path / "run",
        tmp_path,
    )
    given, labels = answers(fit(asked, quiet), data)
    assert float((given.argmax(1) == labels).mean()) > 0.9


BUILDER = """
from torch import nn

class Net(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.layer = nn.Linear(inputs, 1)

    def forward(self, numeric, categorical):
        return self.layer(numeric)

def build(tensors, task, num_classes, options):
    return Net(tensors[0].shape[0])
"""


def test_a_builder_of_the_project_is_trained_and_belongs_to_the_configuration(tmp_path: Path, data: Path) -> None:
    (tmp_path / "model.py").write_text(BUILDER)
    asked = request(tmp_path, data, model="model:build", model_options={})
    result = fit(asked, quiet)
    assert answers(result, data)[0].shape == (200,)
    (tmp_path / "model.py").write_text(BUILDER + "# changed\n")
    with pytest.raises(RunConfigurationChanged, match="builder_sha256"):
        fit(asked, quiet)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"workers": 2, "launcher": "inprocess"}, TrainError, "2 workers do not fit"),
        ({"model": "nothing:here"}, ModelBuilderError, "cannot be imported"),
        ({"model_options": {"hiden": (3,)}}, ModelBuilderError, "no option hiden"),
    ],
)
def test_requests_that_cannot_work_are_refused_before_anything_is_trained(
    tmp_path: Path, data: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fit(request(tmp_path, data, **changes), quiet)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_gpu_that_is_not_there_is_refused(tmp_path: Path, data: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(TrainError, match="no GPU"):
        fit(request(tmp_path, data, use_gpu="yes"), quiet)


def test_a_second_fit_in_the_same_folder_is_refused_while_the_first_one_lives(tmp_path: Path, data: Path) -> None:
    asked = request(tmp_path, data)
    script = (
        "import fcntl, sys\nlock = open(sys.argv[1], 'a')\nfcntl.flock(lock, fcntl.LOCK_EX)\n"
        "print('locked', flush=True)\nsys.stdin.read()\n"
    )
    asked.run.mkdir()
    command = [sys.executable, "-c", script, str(asked.run / "fit.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(TrainError, match="another fit is running"):
            fit(asked, quiet)
        other.communicate()


class Unfaithful(torch.nn.Module):
    """Gives something else to whoever traces it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)

    def forward(self, numeric: torch.Tensor) -> torch.Tensor:
        answer = self.layer(numeric)
        return answer + 0.01 if torch.compiler.is_exporting() else answer


def test_a_graph_that_gives_other_numbers_is_refused_and_not_left_behind(tmp_path: Path) -> None:
    class Spec:
        name, shape, cardinalities = "numeric", (3,), ()

    objective = Objective("binary", 2, 1.0, (0.0,))
    real = {"numeric": np.zeros((4, 3), dtype=np.float32)}
    with pytest.raises(ExportMismatch, match=r"differs from PyTorch by 1\.00e-02"):
        export_onnx(Unfaithful(), objective, [Spec()], tmp_path / "model.onnx", real, seed=1)
    assert not (tmp_path / "model.onnx").exists()


def test_training_says_nothing_on_stdout_or_stderr(
    tmp_path: Path, data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fit(request(tmp_path, data, epochs=1), quiet)
    assert capfd.readouterr() == ("", "")


def test_a_type_of_the_result_costs_no_torch() -> None:
    code = (
        "import json, sys, fairlead.train.request, fairlead.train.progress\n"
        "print(json.dumps([name for name in ('torch', 'ray') if name in sys.modules]))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(out) == []


def test_prepared_data_of_one_row_is_trained(tmp_path: Path) -> None:
    tiny = write(tmp_path / "data", {"train": table(3, 1), "validation": table(2, 2)}, FEATURES, "binary", 100)
    result = fit(request(tmp_path, tiny, global_batch=2, accumulate=4), quiet)
    assert result.steps == 6
