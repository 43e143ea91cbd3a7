"""Publishing and fetching: whole or not at all, and never from elsewhere."""

import contextlib
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fairlead.bundle.bundle import Bundle, fetch_bundle, publish, seal, stored_lineage
from fairlead.bundle.calibration import Calibration
from fairlead.bundle.layout import digest_hex
from fairlead.bundle.runtime import Predictor
from fairlead.errors import BundleDamaged, FairleadError, StoreError
from fairlead.store import Store, open_store
from fairlead.testing.bundles import sample_table, sealed_bundle
from fairlead.testing.faults import Crash, Fault, FaultStore

WRITES = 8  # seven files and the manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    sealed_bundle(tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store("store", tmp_path)


def there_and_back(store: Store, folder: Path, cache: Path) -> None:
    sealed = Bundle.load(folder)
    uri = publish(store, folder)
    assert uri == f"bundles/flights/{digest_hex(sealed.digest)}"
    fetched = fetch_bundle(store, uri, sealed.digest, cache)
    assert fetched.manifest == sealed.manifest
    table = sample_table(9, seed=4)
    assert Predictor(fetched).predict_table(table).scores.tolist() == (
        Predictor(sealed).predict_table(table).scores.tolist()
    )
    assert fetch_bundle(store, store.url(uri), sealed.digest, cache / "again").manifest == sealed.manifest
    assert dict(stored_lineage(store, uri, sealed.digest)) == dict(sealed.manifest.lineage)


def test_a_bundle_comes_back_as_it_went_into_a_folder(store: Store, folder: Path, tmp_path: Path) -> None:
    there_and_back(store, folder, tmp_path / "cache")


@pytest.mark.s3
def test_a_bundle_comes_back_as_it_went_into_a_bucket(s3_store_uri: str, folder: Path, tmp_path: Path) -> None:
    there_and_back(open_store(s3_store_uri, tmp_path), folder, tmp_path / "cache")


def test_sealing_again_gives_the_same_digest_and_another_model_another(tmp_path: Path) -> None:
    first = sealed_bundle(tmp_path / "a")
    assert sealed_bundle(tmp_path / "a").digest == first.digest
    assert sealed_bundle(tmp_path / "b").digest == first.digest
    assert sealed_bundle(tmp_path / "c", seed=1).digest != first.digest
    assert sealed_bundle(tmp_path / "d", model="other").digest != first.digest
    assert sealed_bundle(tmp_path / "e", run="run-2").digest != first.digest


def test_the_time_of_sealing_does_not_change_what_a_bundle_is(tmp_path: Path) -> None:
    digest = sealed_bundle(tmp_path / "a").digest
    lineage = dict(Bundle.load(tmp_path / "a").manifest.lineage)
    calibration = Calibration("temperature", "binary", 1.5)
    later = seal(tmp_path / "a", "flights", lineage, calibration, "# flights\n", created_at="2030-01-01")
    assert later.digest == digest
    assert Bundle.load(tmp_path / "a", digest).manifest.created_at == "2030-01-01"


def test_a_store_may_be_moved_with_its_bundles(store: Store, folder: Path, tmp_path: Path) -> None:
    uri = publish(store, folder)
    shutil.move(tmp_path / "store", tmp_path / "moved")
    fetched = fetch_bundle(open_store("moved", tmp_path), uri, Bundle.load(folder).digest, tmp_path / "cache")
    assert fetched.manifest.model == "flights"


@pytest.mark.parametrize(
    "uri",
    [
        *("s3://other/bundles/x", "file:///etc", "http://169.254.169.254/latest", "https://example.com/b"),
        *("../../etc", "/etc", "bundles/../../x", "bundles/%2e%2e/x", "file:///store-evil/x"),
    ],
)
def test_a_bundle_is_fetched_from_nowhere_but_the_store(store: Store, uri: str, tmp_path: Path) -> None:
    with pytest.raises(FairleadError):
        fetch_bundle(store, uri, "sha256:" + "a" * 64, tmp_path / "cache")
    assert not list(tmp_path.glob("cache/*"))


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:../../x", "md5:" + "a" * 32, "a" * 64])
def test_a_digest_that_is_none_is_no_path(store: Store, digest: str, tmp_path: Path) -> None:
    with pytest.raises(BundleDamaged):
        fetch_bundle(store, "bundles/flights/x", digest, tmp_path / "cache")


