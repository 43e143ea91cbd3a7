"""The project with every step of the transform: trained, and exported to ONNX with raw inputs."""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from fairlead.bundle.predictor import Predictor
from fairlead.bundle.raw_graph.inputs import raw_arrays
from fairlead.cli import main
from fairlead.dataset import PreparedData
from fairlead.wiring import steps
from fairlead.wiring.context import open_context
from fairlead.wiring.models import load_version

EXAMPLE = Path(__file__).parents[2] / "examples" / "parcels"


def make_data(folder: Path, count: int) -> None:
    spec = importlib.util.spec_from_file_location("parcels_data", EXAMPLE / "make_data.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.write_parcels(folder, count)


def test_it_trains_and_its_onnx_file_takes_raw_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copyfile(EXAMPLE / "fairlead.yaml", tmp_path / "fairlead.yaml")
    make_data(tmp_path / "data", 4_000)
    overrides = ("evaluate.baselines=false", "evaluate.bootstrap=50", "train.epochs=4", "evaluate.gates=[]")
    context = open_context(tmp_path / "fairlead.yaml", overrides, "one")
    told = context.to_json()
    source = steps.validate(told)["source_fingerprint"]
    fingerprint = steps.prepare(told, source)["fingerprint"]
    judged = steps.evaluate(told, fingerprint, steps.train(told, fingerprint)["draft"])
    steps.register(told, judged["bundle_uri"], judged["digest"], fingerprint)
    bundle = load_version(context, context.registry().get("1")).bundle
    assert [spec.name for spec in bundle.transform.tensors] == ["numeric", "categorical", "text"]

    capsys.readouterr()
    file = tmp_path / "out" / "parcels.onnx"
    assert (
        main(["model", "export", "1", "--output-file", str(file), "-f", str(tmp_path / "fairlead.yaml"), "-o", "json"])
        == 0
    )
    exported = json.loads(capsys.readouterr().out)
    assert exported["not_raw"] == ["customer", "note"]
    assert exported["rows_compared"] == 2_000

    test = PreparedData(context.home / "prepared" / fingerprint).table("test")
    runtime = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    score, label = runtime.run(["score", "label"], raw_arrays(bundle.transform.columns, test))
    expected = Predictor(bundle).predict_table(test)
    np.testing.assert_allclose(score, expected.scores, atol=1e-6)
    np.testing.assert_array_equal(label, expected.labels)
    assert np.unique(label).size == 2
