"""Training as a RayJob: create it or adopt the one that is there, follow it, and bring back what it made.

The RayJob outlives whoever started it. Its name follows from the work, so a step that is retried finds it; its result
and its checkpoints are in the store, so it does not matter which pods made them. A launcher that is told to leave
(SIGTERM, as when its pod is deleted) gives it a minute to be adopted; one that is interrupted by a person deletes it.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

import orjson

from fairlead.errors import (
    ClusterConflict,
    ClusterUnreachable,
    FairleadError,
    PodsCannotRun,
    StoreError,
    TrainError,
)
from fairlead.kube import Cluster
from fairlead.kube.kinds import EVENTS, PODS, RAYJOBS
from fairlead.logs import get_logger
from fairlead.spec.rayjob import RayJob
from fairlead.train.progress import Tell, TrainProgress
from fairlead.train.rayjob_driver import write_job
from fairlead.train.rayjob_logs import DriverLog, plain
from fairlead.train.rayjob_render import DIGEST, RUN, Place, label_value, pods_of, render, spec_digest
from fairlead.train.rayjob_state import State, choose, endpoint_of, started_at, state_of
from fairlead.train.rayjob_waiting import WaitingReport
from fairlead.train.remote import PROGRESS_NOW, Remote
from fairlead.train.worker import FAILURE, RESULT, Job, failure_of

_log = get_logger(__name__)

_POLL_SECONDS = 1.0
_LEAVING_SECONDS = 120.0
_SILENCE_SECONDS = 300.0
_ADOPTION_SECONDS = 60


class Terminated(BaseException):
    """SIGTERM arrived. No Exception: nothing on the way out may take it for an error of its own."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What `launch_rayjob` needs besides the job: which project, in which run, on which cluster."""

    project: str
    key: str
    run: str
    cluster: Cluster


def launch_rayjob(job: Job, launch: Launch, tell: Tell, wait: Callable[[float], None] = time.sleep) -> None:
    """Have the job's networks trained by a RayJob, and bring them to `job.run`.

    Raises what the workers refused, PodsCannotRun with the reason when they never ran, ClusterConflict when the name is
    taken, ClusterRefused and ClusterIncomplete when the cluster will not have it, TrainError when the job failed."""
    remote, pods = job.remote, job.train.rayjob
    if remote is None or pods is None:
        raise TrainError("launcher rayjob needs train.rayjob and a store in S3", where="train.launcher")
    if _bring_result(job, remote):
        return
    manifest = render(job.train, _place(launch, remote, pods))
    follower = _Follower(job, remote, launch, manifest, tell, wait)
    with _sigterm_raises():
        try:
            follower.begin()
            follower.follow()
        except Terminated:
            follower.hand_over()
            raise SystemExit(128 + signal.SIGTERM) from None
        except KeyboardInterrupt:
            follower.delete()
            raise
    if not _bring_result(job, remote):
        raise TrainError(
            "the RayJob succeeded and left no weights", where=remote.opened.url(remote.prefix), fix="run it again"
        )


