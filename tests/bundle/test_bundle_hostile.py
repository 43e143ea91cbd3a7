"""Bundles that were damaged, or made to harm: refused by name before anything of them is used."""

import hashlib
import json
import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fairlead.bundle.bundle import Bundle, seal
from fairlead.bundle.calibration import Calibration
from fairlead.bundle.graph_check import MAX_NESTING, check_graph
from fairlead.bundle.layout import MANIFEST, REQUIRED_FILES, digest_of
from fairlead.bundle.runtime import Graph, Predictor, run_onnx
from fairlead.errors import BundleDamaged, FairleadError, PredictionFailed
from fairlead.testing.bundles import sample_table, sealed_bundle, write_draft


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    sealed_bundle(tmp_path / "bundle")
    return tmp_path / "bundle"


def rewrite_manifest(folder: Path, change: Callable[[dict[str, object]], object], *, whole: bool = True) -> None:
    """Edit the manifest; with `whole` its digest is made to fit again, as a careful attacker would."""
    manifest = json.loads((folder / MANIFEST).read_bytes())
    change(manifest)
    if whole:
        manifest["digest"] = digest_of(manifest["files"])
    (folder / MANIFEST).write_text(json.dumps(manifest))


def replace_file(folder: Path, name: str, data: bytes) -> None:
    """Replace a file and make the manifest fit it."""
    (folder / name).write_bytes(data)
    rewrite_manifest(folder, lambda m: m["files"].update({name: hashlib.sha256(data).hexdigest()}))  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", REQUIRED_FILES)
def test_a_flipped_byte_is_named_with_both_digests(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    expected = hashlib.sha256(data).hexdigest()
    data[random.Random(name).randrange(len(data))] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(BundleDamaged) as caught:
        Bundle.load(folder)
    assert name in caught.value.what
    assert caught.value.why == f"expected sha256 {expected}, got {hashlib.sha256(data).hexdigest()}"


def test_every_single_flipped_byte_of_the_manifest_that_matters_is_noticed(folder: Path) -> None:
    whole = (folder / MANIFEST).read_bytes()
    digest = Bundle.load(folder).digest
    chance = random.Random(3)
    for position in chance.sample(range(len(whole)), 150):
        data = bytearray(whole)
        data[position] ^= 1 << chance.randrange(7)
        (folder / MANIFEST).write_bytes(data)
        try:
            found = Bundle.load(folder, digest)
        except BundleDamaged:
            continue
        # What may change unnoticed is the time of sealing, white space, and keys that nobody reads.
        (folder / MANIFEST).write_bytes(whole)
        sealed = Bundle.load(folder)
        assert (found.manifest.files, found.manifest.model) == (sealed.manifest.files, sealed.manifest.model)
        assert found.manifest.lineage == sealed.manifest.lineage


@pytest.mark.parametrize("name", [*REQUIRED_FILES, MANIFEST])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleDamaged, match=name):
        Bundle.load(folder)


@pytest.mark.parametrize("name", REQUIRED_FILES)
def test_a_manifest_that_leaves_a_needed_file_out_is_refused(folder: Path, name: str) -> None:
    rewrite_manifest(folder, lambda m: m["files"].pop(name))  # type: ignore[attr-defined]
    with pytest.raises(BundleDamaged, match=r"manifest\.json"):
        Bundle.load(folder)


def test_a_file_that_is_not_listed_is_refused(folder: Path) -> None:
    (folder / "extra.json").write_text("{}")
    with pytest.raises(BundleDamaged, match=r"extra\.json"):
        Bundle.load(folder)


@pytest.mark.parametrize(
    "name", ["../outside.json", "/etc/passwd", "a/b.json", ".hidden.json", "model.pkl", "run.py", "x.so", "", "a\n.md"]
)
def test_a_listed_name_that_leads_elsewhere_or_could_be_code_is_refused(folder: Path, name: str) -> None:
    rewrite_manifest(folder, lambda m: m["files"].update({name: "0" * 64}))  # type: ignore[attr-defined]
    with pytest.raises(BundleDamaged, match=r"manifest\.json"):
        Bundle.load(folder)


