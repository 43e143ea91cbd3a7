"""Drafts between the train and the evaluate step: a folder on this machine, and in a shared store where steps are pods.

drafts/<key>/<file>      the files of the draft, and twin.onnx
             files.json  name and sha256 of each, last
"""

import hashlib
import json
import shutil
import uuid
from pathlib import Path

from fairlead.dataset.files import is_plain_name
from fairlead.errors import IntegrityError, KeyMissing
from fairlead.store import Store
from fairlead.wiring.context import Context

_LIST = "files.json"
_TWIN = "twin.onnx"


def twin_path(draft: Path) -> Path:
    """Where the network trained with another seed lies: beside the draft, because it is no part of the bundle."""
    return draft.with_name(draft.name + ".twin.onnx")


def publish_draft(context: Context, draft: Path) -> str:
    """What the next step is told: the draft's folder, or its URI in a store that other machines reach."""
    if not context.store.uri.startswith("s3://"):
        return str(draft)
    prefix = f"drafts/{draft.name}"
    sources = {path.name: path for path in sorted(draft.iterdir()) if path.is_file()}
    if twin_path(draft).is_file():
        sources[_TWIN] = twin_path(draft)
    listed = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in sources.items()}
    content = json.dumps(listed, sort_keys=True, indent=1).encode()
    if not _has(context.store, prefix, content):
        for name, path in sources.items():
            context.store.upload(path, f"{prefix}/{name}")
        context.store.write(f"{prefix}/{_LIST}", content)
    return context.store.url(prefix)


def fetch_draft(context: Context, told: str) -> Path:
    """The draft as a folder on this machine. Raises IntegrityError when the store's copy is not whole."""
    root = context.store.url("drafts") + "/"
    if not told.startswith(root):
        return Path(told)
    key = told.removeprefix(root)
    folder = context.home / "drafts" / key
    prefix = f"drafts/{key}"
    try:
        listed = json.loads(context.store.read(f"{prefix}/{_LIST}"))
    except KeyMissing as error:
        raise IntegrityError("the draft is not in the store", where=told, fix="run the train step again") from error
    if not all(is_plain_name(name) for name in listed):
        raise IntegrityError("the draft's list names files outside of it", where=told)
    twin = listed.pop(_TWIN, None)
    if _whole(folder, listed) and (twin is None or _digest(twin_path(folder)) == twin):
        return folder
    staging = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}.partial")
    staging.mkdir(parents=True)
    try:
        for name in listed:
            context.store.download(f"{prefix}/{name}", staging / name)
        if not _whole(staging, listed):
            raise IntegrityError("the draft in the store is damaged", where=told, fix="run the train step again")
        if twin is not None:
            context.store.download(f"{prefix}/{_TWIN}", twin_path(folder))
        shutil.rmtree(folder, ignore_errors=True)
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return folder


def _has(store: Store, prefix: str, content: bytes) -> bool:
    try:
        return store.read(f"{prefix}/{_LIST}") == content
    except KeyMissing:
        return False


def _whole(folder: Path, listed: dict[str, str]) -> bool:
    return all(_digest(folder / name) == digest for name, digest in listed.items())


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
