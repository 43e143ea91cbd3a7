"""Reading one CSV file as record batches of strings, and telling what is wrong with a file that is no such thing.

A file that is read as something else than it is does more harm than one that is refused: other delimiters, other
encodings, NUL bytes and quotes that never close end the reading, with the row. A row with too few or too many fields is
a broken row, unless all of them are.
"""

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from fairlead.data.locations import Location, unreadable
from fairlead.data.readers import BrokenRow, RawBatch, Skips, Task
from fairlead.errors import SourceUnreadable

_BLOCK_BYTES = 4 * 2**20
_HEADER_BYTES = 2**20
_FEWEST_BROKEN = 3
_MOST_BROKEN = 10_000
_HOPELESS = 0.99
_BOM = codecs.BOM_UTF8
_LINE_END = re.compile("[\r\n]")
_DELIMITERS = ";\t|,"
_RARE_DELIMITERS = ":^~\x01 "


# --- header ----------------------------------------------------------------------------------------------------------
def csv_header(location: Location, delimiter: str = ",") -> list[str]:
    """The column names; those that are empty become unnamed_1, unnamed_2, ... by their place.

    Raises SourceNotFound, SourceUnreadable for an empty file, other delimiters, other encodings, repeated names."""
    try:
        with location.filesystem.open_input_stream(location.path) as stream:
            head = stream.read(_HEADER_BYTES)
    except (OSError, pa.ArrowException) as error:
        raise unreadable(location, error) from error
    _check_encoding(location, head)
    head = head.removeprefix(_BOM)
    if not head.strip():
        raise SourceUnreadable(f"{location.uri} is empty", where=location.uri, fix="the first row names the columns")
    if head.startswith(_BOM):
        raise _header_problem(location, "begins with two byte order marks", "", "save the file as UTF-8 once more")
    record, after = _first_record(head)
    if b"\0" in record:
        raise _nul(location)
    if not after and len(head) >= _HEADER_BYTES - len(_BOM):
        why = "the first line does not end there"
        raise _header_problem(location, "has a header of more than 1 MiB", why, "give the file a line of names first")
    try:
        text = record.decode()
    except UnicodeDecodeError as error:
        raise _not_utf8(location) from error
    try:
        names = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise _header_problem(
            location, "has a header that cannot be read", str(error), "mend the first line"
        ) from error
    if text.startswith("{") and text.rstrip().endswith("}"):
        raise _header_problem(location, "is JSON Lines, not CSV", f"it begins with {text[:60]}", "name it .jsonl")
    _check_delimiter(location, delimiter, text, after, len(names))
    return _named(location, names)


def likely_delimiter(location: Location) -> str:
    """The delimiter that makes the most names of the header; a comma when none makes a header of it. For a first look:
    reading takes the delimiter that the project file says."""
    found = {}
    for delimiter in "," + _DELIMITERS:
        try:
            found[delimiter] = len(csv_header(location, delimiter))
        except SourceUnreadable:
            continue
    return max(found, key=lambda delimiter: found[delimiter], default=",")


def _first_record(head: bytes) -> tuple[bytes, bytes]:
    """The first record that is not blank, without its line end, and what follows; quoted line ends do not end it."""
    lines = head.lstrip(b"\r\n").splitlines(keepends=True)
    for count in range(1, len(lines) + 1):
        if b"".join(lines[:count]).count(b'"') % 2 == 0:
            return b"".join(lines[:count]).rstrip(b"\r\n"), b"".join(lines[count:])
        if count > 1000:
            break
    return head, b""


