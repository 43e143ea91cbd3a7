"""Whole checkpoints only."""

import errno
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fairlead.errors import CheckpointDamaged, NotEnoughDisk, TrainError
from fairlead.train import checkpoint as module
from fairlead.train.checkpoint import CheckpointStore, Snapshot, digest_tensors


def snapshot(step: int, size: int = 50) -> Snapshot:
    generator = torch.Generator().manual_seed(step)
    return Snapshot(step, {"model.a": torch.randn(size, generator=generator)}, {"history": [step]})


def store(folder: Path, *steps: int, keep: int = 2, best: int | None = None) -> CheckpointStore:
    made = CheckpointStore(folder / "checkpoints", keep)
    made.prepare()
    for step in steps:
        made.save(snapshot(step), best_step=best, must=True)
    made.flush()
    return made


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_newest_one_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    loaded, notes = store(tmp_path, 4, 8).load_newest()
    assert loaded is not None
    assert loaded.step == 8
    assert torch.equal(loaded.tensors["model.a"], snapshot(8).tensors["model.a"])
    assert loaded.state == {"history": [8]}
    assert notes == ()


def test_without_checkpoints_there_is_none(tmp_path: Path) -> None:
    assert CheckpointStore(tmp_path / "none", 2).load_newest() == (None, ())


def test_the_newest_and_the_best_are_kept_and_nothing_else(tmp_path: Path) -> None:
    kept = store(tmp_path, 4, 8, 12, 16, 20, keep=2, best=8)
    assert kept.steps() == [8, 16, 20]
    assert {path.name for path in kept.folder.iterdir()} == {"step-00000008", "step-00000016", "step-00000020"}


def damage_flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def damage_truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def damage_zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def damage_delete(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", [damage_flip, damage_truncate, damage_zero, damage_delete])
def test_a_damaged_file_is_named_and_the_next_older_one_used(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    saved = store(tmp_path, 4, 8)
    damage(saved.folder / "step-00000008" / name)
    if name == "manifest.json" and damage is damage_flip:
        # A flipped bit in a manifest may hit a blank; make sure that it hits a digest.
        file = saved.folder / "step-00000008" / name
        file.write_text(json.dumps(json.loads(file.read_bytes().replace(b"sha256", b"sha257").decode())))
    loaded, notes = saved.load_newest()
    assert loaded is not None
    assert loaded.step == 4
    assert len(notes) == 1
    assert "step-00000008" in notes[0]
    assert name in notes[0]


def test_any_flipped_bit_of_any_file_is_noticed(tmp_path: Path) -> None:
    saved = store(tmp_path, 4)
    folder = saved.folder / "step-00000004"
    random = np.random.default_rng(3)
    for name in ("tensors.safetensors", "state.json"):
        whole = (folder / name).read_bytes()
        for place in random.choice(len(whole), size=min(60, len(whole)), replace=False):
            broken = bytearray(whole)
            broken[place] ^= 1 << int(random.integers(8))
            (folder / name).write_bytes(broken)
            with pytest.raises(CheckpointDamaged, match=name):
                saved.load(4)
        (folder / name).write_bytes(whole)
    assert saved.load(4).step == 4


def test_when_none_is_whole_training_does_not_start_over_by_itself(tmp_path: Path) -> None:
    saved = store(tmp_path, 4, 8)
    for step in (4, 8):
        damage_truncate(saved.folder / f"step-{step:08d}" / "tensors.safetensors")
    with pytest.raises(CheckpointDamaged, match="no checkpoint is whole") as caught:
        saved.load_newest()
    assert "step-00000004" in str(caught.value)
    assert "step-00000008" in str(caught.value)


def test_a_checkpoint_under_another_step_is_refused(tmp_path: Path) -> None:
    saved = store(tmp_path, 4)
    (saved.folder / "step-00000004").rename(saved.folder / "step-00000009")
    with pytest.raises(CheckpointDamaged, match="does not describe"):
        saved.load(9)


def test_newer_ones_than_the_run_goes_on_from_are_removed(tmp_path: Path) -> None:
    saved = store(tmp_path, 4, 8, 12, keep=3)
    saved.discard_after(4)
    assert saved.steps() == [4]
    saved.save(snapshot(8), best_step=None)
    saved.flush()
    assert saved.steps() == [4, 8]


class Crash(BaseException):
    """The end of the process, as far as the code can tell."""


def test_cut_at_any_write_the_old_one_is_whole_or_the_new_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = {"left": 0}

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if calls["left"] == 0:
                raise Crash
            calls["left"] -= 1
            return real(*args, **kwargs)

        return call

    outcomes = []
    for cut in range(40):
        folder = tmp_path / str(cut)
        saved = store(folder, 4, keep=1)
        with monkeypatch.context() as patch:
            calls["left"] = cut
            for owner, name in ((os, "fsync"), (Path, "mkdir"), (Path, "rename"), (Path, "open")):
                patch.setattr(owner, name, counted(getattr(owner, name)))
            patch.setattr(module.shutil, "rmtree", counted(module.shutil.rmtree))
            try:
                saved._write(snapshot(8), None)
                finished = True
            except Crash:
                finished = False
        again = CheckpointStore(folder / "checkpoints", keep=1)
        again.prepare()
        loaded, notes = again.load_newest()
        assert loaded is not None
        assert loaded.step in (4, 8)
        assert notes == ()
        assert all(name.startswith("step-") for name in (path.name for path in again.folder.iterdir()))
        outcomes.append((finished, loaded.step))
        if finished:
            break
    assert outcomes[0] == (False, 4)
    assert outcomes[-1] == (True, 8)
    assert len(outcomes) > 8


@pytest.mark.parametrize(("number", "error"), [(errno.ENOSPC, NotEnoughDisk), (errno.EACCES, TrainError)])
def test_a_write_that_fails_leaves_the_one_before_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception]
) -> None:
    saved = store(tmp_path, 4)
    before = files(saved.folder)

    def full(_: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(module.os, "fsync", full)
        saved.save(snapshot(8), best_step=None)
        with pytest.raises(error, match="checkpoint"):
            saved.flush()
    assert files(saved.folder) == before
    assert saved.load_newest()[0].step == 4  # type: ignore[union-attr]


def test_training_goes_on_while_a_checkpoint_is_written_and_waits_only_so_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = CheckpointStore(tmp_path / "checkpoints", keep=5, stall_seconds=0.01)
    saved.prepare()
    go_on = threading.Event()
    real = os.fsync

    def slow(descriptor: int) -> None:
        assert go_on.wait(10)
        real(descriptor)

    monkeypatch.setattr(module.os, "fsync", slow)
    assert saved.save(snapshot(4), best_step=None)  # returns although nothing can be written yet
    assert saved.steps() == []
    assert not saved.save(snapshot(8), best_step=None)
    assert saved.skipped == 1
    go_on.set()
    saved.save(snapshot(12), best_step=None, must=True)
    saved.flush()
    assert saved.steps() == [4, 12]


def test_the_digest_of_weights_sees_names_shapes_and_bytes() -> None:
    base = {"a": torch.zeros(2, 3), "b": torch.ones(2)}
    others = [
        {"a": torch.zeros(3, 2), "b": torch.ones(2)},
        {"a": torch.zeros(2, 3), "c": torch.ones(2)},
        {"a": torch.zeros(2, 3), "b": torch.nextafter(torch.ones(2), torch.tensor(2.0))},
    ]
    assert digest_tensors(base) == digest_tensors(dict(reversed(base.items())))
    assert len({digest_tensors(tensors) for tensors in [base, *others]}) == 4
