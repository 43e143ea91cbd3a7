"""The validate step: every row against the schema, bad rows to quarantine, one threshold for the whole."""

import difflib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from fairlead.data.checks import Checked, Checker, Problem
from fairlead.data.inference import infer_schema
from fairlead.data.labels import unlabelled
from fairlead.data.lookalikes import header_of_data
from fairlead.data.quarantine import Line, Quarantine
from fairlead.data.row_hashes import hash_column
from fairlead.data.schema import Schema, load_schema, write_schema
from fairlead.data.sources import Source
from fairlead.errors import EmptyData, LabelProblem, SchemaMismatch, TooManyRejected
from fairlead.features.statistics import StatisticsBuilder
from fairlead.records.data import SourceFile, Statistics
from fairlead.spec.project import Project

Progress = Callable[[str, float | None], None]

QUARANTINE = "quarantine.parquet"
_SLOW_PROGRESS_ROWS = 500_000


@dataclass(frozen=True)
class ValidationResult:
    """What one look at all rows found. `reasons` counts problems by (column, reason); a row may have several.
    `statistics` describe the good rows, None when they were not asked for."""

    rows_read: int
    rows_rejected: int
    rows_unlabelled: int
    rows_of_file: tuple[int, ...]
    broken_of_file: tuple[int, ...]
    reasons: Mapping[tuple[str, str], int]
    schema: Schema
    schema_path: Path | None
    schema_inferred: bool
    anomalies: tuple[str, ...]
    quarantine: Path | None
    statistics: Statistics | None
    source: Source = field(repr=False)

    @cached_property
    def sources(self) -> tuple[SourceFile, ...]:
        """The files that were read, with their digests (computed on first use)."""
        return self.source.facts(self.rows_of_file)


def validate_data(
    project: Project,
    base: Path,
    work: Path,
    progress: Progress | None = None,
    *,
    profile: bool = True,
    sink: Callable[[Checked], None] | None = None,
) -> ValidationResult:
    """Check every row of `data.source` against the schema, streaming.

    The schema is read from `data.validate.schema` or, when there is no such file, inferred and written there. Rejected
    rows are listed in `work`/quarantine.parquet. `sink` gets every checked batch in order. With `profile` the
    statistics of all columns are computed as well.

    Raises SourceNotFound, SourceUnreadable, EmptyData, SchemaMismatch, LabelProblem, and TooManyRejected after all rows
    were looked at and the quarantine file was written.
    """
    tell = progress or quiet
    source = Source(project.data, base)
    source.check_zones()
    schema, path, inferred, notes, looks = _schema(project, base, source, tell)
    _check_columns(project, schema, notes, looks)
    time = project.data.time
    required = [time] if time and project.data.split.in_time else []
    uris = [file.uri for file in source.files]
    checker = Checker(schema, uris, required=required, header=lambda number: list(source.columns_of(number)))
    count = _Count(source, project.data.label.column)
    unique = _Unique([name for name, rule in schema.columns.items() if rule.unique])
    statistics = StatisticsBuilder(schema.kinds()) if profile else None
    told = 0
    with Quarantine(work / QUARANTINE) as quarantine:
        for found in source.scan(checker.check, list(schema.columns)):
            checked = unique.check(found)
            quarantine.add(count.take(checked))
            if sink is not None:
                sink(checked)
            if statistics is not None:
                statistics.update(good_rows(checked))
            if count.rows - told >= _SLOW_PROGRESS_ROWS:
                told = count.rows
                total = source.num_rows
                tell(f"checked {told:,} rows", told / total if total else None)
        source.check_unchanged()
    if not count.rows:
        raise EmptyData("the source has no rows", where=", ".join(uris[:5]), fix="check data.source")
    count.judge(project.data.validate_.max_rejected, work / QUARANTINE)
    return ValidationResult(
        rows_read=count.rows,
        rows_rejected=count.rejected,
        rows_unlabelled=count.unlabelled,
        rows_of_file=tuple(count.rows_of_file),
        broken_of_file=tuple(count.broken_of_file),
        reasons=dict(count.reasons),
        schema=schema,
        schema_path=path,
        schema_inferred=inferred,
        anomalies=(
            *count.anomalies(),
            *(f"column {name} is not read: {why}" for name, why in notes.items()),
            *(f"column {name}: {why}" for name, why in looks.items()),
        ),
        quarantine=work / QUARANTINE if quarantine.num_lines else None,
        statistics=statistics.finish() if statistics is not None else None,
        source=source,
    )


