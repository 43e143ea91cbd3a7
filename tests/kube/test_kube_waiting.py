"""Why pods do not run, read from what a kubelet, a scheduler and KubeRay really say."""

from typing import Any

import pytest

from fairlead.kube.waiting import obstacles


def pod(name: str = "head", **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"phase": "Pending", **status}}


def waiting(reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"containerStatuses": [{"name": "ray-head", "image": "registry/app:1", "state": state, **more}]}


def unschedulable(message: str) -> dict[str, Any]:
    return {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]}


PULL = 'failed to resolve reference "registry/app:1": registry/app:1: not found'


@pytest.mark.parametrize(
    ("status", "kind", "words", "permanent"),
    [
        (unschedulable("0/3 nodes are available: 3 Insufficient cpu."), "unschedulable", "Insufficient cpu", False),
        (waiting("ErrImagePull", PULL), "image", "registry/app:1 (there is no such image)", True),
        (waiting("ErrImagePull", "authorization failed"), "image", "refuses the credentials", True),
        (waiting("InvalidImageName", "couldn't parse"), "image", "the name is not valid", True),
        (waiting("CreateContainerConfigError", 'secret "x" not found'), "configuration", 'secret "x" not found', True),
        (
            waiting("CrashLoopBackOff", lastState={"terminated": {"reason": "OOMKilled", "exitCode": 137}}),
            "crash",
            "OOMKilled, exit code 137; it needs more memory",
            False,
        ),
    ],
)
def test_a_pod_that_does_not_run_says_why(status: dict[str, Any], kind: str, words: str, permanent: bool) -> None:
    (found,) = obstacles([pod(**status)], (), "team")
    assert (found.kind, found.permanent) == (kind, permanent)
    assert words in found.sentence()
    assert "kubectl" in found.fix


def test_pods_that_wait_for_the_same_are_one_obstacle() -> None:
    message = "0/1 nodes are available: 1 Insufficient cpu."
    (found,) = obstacles([pod("a", **unschedulable(message)), pod("b", **unschedulable(message))])
    assert found.pods == ("a", "b")
    assert found.sentence() == f"2 pods: no node has room: {message}"


def test_back_off_and_error_of_one_image_read_the_same_when_the_cause_is_the_same() -> None:
    first = obstacles([pod(**waiting("ErrImagePull", PULL))])
    second = obstacles([pod(**waiting("ImagePullBackOff", f"Back-off pulling image: ErrImagePull: {PULL}"))])
    assert first == second


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_pods_that_have_ended_hold_nobody_up(phase: str) -> None:
    assert obstacles([pod(**{**unschedulable("x"), "phase": phase})]) == []


def test_a_running_pod_is_no_obstacle() -> None:
    assert obstacles([pod(phase="Running", containerStatuses=[{"name": "ray", "state": {"running": {}}}])]) == []


def test_owners_that_may_not_make_pods_are_the_first_thing_said() -> None:
    message = (
        'Failed to create head Pod team/x, pods "x" is forbidden: exceeded quota: tiny, requested: pods=1, '
        "used: pods=0, limited: pods=0"
    )
    event = {"type": "Warning", "reason": "FailedToCreateHeadPod", "message": message}
    found = obstacles([pod(**unschedulable("0/1 nodes are available"))], [event], "team")
    assert [each.kind for each in found] == ["quota", "unschedulable"]
    assert found[0].why == "exceeded quota: tiny, requested: pods=1, used: pods=0, limited: pods=0"


def test_a_policy_that_refuses_pods_is_permanent() -> None:
    message = 'pods "x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true'
    (found,) = obstacles([], [{"type": "Warning", "message": message}], "team")
    assert (found.kind, found.permanent) == ("policy", True)
    assert obstacles([], [{"type": "Normal", "message": message}]) == []


def test_a_pod_that_is_refused_again_and_again_is_one_obstacle() -> None:
    why = 'spec.containers[0].resources.requests: Invalid value: "200": must be less than or equal to cpu limit of 1'
    events = [
        {"type": "Warning", "message": f'Failed to create head Pod team/, Pod "x-{number}" is invalid: {why}'}
        for number in range(3)
    ]
    (found,) = obstacles([], events, "team")
    assert (found.kind, found.permanent, found.why) == ("invalid", True, why)
