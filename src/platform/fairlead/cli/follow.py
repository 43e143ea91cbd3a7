"""Telling on the terminal what a step that runs in this process says of its progress."""

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path

from fairlead.cli.output import say

_LOOK_SECONDS = 0.5
_EVERY_LOOKS = 10


@contextlib.contextmanager
def told_progress(file: Path) -> Iterator[None]:
    """While the block runs, say the newest message of a run's ``progress.jsonl``: a new one at most every 5 s."""
    ended = threading.Event()
    thread = threading.Thread(target=_follow, args=(file, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _follow(file: Path, ended: threading.Event) -> None:
    said, looks = "", 0
    while not ended.wait(_LOOK_SECONDS):
        looks += 1
        if looks % _EVERY_LOOKS:
            continue
        newest = _newest(file)
        if newest and newest != said:
            say(newest)
            said = newest


def _newest(file: Path) -> str:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
        event = json.loads(lines[-1])
    except (OSError, ValueError, IndexError):
        return ""
    share = event.get("share")
    done = f"  {share:.0%}" if share is not None else ""
    return f"  {event['step']:<9} {event['message']}{done}"
