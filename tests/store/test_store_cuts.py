"""Every system call of every change of a folder store is the last one: killed there, or with the power gone.

Afterwards a key has its old content or its new one, never neither and never a mixture; the next writer gets through;
and nothing is left of what was cut off. The same for the registry, for publishing a bundle, and for sealing one."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fairlead.bundle.bundle import Bundle, fetch_bundle, publish
from fairlead.errors import BundleDamaged, KeyMissing
from fairlead.registry.registry import Registry
from fairlead.store.folder import FolderStore
from fairlead.testing.bundles import sealed_bundle
from fairlead.testing.cut_files import Cut, CutFiles
from fairlead.testing.faults import Crash

OLD, NEW = b"old" * 100, b"new" * 200
KEY = "releases/flights.json"
Change = Callable[[FolderStore, Path], object]


def version_of(store: FolderStore) -> str:
    return store.read_versioned(KEY)[1]


CHANGES: dict[str, tuple[bytes | None, Change, bytes | None]] = {
    "create": (None, lambda store, local: store.create(KEY, NEW), NEW),
    "replace": (OLD, lambda store, local: store.replace(KEY, NEW, version_of(store)), NEW),
    "write": (OLD, lambda store, local: store.write(KEY, NEW), NEW),
    "write a first time": (None, lambda store, local: store.write(KEY, NEW), NEW),
    "upload": (OLD, lambda store, local: store.upload(local, KEY), NEW),
    "delete": (OLD, lambda store, local: store.delete(KEY), None),
}


def content(root: Path) -> bytes | None:
    try:
        return FolderStore(root).read(KEY)
    except KeyMissing:
        return None


def calls_of(change: Callable[[], object], root: Path) -> list[str]:
    with CutFiles(root).installed() as files:
        change()
    return files.calls


def cut_short(change: Callable[[], object], files: CutFiles) -> None:
    with pytest.raises(Crash), files.installed():
        change()


@pytest.mark.parametrize("name", CHANGES)
def test_a_key_has_its_old_content_or_its_new_one(name: str, tmp_path: Path) -> None:
    before, change, after = CHANGES[name]
    local = tmp_path / "local"
    local.write_bytes(NEW)

    def fresh(root: Path) -> FolderStore:
        if before is not None:
            FolderStore(root).write(KEY, before)
        return FolderStore(root)

    store = fresh(tmp_path / "quiet")
    calls = calls_of(lambda: change(store, local), tmp_path / "quiet")
    assert {"fsync"} <= set(calls)
    for at in range(len(calls)):
        for cut in Cut:
            for late in (False, True):
                root = tmp_path / f"{at}-{cut.name}-{late}"
                store = fresh(root)
                cut_short(lambda store=store: change(store, local), CutFiles(root, at, cut, after=late))
                assert content(root) in (before, after), f"{cut} {'after' if late else 'before'} {calls[at]} {at}"
                FolderStore(root).write(KEY, OLD)
                assert content(root) == OLD
                assert FolderStore(root).list() == [KEY]
                assert not list((root / ".staged").iterdir()), "what was cut off is swept away"


def test_what_was_acknowledged_survives_the_power(tmp_path: Path) -> None:
    for name, (before, change, after) in CHANGES.items():
        local, root = tmp_path / "local", tmp_path / name
        local.write_bytes(NEW)
        if before is not None:
            FolderStore(root).write(KEY, before)
        store = FolderStore(root)
        files = CutFiles(root, cut=Cut.POWER)
        with files.installed():
            change(store, local)
            files.power_goes()
        assert content(root) == after, name


def test_the_cut_notices_a_store_that_does_not_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FolderStore(tmp_path).write(KEY, OLD)
    monkeypatch.setattr("fairlead.store.folder.sync_folder", lambda folder: None)
    files = CutFiles(tmp_path, cut=Cut.POWER)
    with files.installed():
        FolderStore(tmp_path).write(KEY, NEW)
        files.power_goes()
    assert content(tmp_path) == OLD, "the name was not synced, and is undone"
    files = CutFiles(tmp_path, cut=Cut.POWER_KEPT)
    with files.installed():
        (tmp_path / KEY).write_bytes(NEW)
        files.power_goes()
    assert content(tmp_path) == NEW[: len(NEW) // 2], "the content was not synced, and is torn"


class FixedClock:
    """A clock that stands still and never waits."""

    def now(self) -> datetime:
        return datetime(2026, 1, 2, tzinfo=UTC)

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        pass


def test_a_registry_is_as_before_or_as_after(tmp_path: Path) -> None:
    digest = "sha256:" + "a" * 64

    def fresh(root: Path) -> Registry:
        registry = Registry(FolderStore(root), "flights", FixedClock())
        for number in (1, 2):
            registry.register(f"b/{number}", digest, f"run-{number}", {}, "ada", "a test")
        registry.set_alias("champion", 1, "ada", "first")
        return registry

    quiet = fresh(tmp_path / "quiet")
    calls = calls_of(lambda: quiet.set_alias("champion", 2, "ada", "better", expected=1), tmp_path / "quiet")
    for at in range(len(calls)):
        for cut in Cut:
            root = tmp_path / f"{at}-{cut.name}"
            registry = fresh(root)
            cut_short(
                lambda registry=registry: registry.set_alias("champion", 2, "ada", "better", expected=1),
                CutFiles(root, at, cut, after=True),
            )
            opened = Registry(FolderStore(root), "flights", FixedClock())
            assert (opened.aliases()["champion"], opened.verify()) in ((1, 3), (2, 4))
            opened.set_alias("champion", 2, "ada", "once more")
            assert (opened.aliases()["champion"], opened.verify()) == (2, 4)


def test_a_bundle_is_whole_in_the_store_or_it_is_none(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    manifest = sealed_bundle(folder)
    calls = calls_of(lambda: publish(FolderStore(tmp_path / "quiet"), folder), tmp_path / "quiet")
    whole = 0
    for at in (*range(0, len(calls) - 12, 7), *range(len(calls) - 12, len(calls))):  # all around the manifest
        cut = list(Cut)[at % 3]
        root = tmp_path / f"{at}"
        store = FolderStore(root)
        cut_short(lambda store=store: publish(store, folder), CutFiles(root, at, cut, after=True))
        uri = f"bundles/flights/{manifest.digest.removeprefix('sha256:')}"
        try:
            assert fetch_bundle(FolderStore(root), uri, manifest.digest, tmp_path / f"cache {at}").manifest == manifest
            whole += 1
        except BundleDamaged:
            pass
        assert publish(FolderStore(root), folder) == uri
        assert fetch_bundle(FolderStore(root), uri, manifest.digest, tmp_path / f"again {at}").manifest == manifest
    assert 0 < whole < 6, "it becomes visible with its manifest, at the end"


def test_a_draft_is_sealed_or_it_is_none(tmp_path: Path) -> None:
    calls = calls_of(lambda: sealed_bundle(tmp_path / "quiet"), tmp_path / "quiet")
    digest = Bundle.load(tmp_path / "quiet").digest
    sealed = 0
    for at in range(len(calls)):
        folder = tmp_path / f"{at}"
        cut_short(lambda folder=folder: sealed_bundle(folder), CutFiles(folder, at, Cut.POWER_KEPT, after=True))
        try:
            assert Bundle.load(folder).digest == digest
            sealed += 1
        except BundleDamaged:
            pass
        sealed_bundle(folder)
        assert Bundle.load(folder).digest == digest
    assert sealed < len(calls)
