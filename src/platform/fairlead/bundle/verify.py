"""What is checked of a bundle's files before anything in them is believed."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import orjson

from fairlead.bundle.layout import FORMAT, MANIFEST, REQUIRED_FILES, digest_of, is_file_name, is_sha256
from fairlead.errors import BundleDamaged, TransformError
from fairlead.records.codec import from_value
from fairlead.records.model import BundleManifest

MODEL_NAME = re.compile(r"[a-z]([-a-z0-9]{0,62}[a-z0-9])?\Z")
REFETCH = "Fetch or build the bundle again; do not serve this one."

# What a parser raises when the text is not what it expects.
_PARSE_ERRORS = (
    *(ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError),
    TransformError,
)

T = TypeVar("T")


def read_part(path: Path, parse: Callable[[bytes], T]) -> T:
    """Read and parse one file of a draft or bundle. Raises BundleDamaged."""
    return parsed(path, read_bytes(path), parse)


def parse_record(cls: type[T], data: bytes) -> T:
    """A record from JSON text that must be an object. Raises ValueError, KeyError, TypeError or AttributeError."""
    value = orjson.loads(data)
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, got {type(value).__name__}")
    record: T = from_value(cls, value)
    return record


def parsed(path: Path, data: bytes, parse: Callable[[bytes], T]) -> T:
    """Parse the content `data` of the file `path`. Raises BundleDamaged."""
    try:
        return parse(data)
    except _PARSE_ERRORS as error:
        raise BundleDamaged(
            f"{path.name} is not what a bundle needs",
            where=str(path),
            why=f"{type(error).__name__}: {error}"[:500],
            fix=REFETCH,
        ) from error


def read_bytes(path: Path) -> bytes:
    """A file's content. Raises BundleDamaged."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleDamaged(
            f"{path.name} cannot be read", where=str(path), why=str(error.strerror or error), fix=REFETCH
        ) from error


def read_manifest(folder: Path) -> BundleManifest:
    """The manifest of the bundle in `folder`, whole in itself. Raises BundleDamaged."""
    path = folder / MANIFEST
    if path.is_symlink():
        raise BundleDamaged(f"{MANIFEST} is a link", where=str(path), fix=REFETCH)
    manifest = read_part(path, lambda data: parse_record(BundleManifest, data))
    problem = _manifest_problem(manifest)
    if problem:
        raise BundleDamaged(f"{MANIFEST} is damaged", where=str(path), why=problem, fix=REFETCH)
    return manifest


def _manifest_problem(manifest: BundleManifest) -> str:
    """What is wrong with a manifest in itself, "" when nothing is."""
    if manifest.format != FORMAT:
        return f"it has format {manifest.format!r}, this version of Fairlead reads {FORMAT}"
    if not isinstance(manifest.model, str) or not MODEL_NAME.match(manifest.model):
        return f"{manifest.model!r} is no name for a model"
    for name, sha256 in manifest.files.items():
        if not is_file_name(name):
            return f"it lists {name!r}, which a bundle may not hold"
        if not is_sha256(sha256):
            return f"it gives no sha256 for {name}"
    missing = [name for name in REQUIRED_FILES if name not in manifest.files]
    if missing:
        return f"it does not list {', '.join(missing)}"
    digest = digest_of(manifest.files)
    if digest != manifest.digest:
        return f"expected digest {manifest.digest}, its list of files gives {digest}"
    return ""


def check_listing(folder: Path, manifest: BundleManifest) -> None:
    """Raise BundleDamaged unless `folder` holds exactly what the manifest lists, as plain files."""
    found = {path.name: path for path in folder.iterdir()}
    unlisted = sorted(set(found) - set(manifest.files) - {MANIFEST})
    if unlisted:
        raise BundleDamaged(
            f"the bundle holds {unlisted[0]!r}, which its manifest does not list",
            where=str(folder),
            fix="Remove it if you put it there; otherwise fetch the bundle again.",
        )
    for name in sorted(manifest.files):
        if name not in found:
            raise BundleDamaged(
                f"{name} is missing", where=str(folder), why=f"expected sha256 {manifest.files[name]}", fix=REFETCH
            )
        if found[name].is_symlink() or not found[name].is_file():
            raise BundleDamaged(f"{name} is not a plain file", where=str(folder), fix=REFETCH)


def check_digest(path: Path, expected: str) -> None:
    """Raise BundleDamaged unless the file has the sha256 `expected`."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BundleDamaged(f"{path.name} cannot be read", where=str(path), why=str(error), fix=REFETCH) from error
    if found != expected:
        raise differs(path, expected, found)


def differs(path: Path, expected: str, found: str) -> BundleDamaged:
    """The error for a file with the wrong digest."""
    return BundleDamaged(
        f"{path.name} is not the file that was sealed",
        where=str(path),
        why=f"expected sha256 {expected}, got {found}",
        fix=REFETCH,
    )
