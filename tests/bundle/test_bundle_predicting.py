"""Predicting: the same numbers through every door, and failures that say what failed."""

import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from fairlead.bundle.bundle import Bundle, seal
from fairlead.bundle.calibration import Calibration, Task, sigmoid, softmax
from fairlead.bundle.predictor import CHUNK_ROWS
from fairlead.bundle.runtime import Predictor, run_onnx
from fairlead.bundle.signature import check_signature, signature_for
from fairlead.errors import BundleDamaged, PredictionFailed
from fairlead.records.model import Field
from fairlead.testing.bundles import CLASSES, sample_table, sealed_bundle, write_draft

TASKS: tuple[Task, ...] = ("binary", "multiclass", "regression")


def predictor(tmp_path: Path, task: Task = "binary", threads: int = 1) -> Predictor:
    sealed_bundle(tmp_path / "bundle", task=task)
    return Predictor(Bundle.load(tmp_path / "bundle"), threads=threads)


@pytest.mark.parametrize("task", TASKS)
def test_rows_columns_table_and_tensors_give_the_same_bits(tmp_path: Path, task: Task) -> None:
    model = predictor(tmp_path, task)
    table = sample_table(40, seed=5)
    by_table = model.predict_table(table)
    by_rows = model.predict_rows(table.to_pylist())
    by_columns = model.predict_columns(table.to_pydict(), table.num_rows)
    transform = Bundle.load(tmp_path / "bundle").transform
    by_tensors = model.predict_tensors(transform.apply_table(table))
    for other in (by_rows, by_columns, by_tensors):
        assert np.array_equal(by_table.scores, other.scores)
        assert np.array_equal(by_table.logits, other.logits)
        assert (by_table.labels is None) == (task == "regression")
        if by_table.labels is not None:
            assert by_table.labels.tolist() == other.labels.tolist()


@pytest.mark.parametrize("task", TASKS)
def test_scores_are_the_calibrated_logits_of_the_graph(tmp_path: Path, task: Task) -> None:
    model = predictor(tmp_path, task)
    bundle = Bundle.load(tmp_path / "bundle")
    table = sample_table(25, seed=6)
    raw = run_onnx(tmp_path / "bundle" / "model.onnx", bundle.transform.apply_table(table)).astype(np.float64)
    found = model.predict_table(table)
    assert np.array_equal(found.logits, raw)
    expected = {"binary": sigmoid(raw / 1.5), "multiclass": softmax(raw / 1.5), "regression": raw}[task]
    assert np.array_equal(found.scores, expected)
    assert found.scores.shape == ((25, 3) if task == "multiclass" else (25,))


def test_the_threshold_of_the_signature_decides_the_label(tmp_path: Path) -> None:
    draft = write_draft(tmp_path / "draft")
    table = sample_table(60, seed=2)
    transform = Bundle.load(seal_with(draft, None)).transform
    scores = Predictor(Bundle.load(draft)).predict_table(table).scores
    threshold = float(np.sort(scores)[20])
    (draft / "signature.json").unlink()
    from fairlead.records.codec import to_json

    (draft / "signature.json").write_bytes(
        to_json(signature_for(transform.fields, "binary", CLASSES["binary"], threshold=threshold))
    )
    labels = Predictor(Bundle.load(seal_with(draft, threshold))).predict_table(table).labels
    assert labels is not None
    assert labels.tolist() == ["yes" if score >= threshold else "no" for score in scores]
    assert (labels == "yes").sum() == 40  # the score that equals the threshold counts as positive


def seal_with(draft: Path, threshold: float | None) -> Path:
    seal(draft, "flights", {"threshold": threshold}, Calibration(), "card")
    return draft


def test_a_long_table_goes_through_in_chunks_and_comes_out_whole(tmp_path: Path) -> None:
    model = predictor(tmp_path)
    table = sample_table(CHUNK_ROWS + 7, seed=8)
    whole = model.predict_table(table)
    assert whole.scores.shape == (CHUNK_ROWS + 7,)
    tail = model.predict_table(table.slice(CHUNK_ROWS))
    assert np.array_equal(whole.scores[CHUNK_ROWS:], tail.scores)
    assert whole.labels is not None
    assert tail.labels is not None
    assert whole.labels[CHUNK_ROWS:].tolist() == tail.labels.tolist()


