"""Where a fit lives in a store when its workers share no disk.

    fits/<project>/<key>/job.json                             what is to be trained
                         main/checkpoints/step-00000200/<sha256>     the files of a checkpoint, by content
                                                        manifest.json  last: no manifest, no checkpoint
                         main/weights.safetensors, main/trained.json  (last)
                         progress.json, failure.json

Local folders are caches: what a worker finds in the store counts, so a fit goes on in pods that have never seen it.
"""

import hashlib
import json
import os
import shutil
import threading
import uuid
from collections.abc import Collection
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import orjson

from fairlead.dataset import fetch_prepared
from fairlead.errors import CheckpointDamaged, FairleadError, KeyMissing
from fairlead.logs import get_logger
from fairlead.store import Store, open_store
from fairlead.store.archives import fetch_folder
from fairlead.train.progress import TrainProgress

_log = get_logger(__name__)

JOB, PROGRESS_NOW = "job.json", "progress.json"
_MANIFEST = "manifest.json"
_PREFIX = "step-"
_TOLD_SECONDS = 1.0
_PRINTED_SECONDS = 10.0


@dataclass(frozen=True)
class Remote:
    """A fit's place: `store` (a URI), `prefix` (a key prefix below it), the prepared data's `fingerprint`, and the
    sha256 of the project's `archive`."""

    store: str
    prefix: str
    fingerprint: str
    archive: str

    @cached_property
    def opened(self) -> Store:
        """The store itself."""
        return open_store(self.store, Path.cwd())

    def to_value(self) -> dict[str, str]:
        """As JSON."""
        return asdict(self)

    def key(self, *parts: str) -> str:
        """A key below the fit's prefix."""
        return "/".join((self.prefix, *parts))

    def read(self, *parts: str) -> bytes | None:
        """An object below the prefix, None when there is none."""
        try:
            return self.opened.read(self.key(*parts))
        except KeyMissing:
            return None

    def write(self, data: bytes, *parts: str) -> None:
        """Write an object below the prefix."""
        self.opened.write(self.key(*parts), data)

    def fetch_inputs(self, data: Path, project: Path) -> None:
        """Bring prepared data and project to where the job says they are, verified."""
        data.parent.mkdir(parents=True, exist_ok=True)
        fetch_prepared(self.opened, self.fingerprint, data.parent)
        fetch_folder(self.opened, self.archive, project.parent)

    def push_files(self, folder: Path, name: str, files: tuple[str, ...]) -> None:
        """Upload a network's result, in this order; nothing when the last one is there with the same content."""
        last = (folder / files[-1]).read_bytes()
        if self.read(name, files[-1]) != last:
            for file in files:
                self.opened.upload(folder / file, self.key(name, file))

    def pull_files(self, folder: Path, name: str, files: tuple[str, ...]) -> bool:
        """Download a network's result, the last file first; False when it is not there."""
        last = self.read(name, files[-1])
        if last is None:
            return False
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            self.opened.download(self.key(name, file), folder / file)
        return True

    def mirror(self, name: str) -> "CheckpointMirror":
        """The checkpoints of one network."""
        return CheckpointMirror(self.opened, self.key(name, "checkpoints"))


class CheckpointMirror:
    """Checkpoints in a store. Files are named by their content, so two writers cannot tear each other's."""

    def __init__(self, store: Store, prefix: str) -> None:
        self._store, self._prefix = store, prefix

    def steps(self) -> list[int]:
        """Steps with a manifest, oldest first."""
        keys = self._store.list(f"{self._prefix}/{_PREFIX}")
        names = (key[len(self._prefix) + 1 :].split("/") for key in keys if key.endswith(f"/{_MANIFEST}"))
        return sorted(int(parts[0][len(_PREFIX) :]) for parts in names)

    def push(self, folder: Path) -> None:
        """Upload a whole checkpoint; its manifest last."""
        manifest = (folder / _MANIFEST).read_bytes()
        for name, facts in json.loads(manifest)["files"].items():
            self._store.upload(folder / name, f"{self._prefix}/{folder.name}/{facts['sha256']}")
        self._store.write(f"{self._prefix}/{folder.name}/{_MANIFEST}", manifest)

    def pull(self, folder: Path) -> None:
        """Make `folder` what the store has under its name. Raises CheckpointDamaged when that is not whole."""
        place = f"{self._prefix}/{folder.name}"
        try:
            manifest = self._store.read(f"{place}/{_MANIFEST}")
            if (folder / _MANIFEST).is_file() and (folder / _MANIFEST).read_bytes() == manifest:
                return
            files = {str(name): str(facts["sha256"]) for name, facts in json.loads(manifest)["files"].items()}
            staging = folder.with_name(f".staging-{uuid.uuid4().hex}")
            staging.mkdir(parents=True)
            try:
                for name, digest in files.items():
                    self._store.download(f"{place}/{digest}", staging / Path(name).name)
                (staging / _MANIFEST).write_bytes(manifest)
                shutil.rmtree(folder, ignore_errors=True)
                staging.rename(folder)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
        except (KeyMissing, ValueError, KeyError, TypeError) as error:
            raise CheckpointDamaged(
                f"the checkpoint {folder.name} is damaged: it is not whole in the store",
                where=self._store.url(place),
                why=str(error),
                fix="The next older whole one is used.",
            ) from error

    def keep(self, steps: Collection[int]) -> None:
        """Remove all other checkpoints."""
        for step in self.steps():
            if step not in steps:
                self.drop(step)

    def drop(self, step: int) -> None:
        """Remove one checkpoint, its manifest first."""
        place = f"{self._prefix}/{_PREFIX}{step:08d}"
        self._store.delete(f"{place}/{_MANIFEST}")
        for key in self._store.list(f"{place}/"):
            self._store.delete(key)


class ProgressTeller:
    """Brings the newest line of a side file to the store and to standard output, from a thread of its own.

    Progress that does not arrive is no reason to stop training."""

    def __init__(self, remote: Remote, side_file: Path) -> None:
        self._remote, self._file = remote, side_file
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._tell, name="fairlead-progress", daemon=True)
        self._told = b""

    def __enter__(self) -> "ProgressTeller":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()

    def _tell(self) -> None:
        since_printed = _PRINTED_SECONDS
        while True:
            last_look = self._closing.is_set()
            line = _last_line(self._file)
            if line and line != self._told:
                self._told = line
                try:
                    self._remote.write(line, PROGRESS_NOW)
                except FairleadError as error:
                    _log.debug("progress not told: %s", error)
                if since_printed >= _PRINTED_SECONDS or last_look:
                    since_printed = 0.0
                    print(TrainProgress(**orjson.loads(line)).sentence(), flush=True)
            if last_look:
                return
            self._closing.wait(_TOLD_SECONDS)
            since_printed += _TOLD_SECONDS


def _last_line(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - 8192))
            lines = stream.read().split(b"\n")
    except OSError:
        return b""
    # The text after the last line break is still being written.
    return lines[-2] if len(lines) > 1 else b""


def folders_of(remote: Remote) -> tuple[Path, Path, Path]:
    """Where data, project and run are on this machine: below $FAIRLEAD_BASE."""
    root = Path(os.environ.get("FAIRLEAD_BASE", "/var/fairlead"))
    name = hashlib.sha256(remote.prefix.encode()).hexdigest()[:24]
    return root / "prepared" / remote.fingerprint, root / "projects" / remote.archive, root / "fits" / name
