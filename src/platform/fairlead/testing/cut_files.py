"""A file system that is cut off: the process dies, or the power goes, at the system call that a test names.

It stands before the calls by which Fairlead changes files (open for writing, fsync, rename, unlink, mkdir), counts
those below one folder, and ends the process before or after one of them. With the power, everything goes that was not
synced yet: a file's content is torn, and a rename or unlink whose folder was not synced may be undone.
"""

import builtins
import contextlib
import enum
import io
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from fairlead.testing.faults import Crash


class Cut(enum.Enum):
    """KILLED: the system keeps all that was done. POWER: what was not synced is gone. POWER_KEPT: contents are torn,
    names are kept; disks may do either."""

    KILLED = "killed"
    POWER = "power, names undone"
    POWER_KEPT = "power, names kept"


class CutFiles:
    """Counts the calls below `root`; `calls` names them. Ends in Crash before (or `after`) call number `at`, counted
    from 0, and then refuses to do anything."""

    def __init__(self, root: Path, at: int = -1, cut: Cut = Cut.KILLED, *, after: bool = False) -> None:
        self._root, self._at, self._cut, self._after = str(root.absolute()), at, cut, after
        self.calls: list[str] = []
        self._dead = False
        self._unsynced: dict[int, str] = {}
        self._undo: list[tuple[str, Callable[[], None]]] = []

    @contextlib.contextmanager
    def installed(self) -> Iterator["CutFiles"]:
        """In here, the calls pass through it; at its end the disk is as the cut left it."""
        try:
            with self._patched():
                yield self
        finally:
            if self._dead:
                self._lose()

    def power_goes(self) -> None:
        """The process ends here, between two calls."""
        self._dead = True

    @contextlib.contextmanager
    def _patched(self) -> Iterator[None]:
        real = {name: getattr(os, name) for name in ("open", "fsync", "replace", "unlink", "mkdir")}
        opened = builtins.open

        def counted_open(path: Any, flags: int, *rest: Any, **named: Any) -> int:
            if not flags & (os.O_WRONLY | os.O_RDWR) or not self._ours(path):
                return int(real["open"](path, flags, *rest, **named))
            call = partial(real["open"], path, flags, *rest, **named)
            return int(self._call("open", lambda: self._opened(path, int(call()))))

        def counted_io_open(path: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
            if not set(mode) & set("wxa+") or not self._ours(path):
                return opened(path, mode, *rest, **named)
            return self._call("open", lambda: self._file(path, opened(path, mode, *rest, **named)))

        def fsync(descriptor: int) -> None:
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            if self._ours(path):
                self._call("fsync", lambda: self._synced(path, descriptor, real["fsync"]))
            else:
                real["fsync"](descriptor)

        def replace(source: Any, target: Any) -> None:
            if self._ours(target):
                self._call("rename", lambda: self._renamed(str(source), str(target), real["replace"]))
            else:
                real["replace"](source, target)

        def unlink(path: Any, *rest: Any, **named: Any) -> None:
            if self._ours(path):
                self._call("unlink", lambda: self._removed(str(path), real["unlink"]))
            else:
                real["unlink"](path, *rest, **named)

        def mkdir(path: Any, *rest: Any, **named: Any) -> None:
            if self._ours(path):
                self._call("mkdir", lambda: real["mkdir"](path, *rest, **named))
            else:
                real["mkdir"](path, *rest, **named)

        with (
            mock.patch.multiple(os, open=counted_open, fsync=fsync, replace=replace, unlink=unlink, mkdir=mkdir),
            mock.patch.object(io, "open", counted_io_open),
        ):
            yield

    def _ours(self, path: Any) -> bool:
        return isinstance(path, str | os.PathLike) and Path(path).absolute().is_relative_to(self._root)

    def _call(self, name: str, action: Callable[[], Any]) -> Any:
        if self._dead:
            raise Crash("it is dead already")
        number = len(self.calls)
        self.calls.append(name)
        if number == self._at and not self._after:
            self._dead = True
            raise Crash(f"before {name}, call {number}")
        if number != self._at:
            return action()
        with contextlib.suppress(OSError):
            result = action()
            if name == "open":  # the system closes what a dead process had open
                os.close(result) if isinstance(result, int) else result.close()
        self._dead = True
        raise Crash(f"after {name}, call {number}")

    # --- what the disk has not got yet -------------------------------------------------------------------------------
    def _opened(self, path: Any, descriptor: int) -> int:
        self._unsynced[os.fstat(descriptor).st_ino] = str(path)
        return descriptor

    def _file(self, path: Any, file: Any) -> Any:
        self._opened(path, file.fileno())
        return file

    def _synced(self, path: str, descriptor: int, real: Callable[[int], None]) -> None:
        real(descriptor)
        if os.path.isdir(path):
            self._undo = [(folder, undo) for folder, undo in self._undo if folder != path]
        else:
            self._unsynced.pop(os.fstat(descriptor).st_ino, None)

    def _renamed(self, source: str, target: str, real: Callable[[str, str], None]) -> None:
        before = Path(target).read_bytes() if os.path.exists(target) else None
        inode = os.stat(source).st_ino
        real(source, target)
        if inode in self._unsynced:
            self._unsynced[inode] = target

        def undo() -> None:
            if before is None:
                Path(target).unlink(missing_ok=True)
            else:
                Path(target).write_bytes(before)

        self._undo.append((str(Path(target).parent), undo))

    def _removed(self, path: str, real: Callable[[str], None]) -> None:
        before = Path(path).read_bytes()
        real(path)

        def undo() -> None:
            Path(path).write_bytes(before)

        self._undo.append((str(Path(path).parent), undo))

    def _lose(self) -> None:
        if self._cut is Cut.KILLED:
            return
        for path in self._unsynced.values():
            if os.path.isfile(path):
                content = Path(path).read_bytes()
                Path(path).write_bytes(content[: len(content) // 2])
        if self._cut is Cut.POWER:
            for folder, undo in reversed(self._undo):
                if os.path.isdir(folder):
                    undo()
