"""Who hosts the loop of a rollout: a heartbeat beside the record, so that a command finds out whether anybody listens.

The lease saves two hosts from doing the same work; it does not protect the rollout. That is done by compare-and-swap on
the record, generations on the release and the fence in the registry, and holds when clocks of machines differ and when
a host sleeps.

A lease has ended when its time is over, or when a watcher saw it unchanged for its whole length by a clock that nobody
sets: the wall clocks of two machines may differ by an hour, and one may be set back while its host is dead.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from fairlead.clock import Clock
from fairlead.errors import KeyExists, KeyMissing, RolloutError, VersionConflict
from fairlead.records.codec import from_json, to_json
from fairlead.store import Store

LEASE_SECONDS = 10.0
LOOK_SECONDS = 0.2
"""How often somebody who waits for a lease looks at it."""


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
    """The host whose heartbeat is fresh by this machine's wall clock, or None. `LeaseWatch` knows more than a look."""
    try:
        lease = from_json(Lease, store.read(lease_key(model, rollout)))
    except KeyMissing:
        return None
    return lease if datetime.fromisoformat(lease.until) > clock.now() else None


class LeaseWatch:
    """Watches one lease for as long as it takes to tell a dead host from a living one. `rollout` is whose, `seen` what
    it was last."""

    def __init__(self, store: Store, model: str, rollout: str, clock: Clock) -> None:
        self._store, self._model, self.rollout, self._clock = store, model, rollout, clock
        self.seen: Lease | None = None
        self._since = 0.0

    def host(self) -> Lease | None:
        """The host as far as this watch can tell: None once its lease has ended."""
        lease = host_of(self._store, self._model, self.rollout, self._clock)
        return None if lease is None or self.ended(lease) else lease

    def ended(self, lease: Lease) -> bool:
        """True when `lease` stayed as it is for its whole length while this watch looked."""
        now = self._clock.monotonic()
        if lease != self.seen:
            self.seen, self._since = lease, now
        return now - self._since >= LEASE_SECONDS


class Heartbeat:
    """One host's lease: taken at the start, renewed while it runs, given back at the end."""

    def __init__(self, store: Store, model: str, rollout: str, clock: Clock, holder: str, name: str) -> None:
        self._store, self._clock = store, clock
        self._key = lease_key(model, rollout)
        self._rollout, self._holder, self._name = rollout, holder, name
        self._watch = LeaseWatch(store, model, rollout, clock)
        self._renewed: float | None = None

    def outwait(self) -> None:
        """Take the lease, waiting for the end of one that a dead host left behind. Raises RolloutError when its host
        lives: when it is renewed meanwhile."""
        first: Lease | None = None
        while True:
            try:
                return self.renew(force=True)
            except RolloutError:
                found = self._watch.seen
                if first is not None and found != first:
                    raise
                first = found
            self._clock.sleep(LOOK_SECONDS)

    def renew(self, *, force: bool = False) -> None:
        """Take or keep the lease. Raises RolloutError when somebody else holds a fresh one."""
        now = self._clock.monotonic()
        if not force and self._renewed is not None and now - self._renewed < LEASE_SECONDS / 3:
            return None
        until = (self._clock.now() + timedelta(seconds=LEASE_SECONDS)).isoformat()
        mine = to_json(Lease(self._holder, self._name, until))
        try:
            data, version = self._store.read_versioned(self._key)
            self._check_free(from_json(Lease, data))
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

    def _check_free(self, lease: Lease) -> None:
        over = datetime.fromisoformat(lease.until) <= self._clock.now()
        if lease.holder == self._holder or over or self._watch.ended(lease):
            return
        raise RolloutError(
            f"rollout {self._rollout} is hosted by {lease.name}",
            fix=f"Commands reach it there; it is free some {LEASE_SECONDS:.0f} s after that process ends.",
        )

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
