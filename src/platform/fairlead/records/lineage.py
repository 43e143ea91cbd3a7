"""Which step read what and wrote what, with which code, configuration, environment and seed."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class StepRecord:
    """`reads` and `writes` map a role (source, prepared, checkpoint, bundle, version, rollout) to fingerprints or URIs;
    a role may name several, joined as a list. Lineage is a query over these, backwards and forwards."""

    run: str
    step: str
    project: str
    started_at: str
    ended_at: str
    status: str
    reads: Mapping[str, list[str]]
    writes: Mapping[str, list[str]]
    code_version: str
    config_sha256: str
    environment: Mapping[str, str] = field(default_factory=dict)
    seed: int | None = None
    facts: Mapping[str, object] = field(default_factory=dict)
