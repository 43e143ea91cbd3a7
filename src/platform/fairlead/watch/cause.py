"""Why two sets of the same feature differ, where the difference has a shape that a season never has."""

from dataclasses import dataclass

from fairlead.records.data import ColumnStatistics
from fairlead.watch.cause_numbers import Explanation, explain_numbers, shape_of_statistics
from fairlead.watch.cause_values import Counts, explain_values
from fairlead.watch.distance import CYCLES, cumulative_distance

# A shift explains a difference of hours when it leaves less than this share of it.
_REST_AFTER_SHIFT = 0.4
_NAMES = {"hour": "hours", "minute": "minutes"}


@dataclass(frozen=True, slots=True)
class Cause:
    """A recognised cause in a sentence, and in a word (see `records.drift.ColumnDrift`)."""

    text: str
    kind: str


def moved_hours(source: ColumnStatistics, target: ColumnStatistics, part: str = "hour") -> Cause | None:
    """When the target's hours (or minutes) are the source's moved on by some: a time zone. Compares the spread over the
    day for every shift; the best one must explain most of the difference."""
    if part not in _NAMES or part not in source.parts or part not in target.parts:
        return None
    size = CYCLES[part][0]
    as_is = cumulative_distance(source.parts[part], target.parts[part], size)
    moved = {k: cumulative_distance(source.parts[part], target.parts[part], size, k) for k in range(1, size)}
    best = min(moved, key=lambda k: moved[k])
    if as_is == 0 or moved[best] > _REST_AFTER_SHIFT * as_is:
        return None
    signed = best if best <= size // 2 else best - size
    text = f"moved by about {signed:+d} {part}{'' if abs(signed) == 1 else 's'}: a time zone?"
    if part == "hour":
        text += f" (as UTC is to a clock at UTC{-signed:+03d}:00, or a clock at UTC{signed:+03d}:00 to UTC)"
    return Cause(text, "time_zone")


def other_unit(source: ColumnStatistics, target: ColumnStatistics) -> Cause | None:
    """When the target's numbers are the source's in another unit, or otherwise changed as `cause_numbers` knows it."""
    shapes = shape_of_statistics(source), shape_of_statistics(target)
    if shapes[0] is None or shapes[1] is None:
        return None
    return cause_of(explain_numbers(shapes[0], shapes[1]))


def default_value(source: ColumnStatistics, target: ColumnStatistics) -> Cause | None:
    """When one value of the target stands in the place of the source's others, which are as they were."""
    cause = other_unit(source, target) if target.edges else other_words(source, target)
    return cause if cause is not None and cause.kind == "default_value" else None


def other_words(source: ColumnStatistics, target: ColumnStatistics) -> Cause | None:
    """When the target names the source's values differently."""
    return cause_of(explain_values(Counts(source.top, source.count), Counts(target.top, target.count)))


def find_cause(source: ColumnStatistics, target: ColumnStatistics, part: str) -> Cause | None:
    """The cause that makes `target` of `source`, where one is recognised."""
    if part:
        return moved_hours(source, target, part)
    return other_unit(source, target) if target.edges else other_words(source, target)


def cause_of(explanation: Explanation | None) -> Cause | None:
    """What an explanation says."""
    return Cause(explanation.text, explanation.kind) if explanation is not None else None
