"""Cells and numbers as words, and text made safe to print: shared by all renderers."""

import math
import re
from collections.abc import Sequence
from datetime import date, datetime

from fairlead.records.evidence import Verdict
from fairlead.reports.model import KIND_OF_VERDICT, Badge, Cell, Kind

NOT_AVAILABLE = "n/a"
_LEVELS = "▁▂▃▄▅▆▇█"
WORD_OF_VERDICT = {
    Verdict.PASS: "PASS",
    Verdict.FAIL: "FAIL",
    Verdict.NOT_ENOUGH_EVIDENCE: "NOT ENOUGH EVIDENCE",
    Verdict.ERROR: "ERROR",
}
# Control characters can recolour a terminal and are not allowed in HTML; lone surrogates cannot be written as UTF-8;
# the direction marks can make a line read in another order than it is stored.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]")


def clean(text: object, limit: int | None = None) -> str:
    """`text` as a string that is safe in a terminal and in HTML (still to be escaped), cut to `limit` characters."""
    words = _UNPRINTABLE.sub("\ufffd", str(text))
    if limit is not None and len(words) > limit:
        return words[: max(limit - 1, 0)] + "…"
    return words


def format_number(value: float) -> str:
    """Whole numbers with thousands separators, others with four significant digits."""
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 10**18 else f"{value:.4g}"
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    if value == 0:
        return "0"
    size = abs(value)
    if size < 1e-4 or size >= 1e9:
        return f"{value:.3g}"
    if size >= 1000:
        return f"{value:,.0f}" if size >= 10_000 or value == int(value) else f"{value:,.1f}"
    return f"{value:.4g}".replace("-", "−")


def format_cell(cell: Cell, limit: int | None = None) -> str:
    """What a reader sees of a cell."""
    if cell is None:
        return NOT_AVAILABLE
    if isinstance(cell, Verdict):
        return WORD_OF_VERDICT[cell]
    if isinstance(cell, Badge):
        return clean(cell.text, limit)
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, (int, float)):
        return format_number(cell)
    if isinstance(cell, datetime):
        return cell.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(cell, date):
        return cell.isoformat()
    return clean(cell, limit)


def kind_of(cell: Cell) -> Kind | None:
    """The colour of a cell that is a badge; None for every other."""
    if isinstance(cell, Verdict):
        return KIND_OF_VERDICT[cell]
    return cell.kind if isinstance(cell, Badge) else None


def format_interval(low: float | None, point: float | None, high: float | None) -> str:
    """``0.71 [0.70, 0.72]``, with whatever of it is known."""
    middle = NOT_AVAILABLE if point is None else format_number(point)
    if low is None and high is None:
        return middle
    left = "−∞" if low is None else format_number(low)
    right = "∞" if high is None else format_number(high)
    return f"{middle} [{left}, {right}]"


def format_instant(at: str) -> str:
    """An ISO 8601 instant as a person reads it; anything else as it is."""
    try:
        return datetime.fromisoformat(at).strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return clean(at, 40)


def format_elapsed(seconds: float) -> str:
    """``40 s``, ``2.5 min``, ``3 h``, ``2 d``."""
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.4g} s"


def elapsed_seconds(instants: list[str]) -> list[float] | None:
    """Seconds since the first of `instants` when all are ISO 8601 and in order, else None."""
    try:
        times = [datetime.fromisoformat(at) for at in instants]
        offsets = [(time - times[0]).total_seconds() for time in times]
    except (ValueError, TypeError):  # TypeError: some with a zone, some without
        return None
    return offsets if offsets == sorted(offsets) and offsets and offsets[-1] > 0 else None


def sparkline(values: Sequence[float], width: int = 40, low: float | None = None, high: float | None = None) -> str:
    """Values as a row of blocks; longer sequences are averaged down to `width`."""
    finite = [float(v) for v in values if math.isfinite(v) and abs(v) < 1e300]
    if not finite:
        return ""
    size = min(width, len(finite))
    bins = [finite[i * len(finite) // size : (i + 1) * len(finite) // size] for i in range(size)]
    means = [sum(part) / len(part) for part in bins]
    bottom = min(means) if low is None else low
    top = max(means) if high is None else high
    span = top - bottom
    if span <= 0:
        return _LEVELS[3] * size
    return "".join(_LEVELS[min(max(int((value - bottom) / span * 8), 0), 7)] for value in means)
