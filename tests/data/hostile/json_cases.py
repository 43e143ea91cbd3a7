"""JSON Lines that are none, or say what a table cannot hold."""

import gzip
import json
from collections.abc import Iterator
from typing import Any

from hostile.cases import (
    COLUMNS,
    COUNT,
    Case,
    Outcome,
    Refused,
    Used,
    both,
    changed,
    clean_rows,
    every,
    files,
    json_lines,
    text_file,
)

FILE = "rows.jsonl"
CONTENT = json_lines(clean_rows())
LINES = CONTENT.splitlines()


def case(family: str, name: str, content: str | bytes, outcome: Outcome) -> Case:
    """One file."""
    return Case(family, name, FILE, text_file(FILE, content), outcome)


def cases() -> Iterator[Case]:
    """All of this module."""
    for make in (broken_lines, whole_files, keys, nested, marks):
        yield from make()


def broken_lines() -> Iterator[Case]:
    """A line that is no object costs its row."""
    family = "broken JSON lines"
    line = LINES[0].decode()
    words: dict[str, bytes] = {
        "cut": LINES[50][:40],
        "NaN": line.replace(line[10:15], "NaN").encode(),
        "Infinity": b'{"weight": Infinity}',
        "1e999": b'{"weight": 1e999}',
        "single quotes": line.replace('"', "'").encode(),
        "a comma at the end": line.replace("}", ",}").encode(),
        "two objects": LINES[50] + LINES[51],
        "a list": b"[1, 2, 3]",
        "a number": b"7",
        "null": b"null",
        "a word": b"weight",
        "a lone surrogate": b'{"town": "\\ud800"}',
        "no UTF-8": line.replace("Bonn", "K\xf6ln").encode("latin-1"),
        "a NUL byte": LINES[50][:20] + b"\0" + LINES[50][20:],
        "only NULs": bytes(300),
        "1,500 levels": b'{"weight": ' + b"[" * 1500 + b"]" * 1500 + b"}",
        "a key twice": b'{"weight": 1, ' + LINES[50][1:],
        "a key twice, spaced": b'{"weight" : 1, ' + LINES[50][1:],
    }
    for name, content in words.items():
        reason = "key twice" if "key twice" in name else "json"
        for row in (2, COUNT):
            lines = [*LINES[: row - 1], content, *LINES[row:]]
            used = Used({(FILE, row): ("", reason)})
            yield from both(case(family, f"{name}, row {row}", b"\n".join(lines), used))
        if name == "a key twice":
            continue
        lines = [content, *LINES[1:]]
        said = ("FL-202", ("not JSON Lines", f"{FILE}, row 1"))
        if reason == "json":
            yield from both(case(family, f"{name}, row 1", b"\n".join(lines), Refused(*said)))
    half = [line if number % 2 == 0 else b"{" for number, line in enumerate(LINES)]
    marks = {(FILE, number + 1): ("", "json") for number in range(1, COUNT, 2)}
    yield from both(case(family, "every second", b"\n".join(half), Used(marks)))


def whole_files() -> Iterator[Case]:
    """Files that are JSON of another form, or nothing."""
    family = "no JSON Lines"
    said = ("not JSON Lines", f"{FILE}, row 1")
    rows = clean_rows()
    yield from both(case(family, "one array", json.dumps(rows), Refused("FL-202", said)))
    yield from both(case(family, "printed over lines", json.dumps(rows, indent=1), Refused("FL-202", said)))
    by_column = {name: [row[name] for row in rows] for name in COLUMNS}
    first, known = Refused("FL-206", ("late", "nested values")), Refused("FL-204", ("weight", FILE))
    yield from both(case(family, "an object of columns", json.dumps(by_column), first), known)
    yield from both(case(family, "CSV", "weight,distance\n1,2\n", Refused("FL-202", said)))
    for encoding in ("utf-16", "utf-16-le", "utf-32"):
        content = CONTENT.decode().encode(encoding)
        yield from both(case("wrong encoding", f"JSON, {encoding}", content, Refused("FL-202", said)))
    latin = json.dumps(rows[0], ensure_ascii=False).replace("Bonn", "K\xf6ln").encode("latin-1")
    yield from both(case("wrong encoding", "JSON, latin-1", latin, Refused("FL-202", said)))
    for word, content in (("0 bytes", b""), ("a line end", b"\n"), ("a mark only", b"\xef\xbb\xbf")):
        yield from both(case("empty files", f"JSON Lines, {word}", content, Refused("FL-203", ("no rows", FILE))))
    beside = files(text_file("a.jsonl", CONTENT), text_file("b.jsonl", ""))
    yield from both(Case("empty files", "JSON Lines, 0 bytes beside rows", "*.jsonl", beside, Used()))
    packed = gzip.compress(CONTENT)
    for word, content in (("cut", packed[:-200]), ("a byte changed", packed[:99] + b"\xff" + packed[100:])):
        name = "rows.jsonl.gz"
        refused = Refused("FL-202", (name,))
        yield from both(Case("compressed", f"JSON Lines, {word}", name, text_file(name, content), refused))


