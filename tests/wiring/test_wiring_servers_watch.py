"""Waiting for the servers of a release: each reason is told once, and what nobody can wait out is given up."""

from typing import Any

import pytest

from fairlead.errors import ClusterRefused, PodsCannotRun, ServeError, ServerUnreachable
from fairlead.testing.fake_clock import FakeClock
from fairlead.wiring.servers_watch import ServersWatch, await_servers


class FakeCluster:
    """What `ServersWatch` asks a cluster for."""

    context, namespace = "here", "team"

    def __init__(self) -> None:
        self.service: dict[str, Any] | None = {}
        self.pods: list[dict[str, Any]] = []
        self.refused = False

    def get(self, kind: Any, name: str) -> dict[str, Any] | None:
        assert (kind.plural, name) == ("rayservices", "flights")
        return self.service

    def list(self, kind: Any, **_: str) -> list[dict[str, Any]]:
        if self.refused:
            raise ClusterRefused("anna may not list pods")
        return self.pods if kind.plural == "pods" else []


class FakeServers:
    """Servers that answer from a certain time on; before, nothing or an error."""

    url = "http://127.0.0.1:1"

    def __init__(self, clock: FakeClock, answer_after: float, error: str = "") -> None:
        self._clock, self._after, self._error = clock, clock.monotonic() + answer_after, error

    def release(self) -> dict[str, Any]:
        if self._clock.monotonic() < self._after:
            if not self._error:
                raise ServerUnreachable("no server answers", where=self.url)
            return {"applied": None, "error": self._error}
        return {"applied": object(), "error": ""}


def wait(cluster: FakeCluster, answer_after: float, error: str = "", seconds: float = 300.0) -> list[str]:
    clock, said = FakeClock(), list[str]()
    servers = FakeServers(clock, answer_after, error)
    watch = ServersWatch(cluster, "flights", seconds, clock)  # type: ignore[arg-type]
    await_servers(servers, watch, seconds, clock, said.append)  # type: ignore[arg-type]
    return said


def pending(**application: str) -> dict[str, Any]:
    applications: dict[str, Any] = {"fairlead-flights": application} if application else {}
    return {"status": {"pendingServiceStatus": {"rayClusterName": "flights-1", "applicationStatuses": applications}}}


def without_image() -> dict[str, Any]:
    state = {"waiting": {"reason": "ErrImagePull", "message": "not found"}}
    return {
        "metadata": {"name": "head"},
        "status": {"phase": "Pending", "containerStatuses": [{"image": "a:1", "state": state}]},
    }


def without_room() -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}
    return {"metadata": {"name": "head"}, "status": {"phase": "Pending", "conditions": [condition]}}


def test_servers_that_come_up_are_waited_for_without_a_word() -> None:
    cluster = FakeCluster()
    cluster.service = pending(status="DEPLOYING")
    assert wait(cluster, answer_after=40) == []


def test_a_reason_is_told_at_once_and_then_every_minute() -> None:
    cluster = FakeCluster()
    cluster.service, cluster.pods = pending(), [without_room()]
    said = wait(cluster, answer_after=130)
    assert said == ["waiting for the servers: head: no node has room: 0/3 nodes are available"] * 3


def test_an_image_that_nobody_has_is_given_up_after_half_a_minute() -> None:
    cluster = FakeCluster()
    cluster.service, cluster.pods = pending(), [without_image()]
    with pytest.raises(PodsCannotRun, match="the pods of flights do not run: head: the image cannot be pulled: a:1"):
        wait(cluster, answer_after=60)


def test_no_operator_is_said() -> None:
    said = wait(FakeCluster(), answer_after=60)
    assert said == []
    cluster = FakeCluster()
    cluster.service = {"metadata": {"name": "flights"}}
    assert wait(cluster, answer_after=60) == [
        "waiting for the servers: no KubeRay operator has looked at the RayService yet: does it run?"
    ]


def test_an_application_that_ray_gave_up_is_told_with_its_last_line() -> None:
    cluster = FakeCluster()
    cluster.service = pending(status="DEPLOY_FAILED", message="Traceback\n  File\nModuleNotFoundError: no torch\n")
    expected = "Ray Serve's application fairlead-flights is DEPLOY_FAILED: ModuleNotFoundError: no torch"
    with pytest.raises(ServeError, match="did not answer within 90 s") as caught:
        wait(cluster, answer_after=1000, seconds=90)
    assert expected in str(caught.value)


def test_our_own_error_is_found_among_tracebacks() -> None:
    cluster = FakeCluster()
    told = "Traceback\n  File\nfairlead.errors.StoreError: FL-505: the store does not answer\n  where: s3://b at x\n"
    cluster.service = pending(status="DEPLOY_FAILED", message="Failed to update the deployments ['ingress'].")
    application = cluster.service["status"]["pendingServiceStatus"]["applicationStatuses"]["fairlead-flights"]
    application["serveDeploymentStatuses"] = {"ingress": {"status": "DEPLOY_FAILED", "message": told}}
    (said,) = wait(cluster, answer_after=20)
    assert said.endswith("is DEPLOY_FAILED: FL-505: the store does not answer; where: s3://b at x")


def test_what_the_servers_themselves_say_is_the_reason() -> None:
    cluster = FakeCluster()
    cluster.service = pending(status="RUNNING")
    with pytest.raises(ServeError) as caught:
        wait(cluster, answer_after=1000, error="FL-701 the digest of the bundle is another", seconds=30)
    assert "FL-701 the digest of the bundle is another" in str(caught.value)


def test_who_may_not_look_at_pods_is_told_so_and_waits_on() -> None:
    cluster = FakeCluster()
    cluster.service, cluster.refused = pending(), True
    (said,) = wait(cluster, answer_after=20)
    assert "why the pods wait cannot be told: anna may not list pods" in said
