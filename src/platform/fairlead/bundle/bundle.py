"""A model at rest: a folder of files and a manifest that says what each must be.

Sealing a draft writes the manifest last; loading verifies every digest before anything is parsed, and refuses files
that are not listed. Nothing in a bundle is ever executed or unpickled: JSON, text, and an ONNX graph that reaches
nowhere.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from fairlead.atomic import remove_cut_off, write_atomic
from fairlead.bundle.calibration import Calibration
from fairlead.bundle.graph_check import check_graph
from fairlead.bundle.layout import (
    CALIBRATION,
    CARD,
    DRAFT_FILES,
    FORMAT,
    LINEAGE,
    MANIFEST,
    MODEL,
    SIGNATURE,
    STATISTICS,
    TRANSFORM,
    digest_hex,
    digest_of,
    is_file_name,
)
from fairlead.bundle.signature import parse_signature
from fairlead.bundle.verify import (
    MODEL_NAME,
    REFETCH,
    check_digest,
    check_listing,
    differs,
    parse_record,
    parsed,
    read_bytes,
    read_manifest,
    read_part,
)
from fairlead.errors import BundleDamaged, KeyMissing
from fairlead.features.transform import Transform
from fairlead.logs import get_logger
from fairlead.records.codec import from_json, to_json
from fairlead.records.data import Statistics
from fairlead.records.model import BundleManifest, Signature
from fairlead.store.keys import check_key
from fairlead.store.protocol import Store

_log = get_logger(__name__)


@dataclass(frozen=True)
class Bundle:
    """A verified bundle on this machine."""

    folder: Path
    manifest: BundleManifest
    signature: Signature
    statistics: Statistics
    calibration: Calibration
    card: str

    @classmethod
    def load(cls, folder: Path, digest: str | None = None) -> "Bundle":
        """Verify and read the bundle in `folder`; with `digest` it must be that very bundle.

        Raises BundleDamaged, which names the file, the expected and the found digest.
        """
        manifest = read_manifest(folder)
        if digest is not None and digest != manifest.digest:
            raise BundleDamaged(
                "the bundle is another one than was asked for",
                where=str(folder),
                why=f"expected {digest}, got {manifest.digest}",
                fix=REFETCH,
            )
        check_listing(folder, manifest)
        for name in sorted(manifest.files):
            check_digest(folder / name, manifest.files[name])
        bundle = cls(
            folder=folder,
            manifest=manifest,
            signature=read_part(folder / SIGNATURE, parse_signature),
            statistics=read_part(folder / STATISTICS, lambda data: parse_record(Statistics, data)),
            calibration=read_part(folder / CALIBRATION, Calibration.from_json),
            card=read_part(folder / CARD, lambda data: data.decode()),
        )
        _check_whole(bundle)
        return bundle

    @property
    def digest(self) -> str:
        """The manifest's digest."""
        return self.manifest.digest

    @cached_property
    def transform(self) -> Transform:
        """The fitted transform. Raises BundleDamaged when it cannot be read."""
        return parsed(self.folder / TRANSFORM, self.read(TRANSFORM), Transform.from_json)

    def read(self, name: str) -> bytes:
        """A file's content, verified again, so that nothing swapped after `load` is used. Raises BundleDamaged."""
        expected = self.manifest.files.get(name)
        if expected is None:
            raise BundleDamaged(f"the bundle lists no {name}", where=str(self.folder), fix=REFETCH)
        data = read_bytes(self.folder / name)
        found = hashlib.sha256(data).hexdigest()
        if found != expected:
            raise differs(self.folder / name, expected, found)
        return data


def seal(
    folder: Path,
    model: str,
    lineage: Mapping[str, object],
    calibration: Calibration,
    card: str,
    *,
    created_at: str = "",
) -> BundleManifest:
    """Turn the draft in `folder` into a bundle: add calibration, card and lineage, then the manifest.

    Everything but `created_at` is covered by the digest. Sealing again what a crash left half-sealed gives the same
    bundle. Raises BundleDamaged when the draft lacks a file, has one that a bundle may not hold, or when its parts do
    not fit each other; then there is no manifest, hence no bundle.
    """
    if not MODEL_NAME.match(model):
        raise BundleDamaged(f"{model!r} is no name for a model", fix="Use lower-case letters, digits and dashes.")
    (folder / MANIFEST).unlink(missing_ok=True)
    remove_cut_off(folder)
    missing = [name for name in DRAFT_FILES if not (folder / name).is_file()]
    if missing:
        raise BundleDamaged(f"the draft lacks {', '.join(missing)}", where=str(folder), fix="Run `train` again.")
    write_atomic(folder / CALIBRATION, calibration.to_json())
    write_atomic(folder / CARD, card.encode())
    write_atomic(folder / LINEAGE, to_json({"model": model, "lineage": lineage}))
    files = {}
    for path in sorted(folder.iterdir()):
        if not is_file_name(path.name) or path.is_symlink() or not path.is_file():
            raise BundleDamaged(
                f"a bundle may not hold {path.name}",
                where=str(folder),
                why="Only the model's own files and text may travel along; nothing that could be code.",
                fix="Remove it from the draft.",
            )
        files[path.name] = hashlib.sha256(read_bytes(path)).hexdigest()
    manifest = BundleManifest(model, digest_of(files), files, dict(lineage), created_at, FORMAT)
    data = to_json(manifest)
    manifest = from_json(BundleManifest, data)  # as it will be read
    bundle = Bundle(
        folder=folder,
        manifest=manifest,
        signature=read_part(folder / SIGNATURE, parse_signature),
        statistics=read_part(folder / STATISTICS, lambda text: parse_record(Statistics, text)),
        calibration=calibration,
        card=card,
    )
    _check_whole(bundle)
    write_atomic(folder / MANIFEST, data)
    return manifest


