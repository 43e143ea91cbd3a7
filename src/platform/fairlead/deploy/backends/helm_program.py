"""The `helm` program: the revisions of one release, and a new one. Knows nothing of rollouts."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairlead.errors import ClusterConflict, ClusterIncomplete, ClusterRefused, EnvironmentProblem, ExtraMissing

_TIMEOUT_SECONDS = 60.0
_HISTORY_KEPT = 50
_LOOKED_BACK = 20
DEPLOYED = "deployed"
_REFUSES = "fairlead-model refuses these values: "


@dataclass(frozen=True, slots=True)
class Revision:
    """One line of ``helm history``. `status`: deployed, superseded, failed, pending-upgrade, ..."""

    number: int
    status: str
    chart: str
    description: str
    updated: str


class HelmProgram:
    """One Helm release in one namespace. Every call is a process of its own, and takes some 0.1 s.

    Raises ExtraMissing without the program, ClusterIncomplete when there is no such release, ClusterConflict while
    another Helm is at work on it, ClusterRefused for what the API server or the chart refuses, EnvironmentProblem."""

    def __init__(self, release: str, namespace: str, chart: Path, context: str | None = None) -> None:
        self.release, self.namespace = release, namespace
        self._chart, self._context = chart, context

    def history(self) -> list[Revision]:
        """The last revisions, oldest first. Never empty."""
        lines = json.loads(self._run("history", self.release, "--max", str(_LOOKED_BACK), "-o", "json"))
        return [
            Revision(int(line["revision"]), line["status"], line["chart"], line["description"], str(line["updated"]))
            for line in lines
        ]

    def values(self, revision: int) -> Mapping[str, Any]:
        """All values of a revision, the chart's defaults included."""
        text = self._run("get", "values", self.release, "--revision", str(revision), "--all", "-o", "json")
        found: Mapping[str, Any] = json.loads(text)
        return found

    def install(self, values: Mapping[str, Any], description: str) -> None:
        """The first revision. What was made of one that failed is taken away again."""
        try:
            self._apply("install", values, description)
        except EnvironmentProblem:
            self._take_back_failed_install()
            raise

    def upgrade(self, values: Mapping[str, Any], description: str) -> None:
        """A new revision that differs from the last in `values` only. The chart must be the one that is installed."""
        self._apply("upgrade", values, description, "--reuse-values", "--history-max", str(_HISTORY_KEPT))

    def rollback(self, revision: int) -> None:
        """A new revision with the content of an old one: also the way out of one that was never finished."""
        self._run("rollback", self.release, str(revision), "--history-max", str(_HISTORY_KEPT))

    def chart_name(self) -> str:
        """The chart that `upgrade` uses, as ``helm history`` names it: name-version."""
        import yaml

        described = yaml.safe_load((self._chart / "Chart.yaml").read_text())
        return f"{described['name']}-{described['version']}"

    def _apply(self, verb: str, values: Mapping[str, Any], description: str, *flags: str) -> None:
        with tempfile.TemporaryDirectory(prefix="fairlead-helm-") as folder:
            file = Path(folder) / "values.json"
            file.write_text(json.dumps(values))
            given = ("-f", str(file), "--description", description)
            self._run(verb, self.release, str(self._chart), *given, *flags)

    def _run(self, *arguments: str) -> str:
        program = shutil.which("helm")
        if program is None:
            raise ExtraMissing("Helm is not installed", fix="install Helm 3.14 or newer: https://helm.sh/docs/intro")
        place = ["--namespace", self.namespace, *(["--kube-context", self._context] if self._context else [])]
        try:
            done = subprocess.run(
                [program, *arguments, *place], capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise EnvironmentProblem(
                f"helm {arguments[0]} has not ended after {_TIMEOUT_SECONDS:.0f} s", where=self._where()
            ) from error
        if done.returncode != 0:
            raise self._failure(arguments[0], done.stderr.strip())
        return done.stdout

    def _take_back_failed_install(self) -> None:
        try:
            (only,) = self.history()
        except (EnvironmentProblem, ValueError):
            return  # nothing was made, or it is somebody else's
        if only.status == "failed":
            self._run("uninstall", self.release)

    def _where(self) -> str:
        return f"release {self.release} in namespace {self.namespace}"

    def _failure(self, verb: str, said: str) -> EnvironmentProblem:
        said = said.removeprefix("Error: ")[-1500:]
        what, where = f"helm {verb} failed", self._where()
        if "not found" in said and "release" in said:
            return ClusterIncomplete(
                f"there is no Helm release {self.release}",
                where=where,
                why=said,
                fix="install it with the chart first, or correct deploy.cluster in the project file",
            )
        if "cannot be imported into the current release" in said:
            return ClusterConflict(
                f"objects of the name {self.release} belong to somebody else",
                where=where,
                why=said,
                fix="deploy.cluster.release names the release otherwise; or delete what is named, if nobody needs it",
            )
        if "another operation" in said or "already exists" in said or "object has been modified" in said:
            return ClusterConflict(what, where=where, why=f"another Helm is at work on it: {said}", fix="try again")
        if "orbidden" in said:
            return ClusterRefused(what, where=where, why=said, fix="fairlead doctor --on cluster names what is missing")
        if _REFUSES in said:
            return ClusterRefused("the chart refuses these values", where=where, why=said.partition(_REFUSES)[2])
        if "fairlead-model:" in said or "schema" in said:
            fix = "correct the file that deploy.cluster.values names; helm/fairlead-model/README.md lists all values"
            return ClusterRefused(what, where=where, why=said, fix=fix)
        if "cannot patch" in said:
            return ClusterRefused(what, where=where, why=said)
        return EnvironmentProblem(what, where=where, why=said)
