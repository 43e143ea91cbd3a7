"""Counting what the check of all batches finds: rows, problems with their first places, what is only worth a look."""

import shlex
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fairlead.data.anomalies import (
    MOST_PLACES,
    Seen,
    by_severity,
    first_negatives,
    mixed_zones,
    no_label,
    rejected,
    unlisted,
)
from fairlead.data.checks import Checked
from fairlead.data.labels import unlabelled
from fairlead.data.quarantine import Line
from fairlead.data.schema import ColumnRule
from fairlead.data.sources import Source
from fairlead.data.suggestions import kind_of_reason
from fairlead.errors import TooManyRejected
from fairlead.records.drift import Anomaly, Place
from fairlead.spec.data import Validate

_MOST_REASONS = 5


class Tally:
    """Rows, problems and anomalies over all batches."""

    def __init__(self, source: Source, label: str) -> None:
        self._source, self._label = source, label
        self.rows = self.rejected = self.unlabelled = 0
        self.rows_of_file = [0] * len(source.files)
        self.broken_of_file = [0] * len(source.files)
        self._seen: dict[tuple[str, str], Seen] = {}
        self._unlisted: dict[str, Seen] = {}
        self._negative: dict[str, Seen] = {}
        self._zones: Counter[tuple[str, bool]] = Counter()
        self._no_label: list[Place] = []

    @property
    def reasons(self) -> dict[tuple[str, str], int]:
        """(column, reason) -> how many rows."""
        return {key: seen.count for key, seen in self._seen.items()}

    def take(self, checked: Checked) -> list[Line]:
        """Count a batch; returns the lines for the quarantine file."""
        raw = checked.raw
        uri = self._source.files[raw.file].uri
        rows = checked.batch.num_rows + len(checked.broken)
        self.rows += rows
        self.rows_of_file[raw.file] += rows
        self.broken_of_file[raw.file] += len(checked.broken)
        self.rejected += len(checked.broken) + (0 if checked.bad is None else int(checked.bad.sum()))
        lines = [(uri, item.row, "", item.reason, item.text[:200]) for item in checked.broken]
        for item in checked.broken:
            self._seen.setdefault(("", item.reason), Seen()).add_row(Place(uri, item.row, item.text[:200]))
        for problem in checked.problems:
            numbers = raw.row_numbers(problem.positions).tolist()
            self._seen.setdefault((problem.column, problem.reason), Seen()).add(problem, uri, numbers)
            values = [*problem.values, *[""] * (len(numbers) - len(problem.values))]
            lines += [
                (uri, row, problem.column, problem.reason, value) for row, value in zip(numbers, values, strict=True)
            ]
        for found, problems in ((self._unlisted, checked.unlisted), (self._negative, checked.negative)):
            for one in problems:
                first = raw.row_numbers(one.positions[:MOST_PLACES]).tolist()
                found.setdefault(one.column, Seen()).add(one, uri, first)
        for name, (zoned, bare) in checked.zones.items():
            self._zones[name, True] += zoned
            self._zones[name, False] += bare
        self._count_labels(checked, uri)
        return lines

    def _count_labels(self, checked: Checked, uri: str) -> None:
        if self._label not in checked.batch.schema.names:  # rows as they come at serving
            return
        missing = unlabelled(checked.batch.column(self._label))
        if checked.bad is not None:
            missing = missing & ~checked.bad
        self.unlabelled += int(missing.sum())
        room = MOST_PLACES - len(self._no_label)
        if room and missing.any():
            rows = checked.raw.row_numbers(np.flatnonzero(missing)[:room]).tolist()
            self._no_label += [Place(uri, row, "") for row in rows]

    def anomalies(self, rules: Mapping[str, ColumnRule], never_negative: Mapping[str, int]) -> tuple[Anomaly, ...]:
        """What was found, the severe first. `never_negative`: see `validation.validate_data`."""
        return by_severity(
            (
                *rejected(self._seen, rules, self.rows),
                *unlisted(self._unlisted, rules, self.rows),
                *first_negatives(self._negative, never_negative, self.rows),
                *mixed_zones(self._zones),
                *no_label(self.unlabelled, self.rows, self._label, self._no_label),
            )
        )

    def judge(self, spec: Validate, rules: Mapping[str, ColumnRule], quarantine: Path) -> None:
        """Raises TooManyRejected, which names the most frequent reasons, where they stand first, and what the schema
        would have to say instead."""
        top = sorted(self._seen.items(), key=lambda item: (-item[1].count, item[0]))
        said = f"{self.rejected:,} of {self.rows:,} rows ({self.rejected / self.rows:.3%}) break the schema"
        allowed, bound = spec.max_rejected, "max_rejected"
        if self.rejected <= allowed * self.rows:
            kind, count = self._beyond(spec.max_rejected_by)
            if not kind:
                return
            top = [item for item in top if kind_of_reason(item[0][1]) == kind]
            said = f"{count:,} problems of kind {kind} in {self.rows:,} rows ({count / self.rows:.3%})"
            allowed, bound = spec.max_rejected_by[kind], f"max_rejected_by.{kind}"
        raise TooManyRejected(
            f"{said}, {allowed:.3%} are allowed",
            where=str(quarantine),
            why="; ".join(_reason(column, reason, seen) for (column, reason), seen in top[:_MOST_REASONS]),
            fix=f"look at the quarantine file; then mend the source, edit the schema, or raise {bound}"
            + self._changes(rules),
        )

    def _beyond(self, allowed: Mapping[str, float]) -> tuple[str, int]:
        """The kind of problem that is more frequent than is allowed, and how often it is there."""
        counts: Counter[str] = Counter()
        for (_, reason), seen in self._seen.items():
            counts[kind_of_reason(reason)] += seen.count
        beyond = [(counts[kind], kind) for kind, share in allowed.items() if counts[kind] > share * self.rows]
        count, kind = max(beyond, default=(0, ""), key=lambda item: item[0])
        return kind, count

    def _changes(self, rules: Mapping[str, ColumnRule]) -> str:
        changes = [one.change for one in rejected(self._seen, rules, self.rows) if one.change][:_MOST_REASONS]
        said = "".join(f"\n    fairlead data schema accept --change {shlex.quote(change)}" for change in changes)
        return f". If these rows are right:{said}" if said else ""


def _reason(column: str, reason: str, seen: Seen) -> str:
    place = seen.places[0]
    such = f"such as {place.value!r} in" if place.value else "first in"
    return f"{column + ': ' if column else ''}{reason} ({seen.count:,}, {such} {place.file} row {place.row:,})"