def keys() -> Iterator[Case]:
    """Keys that come and go."""
    family = "keys"
    none: Any = None
    absent = [{k: v for k, v in row.items() if k != "distance" or i % 4} for i, row in enumerate(clean_rows())]
    values = [row["distance"] if i % 4 else none for i, row in enumerate(clean_rows())]
    yield from both(case(family, "absent in some rows", json_lines(absent), Used(values={"distance": values})))
    order = [dict(reversed(list(row.items()))) if i % 2 else row for i, row in enumerate(clean_rows())]
    yield from both(case(family, "another order", json_lines(order), Used()))
    more = [{**row, f"key {i}": 1} for i, row in enumerate(clean_rows())]
    yield from both(case(family, "one of its own in each row", json_lines(more), Used()))
    odd = [{**row, **{f"k{i}.{j}": 1 for j in range(30)}} for i, row in enumerate(clean_rows())]
    many = Refused("FL-202", ("5,000 different keys", FILE))
    yield case(family, "6,000 different keys, first sight", json_lines(odd), many)
    empty: list[Any] = [row if i != 7 else {} for i, row in enumerate(clean_rows())]
    gone = frozenset((name, "missing") for name in ("weight", "town", "at"))
    write = text_file(FILE, json_lines(empty))
    yield Case(family, "an empty object, known schema", FILE, write, Used({(FILE, 8): gone}), known=True)
    yield from both(case(family, "blank lines", CONTENT.replace(b"\n", b"\n\n"), Used()))
    yield from both(case(family, "CR LF", CONTENT.replace(b"\n", b"\r\n"), Used()))


def nested() -> Iterator[Case]:
    """Lists and objects in columns that are not read, and in those that are."""
    family = "nested and list columns"
    for name, value in {
        "an object": {"a": 1, "b": {"c": [1, 2]}},
        "a list of words": ["a", "b"],
        "a list of objects": [{"a": 1}],
        "lists of different lengths": None,
        "a list of lists": [[1, 2], [3]],
        "an empty object": {},
        "an empty list": [],
        "100 levels": json.loads("[" * 100 + "]" * 100),
    }.items():
        rows = [{**row, "extra": value if value is not None else [1] * (i % 3)} for i, row in enumerate(clean_rows())]
        yield from both(case(family, f"{name}, beside", json_lines(rows), Used()))
        rows = every("town", lambda row, value=value: value if value is not None else [1] * (len(row["town"]) % 3))
        first = Refused("FL-204", ("town",))
        yield from both(case(family, f"{name} as a feature", json_lines(rows), first))
        rows = changed("town", {5: value if value is not None else [1]})
        if name == "100 levels":
            continue
        odd = [
            json.dumps(value if value is not None else [1], separators=(",", ":")) if i == 5 else row["town"]
            for i, row in enumerate(clean_rows())
        ]
        yield from both(case(family, f"{name} in one row", json_lines(rows), Used(values={"town": odd})))


def marks() -> Iterator[Case]:
    """Byte order marks, NULs that JSON spells out."""
    bom = b"\xef\xbb\xbf"
    yield from both(case("byte order mark", "JSON Lines", bom + CONTENT, Used()))
    spelled = changed("town", {3: "Ulm\0Nord"})
    values = {"town": [row["town"] for row in spelled]}
    yield from both(case("embedded NUL", "JSON, spelled \\u0000", json_lines(spelled), Used(values=values)))
