"""Files of one source that do not agree in their columns."""

import gzip
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from hostile.cases import (
    COUNT,
    Case,
    Outcome,
    Refused,
    Used,
    Write,
    both,
    clean_rows,
    csv_text,
    files,
    json_lines,
    parquet_file,
    replaced,
    table,
    text_file,
)

FAMILY = "schema changes between files"
ROWS = clean_rows()
HALF = COUNT // 2


def cases() -> Iterator[Case]:
    """All of this module."""
    for make in (parquet, zones, delimited, lines, formats):
        yield from make()


def pair(name: str, source: str, good: Write, other: Write, first: Outcome, known: Outcome) -> Iterator[Case]:
    """The odd file second, then first (its rows then come first as well)."""
    yield from both(Case(FAMILY, name, source, files(good, other), first), known)


def parquet() -> Iterator[Case]:
    """Types, names, order and presence of columns in the second or the first file."""
    data = table()
    second = data[HALF:]
    weights = second["weight"].combine_chunks()
    integers = weights.cast(pa.int64(), safe=False)
    differ = Refused("FL-204", ("weight", "b.parquet"))
    absent = Refused("FL-204", ("there is no column weight", "b.parquet has no such column"))
    mixed = [row["weight"] for row in ROWS[:HALF]] + [float(v) for v in integers.to_pylist()]
    whole = Used(values={"weight": mixed})
    refused_rows = Used(_rejected("weight"), range(HALF))
    words = weights.cast(pa.string())
    truths = Used(values={"weight": [row["weight"] for row in ROWS[:HALF]] + [1.0] * HALF})
    odd: dict[str, tuple[pa.Table, Outcome, Outcome]] = {
        "int for float": (replaced("weight", integers, second), whole, whole),
        "text for float": (replaced("weight", words, second), differ, Used()),
        "words for float": (replaced("weight", pa.array(["heavy"] * HALF), second), differ, refused_rows),
        "boolean for float": (replaced("weight", pa.array([True] * HALF), second), differ, truths),
        "list for float": (replaced("weight", pa.array([[1.0]] * HALF), second), differ, differ),
        "struct for float": (
            replaced("weight", pa.array([{"kg": 1.0}] * HALF), second),
            Refused("FL-204", ("there is no column weight", "b.parquet")),
            differ,
        ),
        "time for float": (replaced("weight", second["at"], second), differ, differ),
        "nulls for float": (
            replaced("weight", pa.nulls(HALF), second),
            Used(values={"weight": [row["weight"] for row in ROWS[:HALF]] + [None] * HALF}),
            Used(_rejected("weight", "missing"), range(HALF)),
        ),
        "a column less": (second.drop_columns(["weight"]), absent, differ),
        "a column more": (second.append_column("extra", weights), Used(), Used()),
        "renamed": (
            second.rename_columns(["Weight", *second.schema.names[1:]]), absent, differ,
        ),
        "another order": (second.select(list(reversed(second.schema.names))), Used(), Used()),
        "dictionary for strings": (
            replaced("town", second["town"].combine_chunks().dictionary_encode(), second), Used(), Used(),
        ),
        "large strings": (replaced("town", second["town"].cast(pa.large_string()), second), Used(), Used()),
        "another unit of time": (replaced("at", second["at"].cast(pa.timestamp("ms")), second), Used(), Used()),
        "all columns other": (pa.table({"a": [1], "b": [2]}), Refused("FL-204", ("no column", "b.parquet")), differ),
    }  # fmt: skip
    for name, (other, first, known) in odd.items():
        good = parquet_file("a.parquet", data[:HALF])
        yield from pair(name, "*.parquet", good, parquet_file("b.parquet", other), first, known)


def _rejected(column: str, reason: str = "type") -> dict[tuple[str, int], tuple[str, str]]:
    return {("b.parquet", number + 1): (column, reason) for number in range(HALF)}


