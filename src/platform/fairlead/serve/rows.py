"""Recorded rows, for scoring them or for replaying them as requests."""

import glob
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as pads
from pyarrow import fs

from fairlead.errors import SourceNotFound, SourceUnreadable


def open_rows(data: str, base: Path) -> pads.Dataset:
    """The Parquet files that `data` names: a file, a folder or a glob (relative to `base`), or s3://bucket/prefix.

    Raises SourceNotFound when there is none, SourceUnreadable when one is no Parquet file or they differ in columns.
    """
    try:
        if data.startswith("s3://"):
            filesystem, path = fs.FileSystem.from_uri(data)
            return pads.dataset(path, filesystem=filesystem, format="parquet")
        return pads.dataset([str(path) for path in local_files(data, base)], format="parquet")
    except FileNotFoundError as error:
        raise SourceNotFound(f"{data} is not there", why=str(error)) from error
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
        raise SourceUnreadable(f"{data} cannot be read as Parquet", where=data, why=str(error)[:500]) from error


def local_files(data: str, base: Path) -> list[Path]:
    """The files that a path, a folder or a glob names, sorted. Raises SourceNotFound when there is none."""
    path = base / Path(data).expanduser()
    if path.is_dir():
        found = sorted(path.rglob("*.parquet"))
    elif path.is_file():
        found = [path]
    else:
        found = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file())
    if not found:
        raise SourceNotFound(
            f"{data} names no Parquet file", where=str(base), fix="Name a file, a folder, or a glob in quotes."
        )
    return found
