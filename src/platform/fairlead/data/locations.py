"""Which files a source names: paths, folders, globs, s3://, with hive partitions."""

import fnmatch
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
from pyarrow import fs

from fairlead.errors import DataError, SourceNotFound, SourceUnreadable

_FORMATS = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_COMPRESSED = (".gz", ".zst", ".bz2", ".lz4")
_GLOB = re.compile(r"[*?\[]")
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class Location:
    """One file. `uri` is relative to the project's folder where it lies below it, or s3://; `partitions` are the
    key=value folders on the way to it, as text."""

    uri: str
    filesystem: fs.FileSystem
    path: str
    size_bytes: int
    mtime_ns: int
    partitions: tuple[tuple[str, str | None], ...] = ()


def unreadable(location: Location, error: Exception, after: str = "") -> DataError:
    """What a failure to open or read a file is: SourceNotFound when it is gone or may not be read, SourceUnreadable
    otherwise. `after` says how far the reading came."""
    text = str(error).split("\n")[0]
    where = f"{location.uri}, {after}" if after else location.uri
    if isinstance(error, FileNotFoundError):
        fix = "run again when nobody moves the files, or correct data.source"
        return SourceNotFound(f"{location.uri} is gone", where=where, why=text, fix=fix)
    if isinstance(error, PermissionError) or "ACCESS_DENIED" in text or "HTTP status 403" in text:
        fix = "allow this user to read it (for s3:// see the AWS_* variables)"
        return SourceNotFound(f"{location.uri} may not be read", where=where, why=text, fix=fix)
    if location.uri.startswith("s3://"):
        fix = "run again; if it stays so, look at the S3 service"
    else:
        fix = "copy or write the file again"
    return SourceUnreadable(f"{location.uri} cannot be read", where=where, why=text, fix=fix)


def format_of(name: str) -> str | None:
    """parquet, csv or jsonl by the end of a file's name; None when it is something else."""
    lower = name.lower()
    for suffix in _COMPRESSED:
        if lower.endswith(suffix):
            inner = _FORMATS.get(os.path.splitext(lower.removesuffix(suffix))[1])
            return inner if inner != "parquet" else None
    return _FORMATS.get(os.path.splitext(lower)[1])


def find_files(sources: Iterable[str], base: Path, wanted: str) -> tuple[tuple[Location, ...], str]:
    """All files of `sources`, sorted by URI, and their format (`wanted`, or by name when it is "auto").

    Raises SourceNotFound for a source without files, SourceUnreadable when formats are mixed or unknown.
    """
    found: dict[str, Location] = {}
    for source in sources:
        files = _in_s3(source, wanted) if source.startswith("s3://") else _on_disk(source, base, wanted)
        if not files:
            raise SourceNotFound(
                f"{source} matches no data file",
                where=str(base),
                why="a folder is searched for .parquet, .csv and .jsonl files" if wanted == "auto" else None,
                fix="check data.source; relative paths start at the folder of the project file",
            )
        found.update({file.uri: file for file in files})
    files = [found[uri] for uri in sorted(found)]
    if wanted != "auto":
        return tuple(files), wanted
    formats = {format_of(file.path) for file in files}
    if len(formats) > 1 or None in formats:
        odd = next((f.uri for f in files if format_of(f.path) != format_of(files[0].path)), files[0].uri)
        raise SourceUnreadable(
            "cannot tell the format of the files by their names",
            where=odd,
            why="all files of a source have one format: .parquet, .csv or .jsonl",
            fix="set data.format, or narrow data.source",
        )
    return tuple(files), str(formats.pop())


