"""What the registry knows: versions of a model, and each change that was ever made to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fairlead.records.data import SourceFile
from fairlead.records.lineage import StepRecord


@dataclass(frozen=True, slots=True)
class Version:
    """One registered bundle. `number` counts from 1 without gaps; `digest` is the bundle's, `bundle_uri` says where it
    is in the store; `run` made it; `facts` are what its registration said of it (metrics, fingerprints); `tags` are
    labels that may change, unlike everything else."""

    model: str
    number: int
    digest: str
    bundle_uri: str
    run: str
    registered_at: str
    actor: str
    why: str
    facts: Mapping[str, object] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One change. `action` is register, alias or tag, and `change` what it did: {"version": {...}}, {"alias", "before",
    "after"} or {"version", "tag", "before", "after"}. `operation` identifies the call that asked for it, `previous` is
    the hash of the entry before, `hash` the sha256 of this entry's JSON (sorted keys) without `hash` itself."""

    sequence: int
    at: str
    actor: str
    action: str
    why: str
    evidence: Mapping[str, object]
    change: Mapping[str, object]
    operation: str
    previous: str
    hash: str


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a version comes from. `steps` are the records on the way, oldest first; `sources` the raw files;
    `code_version`, `config_sha256`, `environment`, `seed` and `run` are what its bundle says (covered by its digest),
    or, without the bundle, its training step. `missing` names links that nothing in the store tells of."""

    version: Version
    data_fingerprint: str
    code_version: str
    config_sha256: str
    environment: Mapping[str, str]
    seed: int | None
    run: str
    sources: tuple[SourceFile, ...]
    steps: tuple[StepRecord, ...]
    missing: tuple[str, ...] = ()
