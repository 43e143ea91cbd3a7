"""The second pass: each row to its split, the transform fitted, samples taken for the leak scan."""

import numpy as np
import pyarrow as pa

from fairlead.data.checks import Checker
from fairlead.data.first_pass import UNLABELLED, Plan
from fairlead.data.leaks import SecondLook
from fairlead.data.readers import RawBatch
from fairlead.data.validation import Progress, ValidationResult
from fairlead.dataset.files import LABEL, WEIGHT
from fairlead.dataset.writer import DatasetWriter
from fairlead.errors import SourceUnreadable
from fairlead.features.statistics import StatisticsBuilder
from fairlead.features.transform import Transform, TransformFitter
from fairlead.records.data import SPLITS, LeakFinding, Statistics
from fairlead.spec.project import Project


class SecondPass:
    """Streams the rows once more."""

    def __init__(self, project: Project, validation: ValidationResult, plan: Plan, writer: DatasetWriter) -> None:
        self._plan, self._writer, self._source = plan, writer, validation.source
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
        rows = tuple(plan.rows(side) for side in range(len(SPLITS)))
        self.look = SecondLook(project, plan.labels.task, len(plan.labels.classes), rows)

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
        plan = self._plan
        start = self._starts[raw.file] + raw.start
        sides = plan.sides[start : start + batch.num_rows]
        if len(sides) != batch.num_rows:
            return  # more rows than before; `run` counts and refuses
        self.look.hidden(batch.filter(pa.array(sides == UNLABELLED)))
        kept = sides >= 0
        written = slice(self._written, self._written + int(kept.sum()))
        self._written = written.stop
        codes = np.zeros(batch.num_rows, plan.codes.dtype)
        codes[kept] = plan.codes[written]
        batch = batch.append_column(LABEL, pa.array(codes))
        if plan.weights is not None:
            weights = np.zeros(batch.num_rows)
            weights[kept] = plan.weights[written]
            batch = batch.append_column(WEIGHT, pa.array(weights))
        repeats = np.ones(batch.num_rows, np.int64)
        if plan.times is not None:
            repeats[kept] = plan.times[written]
        for index, split in enumerate(SPLITS):
            chosen = sides == index
            if not chosen.any():
                continue
            rows = batch if chosen.all() else batch.filter(pa.array(chosen))
            places = np.flatnonzero(chosen) + start
            self.look.take(index, rows, places)
            if index == 0 and plan.times is not None:
                rows = rows.take(pa.array(np.repeat(np.arange(rows.num_rows), repeats[chosen])))
            self._writer.write(split, rows)
            if index == 0:
                self._fitter.update(rows)
                self._statistics.update(self._named_labels(rows))

    def _named_labels(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """The label as the name of its class, so that statistics count classes as people know them."""
        if not self._plan.labels.classes:
            return rows
        index = rows.schema.get_field_index(LABEL)
        names = pa.array(self._plan.labels.classes).take(rows.column(index))
        return rows.set_column(index, LABEL, names)

    def leaks(self) -> tuple[LeakFinding, ...]:
        """What the scan finds, worst first."""
        return self.look.findings(self._plan.first_look, self._plan.entities)

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


def _starts(validation: ValidationResult, num_rows: int) -> np.ndarray:
    """Where each file begins among all delivered rows."""
    delivered = np.array(validation.rows_of_file, np.int64) - np.array(validation.broken_of_file, np.int64)
    starts = np.concatenate([[0], np.cumsum(delivered)])
    if starts[-1] != num_rows:
        raise ValueError(f"{starts[-1]} rows of files, {num_rows} rows with a side")
    return np.asarray(starts[:-1])
