"""A newer candidate while a rollout is open: it waits for its end, or takes its place. Which, is declared.

queue      waits until the open rollout has ended, and begins then, against whoever is champion then. Of several that
           wait, one begins, and the others go on waiting.
supersede  the open rollout is ended by a command, like a person's: a candidate that is being tried is rolled back; one
           that was promoted and is being watched stays champion, and the watch ends. Then the newer one begins.

Nothing of this needs a record of its own: a command is durable in the record of the open rollout, and who is killed
while waiting leaves nothing behind.
"""

from collections.abc import Callable
from typing import Literal

from fairlead.clock import Clock
from fairlead.deploy.rollout.lease import LeaseWatch
from fairlead.deploy.rollout.start import open_rollout, send_command
from fairlead.deploy.rollout.tally import counting_phase
from fairlead.errors import RolloutError
from fairlead.records.release import Arm
from fairlead.records.rollout import Phase, RolloutRecord
from fairlead.store import Store

Newer = Literal["queue", "supersede"]
LOOK_SECONDS = 0.5

_ENDING = frozenset({Phase.PROMOTING, Phase.ABORTING, Phase.PROMOTED, Phase.ABORTED})


def make_way(
    store: Store,
    model: str,
    candidate: Arm,
    policy: Newer,
    by: str,
    clock: Clock,
    *,
    host: Callable[[RolloutRecord], object],
    on_wait: Callable[[RolloutRecord], None] = lambda record: None,
) -> None:
    """Return when no rollout of another candidate is open. `host` hosts a superseded rollout that nobody hosts, until
    it has ended; `on_wait` hears at each look what is waited for. Raises StoreError."""
    watch: LeaseWatch | None = None
    while (record := open_rollout(store, model)) is not None and record.candidate.digest != candidate.digest:
        if watch is None or watch.rollout != record.id:
            watch = LeaseWatch(store, model, record.id, clock)
        on_wait(record)
        if policy == "supersede":
            supersede(store, record, candidate, by)
            if watch.host() is None:
                host(record)
                continue
        clock.sleep(LOOK_SECONDS)


def supersede(store: Store, record: RolloutRecord, candidate: Arm, by: str) -> None:
    """Leave the command that ends `record` for `candidate`; nothing happens while it ends already."""
    if record.phase in _ENDING or record.command == "abort":
        return
    command = "promote" if counting_phase(record) is Phase.WATCHING else "abort"
    try:
        send_command(store, record.model, record.id, command, f"{by} (for version {candidate.version})")
    except RolloutError:
        return  # it went on meanwhile, or has another command to take up: the next look sees
