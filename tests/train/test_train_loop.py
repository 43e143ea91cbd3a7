"""The loop in this process: learning, going on after a stop, refusing bad numbers."""

import itertools
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import safetensors.torch
import torch
from train_world import ALONE, FEATURES, job, prepared, progress_notes, table, train_spec, trained, write

from fairlead.dataset import LABEL, WEIGHT
from fairlead.errors import CheckpointDamaged, LossNotFinite
from fairlead.train.checkpoint import CheckpointStore
from fairlead.train.loop import Loop, learning_rate
from fairlead.train.worker import Job, read_failure, read_trained, work


class Stop(BaseException):
    """The end of the process, as far as the loop can tell."""


def work_until(monkeypatch: pytest.MonkeyPatch, job: Job, step: int) -> None:
    """Work, and end abruptly before `step` steps are done."""
    with monkeypatch.context() as patch:
        stop_at(patch, step)
        with pytest.raises(Stop):
            work(job, ALONE)


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let training end abruptly before it does `step` steps, with whatever checkpoints are on disk by then."""
    real = Loop._step

    def until(loop: Loop, batch: Any) -> None:
        if loop.step == step:
            loop.checkpoints.flush()
            raise Stop
        real(loop, batch)

    monkeypatch.setattr(Loop, "_step", until)


VARIANTS: dict[str, dict[str, Any]] = {
    "adamw": {},
    "sgd with average": {"optimizer": "sgd", "ema": 0.9, "export": "last"},
    "accumulating, windows, no cache": {"accumulate": 3, "window_rows": 150, "cache": 0},
    "bf16": {"precision": "bf16"},
    "fp16 with scaler": {"precision": "fp16", "ema": 0.99},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_stopped_anywhere_and_started_again_the_weights_are_bit_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    data = prepared(tmp_path / "data")
    undisturbed = trained(job(tmp_path / "undisturbed", data, **VARIANTS[variant]))
    stopped = job(tmp_path / "stopped", data, **VARIANTS[variant])
    for step in (7, 13):  # in the first epoch (which has 10 steps), and in the second, after a first resume
        work_until(monkeypatch, stopped, step)
    again = trained(stopped)
    assert again["weights_sha256"] == undisturbed["weights_sha256"]
    assert again["resumed_from_step"] == 12
    for name in ("train_loss", "validation_loss", "validation_auc", "grad_norm", "learning_rate"):
        assert [epoch[name] for epoch in again["history"]] == [epoch[name] for epoch in undisturbed["history"]]


def test_rows_of_weight_0_teach_nothing_and_equal_weights_change_nothing(tmp_path: Path) -> None:
    clean = table(600, 1)
    lies = clean.set_column(clean.schema.get_field_index(LABEL), LABEL, pa.array(1 - clean[LABEL].to_numpy()))
    validation = table(200, 2)

    def weighted(rows: pa.Table, weights: Any) -> pa.Table:
        return rows.append_column(WEIGHT, pa.array(weights, pa.float64()))

    def auc_of(name: str, rows: pa.Table, judged: pa.Table) -> dict[str, Any]:
        data = write(tmp_path / name, {"train": rows, "validation": judged}, FEATURES, "binary", 100)
        return trained(job(tmp_path / f"{name}-run", data, epochs=8))

    judged = weighted(validation, [1.0] * 200)
    plain = auc_of("plain", clean, validation)
    equal = auc_of("equal", weighted(clean, [1.0] * 600), judged)
    assert equal["weights_sha256"] == plain["weights_sha256"]
    assert equal["history"][-1]["validation_auc"] == pytest.approx(plain["history"][-1]["validation_auc"])
    assert equal["history"][-1]["validation_loss"] == pytest.approx(plain["history"][-1]["validation_loss"])
    both = pa.concat_tables([clean, lies])
    ignored = auc_of("ignored", weighted(both, [2.0] * 600 + [0.0] * 600), judged)
    believed = auc_of("believed", weighted(both, [1.0] * 1200), judged)
    assert ignored["history"][-1]["validation_auc"] > 0.85
    assert believed["history"][-1]["validation_auc"] < 0.7


def test_other_seeds_give_other_weights_and_the_same_seed_the_same(tmp_path: Path) -> None:
    data = prepared(tmp_path / "data")
    digests = [
        trained(job(tmp_path / name, data, seed=seed))["weights_sha256"]
        for name, seed in (("one", 1), ("again", 1), ("other", 2))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_a_flipped_byte_in_the_newest_checkpoint_is_named_and_the_older_one_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = prepared(tmp_path / "data")
    undisturbed = trained(job(tmp_path / "undisturbed", data))
    stopped = job(tmp_path / "stopped", data)
    work_until(monkeypatch, stopped, 13)
    file = stopped.run / "main" / "checkpoints" / "step-00000012" / "tensors.safetensors"
    data_bytes = bytearray(file.read_bytes())
    data_bytes[-5] ^= 1
    file.write_bytes(data_bytes)
    again = trained(stopped)
    assert again["resumed_from_step"] == 10
    assert again["weights_sha256"] == undisturbed["weights_sha256"]
    assert "step-00000012" in again["notes"][0]
    assert "tensors.safetensors" in again["notes"][0]
    assert any("step-00000012 is damaged" in note for note in progress_notes(stopped.run))


def test_when_no_checkpoint_is_whole_training_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = job(tmp_path, prepared(tmp_path / "data"))
    work_until(monkeypatch, stopped, 13)
    for file in (stopped.run / "main" / "checkpoints").glob("*/manifest.json"):
        file.unlink()
    with pytest.raises(CheckpointDamaged, match="no checkpoint is whole"):
        work(stopped, ALONE)


def test_checkpoints_on_disk_are_the_newest_and_the_best(tmp_path: Path) -> None:
    done = job(tmp_path, prepared(tmp_path / "data"), epochs=4)
    facts = trained(done)
    steps = CheckpointStore(done.run / "main" / "checkpoints", 2).steps()
    losses = [epoch["validation_loss"] for epoch in facts["history"]]
    best = 10 * (losses.index(min(losses)) + 1)
    assert set(steps) == {36, 40, best}
    assert all(path.name.startswith("step-") for path in (done.run / "main" / "checkpoints").iterdir())


def test_the_best_epoch_on_validation_is_exported_or_the_last_one(tmp_path: Path) -> None:
    data = prepared(tmp_path / "data", rows=60)
    values = {"epochs": 40, "learning_rate": 0.05, "global_batch": 20, "model_options": {"dropout": 0.0}}
    weights = {}
    for export in ("best", "last"):
        done = job(tmp_path / export, data, export=export, **values)
        history = trained(done)["history"]
        losses = [epoch["validation_loss"] for epoch in history]
        assert losses.index(min(losses)) + 1 < len(losses), "this data is overfitted before the last epoch"
        weights[export] = safetensors.torch.load_file(str(done.run / "main" / "weights.safetensors"))
    newest = CheckpointStore(tmp_path / "last" / "run" / "main" / "checkpoints", 2).load_newest()[0]
    assert newest is not None
    for name, tensor in weights["last"].items():
        assert torch.equal(tensor, newest.tensors[f"model.{name}"])
        assert torch.equal(weights["best"][name], newest.tensors[f"best.{name}"])
    assert any(not torch.equal(weights["last"][name], weights["best"][name]) for name in weights["last"])


@pytest.mark.parametrize(("task", "better_than"), [("binary", 0.35), ("multiclass", 0.7), ("regression", 0.3)])
def test_each_task_is_learnt(tmp_path: Path, task: str, better_than: float) -> None:
    data = prepared(tmp_path / "data", rows=2000, task=task)
    options = {"model_options": {"hidden": (32, 16), "dropout": 0.0}, "epochs": 8, "learning_rate": 0.02}
    history = trained(job(tmp_path, data, task, **options))["history"]
    assert history[-1]["validation_loss"] < better_than
    assert ("validation_auc" in history[-1]) == (task == "binary")
    if task == "binary":
        assert history[-1]["validation_auc"] > 0.93
    assert {"rows_per_second", "data_wait_seconds", "compute_seconds", "grad_norm"} <= set(history[-1])


def test_accumulated_micro_batches_give_the_step_of_the_whole_batch(tmp_path: Path) -> None:
    data = prepared(tmp_path / "data", rows=500)
    still = {"model_options": {"hidden": (16,), "dropout": 0.0, "embedding_dropout": 0.0}, "optimizer": "sgd"}
    weights = []
    for parts in (1, 4):
        done = job(tmp_path / str(parts), data, accumulate=parts, **still)
        trained(done)
        weights.append(safetensors.torch.load_file(str(done.run / "main" / "weights.safetensors")))
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, atol=1e-5, rtol=1e-4)


def test_the_learning_rate_rises_then_falls_along_half_a_cosine() -> None:
    train = train_spec(learning_rate=1.0, warmup_share=0.1)
    rates = [learning_rate(train, step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0.0)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
    assert learning_rate(train_spec(warmup_share=0.0), 0, 1) == pytest.approx(0.01)


def test_gradients_are_clipped_to_the_norm(tmp_path: Path) -> None:
    data = prepared(tmp_path / "data")
    moved = []
    for clip in (1e-6, None):
        done = job(tmp_path / str(clip), data, clip_norm=clip, optimizer="sgd", weight_decay=0.0, epochs=1)
        trained(done)
        weights = safetensors.torch.load_file(str(done.run / "main" / "weights.safetensors"))
        torch.manual_seed(done.train.seed)
        moved.append(float(weights["head.bias"].abs().max()))
    assert moved[0] < 1e-6 < moved[1]


BAD_LATER = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.layer = nn.Linear(inputs, 1)
        self.calls = 0

    def forward(self, numeric, categorical):
        self.calls += self.training
        answer = self.layer(numeric)[:, 0]
        return answer * float("nan") if self.calls > 14 else answer

def build(tensors, task, num_classes, options):
    return Net(tensors[0].shape[0])
"""


