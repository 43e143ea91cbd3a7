"""One contract, checked against a folder and against a real S3 server."""

import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from fairlead.errors import KeyExists, KeyMissing, StoreError, VersionConflict
from fairlead.store import Store, open_store

WRITERS = 8
INCREMENTS = 10


def increment(uri: str, base: Path, times: int) -> None:
    """Add 1 to a shared counter, `times` times, by compare-and-swap."""
    store = open_store(uri, base)
    for _ in range(times):
        while True:
            data, version = store.read_versioned("race/counter")
            try:
                store.replace("race/counter", str(int(data) + 1).encode(), version)
            except VersionConflict:
                continue
            break


def create_all(uri: str, base: Path, name: str, keys: list[str]) -> None:
    """Try to be the one who creates each key."""
    store = open_store(uri, base)
    won = 0
    for key in keys:
        try:
            store.create(key, name.encode())
            won += 1
        except KeyExists:
            pass
    store.write(f"race/won/{name}", str(won).encode())


def in_processes(target: Callable[..., None], arguments: list[tuple[object, ...]]) -> None:
    """Run `target` once per argument tuple at the same time; all must end well."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=target, args=entry) for entry in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * len(processes)


class StoreContract:
    """What every store promises. Subclasses give the `uri`."""

    @pytest.fixture
    def store(self, uri: str, tmp_path: Path) -> Store:
        return open_store(uri, tmp_path)

    def test_what_was_written_is_read(self, store: Store) -> None:
        store.write("a/b.bin", b"\x00\xff" * 10)
        assert store.read("a/b.bin") == b"\x00\xff" * 10
        store.write("a/b.bin", b"")
        assert store.read("a/b.bin") == b""

    def test_a_missing_key_says_so(self, store: Store, tmp_path: Path) -> None:
        for ask in (store.read, store.read_versioned, lambda key: store.download(key, tmp_path / "x")):
            with pytest.raises(KeyMissing, match="a/none"):
                ask("a/none")
        assert not store.exists("a/none")
        assert not list(tmp_path.glob("*part*"))
        assert not (tmp_path / "x").exists()

    def test_an_object_is_created_once(self, store: Store) -> None:
        store.create("once", b"first")
        with pytest.raises(KeyExists):
            store.create("once", b"second")
        assert store.read("once") == b"first"

    def test_only_the_version_that_was_read_is_replaced(self, store: Store) -> None:
        created = store.create("x", b"1")
        data, version = store.read_versioned("x")
        assert (data, version) == (b"1", created)
        second = store.replace("x", b"2", version)
        assert store.read_versioned("x") == (b"2", second)
        with pytest.raises(VersionConflict):
            store.replace("x", b"3", version)
        assert store.read("x") == b"2"

    def test_what_is_gone_is_not_replaced(self, store: Store) -> None:
        version = store.create("gone", b"1")
        store.delete("gone")
        with pytest.raises(VersionConflict):
            store.replace("gone", b"2", version)
        assert not store.exists("gone")

    def test_deleting_twice_is_the_same_as_once(self, store: Store) -> None:
        store.write("d", b"1")
        store.delete("d")
        store.delete("d")
        assert not store.exists("d")

    def test_listing_is_by_plain_prefix_and_sorted(self, store: Store) -> None:
        assert store.list() == []
        for key in ("steps/b/2.json", "steps/a/1.json", "steps/ab.json", "other"):
            store.write(key, b"x")
        store.create("steps/a/0.json", b"x")
        assert store.list("steps/") == ["steps/a/0.json", "steps/a/1.json", "steps/ab.json", "steps/b/2.json"]
        assert store.list("steps/a") == ["steps/a/0.json", "steps/a/1.json", "steps/ab.json"]
        assert store.list("steps/a/") == ["steps/a/0.json", "steps/a/1.json"]
        assert store.list("nothing/") == []
        assert store.list() == [
            *("other", "steps/a/0.json", "steps/a/1.json", "steps/ab.json", "steps/b/2.json"),
        ]

    def test_files_go_up_and_come_down_unchanged(self, store: Store, tmp_path: Path) -> None:
        source = tmp_path / "big.bin"
        source.write_bytes(bytes(range(256)) * 4096 * 9)  # 9 MiB: more than one part of an S3 upload
        store.upload(source, "files/big.bin")
        store.download("files/big.bin", tmp_path / "deep" / "copy.bin")
        assert (tmp_path / "deep" / "copy.bin").read_bytes() == source.read_bytes()
        assert [path.name for path in (tmp_path / "deep").iterdir()] == ["copy.bin"]

    def test_a_store_can_be_sent_to_another_process(self, store: Store) -> None:
        store.write("k", b"v")
        assert pickle.loads(pickle.dumps(store)).read("k") == b"v"  # noqa: S301 - our own object

    def test_urls_open_the_same_store(self, store: Store, tmp_path: Path) -> None:
        store.write("k", b"v")
        assert store.url("k") == f"{store.uri}/k"
        assert open_store(store.uri, tmp_path / "elsewhere").read("k") == b"v"

    def test_a_local_file_that_is_missing_is_no_upload(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(StoreError):
            store.upload(tmp_path / "none", "k")
        assert not store.exists("k")

    def test_racing_writers_lose_no_increment(self, store: Store, uri: str, tmp_path: Path) -> None:
        store.create("race/counter", b"0")
        in_processes(increment, [(uri, tmp_path, INCREMENTS)] * WRITERS)
        assert int(store.read("race/counter")) == WRITERS * INCREMENTS

    def test_each_key_has_one_creator(self, store: Store, uri: str, tmp_path: Path) -> None:
        keys = [f"race/key-{number}" for number in range(20)]
        in_processes(create_all, [(uri, tmp_path, f"w{number}", keys) for number in range(4)])
        assert sum(int(store.read(key)) for key in store.list("race/won/")) == len(keys)


class TestFolder(StoreContract):
    @pytest.fixture
    def uri(self) -> str:
        return "the-store"


@pytest.mark.s3
class TestSeaweedFS(StoreContract):
    @pytest.fixture
    def uri(self, s3_store_uri: str) -> str:
        return s3_store_uri
