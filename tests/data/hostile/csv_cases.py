"""CSV that is not what it seems: delimiters, encodings, quotes, names, lines, compression."""

import gzip
from collections.abc import Iterator

from hostile.cases import (
    COLUMNS,
    Case,
    Refused,
    Used,
    both,
    clean_rows,
    csv_text,
    every,
    files,
    text_file,
)

FILE = "rows.csv"
TEXT = csv_text(clean_rows())
LINES = TEXT.splitlines()
N = len(LINES) - 1


def case(family: str, name: str, content: str | bytes, outcome: Refused | Used) -> Case:
    """One file."""
    return Case(family, name, FILE, text_file(FILE, content), outcome)


def with_lines(changes: dict[int, str], end: str = "\n") -> str:
    """The clean file with other lines; line 0 is the header, line n row n."""
    return end.join(changes.get(number, line) for number, line in enumerate(LINES)) + end


def cases() -> Iterator[Case]:
    """All of this module."""
    for make in (
        delimiters,
        encodings,
        byte_order_marks,
        nul_bytes,
        quotes,
        headers,
        ragged,
        endings,
        compressed,
        empty,
    ):
        yield from make()


def delimiters() -> Iterator[Case]:
    """Other delimiters, everywhere, in one file, in the header or the rows alone, within the header's words."""
    family = "wrong delimiter"
    for word, delimiter in (("semicolons", ";"), ("tabs", "\t"), ("bars", "|")):
        said = ("not separated by commas", f"{FILE}, row 0", "delimiter")
        yield from both(case(family, word, csv_text(clean_rows(), delimiter), Refused("FL-202", said)))
        spelled = Case(
            family, f"{word}, declared", FILE, text_file(FILE, csv_text(clean_rows(), delimiter)), Used(),
            data={"delimiter": delimiter},
        )  # fmt: skip
        yield from both(spelled)
        later = files(text_file("a.csv", TEXT), text_file("b.csv", csv_text(clean_rows(), delimiter)))
        yield from both(
            Case(family, f"{word} in the second file", "*.csv", later, Refused("FL-202", ("b.csv, row 0",)))
        )
        names = ["weight (kg, net)", "distance", "town", "at", "late"]
        text = csv_text(clean_rows(), delimiter, names=names).replace('"', "")
        yield from both(case(family, f"{word}, a comma in a name", text, Refused("FL-202", (f"{FILE}, row 0",))))
        odd = [LINES[0], *csv_text(clean_rows(), delimiter).splitlines()[1:]]
        yield from both(
            case(family, f"{word} in the rows only", "\n".join(odd), Refused("FL-202", (f"{FILE}, row 1", "no row")))
        )
        header = [csv_text(clean_rows(), delimiter).splitlines()[0], *LINES[1:]]
        yield from both(
            case(family, f"{word} in the header only", "\n".join(header), Refused("FL-202", (f"{FILE}, row 0",)))
        )
    wrong = Case(family, "declared, but commas", FILE, text_file(FILE, TEXT), Refused("FL-202", ("row 0", "','")),
                 data={"delimiter": ";"})  # fmt: skip
    yield from both(wrong)
    spaces = TEXT.replace(",", " ")
    yield from both(case(family, "spaces", spaces, Refused("FL-202", ("row 0", "' '"))))


def encodings() -> Iterator[Case]:
    """Text in another encoding than UTF-8, whole or in one row."""
    family = "wrong encoding"
    latin = csv_text(every("town", lambda row: "Köln"))
    for encoding in ("latin-1", "cp1252", "mac-roman"):
        yield from both(case(family, encoding, latin.encode(encoding), Refused("FL-202", ("not UTF-8", "row 1"))))
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"):
        said = ("UTF-32" if "32" in encoding else "UTF-16", FILE)
        yield from both(case(family, encoding, TEXT.encode(encoding), Refused("FL-202", said)))
    yield from both(case(family, "cp037 (EBCDIC)", TEXT.encode("cp037", "replace"), Refused("FL-202", (FILE,))))
    for row in (1, 77, N):
        content = b"\n".join(
            line.encode()[:-1] + b"\xfc" if number == row else line.encode() for number, line in enumerate(LINES)
        )
        yield from both(case(family, f"one byte in row {row}", content, Refused("FL-202", (f"row {row}", "0xfc"))))
    header = TEXT.replace("town", "stra\xdfe", 1).encode("latin-1", "replace")
    yield from both(case(family, "in the header", header, Refused("FL-202", ("row 0", "0xdf"))))
    cut = TEXT.encode()[: TEXT.encode().rindex("ö".encode()) + 1]
    yield from both(case(family, "cut within a character", cut, Refused("FL-202", ("not UTF-8",))))