class _Follower:
    """One RayJob from its creation to its end."""

    def __init__(
        self,
        job: Job,
        remote: Remote,
        launch: Launch,
        manifest: dict[str, Any],
        tell: Tell,
        wait: Callable[[float], None],
    ) -> None:
        self.job, self.remote, self.launch, self.cluster = job, remote, launch, launch.cluster
        self.manifest, self.name, self.tell, self.wait = manifest, str(manifest["metadata"]["name"]), tell, wait
        self.digest = spec_digest(manifest)
        self.log = DriverLog(self.cluster)
        pods = job.train.rayjob
        self.patience = pods.start_deadline if pods else 0.0
        self._told = b""

    # --- beginning ---------------------------------------------------------------------------------------------------
    def begin(self) -> None:
        """Create the RayJob, or adopt it."""
        deadline = time.monotonic() + _LEAVING_SECONDS
        while True:
            found = self.cluster.get(RAYJOBS, self.name)
            choice = choose(found, self.digest)
            if found is None or choice == "create":
                if self._create():
                    return
            elif choice == "adopt":
                self._adopt(found)
                return
            elif choice == "conflict":
                self._refuse(found)
            elif choice == "replace":
                self._say(f"removing the RayJob {self.name} of an earlier attempt: {_end_of(state_of(found))}")
                self.cluster.delete(RAYJOBS, self.name)
            if time.monotonic() > deadline:
                raise ClusterConflict(
                    f"the RayJob {self.name} is being deleted and does not go",
                    where=self.cluster.context,
                    fix=f"kubectl get rayjob {self.name} -n {self.cluster.namespace} -o yaml shows its finalizers; "
                    "the KubeRay operator has to run",
                )
            self.wait(_POLL_SECONDS)

    def _create(self) -> bool:
        self.manifest["metadata"]["labels"][RUN] = label_value(self.launch.run or "manual")
        self._check()
        self.remote.opened.delete(self.remote.key(FAILURE))
        self.remote.opened.delete(self.remote.key(PROGRESS_NOW))
        write_job(self.job)
        try:
            self.cluster.create(RAYJOBS, self.manifest)
        except ClusterConflict:
            return False  # somebody was faster
        self._say(f"created the RayJob {self.name} in {self.cluster.namespace}")
        return True

    def _check(self) -> None:
        """Have the API server check the RayJob and its pods; nothing is created when it refuses one.

        Also what is only needed later, so that nobody is left with a RayJob that cannot be followed."""
        for kind in (PODS, EVENTS):
            self.cluster.list(kind, labels=f"fairlead.dev/fit={self.name}")
        self.cluster.create(RAYJOBS, self.manifest, dry_run=True)
        if self.cluster.may("create", PODS):
            for pod in pods_of(self.manifest, self.cluster.namespace):
                try:
                    self.cluster.create(PODS, pod, dry_run=True)
                except PodsCannotRun as error:
                    _log.warning("%s", error)  # a quota that is full now may have room later; waiting says so

    def _adopt(self, found: Mapping[str, Any]) -> None:
        change: dict[str, Any] = {"metadata": {"labels": {RUN: label_value(self.launch.run or "manual")}}}
        # The one who left may have given it a minute to be adopted.
        change["spec"] = {"activeDeadlineSeconds": self.manifest["spec"]["activeDeadlineSeconds"]}
        self.cluster.patch(RAYJOBS, self.name, change)
        began = started_at(found)
        since = f", {(datetime.now(UTC) - began).total_seconds():.0f} s old" if began else ""
        self._say(f"adopted the RayJob {self.name}{since}")

    def _refuse(self, found: Mapping[str, Any]) -> NoReturn:
        labels = found["metadata"].get("labels") or {}
        ours = labels.get("app.kubernetes.io/managed-by") == "fairlead"
        whose = f"run {labels.get(RUN, '?')}" if ours else f"{labels.get('app.kubernetes.io/managed-by', 'somebody')}"
        delete = f"kubectl delete rayjob {self.name} -n {self.cluster.namespace}"
        raise ClusterConflict(
            f"there is another RayJob {self.name}, of {whose}",
            where=f"{self.cluster.context}, namespace {self.cluster.namespace}",
            why="it trains the same with other resources, and goes on" if ours else "it was not made by Fairlead",
            fix=f"wait for it, or end it: {delete}" if ours else f"use another namespace, or {delete}",
        )

    # --- following ---------------------------------------------------------------------------------------------------
    def follow(self) -> None:
        """Until it has succeeded. Raises when it has not, or when its pods do not come up in time."""
        report = WaitingReport(self.cluster, self.name, self.patience)
        heard = time.monotonic()
        while True:
            try:
                found = self.cluster.get(RAYJOBS, self.name)
                if found is None:
                    self._gone()
                state = state_of(found)
                for line in self.log.new_lines(found):
                    _log.info("[%s] %s", self.name, line)
                if state.finished:
                    return self._finish(state)
                self._tell_progress(running=state.phase == "running")
                said = report.look(found, state)
                if said:
                    self._say(said)
                self._refuse_what_comes_again()
                heard = time.monotonic()
            except (ClusterUnreachable, StoreError) as error:
                # The job goes on without us; so do we, for a while.
                _log.warning("not seen: %s", error.what)
                if time.monotonic() - heard > _SILENCE_SECONDS:
                    raise
            except PodsCannotRun:
                self.delete()
                raise
            self.wait(_POLL_SECONDS)

    def _finish(self, state: State) -> None:
        refused = failure_of(self.job)
        if refused is not None:
            raise refused
        if state.phase == "succeeded":
            return
        raise TrainError(
            f"the RayJob {self.name} {_end_of(state)}",
            where=f"{self.cluster.context}, namespace {self.cluster.namespace}",
            why=_cause(state.message) or None,
            fix="The checkpoints are in the store: run the same command again once the cause is gone.",
        )

    def _refuse_what_comes_again(self) -> None:
        """A worker has said why an attempt must not be repeated: no need to wait for KubeRay's retries."""
        refused = failure_of(self.job)
        if refused is not None:
            self.delete()
            raise refused

    def _gone(self) -> NoReturn:
        raise TrainError(
            f"the RayJob {self.name} was deleted",
            where=f"{self.cluster.context}, namespace {self.cluster.namespace}",
            why="somebody deleted it while it was followed",
            fix="The checkpoints are in the store: run the same command again to go on.",
        )

    def _tell_progress(self, *, running: bool) -> None:
        line = self.remote.read(PROGRESS_NOW) if running else None
        if line and line != self._told:
            self._told = line
            self.tell(TrainProgress(**orjson.loads(line)))

    def _say(self, sentence: str) -> None:
        _log.info("%s", sentence)
        self.tell(TrainProgress("start", 0.0, note=sentence))

    # --- leaving -----------------------------------------------------------------------------------------------------
    def delete(self) -> None:
        """Delete the RayJob with its pods; nothing happens when that cannot be done."""
        try:
            if self.cluster.delete(RAYJOBS, self.name):
                self._say(f"deleted the RayJob {self.name}")
        except FairleadError as error:
            _log.warning("the RayJob %s may still be there: %s", self.name, error)

    def hand_over(self) -> None:
        """Let it go on for a minute: a retry of this step adopts it, and without one KubeRay ends it."""
        try:
            found = self.cluster.get(RAYJOBS, self.name)
            began = started_at(found) if found else None
            if found is None or state_of(found).finished:
                return
            if began is None or (found["metadata"].get("annotations") or {}).get(DIGEST) != self.digest:
                self.delete()
                return
            age = int((datetime.now(UTC) - began).total_seconds())
            self.cluster.patch(RAYJOBS, self.name, {"spec": {"activeDeadlineSeconds": age + _ADOPTION_SECONDS}})
            _log.warning("leaving: the RayJob %s ends in %d s unless it is adopted", self.name, _ADOPTION_SECONDS)
        except FairleadError as error:
            _log.warning("the RayJob %s is left to its deadline: %s", self.name, error)


