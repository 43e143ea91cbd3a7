"""The compiled pipelines that the repository holds: what a cluster gets, and what a change of a component changes."""

import tempfile
from pathlib import Path

from fairlead.components.image import DEFAULT_IMAGE, IMAGE
from fairlead.pipelines.on_cluster import train_and_release
from kfp import compiler

COMPILED = Path(__file__).resolve().parent / "compiled"


def goldens() -> dict[Path, str]:
    """Every golden file and the content that it should have, on the default image.

    Raises RuntimeError when ``FAIRLEAD_IMAGE`` names another image: goldens do not depend on the environment.
    """
    if IMAGE != DEFAULT_IMAGE:
        raise RuntimeError(f"goldens are compiled for {DEFAULT_IMAGE}; unset FAIRLEAD_IMAGE ({IMAGE})")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(train_and_release, str(path))
        return {COMPILED / "train_and_release.yaml": path.read_text(encoding="utf-8")}


def differing() -> list[Path]:
    """The goldens that are missing or differ from what the code gives."""
    return [path for path, text in goldens().items() if not path.is_file() or path.read_text(encoding="utf-8") != text]


def write() -> list[Path]:
    """Write the goldens; the paths that changed."""
    changed = differing()
    for path, text in goldens().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return changed


if __name__ == "__main__":
    for changed_path in write():
        print(changed_path)