def _check_encoding(location: Location, head: bytes) -> None:
    """Refuse UTF-16 and UTF-32, by their mark or by where their NUL bytes are."""
    found = ""
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        found = "UTF-32"
    elif head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        found = "UTF-16"
    elif b"\0" in (start := head[:64]) and start.strip(b"\0"):
        share = start.count(0) / len(start)
        found = "UTF-32" if share > 0.7 else "UTF-16" if 0.4 < share < 0.6 else ""
    if found:
        raise SourceUnreadable(
            f"{location.uri} is {found} text, not UTF-8",
            where=f"{location.uri}, row 0 (the header)",
            why=f"it begins with the bytes {head[:4].hex(' ')}",
            fix=f"iconv -f {found} -t UTF-8 OLD > NEW",
        )


def _check_delimiter(location: Location, delimiter: str, header: str, after: bytes, num_names: int) -> None:
    """Refuse a header that another delimiter splits into more names, if the row after it agrees."""
    row = next((line for line in after[:65_536].splitlines() if line.strip()), b"").decode(errors="replace")
    for other in _DELIMITERS + (_RARE_DELIMITERS if num_names == 1 else ""):
        in_header, in_row = _outside_quotes(header, other), _outside_quotes(row, other)
        if other == delimiter or in_header < num_names:
            continue
        if num_names == 1 or not row or in_row > _outside_quotes(row, delimiter):
            separated = "commas" if delimiter == "," else repr(delimiter)
            shown = "tab" if other == "\t" else other
            raise _header_problem(
                location,
                f"is not separated by {separated}",
                f"it has {num_names} column{'s' if num_names > 1 else ''}, and {other!r} {in_header} times in the"
                f" header: {header[:80]}",
                f'set data.delimiter: "{shown}", or write the file with commas, or as Parquet',
            )


def _outside_quotes(text: str, character: str) -> int:
    return sum(part.count(character) for part in text.split('"')[::2])


def _named(location: Location, names: Sequence[str]) -> list[str]:
    if not any(name.strip() for name in names):
        raise _header_problem(location, "has no column names", "all are empty", "name the columns in the first row")
    twice = sorted(name for name, count in Counter(names).items() if count > 1 and name)
    if twice:
        raise SourceUnreadable(
            f"{location.uri} has columns without a name of their own",
            where=f"{location.uri}, row 0 (the header)",
            why=f"twice: {', '.join(twice[:20])}",
            fix="give every column its own name in the first row",
        )
    taken = set(names)
    done = []
    for number, name in enumerate(names, start=1):
        given = name or f"unnamed_{number}"
        while not name and given in taken:
            given += "_"
        done.append(given)
    return done


def _header_problem(location: Location, what: str, why: str, fix: str) -> SourceUnreadable:
    where = f"{location.uri}, row 0 (the header)"
    return SourceUnreadable(f"{location.uri} {what}", where=where, why=why or None, fix=fix)


# --- rows ------------------------------------------------------------------------------------------------------------
def csv_tasks(location: Location, number: int, columns: Sequence[str] | None, delimiter: str = ",") -> Iterator[Task]:
    """A task per block of the file; all columns are strings, null where a field is empty."""
    names = csv_header(location, delimiter)
    wanted = names if columns is None else [name for name in columns if name in names]
    broken = _Broken(location, len(names))
    start = 0
    try:
        with location.filesystem.open_input_stream(location.path) as stream:
            checked = _CheckedText(stream)
            for batch in _reader(checked, names, wanted, delimiter, broken):
                raw = RawBatch(number, start, batch, broken.take(), *broken.skips.of(start, batch.num_rows))
                start += batch.num_rows
                yield lambda raw=raw: [raw]  # type: ignore[misc]
        # Only at the end is it known whether quotes come in pairs.
        lone_quote = checked.num_quotes % 2 == 1
        if lone_quote and (broken.ends_the_file(start) or _ends_within_quotes(location, names, delimiter)):
            raise _open_quote(location, start + broken.count)
    except UnicodeDecodeError as error:
        raise _not_utf8(location) from error
    except _NulByte as error:
        raise _nul(location) from error
    except (OSError, pa.ArrowException) as error:
        broken.take()
        raise broken.refusal() if broken.hopeless else _no_csv(location, start + broken.count, error) from error
    late = broken.take()
    if not start and broken.count >= _FEWEST_BROKEN:
        raise broken.refusal()
    if late:
        yield lambda: [RawBatch(number, start, _no_rows(wanted), late)]