def _check_whole(bundle: Bundle) -> None:
    """The parts fit each other, and the graph reaches nowhere."""
    check_graph(bundle.read(MODEL), MODEL)
    told = parsed(bundle.folder / LINEAGE, bundle.read(LINEAGE), orjson.loads)
    if told != {"model": bundle.manifest.model, "lineage": bundle.manifest.lineage}:
        raise BundleDamaged(
            f"{MANIFEST} tells another model or lineage than {LINEAGE}", where=str(bundle.folder), fix=REFETCH
        )
    if bundle.calibration.task != bundle.signature.task:
        raise BundleDamaged(
            f"{CALIBRATION} is for a {bundle.calibration.task} task, {SIGNATURE} says {bundle.signature.task}",
            where=str(bundle.folder),
            fix=REFETCH,
        )


def publish(store: Store, folder: Path, model: str | None = None) -> str:
    """Put the sealed bundle in `folder` into the store, and give its URI.

    The URI is the key of the bundle's place, ``bundles/<model>/<digest hex>``, relative to the store, so that a store
    can be moved, copied or mounted elsewhere; `Store.url` makes it absolute. The place follows from the content, and
    the manifest is written last: a reader sees a whole bundle or none, and publishing twice, or at the same time,
    does no harm and mends what was damaged. With `model` the bundle must be of that model.

    Raises BundleDamaged, StoreError.
    """
    bundle = Bundle.load(folder)
    if model is not None and model != bundle.manifest.model:
        raise BundleDamaged(f"the bundle is of the model {bundle.manifest.model}, not {model}", where=str(folder))
    uri = f"bundles/{bundle.manifest.model}/{digest_hex(bundle.digest)}"
    for name in sorted(bundle.manifest.files):
        store.write(f"{uri}/{name}", bundle.read(name))
    store.write(f"{uri}/{MANIFEST}", (folder / MANIFEST).read_bytes())
    return uri


def fetch_bundle(store: Store, uri: str, digest: str, cache: Path) -> Bundle:
    """The bundle with this digest, verified, from `cache` or else from the store.

    `uri`: what `publish` gave, or the same with the store's own URI before it. Other places are refused: what is served
    comes from the configured store and from nowhere else. A damaged copy in the cache is thrown away and fetched again.
    Raises BundleDamaged, StoreError.
    """
    try:
        place = cache / digest_hex(digest)
    except ValueError as error:
        raise BundleDamaged("the bundle's digest is none", where=uri, why=str(error)) from error
    key = bundle_key(store, uri)
    if place.is_dir():
        try:
            return Bundle.load(place, digest)
        except BundleDamaged as error:
            _log.warning("the copy of bundle %s is damaged and is fetched again: %s", digest, error.what)
            shutil.rmtree(place, ignore_errors=True)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as scratch:
        fetched = Path(scratch) / "bundle"
        _download(store, key, fetched, digest)
        Bundle.load(fetched, digest)
        try:
            fetched.rename(place)
        except OSError:
            if not place.is_dir():
                raise
            # Another process was faster; its copy is verified below like any other.
    return Bundle.load(place, digest)


def _download(store: Store, key: str, folder: Path, digest: str, only: Collection[str] | None = None) -> None:
    try:
        store.download(f"{key}/{MANIFEST}", folder / MANIFEST)
        manifest = read_manifest(folder)
        if manifest.digest != digest:
            raise BundleDamaged(
                "the store holds another bundle at this place",
                where=store.url(key),
                why=f"expected {digest}, got {manifest.digest}",
                fix="Register the bundle that is meant; do not serve this one.",
            )
        for name in sorted(manifest.files if only is None else only):
            store.download(f"{key}/{name}", folder / name)
    except KeyMissing as error:
        raise BundleDamaged(
            f"the bundle is not whole in the store: {error.what}", where=store.url(key), fix="Publish it again."
        ) from error


def bundle_key(store: Store, uri: str) -> str:
    """The key below which the bundle's files are. Raises BundleDamaged for places outside of the store."""
    key = uri.removeprefix(f"{store.uri}/").removesuffix("/")
    if "://" in key:
        raise BundleDamaged(
            "the bundle lies outside of the configured store",
            where=uri,
            why=f"the store is {store.uri}, and bundles are loaded from nowhere else",
            fix="Publish the bundle to the store, or configure the store that holds it.",
        )
    return check_key(key)


def stored_lineage(store: Store, uri: str, digest: str) -> Mapping[str, object]:
    """The lineage of a bundle in the store, verified against its digest, without fetching the model. Raises
    BundleDamaged, StoreError."""
    key = bundle_key(store, uri)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _download(store, key, folder, digest, only=(LINEAGE,))
        manifest = read_manifest(folder)
        check_digest(folder / LINEAGE, manifest.files[LINEAGE])
        told: dict[str, Any] = parsed(folder / LINEAGE, read_bytes(folder / LINEAGE), orjson.loads)
        return dict(told.get("lineage", {}))
