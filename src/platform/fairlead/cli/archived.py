"""A command line on a project that comes out of the store: what pods run.

    python -m fairlead.cli.archived s3://bucket/prefix DIGEST rollout start --version 3

The project's folder is fetched by its digest, then everything is as it would be there.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

BASE = Path("/var/fairlead/projects")


def main(arguments: Sequence[str]) -> int:
    """The exit code of the command."""
    from fairlead.cli.frame import run_command
    from fairlead.errors import FairleadError
    from fairlead.store import open_store
    from fairlead.store.archives import fetch_folder

    store, digest, *command = arguments
    try:
        folder = fetch_folder(open_store(store, Path.cwd()), digest, BASE)
    except FairleadError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    os.chdir(folder)
    return run_command(command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
