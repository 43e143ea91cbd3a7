"""For which project, with which overrides, in which run, on which store a step works.

On this machine a step is told where the project file is. In a pod there is no such file: the step is told the store and
the digest of the project's archive, and unpacks it into its scratch folder. The run is then not in the context but in
the pod's environment, because Kubeflow looks at the context to see whether a step's result can be taken from its cache.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fairlead.atomic import write_atomic
from fairlead.errors import FairleadError
from fairlead.logs import get_logger
from fairlead.registry.registry import Registry
from fairlead.spec.load import LoadedProject, load_project
from fairlead.spec.project import Project
from fairlead.store import Store, open_store
from fairlead.store.archives import fetch_folder

RUN_VARIABLE = "KFP_RUN_ID"
SCRATCH_VARIABLE = "FAIRLEAD_SCRATCH"
SCRATCH = Path("/var/fairlead")
_MARK = "project "  # kfp's command line would make a mapping of a text that is JSON from its first character on
_TOLD_VARIABLES = ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_REGION")

_log = get_logger(__name__)


@dataclass(frozen=True)
class Context:
    """The ground that every step stands on. `run` names the pipeline run; "" outside of one. `archive`: the digest of
    the project's archive where steps are pods; "" where they share a disk."""

    loaded: LoadedProject
    run: str
    store: Store
    overrides: tuple[str, ...] = field(default=())
    archive: str = ""

    @property
    def project(self) -> Project:
        """The project file's content with the overrides applied."""
        return self.loaded.project

    @property
    def base(self) -> Path:
        """The project's folder."""
        return self.loaded.base

    @property
    def home(self) -> Path:
        """Local scratch: runs, verified copies, the local Ray."""
        return self.base / ".fairlead"

    @property
    def run_folder(self) -> Path:
        """What this run leaves on this machine."""
        return self.home / "runs" / (self.run or "manual")

    def registry(self) -> Registry:
        """The registry of the project's model."""
        return Registry(self.store, self.project.project)

    def leave(self, name: str, data: bytes) -> None:
        """Write a file of the run's folder; from a pod also to the store, where others read it."""
        write_atomic(self.run_folder / name, data)
        if self.archive:
            self.store.write(run_key(self.project.project, self.run, name), data)

    def tell(self, name: str, data: bytes) -> None:
        """From a pod: bring news to the store. News that do not arrive are no reason to stop."""
        if self.archive:
            try:
                self.store.write(run_key(self.project.project, self.run, name), data)
            except FairleadError as error:
                _log.debug("not told: %s", error)

    def to_json(self) -> str:
        """What the pipeline hands to its steps on this machine."""
        return json.dumps(
            {
                "project_file": str(self.loaded.path),
                "overrides": list(self.overrides),
                "run": self.run,
                "store": self.project.store,
                "base": str(self.base),
            },
            sort_keys=True,
        )


def open_context(project_file: Path, overrides: Sequence[str] = (), run: str = "") -> Context:
    """Load the project file and open its store. Raises SpecError and StoreError."""
    loaded = load_project(project_file, overrides)
    return Context(loaded, run, open_store(loaded.project.store, loaded.base), tuple(overrides))


def run_key(project: str, run: str, name: str) -> str:
    """Where in the store a run keeps what its steps in pods tell."""
    return f"runs/{project}/{run or 'manual'}/{name}"


def remote_json(context: Context, archive: str, overrides: Sequence[str], environment: Mapping[str, str]) -> str:
    """What the pipeline hands to steps in pods. The same project gives the same text: no run, no local path.

    `archive`: the digest of the project's archive in the store. `environment`: how pods reach the store."""
    value = {
        "project_file": context.loaded.path.resolve().relative_to(context.base.resolve()).as_posix(),
        "overrides": list(overrides),
        "store": context.project.store,
        "archive": archive,
        "environment": {name: environment[name] for name in _TOLD_VARIABLES if environment.get(name)},
    }
    return _MARK + json.dumps(value, sort_keys=True)


def context_from_json(text: str) -> Context:
    """The context that `Context.to_json` or `remote_json` described. Raises IntegrityError, SpecError, StoreError."""
    value = json.loads(text.removeprefix(_MARK))
    if not value.get("archive"):
        return open_context(Path(value["project_file"]), value["overrides"], value["run"])
    for name, setting in value["environment"].items():
        if name in _TOLD_VARIABLES:
            os.environ.setdefault(name, setting)  # what the pod was given counts more
    scratch = Path(os.environ.get(SCRATCH_VARIABLE) or SCRATCH)
    folder = fetch_folder(open_store(value["store"], scratch), value["archive"], scratch / "projects")
    loaded = load_project(folder / value["project_file"], value["overrides"])
    run = os.environ.get(RUN_VARIABLE, "")
    store = open_store(loaded.project.store, loaded.base)
    return Context(loaded, run, store, tuple(value["overrides"]), value["archive"])
