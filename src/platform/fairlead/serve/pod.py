"""One version in one container: what `fairlead serve --pod` runs where the split is somebody else's (Seldon).

Everything comes from one variable of the environment, so that a change of it is a change of the pod. The release is
kept in the pod, not in the store: the pods of the other arm serve the same model, and must not follow this one's.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from fairlead.errors import ServeError
from fairlead.records.codec import from_value
from fairlead.records.release import Arm, Release
from fairlead.serve.http_app import run_process_server
from fairlead.serve.release_check import check_release
from fairlead.spec.serve import Serve
from fairlead.store.folder import FolderStore

POD_VARIABLE = "FAIRLEAD_POD"


@dataclass(frozen=True)
class PodSettings:
    """`store` is a URI, `base` a folder that can be written."""

    model: str
    store: str
    base: Path
    serve: Serve
    arm: Arm

    @property
    def release(self) -> Release:
        """The only release that this pod will ever have."""
        return Release(self.model, 1, self.arm, note="told to the pod")


def read_settings(environment: Mapping[str, str]) -> PodSettings:
    """The settings in FAIRLEAD_POD: JSON with model, store, base, serve, arm. Raises ServeError."""
    text = environment.get(POD_VARIABLE)
    if text is None:
        raise ServeError(
            f"{POD_VARIABLE} is not set",
            fix="It is for containers of the chart; elsewhere: fairlead serve without --pod",
        )
    try:
        value = json.loads(text)
        settings = PodSettings(
            value["model"],
            value["store"],
            Path(value["base"]),
            Serve.model_validate(value["serve"]),
            from_value(Arm, value["arm"]),
        )
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise ServeError(f"{POD_VARIABLE} cannot be understood", why=f"{type(error).__name__}: {error}") from error
    problem = check_release(settings.release)
    if problem is not None:
        raise ServeError(f"{POD_VARIABLE} cannot be served", where=problem[0], why=problem[1])
    return settings


def run_pod(settings: PodSettings) -> None:
    """Serve until SIGTERM. Raises what `run_process_server` raises."""
    releases = FolderStore(settings.base / "release")
    run_process_server(settings.serve, settings.release, settings.store, settings.base, releases=releases)
