"""What only a folder can do wrong: permissions, full disks, dead writers."""

import errno
import os
from pathlib import Path

import pytest

from fairlead.errors import FairleadError, KeyExists, NotEnoughDisk, StoreError
from fairlead.store.folder import FolderStore

DISK_CALLS = ("fsync", "replace")


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def leftovers(store: FolderStore) -> list[str]:
    return [path.name for path in (store.local_path("") / ".staged").iterdir()]


@pytest.mark.parametrize("call", DISK_CALLS)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EDQUOT])
def test_a_disk_that_fails_changes_nothing_and_is_explained(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    version = store.create("x", b"old")

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        for write in (
            lambda: store.write("x", b"new"),
            lambda: store.replace("x", b"new", version),
            lambda: store.create("y", b"new"),
        ):
            with pytest.raises(FairleadError) as caught:
                write()
            full = number in (errno.ENOSPC, errno.EDQUOT)
            assert type(caught.value) is (NotEnoughDisk if full else StoreError)
            assert caught.value.where
            assert caught.value.fix
    assert store.read("x") == b"old"
    assert store.list() == ["x"]
    assert leftovers(store) == []


def test_a_dead_writers_file_is_swept_and_a_living_ones_is_not(store: FolderStore) -> None:
    import fcntl

    store.write("x", b"1")
    staged = store.local_path("") / ".staged"
    (staged / "dead").write_bytes(b"half")
    with (staged / "alive").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        FolderStore(store.local_path("")).write("y", b"2")
        assert leftovers(store) == ["alive"]


def test_locks_and_staged_files_are_not_listed(store: FolderStore, tmp_path: Path) -> None:
    store.create("a", b"1")
    names = {path.name for path in (tmp_path / "store").iterdir()}
    assert {".locks", ".staged"} <= names
    assert store.list() == ["a"]


def test_the_number_of_lock_files_is_bounded(store: FolderStore, tmp_path: Path) -> None:
    for number in range(300):
        store.write(f"k/{number}", b"")
    assert len(list((tmp_path / "store" / ".locks").iterdir())) <= 256


def test_an_object_in_the_way_of_a_folder_is_explained(store: FolderStore) -> None:
    store.write("a", b"1")
    store.write("b/c", b"1")
    for key in ("a/b", "b"):
        with pytest.raises(StoreError, match="cannot use") as caught:
            store.write(key, b"2")
        assert "at once" in (caught.value.fix or "")
    assert not store.exists("a/b")
    assert not store.exists("b")
    with pytest.raises(KeyExists):
        store.create("a", b"2")


def test_a_version_says_nothing_but_the_content(store: FolderStore) -> None:
    first = store.create("x", b"same")
    store.delete("x")
    assert store.create("x", b"same") == first
    assert store.create("y", b"other") != first
