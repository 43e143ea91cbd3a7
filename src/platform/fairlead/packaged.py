"""Where the files that travel beside the code are: in the wheel inside the package, in a checkout at its root."""

import json
from pathlib import Path

from fairlead import __version__


def packaged_folder(name: str) -> Path:
    """The folder `name` (``pipelines``, ``components``, ``helm`` or ``images``) of this installation.

    Raises FileNotFoundError when the installation is incomplete.
    """
    package = Path(__file__).resolve().parent
    for candidate in (package / name, package.parents[2] / name):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"{name}/ is neither in {package} nor in {package.parents[2]}: reinstall fairlead")


def pushed_image(name: str) -> str | None:
    """The image `name` (``platform``, ``serving``, ``runner``) of this version by digest, where it was pushed to.

    None when images.lock knows no such push: then the image is named by its tag, by whoever pushed it.
    """
    try:
        lock = json.loads((packaged_folder("images") / "images.lock").read_text())
    except FileNotFoundError:
        return None
    entry = lock.get(name, {})
    return entry.get("pushed") if entry.get("version") == __version__ else None
