"""What a case is: files to write, how the project names them, and what must come of it."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

SEED = 6
COUNT = 200
COLUMNS = ("weight", "distance", "town", "at", "late")
Row = dict[str, Any]
Write = Callable[[Path], None]

SCHEMA = """version: 1
columns:
  weight: {type: float, required: true, min: -10000, max: 10000}
  distance: {type: float}
  town: {type: string, required: true}
  at: {type: timestamp, required: true}
  late: {type: string}
"""


@dataclass(frozen=True)
class Refused:
    """The command ends with this code (or one that begins so) and names the place; each of `words` stands somewhere in
    the message."""

    code: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Used:
    """The rows are used, but for those in `rejected`: (file, row) -> (column, reason), or several. Good rows hold the
    values of the clean rows numbered `kept` (from 0; None: all but the rejected ones), but for the columns in `values`.
    The anomalies name each of `says`."""

    rejected: Mapping[tuple[str, int], tuple[str, str] | frozenset[tuple[str, str]]] = field(default_factory=dict)
    kept: Sequence[int] | None = None
    values: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    says: tuple[str, ...] = ()


@dataclass(frozen=True)
class Damaged:
    """Bytes were changed at random: a coded error; where `noticed`, never another value than was written."""

    noticed: bool


Outcome = Refused | Used | Damaged


@dataclass(frozen=True)
class Case:
    """`write` puts the files of `source` into a folder. `known`: a schema is there already, otherwise it is inferred.
    `meddle` is called with the folder once the files were found and are about to be read."""

    family: str
    name: str
    source: str
    write: Write
    outcome: Outcome
    known: bool = False
    data: Mapping[str, Any] = field(default_factory=dict)
    features: Mapping[str, Any] | None = None
    meddle: Write | None = None
    max_rejected: float = 1.0


def both(case: Case, known: Outcome | None = None) -> list[Case]:
    """A case at first sight, and once the schema is there (with the outcome `known` where it differs)."""
    return [
        replace(case, name=f"{case.name}, first sight"),
        replace(case, name=f"{case.name}, known schema", known=True, outcome=known or case.outcome),
    ]


# --- rows ------------------------------------------------------------------------------------------------------------
def clean_rows(count: int = COUNT) -> list[Row]:
    """The same good rows every time."""
    rng = np.random.default_rng(SEED)
    towns = ["Ulm", "Köln", "Łódź", "Bonn", "Gent"]
    return [
        {
            "weight": round(float(rng.normal(70, 9)), 2),
            "distance": round(float(rng.gamma(2, 10)), 1),
            "town": towns[int(rng.integers(len(towns)))],
            "at": f"2013-01-{i % 28 + 1:02d}T{i % 24:02d}:30:00",
            "late": "yes" if rng.random() < 0.4 else "no",
        }
        for i in range(count)
    ]


def changed(column: str, values: Mapping[int, Any], rows: Sequence[Row] | None = None) -> list[Row]:
    """The clean rows with other values in `column` of some rows, numbered from 0."""
    done = [dict(row) for row in rows or clean_rows()]
    for number, value in values.items():
        done[number][column] = value
    return done


def every(column: str, value: Callable[[Row], Any]) -> list[Row]:
    """The clean rows with another value in `column` everywhere."""
    return [{**row, column: value(row)} for row in clean_rows()]


def rejected(numbers: Iterable[int], column: str, reason: str, file: str) -> dict[tuple[str, int], tuple[str, str]]:
    """Rows numbered from 0 as the quarantine file has them, from 1."""
    return {(file, number + 1): (column, reason) for number in numbers}


# --- files -----------------------------------------------------------------------------------------------------------
def csv_text(rows: Sequence[Row], delimiter: str = ",", end: str = "\n", names: Sequence[str] | None = None) -> str:
    """Rows with a header of `names` (those of the rows when None)."""
    sink = io.StringIO()
    writer = csv.writer(sink, delimiter=delimiter, lineterminator=end)
    writer.writerow(names or list(rows[0]))
    writer.writerows(["" if value is None else value for value in row.values()] for row in rows)
    return sink.getvalue()


def json_lines(rows: Sequence[Any]) -> bytes:
    """One object a line."""
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)


def table(rows: Sequence[Row] | None = None) -> pa.Table:
    """Rows with types, `at` as points in time."""
    columns = {name: [row[name] for row in rows or clean_rows()] for name in COLUMNS}
    columns["at"] = [datetime.fromisoformat(text) for text in columns["at"]]
    return pa.table(columns)


def replaced(column: str, values: Any, start: pa.Table | None = None) -> pa.Table:
    """The clean rows as a table with another column at the same place."""
    found = start if start is not None else table()
    return found.set_column(found.schema.get_field_index(column), column, values)


def text_file(name: str, content: str | bytes) -> Write:
    """Writes one file."""

    def write(folder: Path) -> None:
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return write


def parquet_file(name: str, content: pa.Table, **options: Any) -> Write:
    """Writes one Parquet file."""

    def write(folder: Path) -> None:
        pq.write_table(content, folder / name, **options)

    return write


def files(*writers: Write) -> Write:
    """Writes several."""

    def write(folder: Path) -> None:
        for writer in writers:
            writer(folder)

    return write
