"""The one thing that everything durable is written through."""

from pathlib import Path
from typing import Protocol, runtime_checkable


@runtime_checkable
class Store(Protocol):
    """Objects under keys (`fairlead.store.keys` says what a key may look like).

    Why exactly these methods: `create` and `replace` are what correct sharing needs (the loser of a race learns it),
    `write` is for content-addressed and derived objects where the last writer may win, `upload` and `download` stream
    files of any size, and the rest is looking around. A version is an opaque token: the same token means the same
    content. Every write is durable and whole when it returns; readers see the old object or the new, never a part.

    Raises KeyRefused for unusable keys, KeyMissing for missing ones, StoreError when the store cannot be used.
    """

    @property
    def uri(self) -> str:
        """Where the store is: an absolute file:// or s3:// URI without a slash at its end."""

    def read(self, key: str) -> bytes:
        """The object's content."""

    def read_versioned(self, key: str) -> tuple[bytes, str]:
        """The object's content and the version it has, for `replace`."""

    def create(self, key: str, data: bytes) -> str:
        """Write an object that must not exist, and give its version. Raises KeyExists."""

    def replace(self, key: str, data: bytes, version: str) -> str:
        """Write an object that must still have `version`, and give its new one. Raises VersionConflict, also when the
        object is gone."""

    def write(self, key: str, data: bytes) -> None:
        """Write an object, whatever was there."""

    def exists(self, key: str) -> bool:
        """Is there an object?"""

    def list(self, prefix: str = "") -> list[str]:
        """The keys that start with `prefix` (a plain string prefix), sorted."""

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens when there is none."""

    def upload(self, local: Path, key: str) -> None:
        """Write an object from a local file, whatever was there."""

    def download(self, key: str, local: Path) -> None:
        """Write an object's content to a local file: whole, or not at all."""

    def local_path(self, key: str) -> Path | None:
        """Where the object lies on this machine, when the store is a folder; None otherwise. It need not exist."""

    def url(self, key: str) -> str:
        """The absolute URI of a key (or of a prefix)."""
