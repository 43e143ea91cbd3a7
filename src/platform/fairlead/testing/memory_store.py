"""A store in memory, for tests that open thousands of them. It keeps the Protocol's promises for one process."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fairlead.errors import KeyExists, KeyMissing, VersionConflict

Guard = Callable[[str, str, Callable[[], Any]], Any]
"""(operation, key, what it does) -> its result: where a test fails an operation before or after its effect."""


class MemoryStore:
    """Objects in a dictionary; a version is the content's digest. Every write passes `guard`."""

    def __init__(self, guard: Guard | None = None) -> None:
        self.objects: dict[str, bytes] = {}
        self.guard = guard

    @property
    def uri(self) -> str:
        """memory://, which no `open_store` opens."""
        return "memory://test"

    def read(self, key: str) -> bytes:
        """The object's content."""
        return self.read_versioned(key)[0]

    def read_versioned(self, key: str) -> tuple[bytes, str]:
        """The object's content and version."""
        try:
            data = self.objects[key]
        except KeyError:
            raise KeyMissing(f"nothing under {key}", where=self.url(key)) from None
        return data, _version(data)

    def create(self, key: str, data: bytes) -> str:
        """Write an object that must not exist."""

        def effect() -> str:
            if key in self.objects:
                raise KeyExists(f"{key} exists", where=self.url(key))
            self.objects[key] = data
            return _version(data)

        return str(self._guarded("create", key, effect))

    def replace(self, key: str, data: bytes, version: str) -> str:
        """Write an object that must still have `version`."""

        def effect() -> str:
            if key not in self.objects or _version(self.objects[key]) != version:
                raise VersionConflict(f"{key} was changed meanwhile", where=self.url(key))
            self.objects[key] = data
            return _version(data)

        return str(self._guarded("replace", key, effect))

    def write(self, key: str, data: bytes) -> None:
        """Write an object, whatever was there."""
        self._guarded("write", key, lambda: self.objects.__setitem__(key, data))

    def exists(self, key: str) -> bool:
        """Is there an object?"""
        return key in self.objects

    def list(self, prefix: str = "") -> list[str]:
        """The keys that start with `prefix`, sorted."""
        return sorted(key for key in self.objects if key.startswith(prefix))

    def delete(self, key: str) -> None:
        """Remove an object."""
        self._guarded("delete", key, lambda: self.objects.pop(key, None))

    def upload(self, local: Path, key: str) -> None:
        """Write an object from a local file."""
        self.write(key, local.read_bytes())

    def download(self, key: str, local: Path) -> None:
        """Write an object's content to a local file."""
        local.write_bytes(self.read(key))

    def local_path(self, key: str) -> Path | None:
        """No folder, no path."""
        return None

    def url(self, key: str) -> str:
        """The absolute URI of a key."""
        return f"{self.uri}/{key}"

    def _guarded(self, operation: str, key: str, effect: Callable[[], Any]) -> Any:
        return effect() if self.guard is None else self.guard(operation, key, effect)


def _version(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
