"""Checkpoints of workers that share no disk: what the store has is what counts."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from fairlead.errors import CheckpointDamaged, StoreError
from fairlead.store import open_store
from fairlead.testing.memory_store import MemoryStore
from fairlead.train.checkpoint import CheckpointStore, Snapshot
from fairlead.train.remote import CheckpointMirror, Remote, folders_of
from fairlead.train.worker import Job

PREFIX = "fits/flights/key/main/checkpoints"


def snapshot(step: int) -> Snapshot:
    return Snapshot(step, {"model.weight": torch.full((4, 3), float(step))}, {"step": step})


def store_on(folder: Path, store: Any, keep: int = 2) -> CheckpointStore:
    return CheckpointStore(folder, keep, mirror=CheckpointMirror(store, PREFIX))


def write(folder: Path, store: Any, *steps: int, keep: int = 2) -> None:
    checkpoints = store_on(folder, store, keep)
    checkpoints.prepare()
    for step in steps:
        checkpoints.save(snapshot(step), best_step=None, must=True)
        checkpoints.flush()
    checkpoints.close()


def test_another_machine_goes_on_from_the_newest(tmp_path: Path) -> None:
    store = MemoryStore()
    write(tmp_path / "a", store, 10, 20, 30)
    other = store_on(tmp_path / "b", store)
    found, notes = other.load_newest()
    assert found is not None
    assert (found.step, notes) == (30, ())
    assert torch.equal(found.tensors["model.weight"], snapshot(30).tensors["model.weight"])
    assert other.steps() == [20, 30]


def test_a_checkpoint_without_a_manifest_does_not_exist(tmp_path: Path) -> None:
    store = MemoryStore()
    write(tmp_path / "a", store, 10, 20)
    store.delete(f"{PREFIX}/step-00000020/manifest.json")
    assert store_on(tmp_path / "b", store).steps() == [10]


@pytest.mark.parametrize("harm", ["lost", "changed"])
def test_a_damaged_one_is_refused_by_name_and_the_older_taken(tmp_path: Path, harm: str) -> None:
    store = MemoryStore()
    write(tmp_path / "a", store, 10, 20)
    (key, *_) = [key for key in store.list(f"{PREFIX}/step-00000020/") if not key.endswith("manifest.json")]
    store.delete(key)
    if harm == "changed":
        store.write(key, b"something else")
    found, notes = store_on(tmp_path / "b", store).load_newest()
    assert found is not None
    assert found.step == 10
    assert "step-00000020 is damaged" in notes[0]


def test_when_none_is_whole_nothing_is_started_over(tmp_path: Path) -> None:
    store = MemoryStore()
    write(tmp_path / "a", store, 10)
    for key in store.list(f"{PREFIX}/step-00000010/"):
        if not key.endswith("manifest.json"):
            store.delete(key)
    with pytest.raises(CheckpointDamaged, match="no checkpoint is whole"):
        store_on(tmp_path / "b", store).load_newest()


def test_what_only_this_disk_has_does_not_count(tmp_path: Path) -> None:
    """A worker that died before its upload must not go on from a step that the others cannot read."""
    store = MemoryStore()
    write(tmp_path / "a", store, 10)
    alone = CheckpointStore(tmp_path / "a", 2)
    alone.save(snapshot(20), best_step=None, must=True)
    alone.flush()
    alone.close()
    found, _ = store_on(tmp_path / "a", store).load_newest()
    assert found is not None
    assert found.step == 10


def test_the_stores_version_of_a_step_replaces_this_disks(tmp_path: Path) -> None:
    store = MemoryStore()
    write(tmp_path / "a", store, 10)
    stale = CheckpointStore(tmp_path / "b", 2)
    stale.save(Snapshot(10, {"model.weight": torch.zeros(4, 3)}, {}), best_step=None, must=True)
    stale.flush()
    stale.close()
    found = store_on(tmp_path / "b", store).load(10)
    assert torch.equal(found.tensors["model.weight"], snapshot(10).tensors["model.weight"])


def test_newer_ones_are_forgotten_on_both_sides(tmp_path: Path) -> None:
    store = MemoryStore()
    write(tmp_path / "a", store, 10, 20)
    checkpoints = store_on(tmp_path / "a", store)
    checkpoints.discard_after(10)
    assert checkpoints.steps() == [10]
    assert store.list(f"{PREFIX}/step-00000020") == []


def test_a_store_that_is_away_costs_a_checkpoint_and_no_training(tmp_path: Path) -> None:
    class Away(MemoryStore):
        away = False

        def upload(self, local: Path, key: str) -> None:
            if self.away:
                raise StoreError("the store does not answer")
            super().upload(local, key)

    store = Away()
    checkpoints = store_on(tmp_path / "a", store, keep=3)
    checkpoints.prepare()
    for step, away in ((10, False), (20, True), (30, False)):
        store.away = away
        checkpoints.save(snapshot(step), best_step=None, must=True)
        checkpoints.flush()
    checkpoints.close()
    assert checkpoints.steps() == [10, 30]
    assert checkpoints.skipped == 1


def test_results_travel_with_the_list_that_says_they_are_whole_last(tmp_path: Path) -> None:
    remote = Remote(f"file://{tmp_path}/store", "fits/p/k", "f" * 64, "a" * 64)
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    (here / "weights").write_bytes(b"w")
    (here / "trained.json").write_bytes(b"{}")
    assert not remote.pull_files(there, "main", ("weights", "trained.json"))
    remote.push_files(here, "main", ("weights", "trained.json"))
    assert remote.pull_files(there, "main", ("weights", "trained.json"))
    assert (there / "weights").read_bytes() == b"w"
    shutil.rmtree(there)
    open_store(remote.store, tmp_path).delete("fits/p/k/main/trained.json")
    assert not remote.pull_files(there, "main", ("weights", "trained.json"))


def test_a_job_travels_as_json_and_lands_in_the_pods_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fairlead.spec.train import Train

    monkeypatch.setenv("FAIRLEAD_BASE", str(tmp_path))
    remote = Remote("s3://bucket/prefix", "fits/p/k", "f" * 64, "a" * 64)
    train = Train.model_validate({"launcher": "rayjob", "workers": 2, "rayjob": {"image": "a:1", "queue": "q"}})
    job = Job(train, Path("/d"), "binary", 2, Path("/r"), Path("/p"), remote)
    assert Job.from_json(job.to_json()) == job
    assert json.loads(job.to_json())["remote"]["fingerprint"] == "f" * 64
    data, project, run = folders_of(remote)
    assert (data.name, project.name) == ("f" * 64, "a" * 64)
    assert run.is_relative_to(tmp_path / "fits")
