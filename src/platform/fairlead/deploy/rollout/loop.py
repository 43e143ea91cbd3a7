"""The only loop: re-read the record, look at the world, step, write the record, act.

Whatever moment the process dies at, another run of the loop goes on from the durable record: a decision is written
before anything is done about it, and everything that is done can be done twice. Who else may be at work:

- a person leaves a command in the record, by compare-and-swap: the loop finds it at its next look;
- another controller changes the record: the loop stops with StaleGeneration, having changed nothing;
- a controller that slept through all that acts on an old generation: the servers refuse it.
"""

import random
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from fairlead.clock import Clock
from fairlead.deploy.rollout.actions import Action, Effects, Notify, Promote, Retire, SetTraffic
from fairlead.deploy.rollout.engine import step
from fairlead.deploy.rollout.lease import Heartbeat
from fairlead.deploy.rollout.start import parse_record, read_record, record_key
from fairlead.deploy.rollout.wishes import settled
from fairlead.errors import FairleadError, RolloutError, StaleGeneration, StoreError, VersionConflict
from fairlead.logs import get_logger
from fairlead.records.codec import to_json
from fairlead.records.rollout import Observation, Phase, RolloutRecord
from fairlead.store import Store

logger = get_logger(__name__)

SHORTEST_TICK_SECONDS = 0.1
LONGEST_TICK_SECONDS = 2.0
REQUESTS_PER_TICK = 3.0
"""Candidate requests that may arrive between two looks: what a broken candidate is given for the loop's own pace."""
PROGRESS_SECONDS = 1.0
"""Age of the written progress from which it is written again. Decisions are written at once."""
REPEAT_SECONDS = 2.0
"""How long the servers may take to converge before they are told the same again."""
_LONGEST_BACKOFF_SECONDS = 5.0
_FLUSHES = 3

Observe = Callable[[RolloutRecord], Observation]
OnTick = Callable[[RolloutRecord, Observation], None]


