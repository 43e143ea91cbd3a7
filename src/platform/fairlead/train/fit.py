"""The way in: one request, one result, however often it takes to get there.

What is there already is not done again: a trained network is exported, an exported one is returned, a half-trained one
is continued from its newest whole checkpoint.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch

from fairlead.atomic import write_atomic
from fairlead.dataset import PreparedData
from fairlead.errors import RunConfigurationChanged, TrainError
from fairlead.features.transform import Transform
from fairlead.train.export import export_onnx
from fairlead.train.models import builder_file
from fairlead.train.objective import TASKS
from fairlead.train.progress import Follower, Tell, TrainProgress
from fairlead.train.request import FitRequest, FitResult
from fairlead.train.worker import FAILURE, PROGRESS, WEIGHTS, Job, job_of, load_network, read_trained, work
from fairlead.train.workers import Workers

_REAL_ROWS = 512
_TRAINED_SHARE = 0.95
# Where and how often, not what: these may change between two attempts at the same fit.
_NOT_IDENTITY = {"launcher", "rayjob", "cache", "checkpoint", "preflight"}


def fit(request: FitRequest, progress: Tell) -> FitResult:
    """Train what the request asks for, or go on where an earlier attempt at the same request was stopped.

    `progress` is called from another thread while workers run. Raises TrainError (RunConfigurationChanged,
    PreflightFailed, LossNotFinite, CheckpointDamaged, ModelBuilderError, ExportMismatch), NotEnoughDisk,
    RayUnavailable, PreparedDataDamaged."""
    started = time.monotonic()
    job = job_of(request)
    _check(job)
    with _only_fit(job.run):
        _claim(job)
        (job.run / FAILURE).unlink(missing_ok=True)
        untrained = [name for name in job.networks() if read_trained(job.run / name) is None]
        if untrained:
            _train(job, request, progress)
        facts = {name: _trained(job, name) for name in job.networks()}
        parity = {}
        for number, name in enumerate(job.networks()):
            progress(TrainProgress("export", _TRAINED_SHARE + 0.05 * number / len(facts)))
            parity[name] = _export(job, name, facts[name]["weights_sha256"])
        progress(TrainProgress("done", 1.0))
    main = facts["main"]
    return FitResult(
        onnx=job.run / "main" / "model.onnx",
        twin_onnx=job.run / "twin" / "model.onnx" if "twin" in facts else None,
        weights=job.run / "main" / WEIGHTS,
        weights_sha256=main["weights_sha256"],
        history=main["history"],
        parity_max_abs=max(parity.values()),
        steps=main["steps"],
        seconds=time.monotonic() - started,
        resumed_from_step=main["resumed_from_step"] if untrained else main["steps"],
        workers=main["workers"],
        device=main["device"],
        facts={"notes": main["notes"], "times": main["times"], "twin": facts.get("twin", {})},
    )


def uses_ray(job: Job) -> bool:
    """Whether the workers of this job run under Ray."""
    launcher = job.train.launcher
    return launcher == "ray" or (launcher == "auto" and job.train.workers > 1)


def _check(job: Job) -> None:
    if job.task not in TASKS:
        raise TrainError(f"there is no task {job.task!r}", fix=f"One of {', '.join(TASKS)}.")
    if job.task != "regression" and job.num_classes < 2:
        raise TrainError(f"the task {job.task} needs two classes or more, not {job.num_classes}")
    if job.train.launcher == "inprocess" and job.train.workers > 1:
        raise TrainError(
            f"{job.train.workers} workers do not fit into this process",
            where="train.launcher",
            fix="Use train.launcher: ray, or train.workers: 1.",
        )
    local = job.train.launcher != "rayjob"
    if job.train.use_gpu == "yes" and local and not uses_ray(job) and not torch.cuda.is_available():
        raise TrainError("this machine has no GPU that PyTorch can use", where="train.use_gpu", fix="Set it to auto.")


def _train(job: Job, request: FitRequest, progress: Tell) -> None:
    progress(TrainProgress("start", 0.0))

    def scaled(event: TrainProgress) -> None:
        progress(_with_share(event, event.share * _TRAINED_SHARE))

    if job.train.launcher == "rayjob":
        _train_on_cluster(job, request, scaled)
        return

    use_gpu = job.train.use_gpu == "yes" or (job.train.use_gpu == "auto" and torch.cuda.is_available())
    with Follower(job.run / PROGRESS, scaled):
        if uses_ray(job):
            from fairlead.train.ray_launcher import launch

            launch(job, request.ray_address, use_gpu=use_gpu)
        else:
            with _threads_kept():
                work(job, Workers(0, 1, torch.device("cuda", 0) if use_gpu else torch.device("cpu")))


def _train_on_cluster(job: Job, request: FitRequest, progress: Tell) -> None:
    from fairlead.kube import open_cluster
    from fairlead.train.rayjob import Launch, launch_rayjob

    pods = job.train.rayjob
    cluster = open_cluster(pods.context if pods else None, pods.namespace if pods else None)
    launch_rayjob(job, Launch(request.project, job.run.name, request.run_id, cluster), progress)


def _trained(job: Job, name: str) -> dict[str, Any]:
    facts = read_trained(job.run / name)
    if facts is None:
        raise TrainError(f"the workers ended without weights of {name}", where=str(job.run / name))
    return facts


def _export(job: Job, name: str, weights_sha256: str) -> float:
    """Write model.onnx of one network, unless it is there for these weights already; returns its parity."""
    folder = job.run / name
    done = folder / "exported.json"
    try:
        facts = json.loads(done.read_bytes())
        same = facts["weights_sha256"] == weights_sha256
        if same and facts["onnx_sha256"] == hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest():
            return float(facts["parity_max_abs"])
    except (OSError, ValueError, KeyError):
        pass  # not exported yet, or not to the end
    network, objective, tensors = load_network(job, name, torch.device("cpu"))
    difference = export_onnx(network, objective, tensors, folder / "model.onnx", _real_rows(job), job.train.seed)
    digest = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    facts = {"weights_sha256": weights_sha256, "onnx_sha256": digest, "parity_max_abs": difference}
    write_atomic(done, orjson.dumps(facts))
    return difference


def _real_rows(job: Job) -> dict[str, np.ndarray]:
    """The first rows of the training split, transformed."""
    data = PreparedData(job.data)
    group = next(group for group in data.row_groups("train") if group.rows)
    table = data.read(group).slice(0, _REAL_ROWS)
    return dict(Transform.from_json(data.transform_json()).apply_table(table))


def _claim(job: Job) -> None:
    """Let the run folder belong to this configuration. Raises RunConfigurationChanged when it belongs to another."""
    file = job.run / "configuration.json"
    wanted = _identity(job)
    if file.exists():
        found = json.loads(file.read_bytes())
        if found != wanted:
            changed = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
            raise RunConfigurationChanged(
                "the run folder holds another fit",
                where=str(job.run),
                why=f"different: {', '.join(changed)}",
                fix="Use another run folder, or remove this one.",
            )
    else:
        write_atomic(file, json.dumps(wanted, indent=2, sort_keys=True).encode())


def _identity(job: Job) -> dict[str, Any]:
    """What two attempts must have in common for one to go on from the other's checkpoints."""
    train = {f"train.{k}": v for k, v in job.train.model_dump(mode="json").items() if k not in _NOT_IDENTITY}
    file = builder_file(job.train.model, job.project_dir)
    return {
        **train,
        "data": PreparedData(job.data).manifest.fingerprint,
        "task": job.task,
        "num_classes": job.num_classes,
        "builder_sha256": hashlib.sha256(file.read_bytes()).hexdigest() if file else None,
        "torch": torch.__version__,
    }


@contextmanager
def _only_fit(run: Path) -> Iterator[None]:
    """Refuse a second fit in the same run folder while the first one lives."""
    run.mkdir(parents=True, exist_ok=True)
    with (run / "fit.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainError(
                "another fit is running in this run folder", where=str(run), fix="Wait for it, or end it."
            ) from None
        os.set_inheritable(lock.fileno(), False)  # a child that outlives this process must not keep the lock
        yield


@contextmanager
def _threads_kept() -> Iterator[None]:
    """Give the process back as it was: training in this process chooses deterministic algorithms."""
    deterministic, threads = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic)
        torch.set_num_threads(threads)


def _with_share(event: TrainProgress, share: float) -> TrainProgress:
    import dataclasses

    return dataclasses.replace(event, share=share)
