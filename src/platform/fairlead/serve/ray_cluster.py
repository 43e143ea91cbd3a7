"""The same applications on a RayService, where Ray Serve is told by a file: `control` and `ingress` are named in it.

    applications:
      - name: fairlead-<model>-control
        import_path: fairlead.serve.ray_cluster:control
        route_prefix: null
        args: {model: ..., store: s3://..., base: /var/fairlead, serve: {...}}
        deployments: [{name: control, user_config: {revision: 7, release: {...}}}]
      - name: fairlead-<model>
        import_path: fairlead.serve.ray_cluster:ingress
        route_prefix: /
        args: {the same}

A change of ``user_config`` alone restarts no replica: Ray calls `reconfigure` of the one control replica, which only
sets the wish. Ray deletes what left the file, but only what came by a file: candidates, which the control starts
itself, stay.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from pydantic import Field

from fairlead.errors import ServeError, StoreError
from fairlead.logs import get_logger
from fairlead.records.codec import from_value, to_value
from fairlead.records.release import Arm, Release
from fairlead.serve.control import Control
from fairlead.serve.control_state import ControlState
from fairlead.serve.ray_app import control_deployment, ingress_deployment
from fairlead.serve.ray_control import ControlDeployment, RayCandidateHost, Refused
from fairlead.serve.release_store import ReleaseStore
from fairlead.serve.token import token_file
from fairlead.spec.quantities import Section
from fairlead.spec.serve import Serve
from fairlead.store.opening import open_store

_log = get_logger(__name__)

FIRST_RELEASE_SECONDS = 120.0


class ClusterArguments(Section):
    """What the file gives both applications. A change of these restarts all replicas."""

    model: str = Field(description="The served model.")
    store: str = Field(description="Where bundles, releases and logs are: s3://bucket/prefix.")
    base: str = Field("/var/fairlead", description="Writable folder of the pod: verified copies of bundles.")
    serve: Serve = Field(default_factory=Serve, description="The serve section of the project file.")
    num_cpus: float = Field(
        0.0, ge=0, description="CPUs that Ray reserves for each replica; above 0 keeps them off a head without CPUs."
    )
    record: str = Field(
        "", description="Name of the release's record in the store, where an arm is a RayService of its own."
    )


class ClusterControl(ControlDeployment):
    """The control of a release that somebody else keeps: it is told by `reconfigure` only."""

    def __init__(self, model: str, store_uri: str, base: str, num_cpus: float, record: str = "") -> None:
        self._model = model
        self._releases = ReleaseStore(open_store(store_uri, Path(base)), model, record)
        self._host = RayCandidateHost(model, store_uri, base, num_cpus)
        self._follower: asyncio.Task[None] | None = None
        self._stored: Release | None = None
        self._told = False
        try:
            self._stored = self._releases.read()
        except StoreError as error:
            _log.warning("the stored release cannot be read now: %s", error)

    async def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """Ray calls this before the replica is up, and at each change. Sets the wish and returns; what cannot be
        understood is told by the control route, and the wish stays. Raises ServeError only when there is no wish yet.
        """
        wanted = self._control.state.wanted if self._told else self._stored
        problem = ""
        try:
            wish = taken_up(self._model, user_config, wanted)
        except ServeError as error:
            if wanted is None:
                raise
            wish, problem = wanted, str(error)
            _log.error("%s", error)
        if not self._told:
            self._control = Control(ControlState(wish), self._releases, self._host)
            self._told = True
        if wish != wanted:
            self._control.wish(wish)
        self._control.state.problem = problem
        self._follow()

    async def put(self, release: Release) -> Refused | None:
        """Two writers would undo each other: the file is the only one."""
        state = self._control.state
        if release == state.wanted:
            return None
        why = f"release {state.wanted.generation} of {self._model} is a Helm value: change it by helm upgrade"
        return 409, "managed_by_helm", why


def taken_up(model: str, user_config: Mapping[str, Any], wanted: Release | None) -> Release:
    """The release that `user_config` means after `wanted`. Its generation is Helm's revision, unless that went back:
    `helm rollback` applies an old file as it was, old revision included, and that wish is the newest all the same.
    Raises ServeError.
    """
    try:
        revision = int(user_config["revision"])
        content = dict(user_config["release"])
        unknown = content.keys() - {field.name for field in fields(Release)}
        release: Release = from_value(Release, {"model": model, **content, "generation": revision})
        weights = (release.candidate_weight, release.shadow_percent)
        percents = all(0 <= weight <= 100 for weight in weights)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unusable(f"{type(error).__name__}: {error}") from error
    if unknown:
        raise _unusable(f"unknown: {', '.join(sorted(unknown))}")
    if not isinstance(release.champion, Arm) or not isinstance(release.candidate, Arm | None):
        raise _unusable("champion and candidate are versions with bundle_uri and digest")
    if release.model != model:
        raise _unusable(f"it is a release of {release.model}, this is {model}")
    if not percents or (release.candidate is None and any(weights)):
        raise _unusable("weights are percents, and 0 without a candidate")
    if wanted is None:
        return release
    if revision <= wanted.generation:
        same = replace(release, generation=wanted.generation) == wanted
        return wanted if same else replace(release, generation=wanted.generation + 1)
    return release


def _unusable(why: str) -> ServeError:
    return ServeError("the release in user_config cannot be used", where="serveConfigV2", why=why)


def user_config(release: Release) -> dict[str, Any]:
    """The `user_config` that means `release`."""
    content = to_value(release)
    return {"revision": content.pop("generation"), "release": content}


def control(arguments: ClusterArguments) -> Any:
    """Builds ``fairlead-<model>-control``."""
    deployment = control_deployment(ClusterControl, arguments.num_cpus)
    return deployment.bind(arguments.model, arguments.store, arguments.base, arguments.num_cpus, arguments.record)


def ingress(arguments: ClusterArguments) -> Any:
    """Builds ``fairlead-<model>``."""
    return ingress_deployment(arguments.serve, arguments.num_cpus).bind(
        arguments.model,
        arguments.serve,
        arguments.store,
        arguments.base,
        str(token_file(Path(arguments.base))),
        FIRST_RELEASE_SECONDS,
        arguments.record,
    )