def byte_order_marks() -> Iterator[Case]:
    """A mark of UTF-8 is no part of the first name."""
    family = "byte order mark"
    bom = b"\xef\xbb\xbf"
    yield from both(case(family, "UTF-8", bom + TEXT.encode(), Used()))
    yield from both(case(family, "UTF-8, quoted header", bom + TEXT.replace("weight", '"weight"', 1).encode(), Used()))
    marked = files(
        text_file("a.csv", "\n".join(LINES[:101])),
        text_file("b.csv", bom + "\n".join([LINES[0], *LINES[101:]]).encode()),
    )
    yield from both(Case(family, "in the second file only", "*.csv", marked, Used()))
    packed = text_file("rows.csv.gz", gzip.compress(bom + TEXT.encode()))
    yield from both(Case(family, "compressed", "rows.csv.gz", packed, Used()))
    twice = case(family, "twice", bom + bom + TEXT.encode(), Refused("FL-202", ("row 0", "byte order mark")))
    yield from both(twice)
    only = case(family, "nothing else", bom, Refused("FL-202", ("empty", FILE)))
    yield from both(only)
    all_wrong = frozenset((name, "type") for name in ("weight", "distance", "at"))
    seam = ["\ufeff" + LINES[0] if number == 100 else line for number, line in enumerate(LINES)]
    joined = case(family, "files joined, a header amid the rows", "\n".join(seam), Used({(FILE, 100): all_wrong}))
    yield joined


def nul_bytes() -> Iterator[Case]:
    """A NUL byte is damage in text."""
    family = "embedded NUL"
    said = ("NUL", FILE)
    for row in (1, 100, N):
        for column in (0, 2, 4):
            fields = LINES[row].split(",")
            fields[column] = fields[column][:1] + "\0" + fields[column][1:]
            text = with_lines({row: ",".join(fields)})
            name = f"row {row}, {COLUMNS[column]}"
            yield from both(case(family, name, text, Refused("FL-202", (*said, f"row {row}"))))
    yield from both(case(family, "header", TEXT.replace("town", "to\0wn", 1), Refused("FL-202", (*said, "row 0"))))
    yield from both(case(family, "a tail of NULs", TEXT + "\0" * 4096, Refused("FL-202", (*said, f"row {N + 1}"))))
    yield from both(case(family, "nothing else", "\0" * 4096, Refused("FL-202", said)))


def quotes() -> Iterator[Case]:
    """Quotes that do not close swallow the rows after them."""
    family = "quotes"
    for row in (1, 150, N):
        fields = LINES[row].split(",")
        for column in (0, 2, 4):
            odd = [*fields[:column], '"' + fields[column], *fields[column + 1 :]]
            text = with_lines({row: ",".join(odd)})
            said = ("quote", f"{FILE}, row {row}")
            yield from both(case(family, f"open in row {row}, {COLUMNS[column]}", text, Refused("FL-202", said)))
    rows = every("town", lambda row: 'Bad "Ems"\n(Lahn), east')
    yield from both(
        case(
            family,
            "line ends, commas and quotes in values",
            csv_text(rows),
            Used(values={"town": [row["town"] for row in rows]}),
        )
    )
    quoted = "\n".join(",".join(f'"{field}"' for field in line.split(",")) for line in LINES)
    yield from both(case(family, "around all", quoted, Used()))


def headers() -> Iterator[Case]:
    """Names: twice, none, too many, over two lines, data in their place."""
    twice = ["weight", "distance", "town", "at", "weight"]
    family = "duplicate column names"
    said = ("twice: weight", f"{FILE}, row 0")
    yield from both(case(family, "CSV", csv_text(clean_rows(), names=twice), Refused("FL-202", said)))
    second = files(text_file("a.csv", TEXT), text_file("b.csv", csv_text(clean_rows(), names=twice)))
    yield from both(
        Case(family, "CSV, second file", "*.csv", second, Refused("FL-202", ("twice: weight", "b.csv, row 0")))
    )
    every_name = case(
        family, "CSV, all the same", csv_text(clean_rows(), names=["late"] * 5), Refused("FL-202", ("twice: late",))
    )
    yield from both(every_name)
    cased = [{**row, "Weight": 1, "WEIGHT": 2} for row in clean_rows()]
    yield from both(case(family, "CSV, but for their case", csv_text(cased), Used()))
    family = "header"
    index = [{"": number, **row} for number, row in enumerate(clean_rows())]
    yield from both(case(family, "a name is empty (an index)", csv_text(index), Used(says=("unnamed_1",))), Used())
    tail = "\n".join(line + "," for line in LINES)
    yield from both(case(family, "a comma after each row", tail, Used(says=("unnamed_6",))), Used())
    yield from both(case(family, "all names are empty", ",,,,\n" + "\n".join(LINES[1:]), Refused("FL-202", ("row 0",))))
    yield from both(
        case(family, "none: the first row is data", "\n".join(LINES[1:]), Refused("FL-206", ("looks like a row",))),
        Refused("FL-204", ("looks like a row",)),
    )
    spaced = TEXT.replace(",late", ", late", 1)
    yield case(family, "spaces around names, first sight", spaced, Refused("FL-206", ("' late'",)))
    lines = TEXT.replace(",late", ',"late"', 1)
    yield from both(case(family, "a quoted name", lines, Used()))
    folded = [{**row, "a\nb": 1} for row in clean_rows()]
    yield from both(case(family, "a line end in a name", csv_text(folded), Used()))
    wide = ",".join(f"c{number}" for number in range(300_000))
    yield from both(case(family, "a line of 2 MB", wide + "\n" + wide, Refused("FL-202", ("row 0", "1 MiB"))))
    long = "x" * 200_000 + "," + TEXT
    yield from both(case(family, "a name of 200 kB", long, Refused("FL-202", ("row 0",))))


