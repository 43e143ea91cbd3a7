"""Live progress: an event, and the side file through which a worker's events reach the driver.

Reports of Ray Train are barriers with a polling cost; a file that one worker appends to and the driver follows costs
the training nothing.
"""

import dataclasses
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fairlead.logs import get_logger

_log = get_logger(__name__)

Tell = Callable[["TrainProgress"], None]


@dataclass(frozen=True, slots=True)
class TrainProgress:
    """Where training is. `phase`: start, preflight, train, twin, export, done. `steps` and `epochs` are those of the
    network that is being trained; `share` is of the whole fit, 0 to 1."""

    phase: str
    share: float
    step: int = 0
    steps: int = 0
    epoch: int = 0
    epochs: int = 0
    loss: float | None = None
    learning_rate: float | None = None
    rows_per_second: float | None = None
    eta_seconds: float | None = None
    note: str = ""

    def sentence(self) -> str:
        """One line for a person."""
        if self.note:
            return self.note
        if self.phase in ("train", "twin"):
            what = "training" if self.phase == "train" else "training again with another seed"
            parts = [f"{what}: epoch {self.epoch} of {self.epochs}, step {self.step:,} of {self.steps:,}"]
            if self.loss is not None:
                parts.append(f"loss {self.loss:.4f}")
            if self.rows_per_second:
                parts.append(f"{self.rows_per_second:,.0f} rows/s")
            if self.eta_seconds is not None:
                parts.append(f"{self.eta_seconds:.0f} s left")
            return ", ".join(parts)
        return {
            "start": "starting workers",
            "preflight": "checking that the network can learn one batch",
            "export": "exporting to ONNX and comparing with PyTorch",
            "done": "trained",
        }.get(self.phase, self.phase)


class SideFile:
    """Appends events as JSON lines; `due` keeps `min_interval` seconds between them, so that fast steps do not pay."""

    def __init__(self, path: Path, min_interval: float = 0.2) -> None:
        self._path, self._interval = path, min_interval
        self._last = float("-inf")
        path.parent.mkdir(parents=True, exist_ok=True)

    def due(self) -> bool:
        """Whether an event would be written now."""
        return time.monotonic() - self._last >= self._interval

    def __call__(self, event: TrainProgress) -> None:
        self._last = time.monotonic()
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dataclasses.asdict(event)) + "\n")


class Follower:
    """Passes the events that appear in a side file on to `tell`, from a thread of its own, until closed."""

    def __init__(self, path: Path, tell: Tell, poll_seconds: float = 0.1) -> None:
        self._path, self._tell, self._poll = path, tell, poll_seconds
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="fairlead-train-progress", daemon=True)
        self._offset = path.stat().st_size if path.exists() else 0

    def __enter__(self) -> "Follower":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()

    def _follow(self) -> None:
        while True:
            last_look = self._closing.is_set()
            self._read_new()
            if last_look:
                return
            self._closing.wait(self._poll)

    def _read_new(self) -> None:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            new = file.read()
        complete = new[: new.rfind(b"\n") + 1]  # a line that is still being written waits for the next look
        self._offset += len(complete)
        for line in complete.splitlines():
            try:
                event = TrainProgress(**json.loads(line))
            except (ValueError, TypeError):
                _log.debug("progress line not understood: %r", line[:200])
                continue
            self._tell(event)