@pytest.mark.parametrize("task", TASKS)
def test_no_rows_give_no_scores(tmp_path: Path, task: Task) -> None:
    found = predictor(tmp_path, task).predict_table(sample_table(0))
    assert len(found.scores) == 0
    assert found.labels is None or len(found.labels) == 0


def test_threads_share_one_predictor(tmp_path: Path) -> None:
    model = predictor(tmp_path, threads=2)
    tables = [sample_table(30, seed=seed) for seed in range(8)]
    alone = [model.predict_table(table).scores for table in tables]
    together: list[np.ndarray] = [np.empty(0)] * len(tables)

    def work(index: int) -> None:
        for _ in range(10):
            together[index] = model.predict_table(tables[index]).scores

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(tables))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one, other)


def test_a_number_that_is_not_finite_is_a_failure_that_names_the_row(tmp_path: Path) -> None:
    draft = write_draft(tmp_path / "draft")
    table = sample_table(30, seed=3)
    categories = Bundle.load(seal_with(draft, None)).transform.apply_table(table)["categorical"][:, 0]
    model = onnx.load(draft / "model.onnx")
    [of_category] = [tensor for tensor in model.graph.initializer if tensor.name == "table"]
    values = numpy_helper.to_array(of_category).copy()
    values[categories[7]] = np.nan
    of_category.CopyFrom(numpy_helper.from_array(values, "table"))
    onnx.save(model, draft / "model.onnx")
    with pytest.raises(PredictionFailed, match="not finite") as caught:
        Predictor.of_draft(draft).predict_table(table)
    first = int(np.flatnonzero(categories == categories[7])[0])
    assert f"row {first} of 30" in (caught.value.where or "")


def test_an_index_out_of_range_inside_the_graph_is_a_prediction_that_failed(tmp_path: Path) -> None:
    draft = write_draft(tmp_path / "draft")
    model = Predictor.of_draft(draft)
    transform = Bundle.load(seal_with(draft, None)).transform
    tensors = transform.apply_table(sample_table(4))
    tensors["categorical"] = tensors["categorical"] + 1000
    with pytest.raises(PredictionFailed, match="failed on"):
        model.predict_tensors(tensors)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    with pytest.raises(PredictionFailed, match="categorical"):
        predictor(tmp_path).predict_tensors({"numeric": np.zeros((1, 3), np.float32)})


def test_a_draft_without_a_graph_says_so(tmp_path: Path) -> None:
    draft = write_draft(tmp_path / "draft")
    (draft / "model.onnx").unlink()
    with pytest.raises(BundleDamaged, match=r"model\.onnx"):
        Predictor.of_draft(draft)
    with pytest.raises(BundleDamaged, match="lacks"):
        seal(draft, "flights", {}, Calibration(), "card")


def test_errors_of_a_prediction_survive_a_process_border() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(PredictionFailed("what", where="here", why="because")))  # noqa: S301 - our own
    assert (type(error), error.what, error.where, error.why) == (PredictionFailed, "what", "here", "because")


FIELD = Field("x", "float", "FP64")


@pytest.mark.parametrize(
    ("task", "classes", "threshold", "inputs"),
    [
        ("binary", ("a",), None, (FIELD,)),
        ("binary", ("a", "a"), None, (FIELD,)),
        ("multiclass", ("a", "b"), None, (FIELD,)),
        ("regression", ("a", "b"), None, (FIELD,)),
        ("ranking", (), None, (FIELD,)),
        ("binary", ("a", "b"), 1.5, (FIELD,)),
        ("regression", (), 0.5, (FIELD,)),
        ("regression", (), None, ()),
        ("regression", (), None, (FIELD, FIELD)),
    ],
)
def test_a_signature_that_contradicts_itself_is_refused(
    task: str, classes: tuple[str, ...], threshold: float | None, inputs: tuple[Field, ...]
) -> None:
    with pytest.raises(ValueError):
        signature_for(inputs, task, classes, threshold=threshold)


def test_outputs_follow_the_task() -> None:
    binary = signature_for((FIELD,), "binary", ("no", "yes"))
    assert [(field.name, field.datatype, field.shape) for field in binary.outputs] == [
        *(("score", "FP64", ()), ("label", "BYTES", ())),
    ]
    three = signature_for((FIELD,), "multiclass", ("a", "b", "c"))
    assert [(field.name, field.shape) for field in three.outputs] == [("scores", (3,)), ("label", ())]
    check_signature(three)
    assert [field.name for field in signature_for((FIELD,), "regression").outputs] == ["value"]