class RolloutLoop:
    """Hosts one rollout until it ends.

    `observe` reads the world and never changes it; what it cannot read it puts into `Observation.error`, or raises as a
    FairleadError. `name` says to people where this host runs, `holder` is unique to this run (default: a new uuid).
    """

    def __init__(
        self,
        store: Store,
        effects: Effects,
        observe: Observe,
        clock: Clock,
        *,
        model: str,
        rollout: str,
        name: str = "this process",
        exclusive: bool = True,
        holder: str = "",
    ) -> None:
        self._store, self._effects, self._observe, self._clock = store, effects, observe, clock
        self._model, self._rollout = model, rollout
        self._holder = holder or uuid.uuid4().hex
        self._heartbeat = Heartbeat(store, model, rollout, clock, self._holder, name) if exclusive else None
        self._record: RolloutRecord | None = None
        self._durable: RolloutRecord | None = None
        self._version = ""
        self._written_at: float | None = None
        self._effect_error = ""
        self._failures = self._tries = 0
        self._tried, self._retry_at = 0, 0.0
        # Wall time is read once: a clock that is set while the loop runs bends no deadline.
        self._wall, self._start = clock.now(), clock.monotonic()
        self._jitter = random.Random(self._holder)

    # --- running -----------------------------------------------------------------------------------------------------
    def run(
        self,
        *,
        on_tick: OnTick | None = None,
        stop_when_paused: bool = True,
        timeout_seconds: float | None = None,
        until: Callable[[RolloutRecord], bool] | None = None,
        outwait: bool = False,
    ) -> RolloutRecord:
        """Tick until the rollout has ended and the servers confirmed it, until it is paused (unless told otherwise), or
        until `until` holds. `outwait`: a lease that a dead host left behind is waited for. Raises RolloutError after
        `timeout_seconds`, or when another host is at work, and StaleGeneration when another controller took over."""
        deadline = None if timeout_seconds is None else self._clock.monotonic() + timeout_seconds
        try:
            while True:
                if outwait and self._record is None:
                    self._outwait()
                record, observation = self._attempt()
                if record is not None and observation is not None:
                    if on_tick is not None:
                        on_tick(record, observation)
                    if self._is_over(record, stop_when_paused, until):
                        return self._flushed(record)
                if deadline is not None and self._clock.monotonic() >= deadline:
                    raise RolloutError(
                        f"rollout {self._rollout} has not ended after {timeout_seconds:g} s",
                        why=record.status if record is not None else self._effect_error,
                        fix="Run the same command again: it goes on where it was.",
                    )
                self._clock.sleep(self._pause_seconds(record, observation))
        finally:
            self._give_back()

    def _outwait(self) -> None:
        if self._heartbeat is not None:
            try:
                self._heartbeat.outwait()
            except StoreError as error:  # the first look takes the lease, or says the same
                logger.warning("rollout %s: the lease cannot be read or written: %s", self._rollout, error.what)

    def follow_command(self, timeout_seconds: float = 60.0) -> RolloutRecord:
        """Host the loop just long enough for a command in the record to be taken up and confirmed by the servers: for
        commands while nobody hosts it."""
        return self.run(
            stop_when_paused=False,
            outwait=True,
            timeout_seconds=timeout_seconds,
            until=lambda record: (
                not record.command
                and record.phase not in (Phase.PROMOTING, Phase.ABORTING)
                and record.applied_generation == record.release_generation
            ),
        )

    def _attempt(self) -> tuple[RolloutRecord | None, Observation | None]:
        try:
            record, observation = self.tick()
        except (StoreError, VersionConflict) as error:
            # Whether a write that failed took effect is seen when the record is read again.
            logger.warning("rollout %s: the store failed, trying again: %s", self._rollout, error.what)
            self._failures += 1
            return None, None
        self._failures = self._failures + 1 if observation.error else 0
        return record, observation

    def _flushed(self, record: RolloutRecord) -> RolloutRecord:
        """Leave what was told in the record, so that the next host does not tell it again."""
        for failures in range(1, _FLUSHES + 1):
            try:
                self._keep(self._record or record, due=True)
                break
            except StoreError as error:
                logger.warning("rollout %s: the last progress was not written: %s", self._rollout, error.what)
            self._clock.sleep(_backoff(failures))
            try:
                self._read()
            except (StoreError, StaleGeneration):
                break
        return self._record or record

    def _is_over(
        self, record: RolloutRecord, stop_when_paused: bool, until: Callable[[RolloutRecord], bool] | None
    ) -> bool:
        told = record.notified >= len(record.decisions)
        if settled(record):
            return told
        if until is not None and until(record):
            return True
        return stop_when_paused and record.phase is Phase.PAUSED and not record.command and told

    def _pause_seconds(self, record: RolloutRecord | None, observation: Observation | None) -> float:
        if self._failures:
            return _backoff(self._failures) * (0.5 + 0.5 * self._jitter.random())
        return tick_seconds(record, observation) if record is not None and observation is not None else 0.0

    # --- one look ----------------------------------------------------------------------------------------------------
    def tick(self) -> tuple[RolloutRecord, Observation]:
        """One look: read, observe, step, write, act. Raises StoreError when the record cannot be read or written (then
        nothing was done), StaleGeneration when another controller is in charge."""
        if self._heartbeat is not None:
            self._heartbeat.renew()
        before = self._read()
        observation = self._look(before)
        record, actions = step(before, observation, self._now())
        self._keep(record)
        self._act(record, actions)
        return self._record or record, observation

    def _now(self) -> datetime:
        return self._wall + timedelta(seconds=self._clock.monotonic() - self._start)

    def _read(self) -> RolloutRecord:
        data, version = read_record(self._store, self._model, self._rollout)
        if self._record is not None and version == self._version:
            return self._record
        stored = parse_record(self._store, self._model, self._rollout, data)
        if self._record is None:
            self._record = self._taken_up(stored)
        elif self._durable is not None and _only_command_differs(self._durable, stored):
            self._record = replace(self._record, command=stored.command, command_by=stored.command_by)
        elif stored.writer == self._holder:
            # Our own write, whose answer was lost or which came late, with or without a command on top.
            self._record = replace(stored, notified=max(stored.notified, self._record.notified))
        else:
            raise StaleGeneration(
                f"another controller is in charge of rollout {self._rollout}: it wrote generation {stored.generation}",
                where=self._store.url(record_key(self._model, self._rollout)),
            )
        self._durable, self._version = stored, version
        return self._record

    def _taken_up(self, stored: RolloutRecord) -> RolloutRecord:
        """Time in a record never goes back, whatever the clock of the next host says."""
        if stored.updated_at:
            self._wall = max(self._wall, datetime.fromisoformat(stored.updated_at))
        return replace(stored, hosted_since=self._now().isoformat(), trouble_since="")

    def _look(self, record: RolloutRecord) -> Observation:
        try:
            observation = self._observe(record)
        except FairleadError as error:
            observation = Observation(None, False, None, None, None, error=error.what)
        if self._effect_error:  # not an error of the observation: evidence stays evidence while an effect fails
            note = "; ".join(part for part in (observation.note, self._effect_error) if part)
            observation = replace(observation, note=note)
        return observation

    def _keep(self, record: RolloutRecord, *, due: bool = False) -> None:
        """Write what must not be lost at once, and progress now and then (or when it is `due`)."""
        durable = self._durable
        now = self._clock.monotonic()
        due = due or self._written_at is None or now - self._written_at >= PROGRESS_SECONDS
        if durable is None or _must_write(durable, record) or (due and record != durable):
            record = replace(record, updated_at=self._now().isoformat(), writer=self._holder)
            self._version = self._store.replace(record_key(self._model, self._rollout), to_json(record), self._version)
            self._durable, self._written_at = record, now
        self._record = record

    # --- acting ------------------------------------------------------------------------------------------------------
    def _act(self, record: RolloutRecord, actions: tuple[Action, ...]) -> None:
        blocked = self._clock.monotonic() < self._retry_at and record.release_generation == self._tried
        mute = False
        for action in actions:
            if isinstance(action, Notify):
                mute = mute or not self._try(record, action)  # in order: what was not told is told first
            elif not blocked:
                # What follows relies on what failed, and waits with it.
                blocked = not self._try(record, action)

    def _try(self, record: RolloutRecord, action: Action) -> bool:
        """Do one action; True when it was done. A failure is tried again, at growing intervals."""
        try:
            self._do(record, action)
        except StaleGeneration as error:
            self._read()  # raises when another controller wrote the record: then it is in charge
            problem = error.what  # else somebody spoke to the servers directly: the next look shows what
        except FairleadError as error:
            problem = error.what
        else:
            if not isinstance(action, Notify):
                # The servers get time to converge before they are told the same again.
                self._effect_error, self._tries = "", 0
                self._tried, self._retry_at = record.release_generation, self._clock.monotonic() + REPEAT_SECONDS
            return True
        logger.warning("rollout %s: %s failed, trying again: %s", self._rollout, type(action).__name__, problem)
        if not isinstance(action, Notify):
            self._tries = self._tries + 1 if self._tried == record.release_generation else 1
            self._effect_error, self._tried = problem, record.release_generation
            self._retry_at = self._clock.monotonic() + _backoff(self._tries)
        return False

    def _do(self, record: RolloutRecord, action: Action) -> None:
        known = self._record if self._record is not None else record
        if isinstance(action, SetTraffic):
            self._effects.set_traffic(action.release)
        elif isinstance(action, Promote):
            self._effects.promote(record)
            self._record = replace(known, effects_generation=action.generation)
        elif isinstance(action, Retire):
            self._effects.retire(record)
            self._record = replace(known, effects_generation=action.generation)
        else:
            self._effects.notify(record, action.decision)
            self._record = replace(known, notified=action.number + 1)

    def _give_back(self) -> None:
        if self._heartbeat is not None:
            try:
                self._heartbeat.give_back()
            except StoreError as error:
                logger.warning("rollout %s: the lease runs out by itself: %s", self._rollout, error.what)


