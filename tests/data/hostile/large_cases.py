"""Files that would not fit: lines without end, headers without end, a category a row, all rows broken."""

import gzip
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from hostile.cases import Case, Outcome, Refused, Used, Write, clean_rows, csv_text, json_lines

FAMILY = "larger than memory should hold"
MIB = 2**20
CSV = csv_text(clean_rows()).encode()
JSON = json_lines(clean_rows())
MILLION = 1_000_000


def cases() -> Iterator[Case]:
    """All of this module, smallest need of memory first."""
    long = b"x" * MIB
    yield _file(
        "a CSV line of 100 MB", "rows.csv", [CSV, *[long] * 100], Refused("FL-202", ("longer than 4 MiB", "after row"))
    )
    quoted = [CSV, b'1,2,"', *[long + b"\n"] * 100]
    yield _file("a quote open for 100 MB", "rows.csv", quoted, Refused("FL-202", ("longer than 4 MiB", "quote")))
    yield _file("a CSV header of 100 MB", "rows.csv", [*[long] * 100, b"\n1\n"], Refused("FL-202", ("row 0",)))
    yield _file("100 MB of commas", "rows.csv", [b"," * MIB] * 100, Refused("FL-202", ("row 0",)))
    yield _file("100 MB of NULs", "rows.csv", [CSV, *[bytes(MIB)] * 100], Refused("FL-202", ("NUL", "row 201")))
    yield _file("100 MB of noise", "rows.csv", _noise(100), Refused("FL-202", ("rows.csv",)))
    yield _file("100 MB of blank lines", "rows.csv", [CSV, *[b"\n" * MIB] * 100], Used())
    yield _file("100 MB of blank lines first", "rows.csv", [*[b"\n" * MIB] * 100, CSV], Refused("FL-202", ("empty",)))
    bomb = gzip.compress(bytes(MIB))
    yield _file(
        "1 GiB of NULs, compressed", "rows.csv.gz", [gzip.compress(CSV), *[bomb] * 1024], Refused("FL-202", ("NUL",))
    )
    short = [CSV, *[b"1,2\n" * (MIB // 4)] * 12]
    yield Case(
        FAMILY,
        "3 million broken rows",
        "rows.csv",
        _chunks("rows.csv", short),
        Refused("FL-202", ("of the first", "hardly a row")),
        max_rejected=0.1,
    )
    words = [b"weight,distance,town,at,late\n", *[b"1;2;3;4;5\n" * (MIB // 10)] * 40]
    yield _file("4 million rows of another delimiter", "rows.csv", words, Refused("FL-202", ("no row", "row 1")))
    yield _file(
        "a JSON line of 100 MB",
        "rows.jsonl",
        [JSON, b'{"town": "', *[long] * 100, b'"}\n'],
        Refused("FL-202", ("row 201",)),
    )
    yield _file(
        "100 MB of brackets", "rows.jsonl", [JSON, *[b"[" * MIB] * 60, b"\n"], Used({("rows.jsonl", 201): ("", "json")})
    )
    wide = [JSON, *[b'{"town": "' + long + b'"}\n'] * 100]
    late = {("rows.jsonl", 201 + i): frozenset((name, "missing") for name in ("weight", "at")) for i in range(100)}
    yield Case(FAMILY, "100 JSON lines of 1 MB", "rows.jsonl", _chunks("rows.jsonl", wide), Used(late), known=True)
    for kind in ("csv", "jsonl", "parquet"):
        name = f"a million categories, {kind}"
        yield Case(FAMILY, name, f"rows.{kind}", _million(kind), Used())


def _file(name: str, file: str, parts: Iterable[bytes], outcome: Outcome) -> Case:
    return Case(FAMILY, name, file, _chunks(file, parts), outcome)


def _chunks(file: str, parts: Iterable[bytes]) -> Write:
    def write(folder: Path) -> None:
        with (folder / file).open("wb") as sink:
            for part in parts:
                sink.write(part)

    return write


def _noise(mib: int) -> Iterable[bytes]:
    rng = np.random.default_rng(6)
    return (rng.bytes(MIB) for _ in range(mib))


def _million(kind: str) -> Callable[[Path], None]:
    """A million rows, each with a town of its own."""

    def write(folder: Path) -> None:
        count = np.arange(MILLION)
        data = pa.table(
            {
                "weight": count % 97 + 0.5,
                "distance": count % 89 + 0.25,
                "town": [f"house {number} of a long street" for number in range(MILLION)],
                "at": pa.array(np.datetime64("2013-01-01", "s") + count.astype("timedelta64[s]")),
                "late": np.where(count % 3 == 0, "yes", "no"),
            }
        )
        if kind == "parquet":
            pq.write_table(data, folder / "rows.parquet", row_group_size=100_000)
        elif kind == "csv":
            pa_csv.write_csv(data, folder / "rows.csv")
        else:
            with (folder / "rows.jsonl").open("wb") as sink:
                for start in range(0, MILLION, 50_000):
                    part = data.slice(start, 50_000)
                    part = part.set_column(3, "at", part["at"].cast(pa.string()))
                    sink.write(json_lines(part.to_pylist()))

    return write
