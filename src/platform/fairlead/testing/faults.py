"""A store that fails on purpose, at the write and in the way that a test names."""

import enum
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from fairlead.errors import FairleadError, StoreError
from fairlead.store.protocol import Store

T = TypeVar("T")


class Fault(enum.Enum):
    """How a write goes wrong.

    CRASH_BEFORE, CRASH_AFTER: the process dies before or after the write took effect (`Crash`).
    FAIL_BEFORE: refused, or lost, without effect. TIMEOUT_WITH_EFFECT: done, but the answer is lost. LATE: the answer
    is lost, and the effect comes just before the next write. DUPLICATE: delivered twice, the first answer comes back.
    """

    CRASH_BEFORE = "crash before"
    CRASH_AFTER = "crash after"
    FAIL_BEFORE = "fail before"
    TIMEOUT_WITH_EFFECT = "timeout with effect"
    LATE = "late"
    DUPLICATE = "duplicate"


class Crash(BaseException):
    """The process would be gone here. No handler may catch it but the test's own."""


class FaultStore:
    """Passes everything to `inner`, and harms the writes that `faults` names by number, counted from 1.

    Without faults it is a plain counter: `writes` is the list of (method, key) so far, which a sweep enumerates.
    """

    def __init__(self, inner: Store, faults: Mapping[int, Fault] | None = None) -> None:
        self._inner, self._faults = inner, dict(faults or {})
        self.writes: list[tuple[str, str]] = []
        self._late: Callable[[], object] | None = None

    @property
    def uri(self) -> str:
        """The inner store's."""
        return self._inner.uri

    def read(self, key: str) -> bytes:
        """Unharmed."""
        return self._inner.read(key)

    def read_versioned(self, key: str) -> tuple[bytes, str]:
        """Unharmed."""
        return self._inner.read_versioned(key)

    def exists(self, key: str) -> bool:
        """Unharmed."""
        return self._inner.exists(key)

    def list(self, prefix: str = "") -> list[str]:
        """Unharmed."""
        return self._inner.list(prefix)

    def download(self, key: str, local: Path) -> None:
        """Unharmed."""
        self._inner.download(key, local)

    def local_path(self, key: str) -> Path | None:
        """The inner store's."""
        return self._inner.local_path(key)

    def url(self, key: str) -> str:
        """The inner store's."""
        return self._inner.url(key)

    def create(self, key: str, data: bytes) -> str:
        """A write."""
        return self._harmed("create", key, lambda: self._inner.create(key, data))

    def replace(self, key: str, data: bytes, version: str) -> str:
        """A write."""
        return self._harmed("replace", key, lambda: self._inner.replace(key, data, version))

    def write(self, key: str, data: bytes) -> None:
        """A write."""
        self._harmed("write", key, lambda: self._inner.write(key, data))

    def upload(self, local: Path, key: str) -> None:
        """A write."""
        self._harmed("upload", key, lambda: self._inner.upload(local, key))

    def delete(self, key: str) -> None:
        """A write."""
        self._harmed("delete", key, lambda: self._inner.delete(key))

    def _harmed(self, method: str, key: str, action: Callable[[], T]) -> T:
        if self._late is not None:
            late, self._late = self._late, None
            _unheard(late)
        self.writes.append((method, key))
        number = len(self.writes)
        fault = self._faults.get(number)
        if fault is Fault.CRASH_BEFORE:
            raise Crash(f"before write {number}")
        if fault is Fault.FAIL_BEFORE:
            raise StoreError(f"write {number} failed on purpose", where=key)
        if fault is Fault.LATE:
            self._late = action
            raise StoreError(f"write {number} got no answer, on purpose", where=key)
        result = action()
        if fault is Fault.CRASH_AFTER:
            raise Crash(f"after write {number}")
        if fault is Fault.TIMEOUT_WITH_EFFECT:
            raise StoreError(f"write {number} got no answer, on purpose", where=key)
        if fault is Fault.DUPLICATE:
            _unheard(action)
        return result


def _unheard(action: Callable[[], object]) -> None:
    """Do what nobody hears the answer of."""
    try:
        action()
    except FairleadError:
        pass