def zones() -> Iterator[Case]:
    """A zone in one file, another or none in the next."""
    data = table()
    naive = data["at"].combine_chunks()
    kinds: dict[str, Any] = {"none": None, "UTC": "UTC", "Europe/Berlin": "Europe/Berlin", "+02:00": "+02:00"}
    for name, zone in kinds.items():
        for other, other_zone in kinds.items():
            first = replaced("at", naive[:HALF].cast(pa.timestamp("us", zone)), data[:HALF])
            second = replaced("at", naive[HALF:].cast(pa.timestamp("us", other_zone)), data[HALF:])
            write = files(parquet_file("a.parquet", first), parquet_file("b.parquet", second))
            outcome: Outcome = Refused("FL-204", ("column at", "different time zones", "b.parquet"))
            if zone == other_zone:
                if zone is not None:
                    continue
                outcome = Used()
            yield from both(Case("time zones mixed", f"Parquet, {name} and {other}", "*.parquet", write, outcome))


def delimited() -> Iterator[Case]:
    """The same for CSV."""
    good = text_file("a.csv", csv_text(ROWS[:HALF]))
    rows = ROWS[HALF:]
    less = [{k: v for k, v in row.items() if k != "weight"} for row in rows]
    differ = Refused("FL-204", ("weight", "b.csv"))
    reordered = [dict(reversed(list(row.items()))) for row in rows]
    more = [{"extra": 1, **row} for row in rows]
    renamed = [{("Weight" if k == "weight" else k): v for k, v in row.items()} for row in rows]
    words = [{**row, "weight": "heavy"} for row in rows]
    bad = Used({("b.csv", number + 1): ("weight", "type") for number in range(HALF)}, range(HALF))
    for name, other, first, known in (
        ("a column less", less, differ, differ),
        ("a column more", more, Used(), Used()),
        ("another order", reordered, Used(), Used()),
        ("renamed", renamed, differ, differ),
        ("words for numbers", words, Refused("FL-204", ("weight is of type string",)), bad),
    ):
        yield from pair(f"CSV, {name}", "*.csv", good, text_file("b.csv", csv_text(other)), first, known)
    packed = text_file("b.csv.gz", gzip.compress(csv_text(rows).encode()))
    yield from pair("CSV, one compressed", "*.csv*", good, packed, Used(), Used())


def lines() -> Iterator[Case]:
    """The same for JSON Lines."""
    good = text_file("a.jsonl", json_lines(ROWS[:HALF]))
    rows = ROWS[HALF:]
    less = [{k: v for k, v in row.items() if k != "distance"} for row in rows]
    values = Used(values={"distance": [row["distance"] for row in ROWS[:HALF]] + [None] * HALF})
    words = [{**row, "weight": "heavy"} for row in rows]
    bad = Used({("b.jsonl", number + 1): ("weight", "type") for number in range(HALF)}, range(HALF))
    texts = [{**row, "weight": str(row["weight"])} for row in rows]
    lists = [{**row, "weight": [row["weight"]]} for row in rows]
    for name, other, first, known in (
        ("a key less", less, values, values),
        ("words for numbers", words, Refused("FL-204", ("weight is of type string",)), bad),
        ("numbers as text", texts, Used(), Used()),
        ("lists for numbers", lists, Refused("FL-204", ("weight",)), Refused("FL-204", ("weight", "b.jsonl"))),
    ):
        yield from pair(f"JSON, {name}", "*.jsonl", good, text_file("b.jsonl", json_lines(other)), first, known)


def formats() -> Iterator[Case]:
    """Files of several formats, or of none."""
    csv, lines_ = text_file("a.csv", csv_text(ROWS)), text_file("b.jsonl", json_lines(ROWS))
    said = Refused("FL-202", ("cannot tell the format", "b."))
    yield from both(Case(FAMILY, "CSV and JSON Lines", "[ab].*", files(csv, lines_), said))
    yield from both(Case(FAMILY, "CSV and Parquet", "[ab].*", files(csv, parquet_file("b.parquet", table())), said))
    swapped = text_file("rows.csv", json_lines(ROWS))
    said = Refused("FL-202", ("rows.csv", "is JSON Lines"))
    yield from both(Case(FAMILY, "JSON Lines named CSV", "rows.csv", swapped, said))
    none = text_file("rows.dat", csv_text(ROWS))
    yield from both(Case(FAMILY, "a name that says nothing", "rows.dat", none, Refused("FL-202", ("rows.dat",))))
