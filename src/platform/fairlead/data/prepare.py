"""The prepare step: validate, decide every row's side, then write shards and fit the transform in one more pass.

The first pass keeps a few numbers for each row (label, time, hashes where the split needs them: 8 to 30 bytes), the
second streams. Nothing appears until everything is written, the manifest last.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from fairlead.clock import SystemClock
from fairlead.data.first_pass import FirstPass, Plan
from fairlead.data.leaks import refuse_leaks, told_leaks
from fairlead.data.representative import split_differences
from fairlead.data.schema import schema_yaml
from fairlead.data.second_pass import SecondPass, prepared_columns
from fairlead.data.splits import LEFT_OUT
from fairlead.data.validation import Progress, ValidationResult, quiet, validate_data
from fairlead.dataset.files import LABEL, SCHEMA, STATISTICS, TRANSFORM
from fairlead.dataset.prepared import PreparedData
from fairlead.dataset.transport import publish_prepared
from fairlead.dataset.writer import DatasetWriter
from fairlead.features.transform import Transform
from fairlead.records.codec import to_json
from fairlead.records.data import SPLITS, DatasetManifest, LeakFinding, SplitDifference, Statistics
from fairlead.spec.project import Project
from fairlead.store.protocol import Store

__all__ = ["PrepareResult", "ValidationResult", "prepare_data", "validate_data"]


@dataclass(frozen=True)
class PrepareResult:
    """`data` lies in a local folder, `uri` is where the store has it ("" without one). `warnings` are for a person."""

    data: PreparedData
    validation: ValidationResult
    transform: Transform
    leaks: tuple[LeakFinding, ...]
    warnings: tuple[str, ...]
    uri: str = ""
    differences: tuple[SplitDifference, ...] = ()

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
    first = FirstPass(project)
    with tempfile.TemporaryDirectory(prefix="fairlead-prepare-") as scratch:
        validation = validate_data(
            project, base, Path(scratch), progress, profile=False, sink=first.take, environment="training"
        )
    validation = replace(validation, quarantine=None)
    plan = first.finish(project)
    plan.check(project)
    tell("writing the splits", None)
    with DatasetWriter(out, by_fingerprint=True) as writer:
        second = SecondPass(project, validation, plan, writer)
        second.run(tell)
        leaks = second.leaks()
        refuse_leaks(leaks)
        differences = split_differences([second.look.sample(side) for side in range(len(SPLITS))], project)
        transform, statistics = second.transform(), second.statistics()
        writer.add_file(TRANSFORM, transform.to_json())
        writer.add_file(STATISTICS, to_json(statistics))
        writer.add_file(SCHEMA, schema_yaml(validation.schema))
        data = writer.finish(_facts(project, validation, plan))
    uri = ""
    if store is not None:
        tell("copying to the store", None)
        uri = publish_prepared(store, data)
    warnings = (*validation.anomalies, *plan.drawn, *told_leaks(leaks), *_warnings(transform, statistics))
    return PrepareResult(data, validation, transform, leaks, warnings, uri, differences)


def _facts(project: Project, validation: ValidationResult, plan: Plan) -> DatasetManifest:
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