def _reader(
    source: "_CheckedText", names: list[str], wanted: list[str], delimiter: str, broken: "_Broken"
) -> pa_csv.CSVStreamingReader:
    return pa_csv.open_csv(
        pa.PythonFile(source, mode="r"),
        # One thread: only then the reader knows the numbers of broken rows.
        read_options=pa_csv.ReadOptions(
            use_threads=False, block_size=_BLOCK_BYTES, column_names=names, skip_rows_after_names=1
        ),
        parse_options=pa_csv.ParseOptions(delimiter=delimiter, invalid_row_handler=broken.add, newlines_in_values=True),
        convert_options=pa_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            include_columns=wanted,
            strings_can_be_null=True,
            null_values=[""],
        ),
    )


class _Broken:
    """The broken rows of a file: where they were, and what they held until they were handed on."""

    def __init__(self, location: Location, num_columns: int) -> None:
        self._location, self._num_columns = location, num_columns
        self._new: list[BrokenRow] = []
        self._first_row, self._first = 0, ""
        self.hopeless = False
        self.skips = Skips()
        self.count = self.last = 0

    def add(self, row: pa_csv.InvalidRow) -> str:
        """Called by the reader, whose row 1 is the header; "error" ends the reading, as nearly all rows are broken."""
        number = (row.number or 1) - 1
        if not self.count:
            self._first_row, self._first = number, f"{row.actual_columns}: {row.text[:80]!r}"
        self.count, self.last = self.count + 1, number
        self.skips.add(number)
        # A line end within: the quote before it was not meant, and has swallowed rows that are whole.
        self._new.append(
            BrokenRow(number, "quote" if _LINE_END.search(row.text.strip()) else "columns", row.text[:200])
        )
        self.hopeless = self.count > _MOST_BROKEN and self.count >= _HOPELESS * number
        return "error" if self.hopeless else "skip"

    def take(self) -> tuple[BrokenRow, ...]:
        """Those that are new. Raises SourceUnreadable for an open quote."""
        new, self._new = tuple(self._new), []
        for item in new:
            if item.reason == "quote":
                raise _open_quote(self._location, item.row)
        return new

    def ends_the_file(self, good: int) -> bool:
        """Is the last row of a file with so many good ones broken?"""
        return self.count > 0 and self.last == good + self.count

    def refusal(self) -> SourceUnreadable:
        """What to say when all or nearly all rows are broken."""
        uri, all_of_them = self._location.uri, self.count == self.last
        rows = "no row of" if all_of_them else "hardly a row of"
        return SourceUnreadable(
            f"{rows} {uri} has as many fields as the header",
            where=f"{uri}, row {self._first_row}, {self.count:,} of the first {self.last:,} rows",
            why=f"the header has {self._num_columns}, row {self._first_row} has {self._first}",
            fix="write header and rows with the same delimiter, and a decimal point for a decimal comma",
        )


class _NulByte(Exception):
    """A NUL byte, which text does not hold."""


class _CheckedText:
    """A stream that refuses bytes which are no UTF-8 before the parser sees them: it cannot hand broken rows of other
    encodings to the handler, and would only print what went wrong. NUL bytes, which it takes, are refused too."""

    def __init__(self, stream: pa.NativeFile) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._begun = self._ended = False
        self.num_quotes = 0

    @property
    def closed(self) -> bool:
        return bool(self._stream.closed)

    def close(self) -> None:
        """The stream belongs to whoever opened it."""

    def read(self, size: int = -1) -> bytes:
        """The next bytes, at most `size` of them (-1: all), without byte order mark and blank lines at the beginning;
        b"" at the end, after a line end. Raises UnicodeDecodeError, _NulByte."""
        data = self._next(size)
        while data and not self._begun:
            # The parser counts the header as one row from the first byte on.
            data = data.removeprefix(_BOM).lstrip(b"\r\n")
            self._begun = bool(data)
            data = data or self._next(size)
        if not data and self._begun and not self._ended:
            self._ended = True
            return b"\n"  # a header that ends with the file is a line as well
        if b"\0" in data:
            raise _NulByte
        self.num_quotes += data.count(b'"')
        return data

    def _next(self, size: int) -> bytes:
        data: bytes = self._stream.read(None if size < 0 else size)
        self._decoder.decode(data, final=not data)
        return data


