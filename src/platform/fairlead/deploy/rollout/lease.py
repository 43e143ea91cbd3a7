"""Who hosts the loop of a rollout: a heartbeat beside the record, so that a command finds out whether anybody listens.

The lease saves two hosts from doing the same work; it does not protect the rollout. That is done by compare-and-swap on
the record and by generations on the release, and holds when clocks of machines differ and when a host sleeps.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from fairlead.clock import Clock
from fairlead.errors import KeyExists, KeyMissing, RolloutError, VersionConflict
from fairlead.records.codec import from_json, to_json
from fairlead.store import Store

LEASE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Lease:
    """`holder` is unique to one run of one loop, `name` says to people where it runs."""

    holder: str
    name: str
    until: str


def lease_key(model: str, rollout: str) -> str:
    """Beside the records, below a folder of their own."""
    return f"rollouts/{model}/hosts/{rollout}.json"


def host_of(store: Store, model: str, rollout: str, clock: Clock) -> Lease | None:
    """The host whose heartbeat is fresh, or None."""
    try:
        lease = from_json(Lease, store.read(lease_key(model, rollout)))
    except KeyMissing:
        return None
    return lease if datetime.fromisoformat(lease.until) > clock.now() else None


class Heartbeat:
    """One host's lease: taken at the start, renewed while it runs, given back at the end."""

    def __init__(self, store: Store, model: str, rollout: str, clock: Clock, holder: str, name: str) -> None:
        self._store, self._clock = store, clock
        self._key = lease_key(model, rollout)
        self._rollout, self._holder, self._name = rollout, holder, name
        self._renewed: float | None = None

    def renew(self, *, force: bool = False) -> None:
        """Take or keep the lease. Raises RolloutError when somebody else holds a fresh one."""
        now = self._clock.monotonic()
        if not force and self._renewed is not None and now - self._renewed < LEASE_SECONDS / 3:
            return None
        until = (self._clock.now() + timedelta(seconds=LEASE_SECONDS)).isoformat()
        mine = to_json(Lease(self._holder, self._name, until))
        try:
            data, version = self._store.read_versioned(self._key)
            lease = from_json(Lease, data)
            if lease.holder != self._holder and datetime.fromisoformat(lease.until) > self._clock.now():
                raise RolloutError(
                    f"rollout {self._rollout} is hosted by {lease.name}",
                    fix="Commands reach it there; it is free some 10 s after that process ends.",
                )
            self._store.replace(self._key, mine, version)
        except KeyMissing:
            try:
                self._store.create(self._key, mine)
            except KeyExists:
                return self.renew(force=True)
        except VersionConflict:
            return self.renew(force=True)
        self._renewed = now
        return None

    def give_back(self) -> None:
        """End the lease, when it is still ours."""
        try:
            data, version = self._store.read_versioned(self._key)
            lease = from_json(Lease, data)
            if lease.holder == self._holder:
                ended = Lease(self._holder, self._name, self._clock.now().isoformat())
                self._store.replace(self._key, to_json(ended), version)
        except (KeyMissing, VersionConflict):
            pass
