"""Names of the files of a data set, and their digests."""

import hashlib
import re
from pathlib import Path

from fairlead.records.codec import to_json
from fairlead.records.data import DatasetManifest

LABEL = "__label__"
WEIGHT = "__weight__"
MANIFEST = "manifest.json"
TRANSFORM = "transform.json"
STATISTICS = "statistics.json"
SCHEMA = "schema.yaml"

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
# Facts that say what the data is, apart from when and from which path it was read.
_IDENTITY = (
    "project", "task", "label", "label_classes", "schema", "features", "split_by", "boundaries", "time", "entity",
    "transform_sha256",
)  # fmt: skip


def sha256_of(path: Path) -> str:
    """The hex digest of a file's content, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint_of(manifest: DatasetManifest) -> str:
    """The sha256 over the content of all shards, the schema and the transform; file times and paths do not count."""
    value = {name: getattr(manifest, name) for name in _IDENTITY}
    value["shards"] = [[shard.path, shard.split, shard.rows, shard.sha256] for shard in manifest.shards]
    value["schema_sha256"] = manifest.files.get(SCHEMA, "")
    return hashlib.sha256(to_json(value)).hexdigest()


def is_fingerprint(text: str) -> bool:
    """Is it one, and therefore safe as the name of a folder?"""
    return _FINGERPRINT.fullmatch(text) is not None


def is_plain_name(name: str) -> bool:
    """Is it a file name that cannot lead out of its folder?"""
    return _FILE.fullmatch(name) is not None


def digests_of(manifest: DatasetManifest) -> dict[str, str]:
    """File name -> sha256, of everything except the manifest itself."""
    return {**{shard.path: shard.sha256 for shard in manifest.shards}, **manifest.files}
