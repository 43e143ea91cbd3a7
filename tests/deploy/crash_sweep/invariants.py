"""What must hold at every write and every look, and at the end.

At every write:
 1. There is one champion: the registry always names one, and the servers apply the same one except while a decision to
    promote or to roll back is recorded and under way.
 2. Traffic follows the record: a release that changes anything is the wish of the durable record, at its generation.
 3. The candidate's share is never above what the recorded step allows, and grows only while the candidate is ready.
 4. Once an abort is recorded, nothing gives the candidate traffic.
 5. The engine advances only on a recorded PASS of every metric that is required.
 6. Decisions are only added, each with a higher generation, each going on where the one before ended.
 7. No evidence is counted twice: the record never counts more calls or pairs than there were; and as long as no answer
    is stale and no server restarts, exactly those that the servers show.
 8. A controller that another one has taken over from changes nothing any more. The exception is Helm, which takes no
    generation: a revision that it was asked for before comes late, and the next one puts it right at once.
At the end:
 9. The end, the champion, the release and the way there (phases and weights) are those of a run without faults.
10. Registry, store and servers name the same champion; nothing of the rollout is left on the servers or in the aliases.
11. Each decision was told; none is told again unless a host was killed or an answer lost, and then with its generation,
    by which whoever listens knows it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson

from fairlead.deploy.rollout import tally
from fairlead.deploy.rollout.start import list_rollouts
from fairlead.deploy.rollout.verdicts import required
from fairlead.deploy.rollout.wishes import same_traffic, settled, wish
from fairlead.errors import FairleadError
from fairlead.records.codec import from_value
from fairlead.records.evidence import Verdict
from fairlead.records.release import Release
from fairlead.records.rollout import Decision, Phase, RolloutRecord
from fairlead.records.trial import BANDIT

if TYPE_CHECKING:
    from crash_sweep.world import World

_MOVING = frozenset({Phase.PROMOTING, Phase.ABORTING})
_PERSON = 0
_CONSTANT = ("plan", "champion", "candidate", "rollback_target")
_LEFT_OUT: dict[str, Any] = {"course": [], "last_metrics": [], "step_start": {}, "step_baseline": {}, "skew": []}
HELM = frozenset({"upgrade", "helm rollback"})


class Violation(AssertionError):
    """An invariant does not hold."""


def must(holds: bool, what: str) -> None:
    """Raise Violation unless `holds`."""
    if not holds:
        raise Violation(what)


@dataclass(frozen=True, slots=True)
class _Parsed:
    constant: dict[str, Any]
    told: list[Any]
    record: RolloutRecord


class Monitor:
    """Watches one world. `foreign`: somebody beside the rollout set the traffic, so the servers may differ from it."""

    def __init__(self, world: "World") -> None:
        self._world, self._folder = world, world.record_folder
        self.foreign = self.late = False
        self.exact = True
        self.told: Callable[[str], None] | None = None
        self._records: dict[str, RolloutRecord] = {}
        self._parsed: dict[str, bytes] = {}
        self._told: dict[str, _Parsed] = {}
        self._sums: dict[str, tuple[Any, Any]] = {}
        self._champion: tuple[bytes, int | None] = (b"", None)
        self._in_charge: dict[str, int] = {}
        self._deposed: set[int] = set()
        self._read_records()

    def begun(self) -> None:
        """Another rollout began."""
        self._read_records()

    def around(self, host: int, surface: str, effect: Callable[[], Any]) -> Any:
        """Do `effect` of `host`, and check what it changed."""
        world = self._world
        before = self._picture()
        ready = world.serving.ready
        wanted = world.serving.wanted
        try:
            result = effect()
        except FairleadError as error:
            self._tell(host, surface, f"{type(error).__name__}: {error.what}")
            raise
        self._tell(host, surface, "done")
        if surface == "tell":
            return result
        changed = self._picture() != before
        deposed = host in self._deposed
        must(not (changed and deposed) or surface in ("lease", *HELM), f"8: {surface} by host {host}, taken over from")
        if surface == "record":
            self._record_written(host)
        if surface in HELM:
            righted = self.late and (surface == "helm rollback" or self._as_recorded())
            self.late = deposed and not righted and not same_traffic(wanted, world.serving.wanted)
        if surface in ("put", "release", *HELM) and changed and not self.late:
            self._traffic_changed(wanted, ready, surface)
        self.champions()
        return result

    def _tell(self, host: int, surface: str, how: str) -> None:
        if self.told is not None:
            who = f"host {host}" if host else "person"
            generations = {record.id: record.generation for record in self._records.values()}
            self.told(f"{self._world.clock.monotonic():8.1f} s  {who} {surface:<8} {how}  (known: {generations})")

    def _as_recorded(self) -> bool:
        wanted = self._world.serving.wanted
        return wanted.rollout in self._records and same_traffic(wanted, wish(self._records[wanted.rollout]))

    def _picture(self) -> tuple[Any, ...]:
        world = self._world
        data = tuple((key, value) for key, value in world.objects.items() if "/hosts/" not in key)
        return data, world.serving.wanted

    # --- records -----------------------------------------------------------------------------------------------------
    def _read_records(self) -> list[str]:
        """Parse what changed; the ids of the rollouts that did."""
        changed = []
        for key, data in self._world.objects.items():
            prefix, _, name = key.rpartition("/")
            if prefix == self._folder and self._parsed.get(key) is not data and name[:-5].isdigit():
                self._parsed[key] = data
                record = self._parse(data)
                if self._records.get(record.id) != record:
                    before = self._records.get(record.id)
                    self._records[record.id] = record
                    if before is not None:
                        self._record_changed(before, record)
                    changed.append(record.id)
        return changed

    def _parse(self, data: bytes) -> RolloutRecord:
        """A record. What does not change or was parsed before is not parsed again; what decides nothing is left out."""
        value = orjson.loads(data) | _LEFT_OUT
        self._sums[value["id"]] = value.pop("carried"), value.pop("seen")
        before, told = self._told.get(value["id"]), value["decisions"]
        constant = {name: value[name] for name in _CONSTANT}
        if before is None or before.constant != constant or told[: len(before.told)] != before.told:
            record: RolloutRecord = from_value(RolloutRecord, value)
            self._told[record.id] = _Parsed(constant, told, record)
            return record
        value["decisions"] = told[len(before.told) :]
        fixed = {name: getattr(before.record, name) for name in _CONSTANT}
        record = from_value(RolloutRecord, value | dict.fromkeys(_CONSTANT))
        record = replace(record, **fixed, decisions=before.record.decisions + record.decisions)
        self._told[record.id] = _Parsed(constant, told, record)
        return record

    def _record_written(self, host: int) -> None:
        for rollout in self._read_records():
            if host == _PERSON:
                continue
            known = self._in_charge.get(rollout)
            if known is not None and known != host:
                self._deposed.add(known)
            self._in_charge[rollout] = host

    def _record_changed(self, before: RolloutRecord, record: RolloutRecord) -> None:
        old, new = before.decisions, record.decisions
        must(new[: len(old)] == old, "6: a decision was lost or changed")
        for earlier, later in zip(new[len(old) - 1 :], new[len(old) :], strict=False):
            must(later.generation > earlier.generation, "6: a generation did not grow")
            must(
                (later.phase_before, later.weight_before) == (earlier.phase_after, earlier.weight_after),
                "6: a decision does not go on where the one before ended",
            )
            self._justified(record, later)
        if (before.phase, before.weight, before.shadow_percent) != (record.phase, record.weight, record.shadow_percent):
            must(len(new) > len(old), "6: the record moved without a decision")
        must(record.generation >= before.generation, "6: the record's generation went back")
        must(record.release_generation <= record.generation, "6: a release generation above the record's")
        must(record.applied_generation <= record.release_generation, "6: confirmed what was never wished")
        must(record.notified >= before.notified, "11: what was told was forgotten")
        self._evidence(record)

    def _justified(self, record: RolloutRecord, decision: Decision) -> None:
        trial = record.plan.trial
        steps = record.plan.steps
        shared = trial is not None and trial.kind == BANDIT and decision.phase_after in (Phase.CANARY, Phase.PAUSED)
        if shared and trial is not None:
            floor = 100 * trial.floor
            must(floor <= decision.weight_after <= 100 - floor, f"3: {decision.weight_after:g} % is below a floor")
        else:
            allowed = {0.0, 100.0} if decision.phase_after is Phase.PROMOTING else {0.0, 100.0, *steps}
            must(decision.weight_after in allowed, f"3: {decision.weight_after:g} % is no step of the plan")
        forward = decision.phase_before in (Phase.SHADOW, Phase.CANARY) and (
            decision.phase_after is Phase.PROMOTING
            or (decision.phase_after is Phase.CANARY and decision.weight_after > decision.weight_before and not shared)
        )
        if forward and decision.actor == "engine":
            needed = [metric for metric in decision.metrics if required(metric)]
            passed = needed and all(metric.verdict is Verdict.PASS for metric in needed)
            must(bool(passed), f"5: {decision.phase_after} without a recorded PASS")

    def _evidence(self, record: RolloutRecord) -> None:
        serving, (carried, seen) = self._world.serving, self._sums[record.id]
        if seen is None:
            return
        ours, turned = (
            (record.champion.digest, record.candidate.digest),
            (record.candidate.digest, record.champion.digest),
        )
        calls, copies = serving.calls.get(record.candidate.digest, 0), serving.pairs.get(ours, 0)
        compared = copies + serving.pairs.get(turned, 0)

        def counted(*path: str) -> int:
            numbers = []
            for value in (carried, seen):
                for name in path:
                    value = value[name]
                numbers.append(int(value["n"]))
            return sum(numbers)

        candidate, champion = counted("candidate", "failures"), counted("champion", "failures")
        must(0 <= candidate <= calls, f"7: {candidate} calls counted of {calls}")
        must(champion >= 0, f"7: {champion} calls of the champion counted")
        for arm in ("champion", "candidate"):
            keys = sum(int((value[arm].get("keys") or {}).get("exposed", 0)) for value in (carried, seen))
            there = serving.keys.get(getattr(record, arm).digest, 0)
            must(0 <= keys <= there, f"7: {keys} keys of the {arm} counted of {there}")
        must(counted("pairs", "shadow_failures") <= copies, f"7: more copies counted than the {copies} that were")
        must(counted("pairs", "difference") <= compared, f"7: more pairs counted than the {compared} that were")
        if self.exact and serving.starts == 1 + int(record.id) and record.applied_generation:
            must(candidate == seen["candidate"]["failures"]["n"], "7: not counted what the servers show")

    # --- traffic -----------------------------------------------------------------------------------------------------
    def _traffic_changed(self, before: Release, ready: bool, surface: str) -> None:
        world = self._world
        release = world.stored_release() if surface == "release" else world.serving.wanted
        assert release is not None
        record = self._records.get(release.rollout)
        if record is None or (surface != "release" and release == before):
            return
        wished = wish(record)
        if surface == "helm rollback":  # back to an older revision of its own, before it tells the next one
            must(release.candidate_weight <= before.candidate_weight, "3: a Helm rollback gave the candidate more")
            return
        must(same_traffic(release, wished), f"2: {surface} of what the record does not wish")
        if world.helm is None:
            must(release.generation == record.release_generation, f"2: {surface} of an old generation")
        allowed = _allowed(record) if tally.counting_phase(record) is Phase.CANARY else 0.0
        must(release.candidate_weight <= allowed, f"3: {release.candidate_weight:g} % where {allowed:g} % are allowed")
        if release.candidate_weight > before.candidate_weight and self.exact:
            must(ready, "3: weight for a candidate that is not ready")
        if record.phase in (Phase.ABORTING, Phase.ABORTED):
            must(release.candidate is None, "4: traffic for a candidate that is being rolled back")

    def champions(self) -> None:
        """Registry and servers agree on who the champion is, but for a decision under way."""
        world = self._world
        data = world.objects[world.registry_key]
        if data is not self._champion[0]:
            self._champion = data, world.champion()
        named = self._champion[1]
        must(named is not None, "1: the registry names no champion")
        if self.foreign or self.late or named == world.serving.applied.champion.version:
            return
        moving = any(tally.counting_phase(r) in _MOVING for r in self._records.values())
        must(moving, f"1: champion {named} in the registry, {world.serving.applied.champion.version} on the servers")


def _allowed(record: RolloutRecord) -> float:
    """The most that the recorded step gives the candidate, in percent."""
    trial = record.plan.trial
    if trial is not None and trial.kind == BANDIT:
        return min(record.weight, 100 * (1 - trial.floor))
    return record.plan.steps[record.step]


@dataclass(frozen=True)
class Ending:
    """How a run ended, and how it got there: phases and weights."""

    record: RolloutRecord
    way: list[tuple[str, float]]
    aliases: dict[str, int]
    applied: Release
    writes: list[str]

    @classmethod
    def of(cls, world: "World") -> "Ending":
        """The end of a world."""
        record = world.load()
        way = [(decision.phase_after.value, decision.weight_after) for decision in record.decisions]
        return cls(record, way, world.aliases(), world.serving.applied, world.faults.log)


def check_end(world: "World", reference: Ending | None, *, repeats: bool, same_way: bool = True) -> Ending:
    """The end of a run is whole, and that of `reference`. `repeats`: decisions may have been told again."""
    end = Ending.of(world)
    record, applied, aliases = end.record, end.applied, end.aliases
    if record.phase is Phase.PAUSED:
        must(bool(record.pause_reason), "9: paused without a reason")
    else:
        must(settled(record), f"9: not settled: {record.phase} ({record.status})")
        must(applied.candidate is None, "10: something of the rollout is left on the servers")
        must("candidate" not in aliases, "10: the alias candidate is left")
        if world.helm is None:
            must(world.stored_release() == applied, "10: the stored release is not the applied one")
        must(aliases.get("champion") == applied.champion.version, "10: registry and servers differ")
    must(record.decisions[-1].phase_after is record.phase, "6: the last decision is not where it is")
    _check_told(world, record, repeats=repeats)
    if reference is not None:
        must(
            record.phase is reference.record.phase,
            f"9: ended {record.phase}, not {reference.record.phase}: {record.status}",
        )
        must(not same_way or end.way == reference.way, f"9: went {end.way}, not {reference.way}")
        must(aliases == reference.aliases, f"9: aliases {aliases}")
        must(same_traffic(applied, reference.applied), f"9: applied {applied}")
    return end


def _check_told(world: "World", record: RolloutRecord, *, repeats: bool) -> None:
    records = list_rollouts(world.view(None), record.model)
    decided = [decision.generation for each in records for decision in each.decisions]
    told = [generation for generation, _ in world.told]
    must(set(told) == set(decided), f"11: told {sorted(set(told))} of {decided}")
    first = list(dict.fromkeys(told))
    must(first == sorted(first), "11: told out of order")
    if not repeats:
        must(told == decided, "11: a decision was told twice")
