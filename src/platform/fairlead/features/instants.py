"""Points in time: the clock on the wall as it was written, the instant it stands for, and calendar parts.

Calendar parts describe what people experience (the hour of a departure), so they come from the wall clock as written,
without conversion between zones: "2013-01-01T05:00:00-05:00" has hour 5. A timestamp column with a zone reads as the
clocks of that zone show it. Order in time (splits) needs instants; there, no zone means UTC.

Text is ISO 8601 in the form YYYY-MM-DD[THH:MM[:SS[.f]][Z|+HH:MM]], the same for a column and for a single value.
"""

import re
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

PARTS = ("hour", "minute", "weekday", "day", "month", "dayofyear", "week")
PART_SIZES = {"hour": 24, "minute": 60, "weekday": 7, "day": 31, "month": 12, "dayofyear": 366, "week": 53}
# What the first index after "missing" stands for: hours begin at 0, days of the month at 1.
PART_FIRST = {"hour": 0, "minute": 0, "weekday": 0, "day": 1, "month": 1, "dayofyear": 1, "week": 1}

_YEAR = r"(?:[1-9]\d{3}|0[1-9]\d\d|00[1-9]\d|000[1-9])"
_PATTERN = (
    rf"^(?P<date>{_YEAR}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01]))"
    r"(?:[Tt ](?P<time>(?:[01]\d|2[0-3]):[0-5]\d)(?::(?P<second>[0-5]\d)(?:\.(?P<fraction>\d{1,9}))?)?"
    r"(?P<zone>[Zz]|[+-](?:[01]\d|2[0-3]):?[0-5]\d)?)?$"
)
_REGEX = re.compile(_PATTERN, re.ASCII)


def wall_clock(value: object) -> datetime | None:
    """The wall clock of one value without its zone; None when missing. Raises TypeError or ValueError."""
    if isinstance(value, str):
        return _parse(value)[0]
    if value is None:
        return None
    if isinstance(value, datetime):
        return value.replace(tzinfo=None)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    if isinstance(value, float) and value != value:
        return None
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else value.astype("datetime64[us]").astype(datetime)
    raise TypeError(f"{type(value).__name__} is not a point in time")


def instant(value: object) -> datetime | None:
    """The instant of one value, aware, UTC; None when missing. Without a zone it is UTC."""
    if isinstance(value, str):
        clock, offset = _parse(value)
        return (clock - offset).replace(tzinfo=UTC)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    clock_or_none = wall_clock(value)
    return None if clock_or_none is None else clock_or_none.replace(tzinfo=UTC)


def _parse(text: str) -> tuple[datetime, timedelta]:
    found = _REGEX.match(text)
    if found is None or text.endswith("\n"):
        raise ValueError(f"{text[:40]!r} is not a date or time in ISO 8601 such as 2013-07-01T12:00:00")
    day, time, second, fraction, zone = found.groups()
    clock = datetime.fromisoformat(f"{day}T{time}" if time else day)
    if second:
        microseconds = int(fraction[:6].ljust(6, "0")) if fraction else 0
        clock = clock.replace(second=int(second), microsecond=microseconds)
    return clock, _offset(zone)


def _offset(zone: str | None) -> timedelta:
    if not zone or zone in "Zz":
        return timedelta(0)
    minutes = int(zone[1:3]) * 60 + int(zone[-2:])
    return timedelta(minutes=-minutes if zone[0] == "-" else minutes)


def wall_clock_array(array: pa.Array) -> np.ndarray:
    """The same for a column: datetime64[us] [N], NaT where missing. Raises TypeError or ValueError."""
    clock, _ = _column(array)
    return clock


def instant_array(array: pa.Array) -> np.ndarray:
    """The instants of a column: datetime64[us] [N] in UTC, NaT where missing."""
    kind = array.type
    if pa.types.is_timestamp(kind):
        return _microseconds(array.cast(pa.timestamp(kind.unit)))
    clock, offset = _column(array)
    return np.asarray(clock - offset)


