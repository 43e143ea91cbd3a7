"""What text looks like that is no value of its type: said in errors, never acted upon.

Whether 1.234 is a thousand and 01/02/2013 a day in February is for people to say; a guess would be silent and wrong for
some.
"""

import re
from collections.abc import Iterable, Sequence

import pyarrow as pa

_LOOK_AT = 1000
_SHARE = 0.5
_FORMS = (
    (r"[+-]?\d{1,3}(?:\.\d{3})+,\d+|[+-]?\d+,\d{1,2}|[+-]?\d+,\d{4,}", "numbers with a decimal comma", "1234.5"),
    (r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?", "numbers with commas between thousands, or decimal commas", "1234.5"),
    (r"[+-]?\d{1,3}(?:[ '\u00a0\u202f]\d{3})+(?:[.,]\d+)?", "numbers with marks between thousands", "1234.5"),
    (r"[+-]?[\d.,]+ ?(?:%|[€$£]|[a-zA-Z°µ/²³]{1,6})|[€$£] ?[\d.,]+", "numbers with a unit", "1234.5"),
    (r"(?:\d{1,2}[/.-]\d{1,2}[/.-]\d{2,4}|\d{4}[/.]\d{1,2}[/.]\d{1,2})(?:[ T].*)?", "dates", "2013-07-01"),
    (r"(?:\w{3,9},? )?(?:\d{1,2}\.? [A-Za-z]{3,9}|[A-Za-z]{3,9} \d{1,2}),? \d{2,4}.*", "dates", "2013-07-01"),
    (r"\d{4}-\d{1,2}-\d{1,2}.*|\d{8}(?:T?\d{4,6}Z?)?|\d{4}-W\d\d.*", "dates", "2013-07-01T12:00:00"),
)
_PATTERNS = tuple((re.compile(pattern), what, form) for pattern, what, form in _FORMS)
_SECONDS = (10**8, 10**11)


def looks_like(text: pa.Array | Sequence[str | None]) -> str:
    """ "it looks like dates, such as 1/2/2013; write 2013-07-01" when at least half of the first values do, else ""."""
    values = [value.strip() for value in _first(text) if value and value.strip()]
    for pattern, what, form in _PATTERNS:
        fitting = [value for value in values if pattern.fullmatch(value)]
        if fitting and len(fitting) >= _SHARE * len(values):
            return f"it looks like {what}, such as {fitting[0][:40]}; write {form}"
    return ""


def _first(text: pa.Array | Sequence[str | None]) -> Sequence[str | None]:
    if isinstance(text, pa.Array):
        values: list[str | None] = text.drop_null().slice(0, _LOOK_AT).to_pylist()
        return values
    return text[:_LOOK_AT]


def looks_like_epoch(low: float, high: float) -> str:
    """The same for numbers that may count seconds, or parts of them, since 1970."""
    for unit, factor in (("seconds", 1), ("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9)):
        if _SECONDS[0] * factor <= low <= high < _SECONDS[1] * factor:
            return f"it looks like {unit} since 1970, such as {low:.0f}; write 2013-07-01T12:00:00"
    return ""


def header_of_data(names: Iterable[str]) -> str:
    """Why a header is none: at least half of its names are numbers or dates; "" when it is one."""
    listed = list(names)
    odd = [name for name in listed if re.fullmatch(r"\s*(?:[+-]?[\d.,]*\d[\d.,]*|\d{4}-\d\d-\d\d.*)\s*", name)]
    if listed and len(odd) >= _SHARE * len(listed):
        return f"the header looks like a row of data ({', '.join(listed[:5])}): the first row must name the columns"
    return ""
