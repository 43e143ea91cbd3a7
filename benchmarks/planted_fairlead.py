"""What Fairlead says about a planted set: the functions behind `fairlead data validate`, `data split` and the check of
live features, as a project's user gets them. Returns what is accused: {place: what was said}."""

import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from planted_accepted import Accepted, available
from planted_worlds import BATCH, ENTITY, LABEL, ROW, ROWS, TIME, Case

from fairlead.data.prepare import prepare_data
from fairlead.data.schema import Schema, load_schema, write_schema
from fairlead.data.validation import ValidationResult, validate_data
from fairlead.errors import DataError, FairleadError, LeakFound, TooManyRejected
from fairlead.features.statistics import StatisticsBuilder
from fairlead.spec.project import Project
from fairlead.spec.watch import Skew
from fairlead.watch.skew import compare

Accused = dict[str, str]


def accuse(case: Case) -> tuple[Accused, bool]:
    """(everything that is told about the case, whether the default refuses to train)."""
    with tempfile.TemporaryDirectory() as folder:
        return _training(case, Path(folder)) if case.setting == "training" else (_windows(case, Path(folder)), False)


def _project(case: Case, source: str, data: dict[str, object]) -> Project:
    return Project.model_validate(_fields(case, source, data))


def _fields(case: Case, source: str, data: dict[str, object]) -> dict[str, Any]:
    features: dict[str, Any] = {"numeric": list(case.numeric), "categorical": list(case.categorical)}
    if case.setting == "windows":
        features["datetime"] = {TIME: {"parts": ["hour", "weekday"]}}
    return {
        "project": "planted",
        "data": {"source": source, "label": {"column": LABEL}, "validate": {"schema": "schema.yaml"}, **data},
        "features": features,
    }


# --- windows ---------------------------------------------------------------------------------------------------------
def _windows(case: Case, base: Path) -> Accused:
    """The schema is inferred from the reference window and edited as a person would: the row's number is unique."""
    said: Accused = {}
    for name, table in (("reference", case.reference), ("current", case.current)):
        (base / name).mkdir()
        pq.write_table(table, base / name / "rows.parquet")
    project = _project(case, "reference", {"time": TIME})
    reference = validate_data(project, base, base / "work")
    schema = load_schema(base / "schema.yaml")
    unique = schema.columns[ROW].model_copy(update={"unique": True})
    write_schema(
        base / "schema.yaml", schema.model_copy(update={"columns": {**schema.columns, ROW: unique}}), "edited", {}
    )
    accepted = Accepted(base, _fields(case, "reference", {"time": TIME}), "current") if available() else None
    signs = accepted.never_negative if accepted is not None else None
    current = _validated(_project(case, "current", {"time": TIME}), base, said, signs)
    if accepted is not None:
        found = {} if current is None else accepted.anomalies(current.schema, current.rows_of_file)
        for part in (found, accepted.drift()):
            for column, what in part.items():
                _say(said, column or BATCH, what)
    _compared(case, reference, current, said)
    return said


def _validated(
    project: Project, base: Path, said: Accused, signs: Callable[[Schema], Mapping[str, int]] | None
) -> ValidationResult | None:
    try:
        result = validate_data(project, base, base / "work", never_negative=signs)
    except TooManyRejected as error:
        for part in str(error.why).split("; "):
            _say(said, part.split(":")[0] if ":" in part else ROWS, part)
        return None
    except DataError as error:
        _say(said, _column_of(error), error.what)
        return None
    for (column, reason), count in result.reasons.items():
        _say(said, column or ROWS, f"{reason} ({count})")
    for text in result.anomalies:
        found = re.match(r"column (\S+)", text)
        _say(said, found[1].rstrip(":") if found else LABEL if "no label" in text else BATCH, text)
    return result


def _compared(case: Case, reference: ValidationResult, current: ValidationResult | None, said: Accused) -> None:
    """Live statistics on the reference's bins, as the check at the start of a shadow takes them."""
    known = reference.statistics
    if known is None or case.current is None:
        return
    known = replace(known, columns={n: column for n, column in known.columns.items() if n not in (ROW, ENTITY)})
    kinds = {name: column.kind for name, column in known.columns.items()}
    table = case.current.select([name for name in kinds if name in case.current.column_names])
    builder = StatisticsBuilder(kinds, reference=known)
    try:
        builder.update(table.combine_chunks())
        findings = compare(builder.finish(), known, Skew(), "reference")
    except (FairleadError, TypeError, ValueError) as error:
        if current is not None:
            raise
        # The batch was refused already; what cannot be read as numbers cannot be compared either.
        _say(said, BATCH, f"not comparable: {error}")
        return
    for finding in findings:
        if finding.skewed:
            _say(said, finding.feature, finding.why)


# --- training --------------------------------------------------------------------------------------------------------
def _training(case: Case, base: Path) -> tuple[Accused, bool]:
    said: Accused = {}
    refused = False
    (base / "rows").mkdir()
    pq.write_table(case.training, base / "rows" / "rows.parquet")
    data = dict(case.data)
    leaks: dict[str, Any] = {"allow": {}, **data.pop("leaks", {})}
    for _ in range(8):  # allow what was refused, to hear the rest
        try:
            result = prepare_data(_project(case, "rows", {**data, "leaks": leaks}), base, base / "out")
        except LeakFound as error:
            refused = True
            named = error.what.split(": ", 1)[1].split(", ")
            leaks = {**leaks, "allow": {**leaks["allow"], **dict.fromkeys(named, "planted")}}
            for name in named:
                _say(said, name, f"refused: {error.why}")
            continue
        except DataError as error:
            _say(said, _column_of(error), error.what)
            break
        for finding in result.leaks:
            if finding.severe or finding.kind not in ("strength", "known with the label"):
                _say(said, finding.feature, f"{finding.kind}: {finding.why}")
        break
    return said, refused


def _say(said: Accused, place: str, what: str) -> None:
    said.setdefault(place, what[:200])


def _column_of(error: FairleadError) -> str:
    found = re.search(r"column (\S+)", error.what) or re.search(r"column (\S+)", str(error.where))
    return found[1].strip(",:") if found else BATCH