def test_a_loss_that_is_not_finite_stops_training_and_names_step_and_rank(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(BAD_LATER)
    bad = job(tmp_path, prepared(tmp_path / "data"), model="model:build", model_options={})
    with pytest.raises(LossNotFinite, match="at step 15 on rank 0") as caught:
        work(bad, ALONE)
    assert caught.value.where == "epoch 2, step 15"
    newest = CheckpointStore(bad.run / "main" / "checkpoints", 2).load_newest()[0]
    assert newest is not None
    assert newest.step == 12
    assert all(bool(tensor.isfinite().all()) for tensor in newest.tensors.values())
    refused = read_failure(bad.run)
    assert isinstance(refused, LossNotFinite)
    assert refused.as_dict() == caught.value.as_dict()


def test_a_network_whose_weights_do_not_match_their_digest_counts_as_not_trained(tmp_path: Path) -> None:
    done = job(tmp_path, prepared(tmp_path / "data"), epochs=1)
    facts = trained(done)
    file = done.run / "main" / "weights.safetensors"
    whole = bytearray(file.read_bytes())
    whole[-1] ^= 1
    file.write_bytes(whole)
    assert read_trained(done.run / "main") is None
    assert trained(done)["weights_sha256"] == facts["weights_sha256"]


def test_the_twin_has_the_same_data_and_another_seed(tmp_path: Path) -> None:
    data = prepared(tmp_path / "data")
    both = job(tmp_path / "both", data, retraining_noise=True, seed=5)
    main, twin = trained(both), read_trained(both.run / "twin")
    assert twin is not None
    assert twin["weights_sha256"] != main["weights_sha256"]
    assert twin["weights_sha256"] == trained(job(tmp_path / "alone", data, seed=6))["weights_sha256"]