def readable_instants(array: pa.Array) -> np.ndarray:
    """Which strings of a column can be read as points in time: bool [N]; False where missing."""
    fields = pc.extract_regex(array, _PATTERN)
    good = np.asarray(fields.is_valid().to_numpy(zero_copy_only=False))
    days = fields.field("date").filter(fields.is_valid())
    try:
        days.cast(pa.timestamp("s"))
    except pa.ArrowInvalid:  # a day that its month does not have
        good = good.copy()
        good[good] = [_is_day(day) for day in days.to_pylist()]
    return good


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _column(array: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Wall clock datetime64[us] [N] and offset timedelta64[us] [N] (or a single 0)."""
    kind = array.type
    zero = np.zeros(1, "timedelta64[us]")
    if pa.types.is_dictionary(kind):
        array = array.dictionary_decode()
        kind = array.type
    if pa.types.is_timestamp(kind):
        return _microseconds(array if kind.tz is None else pc.local_timestamp(array)), zero
    if pa.types.is_date(kind):
        return _microseconds(array.cast(pa.timestamp("ms"))), zero
    if pa.types.is_null(kind):
        return np.full(len(array), "NaT", "datetime64[us]"), zero
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view():
        return _text_column(array.cast(pa.string()))
    raise TypeError(f"{kind} is not a point in time")


def _microseconds(array: pa.Array) -> np.ndarray:
    values = np.asarray(array.to_numpy(zero_copy_only=False))
    return values.astype("datetime64[us]")


def _text_column(array: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    missing = np.asarray(array.is_null().to_numpy(zero_copy_only=False))
    fields = pc.extract_regex(array, _PATTERN)
    bad = np.asarray(fields.is_null().to_numpy(zero_copy_only=False)) & ~missing
    if bad.any():
        _parse(array[int(bad.argmax())].as_py())
    time = fields.field("time")
    time = pc.if_else(pc.equal(time, ""), "00:00", time)
    second = fields.field("second")
    second = pc.if_else(pc.equal(second, ""), "00", second)
    fraction = pc.utf8_slice_codeunits(pc.utf8_rpad(fields.field("fraction"), 6, "0"), 0, 6)
    text = pc.binary_join_element_wise(fields.field("date"), "T", time, ":", second, ".", fraction, "")
    text = pc.if_else(pa.array(missing), None, text)
    try:
        clock = _microseconds(text.cast(pa.timestamp("us")))
    except pa.ArrowInvalid as error:  # a day that its month does not have
        for value in array.to_pylist():
            if value is not None:
                _parse(value)
        raise ValueError(str(error)) from error
    zones = pc.dictionary_encode(fields.field("zone").fill_null(""))
    offsets = np.array([_offset(zone) for zone in zones.dictionary.to_pylist()], "timedelta64[us]")
    if not len(offsets):
        return clock, np.zeros(len(clock), "timedelta64[us]")
    return clock, offsets[zones.indices.to_numpy()]


def part_of(clock: datetime, part: str) -> int:
    """One of `PARTS` of a wall clock: hour 0-23, minute, weekday 0-6 (Monday 0), day, month, dayofyear, ISO week."""
    if part == "weekday":
        return clock.weekday()
    if part == "dayofyear":
        return clock.timetuple().tm_yday
    if part == "week":
        return clock.isocalendar()[1]
    return int(getattr(clock, part))


def part_array(clock: np.ndarray, part: str) -> np.ndarray:
    """The same for datetime64[us] [N]: int64 [N]. Rows that are NaT give an arbitrary number."""
    days = clock.astype("datetime64[D]")
    day_number = days.astype(np.int64)
    if part in ("hour", "minute"):
        minutes = clock.astype("datetime64[m]").astype(np.int64)
        return np.asarray(minutes // 60 % 24 if part == "hour" else minutes % 60)
    if part == "weekday":
        return np.asarray((day_number + 3) % 7)
    months = days.astype("datetime64[M]")
    if part == "day":
        return np.asarray((days - months.astype("datetime64[D]")).astype(np.int64) + 1)
    if part == "month":
        return np.asarray(months.astype(np.int64) % 12 + 1)
    if part == "week":
        # The ISO week of a day is the week of its Thursday, counted in the Thursday's year.
        days = days + ((3 - (day_number + 3) % 7).astype("timedelta64[D]"))
    years = days.astype("datetime64[Y]").astype("datetime64[D]")
    ordinal = (days - years).astype(np.int64)
    return np.asarray(ordinal // 7 + 1 if part == "week" else ordinal + 1)
