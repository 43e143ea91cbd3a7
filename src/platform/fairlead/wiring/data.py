"""The data steps: validate and prepare."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from fairlead.atomic import write_atomic
from fairlead.data.anomalies import by_severity, refuse_anomalies
from fairlead.data.prepare import prepare_data, validate_data
from fairlead.data.report import prepare_report, validation_report
from fairlead.data.sources import source_fingerprint
from fairlead.records.codec import to_json, to_value
from fairlead.records.data import LeakFinding
from fairlead.records.drift import Anomaly
from fairlead.wiring.baseline import never_negative, one_of_each, present_anomalies
from fairlead.wiring.context import Context
from fairlead.wiring.progress import StepProgress
from fairlead.wiring.steps import Outcome


def run_validate(context: Context, progress: StepProgress) -> Outcome:
    """Check every row against the schema; bad rows go to quarantine. Raises DataError subclasses."""
    work = context.run_folder / "validate"
    result = validate_data(
        context.project, context.base, work, progress, never_negative=partial(never_negative, context)
    )
    found = by_severity(one_of_each((*present_anomalies(context, result.schema, result.rows_of_file), *result.found)))
    result = replace(result, found=found)
    write_atomic(work / "anomalies.json", to_json(found))
    refuse_anomalies(found, context.project.data.validate_.fail_on, work / "anomalies.json")
    fingerprint = source_fingerprint(context.project.data, context.base)
    return Outcome(
        facts={
            "source_fingerprint": fingerprint,
            "rows": result.rows_read,
            "rejected": result.rows_rejected,
            "reasons": [
                {"column": column, "reason": reason, "rows": count}
                for (column, reason), count in sorted(result.reasons.items(), key=lambda item: (-item[1], item[0]))
            ],
            "anomalies": to_value(found),
        },
        summary=f"{result.rows_read:,} rows read, {result.rows_rejected:,} rejected, "
        f"{result.rows_unlabelled:,} without a label" + _counted(found),
        reads={"source": [file.uri for file in result.sources], "source_sha256": [f.sha256 for f in result.sources]},
        writes={"validated": [fingerprint]},
        metrics={"rows": result.rows_read, "rejected": result.rows_rejected, "unlabelled": result.rows_unlabelled},
        report=validation_report(context.project, result),
    )


def _counted(found: Sequence[Anomaly]) -> str:
    severe = sum(one.severe for one in found)
    return f", {len(found)} {'anomaly' if len(found) == 1 else 'anomalies'} ({severe} severe)" if found else ""


def _found(leaks: tuple[LeakFinding, ...]) -> str:
    """ "no leak" or what was allowed and told."""
    allowed = sum(leak.severe and leak.allowed for leak in leaks)
    told = sum(not leak.severe for leak in leaks)
    words = [f"{allowed} allowed" if allowed else "", f"{told} to look at in the report" if told else ""]
    return ", ".join(["no leak", *(word for word in words if word)])


def run_prepare(context: Context, progress: StepProgress, source_fingerprint: str) -> Outcome:
    """Split, scan, fit, write. Prepared data that is already in the store is not written again."""
    result = prepare_data(context.project, context.base, context.home / "cache" / "prepared", context.store, progress)
    manifest = result.manifest
    rows = {split: manifest.rows(split) for split in ("train", "validation", "test")}
    return Outcome(
        facts={
            "fingerprint": manifest.fingerprint,
            "task": manifest.task,
            "source_fingerprint": source_fingerprint,
            **rows,
        },
        summary="train {train:,}, validation {validation:,}, test {test:,} rows; {found}".format(
            **rows, found=_found(result.leaks)
        ),
        reads={
            "source": [file.uri for file in manifest.sources],
            "source_sha256": [file.sha256 for file in manifest.sources],
            "validated": [source_fingerprint],
        },
        writes={"prepared": [manifest.fingerprint]},
        metrics={f"rows_{split}": count for split, count in rows.items()},
        report=prepare_report(context.project, result),
    )
