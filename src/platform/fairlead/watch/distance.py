"""Distances between live statistics and training statistics of a feature, each with what sampling alone explains.

Two samples of n and m rows of the same distribution have, each with probability at least 1 - delta,

- cumulative frequencies within sqrt(ln(4/delta)/2n) + sqrt(ln(4/delta)/2m) of each other, everywhere: the inequality of
  Dvoretzky, Kiefer and Wolfowitz (1956) with the constant of Massart (1990), "The tight constant in the
  Dvoretzky-Kiefer-Wolfowitz inequality", for each sample at delta/2;
- frequencies of k values within sqrt(ln(4k/delta)/2n) + sqrt(ln(4k/delta)/2m): Hoeffding (1963), "Probability
  inequalities for sums of bounded random variables", for each value and sample at delta/2k.

Both hold for any number of rows and any distribution, but want rows drawn independently. Rows of a few hours are not.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fairlead.records.data import ColumnStatistics, Statistics

# Parts of a timestamp that come round within a day or a week, with their number of values and the seconds that live
# rows must span before all values have had their turn. Months and days of the year differ between training months and
# the live month though nothing is wrong, so they are not compared.
CYCLES: Mapping[str, tuple[int, float]] = {"minute": (60, 3600.0), "hour": (24, 86400.0), "weekday": (7, 7 * 86400.0)}
MISSING = "missing"
MAX_RATIO = 2.0


@dataclass(frozen=True, slots=True)
class Distance:
    """One comparison. `part` is "" for the values themselves, "missing", or a part of a timestamp. `live_rows` and
    `reference_rows` are the rows that it rests on, `values` the number of frequencies compared (0: cumulative, over
    all). `unfit` says why live rows cannot be expected to look like the reference; `what` describes the largest
    difference."""

    feature: str
    part: str
    value: float
    live_rows: int
    reference_rows: int
    values: int
    what: str
    unfit: str = ""

    def sampling_bound(self, delta: float) -> float:
        """What sampling alone explains with probability 1 - delta."""
        return sampling_bound(self.live_rows, delta, self.values) + self.reference_bound(delta)

    def reference_bound(self, delta: float) -> float:
        """The reference's own part of `sampling_bound`."""
        return sampling_bound(self.reference_rows, delta, self.values)


def sampling_bound(rows: int, delta: float, values: int) -> float:
    """How far `rows` rows may stray from their distribution: cumulative frequencies (`values` 0), or the frequencies of
    `values` values, with probability 1 - delta/2. See the head of this module. 1 without rows."""
    if rows <= 0:
        return 1.0
    return min(1.0, math.sqrt(math.log(4 * max(1, values) / delta) / (2 * rows)))


def distances(live: Statistics, reference: Statistics) -> tuple[Distance, ...]:
    """All comparisons of the reference's features. `live` must have been counted with `reference` as its reference,
    so that edges and values agree; a column that live rows lack counts as missing in all of them."""
    found: list[Distance] = []
    for name, column in reference.columns.items():
        found.extend(_column(name, live.columns.get(name) or _absent(column, live.rows), column))
    return tuple(found)


def cumulative_distance(first: Mapping[str, int], second: Mapping[str, int], size: int, shift: int = 0) -> float:
    """The largest difference of cumulative frequencies of two counts of a cyclic part (keys "0" to "size-1") in the
    order of the values, with `first` moved on by `shift`."""
    totals = sum(first.values()) or 1, sum(second.values()) or 1
    gap = largest = 0.0
    for value in range(size):
        gap += first.get(str((value - shift) % size), 0) / totals[0] - second.get(str(value), 0) / totals[1]
        largest = max(largest, abs(gap))
    return largest


def leaning(live: Mapping[str, int], first: Mapping[str, int], second: Mapping[str, int], size: int) -> float:
    """How much better the first of two distributions explains live counts of a cyclic part than the second: the mean
    log-likelihood ratio per row, each value's ratio clipped to +-`MAX_RATIO`. Unlike a distance it is not misled by the
    rows of half a day: a value that one distribution hardly has speaks, whichever values are still to come."""
    totals = sum(first.values()) + size / 2, sum(second.values()) + size / 2
    score = 0.0
    for value in map(str, range(size)):
        ratio = (first.get(value, 0) + 0.5) / totals[0] * totals[1] / (second.get(value, 0) + 0.5)
        score += live.get(value, 0) * max(-MAX_RATIO, min(MAX_RATIO, math.log(ratio)))
    return score / max(1, sum(live.values()))