def _on_disk(source: str, base: Path, wanted: str) -> list[Location]:
    local = fs.LocalFileSystem()
    pattern = Path(source)
    full = pattern if pattern.is_absolute() else base / pattern
    if _GLOB.search(source) and not full.exists():
        fixed = _before_glob(str(full))
        root = Path(fixed)
        matches = sorted(root.glob(str(full)[len(fixed) :].lstrip("/")))
    else:
        root, matches = full, [full]
    files: list[Location] = []
    for match in matches:
        if match.is_dir():
            inner = sorted(path for path in match.rglob("*") if path.is_file() and _is_data(path, match, wanted))
            files += [_local(path, base, match if match == full else root, local) for path in inner]
        elif match.is_file():
            files.append(_local(match, base, root if root.is_dir() else match.parent, local))
    return files


def _local(path: Path, base: Path, root: Path, local: fs.FileSystem) -> Location:
    facts = path.stat()
    absolute = path.resolve()
    try:
        uri = absolute.relative_to(base.resolve()).as_posix()
    except ValueError:
        uri = absolute.as_posix()
    relative = path.relative_to(root).parent.as_posix() if path != root else ""
    return Location(uri, local, str(path), facts.st_size, facts.st_mtime_ns, _partitions(relative))


def _in_s3(source: str, wanted: str) -> list[Location]:
    path = source.removeprefix("s3://").rstrip("/")
    filesystem = s3_filesystem()
    glob = _GLOB.search(path) is not None
    root = _before_glob(path) if glob else path
    try:
        info = filesystem.get_file_info(root)
        if info.type == fs.FileType.File:
            infos = [info]
        elif info.type == fs.FileType.NotFound:
            infos = []
        else:
            infos = filesystem.get_file_info(fs.FileSelector(root, recursive=True))
    except (OSError, pa.ArrowException) as error:
        raise SourceNotFound(
            f"{source} cannot be listed",
            where=source,
            why=str(error),
            fix="check the bucket and the AWS_* variables (AWS_ENDPOINT_URL for another S3 service)",
        ) from error
    # In a glob ** crosses folders and * does not, as on disk.
    matcher = _glob_regex(path) if glob else None
    files = []
    for info in infos:
        if info.type != fs.FileType.File:
            continue
        if matcher is not None and not matcher.fullmatch(info.path):
            continue
        relative = info.path[len(root) :].lstrip("/")
        if matcher is None and info.path != root and not _is_data(Path(info.path), Path(root), wanted):
            continue
        folder = relative.rpartition("/")[0]
        files.append(
            Location(f"s3://{info.path}", filesystem, info.path, info.size, info.mtime_ns or 0, _partitions(folder))
        )
    return files


def s3_filesystem() -> fs.FileSystem:
    """S3 with credentials, region and endpoint from the usual AWS_* variables."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    options: dict[str, object] = {"region": region, "connect_timeout": 5, "request_timeout": 30}
    if endpoint:
        scheme, _, host = endpoint.rpartition("://")
        options |= {"endpoint_override": host.rstrip("/"), "scheme": scheme or "https"}
    return fs.S3FileSystem(**options)


def _before_glob(path: str) -> str:
    """The folders before the first part with a wildcard."""
    match = _GLOB.search(path)
    return path[: match.start()].rpartition("/")[0] if match else path


def _glob_regex(path: str) -> re.Pattern[str]:
    parts = []
    for part in path.split("/"):
        parts.append("(?:[^/]+/)*" if part == "**" else fnmatch.translate(part)[4:-3].replace(".*", "[^/]*") + "/")
    return re.compile("".join(parts).removesuffix("/"))


def _is_data(path: Path, root: Path, wanted: str) -> bool:
    """Not hidden, not a marker such as _SUCCESS, and of the wanted format."""
    if any(part.startswith((".", "_")) for part in path.relative_to(root).parts):
        return False
    return format_of(path.name) is not None if wanted == "auto" else format_of(path.name) in (wanted, None)


def _partitions(folder: str) -> tuple[tuple[str, str | None], ...]:
    found = []
    for part in folder.split("/"):
        key, equals, value = part.partition("=")
        if equals and key:
            found.append((unquote(key), None if value == _NULL_PARTITION else unquote(value)))
    return tuple(found)
