"""For which project, with which overrides, in which run, on which store a step works."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fairlead.registry.registry import Registry
from fairlead.spec.load import LoadedProject, load_project
from fairlead.spec.project import Project
from fairlead.store import Store, open_store


@dataclass(frozen=True)
class Context:
    """The ground that every step stands on. `run` names the pipeline run; "" outside of one."""

    loaded: LoadedProject
    run: str
    store: Store
    overrides: tuple[str, ...] = field(default=())

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

    def to_json(self) -> str:
        """What the pipeline hands to its steps."""
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


def context_from_json(text: str) -> Context:
    """The context that `Context.to_json` described."""
    value = json.loads(text)
    return open_context(Path(value["project_file"]), value["overrides"], value["run"])