def _bring_result(job: Job, remote: Remote) -> bool:
    """Download all networks when all are trained."""
    return all(remote.pull_files(job.run / name, name, RESULT) for name in job.networks())


def _place(launch: Launch, remote: Remote, pods: RayJob) -> Place:
    return Place(launch.project, launch.key, launch.run, remote.store, remote.prefix, *endpoint_of(pods))


def _end_of(state: State) -> str:
    words = {"succeeded": "succeeded", "stopped": "was stopped", "invalid": "was refused by KubeRay"}
    reasons = {
        "DeadlineExceeded": "took longer than train.rayjob.deadline",
        "PreRunningDeadlineExceeded": "did not start within train.rayjob.start_deadline",
        "AppFailed": "failed",
    }
    return words.get(state.phase) or reasons.get(state.reason) or f"failed ({state.reason or 'no reason'})"


def _cause(message: str) -> str:
    """The end of what the driver printed; Ray's page on memory in one line."""
    if "OOM" in message or "low on memory" in message:
        return "a pod ran out of memory: raise train.rayjob.head.memory or train.rayjob.worker.memory"
    lines = [line.strip() for line in plain(message).splitlines() if line.strip()]
    return "\n".join(lines[-12:])[-2000:]


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: object) -> NoReturn:
        raise Terminated

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
