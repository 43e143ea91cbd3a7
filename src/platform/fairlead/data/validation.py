"""The validate step: every row against the schema, bad rows to quarantine, one threshold for the whole."""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from fairlead.data.across_rows import AcrossRows
from fairlead.data.anomalies import by_severity, describe, odd_columns
from fairlead.data.bounds import beyond_bounds, volume
from fairlead.data.checks import Checked, Checker
from fairlead.data.environments import check_environments, columns_at, unexpected_columns
from fairlead.data.inference import infer_schema
from fairlead.data.lookalikes import header_of_data
from fairlead.data.quarantine import Quarantine
from fairlead.data.schema import ColumnRule, Environment, Schema, load_schema, write_schema
from fairlead.data.sources import Source
from fairlead.data.suggestions import KINDS
from fairlead.data.tally import Tally
from fairlead.errors import EmptyData, LabelProblem, SchemaMismatch
from fairlead.features.statistics import StatisticsBuilder
from fairlead.records.data import SourceFile, Statistics
from fairlead.records.drift import Anomaly
from fairlead.spec.project import Project

Progress = Callable[[str, float | None], None]

QUARANTINE = "quarantine.parquet"
_SLOW_PROGRESS_ROWS = 500_000
_SHORT_LINE = 10


@dataclass(frozen=True)
class ValidationResult:
    """What one look at all rows found. `reasons` counts problems by (column, reason); a row may have several. `found`
    are the anomalies, the severe first. `statistics` describe the good rows, None when they were not asked for."""

    rows_read: int
    rows_rejected: int
    rows_unlabelled: int
    rows_of_file: tuple[int, ...]
    broken_of_file: tuple[int, ...]
    reasons: Mapping[tuple[str, str], int]
    schema: Schema
    schema_path: Path | None
    schema_inferred: bool
    found: tuple[Anomaly, ...]
    quarantine: Path | None
    statistics: Statistics | None
    source: Source = field(repr=False)

    @property
    def anomalies(self) -> tuple[str, ...]:
        """The anomalies that refuse no row, as sentences."""
        return tuple(describe(one) for one in self.found if one.kind not in KINDS.values())

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
    environment: Environment | None = None,
    never_negative: Callable[[Schema], Mapping[str, int]] | None = None,
) -> ValidationResult:
    """Check every row of `data.source` against the schema, streaming.

    The schema is read from `data.validate.schema` or, when there is no such file, inferred and written there. Rejected
    rows are listed in `work`/quarantine.parquet. `sink` gets every checked batch in order. With `profile` the
    statistics of all columns are computed as well. `environment`: instead of `data.validate.environment`.
    `never_negative`: the columns whose accepted values, so many of them, were all at least 0.

    Raises SourceNotFound, SourceUnreadable, EmptyData, SchemaMismatch, LabelProblem, and TooManyRejected after all rows
    were looked at and the quarantine file was written.
    """
    tell = progress or quiet
    source = Source(project.data, base)
    source.check_zones()
    schema, path, inferred, notes, looks = _schema(project, base, source, tell)
    there = environment or project.data.validate_.environment
    check_columns(project, schema, notes, looks)
    check_environments(project, schema)
    signs = never_negative(schema) if never_negative is not None else {}
    checker = _checker(project, schema, source, there, signs)
    count = Tally(source, project.data.label.column)
    known = _look(source, checker, count, work / QUARANTINE, sink, profile=profile, tell=tell)
    if not count.rows:
        where = ", ".join(file.uri for file in source.files[:5])
        raise EmptyData("the source has no rows", where=where, fix="check data.source")
    found = (
        *count.anomalies(schema.columns, signs),
        *beyond_bounds(checker.rules, known),
        *volume(project.data.validate_, count.rows),
        *unexpected_columns(source, schema, there),
        *odd_columns(notes, looks),
    )
    count.judge(project.data.validate_, schema.columns, work / QUARANTINE)
    return ValidationResult(
        rows_read=count.rows,
        rows_rejected=count.rejected,
        rows_unlabelled=count.unlabelled,
        rows_of_file=tuple(count.rows_of_file),
        broken_of_file=tuple(count.broken_of_file),
        reasons=count.reasons,
        schema=schema,
        schema_path=path,
        schema_inferred=inferred,
        found=by_severity(found),
        quarantine=work / QUARANTINE if count.reasons else None,
        statistics=known,
        source=source,
    )


def _checker(
    project: Project, schema: Schema, source: Source, environment: Environment, signs: Mapping[str, int]
) -> Checker:
    time = project.data.time
    return Checker(
        schema,
        [file.uri for file in source.files],
        required=[time] if time and project.data.split.in_time else [],
        only=columns_at(project, schema, environment),
        environment=environment,
        never_negative=signs,
        header=lambda number: list(source.columns_of(number)),
    )


def _look(
    source: Source,
    checker: Checker,
    count: Tally,
    quarantined: Path,
    sink: Callable[[Checked], None] | None,
    *,
    profile: bool,
    tell: Progress,
) -> Statistics | None:
    """Every row once: counted, listed where it is refused, handed on; statistics of the good ones with `profile`."""
    statistics = StatisticsBuilder({name: rule.type for name, rule in checker.rules.items()}) if profile else None
    with Quarantine(quarantined) as quarantine:
        for checked in _checked(source, checker, count, tell):
            quarantine.add(count.take(checked))
            if sink is not None:
                sink(checked)
            if statistics is not None:
                statistics.update(good_rows(checked))
        source.check_unchanged()
    return statistics.finish() if statistics is not None else None


def _checked(source: Source, checker: Checker, count: Tally, tell: Progress) -> Iterator[Checked]:
    """Every batch, also against those before it."""
    across = AcrossRows(checker.rules)
    told = 0
    for found in source.scan(checker.check, list(checker.rules)):
        yield across.check(found)
        if count.rows - told >= _SLOW_PROGRESS_ROWS:
            told = count.rows
            total = source.num_rows
            tell(f"checked {told:,} rows", told / total if total else None)


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
            f"\nKeys: {', '.join(list(ColumnRule.model_fields)[:_SHORT_LINE])},"
            f"\n{', '.join(list(ColumnRule.model_fields)[_SHORT_LINE:])}:"
            "\nfairlead explain schema.columns.KEY says what each means."
        )
        write_schema(path, inferred.schema, title, inferred.notes)
    return inferred.schema, path, True, inferred.skipped, inferred.looks


def check_columns(project: Project, schema: Schema, left_out: Mapping[str, str], looks: Mapping[str, str]) -> None:
    """Every column that the project file names must be in the schema, with a type that fits its role. Raises
    SchemaMismatch, LabelProblem, with what `left_out` and `looks` know of the column."""
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
