"""``python -m hostile.large_write NAME FOLDER``: the files of one large case."""

import sys
from pathlib import Path

from hostile.large import small
from hostile.large_cases import cases

if __name__ == "__main__":
    next(case for case in (small(), *cases()) if case.name == sys.argv[1]).write(Path(sys.argv[2]))
