"""A rollout on a cluster: traffic is a Helm value, each step one revision, and ``helm history`` reads as its story.

The engine numbers what it wishes by generations, Helm by revisions. A revision that a rollout made says so in its
description, ``rollout 0001 #7: <the decision's sentence>``: 7 is the engine's generation. All other revisions are
somebody else's: `helm rollback`, a second operator, a person. What they changed is what the engine is shown, under a
generation above its own, so that it stands back and waits for a person. A revision that leaves traffic as it was (a new
image, say) is nobody's business.
"""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from fairlead.deploy.backends.helm_program import DEPLOYED, Revision
from fairlead.deploy.backends.helm_values import traffic_values
from fairlead.deploy.backends.serving import Aliases, ServingApi, ServingEffects
from fairlead.deploy.rollout.start import load
from fairlead.deploy.rollout.wishes import same_traffic, wish
from fairlead.errors import ClusterConflict, StaleGeneration
from fairlead.logs import get_logger
from fairlead.records.release import Arm, Release
from fairlead.records.rollout import Decision, Observation, RolloutRecord
from fairlead.records.trial import OutcomeRule
from fairlead.store import Store

_log = get_logger(__name__)

LOOK_SECONDS = 1.0
"""How old the last look at Helm may be when nothing is about to be changed."""
EDITED_SECONDS = 5.0
"""How long servers must apply something else than Helm says, once they had applied it, to have been changed by hand."""
_EDITED = "the servers apply what Helm does not say"
_SENTENCE_LENGTH = 400
_MADE_BY_ROLLOUT = re.compile(r"^rollout (?P<rollout>\S+) #(?P<generation>\d+): ")


class Helm(Protocol):
    """One Helm release. Why these methods: who made which revision, what each says, and a next one."""

    def history(self) -> list[Revision]:
        """The last revisions, oldest first; never empty."""

    def values(self, revision: int) -> Mapping[str, Any]:
        """All values of a revision."""

    def upgrade(self, values: Mapping[str, Any], description: str) -> None:
        """A new revision that differs in `values` only."""

    def rollback(self, revision: int) -> None:
        """A new revision with the content of an old one."""

    def chart_name(self) -> str:
        """The chart that `upgrade` uses."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a revision tells the servers. `rollout` and `generation` say which decision made it; "" and 0: somebody."""

    revision: Revision
    release: Release
    rollout: str = ""
    generation: int = 0


@dataclass(frozen=True, slots=True)
class HelmState:
    """`live`: the deployed revision. `ours`: the last that the rollout made, if any. `unfinished`: the newest revision,
    when it was begun and neither failed nor was deployed, or when it failed."""

    live: Told
    ours: Told | None = None
    unfinished: Told | None = None