def _backoff(failures: int) -> float:
    return min(_LONGEST_BACKOFF_SECONDS, SHORTEST_TICK_SECONDS * 2.0 ** min(failures, 10))


def tick_seconds(record: RolloutRecord, observation: Observation) -> float:
    """How long to wait until the next look: short while a candidate answers users, so that a broken one gets few of
    their requests, longer where little happens."""
    if record.phase is Phase.PAUSED and record.weight == 0:
        return LONGEST_TICK_SECONDS
    if record.applied_generation != record.release_generation or record.phase is Phase.STARTING:
        return 2 * SHORTEST_TICK_SECONDS
    share = max(record.weight, record.shadow_percent / 10) / 100
    arriving = observation.requests_per_second * share
    wanted = REQUESTS_PER_TICK / arriving if arriving > 0 else LONGEST_TICK_SECONDS / 2
    return min(max(wanted, SHORTEST_TICK_SECONDS), LONGEST_TICK_SECONDS / 2)


def _only_command_differs(ours: RolloutRecord, stored: RolloutRecord) -> bool:
    return replace(stored, command=ours.command, command_by=ours.command_by) == ours


def _must_write(durable: RolloutRecord, record: RolloutRecord) -> bool:
    """True for what a restart must find: decisions, generations, confirmations, commands taken, sums carried over."""
    return (
        durable.generation != record.generation
        or durable.release_generation != record.release_generation
        or durable.applied_generation != record.applied_generation
        or durable.effects_generation != record.effects_generation
        or len(durable.decisions) != len(record.decisions)
        or durable.command != record.command
        or durable.failed != record.failed
        or (durable.carried != record.carried and record.phase is not Phase.STARTING)
    )
