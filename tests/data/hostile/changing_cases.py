"""Files that come, go and change while they are read; lines without end."""

import os
from collections.abc import Iterator
from pathlib import Path

from hostile.cases import (
    Case,
    Outcome,
    Refused,
    Used,
    Write,
    clean_rows,
    csv_text,
    files,
    json_lines,
    parquet_file,
    table,
    text_file,
)

FAMILY = "files that come and go"
ROWS = clean_rows()
HALF = len(ROWS) // 2


def cases() -> Iterator[Case]:
    """All of this module: each thing that can happen, for each format, before the first row is read and after."""
    for kind in ("csv", "jsonl", "parquet"):
        write, name = two_files(kind), f"b.{kind}"
        happenings: dict[str, tuple[Write, Outcome]] = {
            "one vanishes": (_vanish(name), Refused("FL-201", (name, "gone"))),
            "one is cut": (_cut(name), Refused("FL-202", (name,))),
            "one is emptied": (_empty(name), Refused("FL-202", (name,))),
            "one grows": (_grow(name), Refused("FL-202", (name,))),
            "one is touched": (_touch(name), Refused("FL-202", (name, "changed while it was read"))),
            "one becomes a folder": (_folder(name), Refused("FL-202", (name,))),
            "one appears": (_appear(kind), Used()),
            "one appears that is hidden": (_hidden(kind), Used()),
        }
        for word, (meddle, outcome) in happenings.items():
            for known in (False, True):
                moment = "after the first batch" if known else "before the first row"
                if known and isinstance(outcome, Refused):
                    # It was read already when this happens, only the last look tells; but Parquet is read by threads.
                    late = Refused("FL-202", (name, "changed while it was read"))
                    outcome = Refused("FL-20", (name,)) if kind == "parquet" else late
                yield Case(FAMILY, f"{word}, {kind}, {moment}", f"*.{kind}", write, outcome, known, meddle=meddle)
    for kind in ("csv", "jsonl", "parquet"):
        yield from _odd_places(kind)


def two_files(kind: str) -> Write:
    """The clean rows in a.KIND and b.KIND."""
    if kind == "parquet":
        data = table()
        return files(parquet_file("a.parquet", data[:HALF]), parquet_file("b.parquet", data[HALF:]))
    halves = (("a", ROWS[:HALF]), ("b", ROWS[HALF:]))
    return files(
        *(text_file(f"{n}.{kind}", csv_text(rows) if kind == "csv" else json_lines(rows)) for n, rows in halves)
    )


def _vanish(name: str) -> Write:
    return lambda folder: (folder / name).unlink()


def _cut(name: str) -> Write:
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size // 2)


def _empty(name: str) -> Write:
    return lambda folder: os.truncate(folder / name, 0)


def _grow(name: str) -> Write:
    def meddle(folder: Path) -> None:
        with (folder / name).open("ab") as file:
            file.write((folder / name).read_bytes())

    return meddle


def _touch(name: str) -> Write:
    def meddle(folder: Path) -> None:
        facts = (folder / name).stat()
        os.utime(folder / name, ns=(facts.st_atime_ns, facts.st_mtime_ns + 10**9))

    return meddle


def _folder(name: str) -> Write:
    def meddle(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return meddle


def _appear(kind: str) -> Write:
    return lambda folder: (folder / f"c.{kind}").write_bytes((folder / f"b.{kind}").read_bytes()) and None


def _hidden(kind: str) -> Write:
    return lambda folder: (folder / f".c.{kind}").write_bytes(b"half a fi") and None


def _odd_places(kind: str) -> Iterator[Case]:
    """What a name may stand for but a file."""
    name = f"rows.{kind}"

    def link(folder: Path) -> None:
        two_files(kind)(folder)
        (folder / name).symlink_to(folder / "gone")

    def loop(folder: Path) -> None:
        (folder / name).symlink_to(name)

    def pipe(folder: Path) -> None:
        os.mkfifo(folder / name)

    for word, write in (("a link to nothing", link), ("a link to itself", loop), ("a pipe", pipe)):
        for known in (False, True):
            refused = Refused("FL-201", (name,))
            yield Case(FAMILY, f"{word}, {kind}, {'known' if known else 'first sight'}", name, write, refused, known)