def quiet(message: str, share: float | None = None) -> None:
    """Progress that nobody reads."""


def good_rows(checked: Checked) -> pa.RecordBatch:
    """The rows that passed."""
    return checked.batch if checked.bad is None else checked.batch.filter(pa.array(~checked.bad))


def schema_of(project: Project, base: Path, source: Source, tell: Progress) -> Schema:
    """The schema of `data.validate.schema`; inferred, and written there, when there is no such file."""
    return _schema(project, base, source, tell)[0]


def _schema(
    project: Project, base: Path, source: Source, tell: Progress
) -> tuple[Schema, Path | None, bool, dict[str, str], dict[str, str]]:
    """(schema, its file, whether it was inferred now, columns that are left out and why, and those that look like
    something that they are not)."""
    name = project.data.validate_.schema_file
    path = None if name is None else base / name
    if path is not None and path.exists():
        return load_schema(path), path, False, {}, {}
    tell("inferring the schema", None)
    instants = [*project.features.datetime, *([project.data.time] if project.data.time else [])]
    inferred = infer_schema(source, never_bounded=[project.data.label.column], instants=instants)
    if path is not None:
        title = (
            f"What each column of {project.project} must be, inferred from {inferred.rows:,} rows. Edit it: later data"
            "\nis checked against it, and rows that break it go to quarantine. Ranges are generous on purpose."
            "\nKeys: type, required, min, max, values, new_values (allow or reject), unique, pattern, unit,"
            " max_missing."
        )
        write_schema(path, inferred.schema, title, inferred.notes)
    return inferred.schema, path, True, inferred.skipped, inferred.looks


def _check_columns(project: Project, schema: Schema, left_out: Mapping[str, str], looks: Mapping[str, str]) -> None:
    """Every column that the project file names must be in the schema."""
    data, known = project.data, list(schema.columns)
    if data.label.column not in schema.columns:
        raise LabelProblem(
            f"there is no column {data.label.column} to be the label",
            where=f"data.label.column: {data.label.column}",
            why=left_out.get(data.label.column) or header_of_data(known) or f"the columns are {_listed(known)}",
            fix=_nearest(data.label.column, known),
        )
    slices = [*project.evaluate.slices.columns, *(gate.slice for gate in project.evaluate.gates if gate.slice)]
    named = {
        "features": project.features.names(),
        "data.time": (data.time,) if data.time else (),
        "data.entity": (data.entity,) if data.entity else (),
        "data.weight": (data.weight,) if data.weight else (),
        "data.sample.chance": (data.sample.chance,) if data.sample and data.sample.chance else (),
        "data.leaks.known_at": (*data.leaks.known_at, *data.leaks.known_at.values()),
        "evaluate": slices,
    }
    for where, names in named.items():
        for name in names:
            if name not in schema.columns:
                raise SchemaMismatch(
                    f"there is no column {name}",
                    where=f"{where}: {name}",
                    why=left_out.get(name) or header_of_data(known) or f"the columns are {_listed(known)}",
                    fix=_nearest(name, known),
                )
    _check_kinds(project, schema, looks)


def _check_kinds(project: Project, schema: Schema, looks: Mapping[str, str]) -> None:
    features = project.features
    takes: list[tuple[Sequence[str], tuple[str, ...], str]] = [
        (tuple(features.numeric), ("int", "float", "bool"), "numeric"),
        (tuple(features.categorical), ("int", "float", "bool", "string"), "categorical"),
        (tuple(features.datetime), ("timestamp",), "datetime"),
        (tuple(features.image), ("tensor",), "image"),
        (tuple(features.text), ("string",), "text"),
        ((project.data.time,) if project.data.time else (), ("timestamp",), "time"),
        (tuple(project.data.leaks.known_at.values()), ("timestamp",), "a time of knowing"),
    ]
    for names, kinds, role in takes:
        for name in names:
            if schema.columns[name].type not in kinds:
                raise SchemaMismatch(
                    f"the column {name} is of type {schema.columns[name].type}, which cannot be {role}",
                    where=f"column {name}",
                    why=f"{role} takes {' or '.join(kinds)}" + (f"; {looks[name]}" if name in looks else ""),
                    fix="correct the source, or give the column another role in the project file, or another type in"
                    " the schema",
                )


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {_listed(near)}?" if near else "name one of the columns"


