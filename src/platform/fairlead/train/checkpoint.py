"""What a killed run continues from: whole checkpoints only, each verified before it is used.

    checkpoints/step-00000200/tensors.safetensors   model., ema., optimizer., best. tensors
                              state.json            position, history, scaler, whatever is no tensor
                              manifest.json         name, size and sha256 of the two, written last
    checkpoints/.staging-...                        being written; never looked at

A snapshot is copied to host memory at once and written by a background thread; the folder gets its name only when
everything in it is on disk. Where workers share no disk, each checkpoint is then also written to a mirror, and what the
mirror has is what counts.
"""

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson
import safetensors
import safetensors.torch
import torch

from fairlead.atomic import DISK_FULL, sync_folder
from fairlead.errors import CheckpointDamaged, NotEnoughDisk, StoreError, TrainError
from fairlead.logs import get_logger

_log = get_logger(__name__)

TENSORS, STATE, MANIFEST = "tensors.safetensors", "state.json", "manifest.json"
_PREFIX, _STAGING = "step-", ".staging-"

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that a run continues from. `step` counts optimizer steps from the start of the run."""

    step: int
    tensors: Tensors
    state: dict[str, Any]


class Mirror(Protocol):
    """Where checkpoints are kept for workers on other machines: exactly what writing, going on and pruning need."""

    def steps(self) -> list[int]:
        """Steps of the checkpoints that are there, oldest first."""

    def push(self, folder: Path) -> None:
        """Take a whole checkpoint."""

    def pull(self, folder: Path) -> None:
        """Make a local folder what is there under its name. Raises CheckpointDamaged."""

    def keep(self, steps: Collection[int]) -> None:
        """Forget all others."""

    def drop(self, step: int) -> None:
        """Forget one."""


class CheckpointStore:
    """The checkpoints of one network. One process writes; any may read."""

    def __init__(self, folder: Path, keep: int, stall_seconds: float = 20.0, mirror: Mirror | None = None) -> None:
        """`keep`: newest ones to keep besides the best. `stall_seconds`: how long `save` waits for the write before."""
        self.folder, self._keep, self._stall_seconds, self._mirror = folder, keep, stall_seconds, mirror
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fairlead-checkpoint")
        self._pending: Future[None] | None = None
        self.skipped = 0
        self.stalled_seconds = 0.0

    def prepare(self) -> None:
        """Create the folder and remove what a killed writer left half-written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.folder.glob(f"{_STAGING}*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def save(self, snapshot: Snapshot, *, best_step: int | None, must: bool = False) -> bool:
        """Write in the background. `snapshot` must hold copies in host memory that nobody changes any more.

        When the write before still goes on after `stall_seconds`, this one is left out and False returned, unless it
        `must` be written. Raises what the write before raised: NotEnoughDisk or TrainError."""
        started = time.monotonic()
        try:
            self._finish(None if must else self._stall_seconds)
        except FutureTimeout:
            self.skipped += 1
            _log.warning("checkpoint of step %d left out: the one before is still being written", snapshot.step)
            return False
        finally:
            self.stalled_seconds += time.monotonic() - started
        self._pending = self._pool.submit(self._write, snapshot, best_step)
        return True

    def flush(self) -> None:
        """Wait for the last write; raises what it raised."""
        self._finish(None)

    def close(self) -> None:
        """Wait for the writer and end it."""
        self._pool.shutdown(wait=True)

    def steps(self) -> list[int]:
        """Steps that can be gone on from, oldest first; nothing is said about whether they are whole."""
        return self._mirror.steps() if self._mirror is not None else self._local_steps()

    def _local_steps(self) -> list[int]:
        names = (path.name for path in self.folder.glob(f"{_PREFIX}*")) if self.folder.is_dir() else ()
        return sorted(int(name[len(_PREFIX) :]) for name in names if name[len(_PREFIX) :].isdigit())

    def load_newest(self) -> tuple[Snapshot | None, tuple[str, ...]]:
        """The newest whole checkpoint, and what was wrong with the newer ones, each named.

        (None, ()) when there are no checkpoints. Raises CheckpointDamaged when there are some and none is whole."""
        damaged: list[str] = []
        for step in reversed(self.steps()):
            try:
                return self.load(step), tuple(damaged)
            except CheckpointDamaged as error:
                _log.warning("%s", error)
                damaged.append(error.what)
        if damaged:
            raise CheckpointDamaged(
                "no checkpoint is whole",
                where=str(self.folder),
                why="; ".join(damaged),
                fix="Remove the folder to train from the start.",
            )
        return None, ()

    def discard_after(self, step: int) -> None:
        """Remove checkpoints newer than the one that the run goes on from: it will write them again."""
        for newer in self._local_steps():
            if newer > step:
                self._remove(newer)
        if self._mirror is not None:
            for newer in self._mirror.steps():
                if newer > step:
                    self._mirror.drop(newer)

    def load(self, step: int) -> Snapshot:
        """One checkpoint. Raises CheckpointDamaged, naming the file and both digests."""
        folder = self.folder / _name(step)
        if self._mirror is not None:
            self._mirror.pull(folder)
        manifest = _read_manifest(folder)
        for name, facts in manifest.items():
            _verify(folder / name, facts)
        try:
            state = orjson.loads((folder / STATE).read_bytes())
            tensors = safetensors.torch.load_file(str(folder / TENSORS))
        except (OSError, ValueError, safetensors.SafetensorError) as error:
            raise _damaged(folder, f"it cannot be read: {error}") from error
        return Snapshot(step, tensors, state)

    def _finish(self, timeout: float | None) -> None:
        if self._pending is not None:
            self._pending.result(timeout)
            self._pending = None

    def _write(self, snapshot: Snapshot, best_step: int | None) -> None:
        staging = self.folder / f"{_STAGING}{snapshot.step:08d}-{uuid.uuid4().hex[:8]}"
        final = self.folder / _name(snapshot.step)
        try:
            staging.mkdir(parents=True)
            files = {
                TENSORS: safetensors.torch.save(snapshot.tensors),
                STATE: orjson.dumps(snapshot.state, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2),
            }
            manifest = {}
            for name, data in files.items():
                _write_synced(staging / name, data)
                manifest[name] = {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            content = {"format": 1, "step": snapshot.step, "files": manifest}
            _write_synced(staging / MANIFEST, json.dumps(content, sort_keys=True, indent=2).encode())
            sync_folder(staging)
            if final.exists():
                self._remove(snapshot.step)
            staging.rename(final)
            sync_folder(self.folder)
        except OSError as error:
            shutil.rmtree(staging, ignore_errors=True)
            raise _cannot_write(error, self.folder, sum(t.nbytes for t in snapshot.tensors.values())) from error
        self._prune(best_step)
        if self._mirror is not None:
            self._push(self._mirror, final)

    def _push(self, mirror: Mirror, checkpoint: Path) -> None:
        try:
            mirror.push(checkpoint)
            mirror.keep(self._local_steps())
        except StoreError as error:
            # Training is worth more than this checkpoint; the next one is tried, and the result has to arrive anyway.
            self.skipped += 1
            _log.warning("checkpoint %s did not reach the store: %s", checkpoint.name, error)

    def _prune(self, best_step: int | None) -> None:
        steps = self._local_steps()
        kept = {*steps[-self._keep :], *([best_step] if best_step is not None else [])}
        for step in steps:
            if step not in kept:
                self._remove(step)

    def _remove(self, step: int) -> None:
        # Renamed first: a folder that is only half removed must not look like a damaged checkpoint.
        doomed = self.folder / f"{_STAGING}old-{step:08d}-{uuid.uuid4().hex[:8]}"
        (self.folder / _name(step)).rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def digest_tensors(tensors: Tensors) -> str:
    """sha256 over name, type, shape and bytes of all tensors in sorted order; hex."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _name(step: int) -> str:
    return f"{_PREFIX}{step:08d}"


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _read_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        files: dict[str, dict[str, Any]] = manifest["files"]
        complete = set(files) == {TENSORS, STATE} and manifest["step"] == int(folder.name[len(_PREFIX) :])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(folder, f"{MANIFEST} is missing or no manifest ({type(error).__name__})") from error
    if not complete:
        raise _damaged(folder, f"{MANIFEST} does not describe this checkpoint")
    return files


def _verify(path: Path, facts: dict[str, Any]) -> None:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise _damaged(path.parent, f"{path.name} cannot be read: {error.strerror}") from error
    if digest.hexdigest() != facts.get("sha256"):
        raise _damaged(path.parent, f"{path.name} has sha256 {digest.hexdigest()}, not {facts.get('sha256')}")


def _damaged(folder: Path, why: str) -> CheckpointDamaged:
    return CheckpointDamaged(
        f"the checkpoint {folder.name} is damaged: {why}", where=str(folder), fix="The next older whole one is used."
    )


def _cannot_write(error: OSError, folder: Path, needed: int) -> TrainError | NotEnoughDisk:
    if error.errno in DISK_FULL:
        return NotEnoughDisk(
            "the disk is too full for a checkpoint",
            where=str(folder),
            why=f"needed {needed:,} bytes, free {shutil.disk_usage(folder).free:,}",
            fix="Free some space and run the same command again: it goes on from the checkpoint before.",
        )
    return TrainError(f"a checkpoint cannot be written: {error.strerror}", where=str(folder))
