"""A disk that is full, without a disk of its own: the system refuses to let files grow beyond a limit."""

import contextlib
import re
import resource
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Writes beyond `size` bytes of any file fail with EFBIG, in Python and in libraries alike."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def unfinished(folder: Path) -> list[str]:
    """What a writer that was cut off has left below `folder`: staging folders and files under temporary names."""
    names = re.compile(r"\.(partial|staging|tmp|old)-.*|.*\.(partial|tmp)")
    cut = [path for path in folder.rglob("*") if names.fullmatch(path.name) or path.parent.name == ".staged"]
    return sorted(str(path.relative_to(folder)) for path in cut)
