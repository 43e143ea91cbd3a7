"""What this machine and this code are, as step records and bundles say it."""

import hashlib
import os
import platform
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import fairlead

# What can change a number that a run gives.
_PACKAGES = (
    *("numpy", "pyarrow", "scipy", "onnxruntime", "pydantic"),
    *("torch", "ray", "onnx", "onnxscript", "scikit-learn", "pandas", "safetensors"),
)
_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "venv"})


def environment_facts() -> dict[str, str]:
    """Python, platform, number of CPUs and the versions of the libraries that compute; absent ones are left out."""
    return dict(_facts())


def code_version(project: Path | None = None) -> str:
    """Which code ran: ``fairlead 0.1.0+<12 hex>``, and for a project folder with Python files `` project <12 hex>``.

    The digests are over the paths and contents of the Python sources, so that an edited checkout is another version.
    """
    own = f"fairlead {fairlead.__version__}+{_package_digest()}"
    theirs = _sources_digest(project) if project is not None else ""
    return f"{own} project {theirs}" if theirs else own


@cache
def _facts() -> tuple[tuple[str, str], ...]:
    facts = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": str(os.cpu_count() or 0),
    }
    for package in _PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            continue
    return tuple(facts.items())


@cache
def _package_digest() -> str:
    return _sources_digest(Path(fairlead.__file__).parent)


def _sources_digest(folder: Path) -> str:
    """12 hex digits over all Python files below `folder`, "" when there is none."""
    digest = hashlib.sha256()
    found = False
    for path in _sources(folder):
        found = True
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return digest.hexdigest()[:12] if found else ""


def _sources(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED and not name.startswith("."))
        for name in sorted(names):
            path = Path(place) / name
            if name.endswith(".py") and path.is_file():
                yield path
