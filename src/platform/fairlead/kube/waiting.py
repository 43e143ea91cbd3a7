"""Why pods do not run, read from what the cluster says about them. Pure: mappings in, sentences out.

Looked at: the pods' conditions and containers, the events of whatever creates them, and the last end of containers that
start again and again. The order of the answer is the order in which a person should read it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_IMAGE = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
    }
)
_CONFIGURATION = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_ORDER = ("quota", "policy", "invalid", "image", "configuration", "crash", "unschedulable", "starting")


@dataclass(frozen=True, slots=True)
class Obstacle:
    """One reason why pods do not run. `kind`: quota, policy, invalid, image, configuration, crash, unschedulable,
    starting. `pods`: whom it holds up."""

    kind: str
    pods: tuple[str, ...]
    why: str
    fix: str

    @property
    def permanent(self) -> bool:
        """Whether it stays until a person changes something; a full cluster or quota may have room again."""
        return self.kind in ("policy", "invalid", "image", "configuration")

    def sentence(self) -> str:
        """One line for a person."""
        if self.kind == "starting":
            return self.why
        many = self.pods[0] if len(self.pods) == 1 else f"{len(self.pods)} pods"
        who = f"{many}: " if self.pods else ""
        return f"{who}{_WORDS[self.kind]}: {self.why}"


_WORDS = {
    "quota": "the quota is used up",
    "policy": "a policy keeps the pods out",
    "invalid": "the pods cannot be made",
    "image": "the image cannot be pulled",
    "configuration": "the container cannot be made",
    "crash": "the container ends again and again",
    "unschedulable": "no node has room",
    "starting": "starting",
}


def obstacles(
    pods: Iterable[Mapping[str, Any]], events: Iterable[Mapping[str, Any]] = (), namespace: str = ""
) -> list[Obstacle]:
    """What holds the pods up, the worst first; [] when all run. `events` are those of the pods' owners."""
    found: dict[tuple[str, str], tuple[list[str], str]] = {}
    of_pods = (each for pod in pods for each in _of_pod(pod, namespace))
    for kind, name, why, fix in (*_of_owners(events, namespace), *of_pods):
        holders, _ = found.setdefault((kind, why), ([], fix))  # what to do is said of the first one
        if name:
            holders.append(name)
    result = [Obstacle(kind, tuple(sorted(names)), why, fix) for (kind, why), (names, fix) in found.items()]
    return sorted(result, key=lambda obstacle: (_ORDER.index(obstacle.kind), obstacle.why))


_Found = tuple[str, str, str, str]


def _of_pod(pod: Mapping[str, Any], namespace: str) -> Iterator[_Found]:
    name = str(pod["metadata"]["name"])
    status = pod.get("status") or {}
    show = f"kubectl describe pod {name}" + (f" -n {namespace}" if namespace else "")
    if pod["metadata"].get("deletionTimestamp") or status.get("phase") in ("Succeeded", "Failed"):
        return
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            fix = f"{show}; ask for less, add nodes, or change node_selector and tolerations"
            yield "unschedulable", name, str(condition.get("message") or condition.get("reason") or "no reason"), fix
            return
    named = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    for container in named:
        yield from _of_container(name, container, show)


def _of_container(pod: str, container: Mapping[str, Any], show: str) -> Iterator[_Found]:
    waiting = (container.get("state") or {}).get("waiting")
    if not waiting:
        return
    reason, message = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
    said = f"{reason}: {message}" if message else reason
    if reason in _IMAGE:
        fix = f"{show}; check the image's name, that it was pushed, and pull_secrets"
        # The back-off's message repeats the image and says nothing about the cause, and alternates with the other one.
        yield "image", pod, f"{container.get('image', '')} ({_cause(reason, message)})", fix
    elif reason in _CONFIGURATION:
        yield "configuration", pod, said, f"{show}; create what it names"
    elif reason == "CrashLoopBackOff":
        yield "crash", pod, _last_end(container), f"kubectl logs {pod} --previous -c {container.get('name', '')}"


def _cause(reason: str, message: str) -> str:
    if reason == "InvalidImageName":
        return "the name is not valid"
    if reason == "ErrImageNeverPull":
        return "the node does not have it, and pull_policy is Never"
    for words, meaning in (
        ("not found", "there is no such image"),
        ("authorization failed", "the registry refuses the credentials"),
        ("401", "the registry refuses the credentials"),
        ("403", "the registry refuses the credentials"),
        ("no such host", "the registry's name is not known"),
    ):
        if words in message:
            return meaning
    return "the registry does not give it"


def _last_end(container: Mapping[str, Any]) -> str:
    end = (container.get("lastState") or {}).get("terminated") or {}
    reason = str(end.get("reason") or "Error")
    code = f", exit code {end['exitCode']}" if "exitCode" in end else ""
    hint = "; it needs more memory" if reason == "OOMKilled" else ""
    return f"{container.get('name', 'container')} ended with {reason}{code}{hint}"


def _of_owners(events: Iterable[Mapping[str, Any]], namespace: str) -> Iterator[_Found]:
    at = f" -n {namespace}" if namespace else ""
    for event in events:
        if event.get("type") != "Warning":
            continue
        message = str(event.get("message") or "")
        if "exceeded quota" in message or "must specify limits" in message or "failed quota" in message:
            yield "quota", "", _after(message, "forbidden: "), f"kubectl describe resourcequota{at}; ask for less"
        elif "violates PodSecurity" in message:
            yield "policy", "", _after(message, "forbidden: "), f"kubectl get namespace {namespace} --show-labels"
        elif "Pod" in message and " is invalid: " in message:
            yield "invalid", "", _after(message, " is invalid: "), f"correct what it names; kubectl get events{at}"
        elif "no PriorityClass" in message or ("serviceaccount" in message and "not found" in message):
            yield (
                "policy",
                "",
                _after(message, "forbidden: "),
                f"kubectl get priorityclass; kubectl get serviceaccount{at}",
            )


def _after(message: str, words: str) -> str:
    return message.rpartition(words)[2].strip()
