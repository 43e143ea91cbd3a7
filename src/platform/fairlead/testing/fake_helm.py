"""One Helm release, simulated, in front of simulated servers.

It keeps what a rollout relies on: every change is a revision with a higher number; a rollback applies an old revision's
content; an upgrade that was killed leaves a revision that blocks all upgrades until somebody rolls back. The same
behaviour of the real program is held by the tests on the cluster.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from fairlead.deploy.backends.helm import release_of
from fairlead.deploy.backends.helm_program import DEPLOYED, Revision
from fairlead.deploy.backends.helm_values import traffic_values
from fairlead.errors import ClusterConflict
from fairlead.records.release import Release

CHART = "fairlead-model-0.1.0"


class FakeHelm:
    """A release that serves `first`. `deliver` hands a Release to the servers; its generation is the revision."""

    def __init__(self, first: Release, deliver: Callable[[Release], object]) -> None:
        self._model, self._deliver = first.model, deliver
        self._revisions: list[tuple[Revision, Mapping[str, Any]]] = []
        self.chart = CHART
        self.dies_in_upgrade = False
        self._add(traffic_values(first), "Install complete", deliver=False)

    # --- the program -------------------------------------------------------------------------------------------------
    def history(self) -> list[Revision]:
        """See HelmProgram."""
        return [revision for revision, _ in self._revisions]

    def values(self, revision: int) -> Mapping[str, Any]:
        """See HelmProgram."""
        return self._revisions[revision - 1][1]

    def upgrade(self, values: Mapping[str, Any], description: str) -> None:
        """See HelmProgram."""
        newest, known = self._revisions[-1]
        if newest.status.startswith("pending"):
            raise ClusterConflict("helm upgrade failed", why="another operation is in progress")
        merged = {**known, **{name: {**dict(known.get(name, {})), **part} for name, part in values.items()}}
        if self.dies_in_upgrade:
            self.dies_in_upgrade = False
            self._add(merged, "Preparing upgrade", status="pending-upgrade", deliver=False)
            raise SystemExit("killed")
        self._add(merged, description)

    def rollback(self, revision: int) -> None:
        """See HelmProgram."""
        self._revisions = [
            (replace(known, status="superseded") if known.status.startswith("pending") else known, values)
            for known, values in self._revisions
        ]
        self._add(self.values(revision), f"Rollback to {revision}")

    def chart_name(self) -> str:
        """See HelmProgram."""
        return CHART

    # -----------------------------------------------------------------------------------------------------------------
    def _add(
        self, values: Mapping[str, Any], description: str, *, status: str = DEPLOYED, deliver: bool = True
    ) -> None:
        number = len(self._revisions) + 1
        if status == DEPLOYED:
            self._revisions = [(replace(known, status="superseded"), old) for known, old in self._revisions]
        self._revisions.append((Revision(number, status, self.chart, description, f"at {number}"), values))
        if deliver:
            self._deliver(release_of(self._model, values, number))
