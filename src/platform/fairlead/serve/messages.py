"""What a replica and the control say to each other, and how the control refuses."""

from dataclasses import dataclass, field

from fairlead.records.release import Release
from fairlead.serve.evidence import EvidenceDelta
from fairlead.serve.metric_sums import Counted
from fairlead.serve.quarantine import Strike


class ReleaseRefused(Exception):
    """A release that is not taken up. `status` is the HTTP status of the answer."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


@dataclass(slots=True)
class ReplicaReport:
    """What a replica tells: the generation that it applies, the digest of the candidate that it can call, and what it
    counted since it last told, as evidence and for /metrics. `strikes`: what it saw candidates die of, by digest."""

    replica: str
    generation: int
    deltas: list[EvidenceDelta] = field(default_factory=list)
    error: str = ""
    candidate: str = ""
    counted: Counted = field(default_factory=dict)
    gauges: dict[str, float] = field(default_factory=dict)
    strikes: dict[str, list[Strike]] = field(default_factory=dict)


@dataclass(slots=True)
class Orders:
    """What a replica is told: what should be live, whether the candidate can be called, and the digests of the bodies
    that it must not get."""

    release: Release
    candidate_ready: bool
    quarantined: tuple[bytes, ...] = ()


@dataclass(slots=True)
class Labels:
    """Labels as a replica understood them: class indices, or values with the `scale` of their errors."""

    items: list[tuple[str, float]]
    scale: float = 1.0
