"""One write of a host goes wrong, in one of the ways in which a write can."""

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fairlead.errors import ClusterConflict, FairleadError, ServerUnreachable, StoreError

TIMEOUT_SECONDS = 4.0
LATE_SECONDS = 1.5


class Killed(BaseException):
    """The process is gone: nothing it would still do happens."""


class Way(enum.StrEnum):
    """How a write goes wrong.

    KILLED_BEFORE, KILLED_AFTER: the process dies before or after the effect.
    KILLED_INSIDE: it dies in the middle of one that is no single step (a `helm upgrade`).
    ERROR: refused at once, without effect.
    LOST: no effect, and no answer until the timeout (of a `helm upgrade` the first half: it is killed then).
    ORPHANED: the process dies, and the `helm` that it started goes on.
    REPLY_LOST: the effect, and no answer until the timeout.
    LATE: no answer until the timeout, and the effect some time after that.
    TWICE: delivered twice.
    DROPPED: answered as done, and forgotten (servers that restart, an event that is missed).
    """

    KILLED_BEFORE = "killed before"
    KILLED_AFTER = "killed after"
    KILLED_INSIDE = "killed inside"
    ERROR = "error"
    LOST = "lost"
    REPLY_LOST = "reply lost"
    LATE = "late"
    TWICE = "twice"
    DROPPED = "dropped"
    ORPHANED = "orphaned"


KILLS = frozenset({Way.KILLED_BEFORE, Way.KILLED_AFTER, Way.KILLED_INSIDE, Way.ORPHANED})
EVERYWHERE = tuple(way for way in Way if way not in (Way.KILLED_INSIDE, Way.DROPPED, Way.ORPHANED))
_SERVERS = frozenset({"put"})
_HELM = frozenset({"upgrade", "helm rollback"})


def ways_for(surface: str) -> tuple[Way, ...]:
    """In which ways a write to `surface` can go wrong."""
    if surface in _SERVERS:
        return (*EVERYWHERE, Way.DROPPED)
    if surface in _HELM:
        return (*(way for way in EVERYWHERE if way is not Way.LATE), Way.KILLED_INSIDE, Way.ORPHANED)
    return EVERYWHERE


@dataclass(frozen=True, slots=True)
class Fault:
    """Write number `at` (from 0) goes wrong in the given `way`."""

    at: int
    way: Way

    def __str__(self) -> str:
        return f"{self.at}:{self.way}"


class Time(Protocol):
    """What faults need of the world's clock."""

    def advance(self, seconds: float) -> None: ...

    def later(self, seconds: float, action: Callable[[], object]) -> None: ...


class Faults:
    """Counts the writes of all hosts, and spoils those that `faults` names. `log`: the surface of each write."""

    def __init__(self, clock: Time, faults: Sequence[Fault] = ()) -> None:
        self._clock = clock
        self._faults = {fault.at: fault.way for fault in faults}
        self.log: list[str] = []
        self.hooks: dict[int, Callable[[], None]] = {}

    def write(self, surface: str, effect: Callable[[], Any], inside: Callable[[], Any] | None = None) -> Any:
        """Do `effect`, or what is left of it. `inside` does the first half of one that is no single step."""
        number = len(self.log)
        self.log.append(surface)
        if number in self.hooks:
            self.hooks.pop(number)()
        way = self._faults.get(number)
        if way is None:
            return effect()
        if way is Way.KILLED_BEFORE:
            raise Killed
        if way is Way.KILLED_INSIDE:
            (inside or effect)()
            raise Killed
        if way is Way.ORPHANED:
            self._clock.later(LATE_SECONDS, lambda: _unheard(effect))
            raise Killed
        if way is Way.ERROR:
            raise _error(surface, "refused, on purpose")
        if way is Way.DROPPED and surface in _SERVERS:
            return None
        if way in (Way.LOST, Way.LATE):
            self._clock.advance(TIMEOUT_SECONDS)
            if inside is not None:
                inside()
            if way is Way.LATE:
                self._clock.later(LATE_SECONDS, lambda: _unheard(effect))
            raise _error(surface, "no answer, on purpose")
        result = effect()
        if way is Way.KILLED_AFTER:
            raise Killed
        if way is Way.REPLY_LOST:
            self._clock.advance(TIMEOUT_SECONDS)
            raise _error(surface, "no answer, on purpose")
        _unheard(effect)
        return result


def _unheard(effect: Callable[[], Any]) -> None:
    try:
        effect()
    except FairleadError:
        pass  # the answer reaches nobody


def _error(surface: str, why: str) -> FairleadError:
    if surface in _SERVERS:
        return ServerUnreachable(f"{surface}: {why}")
    return ClusterConflict(f"{surface}: {why}") if surface in _HELM else StoreError(f"{surface}: {why}")