def _ends_within_quotes(location: Location, names: list[str], delimiter: str) -> bool:
    """Does the last value of the file hold a line end, as it does when its quote is open? (An open quote in another
    column makes a broken row.) Reads the file once more; few have an odd number of quotes."""
    last = None
    with location.filesystem.open_input_stream(location.path) as stream:
        broken = _Broken(location, len(names))
        for batch in _reader(_CheckedText(stream), names, names[-1:], delimiter, broken):
            last = batch if batch.num_rows else last
    return last is not None and bool(pc.match_substring_regex(last.column(0)[-1], "[\r\n]").as_py())


def _no_rows(names: Sequence[str]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], pa.string())] * len(names), names=list(names))


# --- what is wrong ---------------------------------------------------------------------------------------------------
def _open_quote(location: Location, row: int) -> SourceUnreadable:
    return SourceUnreadable(
        f"a quote in {location.uri} does not close",
        where=f"{location.uri}, row {row}",
        why="the rows after it would be read as part of one value",
        fix='close the quote; a quote within a quoted value is written twice, ""',
    )


def _no_csv(location: Location, rows: int, error: Exception) -> Exception:
    text = str(error).split("\n")[0]
    if "straddling" in text:
        return SourceUnreadable(
            f"a row of {location.uri} is longer than {_BLOCK_BYTES >> 20} MiB",
            where=f"{location.uri}, after row {rows}",
            why="a quote that does not close, or a file without line ends",
            fix="look at that place of the file; rows are separated by line ends, fields by commas",
        )
    return unreadable(location, error, after=f"after row {rows}")


def _not_utf8(location: Location) -> SourceUnreadable:
    row, position, byte = _find_bad_byte(location, nul=False)
    return SourceUnreadable(
        f"{location.uri} is not UTF-8 text",
        where=f"{location.uri}, row {row}",
        why=f"byte {byte:#04x} at position {position} of the line",
        fix="save the file as UTF-8 (iconv -f ENCODING -t UTF-8 OLD > NEW)",
    )


def _nul(location: Location) -> SourceUnreadable:
    row, position, _ = _find_bad_byte(location, nul=True)
    return SourceUnreadable(
        f"{location.uri} holds a NUL byte",
        where=f"{location.uri}, row {row}",
        why=f"at position {position} of the line; text has none, a write that was cut off or another encoding has",
        fix="write the file again as UTF-8",
    )


def _find_bad_byte(location: Location, *, nul: bool) -> tuple[int, int, int]:
    """(row by lines, position in the line, byte) of the first byte that is no UTF-8, or is NUL; in bounded memory."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    row = offset = 0
    with location.filesystem.open_input_stream(location.path) as stream:
        reader = io.BufferedReader(stream)
        for piece in iter(partial(reader.readline, 2**16), b""):
            if nul and (at := piece.find(0)) >= 0:
                return row, offset + at, 0
            try:
                decoder.decode(piece)
            except UnicodeDecodeError as error:
                at = offset + error.start - (len(error.object) - len(piece))
                return row, max(at, 0), error.object[error.start]
            row, offset = (row + 1, 0) if piece.endswith(b"\n") else (row, offset + len(piece))
    pending = decoder.getstate()[0]
    return row, max(offset - len(pending), 0), pending[0] if pending else 0
