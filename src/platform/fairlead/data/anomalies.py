"""What validation tells of a source: rows that break the schema, by column and reason, and what is only worth a look.

Each anomaly has the first places where it stands and what the schema would have to say instead. What compares data with
what was accepted before is in `watch.baseline`; it gives the same record.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fairlead.data.checks import Problem
from fairlead.data.schema import ColumnRule
from fairlead.data.suggestions import KINDS, kind_of_reason, suggested
from fairlead.errors import AnomaliesFound
from fairlead.features.novelty import chance_of_all_later, most_unseen
from fairlead.records.drift import Anomaly, Place

FALSE_ALARM = 0.001
MOST_PLACES = 5
_MOST_VALUES = 1000
_MEND = "mend the source, or change the schema"
_LOOK = "look whether that is meant"


@dataclass
class Seen:
    """The rows that one rule concerns, over all batches: how many, the first of them, and what they hold."""

    count: int = 0
    places: list[Place] = field(default_factory=list)
    values: set[str] = field(default_factory=set)
    low: int | float = math.inf
    high: int | float = -math.inf

    def add(self, problem: Problem, uri: str, numbers: Sequence[int]) -> None:
        """Take the rows of a batch; `numbers` are those of its first rows in the file `uri`."""
        self.count += len(problem.positions)
        room = MOST_PLACES - len(self.places)
        self.places += [Place(uri, row, value) for row, value in zip(numbers, problem.values, strict=False)][:room]
        if len(self.values) < _MOST_VALUES:
            self.values.update(problem.values)
        if problem.low is not None and problem.high is not None:
            self.low, self.high = min(self.low, problem.low), max(self.high, problem.high)

    def add_row(self, place: Place) -> None:
        """Take a row that could not be split into columns."""
        self.count += 1
        if len(self.places) < MOST_PLACES:
            self.places.append(place)


def rejected(seen: Mapping[tuple[str, str], Seen], rules: Mapping[str, ColumnRule], rows: int) -> Iterator[Anomaly]:
    """Rows that are refused, by column and reason, the most frequent first."""
    for (column, reason), one in sorted(seen.items(), key=lambda item: (-item[1].count, item[0])):
        rule = rules.get(column)
        change = suggested(column, rule, reason, low=one.low, high=one.high, values=one.values)
        what = f"{one.count:,} of {rows:,} rows are refused: {_words(reason, rule)}"
        kind = kind_of_reason(reason)
        yield _anomaly(column, kind, True, one, rows, what, _MEND, change)


def unlisted(seen: Mapping[str, Seen], rules: Mapping[str, ColumnRule], rows: int) -> Iterator[Anomaly]:
    """Values of strings that the schema does not list and allows."""
    for column, one in sorted(seen.items()):
        change = suggested(column, rules.get(column), "new values", values=one.values)
        what = f"{one.count:,} rows have values that the schema does not list"
        found = _anomaly(column, "new_values", False, one, rows, what, "list them in the schema, or mend them", change)
        yield replace(found, examples=tuple(repr(value) for value in sorted(one.values)[:MOST_PLACES]))


def mixed_zones(counts: Mapping[tuple[str, bool], int]) -> Iterator[Anomaly]:
    """Points in time, some written with a time zone and some without. `counts` by column and whether it has one."""
    for name in sorted({name for name, _ in counts}):
        zoned, bare = counts.get((name, True), 0), counts.get((name, False), 0)
        if zoned and bare:
            what = f"{bare:,} of {zoned + bare:,} values say no time zone and count as UTC"
            fix = "write all of them with a time zone, or none"
            yield Anomaly(name, "mixed_zones", False, bare / (zoned + bare), what, (), fix, bare)


def no_label(count: int, rows: int, label: str, places: Sequence[Place]) -> Iterator[Anomaly]:
    """Rows without a label."""
    if count:
        what = f"{count:,} rows have no label and are left out"
        yield Anomaly("", "no_label", False, count / rows, what, (), f"look at column {label}", count, tuple(places))


def odd_columns(left_out: Mapping[str, str], looks: Mapping[str, str]) -> Iterator[Anomaly]:
    """Columns that an inferred schema leaves out, and those that look like something that they are not."""
    for name, why in left_out.items():
        yield Anomaly(name, "not_read", False, None, f"it is not read: {why}", (), _LOOK)
    for name, why in looks.items():
        yield Anomaly(name, "looks_like", False, None, why, (), _LOOK)


def first_negatives(seen: Mapping[str, Seen], before: Mapping[str, int], rows: int) -> Iterator[Anomaly]:
    """Numbers below 0 in columns that had none among `before` values: more of them than chance brings to `rows` later
    rows, with a probability of at most `FALSE_ALARM` of accusing any column that is as before."""
    for column, one in sorted(seen.items()):
        known = before[column]
        chance = chance_of_all_later(one.count, known, max(rows, one.count))
        if chance > FALSE_ALARM / max(1, len(before)):
            continue
        what = (
            f"{one.count:,} values are negative; none of {known:,} accepted ones was, so that with 95 % certainty "
            f"at most {most_unseen(known):.2g} of all were"
        )
        fix = "look for a sign or a default value; min: 0 in the schema refuses them, data schema accept takes them"
        yield _anomaly(column, "first_negative", False, one, rows, what, fix, "")


def describe(anomaly: Anomaly) -> str:
    """One sentence, with the first example and where it stands."""
    place = f"column {anomaly.column}: " if anomaly.column else ""
    return f"{place}{anomaly.what}{_such(anomaly)}; {anomaly.fix}"


def by_severity(found: Iterable[Anomaly]) -> tuple[Anomaly, ...]:
    """The severe first, then by share."""
    return tuple(sorted(found, key=lambda one: (not one.severe, -(one.share or 0.0), one.column)))


def refuse_anomalies(found: Iterable[Anomaly], fail_on: str, path: Path) -> None:
    """Raises AnomaliesFound when there are anomalies of the whole that `fail_on` (never, severe, any) names; `path` is
    where all of them are listed. Rows that are refused have their own bounds (`tally.Tally.judge`)."""
    whole = [one for one in found if one.kind not in KINDS.values() and (one.severe or fail_on == "any")]
    if fail_on == "never" or not whole:
        return
    raise AnomaliesFound(
        f"{len(whole)} {'anomaly' if len(whole) == 1 else 'anomalies'} of the data as a whole",
        where=str(path),
        why="; ".join(describe(one) for one in whole[:MOST_PLACES]),
        fix=f"mend the source, accept what is right, or relax data.validate.fail_on ({fail_on})",
    )


def _such(anomaly: Anomaly) -> str:
    if anomaly.places:
        first = anomaly.places[0]
        such = f"such as {', '.join(anomaly.examples)}, " if anomaly.examples else "first in "
        return f" ({such}{first.file} row {first.row:,})"
    return f" (such as {', '.join(anomaly.examples)})" if anomaly.examples else ""


def _anomaly(column: str, kind: str, severe: bool, seen: Seen, rows: int, what: str, fix: str, change: str) -> Anomaly:
    """`share` is that of all rows."""
    examples = tuple(dict.fromkeys(repr(place.value) for place in seen.places if place.value))[:3]
    places = tuple(seen.places)
    return Anomaly(column, kind, severe, seen.count / max(1, rows), what, examples, fix, seen.count, places, change)


def _words(reason: str, rule: ColumnRule | None) -> str:
    """A reason in words, with the rule's own bound."""
    if rule is None:
        return reason
    said = {
        "type": f"they cannot be read as {rule.type}",
        "missing": "they have no value, and one is required",
        "below minimum": f"below the minimum {rule.min}",
        "above maximum": f"above the maximum {rule.max}",
        "not of the pattern": f"not of the pattern {rule.pattern}",
        "not in domain": "not among the listed values",
        "not unique": "the value occurred before",
        "goes back": "below the largest value before them",
        "too few items": f"fewer than {rule.min_items} items",
        "too many items": f"more than {rule.max_items} items",
    }
    return said.get(reason, reason)
