"""The folder that a command line is about, for verbs that need no valid project file."""

import argparse
from pathlib import Path

from fairlead.errors import SpecNotFound


def project_folder(args: argparse.Namespace) -> Path:
    """The folder of the project file. Raises SpecNotFound when there is none."""
    path = Path(args.file)
    if not path.is_file():
        raise SpecNotFound(
            f"there is no project file {path.name}",
            where=str(path.parent.resolve()),
            fix="fairlead init --from DATA, or -f FILE",
        )
    return path.resolve().parent
