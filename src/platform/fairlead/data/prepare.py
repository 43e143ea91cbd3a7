"""The prepare step: validate, decide every row's side, then write shards and fit the transform in one more pass.

The first pass keeps a few numbers for each row (label, time, hashes where the split needs them: 8 to 30 bytes), the
second streams. Nothing appears until everything is written, the manifest last.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairlead.clock import SystemClock
from fairlead.data.checks import Checked, Checker
from fairlead.data.labels import LabelCollector, Labels, unlabelled
from fairlead.data.leaks import SAMPLE_ROWS, MissingCounts, refuse_leaks, scan_leaks
from fairlead.data.readers import RawBatch
from fairlead.data.row_hashes import hash_column, hash_rows
from fairlead.data.schema import schema_yaml
from fairlead.data.splits import LEFT_OUT, Keys, assign, check_sizes, keep_first
from fairlead.data.validation import Progress, ValidationResult, quiet, validate_data
from fairlead.dataset.files import LABEL, SCHEMA, STATISTICS, TRANSFORM
from fairlead.dataset.prepared import PreparedData
from fairlead.dataset.transport import publish_prepared
from fairlead.dataset.writer import DatasetWriter
from fairlead.errors import SourceUnreadable
from fairlead.features.hashing import mix
from fairlead.features.instants import instant_array
from fairlead.features.kinds import kind_of
from fairlead.features.statistics import StatisticsBuilder
from fairlead.features.transform import Transform, TransformFitter
from fairlead.records.codec import to_json
from fairlead.records.data import SPLITS, DatasetManifest, LeakFinding, Statistics
from fairlead.spec.project import Project
from fairlead.store.protocol import Store

__all__ = ["PrepareResult", "ValidationResult", "prepare_data", "validate_data"]

_UNLABELLED = -2  # in the training period, so that the leak scan may compare
_DROPPED = -3


@dataclass(frozen=True)
class PrepareResult:
    """`data` lies in a local folder, `uri` is where the store has it ("" without one). `warnings` are for a person."""

    data: PreparedData
    validation: ValidationResult
    transform: Transform
    leaks: tuple[LeakFinding, ...]
    warnings: tuple[str, ...]
    uri: str = ""

    @property
    def manifest(self) -> DatasetManifest:
        """The facts of the data set."""
        return self.data.manifest

    @cached_property
    def statistics(self) -> Statistics:
        """Statistics of the training split."""
        return self.data.statistics()


def prepare_data(
    project: Project, base: Path, out: Path, store: Store | None = None, progress: Progress | None = None
) -> PrepareResult:
    """Write prepared data to `out`/<fingerprint> and, with a store, copy it to prepared/<fingerprint>/.

    The same source, schema and project give the same fingerprint; what exists already is not written again. Raises what
    `validate_data` raises, and LabelProblem, SplitTooSmall, LeakFound, TransformError; then nothing is left behind in
    `out`.
    """
    tell = progress or quiet
    first = _FirstPass(project)
    with tempfile.TemporaryDirectory(prefix="fairlead-prepare-") as scratch:
        validation = validate_data(project, base, Path(scratch), progress, profile=False, sink=first.take)
    validation = replace(validation, quarantine=None)
    plan = first.finish(project)
    plan.check(project)
    tell("writing the splits", None)
    with DatasetWriter(out, by_fingerprint=True) as writer:
        second = _SecondPass(project, validation, plan, writer)
        second.run(tell)
        leaks = second.leaks(project)
        refuse_leaks(leaks)
        transform, statistics = second.transform(), second.statistics()
        writer.add_file(TRANSFORM, transform.to_json())
        writer.add_file(STATISTICS, to_json(statistics))
        writer.add_file(SCHEMA, schema_yaml(validation.schema))
        data = writer.finish(_facts(project, validation, plan))
    uri = ""
    if store is not None:
        tell("copying to the store", None)
        uri = publish_prepared(store, data)
    warnings = (*validation.anomalies, *_warnings(transform, statistics))
    return PrepareResult(data, validation, transform, leaks, warnings, uri)


@dataclass(frozen=True)
class _Plan:
    """`sides` int8: for every row that was read, the index into SPLITS, or a negative number for rows that are not
    written. `codes` are the labels of the written rows in their order."""

    sides: np.ndarray
    labels: Labels
    codes: np.ndarray
    boundaries: dict[str, str]
    rows_duplicate: int

    def check(self, project: Project) -> None:
        """Raises SplitTooSmall."""
        written = self.sides[self.sides >= 0]
        check_sizes(written, self.codes, self.labels.classes, self.boundaries, project.data.split.by)

    def rows(self, side: int) -> int:
        """How many rows have this side."""
        return int((self.sides == side).sum())


class _FirstPass:
    """Collects what decides each row's side while validation looks at all rows."""

    def __init__(self, project: Project) -> None:
        data = project.data
        self._data = data
        self._by = data.split.by
        self._hash_rows = data.duplicates == "drop" or self._by in ("random", "stratified")
        self._labels = LabelCollector(data.label)
        self._state: list[np.ndarray] = []
        self._times: list[np.ndarray] = []
        self._groups: list[np.ndarray] = []
        self._rows: list[np.ndarray] = []

    def take(self, checked: Checked) -> None:
        """Take a batch: state 0 for usable rows, _UNLABELLED, _DROPPED for rejected ones."""
        batch = checked.batch
        state = np.zeros(batch.num_rows, np.int8)
        labels = batch.column(self._data.label.column)
        state[unlabelled(labels)] = _UNLABELLED
        if checked.bad is not None:
            state[checked.bad] = _DROPPED
        self._state.append(state)
        kept = pa.array(state != _DROPPED)
        if self._by == "time" and self._data.time is not None:
            self._times.append(instant_array(_as_written(checked, self._data.time).filter(kept)))
        usable = pa.array(state == 0)
        if (state == 0).any():
            self._labels.update(labels.filter(usable))
        if self._by == "group" and self._data.entity is not None:
            self._groups.append(hash_column(batch.column(self._data.entity).filter(usable)))
        if self._hash_rows:
            self._rows.append(hash_rows(batch.filter(usable)))

    def finish(self, project: Project) -> _Plan:
        """Decide. Raises LabelProblem."""
        state = np.concatenate(self._state) if self._state else np.empty(0, np.int8)
        labels = self._labels.finish()
        kept = state[state != _DROPPED] == 0
        times = np.concatenate(self._times) if self._times else None
        keys = Keys(
            num_rows=len(labels.codes),
            labels=labels.codes,
            times=None if times is None else times[kept],
            groups=np.concatenate(self._groups) if self._groups else None,
            rows=np.concatenate(self._rows) if self._rows else None,
        )
        duplicates = np.zeros(keys.num_rows, bool)
        if project.data.duplicates == "drop" and keys.rows is not None:
            duplicates = ~keep_first(keys.rows)
            keys = _select(keys, ~duplicates)
        sides, boundaries = assign(project.data.split, keys)
        usable = np.full(len(labels.codes), _DROPPED, np.int8)
        usable[~duplicates] = sides
        result = state.copy()
        result[state == 0] = usable
        if times is not None and "validation" in boundaries:
            begin = np.datetime64(boundaries["validation"][:19], "us")
            late = (~kept) & (times >= begin)
            among_kept = result[state != _DROPPED]
            among_kept[late] = _DROPPED
            result[state != _DROPPED] = among_kept
        return _Plan(result, labels, labels.codes[usable >= 0], boundaries, int(duplicates.sum()))