def test_a_link_is_not_followed(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.md"
    (folder / "card.md").rename(outside)
    os.symlink(outside, folder / "card.md")
    with pytest.raises(BundleDamaged, match=r"card\.md"):
        Bundle.load(folder)


def test_another_bundle_than_was_asked_for_is_refused(folder: Path, tmp_path: Path) -> None:
    other = sealed_bundle(tmp_path / "other", seed=9)
    with pytest.raises(BundleDamaged, match="another one"):
        Bundle.load(folder, other.digest)


def test_a_lineage_edited_in_the_manifest_alone_is_noticed(folder: Path) -> None:
    rewrite_manifest(folder, lambda m: m["lineage"].update(seed=99))  # type: ignore[attr-defined]
    with pytest.raises(BundleDamaged, match="lineage"):
        Bundle.load(folder)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b"7",
        b"{}",
        b"\xff\xfe",
        b'{"files": 3}',
        b'{"model": 1, "digest": 2, "files": []}',
        b"[" * 5000,
    ],
)
@pytest.mark.parametrize("name", [MANIFEST, "signature.json", "statistics.json", "calibration.json", "lineage.json"])
def test_text_that_is_not_what_a_bundle_needs_is_refused(folder: Path, name: str, text: bytes) -> None:
    if name == MANIFEST:
        (folder / MANIFEST).write_bytes(text)
    else:
        replace_file(folder, name, text)
    with pytest.raises(BundleDamaged):
        Bundle.load(folder)


@pytest.mark.parametrize("text", [b"", b"null", b"[]", b"{}", b'{"format": 99}'])
def test_a_transform_that_cannot_be_read_is_refused(folder: Path, text: bytes) -> None:
    replace_file(folder, "transform.json", text)
    bundle = Bundle.load(folder)
    with pytest.raises(BundleDamaged, match=r"transform\.json"):
        Predictor(bundle)


def test_a_calibration_for_another_task_is_refused(folder: Path) -> None:
    replace_file(folder, "calibration.json", Calibration(task="regression").to_json())
    with pytest.raises(BundleDamaged, match="regression"):
        Bundle.load(folder)


def test_a_newer_format_is_refused(folder: Path) -> None:
    rewrite_manifest(folder, lambda m: m.update(format=2))
    with pytest.raises(BundleDamaged, match="damaged") as caught:
        Bundle.load(folder)
    assert "format 2" in (caught.value.why or "")


class Bomb:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.mkdir, ("exploded",)


