"""A sample of a source as one Parquet file: the rows that pass the schema, drawn in two passes.

The first pass looks at every row (as validation does) and keeps the numbers of the drawn ones, the second writes them
in their order. Memory holds some 24 bytes for each row that is drawn (stratified: that may be, in each stratum), and
two batches a thread.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import LocalFileSystem

from fairlead.data.checks import Checked, Checker
from fairlead.data.draws import Drawn, Reservoir, StratifiedReservoir
from fairlead.data.first_pass import weights_of
from fairlead.data.row_hashes import hash_column
from fairlead.data.sources import Source
from fairlead.data.validation import Progress, ValidationResult, quiet, validate_data
from fairlead.dataset.weights import effective_rows
from fairlead.errors import SchemaMismatch, UsageError
from fairlead.spec.data import Sample
from fairlead.spec.project import Project

SAMPLE_WEIGHT = "sample_weight"
MAX_STRATA = 10_000


@dataclass(frozen=True, slots=True)
class SampleFacts:
    """What was drawn: `rows` of the `of_rows` that passed the schema, `rejected` did not; `effective_rows`: what the
    sample is worth in equally weighted rows, for importance."""

    path: str
    by: str
    seed: int
    rows: int
    of_rows: int
    rejected: int
    effective_rows: float | None = None


def draw_sample(
    project: Project,
    base: Path,
    asked: Sample,
    out: Path,
    work: Path,
    strata: str | None = None,
    progress: Progress | None = None,
) -> SampleFacts:
    """Draw `asked.rows` rows of `data.source` into `out`; `strata`: the column whose values keep their shares
    (stratified), by default the label. By importance the column `sample_weight` says how many rows each stands for.
    Rejected rows are listed in `work`/quarantine.parquet.

    The same source and seed give the same rows, however the rows are cut into files. `out` appears whole or not at all.
    Raises what `validate_data` raises; UsageError for an `out` that is a source; SchemaMismatch for columns that are
    not there or are no chances, or too many strata."""
    tell = progress or quiet
    if any(isinstance(f.filesystem, LocalFileSystem) and Path(f.path).resolve() == out.resolve()
           for f in Source(project.data, base).files):  # fmt: skip
        raise UsageError(f"{out} is one of the files that are sampled", where="--out", fix="name another file")
    chooser = _Chooser(asked, strata or project.data.label.column)
    checked = validate_data(project, base, work, tell, profile=False, sink=chooser.take)
    weighted = asked.by == "importance"
    if weighted and SAMPLE_WEIGHT in checked.schema.columns:
        raise SchemaMismatch(
            f"the source has a column {SAMPLE_WEIGHT} already", where=f"column {SAMPLE_WEIGHT}", fix="rename it"
        )
    drawn = chooser.finish()
    tell(f"writing {len(drawn.places):,} rows", None)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".partial-{out.name}")
    try:
        _write(partial, checked, drawn, weighted)
        checked.source.check_unchanged()
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    worth = effective_rows(drawn.weights) if weighted else None
    return SampleFacts(str(out), asked.by, asked.seed, len(drawn.places), chooser.good, checked.rows_rejected, worth)


class _Chooser:
    """Takes every checked batch in order. A row's number counts all rows, good or not: so its chance does not depend on
    which others are rejected."""

    def __init__(self, asked: Sample, strata: str) -> None:
        self._asked, self._strata = asked, strata
        self._simple = Reservoir(asked.rows, asked.seed)
        self._by_stratum = StratifiedReservoir(asked.rows, asked.seed)
        self._seen = 0
        self.good = 0

    def take(self, checked: Checked) -> None:
        batch = checked.batch
        places = np.arange(self._seen, self._seen + batch.num_rows)
        self._seen += batch.num_rows
        if checked.bad is not None:
            batch, places = batch.filter(pa.array(~checked.bad)), places[~checked.bad]
        self.good += len(places)
        if self._asked.by == "stratified":
            self._by_stratum.update(places, hash_column(_column(batch, self._strata)).view(np.int64))
            if self._by_stratum.num_strata > MAX_STRATA:
                raise SchemaMismatch(
                    f"the column {self._strata} has more than {MAX_STRATA:,} different values, which are no strata",
                    where=f"column {self._strata}",
                    fix="name a column of few values with --strata, or draw by: simple",
                )
        elif self._asked.chance is not None:
            self._simple.update(places, weights_of(_column(batch, self._asked.chance), self._asked.chance))
        else:
            self._simple.update(places)

    def finish(self) -> Drawn:
        """Raises SchemaMismatch when no row has a chance."""
        drawn = self._by_stratum.finish() if self._asked.by == "stratified" else self._simple.finish()
        if not len(drawn.places):
            raise SchemaMismatch(
                "no row can be drawn",
                where=f"column {self._asked.chance}",
                why=f"{self.good:,} rows, none with a chance above 0",
                fix="name another column of chances",
            )
        return drawn


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    index = batch.schema.get_field_index(name)
    if index < 0:
        raise SchemaMismatch(
            f"there is no column {name}", where=f"column {name}", why=f"the columns are {', '.join(batch.schema.names)}"
        )
    return batch.column(index)


def _write(path: Path, checked: ValidationResult, drawn: Drawn, weighted: bool) -> None:
    """The drawn rows, in their order, to `path`."""
    writer: pq.ParquetWriter | None = None
    try:
        for batch in _rows(checked, drawn, weighted):
            if writer is None:
                writer = pq.ParquetWriter(path, batch.schema)
            writer.write_batch(batch.cast(writer.schema))
    finally:
        if writer is not None:
            writer.close()


def _rows(checked: ValidationResult, drawn: Drawn, weighted: bool) -> Iterator[pa.RecordBatch]:
    source = checked.source
    checker = Checker(checked.schema, [file.uri for file in source.files])
    seen = 0
    for found in source.scan(checker.check, list(checked.schema.columns)):
        first, last = np.searchsorted(drawn.places, [seen, seen + found.batch.num_rows])
        if first < last:
            batch = found.batch.take(pa.array(drawn.places[first:last] - seen))
            if weighted:
                batch = batch.append_column(SAMPLE_WEIGHT, pa.array(drawn.weights[first:last]))
            yield batch
        seen += found.batch.num_rows