def ragged() -> Iterator[Case]:
    """Rows with too few or too many fields."""
    family = "ragged rows"
    for rows in ([1], [N], [5, 6, 7], list(range(20, 60))):
        short = with_lines({row: LINES[row].rsplit(",", 1)[0] for row in rows})
        wide = with_lines({row: LINES[row] + ",more" for row in rows})
        marks = {(FILE, row): ("", "columns") for row in rows}
        where = f"rows {rows[0]} to {rows[-1]}"
        yield from both(case(family, f"too short, {where}", short, Used(marks)))
        yield from both(case(family, f"too wide, {where}", wide, Used(marks)))
    cut = TEXT[: TEXT.rindex(",")]
    yield from both(case(family, "the last row is cut", cut, Used({(FILE, N): ("", "columns")})))
    every_row = [LINES[0], *(line + ",more" for line in LINES[1:])]
    yield from both(case(family, "all rows", "\n".join(every_row), Refused("FL-202", ("no row", f"{FILE}, row 1"))))
    decimal = [LINES[0], *(line.replace(".", ",", 1) for line in LINES[1:])]
    yield from both(
        case("decimal comma", "unquoted: too many fields", "\n".join(decimal), Refused("FL-202", ("no row", "row 1")))
    )


def endings() -> Iterator[Case]:
    """Line ends of other systems, blank lines."""
    family = "line ends"
    yield from both(case(family, "CR LF", csv_text(clean_rows(), end="\r\n"), Used()))
    yield from both(case(family, "CR", csv_text(clean_rows(), end="\r"), Used()))
    mixed = "".join(line + ("\r\n" if number % 2 else "\n") for number, line in enumerate(LINES))
    yield from both(case(family, "mixed", mixed, Used()))
    yield from both(case(family, "none after the last row", TEXT.rstrip("\n"), Used()))
    blank = "".join(line + ("\n\n" if number % 10 == 0 else "\n") for number, line in enumerate(LINES))
    yield from both(case(family, "blank lines", blank, Used()))
    yield from both(case(family, "blank lines first", "\n\n" + TEXT, Used()))


def compressed() -> Iterator[Case]:
    """Damaged compression."""
    family = "compressed"
    whole = gzip.compress(TEXT.encode())
    name = "rows.csv.gz"
    for word, content in (
        ("cut", whole[:-400]),
        ("cut at the end", whole[:-3]),
        ("a byte changed", whole[:300] + bytes([whole[300] ^ 64]) + whole[301:]),
        ("checksum changed", whole[:-8] + bytes(4) + whole[-4:]),
        ("not compressed", TEXT.encode()),
        ("nothing", b""),
    ):
        yield from both(Case(family, word, name, text_file(name, content), Refused("FL-202", (name,))))
    yield from both(
        Case(
            family,
            "in two members",
            name,
            text_file(name, gzip.compress(TEXT[:5000].encode()) + gzip.compress(TEXT[5000:].encode())),
            Used(),
        )
    )


def empty() -> Iterator[Case]:
    """Nothing to read."""
    family = "empty files"
    for word, content in (("0 bytes", ""), ("a line end", "\n"), ("spaces", "  \n \n")):
        yield from both(case(family, f"CSV, {word}", content, Refused("FL-202", ("is empty", FILE))))
    yield from both(case(family, "CSV, a header only", LINES[0] + "\n", Refused("FL-203", ("no rows", FILE))))
    one = files(text_file("a.csv", TEXT), text_file("b.csv", LINES[0] + "\n"))
    yield from both(Case(family, "CSV, a header only beside rows", "*.csv", one, Used()))
    beside = files(text_file("a.csv", TEXT), text_file("b.csv", ""))
    yield from both(Case(family, "CSV, 0 bytes beside rows", "*.csv", beside, Refused("FL-202", ("is empty", "b.csv"))))
