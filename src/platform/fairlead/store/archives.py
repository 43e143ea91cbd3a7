"""A folder as one object: projects/<sha256>.tar.gz, named by its content.

How a project's code and settings travel to pods. The same folder gives the same bytes, so it is uploaded once. Data and
what hides (``.git``, ``.fairlead``) stay behind; ``.fairleadignore`` names more, a pattern per line.
"""

import fnmatch
import gzip
import hashlib
import io
import os
import shutil
import tarfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from fairlead.errors import IntegrityError, KeyMissing, StoreError
from fairlead.store.protocol import Store

IGNORE_FILE = ".fairleadignore"
MAX_BYTES = 64 * 2**20
MAX_FILES = 10_000
_NEVER = ("__pycache__", "*.pyc", "venv", "node_modules", "*.egg-info")
_HEX = frozenset("0123456789abcdef")


def publish_folder(store: Store, folder: Path, exclude: Sequence[str] = ()) -> str:
    """Put the folder into the store, unless it is there; returns the archive's sha256 (hex).

    `exclude`: patterns relative to the folder, such as ``data/*.parquet``. Raises StoreError when the folder is too
    large to be code, or has a link that leads out of it.
    """
    data = pack(folder, exclude)
    digest = hashlib.sha256(data).hexdigest()
    key = archive_key(digest)
    if not store.exists(key):
        store.write(key, data)
    return digest


def fetch_folder(store: Store, digest: str, cache: Path) -> Path:
    """The folder as it was, below `cache`; unpacked once. Raises IntegrityError when the archive has another digest."""
    folder = cache / digest
    if folder.is_dir():
        return folder
    try:
        data = store.read(archive_key(digest))
    except KeyMissing as error:
        raise IntegrityError(
            "the project's archive is not in the store", where=store.url(archive_key(digest)), fix="start the run again"
        ) from error
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise IntegrityError(
            "the project's archive is damaged", where=store.url(archive_key(digest)), why=f"it has sha256 {found}"
        )
    staging = cache / f".staging-{uuid.uuid4().hex}"
    staging.mkdir(parents=True)
    try:
        unpack(data, staging)
        try:
            staging.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster with the same content
                raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return folder


def archive_key(digest: str) -> str:
    """Where an archive lies in a store."""
    if len(digest) != 64 or not set(digest) <= _HEX:
        raise IntegrityError(f"{digest[:80]!r} is not the digest of a project archive")
    return f"projects/{digest}.tar.gz"


def pack(folder: Path, exclude: Sequence[str] = ()) -> bytes:
    """The folder's files as a tar.gz that depends on names, contents and executable bits only."""
    total = 0
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0, compresslevel=6) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for count, (name, path) in enumerate(_files(folder, (*exclude, *_ignored(folder))), 1):
            content = path.read_bytes()
            total += len(content)
            if total > MAX_BYTES or count > MAX_FILES:
                raise StoreError(
                    f"the project folder is too large: more than {MAX_BYTES // 2**20} MiB or {MAX_FILES} files",
                    where=f"{folder} at {name}",
                    fix=f"name what is not needed for training in {IGNORE_FILE}, a pattern per line",
                )
            facts = tarfile.TarInfo(name)
            facts.size, facts.mode = len(content), 0o755 if os.access(path, os.X_OK) else 0o644
            archive.addfile(facts, io.BytesIO(content))
    return buffer.getvalue()


def unpack(data: bytes, folder: Path) -> None:
    """Write an archive's files below `folder`. Raises IntegrityError for anything that `pack` does not write."""
    total = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
            for count, member in enumerate(archive, 1):
                total += member.size
                if not member.isreg():
                    raise IntegrityError(f"the project's archive holds something that is no file: {member.name!r}")
                if total > MAX_BYTES or count > MAX_FILES:
                    raise IntegrityError("the project's archive is too large", why=f"more than {MAX_BYTES} bytes")
                _write(folder, member, archive)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise IntegrityError("the project's archive cannot be unpacked", why=str(error)) from error


def _write(folder: Path, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
    # Written here, because Python before 3.11.4 has no extraction filter. Nothing in `folder` is a link: none is made.
    parts = member.name.split("/")
    content = archive.extractfile(member)
    if content is None or "\\" in member.name or any(part in ("", ".", "..") for part in parts):
        raise IntegrityError(f"the project's archive holds a name that leads elsewhere: {member.name!r}")
    path = folder.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        shutil.copyfileobj(content, file)
    path.chmod(0o755 if member.mode & 0o100 else 0o644)


def _files(folder: Path, exclude: Sequence[str]) -> Iterator[tuple[str, Path]]:
    root = folder.resolve()
    found = []
    for place, folders, names in os.walk(root):
        here = Path(place)
        folders[:] = [name for name in folders if not _skipped((here / name).relative_to(root).as_posix(), exclude)]
        found += [here / name for name in names]
    for path in sorted(found, key=lambda path: path.relative_to(root).as_posix()):
        name = path.relative_to(root).as_posix()
        if _skipped(name, exclude):
            continue
        if not path.resolve().is_relative_to(root):
            raise StoreError(
                "a link leads out of the project folder",
                where=str(path),
                fix=f"replace it by a file, or name it in {IGNORE_FILE}",
            )
        if path.is_file():
            yield name, path


def _skipped(name: str, exclude: Sequence[str]) -> bool:
    last = name.rpartition("/")[2]
    if last.startswith(".") or any(fnmatch.fnmatch(last, pattern) for pattern in _NEVER):
        return True
    return any(fnmatch.fnmatch(name, p.rstrip("/")) or fnmatch.fnmatch(last, p.rstrip("/")) for p in exclude)


def _ignored(folder: Path) -> list[str]:
    try:
        lines = (folder / IGNORE_FILE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
