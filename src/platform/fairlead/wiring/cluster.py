"""The servers as a Helm release on a cluster: installing it, finding it, and a rollout that acts through it."""

import base64
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from fairlead.clock import Clock, SystemClock
from fairlead.deploy.backends.helm import HelmEffects, HelmObserver, HelmRelease
from fairlead.deploy.backends.helm_program import HelmProgram, Revision
from fairlead.deploy.backends.helm_values import traffic_values
from fairlead.deploy.rollout.loop import Observe
from fairlead.deploy.rollout.wishes import same_traffic
from fairlead.errors import ClusterConflict, ClusterIncomplete, FairleadError, ServeError, SpecError
from fairlead.kube import Cluster, open_cluster
from fairlead.kube.kinds import EVENTS, RAYSERVICES, SECRETS
from fairlead.logs import get_logger
from fairlead.packaged import packaged_folder, pushed_image
from fairlead.records.release import Arm, Release
from fairlead.records.rollout import Decision, RolloutRecord
from fairlead.registry.registry import Registry
from fairlead.serve.client import ServingClient
from fairlead.serve.token import TOKEN_FILE_VARIABLE, read_token
from fairlead.wiring.context import Context
from fairlead.wiring.servers_watch import ServersWatch, await_servers

_log = get_logger(__name__)

_FOLLOW_SECONDS = 120.0
_LOOK_SECONDS = 1.0
CHART = "fairlead-model"
_EVENT_LENGTH = 1000
_WARNINGS = frozenset({"aborting", "paused"})


def release_name(context: Context) -> str:
    """The Helm release that serves the project's model."""
    return context.project.deploy.cluster.release or context.project.project


def cluster_of(context: Context) -> Cluster:
    """The cluster and namespace of the project's servers. Raises ClusterUnreachable, ExtraMissing."""
    place = context.project.deploy.cluster
    return open_cluster(place.context, place.namespace)


def helm_of(context: Context) -> HelmProgram:
    """The `helm` program for the project's release."""
    place = context.project.deploy.cluster
    chart = packaged_folder("helm") / CHART
    return HelmProgram(release_name(context), cluster_of(context).namespace, chart, place.context)


def cluster_client(context: Context) -> ServingClient:
    """A client of the release's servers, whether or not they answer. Raises ServeError when its token is not there."""
    release = release_name(context)
    named = os.environ.get(TOKEN_FILE_VARIABLE)
    if named:
        token = read_token(Path(named))
    else:
        cluster = cluster_of(context)
        secret = cluster.get(SECRETS, f"{release}-token")
        if secret is None:
            raise ClusterIncomplete(
                f"the server's token {release}-token is not there",
                where=f"namespace {cluster.namespace}",
                fix=f"fairlead deploy installs the release; with a token of your own, name its file in "
                f"{TOKEN_FILE_VARIABLE}",
            )
        token = base64.b64decode(secret["data"]["token"]).decode().strip()
    return ServingClient(serving_url(context), token)


def serving_url(context: Context) -> str:
    """Where the release's servers answer from here. Raises ServeError when only pods reach them."""
    if context.project.deploy.cluster.url:
        return context.project.deploy.cluster.url
    if "KUBERNETES_SERVICE_HOST" not in os.environ:
        release = release_name(context)
        raise ServeError(
            "a Service of the cluster cannot be reached from outside of it",
            fix=f"kubectl port-forward svc/{release}-serve-svc 8000, and --set deploy.cluster.url=http://127.0.0.1:8000",
        )
    return f"http://{release_name(context)}-serve-svc.{cluster_of(context).namespace}.svc:8000"


def ensure_release(context: Context, champion: Arm, clock: Clock, say: Callable[[str], None]) -> ServingClient:
    """A release whose servers answer; installed with `champion` when there is none. `say` is told why it takes time.

    Raises ClusterConflict when the release is of another chart, PodsCannotRun when pods never will, ServeError when
    the servers do not answer within ``deploy.cluster.start_deadline``."""
    serving_url(context)  # before anything is made
    helm = helm_of(context)
    try:
        newest = helm.history()[-1]
    except ClusterIncomplete:
        first = Release(context.project.project, 1, champion, note="first deployment")
        helm.install(install_values(context, first), "first deployment")
    else:
        _check_ours(helm, newest)
    client = cluster_client(context)
    seconds = context.project.deploy.cluster.start_deadline
    await_servers(client, ServersWatch(cluster_of(context), helm.release, seconds, clock), seconds, clock, say)
    return client