def test_a_byte_flipped_in_the_store_is_refused_and_leaves_nothing(store: Store, folder: Path, tmp_path: Path) -> None:
    uri = publish(store, folder)
    key = f"{uri}/model.onnx"
    data = bytearray(store.read(key))
    data[len(data) // 2] ^= 4
    store.write(key, bytes(data))
    digest = Bundle.load(folder).digest
    with pytest.raises(BundleDamaged, match=r"model\.onnx"):
        fetch_bundle(store, uri, digest, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    publish(store, folder)  # mends it
    assert fetch_bundle(store, uri, digest, tmp_path / "cache").digest == digest


def test_another_bundle_under_the_same_uri_is_refused(store: Store, folder: Path, tmp_path: Path) -> None:
    uri = publish(store, folder)
    other = sealed_bundle(tmp_path / "other", seed=3)
    for path in (tmp_path / "other").iterdir():
        store.upload(path, f"{uri}/{path.name}")
    with pytest.raises(BundleDamaged, match="another bundle") as caught:
        fetch_bundle(store, uri, Bundle.load(folder).digest, tmp_path / "cache")
    assert other.digest in (caught.value.why or "")


def test_a_damaged_copy_in_the_cache_is_fetched_again(store: Store, folder: Path, tmp_path: Path) -> None:
    uri, digest = publish(store, folder), Bundle.load(folder).digest
    fetched = fetch_bundle(store, uri, digest, tmp_path / "cache")
    (fetched.folder / "model.onnx").write_bytes(b"rotten")
    (fetched.folder / "extra").write_bytes(b"")
    assert fetch_bundle(store, uri, digest, tmp_path / "cache").read("model.onnx") != b"rotten"


def test_the_cache_answers_without_the_store(store: Store, folder: Path, tmp_path: Path) -> None:
    uri, digest = publish(store, folder), Bundle.load(folder).digest
    fetch_bundle(store, uri, digest, tmp_path / "cache")
    shutil.rmtree(tmp_path / "store")
    assert fetch_bundle(store, uri, digest, tmp_path / "cache").digest == digest


def test_many_fetch_the_same_bundle_at_once(store: Store, folder: Path, tmp_path: Path) -> None:
    uri, digest = publish(store, folder), Bundle.load(folder).digest
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: fetch_bundle(store, uri, digest, tmp_path / "cache").digest, range(24)))
    assert found == [digest] * 24
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [digest_hex(digest)]


def test_a_bundle_of_another_model_is_not_published(store: Store, folder: Path) -> None:
    with pytest.raises(BundleDamaged, match="not other"):
        publish(store, folder, "other")
    assert store.list() == []


def test_a_damaged_bundle_is_not_published(store: Store, folder: Path) -> None:
    (folder / "card.md").write_text("other")
    with pytest.raises(BundleDamaged):
        publish(store, folder)
    assert store.list() == []


@pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: fault.value)
@pytest.mark.parametrize("at", range(1, WRITES + 1))
def test_publishing_that_breaks_at_any_write_leaves_no_bundle_or_a_whole_one(
    folder: Path, tmp_path: Path, fault: Fault, at: int
) -> None:
    inner = open_store("store", tmp_path)
    digest = Bundle.load(folder).digest
    uri = f"bundles/flights/{digest_hex(digest)}"
    harmed = FaultStore(inner, {at: fault})
    broke = False
    try:
        publish(harmed, folder)
    except (Crash, StoreError):
        broke = True
    assert broke == (fault is not Fault.DUPLICATE)
    if broke:
        visible = at == WRITES and fault in (Fault.CRASH_AFTER, Fault.TIMEOUT_WITH_EFFECT)
        try:
            fetch_bundle(inner, uri, digest, tmp_path / "early")
            assert visible
        except BundleDamaged:
            assert not visible
        publish(inner, folder)
    else:
        assert len(harmed.writes) == WRITES
        assert harmed.writes[-1] == ("write", f"{uri}/manifest.json")
    assert fetch_bundle(inner, uri, digest, tmp_path / "late").digest == digest


@pytest.mark.s3
@pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: fault.value)
def test_publishing_into_a_bucket_breaks_no_otherwise(
    s3_store_uri: str, folder: Path, tmp_path: Path, fault: Fault
) -> None:
    inner, digest = open_store(s3_store_uri, tmp_path), Bundle.load(folder).digest
    uri = f"bundles/flights/{digest_hex(digest)}"
    with contextlib.suppress(Crash, StoreError):
        publish(FaultStore(inner, {WRITES - 1: fault}), folder)
    if fault is not Fault.DUPLICATE:
        with pytest.raises(BundleDamaged):
            fetch_bundle(inner, uri, digest, tmp_path / "early")
        publish(inner, folder)
    assert fetch_bundle(inner, uri, digest, tmp_path / "late").digest == digest
