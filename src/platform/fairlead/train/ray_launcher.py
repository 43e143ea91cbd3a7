"""Workers under Ray Train. Everything that Ray is trusted with is here: starting them, and starting them again.

Checkpoints are not Ray's: it never hears of one, so nothing of its own bookkeeping has to survive a kill. A worker that
dies takes its group with it; the new group finds Fairlead's checkpoints and goes on.
"""

import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fairlead.errors import RayUnavailable, TrainError
from fairlead.logs import get_logger
from fairlead.train.ray_environment import RAY_TRAIN_SETTINGS
from fairlead.train.worker import Job, failure_of, work
from fairlead.train.workers import Workers

_log = get_logger(__name__)

MAX_FAILURES = 3
_ROOM_SECONDS = 600.0


def launch(job: Job, address: str | None, *, use_gpu: bool) -> None:
    """Run `work` on `job.train.workers` workers of the Ray at `address` (None: one of its own, while it takes).

    Raises what the workers refused, RayUnavailable, or TrainError when workers died more often than MAX_FAILURES."""
    for name, value in RAY_TRAIN_SETTINGS.items():
        os.environ.setdefault(name, value)
    with _connected(address, job.train.workers, told=job.remote is not None) as ray:
        # Pods join one by one, and one that was lost comes back.
        _check_room(ray, job.train.workers, use_gpu, patience=_ROOM_SECONDS if job.remote is not None else 0.0)
        _fit(job, use_gpu)


def _fit(job: Job, use_gpu: bool) -> None:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.config import LoggingConfig
    from ray.train.v2.api.exceptions import TrainingFailedError

    storage = job.run / "ray"
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"job": job.to_json()},
        torch_config=TorchConfig(backend="nccl" if use_gpu else "gloo", timeout_s=600),
        scaling_config=ScalingConfig(
            num_workers=job.train.workers, use_gpu=use_gpu, resources_per_worker=None if use_gpu else {"CPU": 1}
        ),
        run_config=RunConfig(
            # A name of its own each time: Ray must not try to restore what an attempt before left here.
            name=uuid.uuid4().hex,
            storage_path=str(storage),
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        failures = getattr(error, "worker_failures", {})
        refused = failure_of(job)
        if refused is not None:
            raise refused from error
        first = next(iter(failures.items()), (None, error))
        raise TrainError(
            f"workers failed more than {MAX_FAILURES} times",
            where=f"rank {first[0]}" if first[0] is not None else None,
            why=_last_line(first[1]),
            fix="The last checkpoint is kept: run the same command again once the cause is gone.",
        ) from error
    finally:
        shutil.rmtree(storage, ignore_errors=True)
    refused = failure_of(job)
    if refused is not None:
        raise refused


def _worker(config: dict[str, str]) -> None:
    """What each worker of Ray Train runs. Errors that Fairlead raised on purpose end the attempt without a retry."""
    import ray.train
    import ray.train.torch

    job = Job.from_json(config["job"])
    if failure_of(job) is not None:
        return
    context = ray.train.get_context()
    work(job, Workers(context.get_world_rank(), context.get_world_size(), ray.train.torch.get_device()))


@contextmanager
def _connected(address: str | None, workers: int, *, told: bool) -> Iterator[Any]:
    """A connection to Ray; one that this process has already is used and left as it is. `told`: workers print here."""
    import ray

    if ray.is_initialized():
        yield ray
        return
    if address is not None:
        _check_answer(address)
    quiet: dict[str, Any] = {"log_to_driver": told, "logging_level": "ERROR", "configure_logging": True}
    try:
        if address is None:
            cores = max(workers, os.cpu_count() or 1)
            ray.init(address="local", num_cpus=cores, include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except Exception as error:  # Ray raises many kinds, and ConnectionError is not the only one for no connection
        raise RayUnavailable(
            "Ray cannot be started" if address is None else "no Ray answers",
            where=address,
            why=_last_line(error),
            fix="`fairlead up` starts the local Ray; `fairlead doctor` checks the machine.",
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_answer(address: str) -> None:
    # Ray itself tries for half a minute before it gives up.
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=3).close()
    except OSError as error:
        raise RayUnavailable(
            "no Ray answers", where=address, why=str(error), fix="`fairlead up` starts the local Ray."
        ) from error


def _check_room(ray: Any, workers: int, use_gpu: bool, patience: float) -> None:
    # Ray would wait for ever for resources that the cluster does not have.
    kind = "GPU" if use_gpu else "CPU"
    deadline = time.monotonic() + patience
    while (total := float(ray.cluster_resources().get(kind, 0.0))) < workers and time.monotonic() < deadline:
        time.sleep(0.5)
    if total < workers:
        raise RayUnavailable(
            f"{workers} workers need {workers} {kind}s, and this Ray has {total:g}",
            fix=f"Lower train.workers, or give Ray more {kind}s.",
        )


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1][:500] if lines else type(error).__name__