def _check_ours(helm: HelmProgram, newest: Revision) -> None:
    where = f"release {helm.release} in namespace {helm.namespace}"
    if newest.chart.rpartition("-")[0] != CHART:
        raise ClusterConflict(
            f"the Helm release {helm.release} belongs to another chart: {newest.chart}",
            where=where,
            fix="deploy.cluster.release names this project's release otherwise",
        )
    if newest.status in ("failed", "pending-install") and newest.number == 1:
        raise ClusterConflict(
            f"the Helm release {helm.release} was begun and never finished ({newest.status})",
            where=where,
            fix=f"helm -n {helm.namespace} uninstall {helm.release}, then deploy again",
        )


def install_values(context: Context, release: Release) -> dict[str, Any]:
    """The values of the first installation: the project's own, over those of `deploy.cluster.values`. The image,
    when they name none, is the pushed one of this version."""
    project = context.project
    values: dict[str, Any] = {}
    if project.deploy.cluster.values:
        path = context.base / project.deploy.cluster.values
        try:
            values = yaml.safe_load(path.read_text()) or {}
        except (OSError, yaml.YAMLError) as error:
            raise SpecError(f"the values file cannot be read: {error}", where=str(path)) from error
    pushed = pushed_image("serving")
    if pushed and "repository" not in (values.get("image") or {}):
        repository, _, digest = pushed.partition("@")
        values["image"] = {**(values.get("image") or {}), "repository": repository, "digest": digest}
    serve = project.serve.model_dump(mode="json", exclude={"backend", "host", "port"}, exclude_unset=True)
    own = {"model": project.project, "serve": serve, "store": {"uri": project.store}, **traffic_values(release)}
    return _merged(values, own)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(below)
    for key, value in above.items():
        inner = found.get(key)
        found[key] = _merged(inner, value) if isinstance(value, Mapping) and isinstance(inner, Mapping) else value
    return found


def cluster_parts(
    context: Context, observe: Observe, client: ServingClient, registry: Registry
) -> tuple[HelmObserver, HelmEffects]:
    """How a rollout sees and changes the release: by `helm`, with an Event on the RayService for each decision."""
    helm = HelmRelease(helm_of(context), context.project.project)
    events = DecisionEvents(cluster_of(context), release_name(context))
    return HelmObserver(observe, helm), HelmEffects(context.store, client, registry, helm, tell=events)


def set_release(context: Context, release: Release, sentence: str) -> None:
    """Tell Helm a release that a person asks for, outside of a rollout, and wait until the servers follow."""
    helm_of(context).upgrade(traffic_values(release), sentence)
    clock = SystemClock()
    deadline = clock.monotonic() + _FOLLOW_SECONDS
    with cluster_client(context) as servers:
        while (applied := servers.release()["applied"]) is None or not same_traffic(applied, release):
            if clock.monotonic() >= deadline:
                raise ServeError(
                    f"the servers do not follow after {_FOLLOW_SECONDS:.0f} s", where=servers.url, why=sentence
                )
            clock.sleep(_LOOK_SECONDS)


class DecisionEvents:
    """A Kubernetes Event on the RayService for each decision of a rollout. What cannot be written is logged: events are
    for people, and no decision waits for them."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster, self._name = cluster, name

    def __call__(self, record: RolloutRecord, decision: Decision) -> None:
        try:
            service = self._cluster.get(RAYSERVICES, self._name)
            self._cluster.create(EVENTS, decision_event(record, decision, service, self._name, self._cluster.namespace))
        except FairleadError as error:
            _log.warning("the decision was not told as an event: %s", error.what)


def decision_event(
    record: RolloutRecord, decision: Decision, service: Mapping[str, Any] | None, name: str, namespace: str
) -> dict[str, Any]:
    """The Event. Its name is the decision's, so that one that is told twice is written once."""
    found = (service or {}).get("metadata", {})
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{name}.rollout-{record.id}.{decision.generation}",
            "namespace": namespace,
            "labels": {"app.kubernetes.io/part-of": "fairlead", "fairlead.dev/rollout": record.id},
            "annotations": {"fairlead.dev/decision": json.dumps({"actor": decision.actor, "at": decision.at})},
        },
        "involvedObject": {
            "apiVersion": "ray.io/v1",
            "kind": "RayService",
            "name": name,
            "namespace": namespace,
            "uid": found.get("uid", ""),
        },
        "type": "Warning" if decision.phase_after.value in _WARNINGS else "Normal",
        "reason": "".join(word.capitalize() for word in ("rollout", decision.phase_after.value)),
        "message": f"rollout {record.id}: {decision.sentence}"[:_EVENT_LENGTH],
        "action": decision.phase_after.value,
        "reportingComponent": "fairlead",
        "reportingInstance": decision.actor,
        "firstTimestamp": _whole_seconds(decision.at),
        "lastTimestamp": _whole_seconds(decision.at),
        "count": 1,
    }


def _whole_seconds(at: str) -> str:
    return f"{at[:19]}Z"
