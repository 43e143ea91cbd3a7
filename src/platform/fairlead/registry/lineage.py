"""Where a version comes from, and what became of a source: queries over the records that steps leave.

Steps are joined by what they read and wrote: a (role, name) pair that one wrote and another read, such as ("prepared",
fingerprint), ("draft", key) or ("bundle", digest). A step's `reads` name only what its output is made from. The roles
"source" and "source_sha256" are the raw files, by URI and by content.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fairlead.bundle.bundle import stored_lineage
from fairlead.errors import FairleadError, IntegrityError, KeyMissing
from fairlead.records.codec import from_json, to_json
from fairlead.records.data import DatasetManifest, SourceFile
from fairlead.records.lineage import StepRecord
from fairlead.records.registry import Lineage, Version
from fairlead.registry.registry import Registry, list_models
from fairlead.store.protocol import Store

SUCCEEDED = "succeeded"
SOURCE_ROLES = ("source", "source_sha256")

# What a bundle's own lineage names, as links to walk on: (role, key of the lineage).
_TOLD_LINKS = (("prepared", "data_fingerprint"), ("bundle", "reexported_from"))

Link = tuple[str, str]


def write_step(store: Store, record: StepRecord) -> None:
    """Keep the record of one step; a step that ran again in the same run replaces its earlier record."""
    store.write(f"steps/{record.project}/{record.run}/{record.step}.json", to_json(record))


def steps(store: Store, project: str | None = None) -> tuple[StepRecord, ...]:
    """The records of a project's steps (of all projects without one), by start. Raises IntegrityError naming a record
    that cannot be read."""
    keys = store.list(f"steps/{project}/" if project is not None else "steps/")
    found = [_read_step(store, key) for key in keys]
    return tuple(sorted((step for step in found if step is not None), key=lambda step: (step.started_at, step.step)))


def backward(store: Store, version: Version) -> Lineage:
    """Walk from a version back to its sources, data, code, configuration, environment and seed.

    A bundle that no step wrote (re-exported, or brought from elsewhere) is followed by what its own lineage names.
    """
    records = [step for step in steps(store, version.model) if step.status == SUCCEEDED]
    told, missing = _told(store, version)
    way, lost = _walk(records, version, told)
    missing += lost
    facts: Mapping[str, Any] = told or _facts_of(way)
    fingerprint = str(facts.get("data_fingerprint") or next(_named(way, "prepared"), ""))
    sources = _sources(store, fingerprint, way)
    if not sources:
        missing += ("nothing in the store tells of the source files",)
    seed = facts.get("seed")
    return Lineage(
        version=version,
        data_fingerprint=fingerprint,
        code_version=str(facts.get("code_version", "")),
        config_sha256=str(facts.get("config_sha256", "")),
        environment={str(name): str(value) for name, value in dict(facts.get("environment") or {}).items()},
        seed=seed if isinstance(seed, int) else None,
        run=str(facts.get("run", version.run)),
        sources=sources,
        steps=way,
        missing=missing,
    )


def forward(store: Store, source: str) -> tuple[Version, ...]:
    """Every version of any model that was made from a source file: its URI (whatever it contained), or its sha256 (with
    or without "sha256:", wherever it lay). A version counts when steps lead to its bundle, or when its facts name a
    `data_fingerprint` that they lead to."""
    content = source.removeprefix("sha256:")
    known: set[Link] = {("source", source), ("source_sha256", content), ("source_sha256", f"sha256:{content}")}
    waiting = [step for step in steps(store) if step.status == SUCCEEDED]
    while True:
        reached = [step for step in waiting if known.intersection(_links(step.reads))]
        if not reached:
            break
        for step in reached:
            known.update(_links(step.writes))
        waiting = [step for step in waiting if step not in reached]
    versions = [version for model in list_models(store) for version in Registry(store, model).versions()]
    return tuple(
        version
        for version in versions
        if ("bundle", version.digest) in known or ("prepared", version.facts.get("data_fingerprint")) in known
    )


def _read_step(store: Store, key: str) -> StepRecord | None:
    try:
        return from_json(StepRecord, store.read(key))
    except KeyMissing:
        return None  # removed since it was listed
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(
            "the record of a step cannot be read", where=store.url(key), why=str(error), fix="Run the step again."
        ) from error


def _links(ports: Mapping[str, list[str]]) -> list[Link]:
    return [(role, name) for role, names in ports.items() for name in names]


def _writer(candidates: list[StepRecord], run: str) -> StepRecord | None:
    """Of several steps that wrote the same thing, the one of the same run, else the last."""
    own = [step for step in candidates if step.run == run]
    best = own or candidates
    return best[-1] if best else None


def _named(way: Iterable[StepRecord], role: str) -> Iterator[str]:
    return (name for step in way for name in step.reads.get(role, ()))


def _walk(
    records: list[StepRecord], version: Version, told: Mapping[str, Any]
) -> tuple[tuple[StepRecord, ...], tuple[str, ...]]:
    """The steps between a version and its sources, oldest first, and the links that no step tells of."""
    writers: dict[Link, list[StepRecord]] = {}
    for step in records:
        for link in _links(step.writes):
            writers.setdefault(link, []).append(step)
    walked: dict[tuple[str, str], StepRecord] = {}
    missing: list[str] = []
    origin = ("bundle", version.digest)
    todo: list[tuple[Link, str]] = [(origin, version.run)]
    if origin not in writers:
        run = str(told.get("run", version.run))
        todo += [((role, str(told[key])), run) for role, key in _TOLD_LINKS if told.get(key)]
    seen: set[Link] = set()
    while todo:
        link, run = todo.pop()
        if link in seen or link[0] in SOURCE_ROLES:
            continue
        seen.add(link)
        writer = _writer(writers.get(link, []), run)
        if writer is None:
            missing.append(f"no step in the store wrote the {link[0]} {link[1]}")
            continue
        walked[writer.run, writer.step] = writer
        todo.extend((read, writer.run) for read in _links(writer.reads))
    # The step that gave the number wrote nothing that the bundle is made from, but it belongs to the story.
    for step in records:
        if step.run == version.run and step.step == "register" and origin in _links(step.reads):
            walked[step.run, step.step] = step
    return tuple(sorted(walked.values(), key=lambda step: (step.started_at, step.step))), tuple(missing)


def _told(store: Store, version: Version) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """What the bundle itself says of its making, verified; or nothing, and the problem."""
    try:
        return stored_lineage(store, version.bundle_uri, version.digest), ()
    except FairleadError as error:
        return {}, (f"the bundle's own lineage cannot be read: {error.what}",)


def _facts_of(way: tuple[StepRecord, ...]) -> Mapping[str, Any]:
    """What the training step (else the last one) says of the making."""
    step = next((step for step in way if step.step == "train"), way[-1] if way else None)
    if step is None:
        return {}
    return {
        "code_version": step.code_version,
        "config_sha256": step.config_sha256,
        "environment": step.environment,
        "seed": step.seed,
        "run": step.run,
    }


def _sources(store: Store, fingerprint: str, way: tuple[StepRecord, ...]) -> tuple[SourceFile, ...]:
    """The raw files: from the prepared data's manifest, else from the records of the steps."""
    try:
        return from_json(DatasetManifest, store.read(f"prepared/{fingerprint}/manifest.json")).sources
    except FairleadError:
        found: dict[str, SourceFile] = {}
    except (ValueError, KeyError, TypeError, AttributeError):
        found = {}
    for step in way:
        uris, contents = step.reads.get("source", []), step.reads.get("source_sha256", [])
        for index, uri in enumerate(uris):
            sha256 = contents[index].removeprefix("sha256:") if len(contents) == len(uris) else ""
            found[uri] = SourceFile(uri, 0, 0, sha256)
    return tuple(found.values())
