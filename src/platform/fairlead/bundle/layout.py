"""The names of the files of a bundle, and its digest."""

import hashlib
import re
from collections.abc import Mapping

MODEL = "model.onnx"
TRANSFORM = "transform.json"
SIGNATURE = "signature.json"
STATISTICS = "statistics.json"
CALIBRATION = "calibration.json"
CARD = "card.md"
LINEAGE = "lineage.json"
MANIFEST = "manifest.json"

DRAFT_FILES = (MODEL, TRANSFORM, SIGNATURE, STATISTICS)
REQUIRED_FILES = (*DRAFT_FILES, CALIBRATION, CARD, LINEAGE)
FORMAT = 1

# Besides the required files only text may travel along: nothing that any program would load as code or unpickle.
_FURTHER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,80}\.(json|md|html|txt)\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


def is_file_name(name: object) -> bool:
    """May a bundle hold a file of this name (the manifest apart)?"""
    return isinstance(name, str) and name != MANIFEST and (name in REQUIRED_FILES or bool(_FURTHER.match(name)))


def is_sha256(text: object) -> bool:
    """64 lower-case hex digits?"""
    return isinstance(text, str) and bool(_SHA256.match(text))


def digest_of(files: Mapping[str, str]) -> str:
    """A bundle's digest: "sha256:" and the sha256 of the lines ``name sha256`` (each ended by a newline), by name."""
    lines = "".join(f"{name} {files[name]}\n" for name in sorted(files))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def digest_hex(digest: str) -> str:
    """The hex part of a digest. Raises ValueError when it is none."""
    kind, _, hexadecimal = digest.partition(":")
    if kind != "sha256" or not is_sha256(hexadecimal):
        raise ValueError(f"{digest[:100]!r} is no digest: expected sha256: and 64 hex digits")
    return hexadecimal
