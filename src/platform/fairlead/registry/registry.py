"""Versions, aliases and tags of one model: one object in the store, changed by compare-and-swap only."""

import enum
import random
import uuid
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import orjson

from fairlead.bundle.layout import digest_hex
from fairlead.bundle.verify import MODEL_NAME
from fairlead.clock import Clock, SystemClock
from fairlead.errors import (
    IntegrityError,
    KeyExists,
    KeyMissing,
    KeyRefused,
    RegistryConflict,
    StaleGeneration,
    StoreError,
    UsageError,
    VersionConflict,
    VersionNotFound,
)
from fairlead.records.codec import from_value, to_json, to_value
from fairlead.records.registry import HistoryEntry, Version
from fairlead.registry import history as chain
from fairlead.registry.history import FORMAT, Entry, State, empty_state, last_fence
from fairlead.store.protocol import Store

ALIASES = ("champion", "candidate")

MAX_EVIDENCE_BYTES = 64 * 1024
_ATTEMPTS = 80
_STORE_FAILURES = 3
_FIRST_PAUSE_SECONDS = 0.005
_LONGEST_PAUSE_SECONDS = 0.5
_SHORTEST_DIGEST_PREFIX = 6

T = TypeVar("T")


class Expected(enum.Enum):
    """`ANY`: an alias may point anywhere before it is set."""

    ANY = "any"


