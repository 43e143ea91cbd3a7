"""A store in a local folder, with the same promises as a bucket.

Compare-and-swap is a file lock around "compare, then rename": the content goes to a temporary file first, is synced,
and takes the key's name by rename, so that a crash at any point leaves the old object or the new one. Locks and
temporary files live in folders that begin with a dot, where no key can reach and `list` does not look.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from fairlead.atomic import sync_folder
from fairlead.errors import KeyExists, KeyMissing, KeyRefused, VersionConflict
from fairlead.store.disk_errors import explain_os_error
from fairlead.store.keys import check_key, check_prefix

# Keys share this many lock files: no two unrelated keys often wait for each other, and the files never grow in number.
_STRIPES = 256
_CHUNK_BYTES = 1 << 20


class FolderStore:
    """Objects as files below one folder. The folder is made on the first write."""

    def __init__(self, root: Path) -> None:
        self._root = root.expanduser().absolute()
        self._swept = False

    def __repr__(self) -> str:
        return f"FolderStore({str(self._root)!r})"

    @property
    def uri(self) -> str:
        """The folder as a file:// URI."""
        return self._root.as_uri()

    def url(self, key: str) -> str:
        """The file:// URI of a key or prefix."""
        return f"{self.uri}/{check_prefix(key)}"

    def local_path(self, key: str) -> Path:
        """The file of a key, or the folder of a prefix ("": the store's own)."""
        prefix = check_prefix(key).removesuffix("/")
        return self._path(prefix) if prefix else self._root

    def read(self, key: str) -> bytes:
        """The file's content."""
        path = self._path(key)
        with _explained(key, self.uri):
            try:
                return path.read_bytes()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                raise _missing(key, self.uri) from None

    def read_versioned(self, key: str) -> tuple[bytes, str]:
        """The file's content, and its sha256 as the version."""
        data = self.read(key)
        return data, _version(data)

    def exists(self, key: str) -> bool:
        """Is there a file?"""
        with _explained(key, self.uri):
            return self._path(key).is_file()

    def create(self, key: str, data: bytes) -> str:
        """Write a file that must not exist."""
        with self._staged(key, data) as (staged, path), self._locked(key):
            if path.exists():
                raise KeyExists(f"{key} exists already", where=self.url(key))
            _publish(staged, path)
        return _version(data)

    def replace(self, key: str, data: bytes, version: str) -> str:
        """Write a file whose content must still be what `version` says."""
        with self._staged(key, data) as (staged, path), self._locked(key):
            if not path.is_file():
                raise VersionConflict(f"{key} was removed meanwhile", where=self.url(key), why="it is gone")
            if _version(path.read_bytes()) != version:
                raise VersionConflict(f"{key} was changed meanwhile", where=self.url(key))
            _publish(staged, path)
        return _version(data)

    def write(self, key: str, data: bytes) -> None:
        """Write a file."""
        with self._staged(key, data) as (staged, path), self._locked(key):
            _publish(staged, path)

    def upload(self, local: Path, key: str) -> None:
        """Copy a local file in."""
        with self._staged(key, local) as (staged, path), self._locked(key):
            _publish(staged, path)

    def download(self, key: str, local: Path) -> None:
        """Copy a file out."""
        source = self._path(key)
        local.parent.mkdir(parents=True, exist_ok=True)
        temporary = local.with_name(f".part-{uuid.uuid4().hex}")
        with _explained(key, self.uri):
            try:
                shutil.copyfile(source, temporary)
                os.replace(temporary, local)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                raise _missing(key, self.uri) from None
            finally:
                temporary.unlink(missing_ok=True)

    def delete(self, key: str) -> None:
        """Remove a file. Its folder stays: removing that would race with a writer who needs it."""
        path = self._path(key)
        if not self._root.is_dir():
            return
        with _explained(key, self.uri), self._locked(key):
            try:
                path.unlink()
            except (FileNotFoundError, NotADirectoryError):
                return
            sync_folder(path.parent)

    def list(self, prefix: str = "") -> list[str]:
        """All keys that start with `prefix`. Links that lead out of the store are left out."""
        check_prefix(prefix)
        start = self._root / prefix.rpartition("/")[0]
        found: list[str] = []
        with _explained(prefix, self.uri):
            for folder, subfolders, names in os.walk(start):
                subfolders[:] = [name for name in subfolders if not name.startswith(".")]
                relative = Path(folder).relative_to(self._root).as_posix()
                for name in names:
                    key = name if relative == "." else f"{relative}/{name}"
                    if not name.startswith(".") and key.startswith(prefix) and self._is_own(Path(folder) / name):
                        found.append(key)
        return sorted(found)

    def _is_own(self, path: Path) -> bool:
        if not path.is_symlink():
            return True
        try:
            return path.resolve().is_relative_to(self._root.resolve()) and path.is_file()
        except (OSError, RuntimeError):  # a loop of links is a RuntimeError on Python 3.11
            return False

    def _path(self, key: str) -> Path:
        path = self._root / check_key(key)
        try:
            inside = path.resolve().is_relative_to(self._root.resolve())
        except (OSError, RuntimeError) as error:  # a loop of links is a RuntimeError on Python 3.11
            raise KeyRefused(f"the key {key} leads through a broken link", where=str(path), why=str(error)) from error
        if not inside:
            raise KeyRefused(
                f"the key {key} leads out of the store",
                where=str(path),
                why=f"a link on the way points to {path.resolve()}",
                fix="Remove the link, or put the data itself into the store.",
            )
        return path

    @contextlib.contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        stripe = int.from_bytes(hashlib.sha256(key.encode()).digest()[:2]) % _STRIPES
        folder = self._root / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{stripe:02x}").open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # released by closing, also when the process dies
            yield

    @contextlib.contextmanager
    def _staged(self, key: str, content: bytes | Path) -> Iterator[tuple[Path, Path]]:
        """(a synced temporary file with `content`, the key's own path). The file is gone afterwards."""
        path = self._path(key)
        folder = self._root / ".staged"
        with _explained(key, self.uri):
            folder.mkdir(parents=True, exist_ok=True)
            if not self._swept:
                _sweep(folder)
                self._swept = True
            staged, file = _open_staged(folder)
            try:
                with file:
                    if isinstance(content, Path):
                        with content.open("rb") as source:
                            shutil.copyfileobj(source, file, _CHUNK_BYTES)
                    else:
                        file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                    yield staged, path
            finally:
                staged.unlink(missing_ok=True)


def _open_staged(folder: Path) -> tuple[Path, BinaryIO]:
    """A new file that its writer holds locked: an unlocked one was left by a process that died."""
    while True:
        path = folder / uuid.uuid4().hex
        file = path.open("xb")
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return path, file
        file.close()  # a sweep took the file between its creation and the lock


def _sweep(folder: Path) -> None:
    """Remove what writers that died have left."""
    for path in folder.iterdir():
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
        except (BlockingIOError, FileNotFoundError):
            continue


def _publish(staged: Path, path: Path) -> None:
    """Give a synced file its name, durably."""
    _make_folders(path.parent)
    os.replace(staged, path)
    sync_folder(path.parent)


def _make_folders(folder: Path) -> None:
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        sync_folder(new.parent)


def _version(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _missing(key: str, uri: str) -> KeyMissing:
    return KeyMissing(f"there is no {key} in the store", where=uri)


@contextlib.contextmanager
def _explained(key: str, uri: str) -> Iterator[None]:
    """Foreign errors as Fairlead's own."""
    try:
        yield
    except OSError as error:
        raise explain_os_error(error, key, uri) from error
