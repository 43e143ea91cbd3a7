"""Take away from an environment what its programs never open, and compile the rest: ``python slim.py LIST MODULE...``

At the end the MODULEs are imported, so that taking too much away fails here and not in a pod.

LIST names one glob a line, relative to site-packages; ``#`` begins a comment. A glob that matches nothing is an error,
so that the list cannot rot.
"""

import compileall
import importlib
import shutil
import sys
import sysconfig
from pathlib import Path
from py_compile import PycInvalidationMode


def main() -> None:
    """Remove, then compile byte code that holds no times, so that the same build gives the same files."""
    packages = Path(sysconfig.get_paths()["purelib"])
    globs = [line.split("#")[0].strip() for line in Path(sys.argv[1]).read_text().splitlines()]
    before = _size(packages)
    for glob in filter(None, globs):
        found = sorted(packages.glob(glob))
        if not found:
            sys.exit(f"{sys.argv[1]}: {glob} matches nothing in {packages}")
        for path in found:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    slim = _size(packages)
    done = compileall.compile_dir(packages, quiet=2, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH, workers=0)
    for module in sys.argv[2:]:
        importlib.import_module(module)
    print(f"{before >> 20} MiB, less what is unused {slim >> 20} MiB, compiled {_size(packages) >> 20} MiB ({done=})")


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


main()
