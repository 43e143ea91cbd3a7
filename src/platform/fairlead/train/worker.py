"""The life of one worker: read what there is, build the network, train it, then its twin with another seed.

The same for a worker under Ray, under torchrun and in this process: a launcher's whole job is to call `work` with a job
and `Workers`. What a worker leaves in the run folder says all that the driver needs.

    <run>/main, <run>/twin     checkpoints/, weights.safetensors, trained.json (last)
    <run>/progress.jsonl       what the first worker tells meanwhile
    <run>/failure.json         why an attempt must not be repeated

Workers that share no disk leave the same in a store (`remote`).
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import safetensors.torch
import torch

from fairlead.atomic import write_atomic
from fairlead.dataset import LABEL, WEIGHT, PreparedData
from fairlead.errors import FairleadError, StoreError, TrainError, all_errors
from fairlead.features.transform import Transform
from fairlead.spec.train import Train
from fairlead.train.checkpoint import CheckpointStore, digest_tensors
from fairlead.train.data_plan import DataPlan, sizes
from fairlead.train.feed import Feed, SplitReader
from fairlead.train.loop import Loop, Trained
from fairlead.train.models import build_model
from fairlead.train.objective import Objective, objective_for
from fairlead.train.preflight import SAMPLE_ROWS, check_disk, check_network
from fairlead.train.progress import SideFile, TrainProgress
from fairlead.train.remote import ProgressTeller, Remote
from fairlead.train.request import FitRequest
from fairlead.train.workers import Workers

WEIGHTS, TRAINED, FAILURE, PROGRESS = "weights.safetensors", "trained.json", "failure.json", "progress.jsonl"
CHECKPOINTS = "checkpoints"
RESULT = (WEIGHTS, TRAINED)
_LOCK_SECONDS = 120.0
_ROWS_PER_THREAD = 256


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker is to do; the same for all workers of a fit. `remote`: they share no disk."""

    train: Train
    data: Path
    task: str
    num_classes: int
    run: Path
    project_dir: Path
    remote: Remote | None = None

    def networks(self) -> tuple[str, ...]:
        """The folders of the networks to train, in order."""
        return ("main", "twin") if self.train.retraining_noise else ("main",)

    def to_json(self) -> str:
        """For launchers that start processes."""
        value = {"train": self.train.model_dump(mode="json"), "task": self.task, "num_classes": self.num_classes}
        value["remote"] = self.remote.to_value() if self.remote else None
        return json.dumps(value | {name: str(getattr(self, name)) for name in ("data", "run", "project_dir")})

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """What `to_json` wrote."""
        value = json.loads(text)
        paths = {name: Path(value[name]) for name in ("data", "run", "project_dir")}
        remote = Remote(**value["remote"]) if value.get("remote") else None
        train = Train.model_validate(value["train"])
        return cls(train, task=value["task"], num_classes=value["num_classes"], remote=remote, **paths)


def job_of(request: FitRequest) -> Job:
    """The request without what only the driver needs; paths made absolute, for workers that stand elsewhere."""
    data, run, project = (path.resolve() for path in (request.data, request.run, request.project_dir))
    return Job(request.train, data, request.task, request.num_classes, run, project, request.remote)


def work(job: Job, workers: Workers) -> None:
    """Train all networks of the job that are not trained yet.

    A FairleadError is written to failure.json before it is raised: it would come again, so nobody retries it."""
    try:
        with ExitStack() as stack:
            stack.enter_context(_only_writer(job.run, workers))
            if job.remote is not None:
                job.remote.fetch_inputs(job.data, job.project_dir)
                if workers.first:
                    stack.enter_context(ProgressTeller(job.remote, job.run / PROGRESS))
            _set_up_torch(workers, job.train)
            material = _Material(job, workers)
            for number, name in enumerate(job.networks()):
                # The first worker says whether it is trained: others may stand on machines that never saw the result.
                if not workers.told_by_first(int(workers.first and _is_trained(job, name))):
                    _train_one(material, name, (number / len(job.networks()), (number + 1) / len(job.networks())))
    except FairleadError as error:
        if job.remote is None or not isinstance(error, StoreError):  # a store that is away may be back for a retry
            _write_failure(job, error)
        raise


def failure_of(job: Job) -> FairleadError | None:
    """Why the attempt must not be repeated, wherever a worker has said so."""
    failure = read_failure(job.run)
    if failure is None and job.remote is not None:
        facts = job.remote.read(FAILURE)
        return _failure(facts) if facts is not None else None
    return failure


def _write_failure(job: Job, error: FairleadError) -> None:
    facts = orjson.dumps({"type": type(error).__name__, **error.as_dict()})
    write_atomic(job.run / FAILURE, facts)
    if job.remote is not None:
        try:
            job.remote.write(facts, FAILURE)
        except StoreError:
            return  # the error itself is on its way to the driver


def _is_trained(job: Job, name: str) -> bool:
    if job.remote is None:
        return read_trained(job.run / name) is not None
    return job.remote.pull_files(job.run / name, name, RESULT) and read_trained(job.run / name) is not None


def read_failure(run: Path) -> FairleadError | None:
    """Why the attempt must not be repeated, as the error that says so."""
    try:
        return _failure((run / FAILURE).read_bytes())
    except FileNotFoundError:
        return None


def _failure(data: bytes) -> FairleadError:
    facts = json.loads(data)
    cls = next((cls for cls in all_errors() if cls.__name__ == facts["type"]), TrainError)
    return cls(facts["what"], where=facts["where"], why=facts["why"], fix=facts["fix"])


