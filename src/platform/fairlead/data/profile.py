"""The profile step: one look at all rows, and what it says."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fairlead.data.profile_describe import describe, with_distances
from fairlead.data.profile_leak_list import leak_list
from fairlead.data.profile_leaks import Scan, scan_source
from fairlead.data.profile_record import Profile
from fairlead.data.profile_warnings import findings
from fairlead.data.sources import Source
from fairlead.data.summary.stream import DEFAULT_MEMORY_BYTES, Question, summarise
from fairlead.data.summary.table import TableSummary
from fairlead.data.validation import Progress, quiet, schema_of
from fairlead.errors import EmptyData
from fairlead.spec.project import Project

Engine = Callable[[Source, Question, Path | None, Callable[[int], None]], TableSummary]
Clock = Callable[[], float]
_TELL_SECONDS = 1.0


@dataclass(frozen=True)
class ProfileOptions:
    """`memory_bytes`: what reading may take beside the program itself; `cache`: keep each file's statistics, and use
    those kept; `groups`: by split, month and label as well; `leaks`: scan the features, in some of the rows; `against`:
    another source to set beside this one."""

    memory_bytes: int = DEFAULT_MEMORY_BYTES
    cache: bool = True
    groups: bool = True
    leaks: bool = True
    against: str | None = None


def profile_data(
    project: Project,
    base: Path,
    options: ProfileOptions | None = None,
    progress: Progress | None = None,
    engine: Engine | None = None,
    clock: Clock = time.monotonic,
) -> Profile:
    """Profile `data.source`, streaming. `engine` joins the files' summaries elsewhere, for instance on Ray.

    Rows are described as they are: what breaks the schema is counted, not left out (`data validate` judges). Raises
    SourceNotFound, SourceUnreadable, EmptyData."""
    options = options or ProfileOptions()
    started = clock()
    profile, summary = _profile(project, base, options, progress or quiet, engine, clock)
    if options.against is not None:
        data = project.data.model_copy(update={"source": options.against, "format": "auto"})
        other = project.model_copy(update={"data": data})
        against, theirs = _profile(other, base, options, progress or quiet, engine, clock)
        profile = with_distances(profile, summary, theirs, against)
    broken = summary.unreadable.get("", 0)
    warnings = findings(project, profile, summary.mixed, broken)
    return profile.model_copy(
        update={
            "warnings": warnings,
            "seconds": clock() - started,
            "memory_limit_bytes": options.memory_bytes,
            "memory_peak_bytes": _peak_bytes(),
        }
    )


def _profile(
    project: Project, base: Path, options: ProfileOptions, tell: Progress, engine: Engine | None, clock: Clock
) -> tuple[Profile, TableSummary]:
    source = Source(project.data, base)
    source.check_zones()
    kept = project.data.validate_.schema_file
    wanted = not source.typed or (kept is not None and (base / kept).exists())
    schema = schema_of(project, base, source, tell) if wanted else None
    question = Question(project.data, schema, options.groups)
    meter = Meter(source.num_rows, tell, clock)
    folder = base if options.cache else None
    if engine is not None:
        summary = engine(source, question, folder, meter.add)
    else:
        summary = summarise(source, question, folder, meter.add, options.memory_bytes)
    if not summary.rows:
        raise EmptyData("the source has no rows", where=source.files[0].uri, fix="check data.source")
    named = project.data.source if isinstance(project.data.source, str) else ", ".join(project.data.source)
    profile = describe(project, summary, named, len(source.files))
    if profile.label is None:
        return profile, summary
    scan = Scan(not_done="it was not asked for")
    if options.leaks:
        tell("looking for leaks", None)
        scan = scan_source(project, source, schema, options.memory_bytes)
    return profile.model_copy(update={"leaks": leak_list(project, profile, scan)}), summary


class Meter:
    """Tells how many rows were read, how fast, and how long it will take; at most once a second."""

    def __init__(self, total: int | None, tell: Progress, clock: Clock) -> None:
        self._total, self._tell, self._clock = total, tell, clock
        self._rows = 0
        self._started = self._told = clock()

    def add(self, rows: int) -> None:
        """So many more."""
        self._rows += rows
        now = self._clock()
        if now - self._told < _TELL_SECONDS:
            return
        self._told = now
        speed = self._rows / max(now - self._started, 1e-9)
        words = f"read {self._rows:,} rows, {speed:,.0f} rows/s"
        if self._total:
            left = max(self._total - self._rows, 0) / speed
            self._tell(f"{words}, {left:.0f} s left", self._rows / self._total)
        else:
            self._tell(words, None)


def _peak_bytes() -> int | None:
    """The most memory that this process had, where the system tells."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None
