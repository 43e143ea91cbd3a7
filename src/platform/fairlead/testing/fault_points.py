"""Named points at which a real process kills itself, so that a test decides where a rollout is cut off.

A point is ``before`` or ``after``, what is written, and the how manieth such write of the process: ``after:put:3`` is
the moment after the third release was handed to the servers. It stands in the environment as FAIRLEAD_FAULT.
"""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from fairlead.errors import UsageError
from fairlead.records.release import Release
from fairlead.store.protocol import Store

VARIABLE = "FAIRLEAD_FAULT"
SURFACES = ("record", "lease", "release", "registry", "put", "tell")
_PREFIXES = (("rollouts/", "record"), ("releases/", "release"), ("registry/", "registry"))

T = TypeVar("T")


def surface_of(key: str) -> str:
    """What is written under a key of the store: one of SURFACES, "" for anything else."""
    if key.startswith("rollouts/") and "/hosts/" in key:
        return "lease"
    return next((surface for prefix, surface in _PREFIXES if key.startswith(prefix)), "")


@dataclass
class FaultPoint:
    """Kills this process at the named point. Counts on."""

    when: str = ""
    surface: str = ""
    number: int = 0
    seen: int = 0

    @classmethod
    def from_environment(cls) -> "FaultPoint":
        """The point that FAIRLEAD_FAULT names; one that is never reached without it. Raises UsageError."""
        named = os.environ.get(VARIABLE, "")
        if not named:
            return cls()
        when, _, rest = named.partition(":")
        surface, _, number = rest.partition(":")
        if when not in ("before", "after") or surface not in SURFACES or not number.isdigit() or number == "0":
            raise UsageError(
                f"{VARIABLE}={named} names no fault point", fix=f"before|after:{'|'.join(SURFACES)}:NUMBER, from 1"
            )
        return cls(when, surface, int(number))

    def write(self, surface: str, effect: Callable[[], T]) -> T:
        """Do `effect`, and die before or after it when this is the point."""
        here = surface == self.surface
        self.seen += here
        if here and self.seen == self.number and self.when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = effect()
        if here and self.seen == self.number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result


class KillingStore:
    """A store whose writes pass a fault point."""

    def __init__(self, inner: Store, point: FaultPoint) -> None:
        self._inner, self._point = inner, point

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def create(self, key: str, data: bytes) -> str:
        """A write."""
        return self._point.write(surface_of(key), lambda: self._inner.create(key, data))

    def replace(self, key: str, data: bytes, version: str) -> str:
        """A write."""
        return self._point.write(surface_of(key), lambda: self._inner.replace(key, data, version))

    def write(self, key: str, data: bytes) -> None:
        """A write."""
        self._point.write(surface_of(key), lambda: self._inner.write(key, data))


class KillingApi:
    """A client of the servers whose writes pass a fault point."""

    def __init__(self, inner: Any, point: FaultPoint) -> None:
        self._inner, self._point = inner, point

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def put_release(self, release: Release) -> object:
        """A write."""
        return self._point.write("put", lambda: self._inner.put_release(release))