def leaning_bound(rows: int, delta: float) -> float:
    """What `leaning` exceeds with a probability of at most delta when its mean is not above 0 (Hoeffding 1963)."""
    return 2 * MAX_RATIO * math.sqrt(math.log(1 / delta) / (2 * max(1, rows)))


def _absent(column: ColumnStatistics, rows: int) -> ColumnStatistics:
    return ColumnStatistics(column.name, column.kind, 0, rows, 0)


def _column(name: str, live: ColumnStatistics, reference: ColumnStatistics) -> Iterator[Distance]:
    yield _missing(name, live, reference)
    if live.count == 0 or reference.count == 0:
        return
    if reference.edges:
        yield _numbers(name, live, reference)
    elif reference.top:
        yield _categories(name, live, reference)
    for part in reference.parts:
        if part in CYCLES and part in live.parts:
            yield _cycle(name, part, live, reference)


def _missing(name: str, live: ColumnStatistics, reference: ColumnStatistics) -> Distance:
    of_live, of_reference = live.count + live.missing, reference.count + reference.missing
    share, usual = live.missing / max(1, of_live), reference.missing / max(1, of_reference)
    what = f"{share:.1%} of the live rows have no value, {usual:.1%} in training"
    return Distance(name, MISSING, abs(share - usual), of_live, of_reference, 1, what)


def _numbers(name: str, live: ColumnStatistics, reference: ColumnStatistics) -> Distance:
    """Kolmogorov's distance at the edges of the histogram: at most the distance over all values, so bounds hold."""
    if live.edges != reference.edges:
        unfit = "the live histogram was counted on other edges"
        return Distance(name, "", 0.0, live.count, reference.count, 0, unfit, unfit)
    of_live, of_reference = sum(live.counts) or 1, sum(reference.counts) or 1
    gap = largest = 0.0
    at = reference.edges[0]
    for edge, a, b in zip(reference.edges[1:], live.counts, reference.counts, strict=True):
        gap += a / of_live - b / of_reference
        if abs(gap) > abs(largest):
            largest, at = gap, edge
    more = "more" if largest > 0 else "less"
    what = f"{abs(largest):.1%} {more} of the live values than of the training values lie below {at:g}"
    return Distance(name, "", abs(largest), live.count, reference.count, 0, what)


def _categories(name: str, live: ColumnStatistics, reference: ColumnStatistics) -> Distance:
    """The largest difference of relative frequencies (L-infinity) over the training values and the rest together."""
    values = dict.fromkeys((*reference.top, *live.top))
    largest, which = abs(live.other / live.count - reference.other / reference.count), "other values"
    live_share, usual = live.other / live.count, reference.other / reference.count
    for value in values:
        of_live, of_reference = live.top.get(value, 0) / live.count, reference.top.get(value, 0) / reference.count
        if abs(of_live - of_reference) > largest:
            largest, which, live_share, usual = abs(of_live - of_reference), repr(value), of_live, of_reference
    what = f"{which}: {live_share:.1%} of the live rows, {usual:.1%} in training"
    return Distance(name, "", largest, live.count, reference.count, len(values) + 1, what)


def _cycle(name: str, part: str, live: ColumnStatistics, reference: ColumnStatistics) -> Distance:
    size, seconds = CYCLES[part]
    value = cumulative_distance(live.parts[part], reference.parts[part], size)
    unfit = ""
    if live.minimum is not None and live.maximum is not None and live.maximum - live.minimum < seconds * (1 - 1 / size):
        unfit = f"live rows span {_span(live.maximum - live.minimum)}, so not every {part} has had its turn"
    what = f"the {part}s of live rows are spread differently than in training"
    return Distance(name, part, value, live.count, reference.count, 0, what, unfit)


def _span(seconds: float) -> str:
    if seconds < 3600:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.0f} hours" if seconds < 2 * 86400 else f"{seconds / 86400:.1f} days"