def read_trained(folder: Path) -> dict[str, Any] | None:
    """What trained.json says, when it and the weights it describes are whole."""
    try:
        facts: dict[str, Any] = json.loads((folder / TRAINED).read_bytes())
        weights = safetensors.torch.load_file(str(folder / WEIGHTS))
    except (OSError, ValueError, safetensors.SafetensorError):
        return None
    return facts if digest_tensors(weights) == facts.get("weights_sha256") else None


def load_network(job: Job, name: str, device: torch.device) -> tuple[torch.nn.Module, Objective, tuple[Any, ...]]:
    """A trained network with its weights, its objective and the tensors that it takes."""
    material = _Material(job, Workers(0, 1, device))
    network = material.network(job.train.seed)
    network.load_state_dict(safetensors.torch.load_file(str(job.run / name / WEIGHTS)))
    return network.to(device).eval(), material.objective, material.tensors


class _Material:
    """What both networks are made from: data, transform, objective, and the rows' way to the device."""

    def __init__(self, job: Job, workers: Workers) -> None:
        self.job, self.workers = job, workers
        data = PreparedData(job.data)
        transform = Transform.from_json(data.transform_json())
        self.tensors = transform.tensors
        groups = data.row_groups("train")
        labels = (data.read(group, [LABEL])[LABEL].to_numpy() for group in groups)
        weighted = bool(groups) and WEIGHT in data.read(groups[0]).column_names
        weights = (data.read(group, [WEIGHT])[WEIGHT].to_numpy() for group in groups) if weighted else None
        self.objective = objective_for(job.task, job.num_classes, labels, weights)
        dtype = self.objective.label_dtype
        rows, validation_rows = sum(sizes(groups)), sum(sizes(data.row_groups("validation")))
        share = validation_rows / max(rows + validation_rows, 1)
        cache = job.train.cache
        self._train = SplitReader(data, "train", transform.apply_table, dtype, int(cache * (1 - share)))
        self._validation = SplitReader(data, "validation", transform.apply_table, dtype, int(cache * share))

    def feed(self, seed: int) -> Feed:
        """This worker's batches in the order of one seed."""
        train = self.job.train
        plan = DataPlan(sizes(self._train.groups), train.global_batch, train.accumulate, train.window_rows, seed)
        return Feed(plan, self._train, self._validation, self.workers.rank, self.workers.world, self.workers.device)

    def network(self, seed: int) -> torch.nn.Module:
        """A fresh network, the same on all workers."""
        torch.manual_seed(seed)
        job = self.job
        options = job.train.model_options
        return build_model(job.train.model, self.tensors, job.task, job.num_classes, options, job.project_dir)


def _train_one(material: _Material, name: str, share: tuple[float, float]) -> None:
    job, workers = material.job, material.workers
    seed = job.train.seed + job.networks().index(name)
    folder = job.run / name
    feed = material.feed(seed)
    network = material.network(seed).to(workers.device)
    side_file = SideFile(job.run / PROGRESS)
    mirror = job.remote.mirror(name) if job.remote is not None else None
    checkpoints = CheckpointStore(folder / CHECKPOINTS, job.train.checkpoint.keep, mirror=mirror)
    if job.train.preflight and name == "main" and not checkpoints.steps():
        if workers.first:
            side_file(TrainProgress("preflight", 0.0))
            check_disk(network, job.run, job.train.checkpoint.keep)
        sample = feed.sample(SAMPLE_ROWS)
        check_network(network, material.objective, sample, seed=seed, shared=workers.world > 1)
    train = job.train.model_copy(update={"seed": seed})
    phase = "train" if name == "main" else "twin"
    loop = Loop(train, network, material.objective, feed, workers, checkpoints, side_file, phase, share)
    try:
        trained = loop.run()
    finally:
        checkpoints.close()
    if workers.first:
        _write_trained(folder, trained, workers)
        if job.remote is not None:
            job.remote.push_files(folder, name, RESULT)


def _write_trained(folder: Path, trained: Trained, workers: Workers) -> None:
    write_atomic(folder / WEIGHTS, safetensors.torch.save(trained.weights))
    facts: Mapping[str, Any] = {
        "weights_sha256": digest_tensors(trained.weights),
        "history": trained.history,
        "steps": trained.steps,
        "resumed_from_step": trained.resumed_from_step,
        "notes": list(trained.notes),
        "times": trained.times,
        "workers": workers.world,
        "device": _device_name(workers.device),
    }
    write_atomic(folder / TRAINED, orjson.dumps(facts, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))


@contextmanager
def _only_writer(run: Path, workers: Workers) -> Iterator[None]:
    """Hold the run's lock while this group writes.

    After a kill the workers of the attempt before may live on for a moment; the lock is the kernel's, so it is free as
    soon as they are gone, and never stale."""
    if not workers.first:
        yield
        return
    run.mkdir(parents=True, exist_ok=True)
    with (run / "writer.lock").open("a") as lock:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TrainError(
                        "another fit writes to the run folder", where=str(run), fix="Wait for it, or end it."
                    ) from None
                time.sleep(0.1)
        yield


def _set_up_torch(workers: Workers, train: Train) -> None:
    if workers.device.type != "cpu":
        return
    # Workers on one machine share its cores; more threads than cores makes each step wait for the slowest.
    share = len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    share = min(share, int(os.environ.get("FAIRLEAD_THREADS", share)))  # a pod sees all cores of its node
    # A few rows are not worth a second thread: on a busy machine each operation would wait for a core to be free.
    rows = train.global_batch // (workers.world * train.accumulate)
    torch.set_num_threads(max(1, min(share, rows // _ROWS_PER_THREAD)))
    # Bit-equal resume is promised on CPUs. Filling fresh memory would only cost time.
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
