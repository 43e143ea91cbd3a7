"""To a store and back: prepared/<fingerprint>/<file>, the manifest last."""

import shutil
import uuid
from pathlib import Path

from fairlead.dataset.files import MANIFEST, digests_of, is_fingerprint
from fairlead.dataset.prepared import PreparedData
from fairlead.errors import KeyMissing, PreparedDataDamaged
from fairlead.store.protocol import Store


def prefix_of(fingerprint: str) -> str:
    """Where a data set lies in a store."""
    if not is_fingerprint(fingerprint):
        raise PreparedDataDamaged(f"{fingerprint[:80]!r} is not a fingerprint of prepared data")
    return f"prepared/{fingerprint}"


def publish_prepared(store: Store, data: PreparedData) -> str:
    """Copy a data set into the store, unless it is there already. Returns the URI of its folder."""
    prefix = prefix_of(data.manifest.fingerprint)
    if not store.exists(f"{prefix}/{MANIFEST}"):
        for name in sorted(digests_of(data.manifest)):
            store.upload(data.folder / name, f"{prefix}/{name}")
        store.upload(data.folder / MANIFEST, f"{prefix}/{MANIFEST}")
    return store.url(prefix)


def fetch_prepared(store: Store, fingerprint: str, cache: Path) -> PreparedData:
    """A verified local copy below `cache`, downloaded unless a whole one is there.

    Raises PreparedDataDamaged, naming each file, when the store's copy does not match its manifest.
    """
    prefix = prefix_of(fingerprint)
    folder = cache / fingerprint
    if (folder / MANIFEST).is_file():
        data = _verified(folder, fingerprint)
        if data is not None:
            return data
        shutil.rmtree(folder, ignore_errors=True)
    cache.mkdir(parents=True, exist_ok=True)
    staging = cache / f".staging-{uuid.uuid4().hex}"
    staging.mkdir()
    try:
        _download(store, prefix, staging)
        data = PreparedData(staging)
        data.verify()
        if data.manifest.fingerprint != fingerprint:
            raise PreparedDataDamaged(
                "the store holds another data set under this fingerprint", where=store.url(prefix), why=fingerprint
            )
        try:
            staging.rename(folder)
        except OSError:  # another process was faster; its copy counts when it is whole
            other = _verified(folder, fingerprint)
            if other is None:
                raise
            return other
        return PreparedData(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _download(store: Store, prefix: str, folder: Path) -> None:
    try:
        store.download(f"{prefix}/{MANIFEST}", folder / MANIFEST)
        for name in sorted(digests_of(PreparedData(folder).manifest)):
            store.download(f"{prefix}/{name}", folder / name)
    except KeyMissing as error:
        raise PreparedDataDamaged(
            "the prepared data is not whole in the store",
            where=store.url(prefix),
            why=str(error),
            fix="prepare the data again",
        ) from error


def _verified(folder: Path, fingerprint: str) -> PreparedData | None:
    try:
        data = PreparedData(folder)
        data.verify()
    except PreparedDataDamaged:
        return None
    return data if data.manifest.fingerprint == fingerprint else None