class HelmRelease:
    """Reads one Helm release, and writes its traffic."""

    def __init__(self, helm: Helm, model: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._helm, self._model, self._monotonic = helm, model, monotonic
        self._told: dict[tuple[int, str], Release] = {}
        self._state: HelmState | None = None
        self._looked_at = 0.0

    def state(self, rollout: str, *, fresh: bool = False) -> HelmState:
        """What Helm says now, or said less than LOOK_SECONDS ago."""
        now = self._monotonic()
        if fresh or self._state is None or now - self._looked_at >= LOOK_SECONDS:
            self._state, self._looked_at = self._look(rollout), now
        return self._state

    def _look(self, rollout: str) -> HelmState:
        history = self._helm.history()
        deployed = [revision for revision in history if revision.status == DEPLOYED] or history
        live, newest = self._read(deployed[-1]), history[-1]
        ours = [revision for revision in history if (made := made_by(revision)) and made[0] == rollout]
        unfinished = newest.number > live.revision.number
        return HelmState(live, self._read(ours[-1]) if ours else None, self._read(newest) if unfinished else None)

    def _read(self, revision: Revision) -> Told:
        key = (revision.number, revision.updated)
        if key not in self._told:
            self._told[key] = release_of(self._model, self._helm.values(revision.number), revision.number)
        made = made_by(revision) or ("", 0)
        return Told(revision, self._told[key], *made)

    def tell(self, release: Release, sentence: str) -> None:
        """One revision for one decision of a rollout; nothing when it is there. `release.generation` is the engine's.

        Raises StaleGeneration when a later decision of the rollout was told already, ClusterConflict while somebody
        else's Helm is at work or when another chart is installed, and what Helm refuses."""
        known = self._state
        state = self.state(release.rollout, fresh=True)
        if known is not None and known.live.revision.number != state.live.revision.number:
            raise ClusterConflict(_somebody(state.live), why="it came after the look that this decision is based on")
        if state.unfinished is not None:
            self._clear(state, release)
            state = self.state(release.rollout, fresh=True)
        ours = state.ours
        if ours is not None and ours.generation > release.generation:
            raise StaleGeneration(
                f"rollout {release.rollout} told Helm generation {ours.generation} already, not {release.generation}"
            )
        if ours is not None and ours.generation == release.generation and ours.revision == state.live.revision:
            return
        installed, own = state.live.revision.chart, self._helm.chart_name()
        if installed != own:
            raise ClusterConflict(
                f"the release was installed with the chart {installed}, this is {own}",
                why="a step of a rollout changes traffic and nothing else; another chart may change pods",
                fix=f"upgrade the release to {own} first, or run the rollout with the Fairlead that installed it",
            )
        made = f"rollout {release.rollout} #{release.generation}: "
        self._helm.upgrade(traffic_values(release), made + sentence[:_SENTENCE_LENGTH])
        self._state = None

    def undo(self, release: Release) -> None:
        """Back to what was deployed before the revision that told `release`, when that is the newest."""
        history = self._helm.history()
        if len(history) > 1 and made_by(history[-1]) == (release.rollout, release.generation):
            self._helm.rollback(history[-2].number)
        self._state = None

    def _clear(self, state: HelmState, release: Release) -> None:
        """A Helm that was killed leaves a revision that blocks all others. Ours is cleared away by going back to the
        deployed one; only one host works on a rollout, so whoever made it is dead."""
        unfinished = state.unfinished
        if unfinished is None or not unfinished.revision.status.startswith("pending"):
            return
        if unfinished.release.rollout != release.rollout:
            raise ClusterConflict(
                f"revision {unfinished.revision.number} is {unfinished.revision.status}",
                why="another Helm is at work on it, or was killed",
                fix=f"helm rollback {state.live.revision.number} when it does not end",
            )
        _log.warning("revision %d was never finished: back to what is deployed", unfinished.revision.number)
        self._helm.rollback(state.live.revision.number)


def made_by(revision: Revision) -> tuple[str, int] | None:
    """The rollout and the generation whose revision it is, None for somebody else's."""
    found = _MADE_BY_ROLLOUT.match(revision.description)
    return (found["rollout"], int(found["generation"])) if found else None


def release_of(model: str, values: Mapping[str, Any], revision: int) -> Release:
    """What values tell the servers: the inverse of `traffic_values`."""
    traffic, candidate = values.get("traffic") or {}, values.get("candidate") or {}
    return Release(
        model=model,
        generation=revision,
        champion=_arm(values["champion"]),
        candidate=_arm(candidate) if candidate.get("digest") else None,
        candidate_weight=float(traffic.get("candidateWeight") or 0),
        shadow_percent=float(traffic.get("shadowPercent") or 0),
        rollout=str(traffic.get("rollout") or ""),
        note=str(traffic.get("note") or ""),
        latency_bound_ms=traffic.get("latencyBoundMs"),
        outcome=_outcome(traffic["outcome"]) if traffic.get("outcome") else None,
        label_horizon_seconds=traffic.get("labelHorizonSeconds"),
        slices=tuple(traffic.get("slices") or ()),
    )


def _outcome(values: Mapping[str, Any]) -> OutcomeRule:
    missing = values.get("missing")
    return OutcomeRule(
        metric=str(values["metric"]),
        horizon_seconds=float(values["horizonSeconds"]),
        low=float(values.get("low", 0.0)),
        high=float(values.get("high", 1.0)),
        binary=bool(values.get("binary", True)),
        missing=None if missing is None else float(missing),
    )


def _arm(values: Mapping[str, Any]) -> Arm:
    return Arm(int(values["version"]), str(values["bundleUri"]), str(values["digest"]))


def seen(record: RolloutRecord, applied: Release | None, state: HelmState) -> tuple[Release | None, str, str]:
    """What the engine is shown as applied, in its own generations, a note for people, and which revision is somebody
    else's. One that the record overruled is shown as older than what is wished, whatever came in between.

    `applied`: what all replicas confirmed. Five cases, in this order: nothing is known; our own step did not get
    through, so it is told again; the deployed revision is ours (or as ours would be); the rollout has told nothing yet;
    somebody else changed the traffic, by Helm or by editing what Helm made."""
    if applied is None:
        return None, "", ""
    live, unfinished, wanted = state.live, state.unfinished, record.release_generation
    if unfinished is not None and unfinished.release.rollout == record.id:
        return replace(applied, generation=wanted - 1), f"Helm revision {unfinished.revision.number} failed", ""
    generation = _generation_of(record, state)
    if generation is None:
        if record.applied_generation == 0:
            return replace(applied, generation=0), "", ""
        foreign = f"revision {live.revision.number}"
        shown = wanted - 1 if record.overruled == foreign else max(live.revision.number, wanted + 1)
        return replace(live.release, generation=shown, rollout=""), _somebody(live), foreign
    if same_traffic(applied, live.release):
        return replace(applied, generation=generation), "", ""
    if generation == wanted == record.applied_generation:
        return replace(applied, generation=wanted + 1, rollout=""), f"{_EDITED}: the RayService was edited", ""
    # On its way: Helm has it, the servers do not. Telling it again changes nothing.
    return replace(applied, generation=generation - 1), "", ""


def _generation_of(record: RolloutRecord, state: HelmState) -> int | None:
    live, ours = state.live, state.ours
    if live.rollout == record.id:
        return live.generation
    if live.release.rollout != record.id:
        # The same traffic under another name counts nothing for this rollout: it is told again.
        return record.release_generation - 1 if ours and same_traffic(live.release, wish(record)) else None
    if same_traffic(live.release, wish(record)):
        return record.release_generation
    return ours.generation if ours is not None and same_traffic(live.release, ours.release) else None


def _somebody(told: Told) -> str:
    return f"Helm revision {told.revision.number} is not this rollout's: {told.revision.description}"


class HelmObserver:
    """The evidence of the servers, with their release in the engine's generations.

    That they apply something else than Helm says counts when it lasts: one answer may be old, or a replica late."""

    def __init__(
        self,
        inner: Callable[[RolloutRecord], Observation],
        helm: HelmRelease,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inner, self._helm, self._monotonic = inner, helm, monotonic
        self._differs_since: float | None = None

    def __call__(self, record: RolloutRecord) -> Observation:
        observation = self._inner(record)
        state = self._helm.state(record.id)
        differs = self._differs(record, observation.release, state)
        if differs is not None and differs < EDITED_SECONDS:
            return replace(observation, release=None, error=_EDITED)  # nothing is decided meanwhile
        release, note, foreign = seen(record, observation.release, state)
        notes = "; ".join(part for part in (observation.note, note) if part)
        return replace(observation, release=release, note=notes, foreign=foreign)

    def _differs(self, record: RolloutRecord, applied: Release | None, state: HelmState) -> float | None:
        """For how many seconds the servers have applied something else than what Helm says and they confirmed."""
        now, wanted = self._monotonic(), record.release_generation
        confirmed = record.applied_generation == wanted == _generation_of(record, state)
        if applied is None or not confirmed or same_traffic(applied, state.live.release):
            self._differs_since = None
            return None
        if self._differs_since is None:
            self._differs_since = now
        return now - self._differs_since


class HelmEffects(ServingEffects):
    """The four effects, with traffic by ``helm upgrade``. The release in the store is the servers' to write."""

    def __init__(
        self,
        store: Store,
        servers: ServingApi,
        registry: Aliases,
        helm: HelmRelease,
        *,
        tell: Callable[[RolloutRecord, Decision], None] | None = None,
    ) -> None:
        super().__init__(store, servers, registry, tell=tell)
        self._helm = helm

    def set_traffic(self, release: Release) -> None:
        """One revision, described by the decision that wants it. See HelmRelease.tell. Raises StaleGeneration when the
        record has gone on meanwhile.

        Helm takes no generation from us: one that was asked for by a host that then slept comes on top of what the next
        host told meanwhile, or of what a person did. So the record is read again afterwards; when somebody decided
        something meanwhile, what it wishes now is told, or what was deployed before comes back."""
        before = self._record_of(release)
        self._tell_helm(release, before)
        now = self._record_of(release)
        taken_over = now.pause_kind == "taken_over"
        if now.generation == before.generation or (same_traffic(wish(now), release) and not taken_over):
            return  # also when the first answer was an old one
        _log.warning("rollout %s went on while Helm was at work: putting right what came late", now.id)
        if taken_over or now.release_generation == release.generation:
            self._helm.undo(release)  # somebody else's traffic was live, and is to stay
        else:
            self._tell_helm(wish(now), now)
        raise StaleGeneration(f"rollout {now.id} is at generation {now.generation}, not {before.generation} any more")

    def _tell_helm(self, release: Release, record: RolloutRecord) -> None:
        if record.release_generation > release.generation:
            raise StaleGeneration(
                f"rollout {record.id} is at generation {record.release_generation}, not {release.generation}"
            )
        sentence = next(d.sentence for d in reversed(record.decisions) if d.generation <= release.generation)
        self._helm.tell(release, sentence)

    def _record_of(self, release: Release) -> RolloutRecord:
        return load(self._store, release.model, release.rollout)
