"""What a pod does when it is told to leave, before it is stopped: ``python -m fairlead.serve.leaving SECONDS``.

New connections go elsewhere as soon as Kubernetes has told its proxies, but clients keep theirs. Half of the time they
are answered as ever; then HAProxy is asked to end by itself: it answers what it has, and closes what is idle. Where no
HAProxy runs, it only waits.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path


def leave(
    seconds: float,
    *,
    processes: Path = Path("/proc"),
    sleep: Callable[[float], None] = time.sleep,
    kill: Callable[[int, int], None] = os.kill,
) -> list[int]:
    """Take `seconds`, and give the processes that were asked to end."""
    sleep(seconds / 2)
    asked = []
    for entry in processes.iterdir():
        if entry.name.isdigit() and _name(entry) == "haproxy":
            try:
                kill(int(entry.name), signal.SIGUSR1)
            except (ProcessLookupError, PermissionError):
                continue
            asked.append(int(entry.name))
    sleep(seconds / 2)
    return asked


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:  # it ended meanwhile
        return ""


if __name__ == "__main__":
    leave(float(sys.argv[1]))
