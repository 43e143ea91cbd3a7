"""Values that are not what their column says, in text files and with types."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hostile.cases import (
    COUNT,
    Case,
    Outcome,
    Refused,
    Row,
    Used,
    changed,
    clean_rows,
    csv_text,
    every,
    json_lines,
    rejected,
    text_file,
)

NUMERIC_FIRST = Refused("FL-204", ("weight is of type string", "numeric"))
FEW, SOME = (3, 140), tuple(range(0, COUNT, 10))


def cases() -> Iterator[Case]:
    """All of this module."""
    for make in (mixed, numbers, decimals, dates, zones, missing, constant, many):
        yield from make()


def texts(
    family: str, name: str, rows: Sequence[Row], first: Outcome | Callable[[str], Outcome],
    known: Outcome | Callable[[str], Outcome], kinds: Sequence[str] = ("csv", "jsonl"),
) -> Iterator[Case]:  # fmt: skip
    """The same rows as CSV and as JSON Lines, at first sight and with a schema; an outcome may depend on the file."""
    for kind in kinds:
        file = f"rows.{kind}"
        write = text_file(file, csv_text(rows) if kind == "csv" else json_lines(rows))
        for word, is_known, outcome in (("first sight", False, first), ("known schema", True, known)):
            found = outcome(file) if callable(outcome) else outcome
            yield Case(family, f"{name}, {kind}, {word}", file, write, found, known=is_known)


def quarantined(numbers: Sequence[int], column: str, reason: str = "type") -> Callable[[str], Outcome]:
    """These rows go to quarantine."""
    return lambda file: Used(rejected(numbers, column, reason, file))


def mixed() -> Iterator[Case]:
    """Words, truths, lists and objects among numbers: few cost their rows, many the column."""
    family = "mixed types"
    for word, value in (("a word", "heavy"), ("a number with a unit", "70 kg"), ("a hexadecimal number", "0x46")):
        rows = changed("weight", dict.fromkeys(FEW, value))
        yield from texts(family, f"{word}, 1 %", rows, quarantined(FEW, "weight"), quarantined(FEW, "weight"))
        rows = changed("weight", dict.fromkeys(SOME, value))
        yield from texts(family, f"{word}, 10 %", rows, NUMERIC_FIRST, quarantined(SOME, "weight"))
        rows = every("weight", lambda row, value=value: value)
        refused = Refused("FL-204", ("weight is not of type float", "rows 1 to 200", value))
        yield from texts(family, f"{word}, 100 %", rows, NUMERIC_FIRST, refused)
    for word, value in (("a list", [1.5]), ("an object", {"kg": 70}), ("a truth", True)):
        rows = changed("weight", dict.fromkeys(FEW, value))
        outcome = quarantined(FEW, "weight")
        yield from texts(family, f"{word}, 1 %", rows, outcome, outcome, ("jsonl",))
        rows = every("weight", lambda row, value=value: value)
        refused = Refused("FL-204", ("weight", "rows.jsonl" if word != "a truth" else "weight"))
        known = Used(values={"weight": [1.0] * COUNT}) if word == "a truth" else refused
        first = known if word == "a truth" else Refused("FL-204", ("weight",))
        yield from texts(family, f"{word}, 100 %", rows, first, known, ("jsonl",))
    numbers = every("town", lambda row: {"Ulm": 1, "Bonn": 2.5}.get(row["town"], row["town"]))
    spelled = [str(row["town"]) for row in numbers]
    same = Used(values={"town": spelled})
    yield from texts(family, "numbers among words", numbers, same, same)


def numbers() -> Iterator[Case]:
    """Numbers at the edge of what a number is."""
    family = "odd numbers"
    good: Mapping[Any, float] = {"+7": 7.0, " 7.5 ": 7.5, "7.": 7.0, ".5": 0.5, "1e2": 100.0, "-0": -0.0, "007": 7.0}
    for value, number in good.items():
        rows = changed("weight", dict.fromkeys(FEW, value))
        values = [number if i in FEW else row["weight"] for i, row in enumerate(clean_rows())]
        yield from texts(family, f"{value!r}", rows, Used(values={"weight": values}), Used(values={"weight": values}))
    for value in ("1_000", "7e", "--7", "1/2", "٧", "７", "1e+", "∞", "0b1", "7f", "1.2.3", "$7", "- 7"):
        rows = changed("weight", dict.fromkeys(FEW, value))
        yield from texts(family, f"{value!r}", rows, quarantined(FEW, "weight"), quarantined(FEW, "weight"), ("csv",))
    for value in ("inf", "-Infinity", "1e999", "-1e400"):
        rows = changed("weight", dict.fromkeys(FEW, value))
        infinite = quarantined(FEW, "weight", "not finite")
        yield from texts(family, f"{value!r}", rows, infinite, infinite, ("csv",))
    for value in (10**18, 10**30, -(10**19)):
        rows = changed("weight", dict.fromkeys(FEW, value))
        below = quarantined(FEW, "weight", "below minimum" if value < 0 else "above maximum")
        values = [float(value) if i in FEW else row["weight"] for i, row in enumerate(clean_rows())]
        yield from texts(family, f"{value:.0e} as digits", rows, Used(values={"weight": values}), below, ("csv",))


def decimals() -> Iterator[Case]:
    """Decimal commas and marks between thousands are named, never guessed."""
    family = "decimal comma"
    forms: dict[str, Callable[[float], str]] = {
        "1,5": lambda x: f"{x:.1f}".replace(".", ","),
        "1.234,56": lambda x: f"{x + 1000:,.2f}".translate(str.maketrans(",.", ".,")),
        "1,234.56": lambda x: f"{x + 1000:,.2f}",
        "1 234,5": lambda x: f"{x + 1000:,.1f}".replace(",", " ").replace(".", ","),
        "1'234.5": lambda x: f"{x + 1000:,.1f}".replace(",", "'"),
    }
    for name, form in forms.items():
        rows = every("weight", lambda row, form=form: form(row["weight"]))
        first = Refused("FL-204", ("weight", "numeric", "it looks like numbers", str(rows[0]["weight"])))
        known = Refused("FL-204", ("weight", "rows 1 to 200", "it looks like numbers"))
        yield from texts(family, f"{name} in all rows", rows, first, known)
        rows = changed("weight", {i: form(clean_rows()[i]["weight"]) for i in FEW})
        yield from texts(family, f"{name} in 1 %", rows, quarantined(FEW, "weight"), quarantined(FEW, "weight"))
        rows = changed("weight", {i: form(clean_rows()[i]["weight"]) for i in SOME})
        yield from texts(family, f"{name} in 10 %", rows, NUMERIC_FIRST, quarantined(SOME, "weight"))


def dates() -> Iterator[Case]:
    """Dates in other forms are named, never guessed."""
    family = "dates in several formats"
    day, month = (lambda at: int(at[8:10])), (lambda at: int(at[5:7]))
    forms: dict[str, Callable[[str], Any]] = {
        "01/02/2013": lambda at: f"{month(at):02d}/{day(at):02d}/2013",
        "1.2.2013": lambda at: f"{day(at)}.{month(at)}.2013",
        "01-02-13": lambda at: f"{month(at):02d}-{day(at):02d}-13",
        "2013/02/01": lambda at: at[:10].replace("-", "/"),
        "Feb 1, 2013": lambda at: f"Jan {day(at)}, 2013",
        "1 February 2013": lambda at: f"{day(at)} January 2013",
        "20130201T103000Z": lambda at: at.translate(str.maketrans("", "", "-:")) + "Z",
        "2013-W05-5": lambda at: f"2013-W0{day(at) % 9 + 1}-5",
    }
    for name, form in forms.items():
        rows = every("at", lambda row, form=form: form(row["at"]))
        first = Refused("FL-204", ("at is of type", "datetime", "it looks like dates"))
        known = Refused("FL-204", ("at is not of type timestamp", "rows 1 to 200", "it looks like dates"))
        yield from texts(family, f"{name} in all rows", rows, first, known)
        rows = changed("at", {i: form(clean_rows()[i]["at"]) for i in FEW})
        yield from texts(family, f"{name} in 1 %", rows, quarantined(FEW, "at"), quarantined(FEW, "at"))
        rows = changed("at", {i: form(clean_rows()[i]["at"]) for i in SOME})
        first = Refused("FL-204", ("at is of type string", "datetime", "of the first 200 values 180"))
        yield from texts(family, f"{name} in 10 %", rows, first, quarantined(SOME, "at"))
    for value in ("2013-02-30", "2013-13-01", "2013-01-01T25:00", "0000-00-00", "2013-01-01T10:30:61", "tomorrow"):
        rows = changed("at", dict.fromkeys(FEW, value))
        yield from texts(family, f"{value}", rows, quarantined(FEW, "at"), quarantined(FEW, "at"))
    for name, factor in (("seconds", 1), ("milliseconds", 1000), ("microseconds", 10**6)):
        rows = every("at", lambda row, factor=factor: (1_356_998_400 + int(row["at"][8:10])) * factor)
        first = Refused("FL-204", ("at is of type", f"{name} since 1970"))
        refused = Refused("FL-204", ("at is not of type timestamp", "rows 1 to 200"))
        yield from texts(family, f"{name} since 1970", rows, first, refused)


def zones() -> Iterator[Case]:
    """Text with and without zones: what is written is kept, the mixture is said."""
    family = "time zones mixed"
    for name, zones_ in (
        ("some Z, some none", ("", "Z")),
        ("Z and +02:00", ("Z", "+02:00")),
        ("none, Z and -05:00", ("", "Z", "-05:00")),
    ):  # fmt: skip
        rows = [{**row, "at": row["at"] + zones_[i % len(zones_)]} for i, row in enumerate(clean_rows())]
        says = ("column at", "no time zone") if "" in zones_ else ()
        yield from texts(family, name, rows, Used(says=says), Used(says=says))
    rows = changed("at", {i: clean_rows()[i]["at"] + " CET" for i in FEW})
    yield from texts(family, "names of zones", rows, quarantined(FEW, "at"), quarantined(FEW, "at"))


def missing() -> Iterator[Case]:
    """Columns without a value, and words for it."""
    family = "all-missing column"
    for name in ("weight", "at"):
        role = "numeric" if name == "weight" else "datetime"
        rows = every(name, lambda row: None)
        first = Refused("FL-204", (f"{name} is of type string", role, "no value at all"))
        yield from texts(family, name, rows, first, quarantined(range(COUNT), name, "missing"))
    rows = every("distance", lambda row: None)
    nothing = Used(values={"distance": [None] * COUNT})
    first = Refused("FL-204", ("distance is of type string", "no value at all"))
    yield from texts(family, "distance", rows, first, nothing)
    rows = every("town", lambda row: None)
    first = Used(values={"town": [None] * COUNT}, says=("town", "no value"))
    yield from texts(family, "town", rows, first, quarantined(range(COUNT), "town", "missing"))
    rows = every("late", lambda row: None)
    unlabelled = Used(values={"late": [None] * COUNT}, says=("200 rows have no label",))
    yield from texts(family, "the label", rows, unlabelled, unlabelled)
    for word in ("NA", "N/A", "null", "NaN", "#N/A", "None"):
        rows = every("distance", lambda row, word=word: word)
        yield from texts(family, f"all {word}", rows, Refused("FL-204", ("distance", "no value")), nothing, ("csv",))


def constant() -> Iterator[Case]:
    """Columns with one value are used (`prepare` warns of them); as a label they are refused later."""
    family = "constant column"
    for name, value in (("weight", 70.0), ("town", "Ulm"), ("late", "no")):
        rows = every(name, lambda row, value=value: value)
        values = {name: [value] * COUNT}
        yield from texts(family, name, rows, Used(values=values), Used(values=values))


def many() -> Iterator[Case]:
    """A category of its own in each row."""
    family = "many categories"
    rows = [{**row, "town": f"house {i}"} for i, row in enumerate(clean_rows())]
    values = {"town": [row["town"] for row in rows]}
    yield from texts(family, "one a row", rows, Used(values=values), Used(values=values))
    rows = [{**row, "town": "x" * 100_000 if i in FEW else row["town"]} for i, row in enumerate(clean_rows())]
    values = {"town": [row["town"] for row in rows]}
    yield from texts(family, "values of 100 kB", rows, Used(values=values), Used(values=values))