def _listed(names: Sequence[str]) -> str:
    """Names in a row, quoted where a reader would not see where they end."""
    return ", ".join(name if name == name.strip() and name.isprintable() else repr(name) for name in names[:40])


class _Count:
    """Rows, problems and anomalies over all batches."""

    def __init__(self, source: Source, label: str) -> None:
        self._source, self._label = source, label
        self.rows = self.rejected = self.unlabelled = 0
        self.rows_of_file = [0] * len(source.files)
        self.broken_of_file = [0] * len(source.files)
        self.reasons: Counter[tuple[str, str]] = Counter()
        self._new_values: dict[str, set[str]] = {}
        self._zones: Counter[tuple[str, bool]] = Counter()

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
        if checked.broken:
            for item in checked.broken:
                self.reasons["", item.reason] += 1
        for problem in checked.problems:
            self.reasons[problem.column, problem.reason] += len(problem.positions)
            numbers = raw.row_numbers(problem.positions).tolist()
            values = [*problem.values, *[""] * (len(numbers) - len(problem.values))]
            lines += [
                (uri, row, problem.column, problem.reason, value) for row, value in zip(numbers, values, strict=True)
            ]
        for name, values_ in checked.new_values.items():
            self._new_values.setdefault(name, set()).update(values_)
        for name, (zoned, bare) in checked.zones.items():
            self._zones[name, True] += zoned
            self._zones[name, False] += bare
        missing = unlabelled(checked.batch.column(self._label))
        self.unlabelled += int(missing.sum() if checked.bad is None else (missing & ~checked.bad).sum())
        return lines

    def anomalies(self) -> list[str]:
        """What is worth a look but no reason to reject."""
        found = []
        for name, values in sorted(self._new_values.items()):
            shown = ", ".join(sorted(values)[:5]) + (", ..." if len(values) > 5 else "")
            found.append(f"column {name} has values that the schema does not list: {shown}")
        for name in sorted({name for name, _ in self._zones}):
            zoned, bare = self._zones[name, True], self._zones[name, False]
            if zoned and bare:
                found.append(f"column {name}: {bare:,} of {zoned + bare:,} values say no time zone and count as UTC")
        if self.unlabelled:
            found.append(f"{self.unlabelled:,} rows have no label and are left out")
        return found

    def judge(self, max_rejected: float, quarantine: Path) -> None:
        """Raises TooManyRejected."""
        share = self.rejected / self.rows
        if share <= max_rejected:
            return
        top = self.reasons.most_common(5)
        why = "; ".join(f"{column + ': ' if column else ''}{reason} ({count:,})" for (column, reason), count in top)
        raise TooManyRejected(
            f"{self.rejected:,} of {self.rows:,} rows ({share:.3%}) break the schema, {max_rejected:.3%} are allowed",
            where=str(quarantine),
            why=why,
            fix="look at the quarantine file; then mend the source, edit the schema, or raise max_rejected",
        )


class _Unique:
    """Values of columns that must not repeat, over all batches; 8 bytes (and a set's overhead) a value."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._seen: dict[str, set[int]] = {name: set() for name in columns}

    def check(self, checked: Checked) -> Checked:
        """Add problems for values that occurred before."""
        if not self._seen or not checked.batch.num_rows:
            return checked
        problems = list(checked.problems)
        bad = np.zeros(checked.batch.num_rows, bool) if checked.bad is None else checked.bad.copy()
        for name, seen in self._seen.items():
            column = checked.batch.column(name)
            present = np.asarray(column.is_valid().to_numpy(zero_copy_only=False))
            again = []
            for position, value in enumerate(hash_column(column).tolist()):
                if present[position]:
                    if value in seen:
                        again.append(position)
                    seen.add(value)
            if again:
                positions = np.array(again)
                shown = tuple(str(v) for v in column.take(pa.array(positions[:1000])).to_pylist())
                problems.append(Problem(name, "not unique", positions, shown))
                bad[positions] = True
        if len(problems) == len(checked.problems):
            return checked
        return replace(checked, bad=bad, problems=tuple(problems))
