"""Holding one case against the package, in process, and saying what differs from what must come of it."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from fairlead.data.checks import Checked
from fairlead.data.validation import ValidationResult, good_rows, validate_data
from fairlead.errors import DataError, FairleadError
from fairlead.spec.project import Project
from fairlead.testing.full_disk import unfinished
from hostile.cases import COLUMNS, SCHEMA, Case, Damaged, Outcome, Refused, Used, clean_rows

FEATURES = {"numeric": ["weight", "distance"], "categorical": ["town"], "datetime": ["at"]}


@dataclass(frozen=True)
class Seen:
    """What came of a case: an error, or a result with the good rows' values by column and the quarantined rows."""

    error: FairleadError | None = None
    result: ValidationResult | None = None
    values: dict[str, list[Any]] | None = None
    quarantined: dict[tuple[str, int], set[tuple[str, str]]] | None = None


def project_of(case: Case, schema: str | None = "schema.yaml") -> Project:
    """The project file of a case."""
    data = {
        "source": case.source,
        "label": {"column": "late"},
        "validate": {"schema": schema, "max_rejected": case.max_rejected},
        **case.data,
    }
    return Project.model_validate({"project": "hostile", "data": data, "features": case.features or FEATURES})


def run_case(case: Case, folder: Path) -> Seen:
    """Write the files of `case` into the empty `folder` and validate them."""
    case.write(folder)
    if case.known:
        (folder / "schema.yaml").write_text(SCHEMA)
    return look(case, folder)


def look(case: Case, folder: Path, *, keep: bool = True) -> Seen:
    """Validate what lies in `folder`; without `keep`, no value is kept and compared."""
    good: list[Checked] = []
    meddle = [case.meddle] if case.meddle else []

    def take(checked: Checked) -> None:
        if keep:
            good.append(checked)
        if meddle and case.known:
            meddle.pop()(folder)

    def tell(message: str, share: float | None = None) -> None:
        if meddle and message == "inferring the schema":
            meddle.pop()(folder)

    try:
        result = validate_data(project_of(case), folder, folder / "work", tell, sink=take)
    except FairleadError as error:
        return Seen(error=error)
    if not keep:
        return Seen(None, result, None, _quarantined(result))
    names = [name for name in COLUMNS if name in result.schema.columns]
    values = {name: [v for c in good for v in good_rows(c).column(name).to_pylist()] for name in names}
    return Seen(None, result, values, _quarantined(result))


def _quarantined(result: ValidationResult) -> dict[tuple[str, int], set[tuple[str, str]]]:
    found: dict[tuple[str, int], set[tuple[str, str]]] = {}
    if result.quarantine is not None:
        for line in pq.read_table(result.quarantine).to_pylist():
            found.setdefault((line["file"], line["row"]), set()).add((line["column"], line["reason"]))
    return found


# --- what differs ----------------------------------------------------------------------------------------------------
def differences(case: Case, seen: Seen, folder: Path) -> list[str]:
    """Empty when all is as it must be."""
    found = [f"left half-written: {name}" for name in unfinished(folder)]
    if seen.error is not None and (folder / "work" / "quarantine.parquet").exists() and seen.error.code != "FL-205":
        found.append("a quarantine file of a run that ended early")
    return found + _unlike(case.outcome, seen)


def _unlike(outcome: Outcome, seen: Seen) -> list[str]:
    if isinstance(outcome, Damaged):
        return _unlike_damage(outcome, seen)
    if isinstance(outcome, Refused):
        return _unlike_refusal(outcome, seen)
    if seen.error is not None:
        return [f"refused: {seen.error}"]
    return _unlike_rows(outcome, seen)


def _unlike_refusal(outcome: Refused, seen: Seen) -> list[str]:
    if seen.error is None:
        return ["used, not refused" + ("" if seen.result is None else f": {dict(seen.result.reasons)}")]
    text = str(seen.error)
    found = [f"{word!r} is not in: {text}" for word in outcome.words if word not in text]
    if not seen.error.code.startswith(outcome.code):
        found.append(f"{seen.error.code} instead of {outcome.code}: {text}")
    if not seen.error.where or not seen.error.fix:
        found.append(f"no place or no fix: {text}")
    return found


def holds_other_values(case: Case, seen: Seen) -> bool:
    """Was a change of bytes not noticed, and are values or rows other than those that were written?"""
    return isinstance(case.outcome, Damaged) and seen.error is None and bool(_unlike_rows(Used(), seen))


def _unlike_damage(outcome: Damaged, seen: Seen) -> list[str]:
    if seen.error is not None:
        coded = isinstance(seen.error, DataError) and seen.error.what and seen.error.where
        return [] if coded else [f"no place: {seen.error}"]
    return _unlike_rows(Used(), seen) if outcome.noticed else []


def _unlike_rows(outcome: Used, seen: Seen) -> list[str]:
    assert seen.result is not None
    assert seen.quarantined is not None
    found = []
    listed = {place: {what} if isinstance(what, tuple) else set(what) for place, what in outcome.rejected.items()}
    if seen.quarantined != listed:
        found.append(f"quarantined {dict(list(seen.quarantined.items())[:4])}")
    if seen.result.rows_rejected != len(outcome.rejected):
        found.append(f"{seen.result.rows_rejected} rejected instead of {len(outcome.rejected)}")
    anomalies = "; ".join(seen.result.anomalies)
    found += [f"{word!r} is not in the anomalies: {anomalies}" for word in outcome.says if word not in anomalies]
    if seen.values is None:
        return found
    rows = clean_rows()
    kept = outcome.kept
    if kept is None:
        bad = {row - 1 for _, row in outcome.rejected}
        kept = [number for number in range(len(rows)) if number not in bad]
    for name, values in seen.values.items():
        wanted = list(outcome.values.get(name, [_typed(name, rows[number][name]) for number in kept]))
        if values != wanted:
            odd = next((i for i, pair in enumerate(zip(values, wanted, strict=False)) if pair[0] != pair[1]), -1)
            shown = f"{values[odd]!r} instead of {wanted[odd]!r}" if odd >= 0 else f"{len(values)} of {len(wanted)}"
            found.append(f"{name}: {shown}")
    return found


def _typed(name: str, value: Any) -> Any:
    return datetime.fromisoformat(value) if name == "at" else value
