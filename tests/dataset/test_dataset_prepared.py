"""Prepared data appears whole or not at all, and damage is named."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fairlead.dataset import LABEL, DatasetWriter, PreparedData, fetch_prepared, publish_prepared
from fairlead.errors import PreparedDataDamaged
from fairlead.features.statistics import StatisticsBuilder
from fairlead.records.codec import to_json
from fairlead.records.data import DatasetManifest
from fairlead.store import open_store


def manifest(**changes: object) -> DatasetManifest:
    facts: dict[str, object] = {
        "fingerprint": "", "project": "demo", "task": "binary", "label": "y", "label_classes": ("false", "true"),
        "schema": {"x": "float", "name": "string"}, "features": ("x", "name"), "shards": (), "sources": (),
        "split_by": "random", "boundaries": {}, "rows_read": 100, "rows_rejected": 0, "rows_unlabelled": 0,
        "rows_duplicate": 0, "transform_sha256": "",
    }  # fmt: skip
    return DatasetManifest(**{**facts, **changes})  # type: ignore[arg-type]


def rows(count: int, seed: int = 7) -> pa.Table:
    rng = np.random.default_rng(seed)
    return pa.table(
        {
            "x": rng.normal(size=count),
            "name": [f"n{value}" for value in rng.integers(0, 9, count)],
            LABEL: rng.integers(0, 2, count),
        }
    )


def write(folder: Path, train: pa.Table, test: pa.Table, **options: int) -> PreparedData:
    builder = StatisticsBuilder(["x"])
    builder.update(train)
    with DatasetWriter(folder, by_fingerprint=True, **options) as writer:
        for start in range(0, train.num_rows, 70):
            writer.write("train", train.slice(start, 70))
        writer.write("test", test)
        writer.add_file("transform.json", b"{}")
        writer.add_file("statistics.json", to_json(builder.finish()))
        writer.add_file("schema.yaml", b"version: 1\n")
        return writer.finish(manifest())


def test_what_is_written_is_read_in_the_same_order(tmp_path: Path) -> None:
    train, test = rows(1000), rows(30, seed=8)
    data = write(tmp_path, train, test, row_group_rows=100, shard_rows=300)
    assert data.folder == tmp_path / data.manifest.fingerprint
    assert data.table("train").equals(train)
    assert data.table("test").equals(test)
    assert [group.rows for group in data.row_groups("train")] == [100] * 10
    assert [shard.rows for shard in data.manifest.shards] == [300, 300, 300, 100, 30]
    assert data.manifest.rows("train") == 1000
    assert data.read(data.row_groups("train")[3], [LABEL]).equals(train.select([LABEL]).slice(300, 100))
    batches = list(data.batches("train", ["x"], rows=64))
    assert max(batch.num_rows for batch in batches) == 64
    assert pa.Table.from_batches(batches).equals(train.select(["x"]))
    assert data.statistics().columns["x"].count == 1000
    assert data.transform_json() == b"{}"
    data.verify()


def test_the_fingerprint_follows_the_content_and_nothing_else(tmp_path: Path) -> None:
    first = write(tmp_path / "a", rows(200), rows(30))
    again = write(tmp_path / "b", rows(200), rows(30))
    other = write(tmp_path / "c", rows(200, seed=9), rows(30))
    assert first.manifest.fingerprint == again.manifest.fingerprint != other.manifest.fingerprint


def test_a_second_write_of_the_same_data_leaves_the_first(tmp_path: Path) -> None:
    first = write(tmp_path, rows(200), rows(30))
    inode = (first.folder / "manifest.json").stat().st_ino
    again = write(tmp_path, rows(200), rows(30))
    assert (again.folder / "manifest.json").stat().st_ino == inode
    assert [path.name for path in tmp_path.iterdir()] == [first.manifest.fingerprint]


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with DatasetWriter(tmp_path, by_fingerprint=True, row_group_rows=100) as writer:
            writer.write("train", rows(1000))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_given_folder_is_filled_when_it_is_empty(tmp_path: Path) -> None:
    folder = tmp_path / "output"
    folder.mkdir()
    with DatasetWriter(folder) as writer:
        writer.write("train", rows(10))
        data = writer.finish(manifest())
    assert data.folder == folder
    assert PreparedData(folder).table("train").num_rows == 10


def test_a_folder_without_a_manifest_is_no_data_set(tmp_path: Path) -> None:
    data = write(tmp_path, rows(200), rows(30))
    (data.folder / "manifest.json").unlink()
    with pytest.raises(PreparedDataDamaged, match=r"no manifest\.json"):
        PreparedData(data.folder)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b'{"fingerprint": 1}'])
def test_a_manifest_that_is_none_is_refused(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(text)
    with pytest.raises(PreparedDataDamaged):
        PreparedData(tmp_path)


@pytest.mark.parametrize("name", ["../outside.parquet", "/etc/passwd", "a/b.parquet", ".hidden"])
def test_a_manifest_cannot_name_files_elsewhere(name: str, tmp_path: Path) -> None:
    data = write(tmp_path, rows(200), rows(30))
    text = (data.folder / "manifest.json").read_text().replace("train-00000.parquet", name)
    (data.folder / "manifest.json").write_text(text)
    with pytest.raises(PreparedDataDamaged, match="outside"):
        PreparedData(data.folder)


@pytest.mark.parametrize("name", ["train-00000.parquet", "test-00000.parquet", "transform.json", "schema.yaml"])
def test_one_flipped_byte_is_found_by_name(name: str, tmp_path: Path) -> None:
    data = write(tmp_path, rows(200), rows(30))
    path = data.folder / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(PreparedDataDamaged, match=f"{name} has another digest"):
        data.verify()


def test_an_edited_fact_of_the_manifest_is_found(tmp_path: Path) -> None:
    data = write(tmp_path, rows(200), rows(30))
    text = (data.folder / "manifest.json").read_text().replace('"task": "binary"', '"task": "regression"')
    (data.folder / "manifest.json").write_text(text)
    with pytest.raises(PreparedDataDamaged, match="own fingerprint"):
        PreparedData(data.folder).verify()


def test_to_the_store_and_back(tmp_path: Path) -> None:
    data = write(tmp_path / "local", rows(500), rows(30), row_group_rows=100, shard_rows=200)
    store = open_store("store", tmp_path)
    uri = publish_prepared(store, data)
    assert uri.endswith(f"/prepared/{data.manifest.fingerprint}")
    fetched = fetch_prepared(store, data.manifest.fingerprint, tmp_path / "cache")
    assert fetched.table("train").equals(data.table("train"))
    assert fetched.folder == tmp_path / "cache" / data.manifest.fingerprint


def test_a_good_copy_in_the_cache_needs_no_store_and_a_damaged_one_is_fetched_again(tmp_path: Path) -> None:
    data = write(tmp_path / "local", rows(500), rows(30))
    store = open_store("store", tmp_path)
    publish_prepared(store, data)
    name = data.manifest.fingerprint
    fetched = fetch_prepared(store, name, tmp_path / "cache")
    (fetched.folder / "transform.json").write_bytes(b"[]")
    fetch_prepared(store, name, tmp_path / "cache").verify()
    empty = open_store("empty", tmp_path)
    assert fetch_prepared(empty, name, tmp_path / "cache").manifest.fingerprint == name


@pytest.mark.parametrize("damage", ["flip", "remove", "no manifest", "swap"])
def test_damage_in_the_store_is_refused_by_name_and_leaves_no_copy(damage: str, tmp_path: Path) -> None:
    data = write(tmp_path / "local", rows(500), rows(30))
    store = open_store("store", tmp_path)
    publish_prepared(store, data)
    prefix = f"prepared/{data.manifest.fingerprint}"
    asked, named = data.manifest.fingerprint, "train-00000.parquet"
    if damage == "flip":
        content = bytearray(store.read(f"{prefix}/{named}"))
        content[100] ^= 1
        store.write(f"{prefix}/{named}", bytes(content))
    elif damage == "remove":
        store.delete(f"{prefix}/{named}")
    elif damage == "no manifest":
        named = "manifest.json"
        store.delete(f"{prefix}/{named}")
    else:
        asked, named = "0" * 64, "another data set"
        for key in store.list(prefix):
            store.write(key.replace(data.manifest.fingerprint, asked), store.read(key))
    with pytest.raises(PreparedDataDamaged) as caught:
        fetch_prepared(store, asked, tmp_path / "cache")
    assert named in str(caught.value)
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("name", ["", "..", "../../etc", "A" * 64, "0" * 63])
def test_only_fingerprints_are_fetched(name: str, tmp_path: Path) -> None:
    with pytest.raises(PreparedDataDamaged, match="not a fingerprint"):
        fetch_prepared(open_store("store", tmp_path), name, tmp_path / "cache")


def test_a_split_without_rows_is_named(tmp_path: Path) -> None:
    data = write(tmp_path, rows(200), rows(30))
    with pytest.raises(PreparedDataDamaged, match="validation"):
        data.table("validation")
