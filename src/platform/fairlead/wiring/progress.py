"""How a step tells the terminal where it is: JSON lines in the run's folder that `fairlead run` follows."""

import contextlib
import json
import threading
import time
from pathlib import Path

_MIN_INTERVAL_SECONDS = 0.1


class StepProgress:
    """Writes one line per event, at most ten a second; the last message of a burst is never lost at `flush`."""

    def __init__(self, file: Path | None, step: str) -> None:
        self._file, self._step = file, step
        self._last = 0.0
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
        if self._file is None:
            return
        # A full disk fails the work, not the talk about it.
        with contextlib.suppress(OSError), self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")