def _select(keys: Keys, kept: np.ndarray) -> Keys:
    def part(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else values[kept]

    return Keys(int(kept.sum()), keys.labels[kept], part(keys.times), part(keys.groups), part(keys.rows))


class _SecondPass:
    """Streams the rows once more: writes each to its split, fits the transform, and samples for the leak scan."""

    def __init__(self, project: Project, validation: ValidationResult, plan: _Plan, writer: DatasetWriter) -> None:
        self._plan, self._writer, self._source = plan, writer, validation.source
        self._features = project.features
        self._columns = prepared_columns(project)
        uris = [file.uri for file in self._source.files]
        self._checker = Checker(validation.schema, uris, only=self._columns)
        self._fitter = TransformFitter(project.features)
        kinds = {name: validation.schema.columns[name].type for name in project.features.names()}
        kinds |= dict.fromkeys(project.features.categorical, "string")
        parts = {name: options.parts for name, options in project.features.datetime_options().items()}
        label = "float" if plan.labels.task == "regression" else "string"
        self._statistics = StatisticsBuilder({**kinds, LABEL: label}, parts=parts)
        self._starts = _starts(validation, len(plan.sides))
        self._written = 0
        self._share = min(1.0, SAMPLE_ROWS / max(1, plan.rows(0)))
        self._sample: list[pa.RecordBatch] = []
        self._missing = {name: [0, 0] for name in project.features.names()}

    def run(self, tell: Progress) -> None:
        """Write all rows. Raises SourceUnreadable when the files changed since the first pass."""
        read, told, total = 0, 0, len(self._plan.sides)
        names = list(self._columns)
        for checked in self._source.scan(self._checker.check, names):
            self._take(checked.raw, checked.batch)
            read += checked.batch.num_rows
            if read - told >= total / 20:
                told = read
                tell(f"wrote {read:,} of {total:,} rows", read / total)
        if read != total:
            raise SourceUnreadable(
                "the source changed while it was read",
                where=", ".join(file.uri for file in self._source.files[:5]),
                why=f"{total:,} rows at first, {read:,} the second time",
                fix="run again when nobody writes to it",
            )
        self._source.check_unchanged()

    def _take(self, raw: RawBatch, batch: pa.RecordBatch) -> None:
        start = self._starts[raw.file] + raw.start
        sides = self._plan.sides[start : start + batch.num_rows]
        if len(sides) != batch.num_rows:
            return  # more rows than before; `run` counts and refuses
        hidden = batch.filter(pa.array(sides == _UNLABELLED))
        for name, counts in self._missing.items():
            counts[1] += _num_missing(hidden.column(name))
        codes = np.zeros(batch.num_rows, self._plan.codes.dtype)
        count = int((sides >= 0).sum())
        codes[sides >= 0] = self._plan.codes[self._written : self._written + count]
        self._written += count
        batch = batch.append_column(LABEL, pa.array(codes))
        for index, split in enumerate(SPLITS):
            chosen = sides == index
            if not chosen.any():
                continue
            rows = batch if chosen.all() else batch.filter(pa.array(chosen))
            self._writer.write(split, rows)
            if index == 0:
                self._train(rows, np.flatnonzero(chosen) + start)

    def _train(self, rows: pa.RecordBatch, numbers: np.ndarray) -> None:
        self._fitter.update(rows)
        self._statistics.update(self._named_labels(rows))
        for name, counts in self._missing.items():
            counts[0] += _num_missing(rows.column(name))
        if self._share < 1.0:
            position = mix(numbers.astype(np.uint64)).astype(np.float64) / 2.0**64
            rows = rows.filter(pa.array(position < self._share))
        self._sample.append(rows)

    def _named_labels(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """The label as the name of its class, so that statistics count classes as people know them."""
        if not self._plan.labels.classes:
            return rows
        index = rows.schema.get_field_index(LABEL)
        names = pa.array(self._plan.labels.classes).take(rows.column(index))
        return rows.set_column(index, LABEL, names)

    def leaks(self, project: Project) -> tuple[LeakFinding, ...]:
        """Findings on the training split."""
        sample = pa.Table.from_batches(self._sample)
        labelled, hidden = self._plan.rows(0), self._plan.rows(_UNLABELLED)
        missing = {name: MissingCounts(labelled, a, hidden, b) for name, (a, b) in self._missing.items()}
        return scan_leaks(
            sample,
            sample[LABEL].to_numpy(),
            project.features,
            self._plan.labels.task,
            missing=missing,
            max_auc=project.data.leaks.max_auc,
            allow=project.data.leaks.allow,
        )

    def transform(self) -> Transform:
        """Fitted on the training split."""
        return self._fitter.finish()

    def statistics(self) -> Statistics:
        """Of the training split."""
        return self._statistics.finish()


def prepared_columns(project: Project) -> tuple[str, ...]:
    """The columns of the shards beside the label: features, slices, time, entity."""
    slices = [*project.evaluate.slices.columns, *(gate.slice for gate in project.evaluate.gates if gate.slice)]
    keys = [name for name in (project.data.time, project.data.entity) if name]
    label = project.data.label.column
    return tuple(name for name in dict.fromkeys([*project.features.names(), *slices, *keys]) if name != label)


def _as_written(checked: Checked, name: str) -> pa.Array:
    """A column of points in time with its offsets, which checked text no longer has (features want the wall clock)."""
    column = checked.raw.batch.column(name)
    if kind_of(column.type) != "string":
        return checked.batch.column(name)
    text = pc.utf8_trim_whitespace(column.cast(pa.string()))
    return pc.if_else(checked.batch.column(name).is_valid(), text, None)


def _num_missing(array: pa.Array) -> int:
    if pa.types.is_floating(array.type):
        return int(array.is_null(nan_is_null=True).to_numpy(zero_copy_only=False).sum())
    return int(array.null_count)


def _starts(validation: ValidationResult, num_rows: int) -> np.ndarray:
    """Where each file begins among all delivered rows."""
    delivered = np.array(validation.rows_of_file, np.int64) - np.array(validation.broken_of_file, np.int64)
    starts = np.concatenate([[0], np.cumsum(delivered)])
    if starts[-1] != num_rows:
        raise ValueError(f"{starts[-1]} rows of files, {num_rows} rows with a side")
    return np.asarray(starts[:-1])


def _facts(project: Project, validation: ValidationResult, plan: _Plan) -> DatasetManifest:
    data = project.data
    kinds = {name: validation.schema.columns[name].type for name in prepared_columns(project)}
    return DatasetManifest(
        fingerprint="",
        project=project.project,
        task=plan.labels.task,
        label=data.label.column,
        label_classes=plan.labels.classes,
        schema=kinds,
        features=project.features.names(),
        shards=(),
        sources=validation.sources,
        split_by=data.split.by,
        boundaries=plan.boundaries,
        rows_read=validation.rows_read,
        rows_rejected=validation.rows_rejected,
        rows_unlabelled=validation.rows_unlabelled,
        rows_duplicate=plan.rows_duplicate,
        transform_sha256="",
        time=data.time,
        entity=data.entity,
        created_at=SystemClock().now().isoformat(timespec="seconds"),
        rows_left_out=plan.rows(LEFT_OUT),
    )


def _warnings(transform: Transform, statistics: Statistics) -> Iterator[str]:
    """What a person should know about the features before training."""
    for column in transform.categorical:
        found = statistics.columns[column.name]
        if found.count and found.distinct > max(1000, found.count // 2):
            yield (
                f"column {column.name} has {found.distinct:,} or more different values in {found.count:,} rows: as a "
                "category it tells little more than an identifier; drop it, or use encode: hash"
            )
        elif column.values and found.distinct > len(column.values):
            yield (
                f"column {column.name} has {found.distinct:,} or more different values; the vocabulary keeps "
                f"{len(column.values):,}, the rest shares {column.buckets} bucket{'s' if column.buckets > 1 else ''}"
            )
    for name, found in statistics.columns.items():
        if not found.count:
            yield f"column {name} has no value in the training split"
        elif name != LABEL and (found.distinct == 1 and found.kind not in ("tensor",)):
            yield f"column {name} has one value only in the training split"
