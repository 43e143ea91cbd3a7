"""Summaries of files that were looked at before, by the digest of the file and of what was asked."""

import hashlib
import os
from pathlib import Path

from fairlead.atomic import write_atomic
from fairlead.data.summary.table import FORMAT, TableSummary

FOLDER = Path(".fairlead") / "cache" / "summaries"
MAX_BYTES = 1024 * 2**20


class SummaryCache:
    """A folder of the project's local state: one file each, replaced whole, its digest before it. What cannot be read,
    or is not what was written, is made again."""

    def __init__(self, base: Path, question: str) -> None:
        self.folder = base / FOLDER
        self._question = question
        self.found = 0

    def _path(self, digest: str) -> Path:
        key = hashlib.sha256(f"{FORMAT} {digest} {self._question}".encode()).hexdigest()
        return self.folder / f"{key}.json"

    def get(self, digest: str) -> TableSummary | None:
        """The summary of the file with this content, None when there is none."""
        try:
            written, _, content = self._path(digest).read_bytes().partition(b"\n")
            if written != _digest(content):
                return None
            summary = TableSummary.from_json(content)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        self.found += 1
        return summary

    def put(self, digest: str, summary: TableSummary) -> None:
        """Keep it. A read-only project folder costs time, not correctness."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            content = summary.to_json()
            write_atomic(self._path(digest), _digest(content) + b"\n" + content)
        except OSError:
            pass

    def prune(self, max_bytes: int = MAX_BYTES) -> None:
        """Remove the oldest until the folder takes at most `max_bytes`."""
        try:
            entries = sorted((e.stat().st_mtime_ns, e.stat().st_size, e.path) for e in os.scandir(self.folder))
            total = sum(size for _, size, _ in entries)
            for _, size, path in entries:
                if total <= max_bytes:
                    return
                os.unlink(path)
                total -= size
        except OSError:
            pass


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
