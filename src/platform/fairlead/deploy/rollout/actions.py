"""What the engine asks the loop to do: four verbs, each safe to repeat, each carrying (rollout id, generation)."""

from dataclasses import dataclass
from typing import Protocol

from fairlead.records.release import Release
from fairlead.records.rollout import Decision, RolloutRecord


@dataclass(frozen=True, slots=True)
class SetTraffic:
    """Make the servers apply `release`."""

    release: Release


@dataclass(frozen=True, slots=True)
class Promote:
    """Make the candidate champion in the registry."""

    generation: int


@dataclass(frozen=True, slots=True)
class Retire:
    """Make the rollback target champion in the registry (again), and take the candidate's alias away."""

    generation: int


@dataclass(frozen=True, slots=True)
class Notify:
    """Tell about a decision: the `number`-th of the record, from 0. May be told again after a crash."""

    number: int
    decision: Decision


Action = SetTraffic | Promote | Retire | Notify


class Effects(Protocol):
    """All that a rollout changes in the world. Every call must be idempotent: after a crash it comes again. An applier
    refuses a release with a lower generation than it has, or the same with other content, with StaleGeneration; other
    failures are FairleadErrors, and are tried again."""

    def set_traffic(self, release: Release) -> None:
        """Ask the servers to converge to `release`. Returning means that it was taken, not that it is applied."""

    def promote(self, record: RolloutRecord) -> None:
        """Registry: alias champion to the candidate's version."""

    def retire(self, record: RolloutRecord) -> None:
        """Registry: alias champion to the rollback target's version, no alias for the candidate's."""

    def notify(self, record: RolloutRecord, decision: Decision) -> None:
        """Tell about a decision."""
