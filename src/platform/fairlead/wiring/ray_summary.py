"""The statistics of many files as tasks on Ray: the same bytes as in one process, whoever computes what.

A task summarises a chunk of neighbouring files and gives back its summary as JSON, some hundred KiB whatever the number
of rows. The driver joins them in the order of the chunks and keeps one; what is not joined yet waits in Ray's store.
"""

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fairlead.data.profile import Engine
from fairlead.data.schema import Schema
from fairlead.data.sources import Source
from fairlead.data.summary.cache import SummaryCache
from fairlead.data.summary.stream import Question, chunks, summarise_chunk
from fairlead.data.summary.table import TableSummary
from fairlead.errors import FairleadError, RayUnavailable, SourceUnreadable
from fairlead.spec.data import Data
from fairlead.wiring.local_ray import connect

_RETRIES = 2


def ray_engine(base: Path, tasks: int) -> Engine:
    """Summaries by at most `tasks` tasks at a time on the Ray of the project at `base`, started when there is none."""

    def engine(source: Source, question: Question, cache: Path | None, told: Callable[[int], None]) -> TableSummary:
        return _summarise(connect(base), source, question, base, cache, told, max(1, tasks))

    return engine


def _summarise(
    ray: Any,
    source: Source,
    question: Question,
    base: Path,
    cache: Path | None,
    told: Callable[[int], None],
    tasks: int,
) -> TableSummary:
    remote = ray.remote(num_cpus=1, max_retries=_RETRIES)(summarise_here)
    schema = None if question.schema is None else question.schema.model_dump_json(by_alias=True)
    asked = (question.data.model_dump_json(by_alias=True), schema, question.groups, question.sketches)
    waiting: deque[Any] = deque()
    total = TableSummary()

    def join_first() -> None:
        part = TableSummary.from_json(_result(ray, waiting.popleft()))
        told(part.rows)
        total.merge(part)

    for files in chunks(source):
        if len(waiting) >= 2 * tasks:
            join_first()
        if len(waiting) >= tasks:  # as many under way as asked for; done ones wait for their turn
            ray.wait([*waiting], num_returns=len(waiting) - tasks + 1, fetch_local=False)
        seen = [(file.uri, file.size_bytes, file.mtime_ns) for file in source.part(files).files]
        waiting.append(remote.remote(*asked, str(base), cache is not None, files.start, seen))
    while waiting:
        join_first()
    total.settle()
    source.check_unchanged()
    if cache is not None:
        SummaryCache(cache, question.key).prune()
    return total


def summarise_here(
    data: str,
    schema: str | None,
    groups: bool,
    sketches: bool,
    base: str,
    cached: bool,
    start: int,
    seen: list[tuple[str, int, int]],
) -> bytes:
    """What a task does: find its files again, and summarise them. Raises SourceUnreadable when they changed."""
    asked = Data.model_validate_json(data)
    known = None if schema is None else Schema.model_validate_json(schema)
    part = Source(asked, Path(base)).part(range(start, start + len(seen)))
    found = [(file.uri, file.size_bytes, file.mtime_ns) for file in part.files]
    if found != [tuple(item) for item in seen]:
        raise SourceUnreadable(
            "the source changed while it was read",
            where=seen[0][0],
            why="a task found other files than the driver",
            fix="run again when nobody writes to it",
        )
    folder = Path(base) if cached else None
    files = range(len(part.files))
    return summarise_chunk(part, Question(asked, known, groups, sketches), files, folder).to_json()


def _result(ray: Any, reference: Any) -> bytes:
    try:
        found: bytes = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, FairleadError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        raise RayUnavailable(
            f"a task was lost {_RETRIES + 1} times",
            why=str(error).split("\n")[0][:300],
            fix="run again with fewer --workers, each takes the memory of a row group",
        ) from error
    return found
