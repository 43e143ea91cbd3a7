"""Time as a dependency: production code asks a Clock, tests own one.

`now` is wall time (UTC) and only ever labels things; durations come from `monotonic`, which no NTP step can bend.
"""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the code needs of time: a label, a duration, and a pause."""

    def now(self) -> datetime:
        """Wall time, timezone-aware, UTC."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, never going back."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """See Clock."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """See Clock."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """See Clock."""
        time.sleep(seconds)
