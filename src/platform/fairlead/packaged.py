"""Where the files that travel beside the code are: in the wheel inside the package, in a checkout at its root."""

from pathlib import Path


def packaged_folder(name: str) -> Path:
    """The folder `name` (``pipelines``, ``components`` or ``helm``) of this installation.

    Raises FileNotFoundError when the installation is incomplete.
    """
    package = Path(__file__).resolve().parent
    for candidate in (package / name, package.parents[2] / name):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"{name}/ is neither in {package} nor in {package.parents[2]}: reinstall fairlead")
