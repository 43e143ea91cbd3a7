"""How a step tells the terminal where it is: JSON lines in the run's folder that `fairlead run` follows."""

import contextlib
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

_MIN_INTERVAL_SECONDS = 0.1
_MIN_TOLD_SECONDS = 1.0


class StepProgress:
    """Writes one line per event, at most ten a second; the last message of a burst is never lost at `flush`.

    `tell` gets the newest event too, at most once a second: for those who cannot read the file."""

    def __init__(self, file: Path | None, step: str, tell: Callable[[bytes], None] | None = None) -> None:
        self._file, self._step, self._tell = file, step, tell
        self._last = self._last_told = 0.0
        self._pending: dict[str, object] | None = None
        self._lock = threading.Lock()
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)

    def __call__(self, message: str, share: float | None = None) -> None:
        """Say `message`; `share` of the step's work is done, 0 to 1, when known."""
        if self._file is None:
            return
        event: dict[str, object] = {"step": self._step, "message": message, "share": share}
        with self._lock:
            now = time.monotonic()
            if now - self._last < _MIN_INTERVAL_SECONDS:
                self._pending = event
                return
            self._last, self._pending = now, None
            self._write(event)

    def flush(self) -> None:
        """Write what was held back."""
        with self._lock:
            if self._pending is not None:
                self._write(self._pending)
                self._pending = None

    def _write(self, event: dict[str, object]) -> None:
        line = json.dumps(event) + "\n"
        if self._file is not None:
            # A full disk fails the work, not the talk about it.
            with contextlib.suppress(OSError), self._file.open("a", encoding="utf-8") as file:
                file.write(line)
        if self._tell is not None and time.monotonic() - self._last_told >= _MIN_TOLD_SECONDS:
            self._last_told = time.monotonic()
            self._tell(line.encode())
