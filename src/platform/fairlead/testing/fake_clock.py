"""A clock that a test owns: time passes when somebody sleeps, or when the test says so."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(2030, 1, 1, tzinfo=UTC)


class FakeClock:
    """Wall and monotonic time that move together, except for `set_wall_back`. `on_advance` is called with the seconds
    that passed, which is how fakes of other systems live through the same time."""

    def __init__(self, start: datetime = _EPOCH) -> None:
        self._wall, self._monotonic = start, 0.0
        self._listeners: list[Callable[[float], None]] = []

    def now(self) -> datetime:
        """Wall time, UTC."""
        return self._wall

    def monotonic(self) -> float:
        """Seconds since this clock was made."""
        return self._monotonic

    def sleep(self, seconds: float) -> None:
        """Let time pass, at once."""
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Let time pass for everybody who listens."""
        if seconds < 0:
            raise ValueError("time does not go back; see set_wall_back")
        self._wall += timedelta(seconds=seconds)
        self._monotonic += seconds
        for listener in self._listeners:
            listener(seconds)

    def set_wall_back(self, seconds: float) -> None:
        """What an NTP step does: the label of now changes, durations do not."""
        self._wall -= timedelta(seconds=seconds)

    def on_advance(self, listener: Callable[[float], None]) -> None:
        """Call `listener` with the seconds whenever time passed."""
        self._listeners.append(listener)
