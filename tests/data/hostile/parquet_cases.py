"""Parquet that is cut, flipped, misnamed, or of types that are none here."""

import io
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hostile.cases import (
    COUNT,
    SEED,
    Case,
    Damaged,
    Outcome,
    Refused,
    Used,
    both,
    clean_rows,
    files,
    parquet_file,
    replaced,
    table,
    text_file,
)

FILE = "rows.parquet"
ROWS = clean_rows()
FLIPS = 60


def content(data: pa.Table | None = None, **options: Any) -> bytes:
    """A file of four row groups, its bytes."""
    sink = io.BytesIO()
    pq.write_table(data if data is not None else table(), sink, row_group_size=COUNT // 4, **options)
    return sink.getvalue()


def case(family: str, name: str, data: pa.Table, outcome: Outcome, **options: Any) -> Case:
    """One file."""
    return Case(family, name, FILE, parquet_file(FILE, data, **options), outcome)


def cases() -> Iterator[Case]:
    """All of this module."""
    for make in (truncated, flipped, names, types, times, nested, empty):
        yield from make()


def truncated() -> Iterator[Case]:
    """Cut anywhere, from nothing to the last byte."""
    whole = content()
    cuts = {0, 1, 3, 4, 5, 7, 8, 11, 12, *(len(whole) - n for n in (1, 2, 4, 7, 8, 9, 12, 100, 1000))}
    cuts |= set(np.random.default_rng(SEED).integers(0, len(whole), 12).tolist())
    said = Refused("FL-202", ("not a whole Parquet file", FILE))
    for cut in sorted(cuts):
        yield from both(Case("truncated Parquet", f"{cut} bytes", FILE, text_file(FILE, whole[:cut]), said))
    family = "truncated Parquet"
    second = files(parquet_file("a.parquet", table()), text_file("b.parquet", whole[:-50]))
    yield from both(Case(family, "the second file", "*.parquet", second, Refused("FL-202", ("b.parquet",))))
    for name, bytes_ in (
        ("CSV inside", b"weight,distance\n1,2\n"),
        ("zeros", bytes(5000)),
        ("twice", whole + whole),
        ("a hole of zeros", whole[:200] + bytes(len(whole) - 400) + whole[-200:]),
        ("bytes before it", b"x" * 50 + whole),
        ("bytes after it", whole + b"x" * 50),
        ("an encrypted footer", b"PARE" + whole[4:-4] + b"PARE"),
        ("a footer of 2 GB", whole[:-8] + (2**31 - 1).to_bytes(4, "little") + b"PAR1"),
        ("a footer of -1", whole[:-8] + b"\xff\xff\xff\xffPAR1"),
        ("a footer of 0", whole[:-8] + bytes(4) + b"PAR1"),
    ):
        # Offsets count from the beginning: the second of two joined files reads as the first, whole.
        outcome = Used() if name == "twice" else Refused("FL-202", (FILE,))
        yield from both(Case("no Parquet", name, FILE, text_file(FILE, bytes_), outcome))


def flipped() -> Iterator[Case]:
    """One bit changed: noticed by the pages' checksums where the file has them."""
    rng = np.random.default_rng(SEED)
    for word, options in (("with checksums", {"write_page_checksum": True}), ("without", {})):
        whole = content(**options, use_dictionary=["town", "late"], compression="zstd")
        pages = _pages(whole)
        for number in range(FLIPS):
            where = ("pages", "pages", "headers", "footer")[number % 4]
            at = _somewhere(whole, pages, where, rng)
            bit = int(rng.integers(8))
            damaged = bytearray(whole)
            damaged[at] ^= 1 << bit
            outcome = Damaged(noticed=where == "pages" and word == "with checksums")
            name = f"bit {bit} of byte {at}, {where}, {word}"
            write = text_file(FILE, bytes(damaged))
            yield Case("bit-flipped Parquet", name, FILE, write, outcome, known=number % 3 > 0)


def _pages(whole: bytes) -> list[tuple[int, int]]:
    """Where the column chunks lie: (first byte, end)."""
    footer = pq.read_metadata(io.BytesIO(whole))
    chunks = [footer.row_group(g).column(c) for g in range(footer.num_row_groups) for c in range(footer.num_columns)]
    return [
        (start := min(chunk.dictionary_page_offset or chunk.data_page_offset, chunk.data_page_offset),
         start + chunk.total_compressed_size)
        for chunk in chunks
    ]  # fmt: skip


def _somewhere(whole: bytes, pages: list[tuple[int, int]], where: str, rng: np.random.Generator) -> int:
    if where == "footer":
        return int(rng.integers(pages[-1][1], len(whole)))
    start, end = pages[int(rng.integers(len(pages)))]
    # A page's header takes some 20 to 60 bytes; the last third of a chunk is a page's body.
    return (
        int(rng.integers(start, start + 12)) if where == "headers" else int(rng.integers(end - (end - start) // 4, end))
    )


def names() -> Iterator[Case]:
    """Columns that share a name, or have an odd one."""
    family = "duplicate column names"
    data = table()
    twice = data.append_column("weight", data["distance"])
    said = Refused("FL-202", ("twice: weight", FILE))
    yield from both(case(family, "Parquet", twice, said))
    beside = files(parquet_file("a.parquet", data), parquet_file("b.parquet", twice))
    yield from both(Case(family, "Parquet, second file", "*.parquet", beside, Refused("FL-202", ("b.parquet",))))
    yield from both(case(family, "Parquet, but for the case", data.append_column("Weight", data["distance"]), Used()))
    family = "odd column names"
    for name in (
        "",
        " ",
        "a.b",
        "weight.x",
        "a\nb",
        "a\0b",
        "ü" * 200,
        "x" * 10_000,
        "null",
        "#",
        "'\"",
        "{a: 1}",
        "\u202e",
    ):
        shown = repr(name if len(name) < 30 else name[:10] + "...")
        yield from both(case(family, f"Parquet, {shown}", data.append_column(name, data["distance"]), Used()))


def types() -> Iterator[Case]:
    """Other types that hold the same values, and types that cannot."""
    family = "odd Parquet types"
    weights = [row["weight"] for row in ROWS]
    decimals = pa.array([Decimal(f"{value:.2f}") for value in weights], pa.decimal128(9, 2))
    single = pa.array(weights, pa.float32())
    yield from both(case(family, "decimal128", replaced("weight", decimals), Used()))
    wide = pa.array([Decimal(f"{value:.2f}") for value in weights], pa.decimal256(60, 2))
    yield from both(case(family, "decimal256", replaced("weight", wide), Used()))
    yield from both(case(family, "float32", replaced("weight", single), Used(values={"weight": single.to_pylist()})))
    half = pa.array(np.array(weights, np.float16))
    yield from both(case(family, "float16", replaced("weight", half), Used(values={"weight": half.to_pylist()})))
    for kind in (pa.int8(), pa.uint8(), pa.int32(), pa.uint64()):
        whole = pa.array([int(value) for value in weights], kind)
        values = Used(values={"weight": [int(value) for value in weights]})
        yield from both(case(family, str(kind), replaced("weight", whole), values))
    towns = pa.array([row["town"] for row in ROWS])
    for name, array in (
        ("a dictionary", towns.dictionary_encode()),
        ("large strings", towns.cast(pa.large_string())),
        ("string views", towns.cast(pa.string_view())),
    ):
        yield from both(case(family, name, replaced("town", array), Used()))
    huge = pa.array([2**64 - 1 - i for i in range(COUNT)], pa.uint64())
    above = {(FILE, i + 1): ("weight", "above maximum") for i in range(COUNT)}
    too_large = Refused("FL-204", ("weight is not of type int", "rows 1 to 200"))
    yield from both(case(family, "uint64 beyond int64", replaced("weight", huge), too_large), Used(above))
    for name, array in (
        ("binary", towns.cast(pa.binary())),
        ("time of day", pa.array([timedelta(seconds=i).seconds for i in range(COUNT)], pa.time32("s"))),
        ("durations", pa.array([timedelta(seconds=i) for i in range(COUNT)])),
    ):
        first = Refused("FL-204", ("there is no column weight", "not a type that can be used"))
        known = Refused("FL-204", ("weight is not of type float", FILE))
        yield from both(case(family, name, replaced("weight", array), first), known)
    no_text = pa.Array.from_buffers(pa.string(), COUNT, [None, _offsets(), pa.py_buffer(b"\xff\xfe" * COUNT)])
    refused = Refused("FL-202", ("town is not UTF-8", FILE))
    yield from both(case("wrong encoding", "Parquet strings", replaced("town", no_text), refused))
    spelled = [row["town"] + "\0" for row in ROWS]
    kept = Used(values={"town": spelled})
    yield from both(case("embedded NUL", "Parquet strings", replaced("town", pa.array(spelled)), kept))
    nulls = replaced("distance", pa.nulls(COUNT))
    first = Refused("FL-204", ("there is no column distance", "no value at all"))
    yield from both(
        case("all-missing column", "Parquet, no type", nulls, first), Used(values={"distance": [None] * COUNT})
    )
    typed = replaced("distance", pa.nulls(COUNT, pa.float64()))
    yield from both(case("all-missing column", "Parquet, float", typed, Used(values={"distance": [None] * COUNT})))
    nans = replaced("distance", pa.array([float("inf")] * COUNT))
    infinite = Used({(FILE, i + 1): ("distance", "not finite") for i in range(COUNT)})
    yield from both(case("odd numbers", "Parquet, all infinite", nans, infinite))


def _offsets() -> pa.Buffer:
    return pa.py_buffer(np.arange(0, 2 * COUNT + 1, 2, dtype=np.int32).tobytes())


def times() -> Iterator[Case]:
    """Points in time of other units and zones, and beyond the calendar."""
    family = "Parquet times"
    moments = pa.array([datetime.fromisoformat(row["at"]) for row in ROWS])
    for unit in ("s", "ms", "ns"):
        yield from both(case(family, f"unit {unit}", replaced("at", moments.cast(pa.timestamp(unit))), Used()))
    days = moments.cast(pa.date32())
    midnights = [datetime.combine(day, datetime.min.time()) for day in days.to_pylist()]
    yield from both(case(family, "dates", replaced("at", days), Used(values={"at": midnights})))
    text = pa.array([row["at"] for row in ROWS])
    yield from both(case(family, "text", replaced("at", text), Used()))
    for number, name in ((2**62, "the year 148,000"), (-(2**62), "before the calendar")):
        far = pa.array([number] * COUNT, pa.timestamp("us"))
        beyond = Used({(FILE, i + 1): ("at", "beyond the calendar") for i in range(COUNT)})
        yield from both(case(family, name, replaced("at", far), beyond))


def nested() -> Iterator[Case]:
    """Structs, maps and lists beside the features, and as one."""
    family = "nested and list columns"
    arrays: dict[str, pa.Array] = {
        "struct": pa.array([{"a": i, "b": {"c": "x"}} for i in range(COUNT)]),
        "map": pa.array([[("k", i)] for i in range(COUNT)], pa.map_(pa.string(), pa.int64())),
        "list of words": pa.array([["a"] * (i % 3) for i in range(COUNT)]),
        "list of structs": pa.array([[{"a": i}] for i in range(COUNT)]),
        "list of numbers": pa.array([[1.0, 2.0] for _ in range(COUNT)]),
        "ragged list": pa.array([[1.0] * (i % 4) for i in range(COUNT)]),
        "fixed-size list": pa.array([[1.0, 2.0] for _ in range(COUNT)], pa.list_(pa.float64(), 2)),
        "list of lists": pa.array([[[1], [2, 3]] for _ in range(COUNT)]),
        "list with nulls": pa.array([[None, 1.0], None] * (COUNT // 2)),
        "empty struct": pa.array([{"a": None}] * COUNT, pa.struct([("a", pa.null())])),
    }
    for name, array in arrays.items():
        yield from both(case(family, f"{name}, beside", table().append_column("extra", array), Used()))
        as_feature = replaced("weight", array)
        known = Refused("FL-204", ("weight is not of type float", FILE))
        yield from both(case(family, f"{name} as a feature", as_feature, Refused("FL-204", ("weight",))), known)


def empty() -> Iterator[Case]:
    """No rows, no columns, no row groups."""
    family = "empty files"
    none = table()[:0]
    yield from both(case(family, "Parquet, no rows", none, Refused("FL-203", ("no rows", FILE))))
    yield from both(case(family, "Parquet, no columns", pa.table({}), Refused("FL-203", ("no rows", FILE))))
    beside = files(parquet_file("a.parquet", table()), parquet_file("b.parquet", none))
    yield from both(Case(family, "Parquet, no rows beside rows", "*.parquet", beside, Used()))