class Registry:
    """The registry of one model. Instances hold no state: each call reads the store."""

    def __init__(
        self, store: Store, model: str, clock: Clock | None = None, pauses: random.Random | None = None
    ) -> None:
        """`pauses` draws how long to wait after a lost race. Raises UsageError when `model` is no name for a model."""
        if not MODEL_NAME.match(model):
            raise UsageError(f"{model!r} is no name for a model", fix="Use lower-case letters, digits and dashes.")
        self.model = model
        self._store, self._clock = store, clock or SystemClock()
        self._key = f"registry/{model}.json"
        self._random = pauses or random.SystemRandom()  # processes forked from one must not pause in step

    def versions(self) -> tuple[Version, ...]:
        """All versions, oldest first."""
        return tuple(from_value(Version, value) for value in self._read()["versions"])

    def aliases(self) -> dict[str, int]:
        """Version numbers by alias; an alias that names nothing is not in it."""
        return dict(self._read()["aliases"])

    def history(self) -> tuple[HistoryEntry, ...]:
        """All changes, oldest first."""
        return tuple(from_value(HistoryEntry, value) for value in self._read()["history"])

    def verify(self) -> int:
        """Check the history's whole chain, and the state against it; the number of entries. Raises HistoryBroken."""
        return chain.verify(self._read())

    def get(self, ref: str | int) -> Version:
        """The version that `ref` names: a number (3, "3", "v3"), an alias, or the beginning of a digest (at least six
        hex digits, with or without "sha256:"). Raises VersionNotFound."""
        state = self._read()
        value = self._find(state, str(ref).strip())
        version: Version = from_value(Version, value)
        return version

    def register(
        self, bundle_uri: str, digest: str, run: str, facts: Mapping[str, object], actor: str, why: str
    ) -> Version:
        """Give a bundle the next number. The same run and digest again give the version that they have already.

        Raises RegistryConflict when others were faster too often, StoreError, IntegrityError for unusable arguments.
        """
        try:
            digest_hex(digest)
        except ValueError as error:
            raise IntegrityError("a version needs its bundle's digest", why=str(error)) from error
        stored_facts = _stored(facts, "facts")

        def existing(state: State) -> Entry | None:
            versions: list[Entry] = state["versions"]
            return next((v for v in versions if v["run"] == run and v["digest"] == digest), None)

        def plan(state: State) -> Entry | None:
            if existing(state) is not None:
                return None
            version = Version(
                model=self.model,
                number=len(state["versions"]) + 1,
                digest=digest,
                bundle_uri=bundle_uri,
                run=run,
                registered_at=self._now(),
                actor=actor,
                why=why,
                facts=stored_facts,
            )
            return {"action": "register", "change": {"version": to_value(version)}, "evidence": {}}

        state = self._change(plan, actor, why)
        version: Version = from_value(Version, existing(state))
        return version

    def set_alias(
        self,
        alias: str,
        version: int | None,
        actor: str,
        why: str,
        evidence: Mapping[str, object] | None = None,
        expected: int | Expected | None = Expected.ANY,
        fence: int | None = None,
    ) -> None:
        """Point `alias` (champion, candidate) to a version, or to nothing with None.

        With `expected` the alias must point there before (None: nowhere). An alias that points to `version` already is
        left as it is, without an entry. `fence` is the generation of the rollout's decision that asks: once one was
        written, lower ones are refused, so that a controller that slept between its decision and this call changes
        nothing (a higher one is written down even when the alias stays). Raises RegistryConflict when `expected` does
        not hold or others were faster too often (nothing is written), StaleGeneration for a lower `fence`,
        VersionNotFound, UsageError.
        """
        if alias not in ALIASES:
            raise UsageError(f"there is no alias {alias!r}", fix=f"Use {' or '.join(ALIASES)}.")
        stored_evidence = _stored(evidence or {}, "evidence")

        def plan(state: State) -> Entry | None:
            before = state["aliases"].get(alias)
            if version is not None:
                self._find(state, str(version))
            higher = self._above_fence(state, fence)
            if before == version and not higher:
                return None
            if before != version and not isinstance(expected, Expected) and before != expected:
                raise RegistryConflict(
                    f"{alias} of {self.model} is {_name(before)}, not {_name(expected)} as expected",
                    where=self._store.url(self._key),
                    why="somebody else changed it meanwhile; nothing was written",
                    fix=f"Look at `fairlead model history {self.model}` and decide again.",
                )
            change = {"alias": alias, "before": before, "after": version}
            fenced = {"fence": fence} if higher else {}
            return {"action": "alias", "change": {**change, **fenced}, "evidence": stored_evidence}

        self._change(plan, actor, why)

    def set_tag(self, version: int, tag: str, value: str | None, actor: str, why: str) -> None:
        """Set a tag of a version, or remove it with None. Raises VersionNotFound, RegistryConflict."""

        def plan(state: State) -> Entry | None:
            before = self._find(state, str(version))["tags"].get(tag)
            if before == value:
                return None
            change = {"version": version, "tag": tag, "before": before, "after": value}
            return {"action": "tag", "change": change, "evidence": {}}

        self._change(plan, actor, why)

    def _above_fence(self, state: State, fence: int | None) -> bool:
        """True when `fence` is new and higher. Raises StaleGeneration when it is lower than one that was written."""
        written = last_fence(state)
        if fence is not None and fence < written:
            raise StaleGeneration(
                f"the registry of {self.model} has a decision of generation {written}, this one is {fence}",
                where=self._store.url(self._key),
                why="another controller of the rollout went on meanwhile; nothing was written",
                fix="Nothing, when it did; when records of rollouts were deleted: `fairlead model promote` by hand.",
            )
        return fence is not None and fence > written

    def _find(self, state: State, ref: str) -> Entry:
        versions: list[Entry] = state["versions"]
        if ref in ALIASES:
            number = state["aliases"].get(ref)
            if number is None:
                raise self._not_found(state, f"{self.model} has no {ref}")
            return versions[int(number) - 1]
        digits = ref.removeprefix("v")
        if digits.isascii() and digits.isdigit() and len(digits) < _SHORTEST_DIGEST_PREFIX:
            if not 1 <= int(digits) <= len(versions):
                raise self._not_found(state, f"{self.model} has no version {int(digits)}")
            return versions[int(digits) - 1]
        prefix = ref if ref.startswith("sha256:") else f"sha256:{ref}"
        if len(prefix) < len("sha256:") + _SHORTEST_DIGEST_PREFIX:
            raise self._not_found(state, f"{ref!r} names no version of {self.model}")
        found = [version for version in versions if version["digest"].startswith(prefix)]
        if len({version["digest"] for version in found}) > 1:
            raise self._not_found(
                state, f"{ref!r} names {len(found)} versions of {self.model}; give more of the digest"
            )
        if not found:
            raise self._not_found(state, f"{self.model} has no version with the digest {ref}")
        return found[-1]

    def _not_found(self, state: State, what: str) -> VersionNotFound:
        count = len(state["versions"])
        return VersionNotFound(
            what,
            where=self._store.url(self._key),
            why=f"there are versions 1 to {count}" if count else "there are no versions yet",
            fix="`fairlead model list` shows all versions and aliases; `fairlead run` makes one.",
        )

    def _change(self, plan: Callable[[State], Entry | None], actor: str, why: str) -> State:
        """Append what `plan` makes of the current state (None: nothing to do) by compare-and-swap, and give the state
        that then holds. `plan` may be called several times."""
        if not actor.strip() or not why.strip():
            raise UsageError("a change of the registry needs an actor and a reason", fix="Say who, and why.")
        operation = uuid.uuid4().hex
        failures = 0
        for attempt in range(_ATTEMPTS):
            state, version = self._read_versioned()
            # A write that got no answer may have been done: then our operation is in the history.
            if any(entry["operation"] == operation for entry in reversed(state["history"])):
                return state
            planned = plan(state)
            if planned is None:
                return state
            chain.append(state, {**planned, "at": self._now(), "actor": actor, "why": why, "operation": operation})
            data = orjson.dumps(state, option=orjson.OPT_SORT_KEYS)
            try:
                if version is None:
                    self._store.create(self._key, data)
                else:
                    self._store.replace(self._key, data, version)
            except (KeyExists, VersionConflict):
                pass
            except KeyRefused:
                raise
            except StoreError:
                failures += 1
                if failures >= _STORE_FAILURES:
                    raise
            else:
                return state
            longest = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** min(attempt, 10))
            self._clock.sleep(self._random.uniform(0, longest))
        raise RegistryConflict(
            f"others changed the registry of {self.model} {_ATTEMPTS} times while one change was tried",
            where=self._store.url(self._key),
            why="nothing was written",
            fix="Run the same command again.",
        )

    def _read(self) -> State:
        return self._read_versioned()[0]

    def _read_versioned(self) -> tuple[State, str | None]:
        try:
            data, version = self._store.read_versioned(self._key)
        except KeyMissing:
            return empty_state(self.model), None
        where = self._store.url(self._key)
        try:
            state = orjson.loads(data)
            format_ = state["format"]
            whole = state["model"] == self.model and all(
                isinstance(state[key], kind) for key, kind in (("versions", list), ("aliases", dict), ("history", list))
            )
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(
                f"the registry of {self.model} cannot be read", where=where, why=str(error), fix="Restore a backup."
            ) from error
        if format_ != FORMAT:
            raise IntegrityError(
                f"the registry of {self.model} has format {format_}",
                where=where,
                why=f"this version of Fairlead reads and writes format {FORMAT}",
                fix="Use the version of Fairlead that wrote it, or a newer one.",
            )
        if not whole:
            raise IntegrityError(f"{where} is not the registry of {self.model}", where=where, fix="Restore a backup.")
        return state, version

    def _now(self) -> str:
        return self._clock.now().isoformat()


def list_models(store: Store) -> list[str]:
    """The names of all models that have a registry."""
    keys = store.list("registry/")
    return [key.removeprefix("registry/").removesuffix(".json") for key in keys if key.endswith(".json")]


def _stored(value: Mapping[str, object], name: str) -> dict[str, Any]:
    """`value` as it will be read again from JSON, so that hashes agree. Raises IntegrityError when it is no JSON."""
    try:
        data = to_json(value, indent=False)
    except TypeError as error:
        raise IntegrityError(f"the {name} cannot be stored as JSON", why=str(error)) from error
    if len(data) > MAX_EVIDENCE_BYTES:
        raise IntegrityError(
            f"the {name} are {len(data)} bytes long",
            why=f"the registry keeps at most {MAX_EVIDENCE_BYTES} with each change",
            fix="Keep the details in an object of their own and name its key and sha256 here.",
        )
    stored: dict[str, Any] = orjson.loads(data)
    return stored


def _name(version: object) -> str:
    return "unset" if version is None else f"version {version}"