def test_a_pickle_in_place_of_any_file_is_never_loaded(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in REQUIRED_FILES:
        sealed_bundle(folder)
        replace_file(folder, name, pickle.dumps(Bomb()))
        try:
            Predictor(Bundle.load(folder))
        except FairleadError:
            pass
        else:
            assert name == "card.md"  # text that only people read
    assert not (tmp_path / "exploded").exists()


def test_what_is_swapped_after_loading_is_not_used(folder: Path, tmp_path: Path) -> None:
    bundle = Bundle.load(folder)
    sealed_bundle(tmp_path / "other", seed=9)
    (folder / "model.onnx").write_bytes((tmp_path / "other" / "model.onnx").read_bytes())
    with pytest.raises(BundleDamaged, match=r"model\.onnx"):
        Predictor(bundle)


@pytest.mark.parametrize("name", ["weights.pt", "model.pkl", "hook.py", ".env", "more"])
def test_a_draft_with_something_that_could_be_code_is_not_sealed(tmp_path: Path, name: str) -> None:
    draft = write_draft(tmp_path / "draft")
    (draft / name).write_bytes(b"x")
    with pytest.raises(BundleDamaged, match="may not hold"):
        seal(draft, "flights", {}, Calibration(), "card")
    assert not (draft / MANIFEST).exists()


# --- graphs ----------------------------------------------------------------------------------------------------------


def model_of(
    nodes: list[onnx.NodeProto], initializers: list[onnx.TensorProto] | None = None, **options: object
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("numeric", TensorProto.FLOAT, ["N"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N"])],
        initializers or [],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9, **options)


def external(name: str = "w") -> onnx.TensorProto:
    tensor = numpy_helper.from_array(np.ones(1, np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../../../etc/passwd"
    return tensor


def nested(inner: onnx.GraphProto, levels: int) -> onnx.GraphProto:
    for _ in range(levels):
        node = helper.make_node("If", ["c"], ["o"])
        node.attribute.append(helper.make_attribute("then_branch", inner))
        inner = helper.make_graph([node], "g", [], [])
    return inner


def in_a_branch(tensor: onnx.TensorProto) -> onnx.ModelProto:
    node = helper.make_node("If", ["numeric"], ["logits"])
    node.attribute.append(helper.make_attribute("then_branch", helper.make_graph([], "b", [], [], [tensor])))
    return model_of([node])


def in_a_function(tensor: onnx.TensorProto) -> onnx.ModelProto:
    constant = helper.make_node("Constant", [], ["y"], value=tensor)
    function = helper.make_function("own", "f", ["x"], ["y"], [constant], [helper.make_opsetid("", 17)])
    model = model_of([helper.make_node("f", ["numeric"], ["logits"], domain="own")], functions=[function])
    model.opset_import.append(helper.make_opsetid("own", 1))
    return model


def in_sparse(tensor: onnx.TensorProto) -> onnx.ModelProto:
    model = model_of([helper.make_node("Identity", ["numeric"], ["logits"])])
    sparse = model.graph.sparse_initializer.add()
    sparse.values.CopyFrom(tensor)
    return model


EXTERNAL_MODELS = {
    "initializer": model_of([helper.make_node("Add", ["numeric", "w"], ["logits"])], [external()]),
    "constant": model_of([helper.make_node("Constant", [], ["logits"], value=external())]),
    "branch": in_a_branch(external()),
    "function": in_a_function(external()),
    "sparse": in_sparse(external()),
}


@pytest.mark.parametrize("place", EXTERNAL_MODELS)
def test_a_graph_that_names_another_file_is_refused_wherever_it_hides_it(place: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(EXTERNAL_MODELS[place].SerializeToString())
    with pytest.raises(BundleDamaged, match="in another file"):
        run_onnx(path, {"numeric": np.ones(1, np.float32)})


def test_a_bundle_with_such_a_graph_is_neither_sealed_nor_loaded(folder: Path, tmp_path: Path) -> None:
    data = EXTERNAL_MODELS["branch"].SerializeToString()
    draft = write_draft(tmp_path / "draft")
    (draft / "model.onnx").write_bytes(data)
    with pytest.raises(BundleDamaged, match="another file"):
        seal(draft, "flights", {}, Calibration(), "card")
    assert not (draft / MANIFEST).exists()
    replace_file(folder, "model.onnx", data)
    with pytest.raises(BundleDamaged, match="another file"):
        Bundle.load(folder)


@pytest.mark.parametrize("domain", ["com.evil", "com.microsoft", "ai.onnx.contrib", "own2"])
def test_a_custom_operator_is_refused(domain: str) -> None:
    model = model_of([helper.make_node("Shell", ["numeric"], ["logits"], domain=domain, name="n1")])
    with pytest.raises(BundleDamaged, match=f"{domain}::Shell"):
        check_graph(model.SerializeToString(), "model.onnx")


def test_functions_that_a_model_defines_itself_are_fine() -> None:
    negate = helper.make_node("Neg", ["x"], ["y"])
    function = helper.make_function("own", "f", ["x"], ["y"], [negate], [helper.make_opsetid("", 17)])
    model = model_of([helper.make_node("f", ["numeric"], ["logits"], domain="own")], functions=[function])
    model.opset_import.append(helper.make_opsetid("own", 1))
    out = Graph(model.SerializeToString()).run({"numeric": np.asarray([2.0], np.float32)})
    assert out.tolist() == [-2.0]


def test_graphs_nested_without_end_are_refused() -> None:
    model = model_of([])
    model.graph.CopyFrom(nested(helper.make_graph([], "leaf", [], []), MAX_NESTING // 3 + 1))
    with pytest.raises(BundleDamaged, match="deeper"):
        check_graph(model.SerializeToString(), "model.onnx")


def test_any_bytes_are_refused_or_fail_but_never_escape_as_something_else() -> None:
    chance = random.Random(11)
    whole = model_of([helper.make_node("Neg", ["numeric"], ["logits"])]).SerializeToString()
    tried = 0
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        if chance.random() < 0.3:
            del data[chance.randrange(len(data)) :]
        try:
            check_graph(bytes(data), "model.onnx")
        except BundleDamaged:
            tried += 1
    assert tried > 100
    for data in (b"", b"\x00", b"\x80" * 20, b"\x0b\x0c", os.urandom(64)):
        with pytest.raises((BundleDamaged, PredictionFailed)):
            Graph(bytes(data))


def test_a_field_number_beyond_32_bits_is_refused() -> None:
    tag = ((7 << 3) | 2) + (1 << 32)
    encoded = bytearray()
    while tag:
        encoded.append((tag & 0x7F) | (0x80 if tag > 0x7F else 0))
        tag >>= 7
    whole = model_of([helper.make_node("Neg", ["numeric"], ["logits"])]).SerializeToString()
    with pytest.raises(BundleDamaged, match="no ONNX model"):
        check_graph(whole + bytes(encoded) + b"\x00", "model.onnx")


def test_a_graph_with_the_wrong_output_is_told(tmp_path: Path) -> None:
    draft = write_draft(tmp_path / "draft", task="binary")
    three = write_draft(tmp_path / "three", task="multiclass")
    (draft / "model.onnx").write_bytes((three / "model.onnx").read_bytes())
    with pytest.raises(PredictionFailed, match=r"\[5, 3\] instead of numbers \[5\]"):
        Predictor.of_draft(draft).predict_table(sample_table(5))
