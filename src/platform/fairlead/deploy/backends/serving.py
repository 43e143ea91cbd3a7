"""A rollout on running Fairlead servers, one process or Ray Serve: the same control routes, the same evidence."""

from collections.abc import Callable, Mapping
from typing import Protocol

from fairlead.deploy.rollout.start import load
from fairlead.errors import KeyExists, KeyMissing, RegistryConflict, StaleGeneration, VersionConflict
from fairlead.logs import get_logger
from fairlead.records.codec import from_json, to_json
from fairlead.records.data import SkewFinding
from fairlead.records.release import Release
from fairlead.records.rollout import Decision, Observation, RolloutRecord, ServingEvidence
from fairlead.store import Store

logger = get_logger(__name__)


class ServingApi(Protocol):
    """The two control routes that a rollout needs."""

    def put_release(self, release: Release) -> object:
        """PUT /fairlead/v1/release. Raises StaleGeneration when the server has a higher generation, or the same with
        other content, and ServerUnreachable."""

    def evidence(self) -> ServingEvidence:
        """GET /fairlead/v1/evidence. Raises ServerUnreachable."""


class Aliases(Protocol):
    """The part of a registry that a rollout changes."""

    def aliases(self) -> Mapping[str, int]:
        """Version numbers by alias."""

    def set_alias(
        self,
        alias: str,
        version: int | None,
        actor: str,
        why: str,
        evidence: Mapping[str, object],
        *,
        expected: int | None = ...,
        fence: int | None = ...,
    ) -> object:
        """Point an alias, by compare-and-swap on `expected`. Raises RegistryConflict, and StaleGeneration when a higher
        `fence` was written."""


class ServingObserver:
    """Reads the world for `RolloutLoop`. `skew` compares live features with both models' training statistics (an empty
    answer: not enough rows yet); None means that nobody compares. `retraining_noise` is the larger one of the two
    bundles, None when it was not measured; so are `numeric_noise` and, by slice, `slice_noise`."""

    def __init__(
        self,
        api: ServingApi,
        *,
        skew: Callable[[RolloutRecord], tuple[SkewFinding, ...]] | None = None,
        retraining_noise: float | None = None,
        numeric_noise: float | None = None,
        slice_noise: Mapping[str, float] | None = None,
    ) -> None:
        self._api, self._skew, self._noise = api, skew, retraining_noise
        self._numeric, self._slices = numeric_noise, dict(slice_noise or {})

    def __call__(self, record: RolloutRecord) -> Observation:
        evidence = self._api.evidence()
        return Observation(
            release=evidence.release,
            candidate_ready=evidence.candidate_ready,
            champion=evidence.champion,
            candidate=evidence.candidate,
            pairs=evidence.pairs,
            skew=self._skew(record) if self._skew is not None else (),
            retraining_noise=self._noise,
            numeric_noise=self._numeric,
            slice_noise=self._slices,
            requests_per_second=evidence.requests_per_second,
            user_failures=evidence.user_failures,
            instance=evidence.instance,
            candidate_error=evidence.candidate_error,
            skew_expected=self._skew is not None,
            note=evidence.error,
            split=evidence.split,
            outcomes=evidence.outcomes,
        )


class ServingEffects:
    """The four effects: the release in the store and on the servers, aliases in the registry, decisions in the log (and
    to `tell`). The release in the store comes first: servers that start later find it there."""

    def __init__(
        self,
        store: Store,
        api: ServingApi,
        registry: Aliases,
        *,
        tell: Callable[[RolloutRecord, Decision], None] | None = None,
    ) -> None:
        self._store, self._api, self._registry, self._tell = store, api, registry, tell

    def set_traffic(self, release: Release) -> None:
        """Store the release, then hand it to the servers. Raises StaleGeneration when either has a newer one."""
        store_release(self._store, release)
        self._api.put_release(release)

    def promote(self, record: RolloutRecord) -> None:
        """Champion is the candidate's version now. Raises RegistryConflict when champion is neither arm's version."""
        self._check_in_charge(record)
        self._point_champion(record, record.champion.version, record.candidate.version)
        self._drop_candidate(record)

    def retire(self, record: RolloutRecord) -> None:
        """No version is candidate, and champion is the rollback target's version (again). The alias candidate comes
        first: its entry carries the fence, which a promotion that somebody is late with then finds."""
        self._check_in_charge(record)
        self._drop_candidate(record)
        if self._registry.aliases().get("champion") == record.candidate.version:
            self._point_champion(record, record.candidate.version, record.rollback_target.version)

    def notify(self, record: RolloutRecord, decision: Decision) -> None:
        """One line per decision."""
        logger.debug("rollout %s: %s", record.id, decision.sentence)
        if self._tell is not None:
            self._tell(record, decision)

    def _check_in_charge(self, record: RolloutRecord) -> None:
        # Early and cheap; what comes between this look and the write is caught by the registry's fence.
        stored = load(self._store, record.model, record.id)
        if stored.generation > record.generation:
            raise StaleGeneration(
                f"rollout {record.id} is at generation {stored.generation}, this controller at {record.generation}"
            )

    def _point_champion(self, record: RolloutRecord, before: int, after: int) -> None:
        champion = self._registry.aliases().get("champion")
        if champion == after:
            return
        if champion != before:
            raise RegistryConflict(
                f"champion of {record.model} is version {champion}, not {before} as when rollout {record.id} began",
                fix=f"fairlead rollout abort {record.id}, or point champion back",
            )
        self._set(record, "champion", after, before)

    def _drop_candidate(self, record: RolloutRecord) -> None:
        known = self._registry.aliases().get("candidate")
        ours = known == record.candidate.version
        self._set(record, "candidate", None if ours else known, known)

    def _set(self, record: RolloutRecord, alias: str, version: int | None, expected: int | None) -> None:
        decision = record.decisions[-1]
        evidence = {"rollout": record.id, "generation": record.generation, **decision.evidence}
        self._registry.set_alias(
            alias,
            version,
            actor=decision.actor,
            why=decision.sentence,
            evidence=evidence,
            expected=expected,
            fence=record.release_generation,
        )


def store_release(store: Store, release: Release) -> None:
    """Write ``releases/<model>.json`` by compare-and-swap. Nothing happens when it is there already. Raises
    StaleGeneration when a higher generation is, or the same with other content."""
    key = f"releases/{release.model}.json"
    while True:
        try:
            data, version = store.read_versioned(key)
            stored = from_json(Release, data)
            if stored == release:
                return
            if stored.generation >= release.generation:
                what = f"release {release.generation} of {release.model} is not above the stored {stored.generation}"
                raise StaleGeneration(what, where=store.url(key))
            store.replace(key, to_json(release), version)
            return
        except KeyMissing:
            try:
                store.create(key, to_json(release))
                return
            except KeyExists:
                continue
        except VersionConflict:
            continue
